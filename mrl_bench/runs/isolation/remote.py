"""An agent in a process of its own, as the harness sees it."""

from __future__ import annotations

import atexit
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field, fields
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar
from weakref import finalize

import numpy as np
import torch
from torch import Generator, Tensor

from mrl_bench.agent import Training
from mrl_bench.errors import ContractError
from mrl_bench.protocol.restoring import copies
from mrl_bench.runs.isolation.channel import MAX_BYTES, Channel, Ended, Failed, Request
from mrl_bench.runs.isolation.core import Core, claim
from mrl_bench.runs.isolation.sandbox import hide_from_others
from mrl_bench.runs.isolation.training import conduct
from mrl_bench.types import EnvSpec, Memory, Rollout, State, TimeStep

LENT = (
    "MRL_BENCH_ISOLATION"  # environment variable: number of a file descriptor, what `Isolation.lend` returned
)
_MAX_SETTINGS = 2**16  # bytes of an agent's settings as JSON


@dataclass(frozen=True)
class Patience:
    """Seconds that the agent's process may take to answer."""

    make: float = 120.0  # the import of the agent, its construction, and its weights
    act: float = 60.0
    adapt: float = 900.0
    train: float = 3600.0  # between two calls of the harness in `meta_train`


class RemoteAgent:
    """A `MetaAgent` that lives in another process, which sees observations and rewards alone.

    State and memory stay there. Scored episodes are played by a copy of that process, which ends afterwards.

    Raises ContractError where the other process fails, ends, or does not answer in time.
    """

    Config: ClassVar[Any] = None  # is made there

    def __init__(self, session: Session) -> None:
        # Behind a function: a session changes with every message, and the harness holds the attributes of agents to
        # what they are.
        def current() -> Session:
            return session

        self.session = current
        self.sequential = False

    def make(self, facts: Mapping[str, Any]) -> None:
        """Makes the agent there, from the header of `Request.MAKE`."""
        self.sequential = self.session().make(facts)

    def initial_state(self, num_tasks: int) -> State:
        self.session().begin(num_tasks)
        return {}

    def start_episode(self, state: State, num_envs: int) -> Memory:
        return ()

    def act(
        self, state: State, memory: Memory, step: TimeStep, explore: bool, rng: Generator
    ) -> tuple[Tensor, Memory]:
        return self.session().act(step, explore, rng), memory

    def adapt(self, state: State, memory: Memory, rollout: Rollout, rng: Generator) -> State:
        self.session().adapt(rollout, rng)
        return state

    def meta_train(self, training: Training) -> None:
        self.session().train(training)

    def state_dict(self) -> dict[str, Tensor]:
        return self.session().state()

    def load_state_dict(self, tensors: Mapping[str, Tensor]) -> None:
        from safetensors.torch import save

        self.load(save(copies(tensors)))

    def load(self, weights: bytes) -> None:
        """Loads weights, the contents of a safetensors file."""
        self.session().load(weights)


@dataclass(eq=False)
class Session:
    """The conversation with one agent's process."""

    channel: Channel  # to the process that trains and adapts
    patience: Patience
    scoring: list[Channel] = field(default_factory=list)  # to its copy that is scored, if there is one

    def make(self, facts: Mapping[str, Any]) -> bool:
        """Makes the agent; returns whether it is sequential."""
        with _explained():
            self.channel.ask(Request.MAKE, facts)
            return bool(self.channel.answered(self.patience.make))

    def load(self, weights: bytes) -> None:
        with _explained():
            self.channel.ask(Request.LOAD, {}, [np.frombuffer(weights, np.uint8)])
            self.channel.answered(self.patience.make)

    def state(self) -> dict[str, Tensor]:
        from safetensors import SafetensorError
        from safetensors.torch import load

        with _explained():
            self.channel.ask(Request.STATE, {})
            data = self.channel.answered_bytes(MAX_BYTES, self.patience.make)
        try:
            return load(data)
        except (SafetensorError, ValueError, TypeError, KeyError):
            raise ContractError("the agent's process sent weights that are no safetensors file") from None

    def train(self, training: Training) -> None:
        header = {name: getattr(training, name) for name in ("budget", "steps", "left")}

        def act(channel: Channel, *arguments: Any) -> tuple[Tensor, Memory]:
            _, memory, step, explore, rng = arguments
            return self._chosen(channel, step, explore, rng), memory

        with _explained():
            self.channel.ask(Request.TRAIN, header)
            conduct(self.channel, training, act, self.patience.train)

    def begin(self, tasks: int) -> None:
        self._end_scoring()
        with _explained():
            self.channel.ask(Request.BEGIN, {"tasks": tasks})
            self.channel.answered(self.patience.adapt)

    def act(self, step: TimeStep, explore: bool, rng: Generator) -> Tensor:
        with _explained():
            if step.t == 0:
                self._end_scoring()
                if not explore:
                    self.scoring.append(split(self.channel))
            return self._chosen(self.channel if explore else self.scoring[0], step, explore, rng)

    def _chosen(self, channel: Channel, step: TimeStep, explore: bool, rng: Generator) -> Tensor:
        arrays = [*step[:4], *([rng.get_state()] if step.t == 0 else ())]
        channel.ask(Request.ACT, {"t": step.t, "explore": explore}, [array.numpy() for array in arrays])
        return torch.from_numpy(channel.answered_array(tuple(step.action.shape), self.patience.act))

    def adapt(self, rollout: Rollout, rng: Generator) -> None:
        self._end_scoring()
        parts: Sequence[Tensor] = [getattr(rollout, part.name) for part in fields(rollout)]
        with _explained():
            self.channel.ask(Request.ADAPT, {}, [array.numpy() for array in (*parts, rng.get_state())])
            self.channel.answered(self.patience.adapt)

    def close(self) -> None:
        """Ends the agent's process."""
        self._end_scoring()
        self.channel.close()

    def _end_scoring(self) -> None:
        while self.scoring:
            self.scoring.pop().close()


def split(channel: Channel) -> Channel:
    """Copies the process at the other end of a channel; returns a channel to the copy."""
    return Channel(_copied(channel, {}))


def _copied(channel: Channel, header: Mapping[str, Any]) -> socket.socket:
    ours, theirs = socket.socketpair()
    with theirs:
        channel.ask(Request.SPLIT, header, fd=theirs.fileno())
    return ours


class Isolation:
    """Starts processes of agents. They end with it, at the latest.

    Args:
        patience: with the agents.
        lent: what another process's `lend` returned; by default a process is started that forks those of agents, which
            takes seconds.
    """

    def __init__(self, patience: Patience | None = None, lent: socket.socket | None = None) -> None:
        self._patience = patience or Patience()
        self._open = set[Session]()  # of the agents that live
        self._core: Core | None = None  # of this process and these agents
        hide_from_others(True)
        self._folder = TemporaryDirectory()
        self._process: subprocess.Popen[bytes] | None = None  # that forks those of agents, unless it was lent
        self._channel = Channel(lent or self._start())

    def _start(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "mrl_bench.runs.isolation.server", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd=self._folder.name,
                env=_environment(self._folder.name),
                start_new_session=True,
            )
        return ours

    def lend(self) -> socket.socket:
        """A socket with which another process has an isolation of its own, without starting anything.

        Raises:
            ContractError: the process that forks those of agents has ended.
        """
        with _explained():
            return _copied(self._channel, {"forks_agents": True})

    def __enter__(self) -> Isolation:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._channel.close()
        if self._process:
            self._process.kill()
            self._process.wait()
        self._folder.cleanup()
        for session in tuple(self._open):
            self._end(session)
        hide_from_others(False)

    def make(
        self, target: str, spec: EnvSpec, settings: Mapping[str, Any], seed: int, path: Sequence[Path] = ()
    ) -> RemoteAgent:
        """A new agent in a new process, which ends when nothing refers to the agent any more.

        Args:
            target: module:Class.
            spec: of the scenario that it plays.
            settings: hyperparameters.
            seed: its training seed.
            path: folders to import it from, before those of this process.

        Raises:
            ContractError: it cannot be made.
        """
        with _explained():
            session = Session(split(self._channel), self._patience)
        agent = RemoteAgent(session)
        finalize(agent, self._end, session)
        if not self._open:
            self._core = claim()
        self._open.add(session)
        core = self._core.number if self._core else None
        agent.make({**_named(target, settings, path), "spec": asdict(spec), "seed": seed, "core": core})
        return agent

    @contextmanager
    def agent(self, *arguments: Any, **named: Any) -> Iterator[RemoteAgent]:
        """An agent of `make`, whose process ends with the context."""
        agent = self.make(*arguments, **named)
        try:
            yield agent
        finally:
            self._end(agent.session())

    def _end(self, session: Session) -> None:
        session.close()
        self._open.discard(session)
        if not self._open and self._core:
            self._core.release()
            self._core = None

    def settings(self, target: str, settings: Mapping[str, Any]) -> dict[str, Any]:
        """All hyperparameters of an agent: its defaults, overridden by these.

        Raises:
            ContractError: they are not accepted.
        """
        with _explained(), closing(split(self._channel)) as channel:
            channel.ask(Request.DESCRIBE, _named(target, settings, ()))
            data = channel.answered_bytes(_MAX_SETTINGS, self._patience.make)
        try:
            found = json.loads(data)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise ContractError("the agent's process sent settings that are not JSON")
        return found


@cache
def isolation() -> Isolation:
    """That of this process, which ends with it. A worker's was lent by the process that started it."""
    lent = os.environ.pop(LENT, None)
    found = Isolation(lent=None if lent is None else socket.socket(fileno=int(lent)))
    atexit.register(found.close)
    return found


def _named(target: str, settings: Mapping[str, Any], path: Sequence[Path]) -> dict[str, Any]:
    return {"target": target, "settings": settings, "path": [str(folder.resolve()) for folder in path]}


def _environment(home: str) -> dict[str, str]:
    """The environment variables of an agent's process: none of the user's, which may hold secrets."""
    return {
        "HOME": home,
        "PATH": os.defpath,
        "LANG": "C.UTF-8",
        "OMP_NUM_THREADS": "1",
        "PYTHONHASHSEED": "0",
        "PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path)),
    }


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except Ended as error:
        raise ContractError(str(error)) from None
    except Failed as error:
        raise ContractError(f"the agent failed: {error}") from None

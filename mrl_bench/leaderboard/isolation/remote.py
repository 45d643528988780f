"""An agent in a process of its own, as the harness sees it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor

from mrl_bench.agent import Training
from mrl_bench.errors import ContractError
from mrl_bench.leaderboard.isolation.channel import Channel, Ended, Failed, Request
from mrl_bench.leaderboard.isolation.sandbox import hide_from_others
from mrl_bench.types import EnvSpec, Memory, Rollout, State, TimeStep


@dataclass(frozen=True)
class Patience:
    """Seconds that the agent's process may take to answer."""

    make: float = 120.0  # the import of the agent, its construction, and its weights
    act: float = 60.0
    adapt: float = 900.0


class RemoteAgent:
    """A `MetaAgent` that lives in another process, which sees observations and rewards alone.

    State and memory stay there. Scored episodes are played by a fork of that process, which ends afterwards.

    Raises ContractError where the other process fails, ends, or does not answer in time.
    """

    Config: Any = None  # is made there

    def __init__(self, session: Session) -> None:
        # Behind a function: a session changes with every message, and the harness holds the attributes of agents to
        # what they are.
        def current() -> Session:
            return session

        self.session = current
        self.sequential = session.sequential

    def load(self, weights: bytes) -> None:
        """Loads weights, the contents of a safetensors file."""
        self.session().load(weights)

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
        raise NotImplementedError

    def state_dict(self) -> dict[str, Tensor]:
        raise NotImplementedError

    def load_state_dict(self, tensors: Mapping[str, Tensor]) -> None:
        raise NotImplementedError


@dataclass
class Session:
    """The conversation with one agent's process."""

    channel: Channel  # to the process that adapts
    patience: Patience
    sequential: bool = False
    scoring: list[Channel] = field(default_factory=list)  # to its fork that is scored, if there is one

    def make(self, facts: Mapping[str, Any]) -> None:
        with _explained():
            self.channel.ask(Request.MAKE, facts)
            self.sequential = bool(self.channel.answered(self.patience.make))

    def load(self, weights: bytes) -> None:
        with _explained():
            self.channel.ask(Request.LOAD, {}, [np.frombuffer(weights, np.uint8)])
            self.channel.answered(self.patience.make)

    def begin(self, tasks: int) -> None:
        self._end_scoring()
        with _explained():
            self.channel.ask(Request.BEGIN, {"tasks": tasks})
            self.channel.answered(self.patience.adapt)

    def act(self, step: TimeStep, explore: bool, rng: Generator) -> Tensor:
        arrays = [step.obs, step.action, step.reward, step.alive, *([rng.get_state()] if step.t == 0 else ())]
        with _explained():
            if step.t == 0:
                self._end_scoring()
                if not explore:
                    self.scoring.append(split(self.channel))
            channel = self.channel if explore else self.scoring[0]
            channel.ask(Request.ACT, {"t": step.t, "explore": explore}, [x.numpy() for x in arrays])
            action = channel.answered_array(tuple(step.action.shape), self.patience.act)
        return torch.from_numpy(action)

    def adapt(self, rollout: Rollout, rng: Generator) -> None:
        self._end_scoring()
        parts: Sequence[Tensor] = [getattr(rollout, part.name) for part in fields(rollout)]
        with _explained():
            self.channel.ask(Request.ADAPT, {}, [x.numpy() for x in (*parts, rng.get_state())])
            self.channel.answered(self.patience.adapt)

    def _end_scoring(self) -> None:
        while self.scoring:
            self.scoring.pop().close()


def split(channel: Channel) -> Channel:
    """Forks the process at the other end of a channel; returns a channel to the fork."""
    ours, theirs = socket.socketpair()
    with theirs:
        channel.ask(Request.SPLIT, {}, fd=theirs.fileno())
    return Channel(ours)


class Isolation:
    """Starts processes of agents. Use it as a context: they end with it."""

    def __init__(self, patience: Patience | None = None) -> None:
        self._patience = patience or Patience()

    def __enter__(self) -> Isolation:
        hide_from_others(True)
        self._folder = TemporaryDirectory()
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "mrl_bench.leaderboard.isolation.server", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd=self._folder.name,
                env=_environment(self._folder.name),
                start_new_session=True,
            )
        self._channel = Channel(ours)
        return self

    def __exit__(self, *_: object) -> None:
        self._channel.close()
        self._process.kill()
        self._process.wait()
        self._folder.cleanup()
        hide_from_others(False)

    @contextmanager
    def agent(
        self, target: str, spec: EnvSpec, settings: Mapping[str, Any], seed: int, path: Sequence[Path] = ()
    ) -> Iterator[RemoteAgent]:
        """A new agent in a new process.

        Args:
            target: module:Class.
            spec: of the scenario that it plays.
            settings: hyperparameters.
            seed: its training seed.
            path: folders to import it from, before those of this process.

        Raises:
            ContractError: it cannot be made.
        """
        facts = {
            "target": target,
            "spec": asdict(spec),
            "settings": settings,
            "seed": seed,
            "path": [str(folder.resolve()) for folder in path],
        }
        with _explained():
            session = Session(split(self._channel), self._patience)
        try:
            session.make(facts)
            yield RemoteAgent(session)
        finally:
            for channel in (*session.scoring, session.channel):
                channel.close()


def _environment(home: str) -> dict[str, str]:
    """The environment variables of an agent's process: none of the user's, which may hold secrets."""
    return {
        "HOME": home,
        "PATH": os.defpath,
        "LANG": "C.UTF-8",
        "OMP_NUM_THREADS": "1",
        "PYTHONHASHSEED": "0",
        "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path),
    }


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except Ended as error:
        raise ContractError(str(error)) from None
    except Failed as error:
        raise ContractError(f"the agent failed: {error}") from None

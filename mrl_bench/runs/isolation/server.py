"""The agent's process: `python -m mrl_bench.runs.isolation.server FD` answers requests from a socket.

It imports torch once. A split forks it: for every agent, and for every round of scored episodes, which so end with what
they taught.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import socket
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mrl_bench import registry
from mrl_bench.errors import BudgetSpent, UsageError
from mrl_bench.protocol.promises import require_methods, require_state, seed_global_generators
from mrl_bench.protocol.restoring import copies
from mrl_bench.runs.isolation import sandbox
from mrl_bench.runs.isolation.acting import Acting
from mrl_bench.runs.isolation.channel import Channel, Request
from mrl_bench.runs.isolation.core import stay
from mrl_bench.runs.isolation.training import RemoteTraining, rollout_of
from mrl_bench.scenario.settings import make_config
from mrl_bench.types import EnvSpec, Trial

_CPU = torch.device("cpu")


class Server:
    """Holds the agent, its state, and the episodes that are being played.

    Args:
        channel: to the harness.
        target: module:Class of the agent; if empty, the harness names it.
    """

    def __init__(self, channel: Channel, target: str = "") -> None:
        self._channel, self._target = channel, target
        self._agent: Any = None
        self._state: Any = None
        self._acting = Acting()

    def answer(
        self, kind: Request, header: dict[str, Any], arrays: list[NDArray[Any]]
    ) -> NDArray[np.float32] | int | bytes:
        """What is to be answered: numbers, the byte of an OK, or bytes."""
        tensors = [torch.from_numpy(array) for array in arrays]
        match kind:
            case Request.DESCRIBE:
                cls = self._class(header)
                return json.dumps(asdict(make_config(cls, header["settings"]))).encode()
            case Request.MAKE:
                self._make(header)
                return bool(getattr(self._agent, "sequential", False))
            case Request.LOAD:
                from safetensors.torch import load

                self._agent.load_state_dict(load(arrays[0].tobytes()))
            case Request.STATE:
                return self._weights()
            case Request.TRAIN:
                return self._train(header)
            case Request.BEGIN:
                state = self._agent.initial_state(header["tasks"])
                self._state = require_state(state, header["tasks"], "initial_state")
            case Request.ACT:
                return self._act(header, tensors)
            case Request.ADAPT:
                self._adapt(tensors)
            case _:
                raise ValueError(f"{kind.name} was not expected")
        return 0

    def _class(self, header: dict[str, Any]) -> Any:
        if self._target:
            return registry.find("agent", self._target)
        sys.path[:0] = header["path"]
        return registry.find("agent", header["target"])

    def _make(self, header: dict[str, Any]) -> None:
        if header.get("core") is not None:
            stay(header["core"])
        cls = self._class(header)
        seed_global_generators(header["seed"])
        spec = header["spec"]
        trial = spec.pop("trial")
        spec = EnvSpec(
            **{**spec, "obs_scale": tuple(spec["obs_scale"])},
            trial=trial and Trial(**{**trial, "k": tuple(trial["k"])}),
        )
        self._agent = cls(spec, make_config(cls, header["settings"]), header["seed"], _CPU)
        require_methods(self._agent)

    def _train(self, header: dict[str, Any]) -> bool:
        """Meta-trains the agent; returns whether that ended with the budget."""
        try:
            self._agent.meta_train(RemoteTraining(self._channel, header, self._weights))
        except BudgetSpent:
            return True
        return False

    def _weights(self) -> bytes:
        from safetensors.torch import save

        return bytes(save(copies(self._agent.state_dict())))

    def _act(self, header: dict[str, Any], tensors: list[Tensor]) -> NDArray[np.float32]:
        if header["t"] == 0:
            self._acting.start(self._agent.start_episode(self._state, tensors[0].shape[1]), tensors)
        return self._acting.act(self._agent.act, self._state, header, tensors)

    def _adapt(self, tensors: list[Tensor]) -> None:
        *parts, noise = tensors
        rng = torch.Generator()
        rng.set_state(noise)
        state = self._agent.adapt(self._state, self._acting.memory, rollout_of(parts), rng)
        self._state = require_state(state, len(parts[0]), "adapt")


def serve(end: socket.socket, target: str = "", in_sandbox: bool = True) -> NoReturn:
    """Answers the requests of a socket, and in forks those of others.

    Args:
        end: connected to the harness.
        target: module:Class of the agent; if empty, the harness names it.
        in_sandbox: whether this is to be no agent's process, but one that forks them, each in a sandbox.
    """
    channel = Channel(end)
    server, forks_agents = Server(channel, target), in_sandbox
    while True:
        try:
            kind, header, arrays, fd = channel.receive()
        except (EOFError, OSError):
            os._exit(0)
        if kind == Request.SPLIT:
            if os.fork():
                os.close(fd)
                continue
            end.close()
            end = socket.socket(fileno=fd)
            server._channel = channel = Channel(end)
            if forks_agents and not header.get("forks_agents"):
                sandbox.enter(fd)
                forks_agents = False
            continue
        found: NDArray[np.float32] | int | bytes | str
        try:
            found = server.answer(kind, header, arrays)
        except BaseException as error:  # the agent may raise anything
            found = f"{type(error).__name__}: {error}"
        try:
            channel.reply(found)
        except OSError:
            os._exit(0)


def listen(path: Path, target: str) -> NoReturn:
    """Serves an agent on a Unix socket: each connection gets a process with an agent of its own.

    Args:
        path: of the socket, which is made, for this user alone.
        target: module:Class of the agent.
    """
    registry.find("agent", target)  # imported once, for all connections
    prepare()
    with socket.socket(socket.AF_UNIX) as listener:
        mask = os.umask(0o177)
        try:
            listener.bind(str(path))
        except OSError as error:
            raise UsageError(f"{path} cannot be made: {error.strerror}") from None
        finally:
            os.umask(mask)
        listener.listen()
        print(f"serving {target} on {path}", flush=True)
        try:
            while True:
                end, _ = listener.accept()
                if not os.fork():
                    signal.signal(signal.SIGTERM, signal.SIG_DFL)
                    listener.close()
                    serve(end, target, in_sandbox=False)
                end.close()
        finally:
            path.unlink(missing_ok=True)


def prepare() -> None:
    """Readies this process for forks."""
    torch.set_num_threads(1)
    torch.optim.Adam([torch.zeros(1)])  # the first optimiser imports a compiler
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for forks
    gc.freeze()  # so that no fork copies all of it


if __name__ == "__main__":
    prepare()
    serve(socket.socket(fileno=int(sys.argv[1])))

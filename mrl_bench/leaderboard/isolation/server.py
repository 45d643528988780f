"""The agent's process: `python -m mrl_bench.leaderboard.isolation.server FD` answers requests from a socket.

It imports torch once. A split forks it: for every agent, and for every round of scored episodes, which so end with what
they taught.
"""

from __future__ import annotations

import importlib
import os
import signal
import socket
import sys
from dataclasses import fields
from typing import Any, NoReturn

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils._pytree import tree_map

from mrl_bench.leaderboard.isolation import sandbox
from mrl_bench.leaderboard.isolation.channel import Channel, Request
from mrl_bench.protocol.promises import keep_ended, seed_global_generators
from mrl_bench.scenario.settings import make_config
from mrl_bench.types import EnvSpec, Rollout, TimeStep, Trial

_CPU = torch.device("cpu")


class Server:
    """Holds the agent, its state, and the memory of the episodes that are being played."""

    def __init__(self) -> None:
        self._agent: Any = None
        self._state: Any = None
        self._memory: Any = ()
        self._rng = torch.Generator()

    def answer(
        self, kind: Request, header: dict[str, Any], arrays: list[NDArray[Any]]
    ) -> NDArray[np.float32] | int:
        """What is to be answered: numbers, or the byte of an OK."""
        tensors = [torch.from_numpy(array) for array in arrays]
        match kind:
            case Request.MAKE:
                self._make(header)
                return bool(getattr(self._agent, "sequential", False))
            case Request.LOAD:
                from safetensors.torch import load

                self._agent.load_state_dict(load(arrays[0].tobytes()))
            case Request.BEGIN:
                self._state = self._agent.initial_state(header["tasks"])
            case Request.ACT:
                return self._act(header, tensors)
            case Request.ADAPT:
                *parts, rng = tensors
                names = [field.name for field in fields(Rollout)]
                rollout = Rollout(**dict(zip(names, parts, strict=True)))
                generator = torch.Generator()
                generator.set_state(rng)
                self._state = self._agent.adapt(self._state, self._memory, rollout, generator)
        return 0

    def _make(self, header: dict[str, Any]) -> None:
        sys.path[:0] = header["path"]
        module, _, name = header["target"].partition(":")
        cls: Any = importlib.import_module(module)
        for part in name.split("."):
            cls = getattr(cls, part)
        seed_global_generators(header["seed"])
        spec = header["spec"]
        trial = spec.pop("trial")
        spec = EnvSpec(
            **{**spec, "obs_scale": tuple(spec["obs_scale"])},
            trial=trial and Trial(**{**trial, "k": tuple(trial["k"])}),
        )
        self._agent = cls(spec, make_config(cls, header["settings"]), header["seed"], _CPU)

    @torch.no_grad()
    def _act(self, header: dict[str, Any], tensors: list[Tensor]) -> NDArray[np.float32]:
        obs, action, reward, alive, *rng = tensors
        if header["t"] == 0:
            self._memory = self._agent.start_episode(self._state, obs.shape[1])
            self._rng.set_state(rng[0])
        before = tree_map(torch.clone, self._memory)
        step = TimeStep(obs, action, reward, alive, header["t"])
        chosen, after = self._agent.act(self._state, before, step, header["explore"], self._rng)
        self._memory = keep_ended(alive > 0, self._memory, after)
        if chosen.shape != action.shape:
            raise ValueError(
                f"act returned actions of shape {tuple(chosen.shape)}, not {tuple(action.shape)}"
            )
        numbers: NDArray[np.float32] = chosen.detach().to(torch.float32).numpy()
        return numbers


def serve(end: socket.socket) -> NoReturn:
    """Answers the requests of a socket, and in forks those of others."""
    server, channel, is_agent = Server(), Channel(end), False
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
            channel = Channel(end)
            if not is_agent:
                sandbox.enter(fd)
                is_agent = True
            continue
        found: NDArray[np.float32] | int | str
        try:
            found = server.answer(kind, header, arrays)
        except BaseException as error:  # the agent may raise anything
            found = f"{type(error).__name__}: {error}"
        try:
            channel.reply(found)
        except OSError:
            os._exit(0)


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.optim.Adam([torch.zeros(1)])  # the first optimiser imports a compiler
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for forks
    serve(socket.socket(fileno=int(sys.argv[1])))

"""Small agents for tests of the harness: one that learns a little, and many that misbehave.

Workers can import this module because the executor passes them its `sys.path`.
"""

from __future__ import annotations

import ctypes
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Generator, Tensor

from mrl_bench.agent import Training
from mrl_bench.types import EnvSpec, Memory, Rollout, State, TimeStep


@dataclass(frozen=True)
class ToyConfig:
    file: str = ""  # that some agents write to
    pause: float = 0.0  # seconds before each collection
    gain: float = 1.0


def write_reports(text: bytes) -> None:
    """Writes to every open pipe; one of them carries the worker's reports."""
    for fd in range(3, 20):
        try:
            if stat.S_ISFIFO(os.fstat(fd).st_mode):
                os.write(fd, text)
        except OSError:
            continue


class Learner:
    """Its action is the mean action of training, plus the mean action of adaptation, plus noise."""

    Config = ToyConfig

    def __init__(self, spec: EnvSpec, config: ToyConfig, seed: int, device: torch.device) -> None:
        self.spec, self.config, self.seed = spec, config, seed
        self.push = torch.zeros(spec.act_dim, device=device)

    def meta_train(self, training: Training) -> None:
        while True:  # until the budget is spent
            time.sleep(self.config.pause)
            rollout, _ = training.tasks(2, 2).collect(self.act, self.initial_state(2))
            self.push = 0.9 * self.push + self.config.gain * rollout.action.mean((0, 1, 2))
            training.log({"losses/push": self.push.mean()})

    def initial_state(self, num_tasks: int) -> State:
        return {"push": self.push.expand(num_tasks, -1).clone()}

    def start_episode(self, state: State, num_envs: int) -> Memory:
        return ()

    def act(
        self, state: State, memory: Memory, step: TimeStep, explore: bool, rng: Generator
    ) -> tuple[Tensor, Memory]:
        shape = (*step.obs.shape[:2], self.spec.act_dim)
        noise = torch.rand(shape, generator=rng, device=step.obs.device) - 0.5
        return (state["push"][:, None] + noise * (1.0 if explore else 0.1) - step.obs[..., 2:3]), memory

    def adapt(self, state: State, memory: Memory, rollout: Rollout, rng: Generator) -> State:
        return {"push": state["push"] + rollout.action.mean((1, 2))}

    def state_dict(self) -> dict[str, Tensor]:
        return {"push": self.push, "same": self.push}

    def load_state_dict(self, tensors: Mapping[str, Tensor]) -> None:
        self.push = tensors["push"]

    def note(self) -> bool:
        """Appends a line to the file; returns whether it is the first."""
        path = Path(self.config.file)
        first = not path.exists()
        with path.open("a") as file:
            file.write(f"{os.getpid()}\n")
        return first


class GlobalNoise(Learner):
    """Draws from the global generators, as third-party agents may."""

    def act(
        self, state: State, memory: Memory, step: TimeStep, explore: bool, rng: Generator
    ) -> tuple[Tensor, Memory]:
        action, memory = super().act(state, memory, step, explore, rng)
        return action + 0.1 * torch.randn_like(action), memory


class Large(Learner):
    """Its weights are a file of 40 KB."""

    def state_dict(self) -> dict[str, Tensor]:
        return super().state_dict() | {"room": torch.zeros(10_000)}


class Raises(Learner):
    def meta_train(self, training: Training) -> None:
        print("about to fail")
        raise RuntimeError("no good\nat all")


class WrongShape(Learner):
    def act(
        self, state: State, memory: Memory, step: TimeStep, explore: bool, rng: Generator
    ) -> tuple[Tensor, Memory]:
        action, memory = super().act(state, memory, step, explore, rng)
        return action.repeat(1, 1, 2), memory


class NotFinite(Learner):
    def act(
        self, state: State, memory: Memory, step: TimeStep, explore: bool, rng: Generator
    ) -> tuple[Tensor, Memory]:
        action, memory = super().act(state, memory, step, explore, rng)
        return action / 0, memory


class Writes(Learner):
    """Writes into all of its inputs."""

    def act(
        self, state: State, memory: Memory, step: TimeStep, explore: bool, rng: Generator
    ) -> tuple[Tensor, Memory]:
        action, memory = super().act(state, memory, step, explore, rng)
        for tensor in (step.obs, step.action, step.reward, step.alive):
            tensor.fill_(1e6)
        return action, memory


class Exits(Learner):
    """Ends its process, in one way and then in another."""

    def meta_train(self, training: Training) -> None:
        if self.note():
            sys.exit(0)
        os._exit(7)


class Killed(Learner):
    def meta_train(self, training: Training) -> None:
        self.note()
        os.kill(os.getpid(), signal.SIGKILL)


class KilledOnce(Learner):
    """Is killed in the evaluation of the first attempt, which alone scores an agent that has not adapted yet."""

    def initial_state(self, num_tasks: int) -> State:
        return super().initial_state(num_tasks) | {"unadapted": torch.ones(num_tasks)}

    def act(
        self, state: State, memory: Memory, step: TimeStep, explore: bool, rng: Generator
    ) -> tuple[Tensor, Memory]:
        if not explore and step.t == 0 and "unadapted" in state and self.note():
            os.kill(os.getpid(), signal.SIGKILL)
        return super().act(state, memory, step, explore, rng)


class Hangs(Learner):
    """Holds the interpreter lock, so that no other thread of its process runs."""

    def meta_train(self, training: Training) -> None:
        if self.config.file:
            self.note()
        ctypes.PyDLL(None).sleep(600)


class Noisy(Learner):
    """Prints 50 MB, reports nonsense, and leaves behind a child that holds its output, and a thread."""

    def meta_train(self, training: Training) -> None:
        for _ in range(25):
            print("x" * 2**20, flush=True)
            sys.stderr.write("y" * 2**20)
        print("the last words", flush=True)
        write_reports(b'{"stage": 3}\n[]\n{"stop"\n\xff\n')
        child = subprocess.Popen(["sleep", "600"], close_fds=False)
        Path(self.config.file).write_text(str(child.pid))
        threading.Thread(target=time.sleep, args=(600,)).start()
        super().meta_train(training)


class Greedy(Learner):
    """Tries to enlarge its budget and to change its records; writes down what it achieved."""

    def meta_train(self, training: Training) -> None:
        came = []
        for name, value in (("steps", 0), ("left", 10**9), ("budget", 10**9)):
            try:
                setattr(training, name, value)
                came.append(name)
            except AttributeError:
                pass
        tasks = training.tasks(2, 2)
        public = {name for thing in (training, tasks) for name in dir(thing) if not name.startswith("_")}
        known = {"budget", "steps", "left", "tasks", "log", "collect", "collections"}
        came += sorted(public - known - {"played", "next_seeds", "spend", "close"})
        Path(self.config.file).write_text(" ".join(came))
        rollout, _ = tasks.collect(self.act, self.initial_state(2))
        for tensor in (rollout.mask, rollout.reward):
            tensor.fill_(-1e6)
        super().meta_train(training)


class NoConfig:
    pass

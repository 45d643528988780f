"""Agents that try to get out of their process, or to bring the harness down from there."""

from __future__ import annotations

import ctypes
import os
import pickle
import socket
import sys
import time
from pathlib import Path

import numpy as np
import torch
from toy_agents import Learner


class SleepsInAct(Learner):
    def act(self, state, memory, step, explore, rng):
        time.sleep(600)


class SleepsInAdapt(Learner):
    def adapt(self, state, memory, rollout, rng):
        time.sleep(600)


class SleepsAtFirst(Learner):
    def initial_state(self, num_tasks):
        time.sleep(600)


class Leaves(Learner):
    def act(self, state, memory, step, explore, rng):
        os._exit(0)


class Raises(Learner):
    def adapt(self, state, memory, rollout, rng):
        raise SystemExit("a\nlong\nstory " * 1000)


class Crashes(Learner):
    def act(self, state, memory, step, explore, rng):
        ctypes.string_at(0)


class Forks(Learner):
    """Leaves processes behind that sleep."""

    def act(self, state, memory, step, explore, rng):
        if step.t == 0:
            for _ in range(20):
                try:
                    if os.fork() == 0:
                        os.setsid()
                        time.sleep(600)
                except OSError:
                    break
        return super().act(state, memory, step, explore, rng)


class FillsMemory(Learner):
    def act(self, state, memory, step, explore, rng):
        self.kept = [np.zeros(2**28) for _ in range(40)]  # 80 GiB
        return super().act(state, memory, step, explore, rng)


class FillsDisk(Learner):
    def act(self, state, memory, step, explore, rng):
        Path("filled").write_bytes(bytes(2**20))
        return super().act(state, memory, step, explore, rng)


class Prints(Learner):
    def act(self, state, memory, step, explore, rng):
        for _ in range(64):
            print("x" * 2**20)
            os.write(2, b"x" * 2**20)
        return super().act(state, memory, step, explore, rng)


class NotFinite(Learner):
    def act(self, state, memory, step, explore, rng):
        return torch.full_like(step.action, float("nan")), memory


class WrongShape(Learner):
    def act(self, state, memory, step, explore, rng):
        return step.action[..., :0], memory


class Meddles(Learner):
    """Writes into what it is given, and changes what is shared in a process."""

    def act(self, state, memory, step, explore, rng):
        import mrl_bench.types

        action, memory = super().act(state, memory, step, explore, rng)
        for part in step[:4]:
            part.fill_(1e9)
        torch.set_default_dtype(torch.float64)
        torch.set_num_threads(1)
        np.mean = np.sum = lambda *_, **__: 1e9
        mrl_bench.types.Rollout.returns = lambda self: torch.full(self.failed.shape, 1e9)
        return action, memory


class Looks(Learner):
    """Refuses to go on if it finds anything of the harness, whose process id is in its settings."""

    def act(self, state, memory, step, explore, rng):
        frame, names = sys._getframe(), set()
        while frame:
            names |= set(frame.f_locals)
            frame = frame.f_back
        assert not names & {"env", "scenario", "curve", "tasks", "adaptation", "submission"}, names
        assert "OF_THE_USER" not in os.environ
        environ = Path("/proc/self/environ").read_bytes()
        assert b"OF_THE_USER" not in environ
        harness = int(self.config.gain)
        for what in ("environ", "mem", "maps", "fd"):
            try:
                path = Path(f"/proc/{harness}/{what}")
                [os.readlink(each) for each in path.iterdir()] if what == "fd" else path.open("rb").read(1)
            except OSError:
                continue
            raise AssertionError(f"it can read {what} of the harness")
        assert not {name for name in sys.modules if name.startswith(("mrl_tasks", "mujoco"))}
        return super().act(state, memory, step, explore, rng)


class Calls(Learner):
    """Talks to a server on this machine, whose port is in its settings."""

    def act(self, state, memory, step, explore, rng):
        with socket.socket() as end:
            end.settimeout(1.0)
            end.connect(("127.0.0.1", int(self.config.gain)))
        return super().act(state, memory, step, explore, rng)


class SaysItsCores(Learner):
    def state_dict(self):
        return {"cores": torch.tensor(sorted(os.sched_getaffinity(0)))}


class LearnsWhileScored(Learner):
    """Pushes harder with every episode that it has been scored in, of which it keeps the count in itself."""

    scored = 0

    def act(self, state, memory, step, explore, rng):
        action, memory = super().act(state, memory, step, explore, rng)
        if not explore and step.t == 0:
            type(self).scored += 1
        return action * 0 + 0.1 * type(self).scored, memory


class TellsTheOthers(Learner):
    """Acts by the observations of all tasks at the same time, instead of those of one."""

    def act(self, state, memory, step, explore, rng):
        action, memory = super().act(state, memory, step, explore, rng)
        crowd = 1.0 if len(step.obs) > 1 else -1.0
        return action * 0 + crowd, memory


class AsksForTheWorld(Learner):
    def meta_train(self, training):
        training.tasks(10**9, 10**9)


class AsksForNothing(Learner):
    def meta_train(self, training):
        training.tasks(0, 1)


class InventsTasks(Learner):
    def meta_train(self, training):
        tasks = training.tasks(1, 1)
        tasks._number = 7
        tasks.collect(self.act, self.initial_state(1))


class TalksNonsense(Learner):
    def meta_train(self, training):
        training._channel._socket.sendall(bytes(range(200, 256)) * 100)
        super().meta_train(training)


class SendsNoWeights(Learner):
    def meta_train(self, training):
        training._state = lambda: b"nonsense"
        training._channel.reply(0)  # as if training had ended
        training.next_request()


class LeavesInTraining(Learner):
    def meta_train(self, training):
        os._exit(0)


class SetsItsSteps(Learner):
    def meta_train(self, training):
        for _ in range(100):
            training._header |= {"steps": 0, "left": 10**6}
            try:
                super().meta_train(training)
            except Exception:
                continue


class Unpickles(Learner):
    def __init__(self, spec, config, seed, device):
        super().__init__(spec, config, seed, device)
        pickle.loads(pickle.dumps(print))


class SleepsInTraining(Learner):
    def meta_train(self, training):
        time.sleep(600)


class SleepsAtTheStart(Learner):
    def start_episode(self, state, num_envs):
        time.sleep(600)


class SleepsWhenMade(Learner):
    def __init__(self, spec, config, seed, device):
        time.sleep(600)


class SleepsInItsWeights(Learner):
    def state_dict(self):
        time.sleep(600)

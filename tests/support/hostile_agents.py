"""Agents that try to harm the bench, or that are harmed from outside. Each may fail its own run only."""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal

from toy_agents import Learner, write_reports

from mrl_bench.agent import Training
from mrl_bench.errors import MissingPart, UsageError
from mrl_bench.runs.code import CodeChanged
from mrl_bench.runs.store import StoreError
from mrl_bench.types import State


class RaisesStoreError(Learner):
    def meta_train(self, training: Training) -> None:
        raise StoreError("No space left on device")


class RaisesUsageError(Learner):
    def meta_train(self, training: Training) -> None:
        raise UsageError("wrong \ud800 usage")


class RaisesMissingPart(Learner):
    def meta_train(self, training: Training) -> None:
        raise MissingPart("pip install something")


class RaisesCodeChanged(Learner):
    def meta_train(self, training: Training) -> None:
        raise CodeChanged("all of it")


class LimitsFiles(Learner):
    """After this no file of its process can grow."""

    def meta_train(self, training: Training) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
        super().meta_train(training)


class Reports(Learner):
    """Writes reports of the worker's kinds, and nonsense, then behaves."""

    def meta_train(self, training: Training) -> None:
        lines = [b'{"%s": "it is over"}' % kind for kind in (b"stop", b"store", b"refused", b"error")]
        lines += [b'{"stage": "\\u001b[2J", "done": 1e999, "total": -1, "return": "x"}', b"[" * 30_000]
        lines += [b'{"stage": "train", "done": 1%s, "total": 0, "return": 1e999}' % (b"0" * 4000)]
        write_reports(b"\n".join(lines) + b"\n")
        super().meta_train(training)


class ReportsAndExits(Learner):
    def meta_train(self, training: Training) -> None:
        write_reports(b'{"error": "\\ud800\\u001b[2J it is over"}\n')
        os._exit(3)


class Segfaults(Learner):
    def meta_train(self, training: Training) -> None:
        os.kill(os.getpid(), signal.SIGSEGV)


class CopyKilled(Learner):
    """Is killed in the process that measures the learning curve."""

    def initial_state(self, num_tasks: int) -> State:
        if multiprocessing.parent_process():
            os.kill(os.getpid(), signal.SIGKILL)
        return super().initial_state(num_tasks)


class Terminated(Learner):
    def meta_train(self, training: Training) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

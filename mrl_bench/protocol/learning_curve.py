"""The learning curve: the agent is evaluated periodically during meta-training, in a separate process.

The other process is forked before the agent is made, so nothing that the evaluated copy learns, in a class attribute or
anywhere else, can reach the agent that trains. It gets weights and returns numbers, as bytes. Where a simulator serves
one process only, the weights are kept, and evaluated here once meta-training has ended.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import Connection
from multiprocessing.context import ForkProcess
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from safetensors.torch import load, save

from mrl_bench.agent import MetaAgent
from mrl_bench.errors import MrlBenchError, reason
from mrl_bench.family import needs_one_process
from mrl_bench.protocol.adaptation import evaluate
from mrl_bench.protocol.restoring import copies, few_actions
from mrl_bench.results import LearningCurve

if TYPE_CHECKING:
    from torch import Tensor

    from mrl_bench.scenario import Scenario

# The agent is evaluated each time the env steps have doubled: the curve has a logarithmic axis, and a run that is
# twice as long costs one evaluation more.
GROWTH = 2

_CPU = torch.device("cpu")  # of the other process, which could not use a GPU that this one has opened


class PeriodicEvaluation:
    """Evaluates an agent during its meta-training, on the `train` tasks after one adaptation round.

    The tasks are drawn from the training distribution; no seed trains on them (unless the scenario has a fixed list of
    training tasks), and they are not the test tasks. Use it as a context, and enter it before the agent is made.

    Args:
        make_agent: makes the agent that is evaluated, on the CPU.
        scenario: its training tasks are played.
        seed: of the agent's noise; the training seed.
    """

    def __init__(self, make_agent: Callable[[], MetaAgent], scenario: Scenario, *, seed: int) -> None:
        self._make_agent, self._scenario, self._seed = make_agent, scenario, seed
        self._points: dict[int, Mapping[str, Any]] = {}  # env steps -> "returns" (B,) and "failed" (B,)
        self._kept: dict[int, dict[str, Tensor]] = {}  # env steps -> weights that are evaluated later
        self._process: ForkProcess | None = None
        self.seconds = 0.0  # spent on evaluations

    def __enter__(self) -> Self:
        if not needs_one_process(self._scenario.family):
            context = multiprocessing.get_context("fork")
            self._connection, theirs = context.Pipe()
            self._process = context.Process(target=self._serve, args=(theirs,), daemon=True)
            self._process.start()
            theirs.close()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._process:
            self._connection.close()  # ends the other process
            self._process.join(1.0)
            self._process.kill()

    def due(self, steps: int) -> bool:
        """Whether an evaluation is due after this many env steps. The first is due after the first data."""
        return steps >= max(GROWTH * max([*self._points, *self._kept], default=0), 1)

    def evaluate(self, steps: int, weights: Mapping[str, Tensor]) -> None:
        """Evaluates weights, after this many env steps of meta-training.

        Raises:
            MrlBenchError: the copy could not be evaluated.
        """
        started = time.perf_counter()
        if self._process:
            self._points[steps] = json.loads(self._ask(b"curve", weights))
        else:
            self._kept[steps] = copies(weights)
        self.seconds += time.perf_counter() - started

    def few_actions(self, weights: Mapping[str, Tensor]) -> list[Tensor] | None:
        """A few actions of a new agent in the other process that has loaded weights; None if there is no other process.

        Raises: see `evaluate`.
        """
        if not self._process:
            return None
        actions = load(self._ask(b"actions", weights))
        return [actions[name] for name in sorted(actions)]

    @property
    def curve(self) -> LearningCurve:
        """All evaluations so far, of which there is at least one."""
        started = time.perf_counter()
        for steps, weights in self._kept.items():
            self._points[steps] = self._measured(self._restored(weights))
        self._kept.clear()
        self.seconds += time.perf_counter() - started
        points = self._points.values()
        return LearningCurve(
            k=self._scenario.protocol.episodes_per_round,
            env_steps=np.array(list(self._points)),
            returns=np.array([point["returns"] for point in points]).T,
            failed=np.array([point["failed"] for point in points]).T,
        )

    def _ask(self, what: bytes, weights: Mapping[str, Tensor]) -> bytes:
        assert self._process
        try:
            for part in (what, save(copies(weights))):
                self._connection.send_bytes(part)
            while not self._connection.poll(
                1.0
            ):  # its children may hold the connection open when it has died
                if not self._process.is_alive():
                    raise EOFError
            failed, answer = self._connection.recv_bytes(), self._connection.recv_bytes()
        except (EOFError, OSError):
            self._end_like(self._process)
            raise MrlBenchError("the process that measures the learning curve has ended") from None
        if failed:
            raise MrlBenchError(f"evaluating the learning curve failed: {answer.decode()}")
        return answer

    def _end_like(self, process: ForkProcess) -> None:
        """Ends this process with the signal that killed the other one, if it came from outside.

        As when memory runs out: so the run is not to blame.
        """
        process.join(1.0)
        if process.exitcode in (-signal.SIGKILL, -signal.SIGTERM):
            os.kill(os.getpid(), -process.exitcode)

    def _serve(self, connection: Connection) -> None:
        """The other process: answers until the connection ends."""
        self._connection.close()
        torch.set_num_threads(1)  # the threads of the process that was forked do not exist here
        while True:
            try:
                what, weights = connection.recv_bytes(), load(connection.recv_bytes())
            except EOFError:
                return
            for part in self._answer(what, weights):
                connection.send_bytes(part)

    def _answer(self, what: bytes, weights: Mapping[str, Tensor]) -> Sequence[bytes]:
        """Why there is no answer or b"", and the answer."""
        try:
            copy = self._restored(weights)
            if what == b"curve":
                return b"", json.dumps(self._measured(copy)).encode()
            actions = few_actions(copy, self._scenario, _CPU)
            return b"", save({str(number): action for number, action in enumerate(actions)})
        except Exception as error:  # the agent is anyone's code
            return b"failed", reason(error).encode()

    def _restored(self, weights: Mapping[str, Tensor]) -> MetaAgent:
        copy = self._make_agent()
        copy.load_state_dict(weights)
        return copy

    def _measured(self, agent: MetaAgent) -> dict[str, Any]:
        k = (self._scenario.protocol.episodes_per_round,)
        curve = evaluate(agent, self._scenario, "train", seed=self._seed, device=_CPU, k=k)
        return {"returns": curve.returns[:, 0].mean(-1).tolist(), "failed": curve.failed[:, 0].tolist()}

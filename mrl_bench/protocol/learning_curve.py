"""The learning curve: the agent is evaluated periodically during meta-training, in a process of its own.

The other process is forked before the agent is made, so nothing that the evaluated copy learns, in a class attribute or
anywhere else, can reach the agent that trains. It gets weights and returns numbers, as bytes.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from types import TracebackType
from typing import TYPE_CHECKING, Self

import numpy as np
import torch
from safetensors.torch import load, save

from mrl_bench.agent import MetaAgent
from mrl_bench.errors import MrlBenchError
from mrl_bench.protocol.adaptation import evaluate
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
        self._points: dict[int, tuple[list[float], list[int]]] = {}  # env steps -> (B,) returns, (B,) failed
        self.seconds = 0.0  # spent on evaluations

    def __enter__(self) -> Self:
        context = multiprocessing.get_context("fork")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=self._serve, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._connection.close()  # ends the other process
        self._process.join(1.0)
        self._process.kill()

    def due(self, steps: int) -> bool:
        """Whether an evaluation is due after this many env steps. The first is due after the first data."""
        return steps >= max(GROWTH * max(self._points, default=0), 1)

    def evaluate(self, steps: int, weights: Mapping[str, Tensor]) -> None:
        """Evaluates weights, after this many env steps of meta-training.

        Raises:
            MrlBenchError: the copy could not be evaluated.
        """
        started = time.perf_counter()
        copies = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in weights.items()}
        try:
            self._connection.send_bytes(save(copies))
            answer = json.loads(self._connection.recv_bytes())
        except (EOFError, OSError):
            self._process.join(1.0)
            if self._process.exitcode in (-signal.SIGKILL, -signal.SIGTERM):
                # From outside, as when memory runs out. This process ends alike, so the run is not to blame.
                os.kill(os.getpid(), -self._process.exitcode)
            raise MrlBenchError("the process that measures the learning curve has ended") from None
        if "error" in answer:
            raise MrlBenchError(f"evaluating the learning curve failed: {answer['error']}")
        self._points[steps] = answer["returns"], answer["failed"]
        self.seconds += time.perf_counter() - started

    @property
    def curve(self) -> LearningCurve:
        """All evaluations so far, of which there is at least one."""
        returns, failed = zip(*self._points.values(), strict=True)
        return LearningCurve(
            k=self._scenario.protocol.episodes_per_round,
            env_steps=np.array(list(self._points)),
            returns=np.array(returns).T,
            failed=np.array(failed).T,
        )

    def _serve(self, connection: Connection) -> None:
        """The other process: evaluates the weights that it gets, until the connection ends."""
        self._connection.close()
        torch.set_num_threads(1)  # the threads of the process that was forked do not exist here
        while True:
            try:
                weights = load(connection.recv_bytes())
            except EOFError:
                return
            try:
                answer = self._measured(weights)
            except Exception as error:  # the agent is anyone's code
                answer = {"error": f"{type(error).__name__}: {error}"}
            connection.send_bytes(json.dumps(answer).encode())

    def _measured(self, weights: dict[str, Tensor]) -> dict[str, object]:
        copy = self._make_agent()
        copy.load_state_dict(weights)
        k = (self._scenario.protocol.episodes_per_round,)
        curve = evaluate(copy, self._scenario, "train", seed=self._seed, device=_CPU, k=k)
        return {"returns": curve.returns[:, 0].mean(-1).tolist(), "failed": curve.failed[:, 0].tolist()}

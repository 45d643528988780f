"""The learning curve: the agent is evaluated periodically during meta-training."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import torch

from mrl_bench.agent import MetaAgent
from mrl_bench.protocol.adaptation import evaluate
from mrl_bench.results import Curve, LearningCurve

if TYPE_CHECKING:
    from mrl_bench.scenario import Scenario

# The agent is evaluated each time the env steps have doubled: the curve has a logarithmic axis, and a run that is
# twice as long costs one evaluation more.
GROWTH = 2


class PeriodicEvaluation:
    """Evaluates an agent during its meta-training.

    The weights are copied into a second agent, which is evaluated on the test tasks after one adaptation round. Initial
    states and noise are those of the evaluation after meta-training. The agent that trains is not affected, even if
    it breaks its contract; neither are the budget and the global random generators.

    Args:
        agent: the one that trains; only its `state_dict` is called.
        make_agent: makes the second agent.
        scenario: its test tasks are played.
        seed: of the agent's noise; the training seed.
        device: where environment and agent compute.
    """

    def __init__(
        self,
        agent: MetaAgent,
        make_agent: Callable[[], MetaAgent],
        scenario: Scenario,
        *,
        seed: int,
        device: torch.device,
    ) -> None:
        self._agent, self._make_agent, self._scenario = agent, make_agent, scenario
        self._seed, self._device = seed, device
        self._curves: dict[int, Curve] = {}  # env steps of meta-training -> evaluation
        self.seconds = 0.0  # spent on evaluations

    def due(self, steps: int) -> bool:
        """Whether an evaluation is due after this many env steps. The first is due after the first data."""
        return steps >= max(GROWTH * max(self._curves, default=0), 1)

    def evaluate(self, steps: int) -> None:
        """Evaluates the current weights, after this many env steps of meta-training."""
        started = time.perf_counter()
        with _global_generators_kept(self._device):
            copy = self._make_agent()
            copy.load_state_dict({name: x.detach().clone() for name, x in self._agent.state_dict().items()})
            self._curves[steps] = evaluate(
                copy,
                self._scenario,
                "test",
                seed=self._seed,
                device=self._device,
                k=(self._scenario.protocol.episodes_per_round,),
            )
        self.seconds += time.perf_counter() - started

    @property
    def curve(self) -> LearningCurve:
        """All evaluations so far, of which there is at least one."""
        curves = self._curves.values()
        return LearningCurve(
            k=self._scenario.protocol.episodes_per_round,
            env_steps=np.array(list(self._curves)),
            returns=np.concatenate([curve.returns.mean(-1) for curve in curves], 1),
            failed=np.concatenate([curve.failed for curve in curves], 1),
        )


@contextmanager
def _global_generators_kept(device: torch.device) -> Iterator[None]:
    """Restores the global random generators afterwards, for agents that draw from them."""
    python, numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)

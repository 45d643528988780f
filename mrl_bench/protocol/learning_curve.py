"""PeriodicEvaluation: what an agent scores while it meta-trains, from which its sample efficiency is read."""

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

# A probe follows when the env steps have doubled: a curve over them has a logarithmic axis, and a run that is twice
# as long costs one probe more.
GROWTH = 2


class PeriodicEvaluation:
    """The learning curve of one agent in the making.

    A probe evaluates a second agent, which is handed a copy of the weights, on the test tasks up to the first round
    of adaptation, with the starts and the noise of the evaluation that follows meta-training. So the agent that
    learns sees nothing of it, even if it breaks its contract, and neither budget nor global generators notice.

    Args:
        agent: the one that learns; only its `state_dict` is called.
        twin: makes the second agent.
        scenario: whose test tasks are played.
        seed: of the agent's noise; the training seed.
        device: where environment and agent compute.
    """

    def __init__(
        self,
        agent: MetaAgent,
        twin: Callable[[], MetaAgent],
        scenario: Scenario,
        *,
        seed: int,
        device: torch.device,
    ) -> None:
        self._agent, self._twin, self._scenario = agent, twin, scenario
        self._seed, self._device = seed, device
        self._found: dict[int, Curve] = {}  # env steps -> what was scored
        self.seconds = 0.0  # that the probes took

    def due(self, steps: int) -> bool:
        """Whether so many env steps are enough for another probe; the first is after the first data."""
        return steps >= max(GROWTH * max(self._found, default=0), 1)

    def take(self, steps: int) -> None:
        """PeriodicEvaluation the agent as it is after so many env steps; replaces a probe at as many."""
        started = time.perf_counter()
        with _global_generators_kept(self._device):
            twin = self._twin()
            twin.load_state_dict({name: x.detach().clone() for name, x in self._agent.state_dict().items()})
            self._found[steps] = evaluate(
                twin,
                self._scenario,
                "test",
                seed=self._seed,
                device=self._device,
                k=(self._scenario.protocol.episodes_per_round,),
            )
        self.seconds += time.perf_counter() - started

    @property
    def curve(self) -> LearningCurve:
        """All probes so far, of which there is one at least."""
        curves = self._found.values()
        return LearningCurve(
            k=self._scenario.protocol.episodes_per_round,
            env_steps=np.array(list(self._found)),
            returns=np.concatenate([curve.returns.mean(-1) for curve in curves], 1),
            failed=np.concatenate([curve.failed for curve in curves], 1),
        )


@contextmanager
def _global_generators_kept(device: torch.device) -> Iterator[None]:
    """Leaves the generators that all of a process shares as they were, for agents that draw from them."""
    python, numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)

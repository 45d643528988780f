"""The terms of a run: what was asked for, and so what its results can be."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cache
from math import inf
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, TypeAdapter

from mrl_bench.errors import ContractError
from mrl_bench.family import reward_range
from mrl_bench.results import (
    REFERENCE_AGENTS,
    Curve,
    Evaluation,
    LearningCurve,
    TrainingResult,
    Video,
    canonical_json,
)
from mrl_bench.scenario import Scenario
from mrl_bench.scenario.schema import MAX_ID, SCENARIO_ID_PATTERN

# The share by which returns, sums of rewards in float32, may exceed what rewards add up to.
_SLACK = 1e-3

Count = Annotated[int, Field(ge=0)]
Id = Annotated[str, Field(pattern=f"^{SCENARIO_ID_PATTERN}$", max_length=MAX_ID)]
# The name of an agent outside of a suite is that of a class, in any alphabet.
Name = Annotated[str, Field(pattern=r"^\w[\w-]*$", max_length=100)]
Digest = Annotated[str, Field(pattern="^[0-9a-f]{16}$")]
SplitName = Annotated[str, Field(pattern="^(train|test|ood)$")]


@dataclass(frozen=True)
class Terms:
    """Whose result is asked for, and its shape: B tasks, K values of k, N scored episodes.

    Its checks raise ContractError if a result is not one of this run, or if it is impossible.
    """

    scenario: Id
    digest: Digest
    agent: Name
    seed: Count
    budget: Count  # env steps of meta-training, at most
    horizon: Count  # control steps of a full episode
    k: tuple[Count, ...]  # (K,)
    episodes_per_round: Count
    scored_episodes: Count  # N
    tasks: dict[SplitName, Count]  # split -> B
    reward: tuple[float | None, float | None]  # least and largest of a control step; None if unbounded

    @staticmethod
    def of(scenario: Scenario, agent: str, seed: int) -> Terms:
        low, high = reward_range(scenario.family)
        tests = scenario.splits["test"].count or 0
        return Terms(
            scenario=scenario.id,
            digest=scenario.digest,
            agent=agent,
            seed=seed,
            budget=scenario.budget.of(agent),
            horizon=scenario.horizon,
            k=scenario.protocol.scored_at(agent),
            episodes_per_round=scenario.protocol.episodes_per_round,
            scored_episodes=scenario.protocol.scored_episodes,
            tasks={name: split.count or tests for name, split in scenario.splits.items()},
            reward=(None if low == -inf else low, None if high == inf else high),
        )

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_json(data: Any) -> Terms:
        """Raises ValueError if the data are not what `to_json` returned, names and ids included."""
        return _reader().validate_json(canonical_json(data), strict=True)  # JSON's lists fill tuples

    @property
    def label(self) -> str:
        return f"{self.scenario} {self.agent} {self.seed}"

    @property
    def returns(self) -> tuple[float, float]:
        """Least and largest return of an episode, which may end early."""
        low, high = self.reward
        least = -inf if low is None else self.horizon * min(low, 0.0)
        return least, inf if high is None else self.horizon * max(high, 0.0)

    def check(self, evaluation: Evaluation) -> None:
        """Refuses the evaluation of another run, and one with values that cannot be."""
        whose = (evaluation.scenario, evaluation.digest, evaluation.agent, evaluation.seed)
        label = " ".join(map(str, (evaluation.scenario, evaluation.agent, evaluation.seed)))
        _require(
            whose == (self.scenario, self.digest, self.agent, self.seed),
            f"it is the evaluation of {label}, digest {evaluation.digest}, not of {self.label}, {self.digest}",
        )
        _require(
            evaluation.is_reference == (self.agent in REFERENCE_AGENTS),
            f"is_reference is {evaluation.is_reference}, and the agent is {self.agent}",
        )
        self.check_training(evaluation.training)
        expected = set(self.tasks) if evaluation.error is None else set()
        _require(
            set(evaluation.curves) == expected,
            f"it has curves for {_listed(evaluation.curves)}, not for {_listed(expected)}",
        )
        for split, curve in evaluation.curves.items():
            self._check_curve(split, curve)

    def _check_curve(self, split: str, curve: Curve) -> None:
        shape = (self.tasks[split], len(self.k), self.scored_episodes)
        _require(
            curve.k == self.k and curve.returns.shape == shape,
            f"its {split} curve has the shape {curve.returns.shape} at k = {curve.k}, "
            f"and the protocol asks for {shape} at k = {self.k}",
        )
        self._check_returns(f"{split} task", curve.returns)
        k = np.array(self.k)
        rising = np.diff(curve.env_steps, axis=1, prepend=0.0) >= 0
        possible = (curve.env_steps <= k * self.horizon) & (curve.env_steps % 1 == 0) & rising
        _require(possible.all(), f"its env steps on {split} are not those of k episodes")
        scored_failures = curve.failed - self._adaptation_failures(split, curve)
        possible = (scored_failures >= 0) & (scored_failures <= self.scored_episodes)
        _require(possible.all(), f"its failed episodes on {split} are fewer than 0 or more than were played")
        metrics = (*curve.metrics.values(), *curve.online.metrics.values())
        _require(all(np.isfinite(values).all() for values in metrics), f"a metric on {split} is not finite")

    def _adaptation_failures(self, split: str, curve: Curve) -> NDArray[np.int64]:
        """Failed adaptation episodes before each k, (B, K), of a curve whose adaptation episodes can be."""
        self._check_returns(f"{split} task", curve.online.returns)
        failed = curve.online.failed
        _require(np.isin(failed, (0, 1)).all(), f"failures of adaptation episodes on {split} are not 0 or 1")
        return np.stack([failed[:, :k].sum(1) for k in self.k], 1)

    def _check_returns(self, where: str, returns: Any) -> None:
        """Args: returns: (B, ...), of single episodes or means over them."""
        low, high = self.returns
        within = (returns >= low - _SLACK * abs(low)) & (returns <= high + _SLACK * abs(high))
        for index in np.argwhere(~(within & np.isfinite(returns)))[:1]:
            pays = f"pays {low:.6g} to {high:.6g} in {self.horizon} control steps"
            raise ContractError(
                f"{self.scenario} {pays}, not {returns[tuple(index)]:.6g} as on {where} {index[0]}"
            )

    def check_training(self, trained: TrainingResult) -> None:
        """Refuses a result of meta-training with values that cannot be."""
        spent = trained.env_steps
        _require(0 <= spent <= self.budget, f"it was trained for {spent:,} of {self.budget:,} env steps")
        if curve := trained.learning_curve:
            self._check_learning(curve, spent)

    def _check_learning(self, curve: LearningCurve, env_steps: int) -> None:
        shape = (self.tasks["train"], len(curve.env_steps))
        _require(
            curve.returns.shape == curve.failed.shape == shape and curve.k == self.episodes_per_round,
            f"its learning curve has the shape {curve.returns.shape} at k = {curve.k}, "
            f"not {shape} at k = {self.episodes_per_round}",
        )
        self._check_returns("learning-curve task", curve.returns)
        steps = [0, *curve.env_steps.tolist(), env_steps]
        _require(steps == sorted(steps), "the env steps of its learning curve do not ascend to those in all")
        possible = (curve.failed >= 0) & (curve.failed <= curve.k + self.scored_episodes)
        _require(possible.all(), "its learning curve has more failed episodes than were played")

    def check_video(self, video: Video) -> None:
        """Refuses the video of another run, and one that shows returns that cannot be."""
        _require(
            (video.agent, video.seed) == (self.agent, self.seed),
            f"it is the video of {video.agent} {video.seed}, not of {self.agent} {self.seed}",
        )
        self._check_returns("video episode", np.array(video.returns))
        _require(video.episodes in self.k, f"it shows k = {video.episodes}, not one of {self.k}")


@cache
def _reader() -> TypeAdapter[Terms]:
    return TypeAdapter(Terms)


def _require(condition: Any, otherwise: str) -> None:
    if not condition:
        raise ContractError(otherwise)


def _listed(names: Any) -> str:
    return ", ".join(sorted(names)) or "nothing"

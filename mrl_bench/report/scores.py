"""The scores of a scenario as data. `scoring.py` computes them; docs/evaluation.md defines every number."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import nan

import numpy as np
from numpy.typing import NDArray

HEADROOM_FLOOR = 0.2  # a split below it does not need adaptation; reports flag it
CEILING = 1.05  # a mean score above it shows that the oracle is not the best that is possible
NEAR_ORACLE = 0.9  # the score of `k_to_90`
LEARNED = 0.6  # the score of `steps_to_60`
RANKED_SEEDS = 10  # a row with fewer seeds is preliminary

# What reports say of a split, and of a row above the ceiling.
WEAK_REFERENCES = "references too weak"
NO_ADAPTATION_NEEDED = "no adaptation needed"
NEEDLESS_OR_WEAK = "no adaptation needed, or references too weak"
UNCERTAIN = "headroom uncertain"
ABOVE_ORACLE = "above the oracle: the reference is not a ceiling here"


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval; `low` and `high` are NaN where there are fewer than three seeds."""

    value: float
    low: float = nan
    high: float = nan


@dataclass(frozen=True)
class Learning:
    """Learning curve: the score after the first adaptation round, at M points of meta-training."""

    k: int  # adaptation episodes in that round
    env_steps: tuple[float, ...]  # (M,) env steps of meta-training
    scores: tuple[Estimate, ...]  # (M,) IQM over (S x B), interval over whole seeds
    steps_to_60: float | None  # env steps at which the score first reaches 0.6; None if it does not


@dataclass(frozen=True)
class OnlineScores:
    """The price of adaptation: what the adaptation episodes themselves score, in M bins of equally many episodes."""

    k: tuple[int, ...]  # (M,) adaptation episodes played at the end of each bin
    scores: tuple[Estimate, ...]  # (M,) mean over seeds, tasks and the episodes of a bin
    worst: float  # least score of an adaptation episode; NaN if every run failed
    metrics: Mapping[str, Estimate]  # the family's metrics over all adaptation episodes


@dataclass(frozen=True)
class Row:
    """One agent on one split of one scenario. K points of its curve; S seeds; B tasks."""

    agent: str
    is_reference: bool
    seeds: int  # S, failed runs included
    failed_runs: int  # seeds whose run failed; they score no better than random and any finished run
    failed_episodes: int  # sum of `failed`; a cell with a failed episode scores no better than random
    k: tuple[int, ...]  # (K,) adaptation episodes before each point
    env_steps: tuple[float, ...]  # (K,) env steps of these episodes, mean over tasks and finished seeds
    returns: tuple[Estimate, ...]  # (K,) mean return over tasks, interval over seeds
    scores: tuple[Estimate, ...]  # (K,) IQM of normalised scores over (S x B), interval over whole seeds
    means: tuple[Estimate, ...]  # (K,) mean of normalised scores over (S x B)
    task_scores: NDArray[np.float64]  # (B, K) normalised score of each task, mean over seeds
    gain: Estimate  # IQM of the score of a cell at the last k minus that at k = 0
    zero_shot: Estimate  # IQM of the score of a cell at k = 0 minus that of blind on its task
    area: Estimate  # IQM of the mean height of a cell's score curve over k
    cvar: Estimate  # mean over seeds of the mean score of the worst 5 % of tasks at the last k
    k_to_90: int | None  # first k with a score of at least 0.9; None if there is none
    learning: Learning | None  # in the test split's rows, on `train` tasks; None for reference agents
    online: OnlineScores | None  # None for reference agents, which do not adapt, and if the last k is 0
    model_errors: Mapping[str, float]  # last values logged under "model/", mean over the seeds that logged
    train_env_steps: float  # env steps of meta-training, mean over finished seeds
    # The family's metrics, name -> (K,): a quotient of sums over seeds, tasks and episodes, with intervals over
    # whole seeds. NaN where the denominator is 0.
    metrics: Mapping[str, tuple[Estimate, ...]]
    rank: tuple[int, int] | None  # (best, worst) rank at the last k; None for reference agents
    preliminary: bool  # fewer than ten seeds

    @property
    def failed_share(self) -> float:
        """Share of seeds whose run failed, 0 to 1."""
        return self.failed_runs / self.seeds

    @property
    def above_oracle(self) -> bool:
        """Whether the mean score exceeds the oracle's by more than 5 % of the scale at some k."""
        return max(estimate.value for estimate in self.means) > CEILING


@dataclass(frozen=True)
class SplitScores:
    """All agents on one split, with the mean returns of the reference agents and the headroom."""

    split: str
    tasks: int
    random: float
    blind: float
    oracle: float
    headroom: Estimate  # (oracle - blind) / (oracle - random); NaN if the oracle is not above random
    rows: tuple[Row, ...]  # agents from first to last, then the reference agents
    certified: bool = True  # whether a larger budget of the reference agents is known to move little

    @property
    def flagged(self) -> bool:
        """Whether the headroom is too small for the scores to measure adaptation; NaN is too small."""
        return not self.headroom.value >= HEADROOM_FLOOR  # `<` would be False for NaN

    @property
    def diagnosis(self) -> str | None:
        """What is wrong with the scale; None if nothing is known to be. There is one wherever `flagged` is true.

        References are too weak if the oracle is not above random, or if blind or an agent is above the oracle.
        """
        headroom = self.headroom
        beaten = any(row.above_oracle for row in self.rows)
        if beaten or not self.oracle > self.random:
            return WEAK_REFERENCES
        if headroom.low < HEADROOM_FLOOR <= headroom.high:
            return UNCERTAIN
        if not self.flagged:
            return None
        return NO_ADAPTATION_NEEDED if self.certified else NEEDLESS_OR_WEAK


@dataclass(frozen=True)
class ScenarioScores:
    """All scores of one scenario."""

    scenario: str
    digest: str
    splits: Mapping[str, SplitScores]
    split_gap: Mapping[str, Estimate]  # agent -> test minus ood score at the last k
    doubts: tuple[str, ...] = ()  # what is known to be weak about the references, as sentences
    seed: int = 0  # of every interval's generator

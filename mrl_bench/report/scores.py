"""From evaluations to scores: normalised scores, their intervals, headroom and ranks.

docs/evaluation.md defines every number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from mrl_bench.errors import UsageError
from mrl_bench.report.stats import (
    Array,
    area,
    common_steps,
    cvar,
    first_crossing,
    iqm,
    rank_ranges,
    resample,
    seed_interval,
)
from mrl_bench.results import REFERENCE_AGENTS, Curve, Evaluation
from mrl_bench.types import Ratio

SPLITS = ("train", "test", "ood")  # in the order of the report
HEADROOM_FLOOR = 0.2  # a split below it does not need adaptation; reports flag it
SPAN_FLOOR = 0.1  # least span oracle - random of a task, as a share of the split's mean span
NEAR_ORACLE = 0.9  # the score of `k_to_90`
LEARNED = 0.6  # the score of `steps_to_60`
RANKED_SEEDS = 10  # a row with fewer seeds is preliminary


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval; `low` and `high` are NaN where there are fewer than two seeds."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Learning:
    """Learning curve: the score after the first adaptation round, at M points of meta-training."""

    k: int  # adaptation episodes in that round
    env_steps: tuple[float, ...]  # (M,) env steps of meta-training
    scores: tuple[Estimate, ...]  # (M,) IQM over (S x B), interval over whole seeds
    steps_to_60: float | None  # env steps at which the score first reaches 0.6; None if it does not

    @staticmethod
    def of(env_steps: Array, scores: Array, k: int, seed: int) -> Learning:
        """The curve of scores (S, B, M) at env steps (M,)."""
        estimates = tuple(_estimate(column, _pooled_iqm, seed) for column in np.moveaxis(scores, -1, 0))
        reached = first_crossing(env_steps, np.array([e.value for e in estimates]), LEARNED)
        return Learning(k, tuple(env_steps.tolist()), estimates, reached)


@dataclass(frozen=True)
class Row:
    """One agent on one split of one scenario. K points of its curve; S seeds; B tasks."""

    agent: str
    is_reference: bool
    seeds: int  # S, failed runs included
    failed_runs: int  # seeds whose run failed; they score as random
    failed_episodes: int  # sum of `failed`; a cell with a failed episode scores no better than random
    k: tuple[int, ...]  # (K,) adaptation episodes before each point
    env_steps: tuple[float, ...]  # (K,) env steps of these episodes, mean over tasks and finished seeds
    returns: tuple[Estimate, ...]  # (K,) mean return over tasks, interval over seeds
    scores: tuple[Estimate, ...]  # (K,) IQM of normalised scores over (S x B), interval over whole seeds
    task_scores: NDArray[np.float64]  # (B, K) normalised score of each task, mean over seeds
    gain: Estimate  # IQM of the score of a cell at the last k minus that at k = 0
    area: Estimate  # IQM of the mean height of a cell's score curve over k
    cvar: Estimate  # mean over seeds of the mean score of the worst 5 % of tasks at the last k
    k_to_90: int | None  # first k with a score of at least 0.9; None if there is none
    learning: Learning | None  # in the test split's rows, on `train` tasks; None for reference agents
    model_errors: Mapping[str, float]  # last values logged under "model/", mean over the seeds that logged
    train_env_steps: float  # env steps of meta-training, mean over seeds
    # The family's metrics, name -> (K,): a quotient of sums over seeds, tasks and episodes, with intervals over
    # whole seeds. NaN where the denominator is 0.
    metrics: Mapping[str, tuple[Estimate, ...]]
    rank: tuple[int, int] | None  # (best, worst) rank at the last k; None for reference agents
    preliminary: bool  # fewer than ten seeds


@dataclass(frozen=True)
class SplitScores:
    """All agents on one split, with the mean returns of the reference agents and the headroom."""

    split: str
    tasks: int
    random: float
    blind: float
    oracle: float
    headroom: float  # (oracle - blind) / (oracle - random); NaN if the oracle is not above random
    rows: tuple[Row, ...]  # best score at the last k first

    @property
    def flagged(self) -> bool:
        """Whether the headroom is too small for the scores to measure adaptation; NaN is too small."""
        return not self.headroom >= HEADROOM_FLOOR  # `<` would be False for NaN


@dataclass(frozen=True)
class ScenarioScores:
    """All scores of one scenario."""

    scenario: str
    digest: str
    splits: Mapping[str, SplitScores]
    split_gap: Mapping[str, Estimate]  # agent -> test minus ood score at the last k
    seed: int = 0  # of every interval's generator


def score_scenario(evaluations: Sequence[Evaluation], seed: int = 0) -> ScenarioScores:
    """The scores of one scenario.

    Args:
        evaluations: of one scenario and digest, in any order, including the three reference agents.
        seed: of the intervals' generator. Each interval has a new generator with this seed, so that it does not
            depend on the other rows.

    Raises:
        UsageError: a reference agent is missing, or all its seeds failed: returns cannot be normalised.
        ValueError: the evaluations are not comparable.
    """
    agents = _by_agent(evaluations)
    done = [evaluation for evaluation in evaluations if evaluation.error is None]
    splits = [split for split in SPLITS if split in done[0].curves]
    if any(set(evaluation.curves) != set(splits) for evaluation in done):
        raise ValueError(f"evaluations of one scenario must have the same splits, from {', '.join(SPLITS)}")
    scales = {split: _Scale.of(split, agents) for split in splits}
    scores = {
        split: {agent: scale.scores(scale.returns(runs)) for agent, runs in agents.items()}
        for split, scale in scales.items()
    }
    learning = {}  # is measured on training tasks, and shown with the test scores
    if "train" in scales:
        learning = {agent: scales["train"].learning(runs, seed) for agent, runs in agents.items()}
    gaps = {}
    if "test" in scores and "ood" in scores:
        gaps = {agent: _gap(scores["test"][agent], scores["ood"][agent], seed) for agent in agents}
    return ScenarioScores(
        scenario=evaluations[0].scenario,
        digest=evaluations[0].digest,
        splits={
            split: _split_scores(
                scales[split], agents, scores[split], learning if split == "test" else {}, seed
            )
            for split in splits
        },
        split_gap=gaps,
        seed=seed,
    )


def _by_agent(evaluations: Sequence[Evaluation]) -> dict[str, list[Evaluation]]:
    """The evaluations of each agent, ordered by seed; raises as `score_scenario` does."""
    if len({(evaluation.scenario, evaluation.digest) for evaluation in evaluations}) != 1:
        raise ValueError("scores need evaluations of exactly one scenario and digest")
    agents: dict[str, list[Evaluation]] = {}
    for evaluation in sorted(evaluations, key=lambda evaluation: (evaluation.agent, evaluation.seed)):
        agents.setdefault(evaluation.agent, []).append(evaluation)
        if evaluation.is_reference != (evaluation.agent in REFERENCE_AGENTS):
            raise ValueError(
                f"{evaluation.agent!r} with is_reference={evaluation.is_reference}: "
                f"the reference agents are {', '.join(REFERENCE_AGENTS)}"
            )
    for agent, runs in agents.items():
        if len({run.seed for run in runs}) < len(runs):
            raise ValueError(f"{agent!r} has two evaluations of the same seed")
    for reference in REFERENCE_AGENTS:
        if all(run.error is not None for run in agents.get(reference, ())):
            state = "every seed failed" if reference in agents else "missing"
            raise UsageError(
                f"{evaluations[0].scenario}: no scores without the reference agent {reference!r} ({state})"
            )
    return agents


@dataclass(frozen=True)
class _Scale:
    """The scale of one split: its points, and the reference agents' mean return on each task."""

    split: str
    k: tuple[int, ...]  # (K,)
    random: Array  # (B,) mean return
    blind: Array  # (B,)
    oracle: Array  # (B,)
    reported: Mapping[str, Ratio]  # metric -> its numerator and denominator
    random_sums: Mapping[str, Array]  # metric -> (B, 2): mean sums of random's cells, see `_sums`

    @staticmethod
    def of(split: str, agents: Mapping[str, Iterable[Evaluation]]) -> _Scale:
        curves = [curve for runs in agents.values() for curve in _curves(runs, split)]
        shapes = {(curve.k, len(curve.returns), tuple(curve.reported.items())) for curve in curves}
        if len(shapes) != 1:
            raise ValueError(
                f"curves of split {split!r} differ in their points or tasks, or in what is reported"
            )
        k, _, reported = shapes.pop()
        random, blind, oracle = (
            _reference_mean(_curves(agents[name], split), _returns) for name in REFERENCE_AGENTS
        )
        sums = {
            name: _reference_mean(_curves(agents["random"], split), partial(_sums, ratio))
            for name, ratio in reported
        }
        return _Scale(split, k, random, blind, oracle, dict(reported), sums)

    def returns(self, runs: Iterable[Evaluation]) -> Array:
        """The return of each cell, (S, B, K); a cell that failed is at most random's."""
        floor = np.tile(self.random[:, None], len(self.k))  # (B, K)
        counted = []
        for run in runs:
            if run.error is not None:
                counted.append(floor)
                continue
            curve = run.curves[self.split]
            counted.append(self._counted(_returns(curve), _broken(curve)))
        return np.stack(counted)

    def _counted(self, returns: Array, broken: NDArray[np.bool_]) -> Array:
        """Returns (B, ...) in which failed cells are at most random's."""
        return np.where(broken, np.minimum(returns, self.random[:, None]), returns)

    def scores(self, returns: Array) -> Array:
        """(return - random) / (oracle - random) of each cell, (..., B, K).

        The span of a task has a floor, because dividing by a span near 0, or below, only amplifies noise. If the
        oracle's mean over tasks is not above random's, all scores are 0.
        """
        span = self.oracle - self.random
        if span.mean() <= 0:
            return np.zeros_like(returns)
        scores: Array = (returns - self.random[:, None]) / np.maximum(span, SPAN_FLOOR * span.mean())[:, None]
        return scores

    def metrics(self, runs: Sequence[Evaluation], seed: int) -> dict[str, tuple[Estimate, ...]]:
        """Each reported metric at each point: the sum of its numerator divided by that of its denominator."""
        found = {}
        for name in self.reported:
            sums = np.stack([self._counted_sums(run, name) for run in runs]).sum(1)  # (S, K, 2)
            found[name] = tuple(_estimate(point, _quotient, seed) for point in np.moveaxis(sums, 1, 0))
        return found

    def _counted_sums(self, run: Evaluation, name: str) -> Array:
        """The sums of a run, (B, K, 2); a failed cell has random's sums on that task."""
        random = np.repeat(self.random_sums[name][:, None], len(self.k), axis=1)
        if run.error is not None:
            return random
        curve = run.curves[self.split]
        return np.where(_broken(curve)[..., None], random, _sums(self.reported[name], curve))

    def learning(self, runs: Sequence[Evaluation], seed: int) -> Learning | None:
        """The learning curve over all seeds of an agent, on this split's tasks; None if no seed has one."""
        curves = [run.training.learning_curve for run in runs if run.training.learning_curve]
        if not curves:
            return None
        at = common_steps([curve.env_steps for curve in curves])
        scores = np.zeros((len(runs), len(self.random), len(at)))  # a run that failed scores as random
        for s, curve in enumerate(curves):
            counted = self._counted(curve.returns, curve.failed > 0)
            scores[s] = resample(at, curve.env_steps.astype(np.float64), self.scores(counted))
        return Learning.of(at, scores, curves[0].k, seed)


def _curves(runs: Iterable[Evaluation], split: str) -> list[Curve]:
    """The curves of the finished runs."""
    return [run.curves[split] for run in runs if run.error is None]


def _returns(curve: Curve) -> Array:
    """The mean return of each cell, (B, K); a return that is not finite counts as 0."""
    return np.asarray(np.where(np.isfinite(curve.returns), curve.returns, 0.0).mean(-1))


def _broken(curve: Curve) -> NDArray[np.bool_]:
    """Whether a cell failed, (B, K): its simulation broke, or a return is not finite."""
    return np.asarray((curve.failed > 0) | ~np.isfinite(curve.returns).all(-1))


def _sums(ratio: Ratio, curve: Curve) -> Array:
    """A metric's numerator and denominator, summed over the episodes of each cell, (B, K, 2)."""
    per = np.ones_like(curve.returns) if ratio.per is None else curve.metrics[ratio.per]
    return np.stack([curve.metrics[ratio.metric].sum(-1), per.sum(-1)], axis=-1)


def _reference_mean(curves: Sequence[Curve], cells: Callable[[Curve], Array]) -> Array:
    """Mean of a reference agent's cells, (B, K, ...), on each task, (B, ...).

    The mean is over seeds and points, because reference agents do not adapt. Failed cells are left out, except on
    a task where every cell failed.
    """
    broken = np.stack([_broken(curve) for curve in curves])  # (S, B, K)
    counts = ~broken | broken.all(axis=(0, 2), keepdims=True)
    values = np.stack([cells(curve) for curve in curves])
    counts = counts.reshape(*counts.shape, *[1] * (values.ndim - 3))
    mean: Array = (values * counts).sum(axis=(0, 2)) / counts.sum(axis=(0, 2))
    return mean


def _split_scores(
    scale: _Scale,
    agents: Mapping[str, Sequence[Evaluation]],
    scores: Mapping[str, Array],
    learning: Mapping[str, Learning | None],
    seed: int,
) -> SplitScores:
    ranks = rank_ranges(
        {agent: iqm(scores[agent][..., -1]) for agent in agents if agent not in REFERENCE_AGENTS}
    )
    found = {
        agent: _row(scale, runs, scores[agent], ranks.get(agent), seed) for agent, runs in agents.items()
    }
    rows = [replace(row, learning=learning.get(agent)) for agent, row in found.items()]
    random, blind, oracle = (float(returns.mean()) for returns in (scale.random, scale.blind, scale.oracle))
    return SplitScores(
        split=scale.split,
        tasks=len(scale.random),
        random=random,
        blind=blind,
        oracle=oracle,
        headroom=(oracle - blind) / (oracle - random) if oracle > random else float("nan"),
        rows=tuple(sorted(rows, key=lambda row: -row.scores[-1].value)),
    )


def _row(
    scale: _Scale, runs: Sequence[Evaluation], scores: Array, rank: tuple[int, int] | None, seed: int
) -> Row:
    """The row of one agent from its runs, one per seed, and their scores, (S, B, K)."""
    curves = _curves(runs, scale.split)
    env_steps = [curve.env_steps.mean(0) for curve in curves] or [np.zeros(len(scale.k))]
    returns = scale.returns(runs).mean(1)  # (S, K)
    estimates = tuple(_estimate(column, _pooled_iqm, seed) for column in np.moveaxis(scores, -1, 0))
    reached = (n for n, score in zip(scale.k, estimates, strict=True) if score.value >= NEAR_ORACLE)
    return Row(
        agent=runs[0].agent,
        is_reference=runs[0].is_reference,
        seeds=len(runs),
        failed_runs=len(runs) - len(curves),
        failed_episodes=int(sum(curve.failed.sum() for curve in curves)),
        k=scale.k,
        env_steps=tuple(np.mean(env_steps, axis=0).tolist()),
        returns=tuple(_estimate(column, _mean, seed) for column in returns.T),
        scores=estimates,
        task_scores=scores.mean(0),
        gain=_estimate(scores[..., -1] - scores[..., 0], _pooled_iqm, seed),
        area=_estimate(area(scores, np.asarray(scale.k, dtype=np.float64)), _pooled_iqm, seed),
        cvar=_estimate(cvar(scores[..., -1]), _mean, seed),
        k_to_90=next(reached, None),
        learning=None,
        model_errors=_mean_of_each([run.training.model_errors for run in runs]),
        train_env_steps=float(np.mean([run.training.env_steps for run in runs])),
        metrics=scale.metrics(runs, seed),
        rank=rank,
        preliminary=len(runs) < RANKED_SEEDS,
    )


def _mean_of_each(values: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean of each name over the mappings that have it."""
    names = sorted({name for each in values for name in each})
    return {name: float(np.mean([each[name] for each in values if name in each])) for name in names}


def _gap(test: Array, ood: Array, seed: int) -> Estimate:
    """IQM at the last k on test tasks minus that on ood tasks; both splits of a seed are resampled together."""
    B = test.shape[1]
    last = np.concatenate([test[..., -1], ood[..., -1]], axis=1)  # (S, B + B')
    return _estimate(last, lambda rows: _pooled_iqm(rows[..., :B]) - _pooled_iqm(rows[..., B:]), seed)


def _estimate(rows: Array, statistic: Callable[[Array], Array], seed: int) -> Estimate:
    """A statistic, (R, S, ...) -> (R,), of one row per seed, (S, ...), with its interval over whole seeds."""
    low, high = seed_interval(rows, statistic, np.random.default_rng(seed))
    return Estimate(float(statistic(rows[None])[0]), low, high)


def _pooled_iqm(rows: Array) -> Array:
    """IQM over seeds and tasks together, (R, S, B) -> (R,)."""
    return iqm(rows.reshape(len(rows), -1))


def _mean(rows: Array) -> Array:
    """Mean over seeds, (R, S) -> (R,)."""
    return np.asarray(rows.mean(-1))


def _quotient(rows: Array) -> Array:
    """Sum over seeds of the numerator divided by that of the denominator, (R, S, 2) -> (R,); NaN if that is 0."""
    total, per = np.moveaxis(rows.sum(1), -1, 0)
    return np.asarray(np.divide(total, per, out=np.full_like(total, np.nan), where=per != 0))

"""Statistics of scores: pure functions of arrays. docs/evaluation.md says what each is used for."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student_t
from scipy.stats import ttest_ind_from_stats

Array = NDArray[np.float64]


def iqm(values: Array) -> Array:
    """Interquartile mean over the last axis, (..., n) -> (...): the mean of the middle half.

    The lowest and the highest floor(n / 4) values are dropped. This is the IQM of rliable (Agarwal et al. 2021,
    "Deep Reinforcement Learning at the Edge of the Statistical Precipice").
    """
    # The reference is scipy.stats.trim_mean(values, 0.25, axis=-1); a test compares them. It takes about eight
    # times as long on the resampled scores of `seed_interval`, where nearly all of the scoring time goes.
    n = values.shape[-1]
    middle = np.sort(values, axis=-1)[..., n // 4 : n - n // 4]
    return np.asarray(middle.mean(-1))


def cvar(values: Array, alpha: float = 0.05) -> Array:
    """Mean of the worst (lowest) share `alpha` over the last axis, (..., n) -> (...).

    The share is exact for every n: the value at its border counts with the fraction that falls inside. With at
    most 1 / alpha values the result is the minimum (Acerbi, Tasche 2002, "On the coherence of expected shortfall").
    """
    share = alpha * values.shape[-1]
    weights = np.clip(share - np.arange(values.shape[-1]), 0, 1)
    return np.asarray(np.sort(values, axis=-1) @ weights / share)


def area(y: Array, x: Array) -> Array:
    """Area under the piecewise linear curve y (..., K) over rising x (K,), divided by the length of x, (...).

    It is the mean height of the curve, in the unit of y. For one point it is the value of that point.
    """
    return np.asarray(y[..., 0] if len(x) == 1 else np.trapezoid(y, x, axis=-1) / (x[-1] - x[0]))


def common_steps(curves: Sequence[NDArray[np.int64]]) -> Array:
    """Where curves with points at these env steps, each (M_i,), are averaged: (M,).

    It goes from the latest first to the latest last point; between are those of the curve with the most points.
    """
    begin, end = max(steps[0] for steps in curves), max(steps[-1] for steps in curves)
    longest = max(curves, key=len)
    between = longest[(longest > begin) & (longest < end)]
    return np.unique(np.array([begin, *between, end], dtype=np.float64))


def resample(at: Array, x: Array, y: Array) -> Array:
    """Interpolates curves y (B, M), piecewise linear over log x (M,), at other points (M',): (B, M').

    Beyond its ends a curve is constant.
    """
    return np.stack([np.interp(_log(at), _log(x), curve) for curve in y])


def first_crossing(x: Array, y: Array, level: float) -> float | None:
    """The x at which a curve y (M,), piecewise linear over log x (M,), first reaches a level; None if it never does."""
    reached = np.flatnonzero(y >= level)
    if len(reached) == 0:
        return None
    after = int(reached[0])
    if after == 0:
        return float(x[0])
    here = slice(after - 1, after + 1)
    return float(np.exp(np.interp(level, y[here], _log(x[here]))))


def _log(x: Array) -> Array:
    return np.log(np.maximum(x, 1))  # 0 env steps are drawn as 1, because log 0 is undefined


def seed_interval(
    scores: Array,
    statistic: Callable[[Array], Array],
    rng: np.random.Generator,
    reps: int = 500,
    level: float = 0.95,
) -> tuple[float, float]:
    """Confidence interval of a statistic of S training seeds, by a bootstrap over whole seeds.

    One seed gives one trained agent, which is scored on every task. The scores of a seed are therefore correlated
    and are resampled together. The half-width is t((1 + level) / 2, S - 1) * SE * sqrt(S / (S - 1)), where SE is
    the standard deviation of the resampled statistic. For a mean this is Student's interval.

    Args:
        scores: (S, ...), one row per seed.
        statistic: maps R resampled sets of seeds at once, (R, S, ...) -> (R,).
        rng: draws the seeds.
        reps: number of resampled sets; the half-width has a relative error of about 1 / sqrt(2 reps).
        level: nominal probability that the interval covers the true value.

    Returns:
        The lower and the upper bound; NaN for fewer than two seeds, which have no spread.
    """
    S = len(scores)
    if S < 2:
        return math.nan, math.nan
    # In blocks of 125 sets, which fit the processor's cache.
    blocks = np.array_split(rng.integers(S, size=(reps, S)), math.ceil(reps / 125))
    resampled = np.concatenate([statistic(scores[rows]) for rows in blocks])
    error = resampled.std(ddof=1) * math.sqrt(S / (S - 1))
    value, half = float(statistic(scores[None])[0]), float(student_t.ppf((1 + level) / 2, S - 1) * error)
    return value - half, value + half


def welch(a: Array, b: Array) -> float:
    """Two-sided p-value of Welch's t-test that two groups of seeds, (S,) and (S',), have the same mean.

    The p-value is 1 if a group has one seed, because its spread is unknown, and if the means are equal up to
    rounding. It is 0 if the means differ and neither group has any spread.
    """
    mean_a, mean_b = float(a.mean()), float(b.mean())
    if min(len(a), len(b)) < 2 or math.isclose(mean_a, mean_b, rel_tol=1e-9, abs_tol=1e-12):
        return 1.0
    std_a, std_b = float(a.std(ddof=1)), float(b.std(ddof=1))
    if std_a == std_b == 0:
        return 0.0
    # From means and deviations: `ttest_ind` warns of lost precision where a group is constant.
    test = ttest_ind_from_stats(mean_a, std_a, len(a), mean_b, std_b, len(b), equal_var=False)
    return float(test.pvalue)


def holm(p_values: Sequence[float]) -> Array:
    """Holm's step-down adjustment of p-values for multiple tests, in the order given (Holm 1979)."""
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(stepped, 1)
    return adjusted


def rank_ranges(scores: Mapping[str, Array], alpha: float = 0.05) -> dict[str, tuple[int, int]]:
    """The (best, worst) rank of each agent that is consistent with its seeds' scores, (S,) each.

    An agent is better than another if its mean is higher and Welch's test is significant at `alpha` after Holm's
    adjustment over all pairs. The best rank is 1 plus the number of better agents; the worst is the number of
    agents minus the number of worse ones. (1, 1) is a clear winner; n indistinguishable agents are all (1, n).
    """
    pairs = list(combinations(scores, 2))
    p_values = holm([welch(scores[one], scores[other]) for one, other in pairs])
    ranks = {agent: (1, len(scores)) for agent in scores}
    for pair, p in zip(pairs, p_values, strict=True):
        if p < alpha:
            worse, better = sorted(pair, key=lambda agent: float(scores[agent].mean()))
            ranks[worse] = (ranks[worse][0] + 1, ranks[worse][1])
            ranks[better] = (ranks[better][0], ranks[better][1] - 1)
    return ranks

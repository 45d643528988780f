"""The statistics of a board: pure functions of arrays. docs/evaluation.md says what each is used for."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

Array = NDArray[np.float64]


def iqm(values: Array) -> Array:
    """Interquartile mean over the last axis, (..., n) -> (...): the mean of the middle half.

    The lowest and the highest quarter, each rounded down to whole values, are left out: this is
    `scipy.stats.trim_mean(values, 0.25)`, and so the IQM of rliable (Agarwal et al. 2021, "Deep Reinforcement
    Learning at the Edge of the Statistical Precipice").
    """
    n = values.shape[-1]
    middle = np.sort(values, axis=-1)[..., n // 4 : n - n // 4]
    return np.asarray(middle.mean(-1))


def cvar(values: Array, alpha: float = 0.05) -> Array:
    """Mean of the worst (lowest) share `alpha` over the last axis, (..., n) -> (...).

    The share is exact for every n: the value at its border counts with the fraction that falls inside, so
    up to 1 / alpha values give the minimum (Acerbi, Tasche 2002, "On the coherence of expected shortfall").
    """
    share = alpha * values.shape[-1]
    weights = np.clip(share - np.arange(values.shape[-1]), 0, 1)
    return np.asarray(np.sort(values, axis=-1) @ weights / share)


def area(y: Array, x: Array) -> Array:
    """Area under the piecewise linear curve y (..., K) over rising x (K,), divided by the length of x, (...).

    It is the mean height of the curve, in the unit of y. A curve of one point has the height of that point.
    """
    return np.asarray(y[..., 0] if len(x) == 1 else np.trapezoid(y, x, axis=-1) / (x[-1] - x[0]))


def resample(at: Array, x: Array, y: Array) -> Array:
    """Values of piecewise linear curves y (B, M) over log x (M,) at other points (M',), (B, M').

    Beyond its ends a curve keeps the value that it has there.
    """
    return np.stack([np.interp(_log(at), _log(x), curve) for curve in y])


def first_crossing(x: Array, y: Array, level: float) -> float | None:
    """Where the curve y (M,), piecewise linear over log x (M,), first reaches a level; None if it does nowhere."""
    reached = np.flatnonzero(y >= level)
    if len(reached) == 0:
        return None
    after = int(reached[0])
    if after == 0:
        return float(x[0])
    here = slice(after - 1, after + 1)
    return float(np.exp(np.interp(level, y[here], _log(x[here]))))


def _log(x: Array) -> Array:
    return np.log(np.maximum(x, 1))  # no steps count as one


def seed_interval(
    scores: Array,
    statistic: Callable[[Array], Array],
    rng: np.random.Generator,
    reps: int = 500,
    level: float = 0.95,
) -> tuple[float, float]:
    """The interval of a statistic of S training seeds, from a bootstrap that resamples whole seeds.

    One seed gives one agent that is scored on every task, so the tasks of a seed share its luck and are not
    resampled one by one. The half-width is t((1 + level) / 2, S - 1) * SE * sqrt(S / (S - 1)), where SE is
    the standard deviation of the resampled statistic; for a mean that is Student's interval.

    Args:
        scores: (S, ...), one row a seed.
        statistic: of many sets of rows at once, (R, S, ...) -> (R,).
        rng: draws the rows.
        reps: sets of rows drawn; the half-width has a relative error of about 1 / sqrt(2 reps).
        level: nominal probability that the interval covers the true value.

    Returns:
        The lower and the upper bound; NaN for fewer than two seeds, which say nothing about other seeds.
    """
    S = len(scores)
    if S < 2:
        return math.nan, math.nan
    # In blocks, because all sets together would not fit the processor's cache.
    blocks = np.array_split(rng.integers(S, size=(reps, S)), math.ceil(reps / 125))
    resampled = np.concatenate([statistic(scores[rows]) for rows in blocks])
    error = resampled.std(ddof=1) * math.sqrt(S / (S - 1))
    value, half = float(statistic(scores[None])[0]), float(student.ppf((1 + level) / 2, S - 1) * error)
    return value - half, value + half


def welch(a: Array, b: Array) -> float:
    """Two-sided p-value of Welch's t-test that two groups of seeds, (S,) and (S',), have the same mean.

    It is 1 where a group has one seed, because nothing is known of its spread, and where the means agree but
    for rounding; it is 0 where different means have no spread at all.
    """
    mean_a, mean_b = float(a.mean()), float(b.mean())
    if min(len(a), len(b)) < 2 or math.isclose(mean_a, mean_b, rel_tol=1e-9, abs_tol=1e-12):
        return 1.0
    square_a, square_b = float(a.var(ddof=1)) / len(a), float(b.var(ddof=1)) / len(b)
    square = square_a + square_b  # of the standard error of the difference
    if square == 0:
        return 0.0
    share = square_a / square
    freedom = 1 / (share**2 / (len(a) - 1) + (1 - share) ** 2 / (len(b) - 1))  # Welch-Satterthwaite
    return float(2 * student.sf(abs(mean_a - mean_b) / math.sqrt(square), freedom))


def holm(p_values: Sequence[float]) -> Array:
    """Holm's step-down adjustment of p-values for their number, in the order given (Holm 1979)."""
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(stepped, 1)
    return adjusted


def rank_ranges(scores: Mapping[str, Array], alpha: float = 0.05) -> dict[str, tuple[int, int]]:
    """The (best, worst) place of each agent that its seeds' scores, (S,) each, do not rule out.

    An agent is better than another if its mean is higher and Welch's test tells them apart at `alpha` after
    Holm's adjustment over all pairs. The best place leaves room for the agents that are better, the worst for
    those that are worse: (1, 1) is a clear winner, and n agents that nothing tells apart are all (1, n).
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

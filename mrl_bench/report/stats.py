"""Statistics of scores: pure functions of arrays. docs/evaluation.md says what each is used for."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit
from scipy.stats import t as student_t
from scipy.stats import ttest_ind_from_stats

Array = NDArray[np.float64]

LEAST_SEEDS = 3  # fewer say too little of their spread for an interval or a comparison


def iqm(values: Array) -> Array:
    """Interquartile mean over the last axis, (..., n) -> (...): the mean of the middle half.

    The lowest and the highest floor(n / 4) values are dropped. This is the IQM of rliable (Agarwal et al. 2021,
    "Deep Reinforcement Learning at the Edge of the Statistical Precipice").
    """
    # The reference is scipy.stats.trim_mean(values, 0.25, axis=-1); a test compares them. It takes about eight
    # times as long on the resampled scores of `seed_error`, where nearly all of the scoring time goes.
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


class Error(NamedTuple):
    """A standard error, and the degrees of freedom with which it is known; NaN below three seeds."""

    size: float
    degrees: int


def seed_error(
    scores: Array, statistic: Callable[[Array], Array], rng: np.random.Generator, reps: int = 500
) -> Error:
    """Standard error of a statistic of S training seeds, by a bootstrap over whole seeds.

    One seed gives one trained agent, which is scored on every task. The scores of a seed are therefore correlated
    and are resampled together. The error is the standard deviation of the resampled statistic times
    sqrt(S / (S - 1)); for a mean this is the usual standard error.

    Args:
        scores: (S, ...), one row per seed.
        statistic: maps R resampled sets of seeds at once, (R, S, ...) -> (R,).
        rng: draws the seeds.
        reps: number of resampled sets; the error has a relative error of about 1 / sqrt(2 reps).
    """
    S = len(scores)
    if S < LEAST_SEEDS:
        return Error(math.nan, S - 1)
    # In blocks of 125 sets, which fit the processor's cache.
    blocks = np.array_split(rng.integers(S, size=(reps, S)), math.ceil(reps / 125))
    resampled = np.concatenate([statistic(scores[rows]) for rows in blocks])
    return Error(float(resampled.std(ddof=1)) * math.sqrt(S / (S - 1)), S - 1)


def error_of_mean(values: Array) -> Error:
    """Standard error of the mean of S seeds, (S,)."""
    return _scaled_spread(values, 1 / math.sqrt(len(values)))


def error_of_best(values: Array) -> Error:
    """Standard error of the best of S seeds, (S,), as an estimate of the expected best of S seeds."""
    return _scaled_spread(values, _factor_of_maximum(len(values)))


def _scaled_spread(values: Array, factor: float) -> Error:
    S = len(values)
    return Error(float(values.std(ddof=1)) * factor if S >= LEAST_SEEDS else math.nan, S - 1)


@cache
def _factor_of_maximum(n: int, level: float = 0.95, draws: int = 200_000) -> float:
    """By how much the spread of n values has to be multiplied to give Student's interval of their maximum.

    That interval contains the expected maximum of n normal values with the probability `level`. The factor is larger
    than the standard deviation of the maximum, because maximum and spread of a sample depend on each other. It is the
    quantile of their ratio among random samples, divided by Student's.
    """
    if n < LEAST_SEEDS:
        return math.nan
    samples = np.random.default_rng(n).standard_normal((draws, n))
    best = samples.max(1)
    ratio = np.abs(best - best.mean()) / samples.std(1, ddof=1)
    return float(np.quantile(ratio, level) / student_t.ppf((1 + level) / 2, n - 1))


def interval(value: float, errors: Sequence[Error], level: float = 0.95) -> tuple[float, float]:
    """Student's confidence interval of a value with independent errors; NaN if one of them is unknown.

    The errors' squares add up. The degrees of freedom are those of Welch and Satterthwaite.
    """
    squares = np.array([error.size for error in errors]) ** 2
    variance = float(squares.sum())
    if math.isnan(variance):
        return math.nan, math.nan
    if variance == 0:
        return value, value
    degrees = variance**2 / sum(square**2 / e.degrees for square, e in zip(squares, errors, strict=True))
    half = float(student_t.ppf((1 + level) / 2, degrees)) * math.sqrt(variance)
    return value - half, value + half


def half_width(scores: Array, level: float = 0.95) -> Array:
    """Half of Student's interval of the mean over S seeds, (S, ...) -> (...); NaN below three seeds."""
    S = len(scores)
    if S < LEAST_SEEDS:
        return np.full(scores.shape[1:], math.nan)
    # scipy.special's quantile, because that of scipy.stats takes a hundred times as long.
    return np.asarray(stdtrit(S - 1, (1 + level) / 2) * scores.std(0, ddof=1) / math.sqrt(S))


def same_mean(a: Array, b: Array, paired: bool) -> float:
    """Two-sided p-value of a t-test that two agents' scores, (S,) and (S',), have the same mean over seeds.

    It is the test of the differences if entries of the same index are of the same seed, and Welch's otherwise. The
    p-value is 1 if an agent has fewer than three seeds, because its spread is unknown, and if the means are equal up
    to rounding. It is 0 if the means differ and there is no spread.
    """
    mean_a, mean_b = float(a.mean()), float(b.mean())
    if min(len(a), len(b)) < LEAST_SEEDS or math.isclose(mean_a, mean_b, rel_tol=1e-9, abs_tol=1e-12):
        return 1.0
    if paired:
        difference = a - b
        constant = np.ptp(difference) <= 1e-9 * abs(mean_a - mean_b)
        if constant:
            return 0.0
        # As scipy.stats.ttest_1samp, which takes fifty times as long.
        t = abs(float(difference.mean())) * math.sqrt(len(a)) / float(difference.std(ddof=1))
        return float(2 * stdtr(len(a) - 1, -t))
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

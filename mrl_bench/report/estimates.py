"""Statistics of seeds and tasks as estimates with intervals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf

import numpy as np

from mrl_bench.report.scores import Estimate
from mrl_bench.report.stats import Array, Error, cvar, interval, iqm

Statistic = Callable[[Array], Array]  # of resampled sets of seeds: (R, S, ...) -> (R,)


def pooled_iqm(rows: Array) -> Array:
    """IQM over seeds and tasks together, (R, S, B) -> (R,)."""
    return iqm(rows.reshape(len(rows), -1))


def pooled_mean(rows: Array) -> Array:
    """Mean over seeds and tasks together, (R, S, ...) -> (R,)."""
    return np.asarray(rows.reshape(len(rows), -1).mean(-1))


def mean_cvar(rows: Array) -> Array:
    """Mean over seeds of the worst 5 % of tasks, (R, S, B) -> (R,)."""
    return np.asarray(cvar(rows).mean(-1))


def quotient(rows: Array) -> Array:
    """Sum over seeds of the numerator divided by that of the denominator, (R, S, 2) -> (R,); NaN if that is 0."""
    total, per = np.moveaxis(rows.sum(1), -1, 0)
    return np.asarray(np.divide(total, per, out=np.full_like(total, np.nan), where=per != 0))


def estimate(value: float, errors: Sequence[Error], least: float = -inf, most: float = inf) -> Estimate:
    """A value with the interval of its errors, cut at the least and the greatest possible value."""
    low, high = np.clip(interval(value, errors), least, most)
    # The value may itself be out of bounds, by rounding.
    return Estimate(value, float(np.minimum(low, value)), float(np.maximum(high, value)))

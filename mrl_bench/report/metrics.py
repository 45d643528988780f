"""The family's metrics: quotients of sums over seeds, tasks and episodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf

import numpy as np
from numpy.typing import NDArray

from mrl_bench.report.estimates import estimate, quotient
from mrl_bench.report.scores import Estimate
from mrl_bench.report.stats import Array, seed_error
from mrl_bench.types import Ratio


@dataclass(frozen=True)
class Metric:
    """One reported metric on one split.

    What failed has the measurements of random, because it is not known whether more is better.
    """

    ratio: Ratio
    random: Mapping[str, Array]  # measurement -> (B,) mean over the episodes of random
    seed: int  # of the interval's generator

    def parts(self, measured: Mapping[str, Array]) -> Array:
        """Numerator and denominator of measurements (...), (..., 2)."""
        numerator = measured[self.ratio.metric]
        denominator = np.ones_like(numerator) if self.ratio.per is None else measured[self.ratio.per]
        return np.stack([numerator, denominator], axis=-1)

    def counted(self, measured: Mapping[str, Array], failed: NDArray[np.bool_]) -> Array:
        """Numerator and denominator, (B, P, 2), mean over the episodes of measurements (B, P, N)."""
        mean = self.parts(measured).mean(-2)
        return np.where(failed[..., None], self.parts(self.random)[:, None], mean)

    def over_seeds(self, counted: Sequence[Array | None], points: int) -> tuple[Estimate, ...]:
        """The metric at each of P points, from what counts of each run; None for a failed run."""
        random = np.repeat(self.parts(self.random)[:, None], points, axis=1)
        sums = np.stack([random if each is None else each for each in counted]).sum(1)  # (S, P, 2)
        return tuple(self._estimate(point) for point in np.moveaxis(sums, 1, 0))

    def _estimate(self, sums: Array) -> Estimate:
        value = float(quotient(sums[None])[0])
        error = seed_error(sums, quotient, np.random.default_rng(self.seed))
        low, high = self.ratio.low, self.ratio.high
        return estimate(value, [error], -inf if low is None else low, inf if high is None else high)

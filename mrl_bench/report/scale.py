"""The scale of scores on one split: random at 0, oracle at 1, how well both are known, and what failures count."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import inf, isnan, nan

import numpy as np
from numpy.typing import NDArray

from mrl_bench.errors import UsageError
from mrl_bench.report.estimates import Statistic, estimate, pooled_iqm, pooled_mean
from mrl_bench.report.metrics import Metric
from mrl_bench.report.scores import Estimate
from mrl_bench.report.stats import Array, Error, error_of_best, error_of_mean, seed_error
from mrl_bench.results import REFERENCE_AGENTS
from mrl_bench.scenario.references import ReferenceReturns, References

SPAN_FLOOR = 0.1  # least span oracle - random of a task, as a share of the split's mean span

# Derivatives of a number with respect to the mean returns of random, blind and oracle, times the mean span.
Gradient = tuple[float, float, float]
OWN_RETURN: Mapping[str, Gradient] = {"random": (1, 0, 0), "blind": (0, 1, 0), "oracle": (0, 0, 1)}


def of_score(score: float) -> Gradient:
    """The gradient of a score (return - random) / (oracle - random), where the return is given."""
    return (score - 1, 0, -score)


def of_difference(difference: float) -> Gradient:
    """The gradient of a difference between two scores."""
    return (difference, 0, -difference)


def of_lead(lead: float) -> Gradient:
    """The gradient of a score minus the score of blind."""
    return (lead, -1, -lead)


def of_headroom(headroom: float) -> Gradient:
    """The gradient of (oracle - blind) / (oracle - random)."""
    return (headroom, -1, 1 - headroom)


@dataclass(frozen=True)
class Reference:
    """A reference agent on one split."""

    returns: Array  # (B,) mean return: of the best seed, or over the seeds of random
    error: Error  # of its mean over tasks
    metrics: Mapping[str, Array]  # measurement of the family -> (B,), of the same seeds

    @staticmethod
    def of(name: str, found: ReferenceReturns) -> Reference:
        by_seed = found.returns.mean(1)
        if name == "random":
            metrics = {metric: values.mean(0) for metric, values in found.metrics.items()}
            return Reference(found.returns.mean(0), error_of_mean(by_seed), metrics)
        metrics = {metric: values[found.best] for metric, values in found.metrics.items()}
        return Reference(found.returns[found.best], error_of_best(by_seed), metrics)


@dataclass(frozen=True)
class Scale:
    """Turns the returns of one split into scores and estimates. B tasks."""

    agents: Mapping[str, Reference]  # random, blind, oracle
    metrics: Mapping[str, Metric]
    return_range: tuple[float, float]  # least and greatest possible return
    seed: int  # of the generators, one for each interval

    @staticmethod
    def of(references: References, split: str, return_range: tuple[float, float], seed: int) -> Scale:
        """Raises UsageError if a reference agent was not evaluated on the split."""
        agents = {}
        for name in REFERENCE_AGENTS:
            splits = references.agents[name].splits if name in references.agents else {}
            if split not in splits:
                scenario = references.scenario
                raise UsageError(f"{scenario}: no scores without the reference agent {name!r} on {split}")
            agents[name] = Reference.of(name, splits[split])
        random = agents["random"].metrics
        metrics = {name: Metric(ratio, random, seed) for name, ratio in references.reported.items()}
        return Scale(agents, metrics, return_range, seed)

    @property
    def tasks(self) -> int:
        return len(self._random)

    @property
    def _random(self) -> Array:
        return self.agents["random"].returns

    @cached_property
    def mean_span(self) -> float:
        """How far the oracle's mean return is above random's."""
        return float((self.agents["oracle"].returns - self._random).mean())

    def scores(self, returns: Array) -> Array:
        """(return - random) / (oracle - random) of returns (..., B, P).

        The span of a task has a floor, because dividing by a span near 0, or below, only amplifies noise. If the
        oracle's mean over tasks is not above random's, all scores are 0.
        """
        if self.mean_span <= 0:
            return np.zeros_like(returns)
        span = np.maximum(self.agents["oracle"].returns - self._random, SPAN_FLOOR * self.mean_span)
        scores: Array = (returns - self._random[:, None]) / span[:, None]
        return scores

    def counted(self, returns: Array, failed: NDArray[np.bool_]) -> Array:
        """The returns that count, (..., B, P): the means over the episodes of returns (..., B, P, N).

        A return that is not finite counts as 0. Where there is one, or an episode failed, the mean is at most
        random's.
        """
        finite = np.isfinite(returns)
        mean = np.where(finite, returns, 0.0).mean(-1)
        failed = failed | ~finite.all(-1)
        return np.asarray(np.where(failed, np.minimum(mean, self._random[:, None]), mean))

    def over_seeds(self, counted: Sequence[Array | None], points: int) -> Array:
        """The returns of all seeds, (S, B, P): where a run failed (None), the least of random's and the others'."""
        random = np.repeat(self._random[:, None], points, axis=1)
        worst = np.minimum.reduce([random, *(each for each in counted if each is not None)])
        return np.stack([worst if each is None else each for each in counted])

    def mean_return(self, returns: Array) -> Estimate:
        """Mean of returns (S, B) over seeds and tasks."""
        error = seed_error(returns, pooled_mean, self.generator())
        return estimate(float(returns.mean()), [error], *self.return_range)

    def score(self, scores: Array, statistic: Statistic) -> Estimate:
        """A statistic, rising in each of its arguments, of scores (S, B)."""
        return self._estimate(scores, statistic, of_score, self._possible)

    def difference(self, differences: Array) -> Estimate:
        """IQM of differences between two scores, (S, B)."""
        low, high = self._possible
        return self._estimate(differences, pooled_iqm, of_difference, (low - high, high - low))

    def lead_over_blind(self, scores: Array) -> Estimate:
        """IQM of scores (S, B) minus those of blind on the same tasks."""
        leads = scores - self._reference_scores("blind")
        return self._estimate(leads, pooled_iqm, of_lead, self._possible_leads)

    @property
    def headroom(self) -> Estimate:
        """(oracle - blind) / (oracle - random); NaN if the oracle is not above random."""
        if self.mean_span <= 0:
            return Estimate(nan)
        oracle, blind = (float(self.agents[name].returns.mean()) for name in ("oracle", "blind"))
        value = (oracle - blind) / self.mean_span
        low, high = ((oracle - bound) / self.mean_span for bound in reversed(self.return_range))  # of blind
        return estimate(value, self._errors(of_headroom(value)), low, high)

    def reference_return(self, name: str) -> Estimate:
        """Mean return of a reference agent over tasks."""
        agent = self.agents[name]
        return estimate(float(agent.returns.mean()), [agent.error], *self.return_range)

    def reference_score(self, name: str, statistic: Statistic) -> Estimate:
        """A statistic of a reference agent's scores."""
        value = float(statistic(self._reference_scores(name)[None, None])[0])
        bounds = _bounds(self._possible, statistic)
        return self._reference_estimate(name, value, of_score(value), bounds)

    def reference_lead(self, name: str) -> Estimate:
        """IQM of a reference agent's scores minus those of blind."""
        lead = self._reference_scores(name) - self._reference_scores("blind")
        value = float(pooled_iqm(lead[None, None])[0])
        return self._reference_estimate(
            name, value, of_lead(value), _bounds(self._possible_leads, pooled_iqm)
        )

    def _reference_estimate(
        self, name: str, value: float, gradient: Gradient, possible: tuple[float, float]
    ) -> Estimate:
        """An estimate that depends on the scale, and on the return of the agent that it is about."""
        random, blind, oracle = (sum(pair) for pair in zip(gradient, OWN_RETURN[name], strict=True))
        return estimate(value, self._errors((random, blind, oracle)), *possible)

    def _reference_scores(self, name: str) -> Array:
        """(B,)"""
        return self.scores(self.agents[name].returns[:, None])[:, 0]

    @cached_property
    def _possible(self) -> tuple[Array, Array]:
        """The scores of the least and of the greatest possible return on each task, (B,) each."""
        low, high = (self.scores(np.full((self.tasks, 1), bound))[:, 0] for bound in self.return_range)
        return low, high

    @property
    def _possible_leads(self) -> tuple[Array, Array]:
        """The same of scores minus those of blind, (B,) each."""
        low, high = (bound - self._reference_scores("blind") for bound in self._possible)
        return low, high

    def _estimate(
        self,
        cells: Array,
        statistic: Statistic,
        gradient: Callable[[float], Gradient],
        possible: tuple[Array, Array],
    ) -> Estimate:
        """A statistic of cells (S, B), each of which lies between two bounds, (B,) each."""
        value = float(statistic(cells[None])[0])
        errors = [seed_error(cells, statistic, self.generator()), *self.known_errors(gradient(value))]
        return estimate(value, errors, *_bounds(possible, statistic))

    def known_errors(self, gradient: Gradient) -> list[Error]:
        """The errors of a number through the reference agents that have the three seeds it takes to know them."""
        return [error for error in self._errors(gradient) if not isnan(error.size)]

    def _errors(self, gradient: Gradient) -> list[Error]:
        """The errors of a number through the reference agents' returns."""
        if self.mean_span <= 0:  # scores are 0 by definition
            return []
        return [
            Error(abs(slope) * agent.error.size / self.mean_span, agent.error.degrees)
            for slope, agent in zip(gradient, self.agents.values(), strict=True)
            if slope != 0
        ]

    def generator(self) -> np.random.Generator:
        return np.random.default_rng(self.seed)


def _bounds(possible: tuple[Array, Array], statistic: Statistic) -> tuple[float, float]:
    """A rising statistic of the least and of the greatest values that are possible on each task, (B,) each."""
    least, most = (
        float(statistic(bound[None, None])[0]) if np.isfinite(bound).all() else unbounded
        for bound, unbounded in zip(possible, (-inf, inf), strict=True)
    )
    return least, most

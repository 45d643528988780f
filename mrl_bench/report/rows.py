"""The row of one agent on one split: from its runs, or from the returns of a reference agent."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from math import gcd, nan

import numpy as np
from numpy.typing import NDArray

from mrl_bench.report.estimates import mean_cvar, pooled_iqm, pooled_mean, quotient
from mrl_bench.report.metrics import Metric
from mrl_bench.report.scale import Scale
from mrl_bench.report.scores import LEARNED, NEAR_ORACLE, RANKED_SEEDS, Estimate, Learning, OnlineScores, Row
from mrl_bench.report.stats import Array, area, common_steps, first_crossing, resample
from mrl_bench.results import Curve, Evaluation, LearningCurve
from mrl_bench.scenario.references import ReferenceAgent


@dataclass(frozen=True)
class AgentRuns:
    """The runs of one agent on one split: S seeds, B tasks, K points."""

    scale: Scale
    split: str
    k: tuple[int, ...]  # (K,)
    runs: Sequence[Evaluation]  # (S,) in the order of their seeds

    def of_curves(self, count: Callable[[Curve], Array]) -> list[Array | None]:
        """What counts of the curve of each run; None if the run failed."""
        curves = (run.curves.get(self.split) for run in self.runs)
        return [None if curve is None else count(curve) for curve in curves]

    @property
    def finished(self) -> list[Evaluation]:
        return [run for run in self.runs if run.error is None]

    @cached_property
    def returns(self) -> Array:
        """The return of each cell that counts, (S, B, K)."""
        curves = self._finished_curves
        return self._over_seeds(
            [curve.returns for curve in curves], [curve.failed for curve in curves], len(self.k)
        )

    @cached_property
    def scores(self) -> Array:
        """The score of each cell, (S, B, K)."""
        return self.scale.scores(self.returns)

    def row(self, learning: Learning | None, rank: tuple[int, int]) -> Row:
        scale, scores = self.scale, self.scores
        curves = [run.curves[self.split] for run in self.finished]
        points = np.moveaxis(scores, -1, 0)
        headline = tuple(scale.score(point, pooled_iqm) for point in points)
        return Row(
            agent=self.runs[0].agent,
            is_reference=False,
            seeds=len(self.runs),
            failed_runs=len(self.runs) - len(curves),
            failed_episodes=int(sum(curve.failed.sum() for curve in curves)),
            k=self.k,
            env_steps=tuple(self.env_steps.tolist()),
            returns=tuple(scale.mean_return(point) for point in np.moveaxis(self.returns, -1, 0)),
            scores=headline,
            means=tuple(scale.score(point, pooled_mean) for point in points),
            task_scores=scores.mean(0),
            gain=scale.difference(scores[..., -1] - scores[..., 0]),
            zero_shot=scale.lead_over_blind(scores[..., 0]),
            area=scale.score(area(scores, np.asarray(self.k, dtype=np.float64)), pooled_iqm),
            cvar=scale.score(scores[..., -1], mean_cvar),
            k_to_90=_k_to_90(self.k, headline),
            learning=learning,
            online=self._online() if self.k[-1] else None,
            model_errors=_mean_of_each([run.training.model_errors for run in self.runs]),
            train_env_steps=float(np.mean([run.training.env_steps for run in self.finished] or [0])),
            metrics=self._metrics(),
            rank=rank,
            preliminary=len(self.runs) < RANKED_SEEDS,
        )

    def _metrics(self) -> dict[str, tuple[Estimate, ...]]:
        return {
            name: metric.over_seeds(self.of_curves(partial(_counted, metric)), len(self.k))
            for name, metric in self.scale.metrics.items()
        }

    @cached_property
    def online_scores(self) -> Array:
        """The score of each adaptation episode, (S, B, M)."""
        played = [curve.online for curve in self._finished_curves]
        returns = [each.returns[..., None] for each in played]
        return self.scale.scores(self._over_seeds(returns, [each.failed for each in played], self.k[-1]))

    @property
    def _finished_curves(self) -> list[Curve]:
        return [run.curves[self.split] for run in self.finished]

    def _over_seeds(
        self, returns: Sequence[Array], failed: Sequence[NDArray[np.int64]], points: int
    ) -> Array:
        """The returns of all seeds that count, (S, B, P).

        Args:
            returns: of the finished runs, (B, P, N) each.
            failed: failed episodes of these runs, (B, P) each.
            points: P.
        """
        counted = iter(self.scale.counted(np.stack(returns), np.stack(failed) > 0) if returns else ())
        return self.scale.over_seeds(
            [next(counted) if run.error is None else None for run in self.runs], points
        )

    @property
    def worst_online(self) -> float:
        """The least score of an adaptation episode of a finished run; NaN if there is none."""
        finished = self.online_scores[[run.error is None for run in self.runs]]
        return float(finished.min()) if finished.size else nan

    @property
    def env_steps(self) -> Array:
        """Env steps of adaptation before each point, (K,), mean over tasks and finished seeds; 0 if none finished."""
        steps = [run.curves[self.split].env_steps for run in self.finished]
        return np.asarray(np.mean(steps or [np.zeros((1, len(self.k)))], axis=(0, 1)))

    def _online(self) -> OnlineScores:
        scale, episodes, scores = self.scale, self.k[-1], self.online_scores
        size = gcd(*self.k)  # of the largest bins such that each k ends one
        bins = scores.reshape(*scores.shape[:2], -1, size).mean(-1)
        return OnlineScores(
            k=tuple(range(size, episodes + 1, size)),
            scores=tuple(scale.score(one, pooled_mean) for one in np.moveaxis(bins, -1, 0)),
            worst=self.worst_online,
            metrics={
                name: metric.over_seeds(self.of_curves(partial(_counted_online, metric)), 1)[0]
                for name, metric in scale.metrics.items()
            },
        )

    def learning(self) -> Learning | None:
        """The learning curve over all seeds, on this split's tasks; None if no seed has one."""
        curves = [run.training.learning_curve for run in self.runs]
        recorded = [curve for curve in curves if curve]
        if not recorded:
            return None
        at = common_steps([curve.env_steps for curve in recorded])
        returns = [None if curve is None else self._resampled(at, curve) for curve in curves]
        scores = self.scale.scores(self.scale.over_seeds(returns, len(at)))
        estimates = tuple(self.scale.score(point, pooled_iqm) for point in np.moveaxis(scores, -1, 0))
        reached = first_crossing(at, np.array([e.value for e in estimates]), LEARNED)
        return Learning(recorded[0].k, tuple(at.tolist()), estimates, reached)

    def _resampled(self, at: Array, curve: LearningCurve) -> Array:
        """The returns of a learning curve at other env steps (M,), (B, M)."""
        counted = self.scale.counted(curve.returns[..., None], curve.failed > 0)
        return resample(at, curve.env_steps.astype(np.float64), counted)


def reference_row(scale: Scale, name: str, trained: ReferenceAgent, k: tuple[int, ...]) -> Row:
    """The row of a reference agent. It does not adapt, so it is the same at every k."""
    agent, points = scale.agents[name], len(k)
    score = scale.reference_score(name, pooled_iqm)
    metrics = {
        metric: Estimate(float(quotient(declared.parts(agent.metrics)[None])[0]))
        for metric, declared in scale.metrics.items()
    }
    return Row(
        agent=name,
        is_reference=True,
        seeds=len(trained.seeds),
        failed_runs=0,
        failed_episodes=0,
        k=k,
        env_steps=(0.0,) * points,
        returns=(scale.reference_return(name),) * points,
        scores=(score,) * points,
        means=(scale.reference_score(name, pooled_mean),) * points,
        task_scores=np.repeat(scale.scores(agent.returns[:, None]), points, axis=1),
        gain=Estimate(0.0, 0.0, 0.0),
        zero_shot=scale.reference_lead(name),
        area=score,
        cvar=scale.reference_score(name, mean_cvar),
        k_to_90=_k_to_90(k, (score,) * points),
        learning=None,
        online=None,
        model_errors={},
        train_env_steps=float(trained.env_steps),
        metrics={metric: (value,) * points for metric, value in metrics.items()},
        rank=None,
        preliminary=False,
    )


def _counted(metric: Metric, curve: Curve) -> Array:
    return metric.counted(curve.metrics, curve.failed > 0)


def _counted_online(metric: Metric, curve: Curve) -> Array:
    """Numerator and denominator over the adaptation episodes, (B, 1, 2)."""
    measured = {name: values[..., None] for name, values in curve.online.metrics.items()}
    return np.asarray(metric.counted(measured, curve.online.failed > 0).mean(1, keepdims=True))


def _k_to_90(k: Sequence[int], scores: Sequence[Estimate]) -> int | None:
    return next((n for n, score in zip(k, scores, strict=True) if score.value >= NEAR_ORACLE), None)


def _mean_of_each(values: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean of each name over the mappings that have it."""
    names = sorted({name for each in values for name in each})
    return {name: float(np.mean([each[name] for each in values if name in each])) for name in names}

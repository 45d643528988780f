"""Where the submissions on a suite stand: on each scenario, on each family of scenarios, and overall; at every k.

Scores, intervals, places and verdicts are those of `leaderboard/standing.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mrl_bench.leaderboard.site.reading import KnownSuite, Shown
from mrl_bench.leaderboard.standing import OVERALL, Verdict, places, pooled, verdicts
from mrl_bench.leaderboard.submission import SPLITS
from mrl_bench.report.ranks import Contender
from mrl_bench.report.scores import Estimate
from mrl_bench.report.stats import Array, half_width

Kind = Literal["overall", "family", "scenario"]


@dataclass(frozen=True)
class Target:
    """What a ranking is about."""

    name: str
    kind: Kind
    scenarios: tuple[str, ...]


@dataclass(frozen=True)
class Ranking:
    """The n submissions on a suite, in their order there, on one target and split; at P points of k."""

    points: tuple[str, ...]  # (P,) k of each point, or "last" where that differs by scenario
    k: tuple[int, ...]  # (P,) where to draw the points
    scores: Array  # (n, P) mean over seeds
    half_widths: Array  # (n, P) of the 95 % intervals; NaN below three seeds
    best: NDArray[np.int64]  # (n, P) best place that the interval allows
    worst: NDArray[np.int64]  # (n, P)
    verdicts: tuple[
        Mapping[str, Verdict], ...
    ]  # (n,) at the last k: agent of the ladder -> how the entry stands

    @property
    def order(self) -> list[int]:
        """The submissions from the highest score at the last k to the lowest."""
        return [int(entry) for entry in np.argsort(-self.scores[:, -1], kind="stable")]

    def estimate(self, entry: int, point: int = -1) -> Estimate:
        score, half = self.scores[entry, point], self.half_widths[entry, point]
        return Estimate(float(score), float(score - half), float(score + half))

    def place(self, entry: int, point: int = -1) -> tuple[int, int]:
        return int(self.best[entry, point]), int(self.worst[entry, point])


@dataclass(frozen=True)
class SuiteRanking:
    """All rankings of a suite."""

    suite: KnownSuite
    shown: Sequence[Shown]
    ladder: Sequence[int]  # places in `shown`

    @cached_property
    def targets(self) -> tuple[Target, ...]:
        """Overall first, then the families if there are several, then the scenarios."""
        families: dict[str, list[str]] = {}
        for name, scenario in self.suite.scenarios.items():
            families.setdefault(scenario.family_name, []).append(name)
        found = [Target(OVERALL, "overall", tuple(self.suite.scenarios))]
        if len(families) > 1:
            found += [Target(name, "family", tuple(scenarios)) for name, scenarios in families.items()]
        return (*found, *(Target(name, "scenario", (name,)) for name in self.suite.scenarios))

    @cached_property
    def rankings(self) -> dict[tuple[str, str], Ranking]:
        """(name of a target, split) -> ranking, where one of the target's scenarios has the split."""
        return dict(self._rankings())

    @property
    def splits(self) -> list[str]:
        """Those that any scenario has."""
        return [split for split in SPLITS if (OVERALL, split) in self.rankings]

    def _rankings(self) -> Iterator[tuple[tuple[str, str], Ranking]]:
        for target in self.targets:
            for split in SPLITS:
                if parts := [name for name in target.scenarios if (name, split) in self.suite.scales]:
                    yield (target.name, split), self._ranking(parts, split)

    def _ranking(self, parts: Sequence[str], split: str) -> Ranking:
        first = self.shown[0].played
        all_k = [first[name, split].k for name in parts]
        points, k, columns = common_points(all_k)
        scores, half_widths, contenders = [], [], list[Contender]()
        for one in self.shown:
            played = [one.played[name, split] for name in parts]
            by_seed = np.mean(
                [each.by_seed[:, columns[i]] for i, each in enumerate(played)], axis=0
            )  # (S, P)
            scores.append(by_seed.mean(0))
            half_widths.append(half_width(by_seed))
            contenders.append(pooled([each.contender for each in played]))
        means, halves = np.array(scores), np.array(half_widths)
        both = [places(means[:, point], halves[:, point]) for point in range(len(points))]
        return Ranking(
            points=points,
            k=k,
            scores=means,
            half_widths=halves,
            best=np.stack([best for best, _ in both], axis=1),
            worst=np.stack([worst for _, worst in both], axis=1),
            verdicts=tuple(self._verdicts(contenders)),
        )

    def _verdicts(self, contenders: Sequence[Contender]) -> Iterator[Mapping[str, Verdict]]:
        names = [self.shown[rung].submission.agent.name for rung in self.ladder]
        for place, one in enumerate(contenders):
            others = {
                name: contenders[rung] for name, rung in zip(names, self.ladder, strict=True) if rung != place
            }
            yield verdicts(one, others) if others else {}


def common_points(
    all_k: Sequence[tuple[int, ...]],
) -> tuple[tuple[str, ...], tuple[int, ...], list[list[int]]]:
    """The points at which scenarios with these k can be averaged: the k that all have, and their last ones.

    Returns:
        Labels (P,); k at which to draw them (P,), the largest where it differs; for each scenario, which of its points
        they are (P,).
    """
    shared = sorted(set.intersection(*map(set, all_k)))
    ends = {k[-1] for k in all_k}
    if len(ends) == 1:
        return tuple(map(str, shared)), tuple(shared), [[k.index(each) for each in shared] for k in all_k]
    shared = [each for each in shared if each < min(ends)]
    columns = [[*(k.index(each) for each in shared), len(k) - 1] for k in all_k]
    return (*map(str, shared), "last"), (*shared, max(ends)), columns

"""A part of a plan, for job arrays: `--shard 2/8` is the second of eight."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mrl_bench.runs.run import Run


@dataclass(frozen=True)
class Shard:
    """One of `count` parts, which have no run in common and together are the plan."""

    number: int  # from 1
    count: int

    def part(self, runs: Sequence[Run], weights: Mapping[str, float]) -> list[Run]:
        """The runs of this part, in the order of the plan.

        The heaviest run first, each goes to the part with the least work so far: with equal weights in turn. Nothing
        else decides, so that all parts agree whenever and wherever they start.

        Args:
            runs: the plan.
            weights: label -> expected cost.
        """
        work = [0.0] * self.count
        chosen = set[str]()
        for run in sorted(runs, key=lambda run: -weights[run.label]):
            least = work.index(min(work))
            work[least] += weights[run.label]
            if least == self.number - 1:
                chosen.add(run.label)
        return [run for run in runs if run.label in chosen]

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

"""Tasks that nobody could know when an agent was submitted, and whether it earns as much on them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mrl_bench.leaderboard.submission import SPLITS
from mrl_bench.report.stats import holm, same_mean

if TYPE_CHECKING:
    from mrl_bench.scenario import Scenario

ALPHA = 0.05  # share of honest submissions that are refused, at most


def fresh_tasks(scenario: Scenario, seed: int) -> Scenario:
    """The scenario with as many test and ood tasks, drawn from the same distributions with another seed."""
    splits = {
        name: replace(split, seed=seed) if name in SPLITS else split
        for name, split in scenario.splits.items()
    }
    return replace(scenario, splits=splits)


def overfitted(
    claimed: Mapping[str, NDArray[np.float64]], fresh: Mapping[str, NDArray[np.float64]]
) -> dict[str, float]:
    """Where an agent earns more on the published tasks than on fresh ones, beyond chance.

    A one-sided Welch test of the tasks' mean returns, with Holm's correction over all comparisons, so that an honest
    agent is refused with a probability of `ALPHA` at most.

    Args:
        claimed: name of a scenario and split -> mean return on each published task, (B,).
        fresh: the same on fresh tasks, (B',).

    Returns:
        Name -> by how much the mean return is lower on fresh tasks.
    """
    names = sorted(claimed)
    p_values = []
    for name in names:
        two_sided = same_mean(claimed[name], fresh[name], paired=False)
        p_values.append(two_sided / 2 if claimed[name].mean() > fresh[name].mean() else 1 - two_sided / 2)
    adjusted = holm(p_values)
    return {
        name: float(claimed[name].mean() - fresh[name].mean())
        for name, p in zip(names, adjusted, strict=True)
        if p < ALPHA
    }

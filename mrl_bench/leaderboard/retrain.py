"""Level 4: an agent is meta-trained again with one of its seeds, and must earn what its seeds let expect."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t

from mrl_bench.report.stats import holm

if TYPE_CHECKING:
    from mrl_bench.scenario import Scenario

Array = NDArray[np.float64]
ALPHA = 0.05  # share of honest submissions that are refused, at most


def train_again(agent: Any, scenario: Scenario, budget: int, seed: int) -> int:
    """Meta-trains an agent as a run does; returns the env steps that it used."""
    import torch

    from mrl_bench.protocol.training import BudgetedTraining, meta_train

    training = BudgetedTraining(
        scenario, budget=budget, seed=seed, device=torch.device("cpu"), log=lambda values, step: None
    )
    meta_train(agent, training)
    return training.steps


def short_of_claims(claimed: Mapping[str, Array], again: Mapping[str, float]) -> dict[str, float]:
    """Where a run that was trained again scores less than the submitted seeds let expect.

    A seed's score lies within the prediction interval of the others: mean -/+ t sqrt(1 + 1/S) deviation, Student's t
    with S - 1 degrees of freedom, one-sided, with Holm's correction over all comparisons.

    Args:
        claimed: name of a scenario and split -> scores of the S seeds, (S,); at least `LEAST_SEEDS`.
        again: the same -> the score of the run that was trained again.

    Returns:
        Name -> by how much it scores less than the mean of the seeds.
    """
    names, p_values = sorted(claimed), []
    for name in names:
        scores, less = claimed[name], float(claimed[name].mean() - again[name])
        spread = float(scores.std(ddof=1)) * np.sqrt(1 + 1 / len(scores))
        if spread == 0:
            p_values.append(0.0 if less > 0 else 1.0)
        else:
            p_values.append(float(t.sf(less / spread, len(scores) - 1)))
    adjusted = holm(p_values)
    return {
        name: float(claimed[name].mean() - again[name])
        for name, p in zip(names, adjusted, strict=True)
        if p < ALPHA
    }

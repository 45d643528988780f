"""The scores as CSV: one row for each scenario, split, agent and k. docs/running.md describes the columns."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from io import StringIO
from math import isfinite
from typing import Any

from mrl_bench.report.formatting import ordered
from mrl_bench.report.scores import Estimate, Row, ScenarioScores

Cells = Mapping[str, Any]


def scores_csv(all_scores: Sequence[ScenarioScores]) -> str:
    """The table with a header. What is unknown or not finite is empty."""
    rows = [
        {"scenario": scores.scenario, "digest": scores.digest, "split": split.split, **cells}
        for scores in all_scores
        for split in scores.splits.values()
        for row in ordered(split.rows)
        for cells in _points(row)
    ]
    text = StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _points(row: Row) -> Iterator[Cells]:
    best, worst = row.rank or ("", "")
    whole = {
        "train_env_steps": row.train_env_steps,
        "seeds": row.seeds,
        "failed_runs": row.failed_runs,
        "failed_episodes": row.failed_episodes,
        "best_rank": best,
        "worst_rank": worst,
    }
    for i, k in enumerate(row.k):
        yield {
            "agent": row.agent,
            "k": k,
            "env_steps": row.env_steps[i],
            **_estimate("score", row.scores[i]),
            **_estimate("mean", row.means[i]),
            **_estimate("return", row.returns[i]),
            **whole,
        }


def _estimate(name: str, estimate: Estimate) -> Cells:
    values = {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
    return {column: value if isfinite(value) else "" for column, value in values.items()}

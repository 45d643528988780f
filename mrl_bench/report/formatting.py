"""Values as text, the same in every report. A value that is unknown or not finite is a dash."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import isfinite
from textwrap import shorten

from mrl_bench.errors import printable as printable
from mrl_bench.report.scores import ABOVE_ORACLE, Estimate, Row, ScenarioScores, SplitScores
from mrl_bench.results import Video
from mrl_bench.runs.cost import duration

DASH = "\N{EN DASH}"


def score(value: float) -> str:
    return _fixed(value, 2)


def moved(share: float | None) -> str:
    """By how much a doubled budget moved a return, finer than the bound of a certificate (0.03)."""
    return DASH if share is None else _fixed(share, 3)


def number(value: float) -> str:
    """Three digits, or the whole integer part: 0.12, 12.3, 123, 1234."""
    return _fixed(value, 0 if abs(value) >= 99.95 else 1 if abs(value) >= 9.995 else 2)


def significant(value: float) -> str:
    """Three significant digits: 0.0123, 1.23e-05."""
    return f"{value:.3g}" if isfinite(value) else DASH


def percent(value: float) -> str:
    """A score, clipped to [0, 1], as the length of a bar."""
    return f"{100 * min(max(value, 0), 1):.0f}%" if isfinite(value) else "0%"


def _fixed(value: float, digits: int) -> str:
    # -0.001 rounds to -0.0; adding 0.0 drops the sign.
    return f"{round(value, digits) + 0.0:.{digits}f}" if isfinite(value) else DASH


def plus_minus(estimate: Estimate, show: Callable[[float], str] = score) -> str:
    """A value and how far its interval reaches: 0.80 ±0.10, or 0.98 -0.05 +0.02. Only the value without interval."""
    value, below, above = (
        show(x) for x in (estimate.value, estimate.value - estimate.low, estimate.high - estimate.value)
    )
    if DASH in (below, above):
        return value
    return f"{value} ±{above}" if below == above else f"{value} -{below} +{above}"


def interval(estimate: Estimate, show: Callable[[float], str] = score) -> str:
    """[low, high]; empty where it is unknown, with fewer than three seeds."""
    low, high = show(estimate.low), show(estimate.high)
    return "" if DASH in (low, high) else f"[{low}, {high}]"


def count(value: float) -> str:
    """A number of steps, with at least two digits: 950, 1.2k, 15k, 2M."""
    if not isfinite(value):
        return DASH
    if abs(value) < 999.5:
        return f"{value:.0f}"
    scale, unit = next((s, u) for s, u in ((1e9, "G"), (1e6, "M"), (1e3, "k")) if abs(value) >= 0.9995 * s)
    scaled = value / scale
    return f"{scaled:.1f}".removesuffix(".0") + unit if abs(scaled) < 9.95 else f"{scaled:.0f}{unit}"


def train_time(seconds: float | None) -> str:
    """A duration; a dash where none was measured."""
    return DASH if seconds is None or not isfinite(seconds) else duration(seconds)


def steps_to_60(row: Row) -> str:
    """Env steps of meta-training to a score of 0.6; a dash if it is not reached or there is no learning curve."""
    reached = row.learning.steps_to_60 if row.learning else None
    return DASH if reached is None else count(reached)


def learning_k(split: SplitScores) -> int | None:
    """The k of the split's learning curves; None if no agent has one."""
    return next((row.learning.k for row in split.rows if row.learning), None)


def model_errors(rows: Sequence[Row]) -> list[tuple[str, str, str]]:
    """(agent, error, value) of everything logged under "model/"."""
    return [
        (printable(row.agent), printable(error), significant(value))
        for row in ordered(rows)
        for error, value in row.model_errors.items()
    ]


def video_caption(video: Video) -> str:
    """A sentence that says what a video shows."""
    before, after = map(number, video.returns)
    task = printable(shorten(video.task, 300))
    return (
        f"{printable(video.agent)}, seed {video.seed}, on the first test task ({task}): "
        f"return {before} before adaptation, {after} after {video.episodes} adaptation episodes"
    )


def metric_names(split: SplitScores) -> list[str]:
    """Names of the family's metrics, in its order; all rows of a split share them."""
    return list(split.rows[0].metrics)


def rank(row: Row) -> str:
    """The range of ranks: 1, or 2-4. Reference agents have none."""
    if row.rank is None:
        return DASH
    best, worst = row.rank
    return str(best) if best == worst else f"{best}-{worst}"


def failed(rows: Sequence[Row]) -> str:
    """How many seeds and episodes of these rows failed; empty if none."""
    seeds, episodes = sum(row.failed_runs for row in rows), sum(row.failed_episodes for row in rows)
    return ", ".join(counted(n, noun) for n, noun in ((seeds, "seed"), (episodes, "episode")) if n)


def counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number > 1)}"


def seeds(row: Row) -> str:
    """How many seeds there are, and how many of them failed."""
    return f"{row.seeds}, {row.failed_runs} failed" if row.failed_runs else str(row.seeds)


def headroom(split: SplitScores) -> str:
    """The headroom with its interval, and what is wrong with the scale."""
    parts = ["headroom", score(split.headroom.value), interval(split.headroom)]
    value = " ".join(part for part in parts if part)
    if split.diagnosis is None:
        return value
    return f"{value}: {split.diagnosis}{', scores are not meaningful' if split.flagged else ''}"


def warnings(scenario_scores: ScenarioScores, split: SplitScores) -> list[str]:
    """What to know before believing the scores of a split."""
    found = [headroom(split)] if split.diagnosis else []
    found += scenario_scores.doubts
    rows = ordered(split.rows)
    found += [f"{printable(row.agent)} is {ABOVE_ORACLE}" for row in rows if row.above_oracle]
    return found + [f"{printable(row.agent)}: {sentence}" for row in rows for sentence in _failures(row)]


def _failures(row: Row) -> list[str]:
    """What failed, and how it is scored."""
    kinds = (
        ("seed", row.failed_runs, "a failed seed"),
        ("episode", row.failed_episodes, "a cell with a failed episode"),
    )
    return [
        f"{counted(number, noun)} failed; {what} scores no better than random"
        for noun, number, what in kinds
        if number
    ]


def points(split: SplitScores) -> tuple[int, ...]:
    """k at each point of the curves, (K,); all rows of a split share them."""
    return split.rows[0].k


def headline_points(split: SplitScores) -> list[int]:
    """Indices of the points to show of a curve: before adaptation, after the first round, and the last."""
    last = len(points(split)) - 1
    return sorted({0, min(1, last), last})


def end_points(split: SplitScores) -> list[int]:
    """Indices of the first and the last point: before and after adaptation."""
    return sorted({0, len(points(split)) - 1})


def ordered(rows: Sequence[Row]) -> list[Row]:
    """Agents from best to worst at the last k, those with failed runs last; then the reference agents likewise."""
    return sorted(
        rows, key=lambda row: (row.is_reference, row.failed_share, -row.scores[-1].value, row.agent)
    )


def leaders(split: SplitScores) -> list[Row]:
    """The agents whose best possible rank is 1: no other is significantly better."""
    return [row for row in ordered(split.rows) if row.rank is not None and row.rank[0] == 1]

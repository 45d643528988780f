"""Verification of a submission, level by level. A level that does not hold raises `Refused`.

    0 intact        the files are those that were submitted, and the claimed scores follow from the returns
    1 replayed      the recorded actions earn the recorded rewards, and these add up to the returns

Neither runs any of the submitter's code.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import isclose
from pathlib import Path
from typing import Any

from mrl_bench.leaderboard.entry import Entry
from mrl_bench.leaderboard.submission import DIVISIONS, Refused, claims_of
from mrl_bench.results import REFERENCE_AGENTS

LEVELS = ("intact", "replayed")


def verify(
    folder: Path,
    level: int = len(LEVELS) - 1,
    suite: str | Path | None = None,
    report: Callable[[int, str], None] = lambda level, text: None,
) -> Entry:
    """Verifies the levels 0 to `level`.

    Args:
        folder: of the submission.
        level: the highest one.
        suite: id or file of its suite; by default the id that it names.
        report: is told of every level that holds, and what was checked.

    Raises:
        Refused: a level does not hold.
    """
    entry = Entry.load(folder, suite)
    _require_intact(entry)
    submission = entry.submission
    report(0, f"{len(submission.files)} files, scores of {len(submission.runs)} runs recomputed")
    if level >= 1:
        report(1, f"{_replay(entry)} episodes played again from their actions")
    return entry


def _require_intact(entry: Entry) -> None:
    submission, agent = entry.submission, entry.submission.agent
    if agent.name in REFERENCE_AGENTS:
        raise Refused(f"{agent.name} is the name of a reference agent")
    if agent.division not in DIVISIONS:
        raise Refused(f"{agent.division!r} is no division: {', '.join(DIVISIONS)}")
    if submission.claims.keys() != entry.scenarios.keys():
        raise Refused("it claims scores on other scenarios than those of its suite")
    for name, scores in entry.scores.items():
        if not _same(submission.claims[name], claims_of(scores, agent.name)):
            raise Refused(f"the claimed scores on {name} do not follow from its returns")


def _replay(entry: Entry) -> int:
    """Plays the recorded actions. Returns the number of episodes."""
    import torch

    from mrl_bench.protocol.recorded import from_bytes, replay

    count = 0
    for run in entry.submission.runs:
        curves = entry.evaluations[run.name].curves
        if run.error is not None:
            continue
        try:
            episodes = from_bytes(entry.file(run.path("episodes")))
        except ValueError as error:
            raise Refused(f"the episodes of {run.name} cannot be read: {error}") from None
        if missing := sorted(curves.keys() - episodes.keys()):
            raise Refused(f"{run.name} has no recorded episodes on {missing[0]}")
        for split, curve in curves.items():
            scenario = entry.scenarios[run.scenario]
            if wrong := replay(scenario, split, curve, episodes[split], torch.device("cpu")):
                raise Refused(f"{run.name}: {wrong[0]}")
            count += episodes[split].length.size
    return count


def _same(one: Any, other: Any) -> bool:
    """Whether two trees of numbers are equal, up to the rounding of another machine."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, Sequence) and isinstance(other, Sequence) and not isinstance(one, str):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, float) and isinstance(other, float):
        return isclose(one, other, rel_tol=1e-9, abs_tol=1e-9)
    return bool(one == other)

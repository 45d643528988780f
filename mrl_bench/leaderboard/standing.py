"""How the entries of a leaderboard stand to a fixed ladder of agents, and to each other.

Whether an entry beats an agent of the ladder depends on these two and the rest of the ladder, never on other entries:
so fifty copies of a weak agent change nobody's verdict. Its place among all entries is a range, by its own interval.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mrl_bench.leaderboard.entry import Entry
from mrl_bench.leaderboard.folder import Leaderboard
from mrl_bench.leaderboard.submission import Refused, read_submission
from mrl_bench.report.ranks import EQUAL_STEPS, Contender
from mrl_bench.report.stats import Array, holm
from mrl_bench.scenario.suite import Suite

Verdict = Literal["beats", "level", "below"]
VERDICTS: tuple[Verdict, ...] = ("beats", "level", "below")
OVERALL = "overall"  # the mean of an entry's scores on all scenarios of its suite
ALPHA = 0.05


@dataclass(frozen=True)
class Standing:
    """One entry on one scenario, or overall, on one split at the last k."""

    score: float  # mean over seeds of their IQM
    low: float  # 95 % interval; NaN below three seeds
    high: float
    places: tuple[int, int]  # best and worst place among all entries that its interval allows
    verdicts: Mapping[str, Verdict]  # agent of the ladder -> how the entry stands to it


def entries_on(leaderboard: Leaderboard, suite: Suite) -> tuple[dict[str, Entry], dict[str, str]]:
    """The submissions on a suite by id; and why others on it are not comparable, such as those of an older version."""
    entries, left_out = dict[str, Entry](), dict[str, str]()
    for each in leaderboard.kept():
        folder = leaderboard.submission_folder(each.id)
        submission = read_submission(folder)
        if submission.suite != suite.id:
            continue
        try:
            entry = Entry.of(folder, submission, suite.path)
            for name in entry.scenarios:
                entry.references(name)
            entries[each.id] = entry
        except Refused as why:
            left_out[each.id] = str(why)
    return entries, left_out


def contenders(entry: Entry, split: str) -> dict[str, Contender]:
    """An entry on each scenario that has the split, and overall."""
    found = {
        name: entry.contender(name, split)
        for name, scenario in entry.scenarios.items()
        if split in scenario.splits
    }
    if found:
        found[OVERALL] = pooled(list(found.values()))
    return found


def pooled(each: Sequence[Contender]) -> Contender:
    """One agent over several scenarios: the mean of its scores, seed by seed."""
    return Contender(
        seeds=each[0].seeds,
        scores=np.mean([one.scores for one in each], axis=0),
        failed_share=float(np.mean([one.failed_share for one in each])),
        env_steps=float(sum(one.env_steps for one in each)),
    )


def places(means: Array, half_widths: Array) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The best and the worst place that each entry's own interval allows, (n,) each.

    Args:
        means: (n,) scores.
        half_widths: (n,) of their intervals; NaN where there is none.
    """
    half, rising = np.where(np.isnan(half_widths), 0.0, half_widths), np.sort(means)
    above = len(means) - np.searchsorted(rising, means + half, side="right")
    not_below = len(means) - np.searchsorted(rising, means - half, side="left")
    return 1 + above, not_below  # the entry itself is not below its own interval


def verdicts(one: Contender, ladder: Mapping[str, Contender]) -> dict[str, Verdict]:
    """How an agent stands to each agent of a ladder.

    It beats one if its share of failed seeds is smaller; or if the shares are equal, its mean score is higher, a test
    (see `Contender.compare`) says so at `ALPHA` after Holm's correction over the ladder, and it used no more env steps.
    It is below one that beats it in this sense.
    """
    p_values = holm([one.compare(other) for other in ladder.values()])
    found: dict[str, Verdict] = {}
    for (name, other), p in zip(ladder.items(), p_values, strict=True):
        if one.failed_share != other.failed_share:
            found[name] = "beats" if one.failed_share < other.failed_share else "below"
            continue
        better, worse = (one, other) if one.mean > other.mean else (other, one)
        decided = p < ALPHA and better.env_steps <= EQUAL_STEPS * worse.env_steps
        found[name] = ("beats" if better is one else "below") if decided else "level"
    return found


def standings(
    entries: Mapping[str, Entry], ladder: Sequence[str], split: str = "test"
) -> dict[str, dict[str, Standing]]:
    """Where every entry stands.

    Args:
        entries: of one suite, by id.
        ladder: ids of those that all are compared with.
        split: "test" or "ood".

    Returns:
        Scenario, or `OVERALL` -> id -> standing, from the highest score to the lowest.
    """
    found = {id: contenders(entry, split) for id, entry in entries.items()}
    names = dict.fromkeys(name for each in found.values() for name in each)
    return {
        name: _on_one({id: each[name] for id, each in found.items() if name in each}, entries, ladder)
        for name in names
    }


def _on_one(
    all_of_them: Mapping[str, Contender], entries: Mapping[str, Entry], ladder: Sequence[str]
) -> dict[str, Standing]:
    means = {id: one.mean for id, one in all_of_them.items()}
    half_widths = {id: one.half_width for id, one in all_of_them.items()}
    both = places(np.array(list(means.values())), np.array(list(half_widths.values())))
    ranges = {id: (int(best), int(worst)) for id, best, worst in zip(means, *both, strict=True)}
    steps = {entries[id].submission.agent.name: all_of_them[id] for id in ladder if id in all_of_them}
    found = {}
    for id in sorted(means, key=lambda id: (-means[id], id)):
        one, own = all_of_them[id], entries[id].submission.agent.name if id in ladder else None
        found[id] = Standing(
            score=means[id],
            low=means[id] - half_widths[id],
            high=means[id] + half_widths[id],
            places=ranges[id],
            verdicts=verdicts(one, {name: other for name, other in steps.items() if name != own}),
        )
    return found

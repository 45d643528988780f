"""How submissions stand, as tables in a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Console

from mrl_bench.leaderboard.entry import Entry
from mrl_bench.leaderboard.standing import VERDICTS, standings
from mrl_bench.report.formatting import DASH, plus_minus
from mrl_bench.report.scores import Estimate
from mrl_bench.report.table import WrappedTable

_SHOWN = ("beats", "level with", "below")  # in the order of VERDICTS


def print_standings(entries: Mapping[str, Entry], ladder: Sequence[str], split: str) -> None:
    """Prints a table for each scenario, and one over all.

    Args:
        entries: by id.
        ladder: ids of those that all are compared with.
        split: "test" or "ood".
    """
    for name, standing in standings(entries, ladder, split).items():
        headers = ["agent", "score", "seeds", *_SHOWN]
        table = WrappedTable(f"{name}, {split}", "place", headers, ["agent", *_SHOWN])
        for id, each in standing.items():
            submission, (first, last) = entries[id].submission, each.places
            agents = (
                ", ".join(agent for agent, found in each.verdicts.items() if found == verdict)
                for verdict in VERDICTS
            )
            estimate = plus_minus(Estimate(each.score, each.low, each.high))
            cells = [submission.agent.name, estimate, str(submission.seeds)]
            table.add(
                str(first) if first == last else f"{first}-{last}", cells + [text or DASH for text in agents]
            )
        Console().print(table)

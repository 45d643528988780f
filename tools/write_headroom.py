"""Writes the table of `docs/headroom.md` from the references that ship.

A developer tool. Run it from the root of the repository: `python -m tools.write_headroom`
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from math import inf
from pathlib import Path

from mrl_bench.report.formatting import DASH, count, interval, moved, score
from mrl_bench.report.scale import Scale
from mrl_bench.report.scores import HEADROOM_FLOOR, Estimate
from mrl_bench.scenario import find_scenario, list_scenarios
from mrl_bench.scenario.references import References, shipped_references

PAGE = Path(__file__).parents[1] / "docs" / "headroom.md"
_BEGIN, _END = "<!-- written by tools/write_headroom.py -->\n", "<!-- end -->\n"
_HEADS = (
    "scenario", "needs adaptation", "headroom, test", "headroom, ood", "seeds", "env steps of blind, oracle",
    "moved blind, oracle", "certified",
)  # fmt: skip


def with_table(page: str) -> str:
    """The page with the table of the references that ship now."""
    before, rest = page.split(_BEGIN)
    after = rest.split(_END)[1]
    found = {name: shipped_references(find_scenario(name)) for name in list_scenarios()}
    rows = [_line(_HEADS), _line(["---"] * len(_HEADS))]
    rows += [_line(_row(name, references)) for name, references in found.items() if references]
    rows += [_line([f"`{name}`", "provisional"]) for name, references in found.items() if references is None]
    return before + _BEGIN + "".join(rows) + _END + after


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |\n"


def _row(name: str, references: References) -> list[str]:
    cells = [f"`{name}`", *_headroom(references)]
    blind, oracle = (references.agents[agent] for agent in ("blind", "oracle"))
    cells += [str(len(oracle.seeds)), f"{count(blind.env_steps)}, {count(oracle.env_steps)}"]
    cells += [", ".join(moved(references.moved(agent)) for agent in ("blind", "oracle"))]
    return [*cells, "yes" if references.certified else "no"]


def _headroom(references: References) -> Iterator[str]:
    """Whether test tasks need adaptation, and the headroom of test and ood."""
    splits = references.agents["oracle"].splits
    found = {split: Scale.of(references, split, (-inf, inf), seed=0).headroom for split in splits}
    yield _verdict(found["test"])
    for split in ("test", "ood"):
        yield f"{score(found[split].value)} {interval(found[split])}" if split in found else DASH


def _verdict(headroom: Estimate) -> str:
    if headroom.low >= HEADROOM_FLOOR:
        return "yes"
    return "no" if headroom.high < HEADROOM_FLOOR else "uncertain"


if __name__ == "__main__":
    PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8")), encoding="utf-8")

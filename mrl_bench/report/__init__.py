"""Boards as people read them: a table for the terminal, figures for a paper, one page for the browser.

Each form is a module of its own, so that a table costs no matplotlib. Reports show what `scores.py` computed,
and compute nothing themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from mrl_bench.results import Video


@dataclass(frozen=True)
class RunInfo:
    """What a report says of the run that made the boards. All but `suite` may be unknown, and left out."""

    suite: str  # suite id
    doc: str = ""  # what the suite is for
    created: str | None = None  # None where two reports of the same results must not differ
    commit: str = ""  # git commit of the code
    device: str = ""
    machine: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)  # package or simulator -> version
    # (scenario, agent) -> measured training time, mean over seeds
    seconds: Mapping[tuple[str, str], float] = field(default_factory=dict)
    docs: Mapping[str, str] = field(default_factory=dict)  # scenario -> what it asks of an agent
    films: Mapping[str, Video] = field(
        default_factory=dict
    )  # scenario -> one task before and after adaptation

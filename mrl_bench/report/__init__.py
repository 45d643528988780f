"""Reports of a bench: a table for the terminal, figures for a paper and one HTML page for the browser.

`scoring.py` computes every number, and `scores.py` says what they are. Each form has a module, so that printing a table
does not import matplotlib.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from mrl_bench.report.setup import Setup
from mrl_bench.results import Video


@dataclass(frozen=True)
class BenchInfo:
    """Facts about a bench that a report shows. Only `suite` is required; empty facts are not shown."""

    suite: str  # suite id
    doc: str = ""  # what the suite is for
    created: str | None = None  # None where two reports of the same results must be identical
    commit: str = ""  # git commit of the code
    device: str = ""
    machine: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)  # package or simulator -> version
    # (scenario, agent) -> measured training time [s], mean over seeds
    seconds: Mapping[tuple[str, str], float] = field(default_factory=dict)
    setups: Mapping[str, Setup] = field(default_factory=dict)  # digest of a scenario -> what was run on it
    videos: Mapping[str, Video] = field(default_factory=dict)  # scenario -> a task before and after adapting

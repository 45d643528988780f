"""The style of every figure: agents' colours, markers and dashes, and matplotlib's settings."""

from __future__ import annotations

import warnings
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

from matplotlib import style

from mrl_bench.report.scores import ScenarioScores

# Eight colours that can be told apart with deuteranopia and protanopia (simulated CIELAB distance of at least 15),
# with a contrast of at least 3 on white. Beyond eight agents, markers and dashes differ too.
COLOURS = ("#3A9BDC", "#882255", "#CC79A7", "#332288", "#0072B2", "#D55E00", "#117733", "#009E73")
MARKERS = ("o", "s", "^", "D", "v")
DASHES = ((1, 0), (4, 1.5), (1.5, 1.5))  # solid, dashed, dotted
REFERENCE_DASHES: Mapping[str, tuple[float, ...]] = {
    "oracle": (5, 2),
    "blind": (5, 2, 1, 2),
    "random": (1, 2),
}

INK, QUIET, GRID, ALARM = "#1a1a1a", "#6b7280", "#e5e7eb", "#b42318"
FONT = 8.0  # points
STYLE = {
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "mrl-bench",
    "font.family": "DejaVu Sans",  # comes with matplotlib, so that the layout is the same on every machine
    "font.size": FONT,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.titlesize": FONT + 1,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 8,
    "axes.edgecolor": QUIET,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.major.size": 2.5,
    "xtick.major.width": 0.6,
    "ytick.major.size": 0,
    "lines.linewidth": 1.5,
    "lines.markersize": 3.6,
    "savefig.dpi": 200,
}


class AgentStyle(NamedTuple):
    """How an agent is drawn in every figure."""

    colour: str
    marker: str
    dashes: tuple[float, ...]


def agent_styles(all_scores: Iterable[ScenarioScores]) -> dict[str, AgentStyle]:
    """The style of each agent. Its name picks the colour, so that reports agree; if it is taken, the next free one."""
    rows = (
        row
        for scenario_scores in all_scores
        for split in scenario_scores.splits.values()
        for row in split.rows
    )
    found: dict[str, AgentStyle] = {}
    free: set[str] = set()
    for place, name in enumerate(sorted({row.agent for row in rows if not row.is_reference})):
        free = free or set(COLOURS)
        wanted = zlib.crc32(name.encode()) % len(COLOURS)
        colour = next(colour for colour in COLOURS[wanted:] + COLOURS[:wanted] if colour in free)
        free.remove(colour)
        lap = place // len(COLOURS)
        found[name] = AgentStyle(colour, MARKERS[lap % len(MARKERS)], DASHES[lap % len(DASHES)])
    return found


@contextmanager
def drawing() -> Iterator[None]:
    """matplotlib's defaults plus our style; the user's matplotlibrc is ignored."""
    with style.context(["default", STYLE]), warnings.catch_warnings():
        # The layout font may lack the script of an agent's name; the viewer substitutes a font that has it.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield

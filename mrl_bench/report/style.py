"""How agents are drawn in every figure: their colours and markers, and matplotlib's style."""

from __future__ import annotations

import warnings
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

from matplotlib import style

from mrl_bench.report.scores import ScenarioScores

# Eight colours that stay apart under deuteranopia and protanopia (CIELAB distance of 15 or more in
# simulation), with a contrast of 3 or more on white. Past eight agents, markers and dashes tell them apart.
COLOURS = ("#3A9BDC", "#882255", "#CC79A7", "#332288", "#0072B2", "#D55E00", "#117733", "#009E73")
MARKERS = ("o", "s", "^", "D", "v")
DASHES = ((1, 0), (4, 1.5), (1.5, 1.5))  # of a line: whole, dashed, dotted
ANCHOR_DASHES: Mapping[str, tuple[float, ...]] = {"oracle": (5, 2), "blind": (5, 2, 1, 2), "random": (1, 2)}

INK, QUIET, GRID, ALARM = "#1a1a1a", "#6b7280", "#e5e7eb", "#b42318"
FONT = 8.0  # points
STYLE = {
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "mrl-bench",
    "font.family": "DejaVu Sans",  # what the layout is computed with, on every machine
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
    """How an agent is drawn, wherever it is."""

    colour: str
    marker: str
    dashes: tuple[float, ...]


def agent_styles(boards: Iterable[ScenarioScores]) -> dict[str, AgentStyle]:
    """How each agent is drawn. Its name decides, so that reports agree, unless another has that colour."""
    rows = (row for board in boards for split in board.splits.values() for row in split.rows)
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
    """matplotlib as it comes, plus our style, whatever the user's matplotlibrc says."""
    with style.context(["default", STYLE]), warnings.catch_warnings():
        # A name may be in a script that the layout font lacks: the reader's viewer has a font that shows it.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield

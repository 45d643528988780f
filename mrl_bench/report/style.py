"""The style of every figure: agents' colours, markers and dashes, and matplotlib's settings."""

from __future__ import annotations

import warnings
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

from matplotlib import style
from matplotlib.colors import to_hex, to_rgb

from mrl_bench.report.scores import ScenarioScores


class Shade(NamedTuple):
    """A colour on light paper and on dark paper, "#rrggbb". Figures are drawn with the light one."""

    light: str
    dark: str


# The colours of the page and of its figures, by their names as CSS variables.
PAGE_SHADES: Mapping[str, Shade] = {
    "ink": Shade("#1a1a1a", "#e8eaed"),
    "quiet": Shade("#5b6472", "#a1a9b5"),
    "line": Shade("#e2e5ea", "#30363f"),
    "paper": Shade("#ffffff", "#14171b"),
    "link": Shade("#0b5cad", "#7ab8f5"),
    "bad": Shade("#b42318", "#ff9c92"),
    "bad-paper": Shade("#fef3f2", "#351b19"),
}
INK, QUIET, GRID, PAPER, ALARM = (
    PAGE_SHADES[name].light for name in ("ink", "quiet", "line", "paper", "bad")
)

# Eight colours that can be told apart with normal vision, deuteranopia and protanopia, on either paper. Each has a
# marker, so that curves can be told apart in black and white too.
AGENT_SHADES = (
    Shade("#3a9bdc", "#9ee3f2"),
    Shade("#882255", "#ca64b4"),
    Shade("#cc79a7", "#d07594"),
    Shade("#332288", "#7b79f7"),
    Shade("#0072b2", "#3dbcf9"),
    Shade("#d55e00", "#efb128"),
    Shade("#117733", "#56f482"),
    Shade("#009e73", "#77eebd"),
)
MARKERS = ("v", "D", "P", "X", "o", "^", "s", "*")
SHIPPED = {"maml": 4, "maml-mbml": 5, "mbml": 6, "dqn": 2}  # agent -> its place in AGENT_SHADES
DASHES = ((1, 0), (4, 1.5), (1.5, 1.5))  # solid, dashed, dotted: with more than eight agents, or sixteen
REFERENCE_DASHES: Mapping[str, tuple[float, ...]] = {
    "oracle": (5, 2),
    "blind": (5, 2, 1, 2),
    "random": (1, 2),
}

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
    "pdf.fonttype": 42,  # TrueType: text stays text, and journals accept it
}


class AgentStyle(NamedTuple):
    """How an agent is drawn in every figure."""

    colour: str
    text_colour: str  # darker: small letters need more contrast than lines
    marker: str
    dashes: tuple[float, ...]


def agent_styles(all_scores: Iterable[ScenarioScores]) -> dict[str, AgentStyle]:
    """The style of each agent. Agents that ship with mrl-bench have fixed ones.

    The name of any other agent picks one of the remaining colours, so that reports agree; if it is taken, the next
    free one.
    """
    rows = (
        row
        for scenario_scores in all_scores
        for split in scenario_scores.splits.values()
        for row in split.rows
    )
    names = {row.agent for row in rows if not row.is_reference}
    found: dict[str, AgentStyle] = {}
    uses = [0] * len(AGENT_SHADES)
    for name in sorted(names, key=lambda name: (name not in SHIPPED, name)):
        place = min(
            _preferences(name), key=lambda place: uses[place]
        )  # the first of those with the fewest uses
        shade, dashes = AGENT_SHADES[place], DASHES[uses[place] % len(DASHES)]
        found[name] = AgentStyle(shade.light, text_shade(shade).light, MARKERS[place], dashes)
        uses[place] += 1
    return found


def _preferences(name: str) -> list[int]:
    """Places in AGENT_SHADES, the wanted ones first."""
    if name in SHIPPED:
        return [SHIPPED[name]]
    others = [place for place in range(len(AGENT_SHADES)) if place not in SHIPPED.values()]
    first = zlib.crc32(name.encode()) % len(others)
    return [*others[first:], *others[:first], *SHIPPED.values()]


def text_shade(shade: Shade) -> Shade:
    """The shade of an agent's name."""
    red, green, blue = to_rgb(shade.light)
    return Shade(to_hex((0.7 * red, 0.7 * green, 0.7 * blue)), shade.dark)


def css_shades() -> dict[str, Shade]:
    """Every colour of the page by the name of its CSS variable."""
    agents = {f"agent-{place}": shade for place, shade in enumerate(AGENT_SHADES)}
    texts = {f"{name}-text": text_shade(shade) for name, shade in agents.items()}
    return {**PAGE_SHADES, **agents, **texts}


@contextmanager
def drawing() -> Iterator[None]:
    """matplotlib's defaults plus our style; the user's matplotlibrc is ignored."""
    with style.context(["default", STYLE]), warnings.catch_warnings():
        # The layout font may lack the script of an agent's name; the viewer substitutes a font that has it.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield

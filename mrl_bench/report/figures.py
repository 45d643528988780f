"""Adaptation curves and the spread over tasks, as figures for a paper and as SVG to put inside a page.

A panel is one pair of axes: normalised scores, raw returns, or the score of every task. A figure file holds
all three side by side; a page takes each as an SVG of its own, so that they stack on a small screen. The same
boards give the same bytes: no dates, no random ids, and text is laid out with matplotlib's own font.
"""

from __future__ import annotations

import warnings
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import BytesIO
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from numpy.typing import NDArray

from mrl_bench.files import write_atomically
from mrl_bench.report import svg
from mrl_bench.report.text import count, headroom, number, ordered, points, printable, score
from mrl_bench.scores import Estimate, Row, ScenarioBoard, SplitBoard

Array = NDArray[np.float64]

# Eight colours that stay apart under deuteranopia and protanopia (CIELAB distance of 15 or more in
# simulation), with a contrast of 3 or more on white. Past eight agents, markers tell them apart.
COLOURS = ("#3A9BDC", "#882255", "#CC79A7", "#332288", "#0072B2", "#D55E00", "#117733", "#009E73")
MARKERS = ("o", "s", "^", "D", "v")
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

# Inches. A panel is about as wide as a phone shows it, so that its text is of the same size there.
WIDTH, TOP, BOTTOM, LEFT, PLOT = 3.7, 0.34, 0.46, 0.46, 2.0
TITLE_HEIGHT = 0.4
LETTER = 0.58 * FONT / 72  # width of a letter, on average
LINE = 1.25 * FONT / 72  # height of a line of text

# Scores beyond are drawn at the edge: one agent that diverged must not flatten the others.
SCORE_VIEW = (-1.0, 2.0)


class Look(NamedTuple):
    """How an agent is drawn, wherever it is."""

    colour: str
    marker: str


class Panel(NamedTuple):
    name: str
    draw: Callable[[Figure, int, SplitBoard, Mapping[str, Look]], None]
    describe: Callable[[SplitBoard], str]


def looks(boards: Iterable[ScenarioBoard]) -> dict[str, Look]:
    """How each agent is drawn. Its name decides, so that reports agree, unless another has that colour."""
    rows = (row for board in boards for split in board.splits.values() for row in split.rows)
    found: dict[str, Look] = {}
    free: set[str] = set()
    for place, name in enumerate(sorted({row.agent for row in rows if not row.anchor})):
        free = free or set(COLOURS)
        wanted = zlib.crc32(name.encode()) % len(COLOURS)
        colour = next(colour for colour in COLOURS[wanted:] + COLOURS[:wanted] if colour in free)
        free.remove(colour)
        found[name] = Look(colour, MARKERS[place // len(COLOURS) % len(MARKERS)])
    return found


def write_figures(boards: Sequence[ScenarioBoard], folder: Path) -> list[Path]:
    """Writes `curves-<scenario>-<split>` of every board and split, as .svg and as .png."""
    paths = []
    look_of = looks(boards)
    for board in boards:
        for split in board.splits.values():
            name = f"curves-{board.scenario}-{split.split}"
            with _drawing():
                figure = _figure(board, split, look_of)
                title = f"{printable(board.scenario)}, {split.split}"
                label = " ".join([title, *(panel.describe(split) for panel in PANELS)])
                forms = {".svg": svg.document(figure, name, label), ".png": _png(figure)}
            for suffix, data in forms.items():
                paths.append(folder / (name + suffix))
                write_atomically(paths[-1], data)
    return paths


def inline_svg(panel: Panel, split: SplitBoard, look_of: Mapping[str, Look], prefix: str) -> str:
    """One panel as an `<svg>` element; `prefix` keeps its ids apart from those of other SVGs in the page."""
    with _drawing():
        figure = Figure(figsize=(WIDTH, _height(split)))
        panel.draw(figure, 0, split, look_of)
        return svg.element(figure, prefix, panel.describe(split))


def _figure(board: ScenarioBoard, split: SplitBoard, look_of: Mapping[str, Look]) -> Figure:
    """All panels of a split side by side, under a title."""
    height = _height(split) + TITLE_HEIGHT
    figure = Figure(figsize=(len(PANELS) * WIDTH, height))
    for column, panel in enumerate(PANELS):
        panel.draw(figure, column, split, look_of)
    y = 1 - 0.6 * TITLE_HEIGHT / height
    title = f"{printable(board.scenario)} · {split.split}, {split.tasks} tasks · {headroom(split)}"
    figure.text(
        LEFT / 2 / figure.get_figwidth(), y, title, color=ALARM if split.flagged else INK,
        size=FONT + 2, weight="bold", va="center", parse_math=False,
    )  # fmt: skip
    return figure


def _png(figure: Figure) -> bytes:
    buffer = BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


@contextmanager
def _drawing() -> Iterator[None]:
    """matplotlib as it comes, plus our style, whatever the user's matplotlibrc says."""
    with style.context(["default", STYLE]), warnings.catch_warnings():
        # A name may be in a script that the layout font lacks: the reader's viewer has a font that shows it.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield


# ---- panels ----


def _draw_scores(figure: Figure, column: int, split: SplitBoard, look_of: Mapping[str, Look]) -> None:
    _draw_curves(figure, column, split, look_of, attrgetter("scores"), "Normalised score (IQM)", SCORE_VIEW)


def _draw_returns(figure: Figure, column: int, split: SplitBoard, look_of: Mapping[str, Look]) -> None:
    _draw_curves(figure, column, split, look_of, attrgetter("returns"), "Mean return", (-np.inf, np.inf))


def _draw_curves(
    figure: Figure,
    column: int,
    split: SplitBoard,
    look_of: Mapping[str, Look],
    values_of: Callable[[Row], Sequence[Estimate]],
    title: str,
    view: tuple[float, float],
) -> None:
    """A line and a band for each agent, a level for each anchor, each with its name at its right end."""
    rows = ordered(split.rows)
    right = max(_text_width(f"{_short(row.agent)} ↓") for row in rows) + 0.2
    axes = _axes(figure, column, split, title, LEFT, max(right, _text_width("env steps") + 0.2))
    axes.grid(axis="y")
    episodes = points(split)
    low, high = _limits([values_of(row) for row in rows], view)
    axes.set(ylim=(low, high), xlim=(0, max(episodes[-1], 1)))
    for row in rows:
        values = values_of(row)
        if row.anchor:
            axes.axhline(values[-1].value, color=QUIET, lw=0.9, dashes=ANCHOR_DASHES[row.agent], zorder=1.5)
            continue
        look = look_of[row.agent]
        lows, highs = [value.low for value in values], [value.high for value in values]
        axes.fill_between(episodes, lows, highs, color=look.colour, alpha=0.13, lw=0)
        axes.plot(
            episodes, np.clip([value.value for value in values], low, high), clip_on=False, zorder=3,
            color=look.colour, marker=look.marker, markeredgecolor="white", markeredgewidth=0.5,
        )  # fmt: skip
    _label_ends(axes, {row.agent: values_of(row)[-1].value for row in rows}, look_of)
    _label_episodes(axes, episodes, [row for row in rows if not row.anchor])


def _limits(curves: Sequence[Sequence[Estimate]], view: tuple[float, float]) -> tuple[float, float]:
    """The range to draw: all values, and as much of their intervals as adds a third on either side."""
    values = np.clip([[e.value, e.low, e.high] for curve in curves for e in curve], *view)
    low, high = values[:, 0].min(), values[:, 0].max()
    span = (high - low) or max(abs(high), 1.0)
    # Two seeds give intervals of any width; their bands are cut where the axes end.
    low, high = max(np.nanmin(values), low - span / 3), min(np.nanmax(values), high + span / 3)
    return float(low - 0.05 * span), float(high + 0.05 * span)


def _label_ends(axes: Axes, ends: Mapping[str, float], look_of: Mapping[str, Look]) -> None:
    """Names to the right of where the curves end, moved apart, with a thread to the end of each."""
    low, high = axes.get_ylim()
    wanted = (np.array(list(ends.values())) - low) / (high - low)
    seen = np.clip(wanted, 0, 1)  # where the curve leaves the axes
    heights = _apart(seen, gap=LINE / _inches(axes)[1])
    for name, end, start, height in zip(ends, wanted, seen, heights, strict=True):
        is_anchor = name not in look_of
        colour = QUIET if is_anchor else _dark(look_of[name].colour)
        beyond = " ↓" if end < 0 else " ↑" if end > 1 else ""
        thread = [1.02, 1.06], [start, height]
        axes.plot(*thread, color=colour, lw=0.6, clip_on=False, transform=axes.transAxes)
        axes.text(
            1.075, height, _short(name) + beyond, color=colour, style="italic" if is_anchor else "normal",
            va="center", parse_math=False, transform=axes.transAxes,
        )  # fmt: skip


def _apart(wanted: Array, gap: float) -> Array:
    """Positions in [0, 1] in the order of the wanted ones, as near to those as gaps between them allow.

    Less its place in the order times the gap, no position may be below the one before: an isotonic
    regression, solved by pooling those that are. Where there is no room for the gaps, they shrink.
    """
    gap = min(gap, 1 / max(len(wanted) - 1, 1))
    ladder = gap * np.arange(len(wanted))
    order = np.argsort(wanted, kind="stable")
    pools: list[tuple[float, int]] = []  # mean and size
    for value in wanted[order] - ladder:
        mean, size = float(value), 1
        while pools and pools[-1][0] > mean:
            other, more = pools.pop()
            mean, size = (mean * size + other * more) / (size + more), size + more
        pools.append((mean, size))
    flat = np.repeat([mean for mean, _ in pools], [size for _, size in pools])
    placed = np.empty(len(wanted))
    placed[order] = np.clip(flat, 0, 1 - ladder[-1]) + ladder
    return placed


def _label_episodes(axes: Axes, episodes: Sequence[int], agents: Sequence[Row]) -> None:
    """Two rows under the axis: adaptation episodes, and the env steps in them as a mean over agents."""
    width, height = _inches(axes)
    at = np.array(episodes) * width / max(episodes[-1], 1)
    shown = _uncrowded(at, 0.14)
    axes.set_xticks(list(episodes), [str(k) if i in shown else "" for i, k in enumerate(episodes)])
    axes.text(1.075, -0.135 / height, "episodes", color=QUIET, va="center", transform=axes.transAxes)
    if not agents:
        return
    steps = np.mean([row.env_steps for row in agents], axis=0)
    y = -0.275 / height
    axes.text(1.075, y, "env steps", color=QUIET, va="center", transform=axes.transAxes)
    for i in _uncrowded(at, 0.21):
        axes.text(
            episodes[i], y, count(steps[i]), color=QUIET, size=FONT - 1.5, ha="center", va="center",
            transform=axes.get_xaxis_transform(),
        )  # fmt: skip


def _draw_spread(figure: Figure, column: int, split: SplitBoard, look_of: Mapping[str, Look]) -> None:
    """For each agent its tasks from best to worst, each a stroke from its first score to its last."""
    agents = [row for row in ordered(split.rows) if not row.anchor]
    left = max([_text_width(_short(row.agent)) for row in agents], default=0) + 0.2
    episodes = points(split)
    title = f"Score of each task, k = {episodes[0]} (light) to {episodes[-1]}"
    axes = _axes(figure, column, split, title, max(left, LEFT), 0.2)
    axes.grid(axis="x")
    for level, dashes in ((0, ANCHOR_DASHES["random"]), (1, ANCHOR_DASHES["oracle"])):
        axes.axvline(level, color=QUIET, lw=0.9, dashes=dashes)
    for place, row in enumerate(agents):
        colour = look_of[row.agent].colour
        first, last = np.clip(row.task_scores[np.argsort(row.task_scores[:, -1])][:, [0, -1]].T, *SCORE_VIEW)
        y = place + 0.9 - 0.8 * (np.arange(len(last)) + 0.5) / len(last)
        _strokes(axes, first, last, y, color=colour, lw=0.4, alpha=0.3)
        _strokes(axes, first, first, y, color=colour, lw=1.8, alpha=0.45)
        _strokes(axes, last, last, y, color=colour, lw=2.2)
    axes.set_ylim(max(len(agents), 1), 0)
    axes.set_yticks([place + 0.5 for place in range(len(agents))], [_short(row.agent) for row in agents])
    for row, label in zip(agents, axes.get_yticklabels(), strict=True):
        label.set(color=_dark(look_of[row.agent].colour), parse_math=False)


def _strokes(axes: Axes, start: Array, end: Array, y: Array, **style: Any) -> None:
    """Level strokes as one path, where markers would be an element each; one without length is a dot."""
    x = np.stack([start, end + 1e-6, np.full_like(start, np.nan)], axis=1).ravel()
    axes.plot(x, np.repeat(y, 3), solid_capstyle="round", snap=False, **style)


def _describe_scores(split: SplitBoard) -> str:
    return _describe("Normalised score", split, attrgetter("scores"), score)


def _describe_returns(split: SplitBoard) -> str:
    return _describe("Mean return", split, attrgetter("returns"), number)


def _describe(
    what: str, split: SplitBoard, values_of: Callable[[Row], Sequence[Estimate]], show: Callable[[float], str]
) -> str:
    """What a panel of curves shows, for those who cannot see it."""
    curves = "; ".join(
        f"{printable(row.agent)} from {show(values_of(row)[0].value)} to {show(values_of(row)[-1].value)}"
        for row in ordered(split.rows)
    )
    return f"{what} after {', '.join(map(str, points(split)))} adaptation episodes: {curves}."


def _describe_spread(split: SplitBoard) -> str:
    ranges = "; ".join(
        f"{printable(row.agent)} from {score(last.min())} to {score(last.max())}"
        for row in ordered(split.rows)
        if not row.anchor
        for last in [row.task_scores[:, -1]]
    )
    return f"Score of each of {split.tasks} tasks before and after adapting; range after: {ranges or 'none'}."


PANELS = (
    Panel("scores", _draw_scores, _describe_scores),
    Panel("returns", _draw_returns, _describe_returns),
    Panel("spread", _draw_spread, _describe_spread),
)


# ---- layout ----


def _height(split: SplitBoard) -> float:
    """Inches of a panel: enough for the names of all agents one below the other."""
    return TOP + BOTTOM + max(PLOT, 1.1 * LINE * len(split.rows))


def _axes(figure: Figure, column: int, split: SplitBoard, title: str, left: float, right: float) -> Axes:
    """The axes of one column, with so many inches to the left and right; titles start in line."""
    width, height = figure.get_figwidth(), figure.get_figheight()
    inner = WIDTH - left - right
    plot = _height(split) - TOP - BOTTOM
    axes = figure.add_axes(((column * WIDTH + left) / width, BOTTOM / height, inner / width, plot / height))
    axes.set_title(title, x=(LEFT - left) / inner)
    return axes


def _inches(axes: Axes) -> tuple[float, float]:
    """Width and height."""
    figure, box = axes.figure, axes.get_position()
    assert isinstance(figure, Figure)
    return box.width * figure.get_figwidth(), box.height * figure.get_figheight()


def _text_width(text: str) -> float:
    return LETTER * len(text)


def _short(name: str) -> str:
    """A name to write beside a curve: both ends of it, because names of one family begin alike."""
    name = printable(name)
    return name if len(name) <= 18 else f"{name[:8]}…{name[-9:]}"


def _dark(colour: str) -> str:
    """A colour to write in: small letters need more contrast than lines."""
    red, green, blue = to_rgb(colour)
    return to_hex((0.7 * red, 0.7 * green, 0.7 * blue))


def _uncrowded(at: Array, gap: float) -> list[int]:
    """The indices of positions to label: from the last one back, all that keep their distance."""
    shown: list[int] = []
    for i in reversed(range(len(at))):
        if not shown or at[shown[-1]] - at[i] >= gap:
            shown.append(i)
    return shown

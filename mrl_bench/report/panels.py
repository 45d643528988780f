"""The panels of a figure: one pair of axes each, drawn from the scores of one split.

They show normalised scores, raw returns, the score of every task, the scores of the adaptation episodes themselves,
and the learning curve: the score as a function of the env steps of meta-training.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.optimize import isotonic_regression

from mrl_bench.report.formatting import count, learning_k, number, ordered, points, printable, score
from mrl_bench.report.scores import LEARNED, Estimate, Row, SplitScores
from mrl_bench.report.stats import Array
from mrl_bench.report.style import FONT, PAPER, QUIET, REFERENCE_DASHES, AgentStyle

# Inches. A panel is about as wide as a phone shows it, so that its text is of the same size there.
WIDTH, TOP, BOTTOM, LEFT, PLOT = 3.7, 0.34, 0.46, 0.46, 2.0
LETTER = 0.58 * FONT / 72  # width of a letter, on average
LINE = 1.25 * FONT / 72  # height of a line of text
# Right of the axes: the two ends of a leader line, and where names begin.
LEADER_LINE, NAMES = (0.04, 0.12), 0.15

# Opacity of one interval band, and the sum over all: many bands must not hide the curves.
BAND, BANDS = 0.13, 0.5

# Scores outside are drawn at the edge, so that one agent that diverged does not flatten the others.
SCORE_VIEW = (-1.0, 2.0)

Corner = tuple[float, float]  # [in] lower left corner of a panel in its figure
Styles = Mapping[str, AgentStyle]


class Panel(NamedTuple):
    name: str
    draw: Callable[[Figure, Corner, SplitScores, Styles], None]
    describe: Callable[[SplitScores], str]


class Line(NamedTuple):
    """One agent's curve in a panel."""

    row: Row
    x: Sequence[float]
    values: Sequence[Estimate]


def _score_lines(split: SplitScores) -> list[Line]:
    return [Line(row, row.k, row.scores) for row in ordered(split.rows)]


def _return_lines(split: SplitScores) -> list[Line]:
    return [Line(row, row.k, row.returns) for row in ordered(split.rows)]


def _online_lines(split: SplitScores) -> list[Line]:
    return [Line(row, row.online.k, row.online.scores) for row in ordered(split.rows) if row.online]


def _learners(split: SplitScores) -> list[Line]:
    """The learning curves whose first point is not at 0 env steps, which a logarithmic axis cannot show."""
    found = [(row, row.learning) for row in ordered(split.rows) if row.learning]
    return [Line(row, curve.env_steps, curve.scores) for row, curve in found if curve.env_steps[0] > 0]


def _draw_scores(figure: Figure, corner: Corner, split: SplitScores, styles: Styles) -> None:
    title = "Normalised score (IQM)"
    axes = _draw_curves(figure, corner, split, styles, _score_lines(split), title, SCORE_VIEW)
    _label_episodes(axes, split)


def _draw_returns(figure: Figure, corner: Corner, split: SplitScores, styles: Styles) -> None:
    view = (-np.inf, np.inf)
    axes = _draw_curves(figure, corner, split, styles, _return_lines(split), "Mean return", view)
    _label_episodes(axes, split)


def _draw_online(figure: Figure, corner: Corner, split: SplitScores, styles: Styles) -> None:
    references = [line for line in _score_lines(split) if line.row.is_reference]
    lines, title = [*_online_lines(split), *references], "Score of the adaptation episodes (mean)"
    axes = _draw_curves(figure, corner, split, styles, lines, title, SCORE_VIEW)
    _label_episodes(axes, split)


def _draw_learning(figure: Figure, corner: Corner, split: SplitScores, styles: Styles) -> None:
    lines = _learners(split)
    title = f"Score at k = {learning_k(split)} during meta-training"
    references = [line for line in _score_lines(split) if line.row.is_reference]
    axes = _draw_curves(figure, corner, split, styles, lines + references, title, SCORE_VIEW)
    axes.axhline(LEARNED, color=QUIET, lw=0.5, zorder=1.4)
    _label_env_steps(axes, min(line.x[0] for line in lines), max(line.x[-1] for line in lines))


def _draw_curves(
    figure: Figure,
    corner: Corner,
    split: SplitScores,
    styles: Styles,
    lines: Sequence[Line],
    title: str,
    view: tuple[float, float],
) -> Axes:
    """A curve and its interval band for each agent, a level for each reference agent; names at the right end."""
    right = max(_text_width(f"{_short(line.row.agent)} ↓") for line in lines) + 0.2
    axes = _axes(figure, corner, split, title, LEFT, max(right, _text_width("env steps") + 0.2))
    axes.grid(axis="y")
    low, high = _limits([line.values for line in lines], view)
    axes.set_ylim(low, high)
    agents = [line for line in lines if not line.row.is_reference]
    end = max((line.x[-1] for line in agents), default=0)
    opacity = min(BAND, BANDS / max(len(agents), 1))
    for row, x, values in lines:
        if row.is_reference:
            dashes = REFERENCE_DASHES[row.agent]
            axes.axhline(values[-1].value, color=QUIET, lw=0.9, dashes=dashes, zorder=1.5)
            continue
        style = styles[row.agent]
        lows, highs = [value.low for value in values], [value.high for value in values]
        axes.fill_between(x, lows, highs, color=style.colour, alpha=opacity, lw=0)
        y = np.clip([value.value for value in values], low, high)
        axes.plot(
            x, y, clip_on=False, zorder=3,
            color=style.colour, dashes=style.dashes, marker=style.marker, markeredgecolor=PAPER, markeredgewidth=0.5,
        )  # fmt: skip
        to_name = [x[-1], end], [y[-1], y[-1]]
        axes.plot(*to_name, color=style.colour, lw=0.7, dashes=(1, 2))
    _label_ends(axes, {line.row.agent: line.values[-1].value for line in lines}, styles)
    return axes


def _limits(curves: Sequence[Sequence[Estimate]], view: tuple[float, float]) -> tuple[float, float]:
    """The range of y: all values, and their intervals up to a third of the values' span on either side."""
    values = np.clip([[e.value, e.low, e.high] for curve in curves for e in curve], *view)
    low, high = values[:, 0].min(), values[:, 0].max()
    span = (high - low) or max(abs(high), 1.0)
    # Intervals of few seeds can be very wide; the axes cut their bands.
    low, high = max(np.nanmin(values), low - span / 3), min(np.nanmax(values), high + span / 3)
    return float(low - 0.05 * span), float(high + 0.05 * span)


def _label_ends(axes: Axes, ends: Mapping[str, float], styles: Styles) -> None:
    """Writes names right of the curves' ends, moved apart, each with a leader line to its curve."""
    low, high = axes.get_ylim()
    wanted = (np.array(list(ends.values())) - low) / (high - low)
    seen = np.clip(wanted, 0, 1)  # where the curve leaves the axes
    heights = _apart(seen, gap=LINE / _inches(axes)[1])
    for name, end, start, height in zip(ends, wanted, seen, heights, strict=True):
        is_reference = name not in styles
        colour = QUIET if is_reference else styles[name].text_colour
        beyond = " ↓" if end < 0 else " ↑" if end > 1 else ""
        leader_line = [_right_of(axes, inches) for inches in LEADER_LINE], [start, height]
        axes.plot(*leader_line, color=colour, lw=0.6, clip_on=False, transform=axes.transAxes)
        axes.text(
            _right_of(axes, NAMES), height, _short(name) + beyond,
            color=colour, style="italic" if is_reference else "normal",
            va="center", parse_math=False, transform=axes.transAxes,
        )  # fmt: skip


def _apart(wanted: Array, gap: float) -> Array:
    """Moves positions apart to at least `gap`, within [0, 1]: the order is kept, the squared moves are least.

    With the i-th position lowered by i * gap, "at least a gap apart" becomes "not falling": an isotonic
    regression. If the gaps do not fit into [0, 1], they shrink.
    """
    gap = min(gap, 1 / max(len(wanted) - 1, 1))
    ladder = gap * np.arange(len(wanted))
    order = np.argsort(wanted, kind="stable")
    rising = isotonic_regression(wanted[order] - ladder).x
    placed = np.empty(len(wanted))
    placed[order] = np.clip(rising, 0, 1 - ladder[-1]) + ladder
    return placed


def _label_episodes(axes: Axes, split: SplitScores) -> None:
    """Two rows under the axis: k, and the env steps in these episodes, mean over agents."""
    episodes, agents = points(split), [row for row in split.rows if not row.is_reference]
    axes.set_xlim(0, max(episodes[-1], 1))
    width, height = _inches(axes)
    at = np.array(episodes) * width / max(episodes[-1], 1)
    shown = uncrowded(at, 0.14)
    axes.set_xticks(list(episodes), [str(k) if i in shown else "" for i, k in enumerate(episodes)])
    _name_axis(axes, "k", -0.135 / height)
    if not agents:
        return
    steps = np.mean([row.env_steps for row in agents], axis=0)
    y = -0.275 / height
    _name_axis(axes, "env steps", y)
    for i in uncrowded(at, 0.21):
        axes.text(
            episodes[i], y, count(steps[i]), color=QUIET, size=FONT - 1.5, ha="center", va="center",
            transform=axes.get_xaxis_transform(),
        )  # fmt: skip


def _label_env_steps(axes: Axes, first: float, last: float) -> None:
    """A logarithmic axis of env steps: ticks at 1, 2, 5 times powers of ten, or at the ends if these are too few."""
    low, high = (first, last) if first < last else (first / 2, 2 * last)
    axes.set(xscale="log", xlim=(low, high))
    axes.minorticks_off()
    width, height = _inches(axes)
    factors = (1, 2, 5) if high / low < 100 else (1,)
    powers = range(math.floor(math.log10(low)), math.floor(math.log10(high)) + 1)
    ticks = [tick for n in powers for tick in (f * 10.0**n for f in factors) if low <= tick <= high]
    ticks = ticks if len(ticks) > 1 else [low, high]
    shown = uncrowded(np.log(np.array(ticks) / low) * width / math.log(high / low), 0.26)
    axes.set_xticks(ticks, [count(tick) if i in shown else "" for i, tick in enumerate(ticks)])
    _name_axis(axes, "env steps", -0.135 / height)


def _name_axis(axes: Axes, name: str, y: float) -> None:
    """Writes the name of a row of tick labels right of it, at height y in axes coordinates."""
    axes.text(_right_of(axes, NAMES), y, name, color=QUIET, va="center", transform=axes.transAxes)


def _draw_spread(figure: Figure, corner: Corner, split: SplitScores, styles: Styles) -> None:
    """For each agent, its tasks from best to worst: a stroke from the score at the first k to that at the last."""
    agents = [row for row in ordered(split.rows) if not row.is_reference]
    left = max([_text_width(_short(row.agent)) for row in agents], default=0) + 0.2
    episodes = points(split)
    title = f"Score of each task at k = {episodes[0]} (light) and {episodes[-1]}"
    axes = _axes(figure, corner, split, title, max(left, LEFT), 0.2)
    axes.grid(axis="x")
    for level, dashes in ((0, REFERENCE_DASHES["random"]), (1, REFERENCE_DASHES["oracle"])):
        axes.axvline(level, color=QUIET, lw=0.9, dashes=dashes)
    for place, row in enumerate(agents):
        colour = styles[row.agent].colour
        first, last = np.clip(row.task_scores[np.argsort(row.task_scores[:, -1])][:, [0, -1]].T, *SCORE_VIEW)
        y = place + 0.9 - 0.8 * (np.arange(len(last)) + 0.5) / len(last)
        _strokes(axes, first, last, y, color=colour, lw=0.4, alpha=0.3)
        _strokes(axes, first, first, y, color=colour, lw=1.8, alpha=0.45)
        _strokes(axes, last, last, y, color=colour, lw=2.2)
    axes.set_ylim(max(len(agents), 1), 0)
    axes.set_yticks([place + 0.5 for place in range(len(agents))], [_short(row.agent) for row in agents])
    for row, label in zip(agents, axes.get_yticklabels(), strict=True):
        label.set(color=styles[row.agent].text_colour, parse_math=False)


def _strokes(axes: Axes, start: Array, end: Array, y: Array, **style: Any) -> None:
    """Horizontal strokes as one path (markers would be one SVG element each); a stroke of no length is a dot."""
    x = np.stack([start, end + 1e-6, np.full_like(start, np.nan)], axis=1).ravel()
    axes.plot(x, np.repeat(y, 3), solid_capstyle="round", snap=False, **style)


def _describe_scores(split: SplitScores) -> str:
    what = f"Normalised score at k = {_listed(points(split))} adaptation episodes"
    return _describe(what, _score_lines(split), score)


def _describe_returns(split: SplitScores) -> str:
    what = f"Mean return at k = {_listed(points(split))} adaptation episodes"
    return _describe(what, _return_lines(split), number)


def _describe_online(split: SplitScores) -> str:
    return _describe("Normalised score of the adaptation episodes", _online_lines(split), score)


def _describe_learning(split: SplitScores) -> str:
    what = f"Normalised score at k = {learning_k(split)} adaptation episodes during meta-training"
    return _describe(what, _learners(split), score, lambda env_steps: f" after {count(env_steps)} env steps")


def _listed(values: Sequence[int]) -> str:
    return ", ".join(map(str, values))


def _describe(
    what: str,
    lines: Sequence[Line],
    show: Callable[[float], str],
    when: Callable[[float], str] = lambda x: "",
) -> str:
    """The alternative text of a panel of curves, for screen readers."""
    curves = "; ".join(
        f"{printable(line.row.agent)} from {show(line.values[0].value)}{when(line.x[0])}"
        f" to {show(line.values[-1].value)}{when(line.x[-1])}"
        for line in lines
    )
    return f"{what}: {curves}."


def _describe_spread(split: SplitScores) -> str:
    ranges = "; ".join(
        f"{printable(row.agent)} from {score(last.min())} to {score(last.max())}"
        for row in ordered(split.rows)
        if not row.is_reference
        for last in [row.task_scores[:, -1]]
    )
    return f"Score of each of {split.tasks} tasks before and after adapting; range after: {ranges or 'none'}."


PANELS = (
    Panel("scores", _draw_scores, _describe_scores),
    Panel("returns", _draw_returns, _describe_returns),
    Panel("spread", _draw_spread, _describe_spread),
)
ONLINE = Panel("online", _draw_online, _describe_online)
LEARNING = Panel("learning", _draw_learning, _describe_learning)


def panels(split: SplitScores) -> tuple[Panel, ...]:
    """The panels of a split; the online curve and the learning curve only where there is one."""
    further = ((ONLINE, _online_lines(split)), (LEARNING, _learners(split)))
    return (*PANELS, *(panel for panel, lines in further if lines))


# ---- layout ----


def height(split: SplitScores) -> float:
    """Height of a panel [in]: room for the names of all agents, one below the other."""
    return TOP + BOTTOM + max(PLOT, 1.1 * LINE * len(split.rows))


def _axes(figure: Figure, corner: Corner, split: SplitScores, title: str, left: float, right: float) -> Axes:
    """The axes of one panel, with margins `left` and `right` [in]; all titles start at the same x."""
    x, y = corner
    inner = np.array([WIDTH - left - right, height(split) - TOP - BOTTOM])
    place = np.array([x + left, y + BOTTOM]), inner
    axes = figure.add_axes(tuple(np.concatenate([inches / figure.get_size_inches() for inches in place])))
    axes.set_title(title, x=(LEFT - left) / inner[0])
    return axes


def _inches(axes: Axes) -> tuple[float, float]:
    """Width and height of axes [in]."""
    figure, box = axes.figure, axes.get_position()
    assert isinstance(figure, Figure)
    return box.width * figure.get_figwidth(), box.height * figure.get_figheight()


def _right_of(axes: Axes, inches: float) -> float:
    """A position `inches` right of the axes, in axes coordinates."""
    return 1 + inches / _inches(axes)[0]


def _text_width(text: str) -> float:
    return LETTER * len(text)


def _short(name: str) -> str:
    """A name shortened in the middle: names of related agents often begin alike."""
    name = printable(name)
    return name if len(name) <= 21 else f"{name[:9]}…{name[-11:]}"


def uncrowded(at: Array, gap: float) -> list[int]:
    """Indices of the tick positions to label, from the last back, at least `gap` apart."""
    shown: list[int] = []
    for i in reversed(range(len(at))):
        if not shown or at[shown[-1]] - at[i] >= gap:
            shown.append(i)
    return shown

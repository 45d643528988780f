"""Charts as SVG elements. Colours are classes of the page's style sheet: its content security policy, which admits
one style sheet by its hash, forbids the style attributes of matplotlib's SVG.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from markupsafe import Markup, escape
from matplotlib.ticker import MaxNLocator

from mrl_bench.report.formatting import count
from mrl_bench.report.panels import SCORE_VIEW, uncrowded
from mrl_bench.report.stats import Array

WIDTH, HEIGHT = 320, 210  # viewBox, about the pixels that a phone shows
LEFT, TOP, PLOT_WIDTH, PLOT_HEIGHT = 34, 10, 270, 154
COLOURS = 8  # classes c0 to c7, in the order of report/style.py

Ticks = tuple[tuple[float, str], ...]


@dataclass(frozen=True)
class Axis:
    low: float
    high: float
    ticks: Ticks
    log: bool = False

    def shares(self, values: Array) -> Array:
        """Values as shares of the axis' length, cut at its ends."""
        return np.clip((values - self.low) / (self.high - self.low), 0, 1)

    def share(self, value: float) -> float:
        low, high = self.low, self.high
        if self.log:
            value, low, high = math.log(value), math.log(low), math.log(high)
        return min(max((value - low) / (high - low), 0.0), 1.0)


@dataclass(frozen=True)
class Chart:
    """A pair of axes, with marks on them."""

    x: Axis
    y: Axis
    names: tuple[str, str]  # of the axes
    label: str  # alternative text
    marks: Sequence[str] = ()  # SVG elements
    under: Ticks = ()  # further labels under those of x

    def svg(self) -> Markup:
        ticks = _ticks(self.x, self.y, self.names, self.under)
        box = f"{LEFT} {TOP} {PLOT_WIDTH} {PLOT_HEIGHT}"
        x, y = (f"{axis.low:g} {axis.high:g}" for axis in (self.x, self.y))
        return Markup(
            f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(self.label)}" data-box="{box}"'
            f' data-x="{x}" data-y="{y}">{ticks}<g class="marks">{"".join(self.marks)}</g></svg>'
        )


@cache
def _ticks(x: Axis, y: Axis, names: tuple[str, str], under: Ticks) -> str:
    """What is around the marks. Most charts have the same."""
    right, bottom = LEFT + PLOT_WIDTH, TOP + PLOT_HEIGHT
    parts = []
    for value, text in y.ticks:
        at = place(y, value, vertical=True)
        kind = ' class="level"' if text in ("0", "1") else ""
        parts.append(f'<path d="M{LEFT} {at}H{right}"{kind}/>')
        parts.append(f'<text x="{LEFT - 5}" y="{at + 3.5}" text-anchor="end">{text}</text>')
    for row, labels in enumerate((x.ticks, under)):
        positions = np.array([place(x, value) for value, _ in labels])
        gap = 7.0 * max((len(text) for _, text in labels), default=0) + 4
        for i in uncrowded(positions, gap):
            height = bottom + 14 + 12 * row
            parts.append(f'<text x="{positions[i]}" y="{height}" text-anchor="middle">{labels[i][1]}</text>')
    across, up = map(escape, names)
    parts.append(f'<text x="{right}" y="{HEIGHT - 6}" text-anchor="end" class="name">{across}</text>')
    parts.append(f'<text x="{LEFT}" y="{HEIGHT - 6}" class="name">↑ {up}</text>')
    return "".join(parts)


def place(axis: Axis, value: float, vertical: bool = False) -> float:
    """Where a value is in the viewBox."""
    share = axis.share(value)
    return round(TOP + (1 - share) * PLOT_HEIGHT if vertical else LEFT + share * PLOT_WIDTH, 1)


def score_axis(values: Array) -> Axis:
    """An axis for scores: from 0, random, to 1, oracle, and further where values are; within the view of reports."""
    seen = values[np.isfinite(values)]
    low, high = (float(np.clip(edge, *SCORE_VIEW)) for edge in (seen.min(initial=0.0), seen.max(initial=1.0)))
    # To tenths, so that few different axes have to be laid out.
    return _score_axis(math.floor(10 * low - 0.3) / 10, math.ceil(10 * high + 0.3) / 10)


@cache
def _score_axis(low: float, high: float) -> Axis:
    ticks = np.round(MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high), 3)
    return Axis(low, high, tuple((tick, f"{tick:g}") for tick in ticks.tolist() if low <= tick <= high))


def episode_axis(k: Sequence[int]) -> Axis:
    return Axis(0, max(k[-1], 1), tuple((each, str(each)) for each in k))


def steps_axis(steps: Array) -> Axis:
    """A logarithmic axis of env steps, from 1 on."""
    low, high = (max(float(edge), 1.0) for edge in (steps.min(initial=1e12), steps.max(initial=1.0)))
    low, high = min(low, high) / 1.3, max(low, high) * 1.3
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [tick for n in powers for tick in (f * 10.0**n for f in (1, 2, 5)) if low <= tick <= high]
    ticks = ticks if len(ticks) > 1 else [low, high]
    return Axis(low, high, tuple((tick, count(tick)) for tick in ticks), log=True)


def linear_steps_axis(steps: Array) -> Axis:
    """An axis of env steps from 0."""
    high = max(float(steps.max(initial=0)), 1.0)
    ticks = np.asarray(MaxNLocator(4).tick_values(0, high)).tolist()
    return Axis(0, high, tuple((tick, count(tick)) for tick in ticks if 0 <= tick <= high))


def curve(x: Axis, y: Axis, at: Array, values: Array, half_widths: Array, colour: int) -> str:
    """A curve with its band: points (P,), their values and the half widths of their intervals, NaN where unknown."""
    across = LEFT + x.shares(at) * PLOT_WIDTH
    middle, low, high = (
        TOP + (1 - y.shares(each)) * PLOT_HEIGHT
        for each in (values, values - half_widths, values + half_widths)
    )
    line = _path(across, middle)
    band = ""
    if np.isfinite(low).all():
        outline = _path(np.concatenate([across, across[::-1]]), np.concatenate([high, low[::-1]]))
        band = f'<path class="band" d="{outline}Z"/>'
    points = _points(across, middle)
    return f'<g class="c{colour % COLOURS}">{band}<path d="{line}"/><path class="points" d="{points}"/></g>'


def dots(x: Axis, y: Axis, at: Array, values: Array) -> str:
    """One dot for each of two coordinates, (n,) each."""
    across, up = LEFT + x.shares(at) * PLOT_WIDTH, TOP + (1 - y.shares(values)) * PLOT_HEIGHT
    return f'<g class="c4"><path class="dots" d="{_points(across, up)}"/></g>'


def linked_dot(x: Axis, y: Axis, at: float, value: float, href: str, title: str) -> str:
    """A dot that leads to a page and says what it is."""
    left, top = place(x, at), place(y, value, vertical=True)
    return (
        f'<a href="{escape(href)}"><circle cx="{left}" cy="{top}" r="4"/><title>{escape(title)}</title></a>'
    )


def diagonal(x: Axis, y: Axis) -> str:
    """The line on which both coordinates are equal."""
    low, high = max(x.low, y.low), min(x.high, y.high)
    points = [f"{place(x, value)} {place(y, value, vertical=True)}" for value in (low, high)]
    return f'<path class="level" d="M{points[0]}L{points[1]}"/>'


def _path(across: Array, up: Array) -> str:
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in zip(across.tolist(), up.tolist(), strict=True))


def _points(across: Array, up: Array) -> str:
    """Strokes of no length, which round caps make dots: one element for all of them."""
    return "".join(f"M{x:.1f} {y:.1f}h0" for x, y in zip(across.tolist(), up.tolist(), strict=True))

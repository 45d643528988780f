"""Figures of scores: files for a paper, and SVG elements for the HTML page.

A file holds all panels of a split. The page embeds each panel as a separate SVG, so that they stack on a small
screen. The same scores give the same bytes: no dates, no random ids, and text is laid out with matplotlib's font.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path

from matplotlib.figure import Figure

from mrl_bench.report import svg
from mrl_bench.report.formatting import headroom, printable
from mrl_bench.report.panels import LEFT, WIDTH, Panel, height, panels
from mrl_bench.report.scores import ScenarioScores, SplitScores
from mrl_bench.report.style import ALARM, FONT, INK, AgentStyle, agent_styles, drawing
from mrl_bench.runs.files import inside, write_atomically

TITLE_HEIGHT = 0.4  # inches


def write_figures(all_scores: Sequence[ScenarioScores], folder: Path) -> list[Path]:
    """Writes `curves-<scenario>-<split>` of every scenario and split, as .svg, .png and .pdf."""
    paths = []
    styles = agent_styles(all_scores)
    for scenario_scores in all_scores:
        for split in scenario_scores.splits.values():
            name = f"curves-{scenario_scores.scenario}-{split.split}"
            with drawing():
                figure = _figure(scenario_scores, split, styles)
                title = f"{printable(scenario_scores.scenario)}, {split.split}"
                label = " ".join([title, *(panel.describe(split) for panel in panels(split))])
                forms = {
                    ".svg": svg.document(figure, name, label),
                    ".png": _saved(figure, "png", metadata={"Software": None}),
                    ".pdf": _saved(figure, "pdf", metadata={"CreationDate": None, "Title": title}),
                }
            for suffix, data in forms.items():
                paths.append(inside(folder, name + suffix))
                write_atomically(paths[-1], data)
    return paths


def inline_svg(panel: Panel, split: SplitScores, styles: Mapping[str, AgentStyle], prefix: str) -> str:
    """One panel as an `<svg>` element; `prefix` makes its ids unique in the page."""
    with drawing():
        figure = Figure(figsize=(WIDTH, height(split)))
        panel.draw(figure, (0, 0), split, styles)
        return svg.element(figure, prefix, panel.describe(split))


def _figure(scenario_scores: ScenarioScores, split: SplitScores, styles: Mapping[str, AgentStyle]) -> Figure:
    """All panels of a split under a title: three in one row, or more in two rows."""
    shown = panels(split)
    columns = min(len(shown), 3) if len(shown) != 4 else 2
    rows = math.ceil(len(shown) / columns)
    size = columns * WIDTH, rows * height(split) + TITLE_HEIGHT
    figure = Figure(figsize=size)
    for i, panel in enumerate(shown):
        row, column = divmod(i, columns)
        panel.draw(figure, (column * WIDTH, (rows - 1 - row) * height(split)), split, styles)
    title = f"{printable(scenario_scores.scenario)} · {split.split}, {split.tasks} tasks · {headroom(split)}"
    figure.text(
        LEFT / 2 / size[0], 1 - 0.6 * TITLE_HEIGHT / size[1], title, color=ALARM if split.flagged else INK,
        size=FONT + 2, weight="bold", va="center", parse_math=False,
    )  # fmt: skip
    return figure


def _saved(figure: Figure, form: str, metadata: Mapping[str, str | None]) -> bytes:
    buffer = BytesIO()
    figure.savefig(buffer, format=form, metadata=dict(metadata))
    return buffer.getvalue()

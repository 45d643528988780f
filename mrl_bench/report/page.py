"""The report as one self-contained HTML page: no scripts, and nothing to load."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import mean

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from mrl_bench.report import BenchInfo
from mrl_bench.report import formatting as text
from mrl_bench.report.figures import inline_svg
from mrl_bench.report.panels import panels
from mrl_bench.report.scores import HEADROOM_FLOOR, Row, ScenarioScores
from mrl_bench.report.style import agent_styles, css_shades
from mrl_bench.runs.files import write_atomically

# In the order of the page.
SPLITS = {"test": "Test: held-out tasks", "ood": "Out of distribution", "train": "Train: fresh draws"}


def write_page(all_scores: Sequence[ScenarioScores], info: BenchInfo, path: Path) -> None:
    """Writes the page to `path`, atomically."""
    write_atomically(path, render_page(all_scores, info).encode())


def render_page(all_scores: Sequence[ScenarioScores], info: BenchInfo) -> str:
    """The page's HTML: the same for the same scores and info."""
    styles = agent_styles(all_scores)
    test_rows = {
        (scenario_scores.scenario, row.agent): row
        for scenario_scores in all_scores
        if "test" in scenario_scores.splits
        for row in scenario_scores.splits["test"].rows
    }
    figures = {
        (scenario_scores.scenario, split.split): [
            Markup(inline_svg(panel, split, styles, f"f{i}-{split.split}-{panel.name}"))
            for panel in panels(split)
        ]
        for i, scenario_scores in enumerate(all_scores)
        for split in scenario_scores.splits.values()
    }
    return (
        make_environment()
        .get_template("page.html.jinja")
        .render(
            all_scores=all_scores,
            info=info,
            split_titles=SPLITS,
            test_rows=test_rows,
            agents=_best_first(row for row in test_rows.values() if not row.is_reference),
            figures=figures,
            floor=HEADROOM_FLOOR,
        )
    )


def make_environment(*folders: Path) -> Environment:
    """Renders templates of these folders and of the report, with its macros and style sheet."""
    environment = Environment(
        loader=FileSystemLoader([*folders, Path(__file__).parent / "templates"]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["printable"] = text.printable
    environment.filters["webp"] = lambda image: f"data:image/webp;base64,{b64encode(image).decode()}"
    environment.globals["text"] = text
    environment.globals["shades"] = {mode: Markup(_variables(mode)) for mode in ("light", "dark")}
    return environment


def _variables(mode: str) -> str:
    """The colours of a mode, "light" or "dark", as declarations of CSS variables."""
    return " ".join(f"--{name}: {getattr(shade, mode)};" for name, shade in css_shades().items())


def _best_first(rows: Iterable[Row]) -> list[str]:
    """Agents by their mean score at the last k, over the scenarios that they ran on; those that failed last."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row.agent, []).append(row)

    def place(agent: str) -> tuple[float, float, str]:
        own = found[agent]
        return mean(row.failed_share for row in own), -mean(row.scores[-1].value for row in own), agent

    return sorted(found, key=place)

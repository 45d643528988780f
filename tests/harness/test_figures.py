"""Figures of the scores of test_report: what is drawn, and whether it is legible."""

from __future__ import annotations

import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from test_report import ALL_SCORES, AT_ONCE, MAML, make_learning, make_row, make_scores

from mrl_bench.report import figures, panels
from mrl_bench.report.scores import ScenarioScores
from mrl_bench.report.stats import Array
from mrl_bench.report.style import AGENT_SHADES, MARKERS, PAGE_SHADES, agent_styles, css_shades


def test_learning_curves_are_drawn_where_there_are_some() -> None:
    def names(scenario_scores: ScenarioScores) -> list[str]:
        return [panel.name for panel in panels.panels(scenario_scores.splits["test"])]

    assert names(ALL_SCORES[0]) == ["scores", "returns", "spread"]
    assert names(make_scores("idle-v1", AT_ONCE)) == ["scores", "returns", "spread"]
    assert names(ALL_SCORES[5]) == ["scores", "returns", "spread", "learning"]
    split = ALL_SCORES[5].splits["test"]
    (panel,) = (panel for panel in panels.panels(split) if panel.name == "learning")
    words = figures.inline_svg(panel, split, agent_styles(ALL_SCORES), "x")
    assert "maml from 0.10 after 10k env steps to 0.40 after 1M env steps" in words
    assert "idle" not in words
    assert all(f">{name}<" in words for name in ("mbml", "maml", "oracle", "10k", "100k", "1M"))


@pytest.mark.parametrize(
    ("first", "last", "ticks"),
    [(3e3, 4e5, ["10k", "100k"]), (1.5e4, 1.2e5, ["20k", "50k", "100k"]), (2.1e4, 2.2e4, ["21k", "22k"])],
)
def test_env_steps_have_ticks_on_any_range(first: float, last: float, ticks: list[str]) -> None:
    row = make_row("maml", MAML, learning=make_learning([first, last], [0.1, 0.9], None))
    split = make_scores("x-v1", row).splits["test"]
    figure = Figure(figsize=(panels.WIDTH, panels.height(split)))
    panels.LEARNING.draw(figure, (0, 0), split, agent_styles([make_scores("x-v1", row)]))
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ticks


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return figures.write_figures((ALL_SCORES[0], ALL_SCORES[4]), tmp_path_factory.mktemp("figures"))


def test_figures_are_written_for_every_split(written: list[Path]) -> None:
    names = [f"curves-wiring-v1-{split}" for split in ("train", "test", "ood")] + ["curves-many-v1-test"]
    assert [path.name for path in written] == [
        name + suffix for name in names for suffix in (".svg", ".png", ".pdf")
    ]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in written[1::3])
    assert all(path.read_bytes().startswith(b"%PDF") for path in written[2::3])


def test_svg_is_xml_with_text_as_text(written: list[Path]) -> None:
    for path in written[::3]:
        words = {node.text for node in ET.parse(path).iter("{http://www.w3.org/2000/svg}text")}
        assert {"Normalised score (IQM)", "Mean return", "oracle", "k", "env steps"} <= words


def test_an_agent_keeps_its_look_and_shares_it_with_none() -> None:
    names = ("maml", "mbml", "maml_mbml")
    together = agent_styles([make_scores("all-v1", *(make_row(name, MAML) for name in names))])
    for name in names:
        assert agent_styles([make_scores("one-v1", make_row(name, MAML))])[name] == together[name]
    many = agent_styles(ALL_SCORES)
    assert len(many) == len(set(many.values())) > len(AGENT_SHADES)
    assert len({(look.colour, look.dashes) for look in many.values()}) == len(many)


def test_agents_that_ship_are_drawn_alike_in_every_report_and_differ() -> None:
    names = ("dqn", "maml", "maml-mbml", "mbml")
    for others in ((), ("aaa",), ("rl2", "zzz")):
        styles = agent_styles([make_scores("x-v1", *(make_row(name, MAML) for name in (*others, *names)))])
        assert [styles[name].marker for name in names] == ["P", "o", "^", "s"]
        assert len({style.colour for style in styles.values()}) == len(styles)


# Linear RGB as seen with normal vision, protanopia and deuteranopia (Machado et al. 2009, severity 1).
EYES = np.array(
    [
        [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    ]
)
XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def linear(colours: Sequence[str]) -> Array:
    """Linear RGB of colours, (N, 3)."""
    encoded = np.array([to_rgb(colour) for colour in colours])
    return np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)


def cielab(rgb: Array) -> Array:
    xyz = np.clip(rgb, 0, 1) @ XYZ.T / XYZ.sum(1)
    x, y, z = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116).T
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=1)


def contrast(front: str, behind: str) -> float:
    """Contrast as WCAG defines it, 1 to 21."""
    low, high = sorted(linear([front, behind]) @ XYZ[1])
    return float((high + 0.05) / (low + 0.05))


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_agents_can_be_told_apart_by_colour_on_either_paper(mode: str) -> None:
    colours = [getattr(shade, mode) for shade in AGENT_SHADES]
    for eye in EYES:
        lab = cielab(linear(colours) @ eye.T)
        distances = np.linalg.norm(lab[:, None] - lab, axis=-1)[np.triu_indices(len(lab), 1)]
        assert distances.min() > 15
    paper = getattr(PAGE_SHADES["paper"], mode)
    assert min(contrast(colour, paper) for colour in colours) > (3 if mode == "light" else 4.5)
    assert len(set(MARKERS)) == len(AGENT_SHADES)


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_text_has_a_contrast_of_more_than_4_5_in_light_and_in_dark_mode(mode: str) -> None:
    shades = {name: getattr(shade, mode) for name, shade in css_shades().items()}
    texts = [name for name in shades if name in ("ink", "quiet", "link", "bad") or name.endswith("-text")]
    assert len(texts) == 4 + len(AGENT_SHADES)
    assert min(contrast(shades[name], shades["paper"]) for name in texts) > 4.5
    assert contrast(shades["bad"], shades["bad-paper"]) > 4.5


def test_figures_on_the_page_have_the_colours_of_its_mode() -> None:
    split = ALL_SCORES[4].splits["test"]
    styles = agent_styles(ALL_SCORES)
    for panel in panels.panels(split):
        drawn = figures.inline_svg(panel, split, styles, "x")
        assert not re.findall("#[0-9a-f]{6}", drawn)
        assert set(re.findall(r"var\(--([^)]+)\)", drawn)) <= set(css_shades())
    shades = css_shades()
    assert len({shade.light for shade in shades.values()}) == len(shades), (
        "figures are drawn in the light shades"
    )


def test_labels_keep_order_and_distance() -> None:
    wanted = np.array([0.9, 0.1, 0.91, 0.92, 1.0, 0.1])
    placed = panels._apart(wanted, gap=0.1)
    assert np.all(np.diff(np.sort(placed)) >= 0.1 - 1e-12)
    assert np.all((placed >= 0) & (placed <= 1 + 1e-12))
    assert np.all(np.argsort(placed, kind="stable") == np.argsort(wanted, kind="stable"))
    np.testing.assert_allclose(panels._apart(np.array([0.2, 0.8]), gap=0.1), [0.2, 0.8])
    np.testing.assert_allclose(panels._apart(np.full(3, 0.5), gap=0.9), [0, 0.5, 1])


def test_labels_move_as_little_as_the_gaps_allow() -> None:
    # Three positions at 0.5 spread evenly around it; a fourth, far away, stays.
    placed = panels._apart(np.array([0.5, 0.5, 0.5, 0.9]), gap=0.1)
    np.testing.assert_allclose(placed, [0.4, 0.5, 0.6, 0.9], rtol=0, atol=1e-12)


def test_figures_leave_pyplot_alone_and_tables_matplotlib() -> None:
    code = "import sys, mrl_bench.report.table as _; assert 'matplotlib' not in sys.modules;"
    code += "import mrl_bench.report.page as _; assert 'matplotlib.pyplot' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": ":".join(sys.path)})

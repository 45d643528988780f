"""Reports of synthetic scores: what every form of them must show, and what none may."""

from __future__ import annotations

import csv
import re
from base64 import b64encode
from collections import Counter
from collections.abc import Mapping, Sequence
from html.parser import HTMLParser
from io import StringIO
from math import inf, isnan, nan
from pathlib import Path

import numpy as np
import pytest
from rich.cells import cell_len
from rich.console import Console

from mrl_bench.report import BenchInfo, figures
from mrl_bench.report import formatting as text
from mrl_bench.report.page import render_page, write_page
from mrl_bench.report.scores import Estimate, Learning, OnlineScores, Row, ScenarioScores, SplitScores
from mrl_bench.report.setup import AgentSetup, Setup
from mrl_bench.report.table import WrappedTable, plain_text, print_tables
from mrl_bench.report.table import _parts as table_parts
from mrl_bench.report.tidy import scores_csv
from mrl_bench.results import Video
from mrl_bench.runs.files import write_atomically
from mrl_bench.scenario.description import Description, DrawnParam

RUNNING = (Path(__file__).parents[2] / "docs" / "running.md").read_text()
EPISODES = (0, 1, 2, 3, 5, 10)
TASKS = 20
MAML = (43.0, 175.0, 186.0, 198.0, 199.0, 199.0)
RANDOM, BLIND, ORACLE = 28.0, 86.0, 200.0
DASH = "\N{EN DASH}"
NASTY = (
    "<script>alert(1)</script>",
    "агент-学习-🤖",
    "a&b\"'{{ 7*7 }}",
    "$\\frac{x$",
    "[red]b[/red]",
    "x\x1b[31m\x00\u202ey",
    "package.module.submodule:AnAgentWithAVeryLongNameThatNobodyShouldChoose",
)


def estimate(value: float, half: float) -> Estimate:
    return Estimate(value, value - half, value + half)


def make_row(
    agent: str,
    curve: Sequence[float],
    *,
    seeds: int = 2,
    rank: tuple[int, int] | None = (1, 1),
    failed: tuple[int, int] = (0, 0),
    learning: Learning | None = None,
    model_errors: Mapping[str, float] | None = None,
    metrics: Sequence[str] = (),
    online: OnlineScores | None = None,
) -> Row:
    half = nan if seeds < 2 else 0.02
    scores = [(value - RANDOM) / (ORACLE - RANDOM) for value in curve]
    spread = np.linspace(-0.1, 0.05, TASKS)
    return Row(
        agent=agent,
        is_reference=rank is None,
        seeds=seeds,
        failed_runs=failed[0],
        failed_episodes=failed[1],
        k=EPISODES,
        env_steps=tuple(28.0 * k + 17 * k * k for k in EPISODES),
        returns=tuple(estimate(value, half * 172) for value in curve),
        scores=tuple(estimate(value, half) for value in scores),
        means=tuple(estimate(value - 0.01, half) for value in scores),
        task_scores=np.add.outer(spread, scores),
        gain=estimate(scores[-1] - scores[0], half),
        zero_shot=estimate(scores[0] - 0.34, half),
        area=estimate(float(np.mean(scores)), half),
        cvar=estimate(scores[-1] - 0.1, half),
        k_to_90=next((k for k, value in zip(EPISODES, scores, strict=True) if value >= 0.9), None),
        learning=learning,
        online=online,
        model_errors=model_errors or {},
        train_env_steps=2e6,
        metrics={name: tuple(estimate(value / 2, 100 * half) for value in curve) for name in metrics},
        rank=rank,
        preliminary=seeds < 10,
    )


def make_learning(env_steps: Sequence[float], scores: Sequence[float], reached: float | None) -> Learning:
    return Learning(1, tuple(env_steps), tuple(estimate(value, 0.02) for value in scores), reached)


def make_split(split: str, agents: Sequence[Row], headroom: float = 0.66) -> SplitScores:
    references = {"random": RANDOM, "blind": BLIND, "oracle": ORACLE}
    metrics = list(agents[0].metrics) if agents else []
    rows = [
        make_row(name, [value] * len(EPISODES), seeds=1, rank=None, metrics=metrics)
        for name, value in references.items()
    ]
    known = Estimate(headroom, headroom - 0.06, headroom + 0.05)
    oracle = RANDOM if isnan(headroom) else ORACLE
    return SplitScores(split, TASKS, RANDOM, BLIND, oracle, known, (*agents, *rows))


def make_scores(
    scenario: str, *agents: Row, ood: bool = True, headroom: float = 0.66, doubts: tuple[str, ...] = ()
) -> ScenarioScores:
    names = ("train", "test", "ood") if ood else ("test",)
    gap = {row.agent: Estimate(0.1, nan, nan) for row in agents} if ood else {}
    splits = {name: make_split(name, agents, headroom) for name in names}
    return ScenarioScores(scenario, "8f3a9c01d2e47b65", splits, gap, doubts)


METRICS = ("driving score", "hits per [red]km<b>")
LEARNED = make_row(
    "mbml",
    MAML,
    learning=make_learning([4e3, 2e4, 8e4], [0.1, 0.5, 0.7], 38_200.0),
    model_errors={"held_out_dynamics": 0.01234, "[red]<b>": nan},
)
SLOW = make_row("maml", MAML, learning=make_learning([1e4, 1e6], [0.1, 0.4], None))
PAID = make_row(
    "maml",
    [*MAML[:-1], 260.0],
    metrics=["falls"],
    online=OnlineScores(
        (5, 10), (estimate(-0.31, 0.02), estimate(0.42, 0.02)), -2.345, {"falls": estimate(7.25, 1)}
    ),
)
AT_ONCE = make_row("idle", MAML, learning=make_learning([0.0], [0.9], 0.0))

ALL_SCORES = (
    make_scores("wiring-v1", make_row("maml", MAML), make_row("rl2", MAML[::-1], seeds=1, rank=(2, 2))),
    make_scores("length-v1", make_row("maml", MAML, seeds=10), ood=False, headroom=0.01),
    make_scores("broken-v1", make_row("crashed", [-9000.0] * 6, failed=(1, 4)), ood=False),
    make_scores("references-only-v1", ood=False, headroom=nan),
    make_scores("many-v1", *(make_row(name, MAML, rank=(1, 12)) for name in (*NASTY, *"abcde")), ood=False),
    make_scores("learned-v1", LEARNED, SLOW, AT_ONCE, ood=False),
    make_scores("metered-v1", make_row("maml", MAML, metrics=METRICS), ood=False),
    make_scores("paid-v1", PAID, ood=False, doubts=("provisional references",)),
    make_scores("unsure-v1", make_row("maml", MAML), ood=False, headroom=0.22),
)
SETUP = Setup(
    Description(
        "wiring-v1",
        "One policy <b>solves</b> them all.",
        "cartpole",
        500,
        10.0,
        (
            DrawnParam(
                "wiring",
                "1<i>",
                "sign of the force",
                dict.fromkeys(("train", "test", "ood"), "choice of -1, 1"),
            ),
        ),
        {
            split: tuple((wiring,) for wiring in [-1.0, 0.123456] * (TASKS // 2))
            for split in ("train", "test", "ood")
        },
    ),
    budget="meta_train 2,000 env steps",
    protocol="k = 0, 1, 2, 3, 5, 10 adaptation episodes",
    agents={
        "rl2<b>": AgentSetup(
            "rl2:<b>", ("lr=0.1", "name='<i>'"), "mrl-bench evaluate wiring-v1 '<b>' --seed 3"
        )
    },
)
INFO = BenchInfo(
    suite="core-v1 <suite>",
    doc="What it is <for>",
    created="2026-11-23",
    commit="8c1f0de4b7a9",
    device="cpu",
    machine="a & b",
    versions={"torch": "2.9.1"},
    seconds={("wiring-v1", "maml"): 192.0},
    setups={"8f3a9c01d2e47b65": SETUP},
    videos={
        "wiring-v1": Video(
            "rl2<b>", 1, "wiring\x1b -1", 10, (9.81, 123.4), (0.62, 10.0), 484, 180, b"moving", b"still"
        )
    },
)


class Page(HTMLParser):
    """What a browser would make of a page: its elements, and its text without styles."""

    VOID = frozenset({"meta", "br", "hr", "img", "link", "input", "source"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.text += data


@pytest.fixture(scope="module")
def html() -> str:
    return render_page(ALL_SCORES, INFO)


@pytest.fixture(scope="module")
def page(html: str) -> Page:
    return Page(html)


@pytest.fixture(scope="module")
def table() -> str:
    return plain_text(ALL_SCORES, INFO, splits=("test", "ood"))


# ---- numbers ----


@pytest.mark.parametrize(
    ("shown", "wanted"),
    [
        (text.score(-0.001), "0.00"),
        (text.score(nan), DASH),
        (text.number(0.123), "0.12"),
        (text.number(43.21), "43.2"),
        (text.number(99.96), "100"),
        (text.number(-1234.5), "-1234"),
        (text.number(-inf), DASH),
        (text.plus_minus(Estimate(0.5, 0.4, 0.6)), "0.50 ±0.10"),
        (text.plus_minus(Estimate(0.98, 0.9, 1.0)), "0.98 -0.08 +0.02"),
        (text.plus_minus(Estimate(0.5, nan, nan)), "0.50"),
        (text.interval(Estimate(0.5, 0.4, 0.6)), "[0.40, 0.60]"),
        (text.interval(Estimate(0.5, nan, nan)), ""),
        (text.count(0), "0"),
        (text.count(999.6), "1k"),
        (text.count(1234), "1.2k"),
        (text.count(15_400), "15k"),
        (text.count(999_900), "1M"),
        (text.count(nan), DASH),
        (text.significant(0.01234), "0.0123"),
        (text.significant(inf), DASH),
        (text.steps_to_60(LEARNED), "38k"),
        (text.steps_to_60(SLOW), DASH),
        (text.steps_to_60(AT_ONCE), "0"),
        (text.steps_to_60(make_row("a", MAML)), DASH),
        (text.train_time(None), DASH),
        (text.train_time(0.04), "0.0 s"),
        (text.train_time(59.7), "1 min 00 s"),
        (text.train_time(7512), "2 h 05 min"),
        (text.rank(make_row("a", MAML, rank=(2, 4))), "2-4"),
        (text.rank(make_row("a", MAML, rank=None)), DASH),
        (text.seeds(make_row("a", MAML, seeds=10, failed=(2, 1))), "10, 2 failed"),
        (text.failed([make_row("a", MAML, failed=(2, 1))]), "2 seeds, 1 episode"),
        (text.printable("a\x1b[31m\n\u202eb"), "a\ufffd[31m\ufffd\ufffdb"),
    ],
)
def test_numbers_read_as(shown: str, wanted: str) -> None:
    assert shown == wanted


# ---- all forms ----


@pytest.mark.parametrize("form", ["table", "page"])
def test_every_scenario_and_agent_appears(form: str, request: pytest.FixtureRequest) -> None:
    report = request.getfixturevalue(form)
    shown = report.text if form == "page" else report
    squeezed = "".join(shown.split())
    for scenario_scores in ALL_SCORES:
        assert scenario_scores.scenario in shown
        for row in scenario_scores.splits["test"].rows:
            name = "".join(text.printable(row.agent).split())
            assert (name if form == "page" else name[:8]) in squeezed  # a table folds a long name


@pytest.mark.parametrize("form", ["table", "page"])
def test_what_cannot_be_trusted_is_marked(form: str, request: pytest.FixtureRequest) -> None:
    report = request.getfixturevalue(form)
    shown = report.text if form == "page" else report
    shown = " ".join(shown.split())
    for words in (
        "headroom 0.01 [-0.05, 0.06]: no adaptation needed, scores are not meaningful",
        f"headroom {DASH}: references too weak, scores are not meaningful",
        "headroom 0.22 [0.16, 0.27]: headroom uncertain",
        "headroom 0.66 [0.60, 0.71]: references too weak",
        "maml is above the oracle: the reference is not a ceiling here",
        "crashed: 1 seed failed; a failed seed scores no better than random",
        "crashed: 4 episodes failed; a cell with a failed episode scores no better than random",
        "2, 1 failed" if form == "table" else "failed: 1 seed, 4 episodes",
        "provisional references",
    ):
        assert words in shown, words
    assert "headroom uncertain, scores" not in shown
    assert "preliminary" in shown
    assert re.search(r"\b(nan|inf|None)\b", shown, re.IGNORECASE) is None


@pytest.mark.parametrize("form", ["table", "page"])
def test_sample_efficiency_and_model_errors_are_shown(form: str, request: pytest.FixtureRequest) -> None:
    report = request.getfixturevalue(form)
    shown = report.text if form == "page" else report
    here = shown.rindex("learned-v1 · test" if form == "table" else "learned-v1")
    others, own = shown[:here], shown[here:]
    assert "to score 0.6" in own
    assert "to score 0.6" not in others
    errors = "".join(own[own.lower().index("model error on held-out tasks") :].split())
    assert "mbmlheld_out_dynamics0.0123" in errors
    assert f"mbml[red]<b>{DASH}" in errors


@pytest.mark.parametrize(
    ("form", "words"),
    [
        ("table", "k=0 → k=10 agent driving score hits per [red]km<b> maml 21.5 → 99.5 21.5 → 99.5"),
        ("page", "driving score k = 0 driving score k = 10 hits per [red]km<b> k = 0"),
        ("page", "preliminary 21.5 [19.5, 23.5] 99.5 [97.5, 102] 21.5"),
    ],
)
def test_metrics_are_shown_where_there_are_some(
    form: str, words: str, request: pytest.FixtureRequest
) -> None:
    report = request.getfixturevalue(form)
    shown = report.text if form == "page" else report
    here = shown.rindex("metered-v1 · test" if form == "table" else "metered-v1")
    others, own = ("".join(re.sub("─+", "", part).split()) for part in (shown[:here], shown[here:]))
    assert "".join(words.split()) in own
    assert "drivingscore" not in others


@pytest.mark.parametrize("form", ["table", "page"])
def test_the_price_of_adaptation_is_shown(form: str, request: pytest.FixtureRequest) -> None:
    report = request.getfixturevalue(form)
    shown = "".join((report.text if form == "page" else report).split())
    words = (
        "maml -0.31 → 0.42 -2.35 7.25"
        if form == "table"
        else "-0.31[-0.33, -0.29] 0.42[0.40, 0.44] -2.35 7.25"
    )
    assert "".join(words.split()) in shown


def test_same_scores_give_the_same_bytes(table: str, tmp_path: Path) -> None:
    all_scores = ALL_SCORES[1:2]
    assert plain_text(ALL_SCORES, INFO, splits=("test", "ood")) == table
    assert render_page(all_scores, INFO) == render_page(all_scores, INFO)
    first, second = (figures.write_figures(all_scores, tmp_path / name) for name in "ab")
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


@pytest.mark.parametrize("failed", [(0, 0), (1, 0), (0, 1)])
def test_a_failure_is_said_of_what_failed_alone(failed: tuple[int, int]) -> None:
    scenario_scores = make_scores("tough-v1", make_row("maml", MAML, failed=failed), ood=False)
    said = [
        words for words in text.warnings(scenario_scores, scenario_scores.splits["test"]) if "failed" in words
    ]
    assert [words.split(" failed")[0] for words in said] == [
        f"maml: 1 {noun}" for noun, count in zip(("seed", "episode"), failed, strict=True) if count
    ]


def test_only_the_suite_must_be_known() -> None:
    page = render_page(ALL_SCORES[:1], BenchInfo("core-v1"))
    assert "Every task" in page


# ---- table ----


def test_plain_table_fits_a_log(table: str) -> None:
    assert max(map(len, table.splitlines())) <= 100
    assert table.replace("\n", "").isprintable()


@pytest.mark.parametrize("width", [20, 40, 60, 80])
def test_a_narrow_terminal_shows_every_cell_of_every_table(width: int) -> None:
    tables = [
        part for part in table_parts(ALL_SCORES, INFO, ("test", "ood")) if isinstance(part, WrappedTable)
    ]
    assert len(tables) > 2 * len(ALL_SCORES)
    for table in tables:
        out = StringIO()
        Console(file=out, width=width, color_system=None).print(table)
        lines = out.getvalue().splitlines()
        assert max(map(cell_len, lines)) <= width
        texts = [*table.headers, table.title, table.key]
        for name, cells, _ in table.rows:
            texts += [name.plain, *(cell.plain for cell in cells)]
            for header, cell in zip(table.headers, cells, strict=True):
                if header not in table.text_columns:  # a number is never broken
                    assert any(cell.plain.strip() in line for line in lines), cell.plain
        shown, expected = (Counter("".join("".join(part).split())) for part in (lines, texts))
        assert shown >= expected  # long names and prose are folded, and no letter is lost


def test_a_table_that_is_too_wide_continues_below_itself() -> None:
    parts = plain_text(ALL_SCORES[:1], INFO, width=40).split("\n\n")
    scores = [part.splitlines() for part in parts if "±" in "".join(part.splitlines()[-4:])]
    assert [re.split("  +", part[-6].strip()) for part in scores[:3]] == [
        ["agent", "rank", "k=0", "k=1"],
        ["agent", "k=10", "mean k=10"],
        ["agent", "gain", "zero-shot"],
    ]
    assert all(part[-4].startswith("maml") for part in scores[:3])


@pytest.mark.parametrize("width", [1, 5, 11])
def test_no_width_is_too_small_to_print(width: int) -> None:
    assert plain_text(ALL_SCORES, INFO, splits=("test", "ood"), width=width)


def test_plain_table_ends_with_a_legend(table: str) -> None:
    legend = table[table.index("\nk: adaptation episodes") :]
    for term in ("score", "rank", "gain", "ood", "headroom", "seeds", "env steps to score 0.6"):
        assert f"{term}: " in legend


def test_plain_table_shows_returns_scores_and_cost(table: str) -> None:
    assert re.search(r"maml +1\* +0.09 ±0.02 +0.85 ±0.02 +0.99 ±0.02 +0.98 ±0.02 +0.91 ±0.02", table)
    assert re.search(r"maml +43.0 +175 +186 +198 +199 +199 +2 +2M +3 min 12 s\n", table)


def test_summary_names_the_leaders_last(table: str) -> None:
    summary = table[table.index("summary:") :]
    assert re.search(r"wiring-v1 +test +0.66 +maml 0.99 ±0.02", summary)
    assert re.search(r"length-v1 +test +0.01! +no adaptation needed", summary)


def test_table_is_plain_unless_on_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    print_tables(ALL_SCORES[:1], INFO)
    assert capsys.readouterr().out == plain_text(ALL_SCORES[:1], INFO)


def test_table_is_coloured_on_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    print_tables(ALL_SCORES[1:2], INFO)
    assert "\x1b[" in capsys.readouterr().out


# ---- page ----


def test_page_shows_scores_returns_and_cost(page: Page) -> None:
    words = " ".join(page.text.split())
    assert "maml2 seeds, preliminary 1 0.09[0.07, 0.11] 0.85[0.83, 0.87] 0.99[0.97, 1.01]" in words
    assert "2M steps3 min 12 s" in words
    assert "43.0[39.6, 46.4]0 steps 175[172, 178]45 steps" in words


def test_page_shows_parameters_settings_commands_and_every_task(page: Page) -> None:
    words = " ".join(page.text.split())
    assert "One policy <b>solves</b> them all." in words
    assert (
        "parameterunit train test ood meaning wiring1<i>" + 3 * " choice of -1, 1" + " sign of the force"
        in words
    )
    assert "protocolk = 0, 1, 2, 3, 5, 10 adaptation episodes" in words
    assert "rl2<b> rl2:<b> settings: lr=0.1, name='<i>'mrl-bench evaluate wiring-v1 '<b>' --seed 3" in words
    assert "task maml rl2 wiring1<i> 0 0.89-0.01 -0.010.89 -1 1 0.900.00 0.000.90 0.123" in words


def test_scores_as_csv_have_a_row_for_each_split_agent_and_k() -> None:
    rows = list(csv.DictReader(StringIO(scores_csv(ALL_SCORES))))
    expected = [
        (scores.scenario, split.split, row.agent, str(k))
        for scores in ALL_SCORES
        for split in scores.splits.values()
        for row in split.rows
        for k in EPISODES
    ]
    assert sorted((row["scenario"], row["split"], row["agent"], row["k"]) for row in rows) == sorted(expected)
    maml = next(row for row in rows if (row["split"], row["agent"], row["k"]) == ("test", "maml", "10"))
    assert float(maml["score"]) == ALL_SCORES[0].splits["test"].rows[0].scores[-1].value
    random = next(row for row in rows if row["agent"] == "random")
    assert random["score_low"] == random["best_rank"] == ""
    documented = re.search(r"scores.csv +(.*?)\n +report.html", RUNNING, re.DOTALL)
    assert documented
    assert list(maml) == re.findall(r"\w+", documented[1].partition(": ")[2])
    assert scores_csv([]) == "\n"


def test_an_agent_that_failed_is_the_last_column_of_the_summary() -> None:
    failed, finished = make_row("failed", MAML, failed=(1, 0)), make_row("finished", [-900.0] * 6)
    page = Page(render_page([make_scores("x-v1", failed, finished, ood=False)], INFO))
    shown = [cell["data-label"] for tag, cell in page.elements if tag == "td" and "data-label" in cell]
    assert shown == ["headroom", "finished", "failed"]


def test_page_is_well_formed_and_escaped(html: str, page: Page) -> None:
    assert page.open == []
    assert "<script" not in html
    assert "<b>" not in html
    assert "{{ 7*7 }}" in page.text
    assert "What it is <for>" in page.text


def test_page_loads_nothing(html: str, page: Page) -> None:
    tags = {tag for tag, _ in page.elements}
    assert not tags & {"script", "link", "iframe", "object", "embed", "base", "form", "image"}
    assert "http://" not in html
    assert "https://" not in html
    assert "@import" not in html
    assert set(re.findall(r"url\((.)", html)) <= {"#"}
    for _, attributes in page.elements:
        assert not {key for key in attributes if key.startswith("on")}
        images = [attributes[key] or "" for key in ("src", "srcset") if key in attributes]
        assert all(image.startswith("data:image/webp;base64,") for image in images)
        assert (attributes.get("href") or "#").startswith("#")


def test_page_has_the_content_security_policy(page: Page) -> None:
    policies = [a["content"] for tag, a in page.elements if tag == "meta" and "http-equiv" in a]
    assert policies == ["default-src 'none'; style-src 'unsafe-inline'; img-src data:"]


def test_page_ids_are_unique_and_references_resolve(html: str, page: Page) -> None:
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    references = [attributes["href"] for _, attributes in page.elements if "href" in attributes]
    references += re.findall(r"url\((#[^)]+)\)", html)
    assert set(references) <= {f"#{name}" for name in ids}


def test_page_explains_its_terms_and_styles_reference_agents(html: str, page: Page) -> None:
    terms = re.findall("<dt>(.*?)</dt>", html[html.index("How to read the numbers") :])
    assert {"k", "Score", "Headroom", "Gain", "Area", "Env steps to score 0.6", "Rank"} <= set(terms)
    assert "env stepsto score 0.6at k = 1" in page.text
    classes = {attributes.get("class") for tag, attributes in page.elements if tag == "tr"}
    assert classes == {None, "reference"}
    assert ".reference th" in html  # the style has the name that the rows have


def test_page_is_accessible(page: Page) -> None:
    for tag, attributes in page.elements:
        if tag == "svg":
            assert attributes["role"] == "img"
            assert attributes["aria-label"]
        if tag == "img":
            assert attributes["alt"]
        if tag == "th":
            assert attributes["scope"] in {"col", "row"}


def test_a_video_is_shown_as_a_still_to_readers_who_prefer_reduced_motion(page: Page) -> None:
    (image,) = (attributes for tag, attributes in page.elements if tag == "img")
    (still,) = (attributes for tag, attributes in page.elements if tag == "source")
    words = (
        "rl2<b>, seed 1, on the first test task (wiring\ufffd -1): "
        "return 9.81 before adaptation, 123 after 10 adaptation episodes"
    )
    assert image == {"src": inline(b"moving"), "width": "484", "height": "180", "alt": words}
    assert still == {"media": "(prefers-reduced-motion: reduce)", "srcset": inline(b"still")}
    assert page.text.count(words) == 1  # on the test split alone
    assert "k = 0: return 9.81 in 0.62 sk = 10: return 123 in 10.0 s" in page.text


def inline(image: bytes) -> str:
    return f"data:image/webp;base64,{b64encode(image).decode()}"


def test_page_is_replaced_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "new" / "page.html"
    write_page(ALL_SCORES[3:4], INFO, path)
    before = path.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_atomically(path, b"half a p")
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]

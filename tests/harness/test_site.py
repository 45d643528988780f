"""The leaderboard's site: what every page shows, with and without its script, and what none may do."""

from __future__ import annotations

import json
import os
import shutil
import time
from base64 import b64encode
from hashlib import sha256
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bench_kit import run_here
from browser import DESK, LOW_CONTRAST, PHONE, Browser
from site_kit import Agent, make_leaderboard, make_suite
from test_report import Page

from mrl_bench.errors import UsageError, printable
from mrl_bench.leaderboard.entry import Entry
from mrl_bench.leaderboard.folder import Leaderboard
from mrl_bench.leaderboard.site.pages import Site, write_site
from mrl_bench.leaderboard.site.parallel import for_each
from mrl_bench.leaderboard.site.ranking import common_points
from mrl_bench.leaderboard.site.reading import read_contents
from mrl_bench.leaderboard.standing import places, standings
from mrl_bench.leaderboard.submission import returns_path
from mrl_bench.report.formatting import DASH
from mrl_bench.runs.provenance import cores
from mrl_bench.scenario.suite import Suite

SCRIPT, IMAGE = "</script><script>alert(1)</script>", '"><img src=x onerror=alert(1)>'
HOSTILE = (SCRIPT, IMAGE, "\u202eevil \u05d0\u05d1\u05d2", "W" * 200, "{{ 7*7 }}${7*7}")
AGENTS = (
    Agent("first", 0.9, "Ada", level=3),
    Agent("second", 0.8, "Ada", division="privileged-training", level=1),
    Agent("alike", 0.8, "Bo"),
    Agent("failing", 0.5, SCRIPT, error=IMAGE),
    Agent("بطيء", 0.3, IMAGE, target=SCRIPT, versions={SCRIPT: IMAGE}),
    Agent("W" * 100, 0.2, HOSTILE[2]),
    Agent("plain", 0.1, HOSTILE[3]),
    Agent("gone", 0.7, "Ada", withdrawn=f"it was {SCRIPT}"),
)
OTHERS = (Agent("elsewhere", 0.4, HOSTILE[4]), Agent("first", 0.6, "Ada"))


@pytest.fixture(scope="module")
def suites(tmp_path_factory: pytest.TempPathFactory) -> tuple[Suite, Suite]:
    folder = tmp_path_factory.mktemp("suites")
    return make_suite(folder / "one"), make_suite(folder / "other", 1, id="how")


@pytest.fixture(scope="module")
def leaderboard(suites: tuple[Suite, Suite], tmp_path_factory: pytest.TempPathFactory) -> Leaderboard:
    folder = tmp_path_factory.mktemp("folder") / "leaderboard"
    return make_leaderboard(folder, (suites[0], AGENTS), (suites[1], OTHERS))


@pytest.fixture(scope="module")
def site(leaderboard: Leaderboard, suites: tuple[Suite, Suite]) -> Path:
    out = leaderboard.folder.parent / "site"
    ladder = [each.id for each in leaderboard.listed()[1:4:2]]
    assert write_site(read_contents(leaderboard, [suite.path for suite in suites], ladder), out) == 15
    return out


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[str, str]:
    return {str(path.relative_to(site)): path.read_text() for path in sorted(site.rglob("*.html"))}


def ids(leaderboard: Leaderboard) -> dict[str, str]:
    """Agent of the first suite -> its page."""
    return {
        agent.name: f"agents/{each.id[:12]}.html"
        for agent, each in zip(AGENTS, leaderboard.listed(), strict=False)
    }


# ---- safety ----


def test_pages_hold_one_style_sheet_one_script_and_nothing_that_their_policy_forbids(
    pages: dict[str, str],
) -> None:
    for name, html in pages.items():
        page = Page(html)
        assert page.open == [], name
        scripts = [attributes for tag, attributes in page.elements if tag == "script"]
        expected = [{"type": "application/json"}] * 2 + [{}] if name == "index.html" else []
        assert scripts == expected, name
        for tag, attributes in page.elements:
            assert "style" not in attributes, (name, tag)
            assert not [each for each in attributes if each.startswith("on")], (name, tag)
            assert tag not in ("img", "iframe", "object", "embed", "base"), name
            assert "src" not in attributes
        (policy,) = (a["content"] for tag, a in page.elements if tag == "meta" and "http-equiv" in a)
        assert policy
        assert policy.startswith("default-src 'none'; ")
        for tag, directive in (("style", "style-src"), ("script", "script-src")):
            for text in html.split(f"<{tag}>")[1:]:
                digest = sha256(text.partition(f"</{tag}>")[0].encode()).digest()
                assert f"{directive} 'sha256-{b64encode(digest).decode()}'" in policy, name


def test_links_stay_within_the_site_and_lead_somewhere(pages: dict[str, str], site: Path) -> None:
    for name, html in pages.items():
        for _, attributes in Page(html).elements:
            if (href := attributes.get("href")) and href != "data:,":
                path, _, fragment = href.partition("#")
                target = (site / name).parent / path if path else site / name
                assert target.resolve().is_relative_to(site.resolve())
                assert target.is_file(), (name, href)
                assert not fragment or f'id="{fragment}"' in target.read_text(), (name, href)


def test_hostile_words_are_text(pages: dict[str, str], leaderboard: Leaderboard) -> None:
    front = Page(pages["index.html"])
    for words in HOSTILE:
        assert printable(words) in front.text
    assert "\u202e" not in "".join(pages.values())
    assert f"it was {SCRIPT}" in front.text
    known = ids(leaderboard)
    assert IMAGE in Page(pages[known["failing"]]).text
    page = Page(pages[known["بطيء"]])
    assert SCRIPT in page.text
    assert f"mrl-bench score '{SCRIPT}'" in page.text
    data = [part.partition("</script>")[0] for part in pages["index.html"].split('application/json">')[1:]]
    assert all("<" not in part for part in data)
    assert SCRIPT in [agent[1] for agent in json.loads(data[1])["agents"]]


# ---- contents ----


def rows(html: str) -> list[list[str]]:
    """The cells of the first suite's table, row by row, as text."""
    body = (
        html.replace("<small", " <small")
        .partition('id="suite-tiny"')[2]
        .partition("<tbody>")[2]
        .partition("</tbody>")[0]
    )
    return [
        [" ".join(Page(f"<p{cell}").text.split()) for cell in row.replace("<th", "<td").split("<td")[1:]]
        for row in body.replace("</td>", "").replace("</th>", "").replace("</tr>", "").split("<tr")[1:]
    ]


def test_without_script_the_front_page_is_a_table_of_overall_scores_with_links(
    pages: dict[str, str], leaderboard: Leaderboard
) -> None:
    html = pages["index.html"]
    assert '<form class="controls" hidden>' in html
    found = {row[0].split()[0]: row for row in rows(html)}
    assert [name[:6] for name in found] == ["first", "second", "alike", "failin", "بطيء", "WWWWWW", "plain"]
    assert [row[1] for row in found.values()][:4] == ["1", "2-3", "2-3", "4-6"]
    assert found["first"][0] == "first Ada"
    assert found["first"][-6:] == ["3 preliminary", "295", "standard", "3 fresh", "4", "2026-11-28"]
    assert found["second"][6] == "privileged-training"
    assert found["failing"][0].endswith("failed: 1 run")
    assert found["second"][3] == "beats failing"
    assert found["first"][3].startswith("level with second, beats failing")
    assert html.count("<figure>") == 4 + 2
    assert "gone" not in found
    assert Page(html).text.count("Withdrawn") == 1


def test_a_withdrawn_submission_leaves_a_page_with_the_reason_alone(
    pages: dict[str, str], leaderboard: Leaderboard
) -> None:
    page = pages[ids(leaderboard)["gone"]]
    assert f"was withdrawn: it was {SCRIPT}" in Page(page).text
    assert "0.7" not in Page(page).text
    assert "<table" not in page


def test_an_agents_page_has_scores_costs_settings_and_commands(
    pages: dict[str, str], leaderboard: Leaderboard
) -> None:
    html = pages[ids(leaderboard)["second"]]
    text = " ".join(Page(html.replace("<td", " <td").replace("<dd", " <dd")).text.split())
    for words in (
        "privileged-training",
        "3 seeds, preliminary on 3 scenarios",
        "Ada, 4 attempts",
        "level 1, replayed",
        "Price of adaptation, test: the adaptation episodes themselves score",
        "beats failing",
        "290 12 s",  # env steps and time of a run
        "all scenarios layers=[64, 64], lr=0.1, note=second",
        "my_agent:Agent --suite tiny --seeds 3 --name second --division privileged-training --set 'layers=[64, 64]'",
        "mrl-bench verify leaderboard/submissions/",
        "torch 2.9",
    ):
        assert words in text, words
    assert html.count("<figure>") == 9
    assert IMAGE in Page(pages[ids(leaderboard)["failing"]]).text


def test_a_scenarios_page_has_its_parameters_references_agents_and_yaml(pages: dict[str, str]) -> None:
    html = pages["scenarios/tiny/pole-0-v1.html"]
    text = " ".join(Page(html).text.split())
    for words in (
        "force_magnitude",
        "uniform 20 to 60",
        "headroom",
        "0.11",
        "family: cartpole",
        "k = 0, 2, 6",
    ):
        assert words in text, words
    for agent in AGENTS[:-1]:
        assert agent.name in text
    assert html.count("<circle") == len(AGENTS) - 1
    assert "ood" not in Page(pages["scenarios/tiny/drive-2-v1.html"]).text.partition("YAML")[0]


def test_index_json_holds_the_standings_that_rank_prints(
    site: Path, leaderboard: Leaderboard, suites: tuple[Suite, Suite]
) -> None:
    index = json.loads((site / "index.json").read_bytes())
    assert index.keys() == {"format", "changed", "ladder", "suites", "withdrawn", "left_out"}
    assert (index["format"], index["left_out"]) == (1, {})
    assert [each["reason"] for each in index["withdrawn"]] == [f"it was {SCRIPT}"]
    assert [suite["id"] for suite in index["suites"]] == ["how", "tiny"]
    suite = index["suites"][1]
    kinds = [(each["kind"], each["name"]) for each in suite["rankings"]]
    assert kinds[:3] == [("overall", "overall"), ("family", "cartpole"), ("family", "driving")]
    found = {each["id"]: each for each in suite["submissions"]}
    assert [each["author"] for each in found.values()] == [agent.author for agent in AGENTS[:-1]]
    assert [each["attempts"] for each in found.values()] == [4, 4, 1, 1, 1, 1, 1]
    entries = {id: Entry.load(leaderboard.submission_folder(id), suites[0].path) for id in found}
    for split in ("test", "ood"):
        for name, expected in standings(entries, index["ladder"], split).items():
            for id, standing in expected.items():
                shown = found[id]["standings"][name][split]
                assert shown["score"] == pytest.approx(standing.score, abs=1e-6)
                assert shown["high"] == pytest.approx(standing.high, abs=1e-6)
                assert tuple(shown["places"]) == standing.places
                assert shown["verdicts"] == standing.verdicts


def test_a_second_time_nothing_is_written_and_pages_of_what_is_gone_are_removed(
    leaderboard: Leaderboard, suites: tuple[Suite, Suite], tmp_path: Path
) -> None:
    out, other = tmp_path / "site", Leaderboard(tmp_path / "leaderboard")
    shutil.copytree(leaderboard.folder, other.folder)
    command = ("leaderboard", "site", "--folder", other.folder, "--out", out, "--suite", suites[1].path)
    code, said, err = run_here(*command)
    assert (code, err) == (0, "")
    assert said == f"{out / 'index.html'}: 5 pages\n"  # with those of another suite left out
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.*")}
    assert run_here(*command)[0] == 0
    assert before == {path: path.stat().st_mtime_ns for path in out.rglob("*.*")}
    last = other.listed()[-1].id
    other.withdraw(last, "a mistake")
    (out / "agents" / f"{0:012}.html").write_text("of an earlier site")
    assert run_here(*command)[0] == 0
    assert "a mistake" in (out / "agents" / f"{last[:12]}.html").read_text()
    assert not (out / "agents" / f"{0:012}.html").exists()


def test_what_this_version_cannot_compare_is_named_and_the_rest_is_shown(
    suites: tuple[Suite, Suite], tmp_path: Path
) -> None:
    changed = make_suite(tmp_path / "changed", scored=2)
    leaderboard = make_leaderboard(
        tmp_path / "leaderboard", (suites[0], AGENTS[:2]), (changed, [Agent("new", 0.5)])
    )
    contents = read_contents(leaderboard, [suites[0].path])
    (why,) = contents.left_out.values()
    assert "is another scenario in this version" in why
    pages = {name: make() for name, make in Site(contents, tmp_path).pages().items()}
    assert why in unescape(pages["index.html"].decode())
    assert len(json.loads(pages["index.json"])["suites"][0]["submissions"]) == 2
    folder = leaderboard.submission_folder(contents.shown["tiny"][0].id)
    (folder / returns_path("pole-0-v1")).unlink()
    assert "is missing" in " ".join(read_contents(leaderboard, [suites[0].path]).left_out.values())


def test_an_empty_leaderboard_has_a_site_and_a_strange_ladder_is_refused(tmp_path: Path) -> None:
    empty = Leaderboard(tmp_path)
    pages = {name: make() for name, make in Site(read_contents(empty), tmp_path).pages().items()}
    assert "There are no submissions yet" in pages["index.html"].decode()
    assert json.loads(pages["index.json"])["suites"] == []
    with pytest.raises(UsageError, match="no submissions"):
        read_contents(empty, ladder=["abc"])


def test_points_that_scenarios_share() -> None:
    assert common_points([(0, 2, 6)]) == (("0", "2", "6"), (0, 2, 6), [[0, 1, 2]])
    assert common_points([(0, 1, 2, 6), (0, 2, 6)]) == (("0", "2", "6"), (0, 2, 6), [[0, 2, 3], [0, 1, 2]])
    assert common_points([(0, 2, 6), (0, 2, 4, 8)]) == (("0", "2", "last"), (0, 2, 8), [[0, 1, 2], [0, 1, 3]])
    assert common_points([(0,), (0, 5)]) == (("last",), (5,), [[0], [1]])


def test_places_are_those_of_their_definition() -> None:
    rng = np.random.default_rng(0)
    means, half = rng.normal(size=50).round(1), rng.uniform(0, 1, 50)
    half[:5] = np.nan
    best, worst = places(means, half)
    for i, mean in enumerate(means):
        others, own = np.delete(means, i), np.nan_to_num(half[i])
        assert best[i] == 1 + sum(others > mean + own)
        assert worst[i] == 1 + sum(others >= mean - own)


# ---- size ----


@pytest.mark.parametrize(
    ("count", "scenarios", "seeds"),
    [(25, 3, 3), pytest.param(500, 8, 10, marks=pytest.mark.slow)],
)
def test_a_site_is_made_within_seconds_and_its_front_page_is_small(
    count: int, scenarios: int, seeds: int, tmp_path: Path
) -> None:
    suite = make_suite(tmp_path / "suite", scenarios, tasks=20, k=(0, 1, 2, 3, 5, 10))
    rng = np.random.default_rng(0)
    agents = [Agent(f"agent-{n}", float(rng.random()), f"author {n % 60}") for n in range(count)]
    leaderboard = make_leaderboard(tmp_path / "leaderboard", (suite, agents), seeds=seeds)
    began = time.perf_counter()
    write_site(read_contents(leaderboard, [suite.path]), tmp_path / "site")
    assert time.perf_counter() - began < 20
    assert (tmp_path / "site" / "index.html").stat().st_size < 3e6
    assert len([*(tmp_path / "site" / "agents").iterdir()]) == count


def test_pages_are_written_in_several_processes_and_an_error_in_any_is_raised(tmp_path: Path) -> None:
    def work(number: int) -> None:
        if number == failing:
            raise OSError(f"no space for {number}")
        (tmp_path / f"{number}").write_text(str(os.getpid()))

    failing = -1
    for_each(range(6), work)
    assert {path.name for path in tmp_path.iterdir()} == set("012345")
    assert len({path.read_text() for path in tmp_path.iterdir()}) == min(cores(), 6)
    for failing in (0, 1):
        with pytest.raises(OSError, match=f"no space for {failing}"):
            for_each(range(6), work)


# ---- in a browser ----


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [PHONE, DESK])
def test_pages_fit_are_legible_and_ask_for_nothing(
    browser: Browser, site: Path, leaderboard: Leaderboard, width: int, dark: bool
) -> None:
    known = ids(leaderboard)
    names = ["index.html", "scenarios/tiny/pole-0-v1.html", known["بطيء"], known["W" * 100], known["gone"]]
    for name in names:
        browser.open(site / name, width, dark)
        assert browser.evaluate("document.documentElement.scrollWidth") <= width, name
        assert browser.evaluate(LOW_CONTRAST) == [], name
        assert not browser.complaints, name
        assert browser.requests == [(site / name).as_uri()]


class Front:
    """The front page, used with the keyboard."""

    SECTION = "document.getElementById('suite-tiny')"

    def __init__(self, browser: Browser, site: Path) -> None:
        self.browser = browser
        browser.open(site / "index.html", DESK, dark=False)

    def press(self, *keys: str) -> None:
        for key in keys:
            text = {"Enter": "\r", " ": " "}.get(key, key if len(key) == 1 else "")
            code = {"Enter": 13, " ": 32, "ArrowDown": 40, "ArrowUp": 38, "End": 35}.get(key, 0)
            params: dict[str, Any] = {"key": key, "windowsVirtualKeyCode": code}
            self.browser.call("Input.dispatchKeyEvent", type="keyDown", text=text, **params)
            self.browser.call("Input.dispatchKeyEvent", type="keyUp", **params)

    def focus(self, selector: str) -> None:
        found = f"{self.SECTION}.querySelector({json.dumps(selector)})"
        assert self.browser.evaluate(f"{found}.focus(), document.activeElement === {found}"), selector

    def names(self) -> list[str]:
        found: list[str] = self.browser.evaluate(
            f"[...{self.SECTION}.querySelectorAll('tbody tr')].filter(row => row.getClientRects().length)"
            ".map(row => row.querySelector('a').textContent)"
        )
        return found

    def cell(self, column: int) -> list[str]:
        found: list[str] = self.browser.evaluate(
            f"[...{self.SECTION}.querySelectorAll('tbody tr:not([hidden])')]"
            f".map(row => row.cells[{column}].textContent)"
        )
        return found

    def sorted_by(self) -> list[list[str]]:
        found: list[list[str]] = self.browser.evaluate(
            f"[...{self.SECTION}.querySelectorAll('th[aria-sort]')]"
            ".map(th => [th.dataset.sort, th.getAttribute('aria-sort')])"
        )
        return found


def test_the_table_is_sorted_and_filtered_with_the_keyboard(browser: Browser, site: Path) -> None:
    front = Front(browser, site)
    everyone = front.names()
    assert len(everyone) == 7
    assert front.sorted_by() == [["place", "ascending"]]
    front.focus("th[data-sort=name] button")
    front.press("Enter")
    assert front.sorted_by() == [["name", "ascending"]]
    assert front.names()[0] == "alike"
    front.press(" ")
    assert front.sorted_by() == [["name", "descending"]]
    assert front.names()[-1] == "alike"
    front.focus("select[name=division]")
    front.press("End")
    assert front.names() == ["second"]
    front.press("ArrowUp", "ArrowUp")
    front.focus("input[name=search]")
    front.press("A", "D", "a")
    assert front.names() == ["second", "first"]
    assert browser.evaluate(f"{Front.SECTION}.querySelector('output').textContent") == "2 of 7 agents"
    assert not browser.complaints


def test_other_rankings_splits_and_k_show_their_own_numbers(browser: Browser, site: Path) -> None:
    suite = json.loads((site / "index.json").read_bytes())["suites"][1]
    front = Front(browser, site)
    assert front.cell(1)[:2] == ["1", "2-3"]
    front.focus("select[name=target]")
    front.press("ArrowDown")
    front.focus("select[name=split]")
    front.press("ArrowDown")
    expected = [each["standings"]["cartpole"]["ood"] for each in suite["submissions"]]
    best = max(expected, key=lambda each: each["score"])
    first, last = best["places"]
    assert front.cell(1)[0] == (f"{first}-{last}" if first != last else str(first))
    assert front.cell(2)[0].startswith(f"{best['score']:.2f}[{best['low']:.2f}")
    assert front.cell(3)[0] == "level with second, level with failing"
    front.focus("select[name=k]")
    front.press("ArrowUp")
    assert not front.cell(2)[0].startswith(f"{best['score']:.2f}[")
    assert set(front.cell(3)) == {DASH}, "verdicts are those at the last k"
    front.focus("select[name=target]")
    front.press("End")  # the scenario without ood tasks
    assert front.names() == []
    assert not browser.complaints


def test_chosen_agents_are_drawn_as_the_server_draws_them(browser: Browser, site: Path) -> None:
    front = Front(browser, site)
    paths = f"[...{Front.SECTION}.querySelectorAll('.marks path')].map(path => path.getAttribute('d'))"
    before = browser.evaluate(paths)
    assert len(before) == 4 * 4 * 3  # band, line and points of four agents in four charts
    front.focus("tbody tr:nth-child(1) input")
    front.press(" ")
    assert len(browser.evaluate(paths)) == 3 * 4 * 3
    names = f"[...{Front.SECTION}.querySelectorAll('.key bdi')].map(name => name.textContent)"
    assert "first" not in browser.evaluate(names)
    front.press(" ")
    assert browser.evaluate(names)[-1] == "first"
    assert browser.evaluate(f"{paths}.sort()") == sorted(before) or np.allclose(
        *(sorted(len(path) for path in each) for each in (before, browser.evaluate(paths))), atol=2
    )
    assert not browser.complaints

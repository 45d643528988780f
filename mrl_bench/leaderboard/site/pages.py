"""Renders the site's pages, and writes those that changed."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment
from markupsafe import Markup

from mrl_bench.leaderboard import DIVISIONS, LEVELS
from mrl_bench.leaderboard.site import data, figures
from mrl_bench.leaderboard.site.charts import COLOURS
from mrl_bench.leaderboard.site.parallel import for_each
from mrl_bench.leaderboard.site.ranking import SuiteRanking
from mrl_bench.leaderboard.site.reading import Contents, Shown
from mrl_bench.leaderboard.site.reproduction import Reproduction
from mrl_bench.leaderboard.site.videos import VideoFiles
from mrl_bench.leaderboard.standing import OVERALL
from mrl_bench.leaderboard.submission import SPLITS
from mrl_bench.report.formatting import interval, score
from mrl_bench.report.page import make_environment
from mrl_bench.report.scores import HEADROOM_FLOOR, RANKED_SEEDS, Estimate
from mrl_bench.runs.files import write_atomically
from mrl_bench.runs.provenance import package_versions
from mrl_bench.scenario.description import Description, budget_in_words, protocol_in_words

COMPARED = 4  # agents whose curves pages show without the script
_WORDS = {"beats": "beats", "level": "level with", "below": "below"}
_TEMPLATES = Path(__file__).parent / "templates"
_CLAIMS = ("score", "mean")  # what a submission claims
_PAGES = (
    f"agents/{'[0-9a-f]' * 12}.html",
    "scenarios/*/*.html",
)  # of submissions and scenarios, which may be gone


def write_site(contents: Contents, out: Path) -> int:
    """Writes the site's folder, with a process for each core; a kill leaves each page whole.

    Returns:
        The number of pages.

    Raises:
        OSError: a page cannot be written.
    """
    pages = Site(contents, out).pages()
    *inner, front = pages  # the front page is written last, so that its links lead somewhere
    for_each(inner, partial(_write, pages, out))
    _write(pages, out, front)
    for pattern in _PAGES:
        for path in out.glob(pattern):
            if path.relative_to(out).as_posix() not in pages:
                path.unlink()
    return sum(name.endswith(".html") for name in pages)


def _write(pages: Mapping[str, Callable[[], bytes]], out: Path, name: str) -> None:
    path, text = out / name, pages[name]()
    if not (path.is_file() and path.read_bytes() == text):
        write_atomically(path, text, durable=False)  # it can be made again


@dataclass(frozen=True)
class _Part:
    """What the front page shows of a suite."""

    ranking: SuiteRanking
    compared: list[str]  # names of agents
    charts: list[tuple[str, str, Markup]]  # title, link, chart
    data: Markup


class Site:
    """The pages of a site, by their names in its folder."""

    def __init__(self, contents: Contents, out: Path) -> None:
        self.contents, self.out = contents, out
        self.rankings = [_ranking(contents, suite) for suite in contents.suites]
        self._environment, self._script = _environment()

    def pages(self) -> dict[str, Callable[[], bytes]]:
        """What makes each file, by its name; the front page last."""
        found: dict[str, Callable[[], bytes]] = {}
        for ranking in self.rankings:
            compared = _first(ranking)
            for name in ranking.suite.scenarios:
                page = f"scenarios/{ranking.suite.id}/{name}.html"
                found[page] = partial(self._scenario, ranking, name, compared)
            for entry, one in enumerate(ranking.shown):
                found[f"agents/{one.id[:12]}.html"] = partial(self._agent, ranking, entry)
        for each in self.contents.withdrawn:
            page = f"agents/{each.id[:12]}.html"
            found[page] = partial(self._render, "withdrawn", up="../", each=each)
        found["index.json"] = partial(data.index, self.contents, self.rankings)
        found["index.html"] = self._front
        return found

    def _front(self) -> bytes:
        return self._render(
            "index",
            up="",
            contents=self.contents,
            count=sum(len(ranking.shown) for ranking in self.rankings),
            suites=[self._part(ranking) for ranking in self.rankings],
            script=self._script,
        )

    def _part(self, ranking: SuiteRanking) -> _Part:
        compared = _first(ranking)
        found = list(figures.of_suite(ranking, compared))
        links = {
            target.name: f"scenarios/{ranking.suite.id}/{target.name}.html"
            for target in ranking.targets
            if target.kind == "scenario"
        }
        return _Part(
            ranking=ranking,
            compared=[ranking.shown[entry].submission.agent.name for entry in compared],
            charts=[(title, links.get(title, ""), chart) for _, title, chart in found],
            data=data.for_script(ranking, [place for place, _, _ in found], compared, self.contents.attempts),
        )

    def _agent(self, ranking: SuiteRanking, entry: int) -> bytes:
        one = ranking.shown[entry]
        return self._render(
            "agent",
            up="../",
            one=one,
            entry=entry,
            ranking=ranking,
            ladder=bool(ranking.ladder),
            splits=ranking.splits,
            attempts=self.contents.attempts[one.submission.agent.author],
            scenarios=[
                _of_agent(one, name) | {"video": self._video(one, name)} for name in ranking.suite.scenarios
            ],
            reproduction=Reproduction.of(one.submission, one.id),
        )

    def _video(self, one: Shown, scenario: str) -> VideoFiles | None:
        files = VideoFiles.of(one.id, scenario)
        return files if (self.out / files.moving).is_file() else None

    def _scenario(self, ranking: SuiteRanking, name: str, compared: list[int]) -> bytes:
        suite, up = ranking.suite, "../../"
        scenario, references = suite.scenarios[name], suite.references[name]
        return self._render(
            "scenario",
            up=up,
            suite=suite.id,
            description=Description.of(scenario),
            digest=scenario.digest,
            protocol=protocol_in_words(scenario.protocol),
            budget=budget_in_words(scenario.budget),
            yaml=scenario.path.read_text(),
            references=references,
            doubts=references.doubts(scenario.budget.meta_train),
            scales={split: suite.scales[name, split] for split in SPLITS if (name, split) in suite.scales},
            floor=HEADROOM_FLOOR,
            shown=ranking.shown,
            compared=[ranking.shown[entry].submission.agent.name for entry in compared],
            charts=list(figures.of_scenario(ranking, name, compared, up)),
            rankings={
                split: ranking.rankings[name, split] for split in SPLITS if (name, split) in ranking.rankings
            },
        )

    def _render(self, template: str, **values: Any) -> bytes:
        return self._environment.get_template(f"{template}.html.jinja").render(values).encode()


def _environment() -> tuple[Environment, Markup]:
    """Renders the templates, with one style sheet and one script for all pages; and the script."""
    environment = make_environment(_TEMPLATES)
    environment.filters["estimate"] = _in_cell
    environment.globals["colours"] = COLOURS
    sheets = (environment.get_template(name).render() for name in ("style.css.jinja", "site.css.jinja"))
    style, script = "".join(sheets), (_TEMPLATES / "site.js").read_text()
    environment.globals |= {
        "style": Markup(style),
        "policy": (
            f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(script)}; "
            "img-src 'self' data:; base-uri 'none'; form-action 'none'"
        ),
        "levels": LEVELS,
        "divisions": DIVISIONS,
        "words": _WORDS,
        "least_seeds": RANKED_SEEDS,
        "version": package_versions()["mrl-bench"],
    }
    return environment, Markup(script)


def _in_cell(estimate: Estimate) -> Markup:
    """An estimate in a table's cell. No macro, as in the report: pages have hundreds, and macros are slow."""
    known = interval(estimate)
    return Markup(f"{score(estimate.value)}{f'<small>{known}</small>' if known else ''}")


def _hash(text: str) -> str:
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"


def _ranking(contents: Contents, suite: str) -> SuiteRanking:
    shown = contents.shown[suite]
    ladder = [place for place, one in enumerate(shown) if one.id in contents.ladder]
    return SuiteRanking(contents.suites[suite], shown, ladder)


def _first(ranking: SuiteRanking) -> list[int]:
    """The agents that stand first overall."""
    return ranking.rankings[OVERALL, "test"].order[:COMPARED]


def _of_agent(one: Shown, name: str) -> dict[str, Any]:
    """What an agent's page shows of a scenario."""
    runs = [run for run in one.submission.runs if run.scenario == name and run.error is None]
    seconds = [run.seconds for run in runs if run.seconds is not None]
    return {
        "name": name,
        "charts": list(figures.of_agent(one, name)),
        "claims": {
            split: {name: _estimates(claims[name]) for name in _CLAIMS}
            for split, claims in sorted(one.submission.claims[name].items(), reverse=True)
        },
        "env_steps": float(np.mean([run.env_steps for run in runs] or [0])),
        "seconds": float(np.mean(seconds)) if seconds else None,
    }


def _estimates(claims: list[list[float | None]]) -> list[Estimate]:
    return [Estimate(*(np.nan if value is None else value for value in claim)) for claim in claims]

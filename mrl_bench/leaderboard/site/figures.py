"""The figures of the site's pages: which curves and dots each chart shows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from markupsafe import Markup

from mrl_bench.leaderboard.site import charts
from mrl_bench.leaderboard.site.charts import Axis, Chart
from mrl_bench.leaderboard.site.ranking import Ranking, SuiteRanking, Target
from mrl_bench.leaderboard.site.reading import Played, Shown
from mrl_bench.leaderboard.submission import SPLITS
from mrl_bench.report.formatting import count, printable, score
from mrl_bench.report.stats import Array

Figure = tuple[str, Markup]  # title, SVG


def adaptation(
    ranking: SuiteRanking, target: Target, split: str, compared: Sequence[int], both: bool = False
) -> Markup:
    """The score at each k of the compared submissions.

    Args:
        ranking: of the suite.
        target: a scenario, or several.
        split: whose curves are drawn.
        compared: places in `ranking.shown`.
        both: whether the axis has room for all submissions on either split, for a script that draws others.
    """
    one = ranking.rankings[target.name, split]
    seen = [_values(one, list(compared))]
    if both:
        known = (ranking.rankings.get((target.name, each)) for each in SPLITS)
        seen = [_values(each, slice(None)) for each in known if each]
    x, y = charts.episode_axis(one.k), charts.score_axis(np.concatenate(seen, axis=None))
    at = np.array(one.k, dtype=np.float64)
    marks = [
        charts.curve(x, y, at, one.scores[entry], one.half_widths[entry], colour)
        for colour, entry in enumerate(compared)
    ]
    names = [ranking.shown[entry].submission.agent.name for entry in compared]
    ends = "; ".join(
        f"{printable(name)} from {score(one.scores[entry, 0])} to {score(one.scores[entry, -1])}"
        for name, entry in zip(names, compared, strict=True)
    )
    label = f"Score on {target.name}, {split}, at k = {', '.join(one.points)}: {ends}."
    return Chart(x, y, ("k", "score"), label, marks).svg()


def _values(one: Ranking, entries: Sequence[int] | slice) -> Array:
    half = np.nan_to_num(one.half_widths[entries])
    return np.concatenate([one.scores[entries] - half, one.scores[entries] + half], axis=None)


def of_suite(ranking: SuiteRanking, compared: Sequence[int]) -> Iterator[tuple[int, str, Markup]]:
    """(place in `ranking.targets`, title, chart) of the charts that compare agents on the front page."""
    for place, target in enumerate(ranking.targets):
        if target.kind != "family":
            yield place, target.name, adaptation(ranking, target, "test", compared, both=True)


def of_scenario(ranking: SuiteRanking, name: str, compared: Sequence[int], up: str) -> Iterator[Figure]:
    """The charts of a scenario's page."""
    target = next(each for each in ranking.targets if (each.name, each.kind) == (name, "scenario"))
    for split in SPLITS:
        if (name, split) in ranking.rankings:
            yield f"Score at k, {split}", adaptation(ranking, target, split, compared)
    yield "Score and env steps of adaptation, test", _against_env_steps(ranking, name, compared)
    yield (
        f"Sample efficiency: score at the last k, test, all {len(ranking.shown)} agents",
        _efficiency(ranking, name, up),
    )


def _against_env_steps(ranking: SuiteRanking, name: str, compared: Sequence[int]) -> Markup:
    played = [ranking.shown[entry].played[name, "test"] for entry in compared]
    x = charts.linear_steps_axis(np.array([each.env_steps for each in played]))
    y = charts.score_axis(np.concatenate([each.band for each in played], axis=None))
    marks = [
        charts.curve(x, y, each.env_steps, each.means, each.half_widths, colour)
        for colour, each in enumerate(played)
    ]
    label = f"Score on {name}, test, against the env steps of adaptation."
    return Chart(x, y, ("env steps", "score"), label, marks).svg()


def _efficiency(ranking: SuiteRanking, name: str, up: str) -> Markup:
    one = ranking.rankings[name, "test"]
    steps = np.array([each.played[name, "test"].contender.env_steps for each in ranking.shown])
    x, y = charts.steps_axis(steps), charts.score_axis(one.scores[:, -1])
    marks = [
        charts.linked_dot(
            x, y, max(spent, x.low), earned, f"{up}agents/{each.id[:12]}.html", _title(each, spent, earned)
        )
        for each, spent, earned in zip(ranking.shown, steps.tolist(), one.scores[:, -1].tolist(), strict=True)
    ]
    label = f"Score on {name}, test, at the last k against the env steps of meta-training, a dot an agent."
    return Chart(x, y, ("env steps of meta-training", "score"), label, marks).svg()


def _title(one: Shown, spent: float, earned: float) -> str:
    return f"{printable(one.submission.agent.name)}: {score(earned)} after {count(spent)} env steps"


def of_agent(one: Shown, name: str) -> Iterator[Figure]:
    """The charts of one submission on one scenario."""
    played = {split: one.played[name, split] for split in SPLITS if (name, split) in one.played}
    test = played["test"]
    y = charts.score_axis(np.concatenate([each.band for each in played.values()], axis=None))
    yield "Score at k", _own_curves(one, name, played, charts.episode_axis(test.k), y)
    at = [np.arange(1.0, len(each.online) + 1) for each in played.values()]
    if len(test.online):
        x = charts.episode_axis([0, *sorted({1, *test.k[1:]})])
        y = charts.score_axis(np.concatenate([each.online for each in played.values()]))
        marks = [
            charts.curve(x, y, episodes, each.online, np.full(len(each.online), np.nan), colour)
            for colour, (episodes, each) in enumerate(zip(at, played.values(), strict=True))
        ]
        label = f"Mean score of each adaptation episode on {name}."
        yield (
            "Price of adaptation: score of each adaptation episode",
            Chart(x, y, ("adaptation episode", "score"), label, marks).svg(),
        )
    before, after = test.by_task.T
    axis = charts.score_axis(test.by_task)
    marks = [charts.diagonal(axis, axis), charts.dots(axis, axis, before, after)]
    improved = np.mean(after > before)
    label = f"Score of each of {len(after)} test tasks of {name} before and after adapting: {improved:.0%} improve."
    yield (
        f"Each test task: score at k = 0 and at k = {test.k[-1]}",
        Chart(axis, axis, ("k = 0", f"k = {test.k[-1]}"), label, marks).svg(),
    )


def _own_curves(one: Shown, name: str, played: dict[str, Played], x: Axis, y: Axis) -> Markup:
    marks = [
        charts.curve(x, y, np.array(each.k, dtype=np.float64), each.means, each.half_widths, colour)
        for colour, each in enumerate(played.values())
    ]  # fmt: skip
    steps = played["test"].env_steps.tolist()
    under = tuple((k, count(each)) for k, each in zip(played["test"].k, steps, strict=True))
    label = f"Score of {printable(one.submission.agent.name)} on {name} at each k; below k, the env steps."
    return Chart(x, y, ("k, env steps", "score"), label, marks, under).svg()

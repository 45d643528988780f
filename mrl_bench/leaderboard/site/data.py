"""The standings as data: in the front page for its script, and in index.json for everybody."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any

import numpy as np
from markupsafe import Markup

from mrl_bench.leaderboard.site.ranking import Ranking, SuiteRanking
from mrl_bench.leaderboard.site.reading import Contents, Shown
from mrl_bench.leaderboard.standing import VERDICTS
from mrl_bench.leaderboard.submission import SPLITS
from mrl_bench.report.formatting import printable
from mrl_bench.report.stats import Array
from mrl_bench.results import canonical_json

FORMAT = 1  # of index.json


def for_script(
    ranking: SuiteRanking, charts: Sequence[int], compared: Sequence[int], attempts: Mapping[str, int]
) -> Markup:
    """The data of a suite as JSON that can stand in a `<script>`.

    Args:
        ranking: of the suite.
        charts: for each chart of the page, its place in `ranking.targets`.
        compared: the submissions that are drawn at first, as places in `ranking.shown`.
        attempts: author -> number of submissions.
    """
    ladder = [printable(ranking.shown[rung].submission.agent.name) for rung in ranking.ladder]
    data = {
        "agents": [_facts(one, attempts) for one in ranking.shown],
        "cells": [
            {
                split: _cell(ranking.rankings[target.name, split], ladder)
                for split in SPLITS
                if (target.name, split) in ranking.rankings
            }
            for target in ranking.targets
        ],
        "charts": list(charts),
        "compared": list(compared),
        "ladder": ladder,
    }
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return Markup(text.replace("<", "\\u003c"))  # so that nothing in it ends the script


def _facts(one: Shown, attempts: Mapping[str, int]) -> list[Any]:
    """In the order in which site.js reads them."""
    agent, submission = one.submission.agent, one.submission
    return [
        printable(agent.name),
        printable(agent.author),
        printable(agent.division),
        one.level,
        submission.seeds,
        round(one.env_steps),
        one.listed.added,
        attempts[agent.author] if agent.author else 0,
    ]


def _cell(ranking: Ranking, ladder: Sequence[str]) -> dict[str, Any]:
    verdicts = [
        [VERDICTS.index(found[agent]) if agent in found else None for agent in ladder]
        for found in ranking.verdicts
    ]
    return {
        "points": ranking.points,
        "k": ranking.k,
        "score": _rounded(ranking.scores),
        "half": _rounded(ranking.half_widths),
        "best": ranking.best.tolist(),
        "worst": ranking.worst.tolist(),
        **({"verdicts": verdicts} if ladder else {}),
    }


def _rounded(values: Array) -> Any:
    """Nested lists; None for NaN. Five decimals, so that the two which the script shows are those of the page."""
    rounded = np.round(values, 5) + 0.0
    return [[x if isfinite(x) else None for x in row] for row in rounded.tolist()]


def index(contents: Contents, rankings: Sequence[SuiteRanking]) -> bytes:
    """The contents of index.json: all submissions with their standing at the last k, as canonical JSON."""
    return canonical_json(
        {
            "format": FORMAT,
            "changed": contents.changed,
            "ladder": contents.ladder,
            "suites": [_suite(ranking, contents) for ranking in rankings],
            "withdrawn": [
                {"id": each.id, "author": each.author, "added": each.added, "reason": each.withdrawn}
                for each in contents.withdrawn
            ],
            "left_out": dict(contents.left_out),
        }
    )


def _suite(ranking: SuiteRanking, contents: Contents) -> dict[str, Any]:
    return {
        "id": ranking.suite.id,
        "digest": ranking.suite.digest,
        "scenarios": {name: scenario.digest for name, scenario in ranking.suite.scenarios.items()},
        "rankings": [
            {"name": target.name, "kind": target.kind, "scenarios": target.scenarios}
            for target in ranking.targets
        ],
        "submissions": [
            _submission(ranking, entry, contents.attempts) for entry in range(len(ranking.shown))
        ],
    }


def _submission(ranking: SuiteRanking, entry: int, attempts: Mapping[str, int]) -> dict[str, Any]:
    one = ranking.shown[entry]
    agent = one.submission.agent
    standings: dict[str, dict[str, Any]] = {}
    for (target, split), found in ranking.rankings.items():
        estimate = found.estimate(entry)
        standings.setdefault(target, {})[split] = {
            "score": _number(estimate.value),
            "low": _number(estimate.low),
            "high": _number(estimate.high),
            "places": found.place(entry),
            "verdicts": dict(found.verdicts[entry]),
        }
    return {
        "id": one.id,
        "page": f"agents/{one.id[:12]}.html",
        "agent": agent.name,
        "author": agent.author,
        "attempts": attempts[agent.author],
        "division": agent.division,
        "level": one.level,
        "seeds": one.submission.seeds,
        "failed_runs": len(one.failed),
        "env_steps": one.env_steps,
        "added": one.listed.added,
        "standings": standings,
    }


def _number(value: float) -> float | None:
    return round(value, 6) if isfinite(value) else None

"""Reads the results of a bench, scores them, and writes scores.json, the figures and the HTML page."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np

from mrl_bench.errors import MrlBenchError, UsageError
from mrl_bench.report import BenchInfo
from mrl_bench.report.scores import ScenarioScores, score_scenario
from mrl_bench.results import Evaluation, canonical_json
from mrl_bench.runs.files import write_atomically
from mrl_bench.runs.manifest import read_manifest
from mrl_bench.runs.store import Store


@dataclass(frozen=True)
class BenchReport:
    """The scores of all finished runs of a bench."""

    scores: list[ScenarioScores]  # one entry for each scenario that can be scored
    info: BenchInfo
    missing: list[str]  # one line for each scenario or group of runs without scores, with the reason
    leaders: Mapping[str, str]  # scenario -> evaluation key of the run to show in a video
    unscored: list[Evaluation]  # of scenarios that cannot be scored, such as for want of reference agents


def read_report(folder: Path) -> BenchReport:
    """Scores the finished runs of a bench.

    Raises:
        UsageError: the folder is not a results folder.
        MrlBenchError: no run is finished, or a file is damaged.
    """
    manifest = read_manifest(folder)
    info, keys = _info(manifest), [(run["train"], run["evaluate"]) for run in manifest["runs"]]
    store = Store(folder)
    evaluations: dict[str, dict[str, Evaluation]] = {}  # digest -> key -> result
    seconds: dict[tuple[str, str], list[float]] = {}
    for train, evaluate in keys:
        evaluation = store.evaluation(evaluate)
        if evaluation is None:
            continue
        evaluations.setdefault(evaluation.digest, {})[evaluate] = evaluation
        measured = store.seconds(train)
        if measured is not None:
            seconds.setdefault((evaluation.scenario, evaluation.agent), []).append(measured)
    all_scores, missing, leaders = [], [], {}
    unscored: list[Evaluation] = []
    for scored in evaluations.values():
        try:
            all_scores.append(score_scenario(list(scored.values())))
            if leader := _leader(all_scores[-1], scored):
                leaders[all_scores[-1].scenario] = leader
        except UsageError as error:
            missing.append(str(error))
            unscored += scored.values()
    unfinished = len(keys) - sum(map(len, evaluations.values()))
    if unfinished:
        missing.append(
            f"{unfinished} of {len(keys)} runs are not finished: run the same command again to resume"
        )
    if not (all_scores or unscored):
        raise MrlBenchError("; ".join(missing))
    info = replace(info, seconds={where: mean(values) for where, values in seconds.items()})
    return BenchReport(all_scores, info, missing, leaders, unscored)


def _leader(scenario_scores: ScenarioScores, evaluations: Mapping[str, Evaluation]) -> str | None:
    """The evaluation key of the best agent's run with the lowest seed; None where the headroom is too small."""
    split = scenario_scores.splits.get("test")
    if split is None or split.flagged:
        return None
    best = next((row.agent for row in split.rows if not row.is_reference), None)
    seeds = {key: run.seed for key, run in evaluations.items() if run.agent == best and run.error is None}
    return min(seeds, key=lambda key: seeds[key], default=None)


def _info(plan: Mapping[str, Any]) -> BenchInfo:
    versions: dict[str, Any] = plan["versions"]
    return BenchInfo(
        suite=plan["suite"],
        doc=plan["doc"],
        created=plan["created"],
        commit=plan["commit"],
        device=plan["device"],
        machine=plan["machine"],
        versions={**versions, "simulators": ", ".join(versions["simulators"])},
        docs=plan["docs"],
    )


def write_report(folder: Path, report: BenchReport) -> Path:
    """Writes scores.json, the figures and the page; returns the page's path."""
    from mrl_bench.report.figures import write_figures
    from mrl_bench.report.page import write_page

    write_atomically(
        folder / "scores.json",
        canonical_json([_plain(asdict(scenario_scores)) for scenario_scores in report.scores]),
    )
    write_figures(report.scores, folder / "figures")
    videos = {scenario: Store(folder).video(key) for scenario, key in report.leaders.items()}
    shown = {scenario: video for scenario, video in videos.items() if video}
    write_page(report.scores, replace(report.info, videos=shown), folder / "report.html")
    return folder / "report.html"


def _plain(value: Any) -> Any:
    """The same data as plain JSON types; NaN becomes null."""
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, tuple | list | np.ndarray):
        return [_plain(entry) for entry in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and math.isnan(value) else value

"""From the results of a bench to its scores, its figures and its page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np

from mrl_bench.errors import MrlBenchError, UsageError
from mrl_bench.report import RunInfo
from mrl_bench.report.scores import ScenarioScores, score_scenario
from mrl_bench.results import Evaluation, canonical_json
from mrl_bench.runs.files import write_atomically
from mrl_bench.runs.manifest import read_manifest
from mrl_bench.runs.store import Store


@dataclass(frozen=True)
class BenchReport:
    """What is known of a bench so far."""

    boards: list[ScenarioScores]  # of the scenarios that can be scored
    info: RunInfo
    missing: list[str]  # what is not on a board, and why; a line each
    leaders: Mapping[str, str]  # scenario -> key of the run that a film of it shows
    unscored: list[Evaluation]  # of the scenarios that cannot be scored, as without reference agents


def read_report(folder: Path) -> BenchReport:
    """Scores what is finished of a bench.

    Raises:
        UsageError: the folder holds no run.
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
    boards, missing, leaders = [], [], {}
    unscored: list[Evaluation] = []
    for scored in evaluations.values():
        try:
            boards.append(score_scenario(list(scored.values())))
            if leader := _leader(boards[-1], scored):
                leaders[boards[-1].scenario] = leader
        except UsageError as error:
            missing.append(str(error))
            unscored += scored.values()
    unfinished = len(keys) - sum(map(len, evaluations.values()))
    if unfinished:
        missing.append(f"{unfinished} of {len(keys)} runs are not finished: run the bench again to go on")
    if not (boards or unscored):
        raise MrlBenchError("; ".join(missing))
    info = replace(info, seconds={where: mean(values) for where, values in seconds.items()})
    return BenchReport(boards, info, missing, leaders, unscored)


def _leader(board: ScenarioScores, evaluations: Mapping[str, Evaluation]) -> str | None:
    """The key of the run with the first seed of the best agent; None where scores mean nothing."""
    split = board.splits.get("test")
    if split is None or split.flagged:
        return None
    best = next((row.agent for row in split.rows if not row.is_reference), None)
    seeds = {key: run.seed for key, run in evaluations.items() if run.agent == best and run.error is None}
    return min(seeds, key=lambda key: seeds[key], default=None)


def _info(plan: Mapping[str, Any]) -> RunInfo:
    versions: dict[str, Any] = plan["versions"]
    return RunInfo(
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
        folder / "scores.json", canonical_json([_plain(asdict(board)) for board in report.boards])
    )
    write_figures(report.boards, folder / "figures")
    films = {scenario: Store(folder).film(key) for scenario, key in report.leaders.items()}
    shown = {scenario: film for scenario, film in films.items() if film}
    write_page(report.boards, replace(report.info, films=shown), folder / "report.html")
    return folder / "report.html"


def _plain(value: Any) -> Any:
    """The same data in what JSON knows; NaN becomes null."""
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, tuple | list | np.ndarray):
        return [_plain(entry) for entry in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and value != value else value

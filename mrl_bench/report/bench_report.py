"""Reads the results of a bench, scores them, and writes scores.json, scores.csv and the HTML page."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np

from mrl_bench.errors import MrlBenchError, UsageError
from mrl_bench.report import BenchInfo
from mrl_bench.report.scores import ScenarioScores
from mrl_bench.report.scoring import score_scenario
from mrl_bench.report.setup import read_setups
from mrl_bench.results import Evaluation, canonical_json
from mrl_bench.runs.files import inside, write_atomically
from mrl_bench.runs.manifest import read_manifest
from mrl_bench.runs.store import Store, StoreError
from mrl_bench.runs.terms import Terms
from mrl_bench.scenario.references import References


@dataclass(frozen=True)
class BenchReport:
    """The scores of all finished runs of a bench."""

    scores: list[ScenarioScores]  # one entry for each scenario that can be scored
    info: BenchInfo
    missing: list[str]  # one line for each scenario or group of runs without scores, with the reason
    damaged: list[str]  # one line for each file that is not what was written; its run is left out
    leaders: Mapping[str, str]  # scenario -> evaluation key of the run to show in a video
    unscored: list[Evaluation]  # of scenarios that cannot be scored, such as for want of reference agents


def read_report(folder: Path) -> BenchReport:
    """Scores the finished runs of a bench.

    Raises:
        UsageError: the folder is not a results folder.
        MrlBenchError: no run is finished, or the manifest is damaged.
    """
    manifest = read_manifest(folder)
    results = _Results.read(folder, manifest["runs"])
    all_scores, missing, leaders = [], [], {}
    unscored: list[Evaluation] = []
    for digest, found in results.evaluations.items():
        scored = {key: evaluation for key, evaluation in found.items() if not evaluation.is_reference}
        try:
            references = references_in(manifest, digest, found.values())
            all_scores.append(
                score_scenario(list(scored.values()), references, return_range=results.returns[digest])
            )
            if leader := _leader(all_scores[-1], scored):
                leaders[all_scores[-1].scenario] = leader
        except (UsageError, ValueError) as error:  # no reference agent, or runs that cannot be compared
            missing.append(str(error))
            unscored += found.values()
    if results.unfinished:
        missing.append(
            f"{results.unfinished} of {len(manifest['runs'])} runs are not finished: "
            "run the same command again to resume"
        )
    if not (all_scores or unscored):
        further = [f"and {len(results.damaged) - 1} more files cannot be read"] if results.damaged[1:] else []
        raise MrlBenchError("; ".join([*results.damaged[:1], *further, *missing]))
    info = replace(_info(manifest), seconds=results.mean_seconds())
    return BenchReport(all_scores, info, missing, results.damaged, leaders, unscored)


def references_in(manifest: Mapping[str, Any], digest: str, evaluations: Iterable[Evaluation]) -> References:
    """The references that shipped with a scenario when it was run, or else those that its reference runs make.

    Args:
        manifest: of the results folder.
        digest: of the scenario.
        evaluations: of that scenario in the folder.

    Raises:
        UsageError: there are neither.
    """
    if shipped := manifest["references"].get(digest):
        return References.from_json(shipped)
    found = list(evaluations)
    own = [evaluation for evaluation in found if evaluation.is_reference]
    return References.of(found[0].scenario if found else "", own, provisional=True)


@dataclass
class _Results:
    """What a results folder holds of the runs in its manifest."""

    evaluations: dict[str, dict[str, Evaluation]] = field(default_factory=dict)  # digest -> key -> result
    seconds: dict[tuple[str, str], list[float]] = field(
        default_factory=dict
    )  # (scenario, agent) -> of training
    returns: dict[str, tuple[float, float]] = field(
        default_factory=dict
    )  # digest -> least and largest possible
    unfinished: int = 0
    damaged: list[str] = field(default_factory=list)  # see `BenchReport`

    @staticmethod
    def read(folder: Path, runs: Iterable[Mapping[str, Any]]) -> _Results:
        store, results = Store(folder), _Results()
        for run in runs:
            terms = Terms.from_json(run["terms"])
            try:
                evaluation = store.evaluation(run["evaluate"], terms)
            except StoreError as error:
                results.damaged.append(f"{terms.label} is left out: {error}")
                continue
            if evaluation is None:
                results.unfinished += 1
                continue
            results.evaluations.setdefault(terms.digest, {})[run["evaluate"]] = evaluation
            results.returns[terms.digest] = terms.returns
            results._read_seconds(store, run["train"], terms)
        return results

    def _read_seconds(self, store: Store, train: str, terms: Terms) -> None:
        try:
            measured = store.seconds(train)
        except StoreError as error:
            self.damaged.append(f"{terms.label} is shown without its training time: {error}")
            return
        if measured is not None:
            self.seconds.setdefault((terms.scenario, terms.agent), []).append(measured)

    def mean_seconds(self) -> dict[tuple[str, str], float]:
        return {where: mean(values) for where, values in self.seconds.items()}


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
        setups=read_setups(plan),
    )


def add_videos(folder: Path, report: BenchReport) -> BenchReport:
    """The report with the videos that have been recorded."""
    runs = {run["evaluate"]: Terms.from_json(run["terms"]) for run in read_manifest(folder)["runs"]}
    store, videos, damaged = Store(folder), {}, list(report.damaged)
    for scenario, key in report.leaders.items():
        try:
            if video := store.video(key, runs[key]):
                videos[scenario] = video
        except StoreError as error:
            damaged.append(f"{runs[key].label} is shown without its video: {error}")
    return replace(report, info=replace(report.info, videos=videos), damaged=damaged)


def draw_figures(folder: Path, report: BenchReport) -> None:
    """Writes the files with the figures of all scores, to the folder `figures`."""
    from mrl_bench.report.figures import write_figures

    write_figures(report.scores, inside(folder, "figures"))


def write_report(folder: Path, report: BenchReport) -> Path:
    """Writes scores.json, scores.csv and the page; returns the page's path."""
    from mrl_bench.report.page import write_page
    from mrl_bench.report.tidy import scores_csv

    scores, table, page = (inside(folder, name) for name in ("scores.json", "scores.csv", "report.html"))
    write_atomically(scores, canonical_json([_plain(asdict(scored)) for scored in report.scores]))
    write_atomically(table, scores_csv(report.scores).encode())
    write_page(report.scores, report.info, page)
    return page


def _plain(value: Any) -> Any:
    """The same data as plain JSON types; NaN becomes null."""
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, tuple | list | np.ndarray):
        return [_plain(entry) for entry in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and math.isnan(value) else value

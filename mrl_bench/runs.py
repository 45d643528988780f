"""What a bench was asked for (run.json), and the boards that its results make."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np

from mrl_bench.errors import MrlBenchError, UsageError
from mrl_bench.files import write_atomically
from mrl_bench.report import RunInfo
from mrl_bench.results import Evaluation, canonical_json
from mrl_bench.scores import ScenarioBoard, score_scenario
from mrl_bench.store import Store
from mrl_bench.suite import Suite
from mrl_bench.unit import Unit
from mrl_bench.versions import git_commit, machine, package_versions


def write_plan(store: Store, suite: Suite, units: Sequence[Unit]) -> None:
    """Notes what the run consists of, in the suite's order, and on what it runs."""
    order = [entry.scenario.id for entry in suite.entries]
    plan = {
        "suite": suite.id,
        "doc": suite.doc,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": git_commit(),
        "machine": machine(),
        "device": _device(units[0].device),
        "versions": package_versions() | {"simulators": sorted({u.scenario.family.simulator for u in units})},
        "docs": {entry.scenario.id: entry.scenario.doc for entry in suite.entries},
        "units": [
            {
                **unit.to_json(),
                "config": asdict(unit.config),
                "train": unit.key("train"),
                "evaluate": unit.key("evaluate"),
            }
            for unit in sorted(units, key=lambda unit: order.index(unit.scenario.id))
        ],
    }
    text = json.dumps(plan, indent=1, ensure_ascii=False) + "\n"
    write_atomically(store.folder / "run.json", text.encode())


def _device(name: str) -> str:
    """The device in a few words: of a GPU its model too."""
    if name == "cpu":
        return name
    import torch

    return f"{name} ({torch.cuda.get_device_name()})"


@dataclass(frozen=True)
class Run:
    """What is known of a run so far."""

    boards: list[ScenarioBoard]  # of the scenarios that can be scored
    info: RunInfo
    missing: list[str]  # what is not on a board, and why; a line each
    leaders: Mapping[str, str]  # scenario -> key of the unit that a film of it shows


def read_run(folder: Path) -> Run:
    """Scores what is finished of a run.

    Raises:
        UsageError: the folder holds no run.
        MrlBenchError: there is no scenario yet that can be scored, or a file is damaged.
    """
    path = folder / "run.json"
    if not path.is_file():
        raise UsageError(f"{folder} holds no run: there is no run.json in it")
    try:
        plan = json.loads(path.read_bytes())
        info, keys = _info(plan), [(unit["train"], unit["evaluate"]) for unit in plan["units"]]
    except (ValueError, KeyError, TypeError):
        raise MrlBenchError(f"{path} is damaged: the bench writes it anew") from None
    store = Store(folder)
    evaluations: dict[str, dict[str, Evaluation]] = {}  # scenario -> key -> result
    seconds: dict[tuple[str, str], list[float]] = {}
    for train, evaluate in keys:
        evaluation = store.evaluation(evaluate)
        if evaluation is None:
            continue
        evaluations.setdefault(evaluation.scenario, {})[evaluate] = evaluation
        measured = store.seconds(train)
        if measured is not None:
            seconds.setdefault((evaluation.scenario, evaluation.agent), []).append(measured)
    boards, missing, leaders = [], [], {}
    for scenario, scored in evaluations.items():
        try:
            boards.append(score_scenario(list(scored.values())))
            if leader := _leader(boards[-1], scored):
                leaders[scenario] = leader
        except UsageError as error:
            missing.append(str(error))
    unfinished = len(keys) - sum(map(len, evaluations.values()))
    if unfinished:
        missing.append(f"{unfinished} of {len(keys)} units are not finished: run the bench again to go on")
    if not boards:
        raise MrlBenchError("; ".join(missing))
    info = replace(info, seconds={where: mean(values) for where, values in seconds.items()})
    return Run(boards, info, missing, leaders)


def _leader(board: ScenarioBoard, evaluations: Mapping[str, Evaluation]) -> str | None:
    """The key of the unit with the first seed of the best agent; None where scores mean nothing."""
    split = board.splits.get("test")
    if split is None or split.flagged:
        return None
    best = next((row.agent for row in split.rows if not row.anchor), None)
    seeds = {key: unit.seed for key, unit in evaluations.items() if unit.agent == best and unit.error is None}
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


def write_report(folder: Path, run: Run) -> Path:
    """Writes board.json, the figures and the page; returns the page's path."""
    from mrl_bench.report.figures import write_figures
    from mrl_bench.report.page import write_page

    write_atomically(folder / "board.json", canonical_json([_plain(asdict(board)) for board in run.boards]))
    write_figures(run.boards, folder / "figures")
    films = {scenario: Store(folder).film(key) for scenario, key in run.leaders.items()}
    shown = {scenario: film for scenario, film in films.items() if film}
    write_page(run.boards, replace(run.info, films=shown), folder / "report.html")
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

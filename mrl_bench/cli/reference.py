"""`mrl-bench reference`: trains the reference agents of scenarios, or checks the references that there are."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Iterable
from math import inf
from pathlib import Path

from rich.console import Console

from mrl_bench.cli.bench import make_backend, print_shard
from mrl_bench.cli.terminal import fail
from mrl_bench.errors import MrlBenchError, printable
from mrl_bench.report.formatting import DASH, count, interval, moved, number, score
from mrl_bench.report.scale import Scale
from mrl_bench.report.table import WrappedTable
from mrl_bench.runs.cost import Cost, weigh
from mrl_bench.runs.executor import Executor, check, forget_failed, pick_device
from mrl_bench.runs.files import write_atomically
from mrl_bench.runs.progress import make_progress
from mrl_bench.runs.reference import gather_references, plan_references
from mrl_bench.runs.run import Run
from mrl_bench.runs.store import Store
from mrl_bench.scenario import Scenario, find_scenario, list_scenarios
from mrl_bench.scenario.references import CONVERGED, References, references_path, shipped_references
from mrl_bench.scenario.suite import find_suite


def reference(options: argparse.Namespace) -> int:
    """Makes the references of scenarios unless they are only to be checked; prints their certificates.

    A shard trains and evaluates its part of the reference agents, and nothing more.
    """
    scenarios = _scenarios(options)
    if not options.check:
        _make(scenarios, options)
    return 0 if options.shard else _check(scenarios, options.folder, options.against)


def _scenarios(options: argparse.Namespace) -> list[Scenario]:
    """Those of the suite and those that are named, as their files say; by default all that ship."""
    suite = [entry.scenario.path for entry in find_suite(options.suite).entries] if options.suite else []
    named = options.scenarios or ([] if suite else list_scenarios())
    return [find_scenario(name) for name in dict.fromkeys([*suite, *named])]


def _make(scenarios: Iterable[Scenario], options: argparse.Namespace) -> None:
    """Trains and evaluates the reference agents, and writes a file for each scenario once its runs are finished.

    Runs that failed before are tried again. A scenario with a failed run gets no file.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # stops as cleanly as Ctrl-C
    device, store, shard = pick_device(options.device), Store(options.out), options.shard
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    plans = [(scenario, plan_references(scenario, seeds, device)) for scenario in scenarios]
    whole = [run for _, plan in plans for run in plan]
    check(whole)
    runs = shard.part(whole, weigh(whole, {})) if shard else whole
    with store.held(shard):
        forget_failed(store, runs)
        backend = make_backend(options, device)
        workers = options.workers or backend.cores
        cost = Cost.of(runs, store, workers)
        print(
            f"references: {cost}; {workers} at a time on {device}, results folder {printable(str(store.folder))}"
        )
        with make_progress(cost) as progress:
            executor = Executor(store, progress, workers, options.time_limit, backend)
            if shard:
                executor.run(cost.in_order(runs))
            else:
                _gather(plans, cost, executor, options.folder)
        if shard:
            print_shard(shard, whole, store)


def _gather(
    plans: Iterable[tuple[Scenario, list[Run]]], cost: Cost, executor: Executor, folder: Path | None
) -> None:
    """Executes the runs of one scenario after the other, and writes its references."""
    for scenario, plan in plans:
        plan = cost.in_order(plan)
        results = executor.run(plan)
        try:
            found = gather_references(scenario, zip(plan, results, strict=True))
        except MrlBenchError as error:
            fail(str(error), 1)
        else:
            write_atomically(_path(scenario, folder), found.to_bytes())


def _path(scenario: Scenario, folder: Path | None) -> Path:
    return references_path(scenario) if folder is None else folder / f"{scenario.id}.json"


def _check(scenarios: Iterable[Scenario], folder: Path | None, against: Path | None) -> int:
    """Prints the certificates and the headroom on test tasks; returns 1 unless all references are certified."""
    title = f"on test tasks; moved: by doubling the budget, where random to oracle is 1 (certified: under {CONVERGED})"
    heads = ["agent", "seeds", "env steps", "return", "moved", "headroom"]
    table = WrappedTable(
        title, "scenario", heads + ["headroom there"] * bool(against), text_columns=("agent",)
    )
    faults = []
    for scenario in scenarios:
        found = shipped_references(scenario, _path(scenario, folder))
        if found is None or not found.certified:
            faults.append(f"{scenario.id} has no {'references' if found is None else 'certificate'}")
        other = shipped_references(scenario, _path(scenario, against)) if against else None
        if found:
            _add_rows(table, scenario, found, other)
    Console().print(table)
    sys.stdout.flush()
    for fault in faults:
        fail(fault, 1)
    return int(bool(faults))


def _add_rows(table: WrappedTable, scenario: Scenario, found: References, other: References | None) -> None:
    for name, agent in found.agents.items():
        cells = [name, str(len(agent.seeds)), count(agent.env_steps), number(found.mean_return(name))]
        cells.append(moved(found.moved(name)))
        for each in (found, other)[: len(table.headers) - len(cells)]:
            cells.append(_headroom(each) if name == "blind" else "")
        table.add(scenario.id, cells)


def _headroom(references: References | None) -> str:
    """On test tasks, with its interval."""
    if references is None:
        return DASH
    headroom = Scale.of(references, "test", (-inf, inf), seed=0).headroom
    return f"{score(headroom.value)} {interval(headroom)}".rstrip()

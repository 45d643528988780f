"""`mrl-bench bench` and `mrl-bench report`."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from mrl_bench import registry
from mrl_bench.cli.terminal import fail
from mrl_bench.errors import MrlBenchError, UsageError, printable
from mrl_bench.report.bench_report import BenchReport, add_videos, draw_figures, read_report, write_report
from mrl_bench.report.table import print_tables
from mrl_bench.results import Evaluation
from mrl_bench.runs import fork_server
from mrl_bench.runs.attempt import Backend
from mrl_bench.runs.cost import Cost, Measured, weigh
from mrl_bench.runs.executor import (
    Executor,
    NotFinished,
    check,
    forget_failed,
    pick_device,
    plan_runs,
)
from mrl_bench.runs.manifest import share_manifest, write_manifest
from mrl_bench.runs.processes import Processes
from mrl_bench.runs.progress import make_progress, summary
from mrl_bench.runs.run import Run, finished
from mrl_bench.runs.shard import Shard
from mrl_bench.runs.store import Store
from mrl_bench.scenario.suite import Entry, Suite, find_suite


def bench(options: argparse.Namespace) -> int:
    """Runs a suite and reports it; skips finished runs."""
    suite = find_suite(options.suite)
    suite = replace(suite, seeds=options.seeds or suite.seeds, entries=entries_with_options(suite, options))
    return run_suite(suite, Store(options.out or Path("runs") / suite.id), options)


def run_suite(suite: Suite, store: Store, options: argparse.Namespace, **plans: bool) -> int:
    """Runs a suite into a results folder and reports it; returns the exit code.

    Args:
        suite: what to run.
        store: the results folder.
        options: `device`, `time_limit`, `retry_failed` and those of `add_executor`. A shard executes its part and
            reports nothing.
        plans: `isolated` and `references` of `plan_runs`.

    Raises:
        MrlBenchError: a run failed; the report was made nevertheless.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # stops as cleanly as Ctrl-C
    if options.executor == "processes":
        fork_server.start()
    device = pick_device(options.device)
    plan, measured, shard = plan_runs(suite, device, **plans), Measured.of_suite(suite), options.shard
    if not plan:
        raise UsageError(f"suite {suite.id} has nothing to run: it names no agent, and its references ship")
    check(plan)
    runs = shard.part(plan, weigh(plan, measured.seconds if measured else {})) if shard else plan
    with store.held(shard):
        if options.retry_failed:
            forget_failed(store, runs)
        backend = make_backend(options, device)
        workers = max(min(options.workers or backend.cores, len(runs)), 1)
        cost = Cost.of(runs, store, workers, measured)
        (share_manifest if shard else write_manifest)(store, suite, plan)
        where = f"{workers} at a time on {device}, results folder {printable(str(store.folder))}"
        print(f"{suite.id}{f', shard {shard}' if shard else ''}: {cost}; {where}", flush=True)
        with make_progress(cost) as progress:
            executor = Executor(store, progress, workers, options.time_limit, backend)
            results = executor.run(cost.in_order(runs))
        unfinished = [result for result in results if isinstance(result, NotFinished)]
        failed = sum(isinstance(result, Evaluation) and result.error is not None for result in results)

        def record(report: BenchReport) -> None:
            executor.record([run for run in runs if run.key("evaluate") in report.leaders.values()])

        try:
            if shard:
                print_shard(shard, plan, store)
            else:
                _show(store.folder, ("test",), record)
        except MrlBenchError as error:
            if not failed and not unfinished:
                raise
            fail(str(error), 1)
    for one in unfinished:
        fail(f"{one}; the same command runs it", 1)
    if failed:
        raise MrlBenchError(
            f"{failed} of {len(runs)} runs failed; their output is in {store.folder / 'logs'}"
        )
    return 1 if unfinished else 0


def make_backend(options: argparse.Namespace, device: str) -> Backend:
    """Where the options say that runs are executed.

    Raises:
        MissingPart: Ray is not installed, or its cluster cannot be reached.
    """
    if options.executor == "processes":
        return Processes()
    from mrl_bench.runs.ray_cluster import RayCluster

    return RayCluster.connect(options.address, options.workers, device)


def print_shard(shard: Shard, plan: Sequence[Run], store: Store) -> None:
    """Says what is left to do when a shard has ended."""
    left = sum(finished(run, store) is None for run in plan)
    state = f"{left} of {len(plan)} runs are not finished" if left else f"all {len(plan)} runs are finished"
    print(f"shard {shard} has ended; {state}. The same command without --shard does the rest", flush=True)


def entries_with_options(suite: Suite, options: argparse.Namespace) -> tuple[Entry, ...]:
    """The suite's entries. The command line's options named "FAMILY.OPTION" override those of their scenarios."""
    given: dict[str, dict[str, Any]] = {}
    for name, value in vars(options).items():
        family, dot, option = name.partition(".")
        if dot and value is not None:
            given.setdefault(registry.target("family", family), {})[option] = value
    return tuple(_override(entry, given) for entry in suite.entries)


def _override(entry: Entry, given: Mapping[str, Mapping[str, Any]]) -> Entry:
    chosen = given.get(registry.target("family", entry.scenario.family_name))
    return replace(entry, scenario=entry.scenario.with_options(chosen)) if chosen else entry


def report(options: argparse.Namespace) -> int:
    """Prints the scores of a results folder, and writes its page and figures."""
    return int(bool(_show(options.run, options.split or ("test",)).damaged))


def _show(
    folder: Path, splits: Sequence[str], record: Callable[[BenchReport], None] = lambda report: None
) -> BenchReport:
    """Prints the scores, and the returns of what has none; writes the report once `record` has made its videos."""
    found = read_report(folder)
    if found.scores:
        print_tables(found.scores, found.info, splits)
    for evaluation in found.unscored:
        label = f"{evaluation.scenario} {evaluation.agent} seed {evaluation.seed}"
        print(f"{label}: {summary(evaluation, splits)}")
    if found.scores:
        with ThreadPoolExecutor(1) as pool:  # draws while other processes record
            figures = pool.submit(draw_figures, folder, found)
            record(found)
            found = add_videos(folder, found)
            figures.result()
        print(f"report: {printable(str(write_report(folder, found)))}")
    sys.stdout.flush()
    for line in [*found.damaged, *found.missing]:
        fail(line, 0)
    return found

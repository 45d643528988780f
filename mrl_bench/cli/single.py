"""`mrl-bench train` and `mrl-bench evaluate`: one run, in a worker process, as in a bench."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from mrl_bench import registry
from mrl_bench.cli.terminal import fail
from mrl_bench.errors import MrlBenchError, UsageError, nearest, printable
from mrl_bench.report.bench_report import references_in
from mrl_bench.report.scoring import score_scenario
from mrl_bench.results import REFERENCE_AGENTS, Evaluation
from mrl_bench.runs.cost import Cost
from mrl_bench.runs.executor import Executor, NotFinished, check, forget_failed, pick_device
from mrl_bench.runs.manifest import add_to_manifest, read_manifest
from mrl_bench.runs.progress import make_progress, summary
from mrl_bench.runs.run import Run
from mrl_bench.runs.store import Store
from mrl_bench.runs.terms import Terms
from mrl_bench.scenario import Budget, Scenario, find_scenario, list_scenarios
from mrl_bench.scenario.settings import overlay, parse_settings
from mrl_bench.scenario.suite import AgentSpec, Suite, find_suite

_LOG_LINES, _LOG_COLUMNS = 20, 300  # how much of the log of a failed run is shown


def train(options: argparse.Namespace) -> int:
    """Meta-trains one agent and stores its weights."""
    run, store = single_run(options), Store(options.out)
    add_to_manifest(store, run)
    store.forget_damaged(run.key("train"), run.key("evaluate"), run.terms)
    try:
        with _executor(run, store, options.time_limit) as executor:
            (trained,) = executor.train([run])
    except MrlBenchError:
        _print_log_end(run, store)
        raise
    except KeyboardInterrupt:
        return _stopped(run, store)
    weights = printable(str(store.weights_path(run.key("train"))))
    print(f"{run.label}: {trained.env_steps:,} env steps, weights in {weights}")
    return 0


def evaluate(options: argparse.Namespace) -> int:
    """Evaluates one agent; trains it first if it has no weights yet."""
    run, store = single_run(options), Store(options.out)
    add_to_manifest(store, run)
    forget_failed(store, [run])
    try:
        with _executor(run, store, options.time_limit) as executor:
            (evaluation,) = executor.run([run])
    except KeyboardInterrupt:
        return _stopped(run, store)
    if isinstance(evaluation, NotFinished):
        raise evaluation
    print(f"{run.label}: {summary(evaluation)}")
    for line in _details(run, store, evaluation):
        print(f"  {line}")
    if evaluation.error:
        _print_log_end(run, store)
        raise MrlBenchError(f"{run.label} failed")
    return 0


def single_run(options: argparse.Namespace) -> Run:
    """The run that the options describe.

    Raises:
        UsageError: there is no such scenario, agent or setting.
    """
    if options.suite:
        scenario, agent = _in_suite(find_suite(options.suite), options.scenario, options.agent)
    else:
        _check_order(options)
        scenario, agent = find_scenario(options.scenario), AgentSpec.outside_suite(options.agent, {})
    if steps := options.budget:
        scenario = scenario.with_overrides(Budget(meta_train=steps, blind=steps, oracle=steps))
    settings = overlay(agent.settings, parse_settings(options.set))
    run = Run(scenario, replace(agent, settings=settings), options.seed, pick_device(options.device))
    check([run])
    return run


def _in_suite(suite: Suite, scenario: str, agent: str) -> tuple[Scenario, AgentSpec]:
    """A scenario and an agent as a suite runs them."""
    entries = {entry.scenario.id: entry for entry in suite.entries}
    if scenario not in entries:
        raise UsageError(f"suite {suite.id} has no scenario {scenario!r}: {nearest(scenario, entries)}")
    entry = entries[scenario]
    references = [AgentSpec(name, name, {}) for name in REFERENCE_AGENTS]
    agents = {known.name: known for known in (*entry.agents, *references)}
    if agent not in agents:
        raise UsageError(f"suite {suite.id} has no agent {agent!r} on {scenario}: {nearest(agent, agents)}")
    return entry.scenario, agents[agent]


def _check_order(options: argparse.Namespace) -> None:
    """Refuses an agent in the scenario's place and a scenario in the agent's."""
    first, second = options.scenario, options.agent
    is_agent = first in registry.names("agent") or ":" in first
    if is_agent and (second in list_scenarios() or second.endswith((".yaml", ".yml"))):
        wanted = f"mrl-bench {options.subcommand} {second} {first}"
        raise UsageError(f"the scenario comes before the agent: did you mean {wanted!r}?")


@contextmanager
def _executor(run: Run, store: Store, time_limit: float) -> Iterator[Executor]:
    """Shows progress on standard error, because standard output is for the result."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # stops as cleanly as Ctrl-C
    try:
        with make_progress(Cost.of([run], store, workers=1), errors=True) as progress:
            yield Executor(store, progress, workers=1, time_limit=time_limit)
    finally:
        signal.signal(signal.SIGTERM, before)


def _print_log_end(run: Run, store: Store) -> None:
    """Prints the last lines of a failed run's log to standard error: they hold its traceback."""
    path = store.log_path(run.key("evaluate"))
    if path.is_file():
        lines = path.read_text(errors="replace").splitlines()
        for line in lines[-_LOG_LINES:]:
            print(printable(line)[:_LOG_COLUMNS], file=sys.stderr)


def _stopped(run: Run, store: Store) -> int:
    """Says which weights a stopped run has left."""
    if store.trained(run.key("train")) is None:
        return fail("stopped; weights so far: none", 130)
    weights = store.weights_path(run.key("train"))
    return fail(f"stopped; weights so far: {weights}; the same command continues from them", 130)


def _details(run: Run, store: Store, evaluation: Evaluation) -> Iterator[str]:
    """Returns on the other splits and while adapting, failures, scores and files of an evaluation."""
    for split in evaluation.curves:
        if split != "test":
            yield f"{split}: {summary(evaluation, (split,))}"
    if not evaluation.error:
        returns = evaluation.curves["test"].online.returns
        if returns.size:
            yield f"while adapting: return {returns.mean():.1f} on average, {returns.min():.1f} at worst"
        yield f"failures: {_failures(evaluation)}"
        if not evaluation.is_reference:
            yield f"score: {_score(store, evaluation)}"
    files = {
        "results": store.evaluation_path(run.key("evaluate")),
        "weights": store.weights_path(run.key("train")),
        "log": store.log_path(run.key("evaluate")),
    }
    for name, path in files.items():
        if path.exists():
            yield f"{name}: {printable(str(path))}"


def _failures(evaluation: Evaluation) -> str:
    """Scored episodes on all splits in which the simulation broke down, or an adaptation episode before them had."""
    counts = {split: int(curve.failed.sum()) for split, curve in evaluation.curves.items()}
    found = [f"{count} episodes on {split}" for split, count in counts.items() if count]
    return ", ".join(found) or "none"


def _score(store: Store, evaluation: Evaluation) -> str:
    """The test score at each k, where references ship or the reference agents were evaluated in the same folder."""
    manifest = read_manifest(store.folder)
    runs = [(run["evaluate"], Terms.from_json(run["terms"])) for run in manifest["runs"]]
    same = [(key, terms) for key, terms in runs if terms.digest == evaluation.digest]
    others = [other for key, terms in same if (other := store.evaluation(key, terms))]
    try:
        references = references_in(manifest, evaluation.digest, others)
    except UsageError:
        return (
            f"none yet: first evaluate {', '.join(REFERENCE_AGENTS)} on this scenario in this results folder"
        )
    rows = {row.agent: row for row in score_scenario([evaluation], references).splits["test"].rows}
    scores = " ".join(f"{score.value:.2f}" for score in rows[evaluation.agent].scores)
    provisional = ", provisional" * references.provisional
    return f"{scores} (0 = random, 1 = oracle{provisional})"

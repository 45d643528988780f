"""The command line. Each command imports what it needs when it runs, so that `--help` and `list` stay quick.

Exit codes: 0 fine, 1 the run or a check of results failed, 2 wrong usage or bad YAML, 3 an optional part is missing,
130 interrupted.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import mrl_bench
from mrl_bench import registry
from mrl_bench.errors import MrlBenchError

if TYPE_CHECKING:
    from mrl_bench.report.bench_report import BenchReport
    from mrl_bench.runs.run import Run


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; returns its exit code."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal that has no "±" gets a "?"
    try:
        try:
            return _run(arguments)
        finally:
            sys.stdout.flush()
    except BrokenPipeError:  # whoever read our output has seen enough, as in `mrl-bench list | head -1`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _run(arguments: Sequence[str] | None) -> int:
    options = _parser().parse_args(arguments)
    try:
        sys.path.append(str(Path.cwd()))  # so that module:Class finds what lies in the present folder
        result: int = options.command(options)
        return result
    except MrlBenchError as error:
        return _fail(str(error), error.exit_code)
    except BrokenPipeError:
        raise
    except OSError as error:  # a full disk, a folder that cannot be written
        return _fail(str(error), 1)
    except KeyboardInterrupt:
        return _fail("stopped; the same command goes on from here", 130)


def _fail(message: str, exit_code: int) -> int:
    with suppress(BrokenPipeError):
        print(f"mrl-bench: {message}", file=sys.stderr)
    return exit_code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="mrl-bench", description="A benchmark for meta-reinforcement learning."
    )
    parser.add_argument("--version", action="version", version=f"mrl-bench {mrl_bench.__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    bench = commands.add_parser(
        "bench", help="run a suite: train, evaluate, report; goes on where it was stopped"
    )
    bench.add_argument("--suite", default="quick", help="a suite's id or YAML file (default: quick)")
    bench.add_argument("--seeds", type=_positive, help="training seeds instead of the suite's")
    bench.add_argument("--workers", type=_positive, help="runs at a time (default: one a core)")
    bench.add_argument(
        "--time-limit", type=_positive, default=7200, help="seconds for one run (default: 7200)"
    )
    bench.add_argument("--retry-failed", action="store_true", help="run runs again that had failed")
    _add_device(bench)
    bench.add_argument("--out", type=Path, help="results folder (default: runs/SUITE)")
    bench.set_defaults(command=_bench)

    report = commands.add_parser("report", help="print a bench's table, and write its page and figures again")
    report.add_argument("run", type=Path, help="results folder")
    report.add_argument("--split", action="append", choices=("train", "test", "ood"), help="default: test")
    report.set_defaults(command=_report)

    for name, command, text in (
        ("train", _train, "meta-train one agent on one scenario"),
        ("evaluate", _evaluate, "score one agent on a scenario's held-out tasks; trains it first if need be"),
    ):
        one = commands.add_parser(name, help=text)
        one.add_argument("scenario", help="id or YAML file")
        one.add_argument("agent", help="short name or module:Class")
        one.add_argument("--seed", type=_seed, default=0, help="training seed (default: 0)")
        one.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a hyperparameter")
        _add_device(one)
        one.add_argument(
            "--out", type=Path, default=Path("runs/single"), help="results folder (default: runs/single)"
        )
        one.set_defaults(command=command)

    film = commands.add_parser("play", help="film an agent on a held-out task, before and after it adapts")
    film.add_argument("scenario", help="id or YAML file")
    film.add_argument("--agent", default="random", help="name or module:Class (default: random)")
    film.add_argument("--seed", type=_seed, default=0, help="its training seed (default: 0)")
    film.add_argument("--run", type=Path, help="folder with its weights (default: runs/quick, runs/single)")
    film.add_argument("--task", type=_seed, default=0, help="which test task (default: 0)")
    film.add_argument("--rounds", type=_positive, default=1, help="rounds of adaptation (default: 1)")
    film.add_argument("--out", type=Path, required=True, metavar="FILE", help=".mp4 or .gif")
    film.set_defaults(command=_play)

    listing = commands.add_parser("list", help="what there is: scenarios, suites, families, agents")
    listing.set_defaults(command=_list)

    check = commands.add_parser("check", help="check scenario and suite files")
    check.add_argument("files", nargs="+", type=Path, metavar="FILE")
    check.set_defaults(command=_check)

    schema = commands.add_parser(
        "schema", help="print the JSON Schema of scenario or suite files, for editors"
    )
    schema.add_argument("kind", choices=("scenario", "suite"))
    schema.set_defaults(command=_schema)

    doctor = commands.add_parser("doctor", help="versions, GPU, and which optional parts are there")
    doctor.set_defaults(command=_doctor)

    registry.extend_command_line(commands, bench)
    return parser


def _add_device(parser: argparse.ArgumentParser) -> None:
    text = "where to compute (default: the GPU where there is one)"
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help=text)


def _positive(text: str) -> int:
    return _whole(text, 1)


def _seed(text: str) -> int:
    return _whole(text, 0)


def _whole(text: str, low: int) -> int:
    if not (text.isdecimal() and len(text) < 10 and int(text) >= low):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {low} to 999999999")
    return int(text)


def _bench(options: argparse.Namespace) -> int:
    from dataclasses import replace

    from mrl_bench.runs.executor import Bench, check, forget_failed, pick_device, plan_runs
    from mrl_bench.runs.manifest import write_manifest
    from mrl_bench.runs.progress import make_progress
    from mrl_bench.runs.provenance import cores
    from mrl_bench.runs.store import Store
    from mrl_bench.scenario.suite import find_suite

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # leaves all in order too, as Ctrl-C
    suite = find_suite(options.suite)
    suite = replace(suite, seeds=options.seeds or suite.seeds)
    store = Store(options.out or Path("runs") / suite.id)
    runs = plan_runs(suite, pick_device(options.device))
    check(runs)
    with store.held():
        if options.retry_failed:
            forget_failed(store, runs)
        write_manifest(store, suite, runs)
        workers = options.workers or cores()
        print(
            f"{suite.id}: {len(runs)} runs, {workers} at a time on {runs[0].device}, in {store.folder}",
            flush=True,
        )
        with make_progress(len(runs)) as display:
            running = Bench(store, display, workers, options.time_limit)
            results = running.run(runs)
        failed = sum(result.error is not None for result in results)

        def film(report: BenchReport) -> None:
            running.film([run for run in runs if run.key("evaluate") in report.leaders.values()])

        try:
            _show(store.folder, ("test",), film)
        except MrlBenchError as error:
            if not failed:
                raise
            _fail(str(error), 1)  # no scores without the anchors
    if failed:
        raise MrlBenchError(
            f"{failed} of {len(runs)} runs failed; their output is in {store.folder / 'logs'}"
        )
    return 0


def _report(options: argparse.Namespace) -> int:
    _show(options.run, options.split or ("test",))
    return 0


def _show(
    folder: Path, splits: Sequence[str], film: Callable[[BenchReport], None] = lambda report: None
) -> None:
    """Prints the boards of a bench, and writes its report once `film` has done what it can."""
    from mrl_bench.report.bench_report import read_report, write_report
    from mrl_bench.report.table import print_boards

    report = read_report(folder)
    print_boards(report.boards, report.info, splits)
    film(report)
    print(f"report: {write_report(folder, report)}")
    for line in report.missing:
        print(f"mrl-bench: {line}", file=sys.stderr)


def _train(options: argparse.Namespace) -> int:
    from mrl_bench.runs.run import train
    from mrl_bench.runs.store import Store

    run, store = _single(options), Store(options.out)
    trained = train(run, store, _print_progress)
    print(f"{run.label}: {trained.env_steps:,} env steps, weights in {store.model_path(run.key('train'))}")
    return 0


def _evaluate(options: argparse.Namespace) -> int:
    from mrl_bench.runs.executor import forget_failed
    from mrl_bench.runs.progress import summary
    from mrl_bench.runs.run import execute
    from mrl_bench.runs.store import Store

    run, store = _single(options), Store(options.out)
    forget_failed(store, [run])
    evaluation = execute(run, store, _print_progress)
    print(f"{run.label}: {summary(evaluation)}")
    if evaluation.error:
        raise MrlBenchError(f"{run.label} failed")
    return 0


def _single(options: argparse.Namespace) -> Run:
    """The run that `train` and `evaluate` were asked for."""
    import torch

    from mrl_bench.runs.executor import check, pick_device
    from mrl_bench.runs.run import Run
    from mrl_bench.scenario import find_scenario
    from mrl_bench.scenario.settings import parse_settings
    from mrl_bench.scenario.suite import REFERENCE_AGENTS, AgentSpec

    torch.set_num_threads(1)  # as in a bench, so that the result is the same
    name = options.agent.rpartition(":")[2].lower()
    if name in REFERENCE_AGENTS and name != options.agent:
        name += "-agent"  # someone's class Oracle is not the oracle, which is shown the task
    agent = AgentSpec(name, options.agent, parse_settings(options.set))
    run = Run(find_scenario(options.scenario), agent, options.seed, pick_device(options.device))
    check([run])
    return run


def _print_progress(stage: str, done: int, total: int) -> None:
    if sys.stderr.isatty():
        print(f"\r{stage} {done / total:4.0%}", end="\r", file=sys.stderr, flush=True)


def _play(options: argparse.Namespace) -> int:
    import torch

    from mrl_bench.runs.video import find_player, play

    torch.set_num_threads(1)
    run, weights = find_player(options.scenario, options.agent, options.seed, options.run)
    episodes = play(run, weights, task=options.task, rounds=options.rounds, out=options.out)
    scores = ", ".join(f"{episode.total:.1f} at k = {episode.rounds}" for episode in episodes)
    print(f"{run.label}, test task {options.task}: return {scores}; {options.out}")
    return 0


def _list(options: argparse.Namespace) -> int:
    from mrl_bench.scenario import list_scenarios
    from mrl_bench.scenario.suite import list_suites

    for title, names in (
        ("scenarios", list_scenarios()),
        ("suites", list_suites()),
        ("families", sorted(registry.names("family"))),
        ("agents", sorted(registry.names("agent"))),
    ):
        print(f"{title}:")
        for name in names:
            print(f"  {name}")
    return 0


def _check(options: argparse.Namespace) -> int:
    from mrl_bench.scenario import load_scenario
    from mrl_bench.scenario.suite import load_suite
    from mrl_bench.scenario.yaml_reader import read

    worst = 0
    for path in options.files:
        try:
            data = read(path).data
            if isinstance(data, dict) and "scenarios" in data:
                suite = load_suite(path)
                print(f"{path}: suite {suite.id}, {len(suite.entries)} scenarios, {suite.seeds} seeds")
            else:
                scenario = load_scenario(path)
                counts = ", ".join(
                    f"{split.count or 'endless'} {name}" for name, split in scenario.splits.items()
                )
                print(f"{path}: scenario {scenario.id}, digest {scenario.digest}, tasks: {counts}")
        except MrlBenchError as error:
            print(f"mrl-bench: {error}", file=sys.stderr)
            worst = max(worst, error.exit_code)
    return worst


def _schema(options: argparse.Namespace) -> int:
    from mrl_bench.scenario.json_schema import scenario_schema, suite_schema

    print(json.dumps(scenario_schema() if options.kind == "scenario" else suite_schema(), indent=2))
    return 0


def _doctor(options: argparse.Namespace) -> int:
    from mrl_bench.runs.provenance import PACKAGES, git_commit, machine, package_versions

    found = package_versions()
    print(f"machine  {machine()}")
    print(f"commit   {git_commit() or 'none: not a git checkout'}")
    for name in ("python", "mrl-bench", *PACKAGES):
        print(f"{name:<12} {found.get(name, 'not installed')}")
    import torch

    if torch.cuda.is_available():
        print(f"GPU      {torch.cuda.get_device_name()}, CUDA {torch.version.cuda}")
    else:
        print("GPU      none: everything runs on the CPU")
    return 0

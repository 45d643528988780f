"""The command line. Each command imports what it needs when it runs, so that `--help` and `list` start fast.

Exit codes: 0 success, 1 a run or a check failed, 2 wrong usage or a wrong YAML file, 3 an optional part is missing,
130 stopped by Ctrl-C or SIGTERM.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import mrl_bench
from mrl_bench import registry
from mrl_bench.cli import leaderboard, score
from mrl_bench.cli.arguments import (
    add_device,
    add_executor,
    add_retry_failed,
    add_time_limit,
    positive,
    seed,
    steps,
)
from mrl_bench.cli.terminal import fail, fail_with, one_line
from mrl_bench.errors import MrlBenchError

_EXIT_CODES = """exit codes:
  0    success
  1    a run or a check failed
  2    wrong usage, or a wrong YAML file
  3    an optional part is missing
  130  stopped by Ctrl-C or SIGTERM"""

_BUDGET = (
    "env steps of meta-training, as 200000 or 2e5 (default: the scenario's). The scenario's digest changes with it: "
    "results with another budget are not ranked together"
)

_SUITE = "a suite's id or YAML file: takes budget, protocol and settings from it; the agent is named as there"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; returns its exit code."""
    _open_closed_streams()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal that has no "±" gets a "?"
    try:
        try:
            return _run(arguments)
        finally:
            sys.stdout.flush()
    except OSError as error:
        # The output pipe was closed, as by `mrl-bench list | head -1`, or a disk is full.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the flush at exit
        return 1 if isinstance(error, BrokenPipeError) else fail(f"cannot write the output: {error}", 1)


def _open_closed_streams() -> None:
    """Python has no sys.stdout or sys.stderr if the caller closed it, as `>&-` does."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_WRONLY), "w"))


def _run(arguments: Sequence[str] | None) -> int:
    options = _parser().parse_args(arguments)
    try:
        sys.path.append(str(Path.cwd()))  # so that module:Class finds modules in the current folder
        result: int = options.command(options)
        return result
    except MrlBenchError as error:
        return fail_with(error)
    except BrokenPipeError:
        raise
    except OSError as error:  # a full disk, a folder that cannot be written
        return fail(str(error), 1)
    except KeyboardInterrupt:
        return fail("stopped; the same command continues from here", 130)


class _Parser(argparse.ArgumentParser):
    """Argparse repeats arguments in its errors; this keeps them short and free of control characters."""

    def error(self, message: str) -> NoReturn:
        super().error(one_line(message))


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="mrl-bench",
        description="A benchmark for meta-reinforcement learning.",
        epilog=_EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"mrl-bench {mrl_bench.__version__}")
    commands = parser.add_subparsers(title="commands", required=True, dest="subcommand", metavar="COMMAND")

    bench = commands.add_parser("bench", help="run a suite: train, evaluate, report; skips finished runs")
    bench.add_argument("--suite", default="quick", help="a suite's id or YAML file (default: quick)")
    bench.add_argument("--seeds", type=positive, help="training seeds per agent (default: the suite's)")
    add_executor(bench)
    add_time_limit(bench)
    add_retry_failed(bench)
    add_device(bench)
    bench.add_argument("--out", type=Path, help="results folder (default: runs/SUITE)")
    bench.set_defaults(command=_bench)

    report = commands.add_parser(
        "report", help="print the scores of a results folder; write its page and figures"
    )
    report.add_argument("run", type=Path, help="results folder")
    report.add_argument(
        "--split", action="append", choices=("train", "test", "ood"), help="may be repeated (default: test)"
    )
    report.set_defaults(command=_report)

    for name, command, text in (
        ("train", _train, "meta-train one agent on one scenario"),
        (
            "evaluate",
            _evaluate,
            "evaluate one agent on a scenario's test and ood tasks; trains it first if needed",
        ),
    ):
        one = commands.add_parser(name, help=text)
        one.add_argument("scenario", help="id or YAML file")
        one.add_argument("agent", help="short name or module:Class")
        one.add_argument("--seed", type=seed, default=0, help="training seed (default: 0)")
        one.add_argument("--suite", help=_SUITE)
        one.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a hyperparameter")
        one.add_argument("--budget", type=steps, metavar="STEPS", help=_BUDGET)
        add_device(one)
        add_time_limit(one)
        one.add_argument(
            "--out", type=Path, default=Path("runs/single"), help="results folder (default: runs/single)"
        )
        one.set_defaults(command=command)

    video = commands.add_parser(
        "play", help="make a video of an agent on a test task, before and after adaptation"
    )
    video.add_argument("scenario", help="id or YAML file")
    video.add_argument(
        "--agent", default="random", help="name, module:Class or leaderboard:NAME (default: random)"
    )
    video.add_argument(
        "--leaderboard",
        type=Path,
        default=Path("leaderboard"),
        help="of leaderboard:NAME (default: leaderboard)",
    )
    video.add_argument("--seed", type=seed, default=0, help="its training seed (default: 0)")
    video.add_argument("--results", type=Path, help="results folder (default: runs/quick, runs/single)")
    video.add_argument("--task", type=seed, default=0, help="which test task (default: 0)")
    video.add_argument("--k", type=positive, help="adaptation episodes (default: one round)")
    video.add_argument("--out", type=Path, required=True, metavar="FILE", help=".mp4 or .gif")
    video.set_defaults(command=_play)

    reference = commands.add_parser(
        "reference", help="train the reference agents of scenarios, whose returns give scores their scale"
    )
    reference.add_argument("scenarios", nargs="*", metavar="SCENARIO", help="id or YAML file (default: all)")
    reference.add_argument("--suite", help="the scenarios of a suite")
    reference.add_argument("--check", action="store_true", help="only print the certificates that there are")
    reference.add_argument("--seeds", type=positive, default=5, help="training seeds per agent (default: 5)")
    reference.add_argument("--first-seed", type=seed, default=0, help="the first of them (default: 0)")
    add_executor(reference)
    add_time_limit(reference, default=6 * 3600)
    add_device(reference)
    reference.add_argument(
        "--out", type=Path, default=Path("runs/references"), help="results folder (default: runs/references)"
    )
    reference.add_argument(
        "--folder",
        type=Path,
        help="where the files of references are (default: references/, next to the scenario)",
    )
    reference.add_argument("--against", type=Path, metavar="FOLDER", help="compare with the references there")
    reference.set_defaults(command=_reference)

    score.add_commands(commands)
    leaderboard.add_commands(commands)

    listing = commands.add_parser("list", help="what there is: scenarios, suites, families, agents")
    listing.set_defaults(command=_list)

    info = commands.add_parser(
        "info", help="describe a scenario, suite, family or agent, with all its settings"
    )
    info.add_argument("name", help="a name from `mrl-bench list`, a YAML file, or module:Class")
    info.set_defaults(command=_info)

    for kind in ("agent", "scenario", "family"):
        new = commands.add_parser(f"new-{kind}", help=f"write a working {kind} with a test, to start from")
        new.add_argument("name", help="lower case; becomes a folder, or for a scenario the id")
        new.set_defaults(command=_new, kind=kind)

    check = commands.add_parser("check", help="check scenario and suite files, agents and families")
    check.add_argument("names", nargs="+", metavar="NAME", help="a YAML file, module:Class, or a listed name")
    check.add_argument(
        "--waive",
        action="append",
        default=[],
        metavar="NAME=REASON",
        help="a promise that an agent or family need not keep, and why",
    )
    check.add_argument(
        "--scenario",
        default="cartpole-wiring-v1",
        help="where agents are tried (default: cartpole-wiring-v1)",
    )
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


def _bench(options: argparse.Namespace) -> int:
    from mrl_bench.cli.bench import bench

    return bench(options)


def _report(options: argparse.Namespace) -> int:
    from mrl_bench.cli.bench import report

    return report(options)


def _train(options: argparse.Namespace) -> int:
    from mrl_bench.cli.single import train

    return train(options)


def _evaluate(options: argparse.Namespace) -> int:
    from mrl_bench.cli.single import evaluate

    return evaluate(options)


def _play(options: argparse.Namespace) -> int:
    import torch

    from mrl_bench.runs.video import find_trained_run, load_agent, play

    torch.set_num_threads(1)
    source, colon, name = options.agent.partition(":")
    if colon and source == "leaderboard":
        from mrl_bench.leaderboard.folder import Leaderboard
        from mrl_bench.leaderboard.submitted import submitted_agent

        run, agent = submitted_agent(Leaderboard(options.leaderboard), options.scenario, name, options.seed)
    else:
        run, weights = find_trained_run(options.scenario, options.agent, options.seed, options.results)
        agent = load_agent(run, weights)
    episodes = play(run, agent, task=options.task, k=options.k, out=options.out)
    scores = ", ".join(f"{episode.total:.1f} at k = {episode.k}" for episode in episodes)
    print(f"{run.label}, test task {options.task}: return {scores}; {options.out}")
    return 0


def _reference(options: argparse.Namespace) -> int:
    from mrl_bench.cli.reference import reference

    return reference(options)


def _list(options: argparse.Namespace) -> int:
    from mrl_bench.cli.info import list_command

    return list_command(options)


def _info(options: argparse.Namespace) -> int:
    from mrl_bench.cli.info import info_command

    return info_command(options)


def _new(options: argparse.Namespace) -> int:
    from mrl_bench.cli.scaffold import create

    return create(options.kind, options.name)


def _check(options: argparse.Namespace) -> int:
    from mrl_bench.cli.check import check

    return check(options)


def _schema(options: argparse.Namespace) -> int:
    from mrl_bench.scenario.json_schema import scenario_schema, suite_schema

    print(json.dumps(scenario_schema() if options.kind == "scenario" else suite_schema(), indent=2))
    return 0


def _doctor(options: argparse.Namespace) -> int:
    from mrl_bench.runs.provenance import PACKAGES, git_commit, machine, package_versions

    found = package_versions()
    print(f"machine  {machine()}")
    print(f"commit   {git_commit() or 'none: not a git checkout'}")
    for name in ("python", *PACKAGES):
        print(f"{name:<12} {found.get(name, 'not installed')}")
    import torch

    if torch.cuda.is_available():
        print(f"GPU      {torch.cuda.get_device_name()}, CUDA {torch.version.cuda}")
    else:
        print("GPU      none: everything runs on the CPU")
    return 0

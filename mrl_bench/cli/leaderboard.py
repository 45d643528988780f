"""`mrl-bench score`, `verify` and `leaderboard`. What they need is imported when they run."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mrl_bench.cli.arguments import add_device, add_time_limit, positive

if TYPE_CHECKING:
    from mrl_bench.leaderboard.entry import Entry
    from mrl_bench.scenario.suite import Suite

_DIVISION = "privileged-training for an agent that saw task parameters in training (default: standard)"
_SMOKE_STEPS = 4  # env steps of a smoke test's meta-training, in full episodes of a meta-batch of 20 tasks


def add_commands(commands: Any) -> None:
    """Adds `score`, `verify` and `leaderboard` to the command line."""
    score = commands.add_parser(
        "score", help="train and score an agent on a suite, and make a submission to the leaderboard"
    )
    score.add_argument("agent", help="short name or module:Class")
    score.add_argument("--suite", default="core", help="a suite's id or YAML file (default: core)")
    score.add_argument("--seeds", type=positive, help="training seeds (default: the suite's)")
    score.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a hyperparameter")
    score.add_argument(
        "--smoke", action="store_true", help="see that it runs, with tiny budgets and one seed"
    )
    score.add_argument("--name", help="of the agent in tables (default: that of its class)")
    score.add_argument("--author", default="", help="who submits it")
    score.add_argument(
        "--division", choices=("standard", "privileged-training"), default="standard", help=_DIVISION
    )
    score.add_argument("--workers", type=positive, help="runs in parallel (default: one per core)")
    add_time_limit(score)
    score.add_argument(
        "--retry-failed", action="store_true", help="run failed runs again (default: keep them)"
    )
    add_device(score)
    score.add_argument("--out", type=Path, help="results folder (default: runs/score-NAME-SUITE)")
    score.add_argument(
        "--submissions",
        type=Path,
        default=Path("submissions"),
        help="where the submission is written (default: submissions)",
    )
    score.set_defaults(command=_score)

    verify = commands.add_parser("verify", help="verify a submission, level by level")
    verify.add_argument("submission", type=Path, help="its folder")
    verify.add_argument("--level", type=int, choices=range(4), default=3, help="the highest one (default: 3)")
    verify.add_argument("--suite", help="id or YAML file (default: the id that the submission names)")
    verify.set_defaults(command=_verify)

    leaderboard = commands.add_parser(
        "leaderboard", help="the folder of a leaderboard: add, list, show, withdraw"
    )
    actions = leaderboard.add_subparsers(title="actions", required=True, dest="action", metavar="ACTION")
    for name, command, text in (
        ("add", _add, "add a submission, verified at level 0"),
        ("verify", _verify_listed, "verify a submission of the leaderboard, and record it"),
        ("withdraw", _withdraw, "remove a submission; its line in the log stays"),
        ("show", _show, "what a submission earned"),
        ("list", _list, "all submissions"),
        ("check", _check, "check the log and every file"),
    ):
        one = actions.add_parser(name, help=text)
        if name == "add":
            one.add_argument("submission", type=Path, help="its folder")
        elif name in ("verify", "withdraw", "show"):
            one.add_argument("id", help="the first digits of its id")
        if name == "withdraw":
            one.add_argument("--why", required=True, help="the reason, which the log keeps")
        if name == "verify":
            one.add_argument(
                "--level", type=int, choices=range(4), default=3, help="the highest (default: 3)"
            )
        if name in ("add", "verify", "show"):
            one.add_argument("--suite", help="id or YAML file (default: the id that the submission names)")
        one.add_argument("--folder", type=Path, default=Path("leaderboard"), help="(default: leaderboard)")
        one.set_defaults(command=command)


def _score(options: argparse.Namespace) -> int:
    """Trains and evaluates the agent on the suite, and makes a submission of it."""
    from mrl_bench.cli.bench import run_suite
    from mrl_bench.leaderboard.build import build
    from mrl_bench.runs.store import Store

    suite, name = _suite_of_one(options)
    kind = "smoke" if options.smoke else "score"
    folder = options.out or Path("runs") / f"{kind}-{name}-{suite.id}"
    code = run_suite(suite, Store(folder), options)
    if options.smoke:
        print(f"{name} runs; a smoke test makes no submission")
        return code
    made = build(folder, name, options.submissions, options.author, options.division)
    size = sum(path.stat().st_size for path in made.rglob("*") if path.is_file())
    print(f"submission: {made} ({size / 1e6:.1f} MB)")
    return code


def _suite_of_one(options: argparse.Namespace) -> tuple[Suite, str]:
    """The suite with this agent in place of its own, and the agent's name."""
    from mrl_bench.scenario.schema import Budget
    from mrl_bench.scenario.settings import parse_settings
    from mrl_bench.scenario.suite import AgentSpec, find_suite

    suite = find_suite(options.suite)
    agent = AgentSpec.outside_suite(options.agent, parse_settings(options.set))
    agent = replace(agent, name=options.name or agent.name)
    entries = []
    for entry in suite.entries:
        own = {known.name: known for known in entry.agents}.get(options.agent)
        one = replace(agent, settings={**own.settings, **agent.settings}) if own else agent
        scenario = entry.scenario
        if options.smoke:
            steps = _SMOKE_STEPS * 20 * scenario.horizon
            k = scenario.protocol.k[:2]
            scenario = scenario.with_overrides(
                Budget(meta_train=steps, blind=steps, oracle=steps),
                replace(scenario.protocol, k=k, scored_episodes=1),
            )
        entries.append(replace(entry, scenario=scenario, agents=(one,)))
    seeds = 1 if options.smoke else options.seeds or suite.seeds
    return replace(suite, seeds=seeds, entries=tuple(entries)), agent.name


def _verify(options: argparse.Namespace) -> int:
    from mrl_bench.leaderboard.verify import LEVELS, verify

    def report(level: int, text: str) -> None:
        print(f"level {level}  {LEVELS[level]:<12} {text}", flush=True)

    entry = verify(options.submission, options.level, options.suite, report)
    print(f"{entry.submission.folder_name} holds up to level {options.level}")
    return 0


def _add(options: argparse.Namespace) -> int:
    from mrl_bench.leaderboard.folder import Leaderboard

    submission = Leaderboard(options.folder).add(options.submission, options.suite)
    print(f"{submission.folder_name} is on {options.folder}, id {submission.id}")
    return 0


def _verify_listed(options: argparse.Namespace) -> int:
    from mrl_bench.leaderboard.folder import Leaderboard

    print(Leaderboard(options.folder).verify(options.id, options.level, options.suite))
    return 0


def _withdraw(options: argparse.Namespace) -> int:
    from mrl_bench.leaderboard.folder import Leaderboard

    Leaderboard(options.folder).withdraw(options.id, options.why)
    return 0


def _list(options: argparse.Namespace) -> int:
    from mrl_bench.leaderboard.folder import Leaderboard
    from mrl_bench.leaderboard.submission import read_submission

    leaderboard = Leaderboard(options.folder)
    for each in leaderboard.listed():
        if each.withdrawn is not None:
            print(f"{each.id[:12]}  withdrawn: {each.withdrawn}")
            continue
        found = read_submission(leaderboard.submission_folder(each.id))
        level = "not verified" if each.level < 0 else f"verified at level {each.level}"
        print(
            f"{each.id[:12]}  {found.agent.name} on {found.suite}, {found.seeds} seeds, {level}, {each.added}"
        )
    return 0


def _show(options: argparse.Namespace) -> int:
    from mrl_bench.leaderboard.entry import Entry
    from mrl_bench.leaderboard.folder import Leaderboard

    leaderboard = Leaderboard(options.folder)
    entry = Entry.load(leaderboard.submission_folder(leaderboard.find(options.id)), options.suite)
    submission = entry.submission
    by = f" by {submission.agent.author}" if submission.agent.author else ""
    print(
        f"{submission.agent.name}{by}: {submission.agent.target}, suite {submission.suite}, {submission.seeds} seeds"
    )
    for line in _score_lines(entry):
        print(line)
    return 0


def _score_lines(entry: Entry) -> list[str]:
    """The score at the last k on each scenario and split."""
    lines = []
    for name, scores in entry.scores.items():
        for split, each in scores.splits.items():
            row = next(row for row in each.rows if not row.is_reference)
            last = row.scores[-1]
            half = "" if last.low != last.low else f" [{last.low:.2f}, {last.high:.2f}]"
            lines.append(f"  {name:<22} {split:<5} {last.value:6.2f}{half}  at k = {row.k[-1]}")
    return lines


def _check(options: argparse.Namespace) -> int:
    from mrl_bench.leaderboard.folder import Leaderboard

    leaderboard = Leaderboard(options.folder)
    print(
        f"{leaderboard.check()} submissions are as they were added; {len(leaderboard.events())} lines in the log"
    )
    return 0

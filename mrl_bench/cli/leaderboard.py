"""`mrl-bench score`, `serve-agent`, `verify` and `leaderboard`. What they need is imported when they run."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mrl_bench.cli.arguments import add_device, add_executor, add_time_limit, positive
from mrl_bench.errors import UsageError, printable
from mrl_bench.leaderboard import DIVISIONS, LEVELS, USUAL_LEVEL

if TYPE_CHECKING:
    from mrl_bench.leaderboard.entry import Entry
    from mrl_bench.scenario.suite import Suite

_DIVISION = "privileged-training for an agent that saw task parameters in training (default: standard)"
_CHANGED = "all that a pull request to this branch (default: origin/main) adds, without recording it"
_LADDER = "submissions that all others are compared with, by the first digits of their ids"
_ISOLATED = "train and evaluate the agent in processes that see observations and rewards alone"
_SMOKE_EPISODES = 80  # full episodes of a smoke test's meta-training


def add_commands(commands: Any) -> None:
    """Adds `score`, `serve-agent`, `verify` and `leaderboard` to the command line."""
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
    score.add_argument("--isolated", action="store_true", help=_ISOLATED)
    score.add_argument("--name", help="of the agent in tables (default: that of its class)")
    score.add_argument("--author", default="", help="who submits it")
    score.add_argument("--division", choices=DIVISIONS, default=DIVISIONS[0], help=_DIVISION)
    add_executor(score)
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

    serve = commands.add_parser(
        "serve-agent", help="serve an agent on a socket, for a harness in another environment"
    )
    serve.add_argument("agent", help="short name or module:Class")
    serve.add_argument("--socket", type=Path, default=Path("agent.sock"), help="(default: agent.sock)")
    serve.set_defaults(command=_serve)

    verify = commands.add_parser("verify", help="verify a submission, level by level")
    verify.add_argument("submission", type=Path, help="its folder")
    _add_level(verify)
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
        ("rank", _rank, "where the submissions on a suite stand"),
        ("check", _check, "check the log and every file"),
        ("site", _site, "write a static site of it"),
    ):
        one = actions.add_parser(name, help=text)
        if name == "add":
            one.add_argument("submission", type=Path, help="its folder")
        elif name in ("verify", "withdraw", "show"):
            optional = "?" if name == "verify" else None
            one.add_argument("id", nargs=optional, help="the first digits of its id")
        if name == "withdraw":
            one.add_argument("--why", required=True, help="the reason, which the log keeps")
        if name == "verify":
            _add_level(one)
            one.add_argument("--changed", nargs="?", const="origin/main", metavar="BRANCH", help=_CHANGED)
        if name == "rank":
            one.add_argument("--split", choices=("test", "ood"), default="test", help="(default: test)")
            one.add_argument("--ladder", nargs="*", default=[], metavar="ID", help=_LADDER)
        if name == "site":
            one.add_argument("--suite", nargs="*", default=[], help="ids or YAML files (default: all)")
            one.add_argument("--ladder", nargs="*", default=[], metavar="ID", help=_LADDER)
            one.add_argument("--out", type=Path, default=Path("site"), help="its folder (default: site)")
        if name in ("add", "verify", "show"):
            one.add_argument("--suite", help="id or YAML file (default: the id that the submission names)")
        elif name == "rank":
            one.add_argument("--suite", default="core", help="id or YAML file (default: core)")
        one.add_argument("--folder", type=Path, default=Path("leaderboard"), help="(default: leaderboard)")
        one.set_defaults(command=command)


def _add_level(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--level",
        type=int,
        choices=range(len(LEVELS)),
        default=USUAL_LEVEL,
        help=f"the highest (default: {USUAL_LEVEL}; {len(LEVELS) - 1} trains one run of each scenario again)",
    )


def _score(options: argparse.Namespace) -> int:
    """Trains and evaluates the agent on the suite, and makes a submission of it."""
    from mrl_bench.cli.bench import run_suite
    from mrl_bench.leaderboard.build import build
    from mrl_bench.runs.store import Store

    if options.isolated and options.device == "cuda":
        raise UsageError("an isolated agent computes on the CPU: --device cuda cannot be had with --isolated")
    options.device = "cpu" if options.isolated else options.device
    suite, name = _suite_of_one(options)
    if not options.smoke:
        _require_references(suite)
    kind = "smoke" if options.smoke else "score"
    folder = options.out or Path("runs") / f"{kind}-{name}-{suite.id}"
    code = run_suite(suite, Store(folder), options, options.isolated)
    if options.shard:
        return code
    if options.smoke:
        print(f"{name} runs; a smoke test makes no submission")
        return code
    made = build(folder, name, options.submissions, options.author, options.division)
    size = sum(path.stat().st_size for path in made.rglob("*") if path.is_file())
    print(f"submission: {made} ({size / 1e6:.1f} MB)")
    return code


def _serve(options: argparse.Namespace) -> int:
    from mrl_bench import registry
    from mrl_bench.isolation.server import listen

    listen(options.socket, registry.target("agent", options.agent))


def _require_references(suite: Suite) -> None:
    """Refuses a suite whose scores would be comparable with nobody's, before anything is trained."""
    from mrl_bench.scenario.references import shipped_references

    scenarios = [entry.scenario for entry in suite.entries]
    if missing := [scenario.id for scenario in scenarios if shipped_references(scenario) is None]:
        raise UsageError(
            f"suite {suite.id} cannot be scored: no references of {', '.join(missing)} ship; "
            "`mrl-bench reference` makes them"
        )


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
            steps = _SMOKE_EPISODES * scenario.horizon
            k = scenario.protocol.k[:2]
            scenario = scenario.with_overrides(
                Budget(meta_train=steps, blind=steps, oracle=steps),
                replace(scenario.protocol, k=k, scored_episodes=1),
            )
        entries.append(replace(entry, scenario=scenario, agents=(one,)))
    seeds = 1 if options.smoke else options.seeds or suite.seeds
    return replace(suite, seeds=seeds, entries=tuple(entries)), agent.name


def _verify(options: argparse.Namespace) -> int:
    from mrl_bench.leaderboard.verify import verify

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
    from mrl_bench.leaderboard.changed import added_since
    from mrl_bench.leaderboard.folder import Leaderboard

    leaderboard = Leaderboard(options.folder)
    if (options.id is None) == (options.changed is None):
        raise UsageError("give the first digits of an id, or --changed")
    if options.id:
        print(leaderboard.verify(options.id, options.level, options.suite))
        return 0
    print(f"{leaderboard.check()} submissions are as they were added")
    for id in added_since(leaderboard, options.changed):
        options.submission = leaderboard.submission_folder(id)
        _verify(options)
    return 0


def _withdraw(options: argparse.Namespace) -> int:
    from mrl_bench.leaderboard.folder import Leaderboard

    Leaderboard(options.folder).withdraw(options.id, options.why)
    return 0


def _list(options: argparse.Namespace) -> int:
    from mrl_bench.leaderboard.folder import Leaderboard
    from mrl_bench.leaderboard.submission import read_submission
    from mrl_bench.report.formatting import counted

    leaderboard = Leaderboard(options.folder)
    for each in leaderboard.listed():
        if each.withdrawn is not None:
            print(f"{each.id[:12]}  withdrawn: {printable(each.withdrawn)}")
            continue
        found = read_submission(leaderboard.submission_folder(each.id))
        level = "not verified" if each.level < 0 else f"verified at level {each.level}"
        run = f"{found.agent.name} on {found.suite}, {counted(found.seeds, 'seed')}"
        print(f"{each.id[:12]}  {run}, {level}, {each.added}")
    return 0


def _rank(options: argparse.Namespace) -> int:
    """A table for each scenario, and one over all."""
    from rich.console import Console

    from mrl_bench.leaderboard.entry import Entry
    from mrl_bench.leaderboard.folder import Leaderboard
    from mrl_bench.leaderboard.standing import VERDICTS, standings
    from mrl_bench.leaderboard.submission import read_submission
    from mrl_bench.report.formatting import DASH, plus_minus
    from mrl_bench.report.scores import Estimate
    from mrl_bench.report.table import WrappedTable
    from mrl_bench.scenario.suite import find_suite

    leaderboard, suite = Leaderboard(options.folder), find_suite(options.suite)
    kept = (leaderboard.submission_folder(each.id) for each in leaderboard.listed() if each.withdrawn is None)
    found = {folder: read_submission(folder) for folder in kept}
    entries = {
        folder.name: Entry.of(folder, each, options.suite)
        for folder, each in found.items()
        if each.suite == suite.id
    }
    ladder = [leaderboard.find(start) for start in options.ladder]
    if strangers := [id[:12] for id in ladder if id not in entries]:
        raise UsageError(f"{strangers[0]} is no submission on suite {suite.id}")
    verdicts = ["beats", "level with", "below"]  # in the order of VERDICTS
    for name, standing in standings(entries, ladder, options.split).items():
        headers = ["agent", "score", "seeds", *verdicts]
        table = WrappedTable(f"{name}, {options.split}", "place", headers, ["agent", *verdicts])
        for id, each in standing.items():
            submission, (first, last) = entries[id].submission, each.places
            agents = (
                ", ".join(agent for agent, found in each.verdicts.items() if found == verdict)
                for verdict in VERDICTS
            )
            estimate = plus_minus(Estimate(each.score, each.low, each.high))
            cells = [
                submission.agent.name,
                estimate,
                str(submission.seeds),
                *(text or DASH for text in agents),
            ]
            table.add(str(first) if first == last else f"{first}-{last}", cells)
        Console().print(table)
    return 0


def _show(options: argparse.Namespace) -> int:
    from mrl_bench.leaderboard.entry import Entry
    from mrl_bench.leaderboard.folder import Leaderboard
    from mrl_bench.report.formatting import counted

    leaderboard = Leaderboard(options.folder)
    entry = Entry.load(leaderboard.submission_folder(leaderboard.find(options.id)), options.suite)
    submission, agent = entry.submission, entry.submission.agent
    by = f" by {printable(agent.author)}" if agent.author else ""
    seeds = counted(submission.seeds, "seed")
    print(f"{agent.name}{by}: {printable(agent.target)}, suite {submission.suite}, {seeds}")
    for line in _score_lines(entry):
        print(line)
    return 0


def _score_lines(entry: Entry) -> list[str]:
    """The score at the last k on each scenario and split."""
    from mrl_bench.report.formatting import interval, score

    lines = []
    for name, scores in entry.scores.items():
        for split, each in scores.splits.items():
            row = next(row for row in each.rows if not row.is_reference)
            last = row.scores[-1]
            shown = f"{score(last.value):>6} {interval(last)}".rstrip()
            lines.append(f"  {name:<22} {split:<5} {shown}  at k = {row.k[-1]}")
    return lines


def _check(options: argparse.Namespace) -> int:
    from mrl_bench.leaderboard.folder import Leaderboard

    leaderboard = Leaderboard(options.folder)
    print(
        f"{leaderboard.check()} submissions are as they were added; {len(leaderboard.events())} lines in the log"
    )
    return 0


def _site(options: argparse.Namespace) -> int:
    from mrl_bench.leaderboard.folder import Leaderboard
    from mrl_bench.leaderboard.site.pages import write_site
    from mrl_bench.leaderboard.site.reading import read_contents

    contents = read_contents(Leaderboard(options.folder), options.suite, options.ladder)
    pages = write_site(contents, options.out)
    for id, why in contents.left_out.items():
        print(f"{id[:12]} is not shown: {printable(why)}")
    print(f"{options.out / 'index.html'}: {pages} pages")
    return 0

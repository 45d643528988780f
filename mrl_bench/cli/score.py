"""`mrl-bench score` and `mrl-bench serve-agent`. What they need is imported when they run."""

from __future__ import annotations

import argparse
import signal
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mrl_bench.cli.arguments import add_device, add_executor, add_retry_failed, add_time_limit, positive
from mrl_bench.errors import UsageError
from mrl_bench.leaderboard import DIVISIONS

if TYPE_CHECKING:
    from mrl_bench.leaderboard.entry import Entry
    from mrl_bench.scenario.suite import Suite

_DIVISION = "privileged-training for an agent that saw task parameters in training (default: standard)"
_ISOLATED = "train and evaluate the agent in processes that see observations and rewards alone"
_SMOKE_EPISODES = 400  # full episodes of a smoke test's meta-training


def add_commands(commands: Any) -> None:
    """Adds `score` and `serve-agent` to the command line."""
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
    add_retry_failed(score)
    add_device(score)
    score.add_argument("--out", type=Path, help="results folder (default: runs/score-NAME-SUITE)")
    score.add_argument(
        "--submissions",
        type=Path,
        default=Path("submissions"),
        help="where the submission is written (default: submissions)",
    )
    score.add_argument(
        "--leaderboard",
        type=Path,
        default=Path("leaderboard"),
        help="whose baselines it is compared with (default: leaderboard)",
    )
    score.set_defaults(command=_score)

    serve = commands.add_parser(
        "serve-agent", help="serve an agent on a socket, for a harness in another environment"
    )
    serve.add_argument("agent", help="short name or module:Class")
    serve.add_argument("--socket", type=Path, default=Path("agent.sock"), help="(default: agent.sock)")
    serve.set_defaults(command=_serve)


def _score(options: argparse.Namespace) -> int:
    """Trains and evaluates the agent on the suite, and makes a submission of it."""
    from mrl_bench.cli.bench import run_suite
    from mrl_bench.cli.standings import print_standings
    from mrl_bench.leaderboard.build import build
    from mrl_bench.leaderboard.entry import Entry
    from mrl_bench.report.formatting import counted
    from mrl_bench.runs.store import Store

    if options.isolated and options.device == "cuda":
        raise UsageError("an isolated agent computes on the CPU: --device cuda cannot be had with --isolated")
    options.device = "cpu" if options.isolated else options.device
    suite, name = _suite_of_one(options)
    baselines: dict[str, Entry] = {}
    if not options.smoke:
        _require_references(suite)
        baselines = _baselines(options.leaderboard, suite)
        compared = f" and {counted(len(baselines), 'baseline')}" if baselines else ""
        print(f"references{compared}: shipped results used, none trained")
    kind = "smoke" if options.smoke else "score"
    folder = options.out or Path("runs") / f"{kind}-{name}-{suite.id}"
    code = run_suite(suite, Store(folder), options, isolated=options.isolated, references=not options.smoke)
    if options.shard:
        return code
    if options.smoke:
        print(f"{name} runs; a smoke test makes no submission")
        return code
    made = build(folder, name, options.submissions, options.author, options.division)
    if baselines:
        print_standings({**baselines, "": Entry.load(made, options.suite)}, list(baselines), "test")
    size = sum(path.stat().st_size for path in made.rglob("*") if path.is_file())
    print(f"submission: {made} ({size / 1e6:.1f} MB)")
    return code


def _baselines(folder: Path, suite: Suite) -> dict[str, Entry]:
    """The ladder of a leaderboard on a suite, by id; empty if there is no such folder."""
    from mrl_bench.leaderboard.folder import Leaderboard
    from mrl_bench.leaderboard.standing import entries_on

    leaderboard = Leaderboard(folder)
    entries, _ = entries_on(leaderboard, suite)
    return {id: entries[id] for id in leaderboard.ladder() if id in entries}


def _serve(options: argparse.Namespace) -> int:
    from mrl_bench import registry
    from mrl_bench.runs.isolation.server import listen

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # removes the socket, as Ctrl-C does
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

"""The agent of a submission, with its weights, to play with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mrl_bench.agent import MetaAgent
from mrl_bench.errors import UsageError, nearest
from mrl_bench.leaderboard.entry import Entry
from mrl_bench.leaderboard.folder import Leaderboard
from mrl_bench.leaderboard.submission import read_submission
from mrl_bench.runs.isolation.remote import isolation
from mrl_bench.runs.run import Run
from mrl_bench.scenario.suite import AgentSpec


def submitted_agent(
    leaderboard: Leaderboard, scenario: str, name: str, seed: int, suite: str | Path | None = None
) -> tuple[Run, MetaAgent]:
    """A trained agent of a leaderboard, in a process of its own, and the run that trained it.

    Args:
        leaderboard: the folder that it is in.
        scenario: id.
        name: the agent's name, or the first digits of a submission's id. Of several submissions the one that was
            verified highest counts, and of these the last.
        seed: its training seed.
        suite: id or file of its suite; by default the id that it names.

    Raises:
        UsageError: there is no such agent, it was not submitted for this scenario, or that run failed.
        ContractError: it cannot be made.
    """
    kept = leaderboard.kept()
    found = {each.id: read_submission(leaderboard.submission_folder(each.id)) for each in kept}
    fitting = [
        each for each in kept if name and (found[each.id].agent.name == name or each.id.startswith(name))
    ]
    if not fitting:
        names = {submission.agent.name for submission in found.values()}
        raise UsageError(f"no agent {name!r} on {leaderboard.folder}: {nearest(name, names)}")
    fitting = [each for each in fitting if scenario in found[each.id].scenarios]
    if not fitting:
        raise UsageError(f"{name} was not submitted for {scenario}")
    id = max(reversed(fitting), key=lambda each: each.level).id
    entry = Entry.load(leaderboard.submission_folder(id), suite)
    runs = {(run.scenario, run.seed): run for run in entry.submission.runs if run.error is None}
    if (scenario, seed) not in runs:
        raise UsageError(f"{name} has no finished run with seed {seed} on {scenario}")
    submitter, played = entry.submission.agent, entry.scenarios[scenario]
    settings = submitter.settings[scenario]
    run = Run(played, AgentSpec(submitter.name, submitter.target, settings), seed, "cpu", isolated=True)
    agent: Any = isolation().make(submitter.target, played.spec, settings, seed, [entry.folder / "agent"])
    agent.load(entry.file(runs[scenario, seed].path("weights")))
    return run, agent

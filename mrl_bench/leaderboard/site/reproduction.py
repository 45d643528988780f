"""How to make a submission again: the commands and the settings that its page shows."""

from __future__ import annotations

import shlex

from mrl_bench import registry
from mrl_bench.leaderboard import DIVISIONS, LEVELS
from mrl_bench.leaderboard.submission import Submission
from mrl_bench.scenario.settings import assignments


def settings(submission: Submission) -> list[tuple[list[str], str]]:
    """The agent's settings as `--set` takes them, and the scenarios that they hold on; those of most scenarios first."""
    found: dict[tuple[str, ...], list[str]] = {}
    for name, config in submission.agent.settings.items():
        found.setdefault(tuple(assignments(config)), []).append(name)
    every = "all scenarios"
    return [
        (list(own), every if len(found) == 1 else ", ".join(names))
        for own, names in sorted(found.items(), key=lambda item: -len(item[1]))
    ]


def commands(submission: Submission) -> list[str]:
    """Shell commands that train, score and verify it again, from the folder that holds the leaderboard's.

    Settings that differ by scenario are not among them: those are the suite's.
    """
    agent, folder = submission.agent, f"leaderboard/submissions/{submission.id}"
    known = {target: name for name, target in registry.names("agent").items()}
    own = [set(assignments(config)) for config in agent.settings.values()]
    shared = [each for each in assignments(next(iter(agent.settings.values()), {})) if all(each in s for s in own)]
    score = ["mrl-bench", "score", known.get(agent.target, agent.target), "--suite", submission.suite]
    score += ["--seeds", str(submission.seeds), "--name", agent.name]
    score += [] if agent.division == DIVISIONS[0] else ["--division", agent.division]
    score += [word for setting in shared for word in ("--set", setting)]
    path = "" if agent.target in known else f"PYTHONPATH={folder}/agent "
    return [path + shlex.join(score), shlex.join(["mrl-bench", "verify", folder, "--level", str(len(LEVELS) - 1)])]

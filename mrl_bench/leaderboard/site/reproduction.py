"""The commands and settings that make a submission again."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mrl_bench import registry
from mrl_bench.leaderboard import DIVISIONS
from mrl_bench.leaderboard.submission import Submission
from mrl_bench.scenario.settings import assignments


@dataclass(frozen=True)
class Reproduction:
    """How to make a submission again."""

    settings: list[tuple[str, str]]  # where they hold, and what was set, as `--set` takes it
    commands: list[
        str
    ]  # of the shell; they train, score and verify it again next to the leaderboard's folder

    @staticmethod
    def of(submission: Submission, id: str) -> Reproduction:
        groups = list[tuple[list[str], Mapping[str, Any]]]()  # scenarios with the same settings
        for name, config in submission.agent.settings.items():
            same = next((names for names, known in groups if known == config), None)
            if same is None:
                groups.append(([name], config))
            else:
                same.append(name)
        found = [(names, assignments(config)) for names, config in groups]
        return Reproduction(
            settings=[
                ("all scenarios" if len(found) == 1 else ", ".join(names), ", ".join(own))
                for names, own in sorted(found, key=lambda each: -len(each[0]))
            ],
            commands=_commands(submission, id, [own for _, own in found]),
        )


def _commands(submission: Submission, id: str, settings: Sequence[Sequence[str]]) -> list[str]:
    """Only settings that hold on all scenarios are among the arguments: the others are the suite's."""
    agent, folder = submission.agent, f"leaderboard/submissions/{id}"
    known = {target: name for name, target in registry.names("agent").items()}
    score = ["mrl-bench", "score", known.get(agent.target, agent.target), "--suite", submission.suite]
    score += ["--seeds", str(submission.seeds), "--name", agent.name]
    score += [] if agent.division == DIVISIONS[0] else ["--division", agent.division]
    for setting in settings[0] if settings else ():
        score += ["--set", setting] if all(setting in each for each in settings) else []
    path = "" if agent.target in known else f"PYTHONPATH={folder}/agent "
    verify = ["mrl-bench", "verify", folder]
    return [path + shlex.join(score), shlex.join(verify)]

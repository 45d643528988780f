"""What the site shows of a leaderboard's folder, as numbers.

The submissions are trusted, as they were verified when they were added. So no file is hashed and no score bootstrapped
again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path

import numpy as np

from mrl_bench.errors import MrlBenchError, UsageError
from mrl_bench.leaderboard.entry import Entry
from mrl_bench.leaderboard.folder import Leaderboard, Listed, Verification
from mrl_bench.leaderboard.submission import SPLITS, Refused, Submission, SubmittedRun, read_submission
from mrl_bench.report.ranks import Contender
from mrl_bench.report.rows import AgentRuns
from mrl_bench.report.scale import Scale
from mrl_bench.report.scoring import contender
from mrl_bench.report.stats import Array, half_width, iqm
from mrl_bench.results import Evaluation, canonical_json
from mrl_bench.runs.terms import Terms
from mrl_bench.scenario import Scenario
from mrl_bench.scenario.references import References, shipped_references
from mrl_bench.scenario.suite import Suite, find_suite


@dataclass(frozen=True)
class Played:
    """An agent on one split of a scenario: S seeds, B tasks, K points, M adaptation episodes."""

    contender: Contender  # at the last k
    k: tuple[int, ...]  # (K,)
    by_seed: Array  # (S, K) IQM over tasks of the scores of each seed
    by_task: Array  # (B, 2) score of each task at k = 0 and at the last k, mean over seeds
    env_steps: Array  # (K,) of adaptation, mean over tasks and seeds
    online: Array  # (M,) score of each adaptation episode, mean over seeds and tasks
    worst: float  # least score of an adaptation episode; NaN if there is none

    @cached_property
    def means(self) -> Array:
        """(K,) the score that places are by."""
        return np.asarray(self.by_seed.mean(0))

    @cached_property
    def half_widths(self) -> Array:
        """(K,) of its 95 % intervals; NaN below three seeds."""
        return half_width(self.by_seed)

    @cached_property
    def band(self) -> Array:
        """(2, K) ends of these intervals, or the score itself where there is none."""
        half = np.nan_to_num(self.half_widths)
        return np.stack([self.means - half, self.means + half])

    @staticmethod
    def of(runs: AgentRuns) -> Played:
        scores, online = runs.scores, runs.online_scores
        return Played(
            contender=contender(runs),
            k=runs.k,
            by_seed=iqm(np.moveaxis(scores, 1, -1)),
            by_task=scores.mean(0)[:, [0, -1]],
            env_steps=runs.env_steps,
            online=online.mean((0, 1)),
            worst=runs.worst_online,
        )


@dataclass(frozen=True)
class KnownSuite:
    """A suite as this version knows it: only submissions with the same digests and references are compared."""

    suite: Suite

    @property
    def id(self) -> str:
        return self.suite.id

    @cached_property
    def scenarios(self) -> dict[str, Scenario]:
        return {entry.scenario.id: entry.scenario for entry in self.suite.entries}

    @cached_property
    def references(self) -> dict[str, References]:
        """Raises Refused if a scenario has none."""
        found = {name: shipped_references(scenario) for name, scenario in self.scenarios.items()}
        if missing := [name for name, references in found.items() if references is None]:
            raise Refused(f"no references of {', '.join(missing)} ship with this version")
        return {name: references for name, references in found.items() if references is not None}

    @cached_property
    def digest(self) -> str:
        """A hash (16 hex digits) of the scenarios and references that scores on this suite refer to."""
        parts = {name: [each.digest, self._hashes[name]] for name, each in self.scenarios.items()}
        return sha256(canonical_json(parts)).hexdigest()[:16]

    @cached_property
    def _hashes(self) -> dict[str, str]:
        return {name: sha256(found.to_bytes()).hexdigest() for name, found in self.references.items()}

    @cached_property
    def scales(self) -> dict[tuple[str, str], Scale]:
        """The scale of each scenario and split that is submitted."""
        return {
            (name, split): Scale.of(self.references[name], split, Terms.of(scenario, "", 0).returns, seed=0)
            for name, scenario in self.scenarios.items()
            for split in SPLITS
            if split in scenario.splits
        }

    def played(self, folder: Path, submission: Submission) -> dict[tuple[str, str], Played]:
        """What a submission earned, by scenario and split.

        Raises:
            Refused: it is of other scenarios or references than these, or its returns cannot be read.
        """
        entry = Entry(folder, submission, self.scenarios, trusted=True)
        entry.require_runs()
        runs: dict[str, list[Evaluation]] = {name: [] for name in self.scenarios}
        for evaluation in entry.evaluations.values():
            runs[evaluation.scenario].append(evaluation)
        for name, shipped in self._hashes.items():
            entry.require_references(name, shipped)
        try:
            return {
                (name, split): Played.of(AgentRuns(scale, split, submission.scenarios[name].k, runs[name]))
                for (name, split), scale in self.scales.items()
            }
        except ValueError as error:
            raise Refused(f"its returns cannot be read: {error}") from None


@dataclass(frozen=True)
class Shown:
    """A submission with what it earned."""

    submission: Submission
    listed: Listed
    verifications: Sequence[Verification]  # from the lowest level on
    played: Mapping[tuple[str, str], Played]  # (scenario, split) ->

    @property
    def id(self) -> str:
        return self.listed.id

    @property
    def level(self) -> int:
        """The highest level that was verified."""
        return self.listed.level

    @cached_property
    def env_steps(self) -> float:
        """Of meta-training, mean over the finished runs; 0 if there are none."""
        return float(np.mean([run.env_steps for run in self.submission.runs if run.error is None] or [0]))

    @cached_property
    def failed(self) -> list[SubmittedRun]:
        return [run for run in self.submission.runs if run.error is not None]


@dataclass(frozen=True)
class Contents:
    """What the site shows."""

    suites: Mapping[str, KnownSuite]
    shown: Mapping[str, Sequence[Shown]]  # suite -> its submissions, in the order in which they were added
    withdrawn: Sequence[Listed]
    left_out: Mapping[str, str]  # id -> why this version cannot show it
    attempts: Mapping[str, int]  # author -> submissions, withdrawn ones included
    ladder: Sequence[str]  # ids
    changed: str  # time of the last event; empty if there is none


def read_contents(
    leaderboard: Leaderboard, suites: Sequence[str | Path] = (), ladder: Sequence[str] | None = None
) -> Contents:
    """Reads a leaderboard's folder.

    Args:
        leaderboard: where submissions are.
        suites: ids or YAML files of the suites to show; by default those that the submissions name.
        ladder: beginnings of ids of the submissions that all others are compared with; by default the folder's ladder.

    Raises:
        UsageError: a suite is unknown, or an id of the ladder is none of a submission that is shown.
        Refused: the log is damaged.
    """
    known = {each.id: each for each in map(KnownSuite, map(find_suite, suites))}
    events, listed = leaderboard.events(), leaderboard.listed()
    shown: dict[str, list[Shown]] = {}
    left_out, authors = dict[str, str](), Counter[str]()
    for each in listed:
        author = each.author
        if each.withdrawn is None:
            try:
                submission = read_submission(leaderboard.submission_folder(each.id), trusted=True)
                author = submission.agent.author
                if submission.suite not in known and not suites:
                    known[submission.suite] = KnownSuite(find_suite(submission.suite))
                if submission.suite in known:
                    one = _shown(leaderboard, known[submission.suite], submission, each)
                    shown.setdefault(submission.suite, []).append(one)
            except MrlBenchError as error:
                left_out[each.id] = str(error)
        authors[author] += 1
    there = {one.id for of_suite in shown.values() for one in of_suite}
    if ladder is None:
        rungs = [id for id in leaderboard.ladder() if id in there]
    else:
        rungs = [leaderboard.find(start) for start in ladder]
    if strangers := [id[:12] for id in rungs if id not in there]:
        raise UsageError(f"{strangers[0]} is no submission that the site shows")
    return Contents(
        suites={name: known[name] for name in sorted(shown)},
        shown=shown,
        withdrawn=[each for each in listed if each.withdrawn is not None],
        left_out=left_out,
        attempts=authors,
        ladder=rungs,
        changed=events[-1].time if events else "",
    )


def _shown(leaderboard: Leaderboard, suite: KnownSuite, submission: Submission, listed: Listed) -> Shown:
    played = suite.played(leaderboard.submission_folder(listed.id), submission)
    return Shown(submission, listed, leaderboard.verifications(listed.id), played)

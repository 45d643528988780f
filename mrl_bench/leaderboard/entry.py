"""A submission together with what this version of mrl-bench knows: its scenarios and their references."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256
from pathlib import Path

from mrl_bench.errors import ContractError, MrlBenchError, UsageError
from mrl_bench.leaderboard.arrays import unpack
from mrl_bench.leaderboard.submission import (
    SPLITS,
    Refused,
    Submission,
    SubmittedRun,
    read_listed,
    read_submission,
    returns_path,
)
from mrl_bench.report.ranks import Contender
from mrl_bench.report.rows import AgentRuns
from mrl_bench.report.scale import Scale
from mrl_bench.report.scores import ScenarioScores
from mrl_bench.report.scoring import contender, score_scenario
from mrl_bench.results import Evaluation, TrainingResult, ratio_from_json
from mrl_bench.runs.terms import Terms
from mrl_bench.scenario import Scenario
from mrl_bench.scenario.references import References, shipped_references
from mrl_bench.scenario.suite import find_suite


@dataclass(frozen=True)
class Entry:
    """A submission whose files are those that it lists, and whose runs are those of its suite."""

    folder: Path
    submission: Submission
    scenarios: Mapping[str, Scenario]  # of the suite, by id
    trusted: bool = False  # whether it was verified before, so that its files are neither hashed nor checked

    @staticmethod
    def load(folder: Path, suite: str | Path | None = None) -> Entry:
        """Reads a submission.

        Args:
            folder: of the submission.
            suite: id or file of its suite; by default the id that it names.

        Raises:
            Refused: it is none, or of another suite.
        """
        return Entry.of(folder, read_submission(folder), suite)

    @staticmethod
    def of(folder: Path, submission: Submission, suite: str | Path | None = None) -> Entry:
        """A submission that has been read from a folder. Raises: Refused, as `load` does."""
        try:
            entries = find_suite(suite or submission.suite).entries
        except MrlBenchError as error:
            raise Refused(f"suite {submission.suite}: {error}") from None
        entry = Entry(folder, submission, {entry.scenario.id: entry.scenario for entry in entries})
        entry.require_runs()
        return entry

    def require_runs(self) -> None:
        """Raises Refused unless its runs are all seeds of all scenarios of the suite, as this version knows them."""
        submitted, suite = self.submission.scenarios, self.submission.suite
        for name in sorted(self.scenarios.keys() ^ submitted.keys()):
            how = "is not of" if name in submitted else "is missing, which is of"
            raise Refused(f"scenario {name} {how} suite {suite}")
        for name, scenario in self.scenarios.items():
            if scenario.digest != submitted[name].digest:
                raise Refused(f"{name} is another scenario in this version: its digest differs")
        seeds = range(self.submission.seeds)
        expected = [(name, seed) for name in sorted(self.scenarios) for seed in seeds]
        if [(run.scenario, run.seed) for run in self.submission.runs] != expected:
            last = len(seeds) - 1
            raise Refused(
                f"its runs are not the seeds 0 to {last} of each scenario of suite {suite}, in order"
            )

    def references(self, name: str) -> References:
        """The references that ship with a scenario.

        Raises:
            Refused: there are none, or the submission's scores refer to others.
        """
        found = shipped_references(self.scenarios[name])
        if found is None:
            raise Refused(f"no references of {name} ship with this version")
        self.require_references(name, sha256(found.to_bytes()).hexdigest())
        return found

    def require_references(self, name: str, shipped: str) -> None:
        """Raises Refused unless its scores on a scenario refer to the references with this SHA-256."""
        if shipped != self.submission.scenarios[name].references:
            raise Refused(f"its scores refer to other references of {name} than ship with this version")

    @cached_property
    def evaluations(self) -> dict[str, Evaluation]:
        """The evaluation of each run, by its name, on the splits that are submitted.

        Raises:
            Refused: returns cannot be read, or are not possible.
        """
        return {
            run.name: evaluation
            for name in sorted(self.scenarios)
            for run, evaluation in self._evaluations(name)
        }

    def _evaluations(self, name: str) -> Iterator[tuple[SubmittedRun, Evaluation]]:
        known, agent = self.submission.scenarios[name], self.submission.agent.name
        runs = [run for run in self.submission.runs if run.scenario == name]
        finished = sum(run.error is None for run in runs)
        try:
            reported = {str(metric): ratio_from_json(*values) for metric, *values in known.reported}
            data = self.file(returns_path(name)) if finished else b""
            curves = iter(unpack(data, finished, known.k, reported) if finished else ())
            for run in runs:
                found = next(curves) if run.error is None else {}
                training = TrainingResult(run.env_steps)
                evaluation = Evaluation(
                    name, known.digest, agent, False, run.seed, training, found, run.error
                )
                if not self.trusted:
                    self.terms(name, run.seed).check(evaluation)
                yield run, evaluation
        except (ContractError, ValueError, TypeError) as error:
            raise Refused(f"the returns on {name} are not possible: {error}") from None

    def terms(self, name: str, seed: int) -> Terms:
        """Of a run, with the splits that are submitted."""
        terms = Terms.of(self.scenarios[name], self.submission.agent.name, seed)
        return replace(terms, tasks={split: n for split, n in terms.tasks.items() if split in SPLITS})

    @cached_property
    def scores(self) -> dict[str, ScenarioScores]:
        """The scores on each scenario, computed from the submitted returns.

        Raises:
            Refused: see `references` and `evaluations`.
        """
        return {name: self.score(name, self.evaluations.values()) for name in self.scenarios}

    def score(self, name: str, evaluations: Iterable[Evaluation]) -> ScenarioScores:
        """The scores of those of the evaluations that are of one scenario. Raises: Refused."""
        own = [each for each in evaluations if each.scenario == name]
        possible = self.terms(name, 0).returns
        try:
            return score_scenario(own, self.references(name), return_range=possible)
        except (UsageError, ValueError) as error:
            raise Refused(f"{name} cannot be scored: {error}") from None

    def contender(self, name: str, split: str, evaluations: Iterable[Evaluation] | None = None) -> Contender:
        """The agent on one split of a scenario, for comparison with others.

        Args:
            name: of the scenario.
            split: "test" or "ood".
            evaluations: of its runs; by default those that were submitted.
        """
        given = self.evaluations.values() if evaluations is None else evaluations
        runs = [each for each in given if each.scenario == name]
        scale = Scale.of(self.references(name), split, self.terms(name, 0).returns, seed=0)
        return contender(AgentRuns(scale, split, self.submission.scenarios[name].k, runs))

    def file(self, name: str) -> bytes:
        """A file of the submission.

        Raises:
            Refused: it is not the one that was submitted.
        """
        if name not in self.submission.files:
            raise Refused(f"{name} is missing")
        return read_listed(self.folder, name, self.submission.files[name], self.trusted)

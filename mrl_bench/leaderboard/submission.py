"""A submission: what one agent earned on a suite, with everything that others need to check it.

    submission.json                agent, suite, settings, versions, claimed scores, and the hash of every other file
    returns/SCENARIO.safetensors   the returns of the test and ood split, seed by seed, task by task, episode by episode
    episodes/RUN.safetensors       actions of a sample of the scored episodes
    weights/RUN.safetensors        what was meta-learned
    agent/                         the agent's source files

RUN is SCENARIO-SEED. A failed run has neither returns nor files. The id of a submission is the SHA-256 of its
submission.json, which is canonical JSON; so one changed byte anywhere makes another submission, or none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from hashlib import sha256
from math import isnan
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, TypeAdapter

from mrl_bench.errors import MrlBenchError
from mrl_bench.report.scores import Estimate, ScenarioScores
from mrl_bench.results import canonical_json
from mrl_bench.runs.files import read_file
from mrl_bench.runs.seal import fingerprint
from mrl_bench.runs.terms import Count, Digest, Id, Name, SplitName

FORMAT = 1
SPLITS = ("test", "ood")
MAX_BYTES = 2**28  # of a submission's file; a larger one is not read
MAX_FILES = 10_000

Text = Annotated[str, Field(max_length=200)]
Sha = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
# Within the submission's folder, and hidden nowhere.
FileName = Annotated[
    str,
    Field(pattern=r"^(returns|episodes|weights|agent)(/[A-Za-z0-9_-][A-Za-z0-9_.-]*)+$", max_length=200),
]


class Refused(MrlBenchError):
    """A submission is not what it claims to be. The message is one line and says why."""


@dataclass(frozen=True)
class File:
    bytes: Count
    sha256: Sha


@dataclass(frozen=True)
class Submitter:
    """The agent, and who submits it."""

    name: Name  # as tables show it
    target: Text  # registered name, or module:Class
    author: Text
    division: Text  # one of `DIVISIONS`
    settings: dict[Id, dict[str, Any]]  # scenario -> the whole config


@dataclass(frozen=True)
class SubmittedRun:
    """One seed on one scenario. Files are named after both."""

    scenario: Id
    seed: Count
    env_steps: Count  # of meta-training
    seconds: float | None  # of meta-training and evaluation, as measured; None if unknown
    error: Text | None  # why it failed

    @property
    def name(self) -> str:
        return f"{self.scenario}-{self.seed}"

    def path(self, kind: str) -> str:
        return f"{kind}/{self.name}.safetensors"


@dataclass(frozen=True)
class SubmittedScenario:
    """What a scenario was when the agent was run on it."""

    digest: Digest
    tasks_digest: Digest
    references: Sha  # of the references that normalise the scores
    k: tuple[Count, ...]
    reported: list[Any]  # the metrics that tables show, as in `References.to_json`


def returns_path(scenario: str) -> str:
    """The file with the returns of all finished runs on a scenario, in the order of their seeds."""
    return f"returns/{scenario}.safetensors"


# Scenario -> split -> name of the score -> [value, low, high] at each k; None where there is no interval.
Claims = dict[Id, dict[SplitName, dict[str, list[list[float | None]]]]]


@dataclass(frozen=True)
class Submission:
    """The contents of submission.json."""

    agent: Submitter
    suite: Name
    scenarios: dict[Id, SubmittedScenario]
    runs: list[SubmittedRun]
    claims: Claims
    versions: dict[str, Text | list[str]]
    machine: Text
    commit: Text
    created: Text
    files: dict[FileName, File]
    format: int = field(default=FORMAT)

    @property
    def id(self) -> str:
        return sha256(self.to_bytes()).hexdigest()

    @property
    def folder_name(self) -> str:
        return f"{self.agent.name}-{self.id[:6]}"

    @property
    def seeds(self) -> int:
        return len({run.seed for run in self.runs})

    def to_bytes(self) -> bytes:
        return canonical_json(asdict(self))


def claims_of(scores: ScenarioScores, agent: str) -> dict[str, dict[str, list[list[float | None]]]]:
    """What an agent's rows say: split -> score (IQM) and mean, with intervals, at each k."""

    def numbers(estimates: tuple[Estimate, ...]) -> list[list[float | None]]:
        return [[None if isnan(x) else x for x in (each.value, each.low, each.high)] for each in estimates]

    return {
        split: {"score": numbers(row.scores), "mean": numbers(row.means)}
        for split, each in scores.splits.items()
        for row in each.rows
        if row.agent == agent
    }


def read_submission(folder: Path, trusted: bool = False) -> Submission:
    """The submission in a folder.

    Args:
        folder: of the submission.
        trusted: whether it was verified before, so that its files need not be exactly those that it lists.

    Raises:
        Refused: it is not one.
    """
    path = folder / "submission.json"
    try:
        data = read_file(path, MAX_BYTES) if not path.is_symlink() else None
        if data is None:
            raise Refused(f"{folder} holds no submission: there is no submission.json in it")
        submission = _reader().validate_json(data, strict=True)
        canonical = trusted or submission.to_bytes() == data
    except (ValueError, RecursionError) as error:
        raise Refused(f"{path} is no submission of this version: {_first_line(error)}") from None
    except OSError as error:
        raise Refused(f"{path} cannot be read: {error.strerror}") from None
    if not canonical:
        raise Refused(f"{path} is not canonical JSON, as mrl-bench writes it")
    if submission.format != FORMAT:
        raise Refused(f"{path} has format {submission.format}; this version reads format {FORMAT}")
    if not trusted:
        _require_files(folder, submission.files)
    return submission


def _require_files(folder: Path, listed: Mapping[str, File]) -> None:
    found = set[str]()
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        if len(found) > MAX_FILES:
            raise Refused(f"{folder} holds more than {MAX_FILES:,} files")
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise Refused(f"{name} is neither a file nor a folder")
        if path.is_file() and name != "submission.json":
            found.add(name)
    for name in sorted(found ^ listed.keys()):
        raise Refused(f"{name} is {'missing' if name in listed else 'not listed in submission.json'}")
    for name, file in sorted(listed.items()):
        read_listed(folder, name, file)


def read_listed(folder: Path, name: str, file: File, trusted: bool = False) -> bytes:
    """The contents of a file that a submission lists.

    Args:
        folder: of the submission.
        name: of the file.
        file: what the submission says of it.
        trusted: whether it was verified before, so that it is not hashed again.

    Raises:
        Refused: it is not the one that was submitted.
    """
    try:
        data = read_file(folder / name, file.bytes)
    except OSError as error:
        raise Refused(f"{name} cannot be read: {error.strerror}") from None
    if data is None:
        raise Refused(f"{name} is missing")
    if not (trusted or fingerprint(data) == asdict(file)):
        raise Refused(f"{name} is not the file that was submitted: its sha256 differs")
    return data


def _first_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


@cache
def _reader() -> TypeAdapter[Submission]:
    return TypeAdapter(Submission)

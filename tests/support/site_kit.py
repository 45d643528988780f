"""Leaderboards of synthetic submissions, which are written straight into the folder."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from bench_kit import SCENARIO, ship_references
from numpy.typing import NDArray

from mrl_bench.leaderboard.arrays import pack
from mrl_bench.leaderboard.folder import FIRST, Event, Leaderboard
from mrl_bench.leaderboard.submission import (
    SPLITS,
    File,
    Submission,
    SubmittedRun,
    SubmittedScenario,
    Submitter,
    returns_path,
)
from mrl_bench.results import Curve, Online
from mrl_bench.runs.seal import fingerprint
from mrl_bench.runs.terms import Terms
from mrl_bench.scenario import Scenario, find_scenario
from mrl_bench.scenario.references import shipped_references
from mrl_bench.scenario.suite import Suite, find_suite

DRIVING: Mapping[str, Any] = {
    "family": "driving",
    "options": {},
    "params": {"road_friction": {"uniform": [0.4, 0.9]}},
    "splits": {"test": {"count": 3, "seed": 1}},
}


@dataclass(frozen=True)
class Agent:
    """A synthetic submission."""

    name: str
    skill: float = 0.5  # its score at the last k, about
    author: str = ""
    division: str = "standard"
    level: int = -1
    target: str = "my_agent:Agent"
    withdrawn: str | None = None
    error: str | None = None  # of its first run
    versions: Mapping[str, str] = field(default_factory=lambda: {"python": "3.11", "torch": "2.9"})


def make_suite(
    folder: Path,
    scenarios: int = 3,
    id: str = "tiny",
    tasks: int = 3,
    k: Sequence[int] = (0, 2, 6),
    scored: int = 3,
) -> Suite:
    """A suite of tiny scenarios with references; the last third is of a second family and has no ood split."""
    names = []
    for number in range(scenarios):
        family = DRIVING if 3 * number >= 2 * scenarios else {}
        names.append(f"{'drive' if family else 'pole'}-{number}-v1")
        data = {**SCENARIO, **family, "id": names[-1]}
        data["splits"] = {split: {**each, "count": tasks} for split, each in data["splits"].items()}
        data["protocol"] = {"k": list(k), "scored_episodes": scored}
        path = folder / f"{names[-1]}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump(data))
        ship_references(find_scenario(path))
    path = folder / f"{id}.yaml"
    entries = [{"scenario": f"{name}.yaml"} for name in names]
    path.write_text(
        yaml.safe_dump(
            {"id": id, "doc": "Tiny <b>tasks</b>.", "seeds": 3, "agents": {}, "scenarios": entries}
        )
    )
    return find_suite(path)


def make_leaderboard(folder: Path, *parts: tuple[Suite, Sequence[Agent]], seeds: int = 3) -> Leaderboard:
    """A leaderboard with submissions on suites, in this order."""
    leaderboard, lines = Leaderboard(folder), list[tuple[str, str, str]]()
    for suite, of_suite in parts:
        maker = _Maker(suite, seeds, folder.with_name(f"{folder.name}-{suite.id}"))
        for agent in of_suite:
            id = maker.write(leaderboard, agent)
            lines.append(("add", id, agent.author))
            if agent.level >= 0:
                lines.append(("verify", id, str(agent.level)))
            if agent.withdrawn is not None:
                lines.append(("withdraw", id, agent.withdrawn))
    data, previous = b"", FIRST
    for number, (event, id, note) in enumerate(lines):
        line = Event(number, previous, event, id, "2026-11-28T10:00:00+00:00", note).to_bytes()
        data, previous = data + line, sha256(line).hexdigest()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "log.jsonl").write_bytes(data)
    return leaderboard


class _Maker:
    """Writes submissions on one suite. Agents share the files of a few returns, as hard links."""

    POOL = 10  # different files of returns for each scenario

    def __init__(self, suite: Suite, seeds: int, folder: Path) -> None:
        self.suite, self.seeds, self.folder = suite, seeds, folder
        self.scenarios = {entry.scenario.id: entry.scenario for entry in suite.entries}
        self.terms = {name: Terms.of(scenario, "x", 0) for name, scenario in self.scenarios.items()}
        self.references = {name: shipped_references(s) for name, s in self.scenarios.items()}
        self.known = {name: self._known(scenario) for name, scenario in self.scenarios.items()}
        self.pool: dict[tuple[str, int, tuple[int, ...]], tuple[File, Path]] = {}

    def _known(self, scenario: Scenario) -> SubmittedScenario:
        found = self.references[scenario.id]
        assert found
        return SubmittedScenario(
            digest=scenario.digest,
            tasks_digest=found.digest,
            references=sha256(found.to_bytes()).hexdigest(),
            k=scenario.protocol.k,
            reported=found.to_json()["reported"],
        )

    def write(self, leaderboard: Leaderboard, agent: Agent) -> str:
        level = round(agent.skill * self.POOL)
        runs, files, packed = [], dict[str, File](), dict[str, Path]()
        for name in sorted(self.scenarios):
            errors = [agent.error if not runs and not seed else None for seed in range(self.seeds)]
            runs += [SubmittedRun(name, n, 250 + 5 * level, 12.5, error) for n, error in enumerate(errors)]
            if finished := tuple(seed for seed, error in enumerate(errors) if error is None):
                path = returns_path(name)
                files[path], packed[path] = self._pooled(name, level, finished)
        submission = Submission(
            agent=Submitter(
                agent.name, agent.target, agent.author, agent.division,
                {name: {"lr": 0.1, "note": agent.name, "layers": [64, 64]} for name in self.scenarios},
            ),
            suite=self.suite.id,
            scenarios=self.known,
            runs=runs,
            claims={name: self._claims(name, agent.skill) for name in self.scenarios},
            versions=dict(agent.versions),
            machine="A machine",
            commit="",
            created=f"2026-11-{1 + level:02}",
            files=files,
        )  # fmt: skip
        folder = leaderboard.submission_folder(submission.id)
        if agent.withdrawn is None:
            for path, first in packed.items():
                made = folder / path
                made.parent.mkdir(parents=True, exist_ok=True)
                os.link(first, made)
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "submission.json").write_bytes(submission.to_bytes())
        return submission.id

    def _pooled(self, name: str, level: int, seeds: tuple[int, ...]) -> tuple[File, Path]:
        """A file of returns, and where it was first written."""
        if (name, level, seeds) not in self.pool:
            splits = [split for split in SPLITS if split in self.terms[name].tasks]
            rngs = [np.random.default_rng([level, seed, *name.encode()]) for seed in seeds]
            data = pack([{split: self._curve(name, split, level, rng) for split in splits} for rng in rngs])
            path = self.folder / f"{name}-{level}-{len(seeds)}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            self.pool[name, level, seeds] = File(**fingerprint(data)), path
        return self.pool[name, level, seeds]

    def _curve(self, name: str, split: str, level: int, rng: np.random.Generator) -> Curve:
        """The references earn 1, 9 and 10, so that a score s is the return 1 + 9 s."""
        terms, found = self.terms[name], self.references[name]
        assert found
        B, K, N, M = terms.tasks[split], len(terms.k), terms.scored_episodes, terms.k[-1]
        names = sorted({each for ratio in found.reported.values() for each in ratio.measured})
        rising = np.linspace(0.5, 1.0, K)[None, :, None]
        shape = (B, K, N)
        returns = 1 + 9 * level / self.POOL * rising + rng.normal(0, 0.8, shape)
        online = 1 + 9 * level / self.POOL * np.linspace(0.4, 1, M)[None] + rng.normal(0, 0.8, (B, M))
        steps = np.repeat(np.array(terms.k)[None] * float(terms.horizon - level // 2), B, axis=0)
        return Curve(
            k=terms.k,
            returns=_possible(returns),
            env_steps=steps,
            failed=np.zeros((B, K), np.int64),
            online=Online(
                _possible(online),
                np.zeros((B, M), np.int64),
                {each: rng.random((B, M)) for each in names},
            ),
            metrics={each: rng.random(shape) for each in names},
            reported=found.reported,
        )

    def _claims(self, name: str, skill: float) -> dict[str, dict[str, list[list[float | None]]]]:
        numbers = [
            [skill * share, skill * share - 0.05, skill * share + 0.05]
            for share in np.linspace(0.5, 1, len(self.terms[name].k))
        ]
        return {
            split: {"score": numbers, "mean": numbers}
            for split in SPLITS
            if split in self.scenarios[name].splits
        }


def _possible(returns: NDArray[np.float64]) -> NDArray[np.float64]:
    """What the tiny scenarios can pay, in the precision of rewards."""
    return returns.clip(0, 12).astype(np.float32).astype(np.float64)

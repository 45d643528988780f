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
        maker = _Maker(suite, seeds)
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

    def __init__(self, suite: Suite, seeds: int) -> None:
        self.suite, self.seeds = suite, seeds
        self.scenarios = {entry.scenario.id: entry.scenario for entry in suite.entries}
        self.terms = {name: Terms.of(scenario, "x", 0) for name, scenario in self.scenarios.items()}
        self.references = {name: shipped_references(s) for name, s in self.scenarios.items()}
        self.known = {name: self._known(scenario) for name, scenario in self.scenarios.items()}
        self.pool: dict[tuple[str, int, int], tuple[Path, File]] = {}

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
        runs, files, sources = [], dict[str, File](), dict[str, Path | None]()
        for name in sorted(self.scenarios):
            for seed in range(self.seeds):
                failed = agent.error if not runs else None
                run = SubmittedRun(name, seed, 250 + 5 * level, 12.5, failed)
                runs.append(run)
                if failed is None:
                    path = run.path("returns")
                    key = (name, level, seed)
                    sources[path], files[path] = self.pool.get(key) or (None, self._file(name, level, seed))
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
            for path, source in sources.items():
                made = folder / path
                made.parent.mkdir(parents=True, exist_ok=True)
                run, seed = made.stem.rsplit("-", 1)
                if source is None:
                    made.write_bytes(self._returns(run, level, int(seed)))
                    self.pool[run, level, int(seed)] = (made, files[path])
                else:
                    os.link(source, made)
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "submission.json").write_bytes(submission.to_bytes())
        return submission.id

    def _file(self, name: str, level: int, seed: int) -> File:
        return File(**fingerprint(self._returns(name, level, seed)))

    def _returns(self, name: str, level: int, seed: int) -> bytes:
        rng = np.random.default_rng([level, seed, *name.encode()])
        return pack({s: self._curve(name, s, level, rng) for s in SPLITS if s in self.terms[name].tasks})

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

"""The returns of the reference agents (random, blind, oracle) on the tasks of a scenario. They give scores their scale.

They ship as one file a scenario, `references/ID.json` next to the scenario's YAML. `mrl-bench reference` makes it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mrl_bench.errors import MissingPart, MrlBenchError, UsageError
from mrl_bench.results import REFERENCE_AGENTS, Curve, Evaluation, canonical_json, ratio_from_json
from mrl_bench.types import Ratio

if TYPE_CHECKING:
    from mrl_bench.scenario.scenario import Scenario

Array = NDArray[np.float64]

CONVERGED = (
    0.03  # the share of random to oracle by which doubling the budget may move a converged agent's return
)
_DIGITS = 6  # significant digits of a stored return


@dataclass(frozen=True)
class ReferenceReturns:
    """One reference agent on one split: S training seeds, B tasks."""

    returns: Array  # (S, B) mean undiscounted return of the scored episodes
    metrics: Mapping[str, Array]  # measurement of the family -> (S, B), mean over the scored episodes
    half: Array  # (S',) mean return over tasks of agents trained with half of the env steps; S' = 0 if there are none

    @property
    def best(self) -> int:
        """The seed (its place in the first axis) with the highest mean return over tasks."""
        return int(self.returns.mean(1).argmax())


@dataclass(frozen=True)
class ReferenceAgent:
    """How a reference agent was trained, and what it earned."""

    env_steps: int  # of meta-training, each seed
    seeds: tuple[int, ...]  # (S,) training seeds
    settings: Mapping[str, Any]  # hyperparameters
    splits: Mapping[str, ReferenceReturns]  # "train", "test" and, if there is one, "ood"


@dataclass(frozen=True)
class References:
    """The reference agents of one scenario."""

    scenario: str  # its id
    agents: Mapping[str, ReferenceAgent]  # "random", "blind" and "oracle"
    reported: Mapping[str, Ratio]  # metric that tables show -> its numerator and denominator
    digest: str = ""  # of the scenario, its `tasks_digest`: of what decides which return a policy earns
    provisional: bool = False  # trained by a bench with one seed; not comparable with other benches
    made_with: Mapping[str, str] = field(default_factory=dict)  # versions of packages, and the machine

    def mean_return(self, agent: str, split: str = "test") -> float:
        """The mean return over tasks that counts: over all seeds of random, of the best seed of blind and oracle."""
        by_seed = self.agents[agent].splits[split].returns.mean(1)
        return float(by_seed.mean() if agent == "random" else by_seed.max())

    def moved(self, agent: str, split: str = "test") -> float | None:
        """By how much doubling the budget moved the best seed's mean return, where random to oracle is 1.

        None if that is not known: the agent was not trained with half of the budget, or the oracle is not above random.
        """
        half = self.agents[agent].splits[split].half
        span = self.mean_return("oracle", split) - self.mean_return("random", split)
        if len(half) == 0 or span <= 0:
            return None
        return (self.mean_return(agent, split) - float(half.max())) / span

    @property
    def certified(self) -> bool:
        """Whether doubling the budget moved the returns of blind and oracle on test tasks by less than `CONVERGED`."""
        moved = [self.moved(agent) for agent in ("blind", "oracle")]
        return all(share is not None and abs(share) < CONVERGED for share in moved)

    def doubts(self, env_steps: float) -> list[str]:
        """What is known to be weak about these references for agents that were trained with `env_steps`."""
        found = []
        if self.provisional:
            found.append("provisional references, trained by this bench: its scores hold within it alone")
        elif not self.certified:
            found.append("the references are not certified: a larger budget may move them")
        oracle = self.agents["oracle"].env_steps
        if oracle < 0.99 * env_steps:  # a collection that does not fit the budget is not played
            found.append(
                f"the oracle was trained with {oracle:,} env steps, and an agent with {env_steps:,.0f}"
            )
        return found

    @staticmethod
    def of(
        scenario: str,
        evaluations: Sequence[Evaluation],
        half: Sequence[Evaluation] = (),
        settings: Mapping[str, Mapping[str, Any]] | None = None,
        **more: Any,
    ) -> References:
        """From finished runs of the reference agents.

        Args:
            scenario: its id.
            evaluations: of all three agents on it, with any number of seeds.
            half: of agents that trained with half of the env steps.
            settings: agent -> its hyperparameters.
            more: further fields.

        Raises:
            UsageError: an agent has no finished run.
        """
        agents: dict[str, ReferenceAgent] = {}
        reported: Mapping[str, Ratio] = {}
        for name in REFERENCE_AGENTS:
            runs = sorted((e for e in evaluations if e.agent == name and not e.error), key=lambda e: e.seed)
            if not runs:
                state = "every seed failed" if any(e.agent == name for e in evaluations) else "missing"
                raise UsageError(f"{scenario}: no scores without the reference agent {name!r} ({state})")
            halved = [e for e in half if e.agent == name and not e.error]
            reported = next(iter(runs[0].curves.values())).reported
            agents[name] = ReferenceAgent(
                env_steps=max(run.training.env_steps for run in runs),
                seeds=tuple(run.seed for run in runs),
                settings=dict((settings or {}).get(name, {})),
                splits={
                    split: _returns([e.curves[split] for e in runs], [e.curves[split] for e in halved])
                    for split in runs[0].curves
                },
            )
        return References(scenario=scenario, agents=agents, reported=reported, **more)

    def to_json(self) -> dict[str, Any]:
        return {
            "scenario": self.scenario,
            "digest": self.digest,
            "agents": {name: _agent_to_json(agent) for name, agent in self.agents.items()},
            "reported": [[name, *ratio] for name, ratio in self.reported.items()],  # a list keeps the order
            "provisional": self.provisional,
            "made_with": dict(self.made_with),
        }

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> References:
        """Raises ValueError, KeyError or TypeError if the data are not what `to_json` returned."""
        found = References(
            scenario=str(data["scenario"]),
            digest=str(data["digest"]),
            agents={name: _agent_from_json(data["agents"][name]) for name in REFERENCE_AGENTS},
            reported={str(name): ratio_from_json(*values) for name, *values in data["reported"]},
            provisional=bool(data["provisional"]),
            made_with={str(name): str(value) for name, value in data["made_with"].items()},
        )
        _require_same_tasks(found)
        return found

    def to_bytes(self) -> bytes:
        """The contents of the file."""
        return canonical_json(self.to_json())


def references_path(scenario: Scenario) -> Path:
    """Where the reference returns of a scenario ship."""
    return scenario.path.parent / "references" / f"{scenario.id}.json"


def shipped_references(scenario: Scenario, path: Path | None = None) -> References | None:
    """The references in a file (by default the one that ships); None if there is none, or if it is of other tasks.

    Without the scenario's simulator its digest is unknown, so there are none either.

    Raises:
        MrlBenchError: the file is damaged.
    """
    path = path or references_path(scenario)
    if not path.is_file():
        return None
    try:
        found = References.from_json(json.loads(path.read_bytes()))
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError):
        raise MrlBenchError(
            f"{path} is damaged: it holds no references; `mrl-bench reference` makes them"
        ) from None
    try:
        return found if (found.scenario, found.digest) == (scenario.id, scenario.tasks_digest) else None
    except MissingPart:
        return None


def _returns(curves: Sequence[Curve], halved: Sequence[Curve]) -> ReferenceReturns:
    """Of the seeds' curves, whose points and episodes are all alike to an agent that does not adapt."""
    used = sorted({name for ratio in curves[0].reported.values() for name in ratio.measured})
    failed = np.stack([curve.failed.any(1) for curve in curves])  # (S, B)
    return ReferenceReturns(
        returns=_without(failed, [curve.returns for curve in curves]),
        metrics={name: _without(failed, [curve.metrics[name] for curve in curves]) for name in used},
        half=_rounded(np.array([curve.returns.mean() for curve in halved])),
    )


def _without(failed: NDArray[np.bool_], values: Sequence[Array]) -> Array:
    """The mean of each seed's values (B, K, N) on each task, (S, B).

    Where a seed's simulation failed, it is the mean of the other seeds on that task, unless all of them failed.
    """
    means = np.stack([each.mean((1, 2)) for each in values])
    counts = ~failed | failed.all(0)
    others = (means * counts).sum(0) / counts.sum(0)
    return _rounded(np.where(counts, means, others))


def _rounded(values: Array) -> Array:
    """To `_DIGITS` significant digits, so that what is computed and what is read from a file are equal."""
    return np.array([float(f"{value:.{_DIGITS}g}") for value in values.flat]).reshape(values.shape)


def _agent_to_json(agent: ReferenceAgent) -> dict[str, Any]:
    splits = {
        split: {
            "returns": found.returns.tolist(),
            "metrics": {name: values.tolist() for name, values in found.metrics.items()},
            "half": found.half.tolist(),
        }
        for split, found in agent.splits.items()
    }
    return {
        "env_steps": agent.env_steps,
        "seeds": list(agent.seeds),
        "settings": dict(agent.settings),
        "splits": splits,
    }


def _agent_from_json(data: Mapping[str, Any]) -> ReferenceAgent:
    def array(values: Any) -> Array:
        found = np.asarray(values, dtype=np.float64)
        if not np.isfinite(found).all():
            raise ValueError("a return is not finite")
        return found

    return ReferenceAgent(
        env_steps=int(data["env_steps"]),
        seeds=tuple(map(int, data["seeds"])),
        settings=dict(data["settings"]),
        splits={
            str(split): ReferenceReturns(
                returns=array(found["returns"]),
                metrics={str(name): array(values) for name, values in found["metrics"].items()},
                half=array(found["half"]),
            )
            for split, found in data["splits"].items()
        },
    )


def _require_same_tasks(references: References) -> None:
    """Raises ValueError unless all agents have the same splits, tasks and measurements, with one row a seed."""
    random = references.agents["random"].splits
    measured = {name for ratio in references.reported.values() for name in ratio.measured}
    for agent in references.agents.values():
        if "test" not in agent.splits or agent.splits.keys() != random.keys():
            raise ValueError("the reference agents must have the same splits")
        for split, found in agent.splits.items():
            shape = (len(agent.seeds), random[split].returns.shape[-1])
            arrays = [found.returns, *found.metrics.values()]
            if not agent.seeds or any(array.shape != shape for array in arrays) or found.half.ndim != 1:
                raise ValueError("the arrays of references must have the shape (seeds, tasks)")
            if not measured <= found.metrics.keys():
                raise ValueError("a reported metric was not measured")

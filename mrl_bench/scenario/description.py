"""A scenario as people read it: its parameters, how each split draws them, and the tasks of each split."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from mrl_bench.scenario.schema import Budget, Protocol

if TYPE_CHECKING:
    from mrl_bench.scenario.scenario import Scenario


@dataclass(frozen=True)
class DrawnParam:
    """A parameter that is not fixed at its default in every split."""

    name: str
    unit: str
    doc: str
    draws: dict[str, str]  # split -> distribution in words, as "uniform 5 to 15"


@dataclass(frozen=True)
class Description:
    """What a scenario asks, as plain data. P parameters, B tasks in a split."""

    scenario: str  # id
    doc: str
    family: str
    horizon: int  # control steps of a full episode
    seconds: float  # simulated, of a full episode
    params: tuple[DrawnParam, ...]  # (P,)
    tasks: dict[str, tuple[tuple[float, ...], ...]]  # split -> (B, P) values of the scored tasks

    @staticmethod
    def of(scenario: Scenario) -> Description:
        params = tuple(drawn_params(scenario))
        return Description(
            scenario=scenario.id,
            doc=scenario.doc,
            family=scenario.family_name,
            horizon=scenario.horizon,
            seconds=scenario.horizon * scenario.family.spec.dt,
            params=params,
            tasks={split: _values(scenario, split, params) for split in scenario.splits},
        )


def drawn_params(scenario: Scenario) -> Iterator[DrawnParam]:
    """The parameters that are not fixed at their defaults, in the family's order."""
    for name, param in scenario.family.params.items():
        drawn = {split: scenario.splits[split].draws[name].distribution for split in scenario.splits}
        if any(distribution.values != (param.default,) for distribution in drawn.values()):
            words = {split: in_words(distribution) for split, distribution in drawn.items()}
            yield DrawnParam(name, param.unit, param.doc, words)


def _values(scenario: Scenario, split: str, params: tuple[DrawnParam, ...]) -> tuple[tuple[float, ...], ...]:
    tasks = scenario.tasks(split)
    columns = [tasks.names.index(param.name) for param in params]
    return tuple(map(tuple, tasks.values[:, columns].tolist()))


def protocol_in_words(protocol: Protocol) -> str:
    k = ", ".join(map(str, protocol.k))
    a_round, scored = protocol.episodes_per_round, protocol.scored_episodes
    return f"k = {k} adaptation episodes; {a_round} a round, {scored} scored at each k"


def budget_in_words(budget: Budget) -> str:
    steps = ", ".join(f"{name} {steps:,}" for name, steps in asdict(budget).items())
    return f"{steps} env steps"


def in_words(distribution: Any) -> str:
    """A distribution as "uniform 5 to 15"."""
    ((kind, value),) = asdict(distribution).items()
    if kind == "fixed":
        return f"{value:g}"
    if kind == "normal":
        return "normal " + ", ".join(f"{name} {number:g}" for name, number in value.items())
    if kind == "choice":
        return "choice of " + ", ".join(f"{number:g}" for number in value)
    spans = value if kind == "ranges" else [value]
    return f"{kind} " + " and ".join(f"{low:g} to {high:g}" for low, high in spans)

"""A scenario: a task family, how its parameters are distributed in each split, and the terms of comparison.

    scenario.yaml -> ScenarioSchema -> Scenario -> TaskBatch

This module imports neither torch nor a simulator; a family declares its parameters without them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from mrl_bench import registry
from mrl_bench.errors import MissingPart, UsageError, nearest
from mrl_bench.family import Param, TaskFamily
from mrl_bench.keyed_random import uniforms
from mrl_bench.results import canonical_json
from mrl_bench.scenario.distributions import Distribution, Fixed
from mrl_bench.scenario.schema import Budget, Protocol, ScenarioSchema
from mrl_bench.scenario.validation import fill, fill_dataclass
from mrl_bench.scenario.yaml_reader import Document, Loc, read
from mrl_bench.types import EnvSpec, TaskBatch, Trial

Array = NDArray[np.float64]

# Stream indices from here on are in no stretch that a seed trains on, and those of ood in no task list.
APART = 2**31


@dataclass(frozen=True)
class Draw:
    """How one parameter is drawn. Parameters with the same address share their uniform random numbers."""

    distribution: Distribution
    address: str


@dataclass(frozen=True)
class Split:
    """The tasks of one split: an endless stream of independent draws, or a list of `count` tasks.

    A value depends only on the split's name and seed, the parameter, and the task's index. In a list, the value
    of a discrete parameter also depends on the length of the list.
    """

    name: str  # "train", "test" or "ood"
    seed: int
    count: int | None  # tasks in the list; None for an endless stream
    draws: Mapping[str, Draw]  # one for each parameter of the family, in the family's order

    def stream(self, indices: Array | NDArray[np.int64]) -> TaskBatch:
        """The tasks of the stream with these indices (B,). All draws are independent."""
        return self._batch(indices, stratified=False)

    @cached_property
    def tasks(self) -> TaskBatch:
        """The `count` tasks of the list.

        Discrete parameters are stratified: the counts of their values differ by at most one, so a short list is
        balanced. The rank of a task's uniform number selects its value, so parameters stay independent.
        """
        return self._batch(np.arange(self.count or 0), stratified=True)

    def _batch(self, indices: NDArray[Any], stratified: bool) -> TaskBatch:
        values = np.empty((len(indices), len(self.draws)))
        for column, draw in enumerate(self.draws.values()):
            u = uniforms(("task", self.name, self.seed, draw.address), indices)
            if stratified and draw.distribution.values is not None:
                u = (u.argsort().argsort() + 0.5) / len(u)
            values[:, column] = draw.distribution.from_uniform(u)
        return TaskBatch(tuple(self.draws), values)

    def may_draw(self, tasks: Array) -> NDArray[np.bool_]:
        """Which of the tasks (B, P) are in the list, or can be drawn from the stream: (B,) bool.

        A task that the stream draws with probability zero does not count.
        """
        if self.count is not None:
            listed = {*map(tuple, self.tasks.values.tolist())}
            return np.array([tuple(task) in listed for task in tasks.tolist()], dtype=np.bool_)
        drawn = np.ones(len(tasks), dtype=np.bool_)
        for column, draw in zip(tasks.T, self.draws.values(), strict=True):
            drawn &= np.isin(column, draw.distribution.values or ())
        return drawn


@dataclass(frozen=True)
class Scenario:
    """A task distribution with its splits, training budget and evaluation protocol. Made by `load_scenario`."""

    id: str
    doc: str
    family_name: str  # as in the file: a short name or "module:Class"
    family: TaskFamily
    options: Mapping[str, Any]  # of the family, from the file or from `load_scenario`
    horizon: int  # control steps of a full episode
    splits: Mapping[str, Split]  # "train", "test" and, if there is one, "ood"
    budget: Budget
    protocol: Protocol
    path: Path
    # Used if the simulator's server has died since the run was planned.
    planned_simulator: str | None = field(default=None, compare=False)

    def tasks(self, split: str, count: int | None = None) -> TaskBatch:
        """The task list of a split; for an endless training stream, `count` tasks that no seed trains on.

        Args:
            split: "train", "test" or "ood".
            count: used for an endless training stream only; by default the number of test tasks.

        Raises:
            UsageError: the scenario has no such split.
        """
        if split not in self.splits:
            raise UsageError(f"scenario {self.id} has no split {split!r}: {nearest(split, self.splits)}")
        chosen = self.splits[split]
        if chosen.count is not None:
            return chosen.tasks
        indices = APART + np.arange(len(self.tasks("test")) if count is None else count)
        return chosen.stream(indices)

    def stream(self, start: int, count: int) -> TaskBatch:
        """Training tasks start, ..., start + count - 1 of an endless stream.

        These are new draws, or random picks from the training list if the split has a `count`.
        """
        train, indices = self.splits["train"], start + np.arange(count)
        if train.count is None:
            return train.stream(indices)
        picks = uniforms(("pick", train.name, train.seed), indices) * train.count
        return TaskBatch(train.tasks.names, train.tasks.values[picks.astype(np.int64)])

    @property
    def spec(self) -> EnvSpec:
        """What an agent is told: the family's spec, and the episodes of an evaluation."""
        return replace(self.family.spec, trial=Trial(**asdict(self.protocol)))

    def with_overrides(self, budget: Budget | None = None, protocol: Protocol | None = None) -> Scenario:
        """The scenario with another budget or protocol; its digest changes too."""
        return replace(self, budget=budget or self.budget, protocol=protocol or self.protocol)

    def with_options(self, options: Mapping[str, Any]) -> Scenario:
        """The scenario with options of the family overridden, key by key.

        Raises:
            SourceError: an option is unknown or its value is invalid.
        """
        changed = load_scenario(self.path, {**self.options, **options})
        return changed.with_overrides(self.budget, self.protocol)

    @cached_property
    def simulator(self) -> str:
        """Name and version of the simulator. Raises: MissingPart: it is not installed or does not answer."""
        try:
            return self.family.simulator
        except MissingPart:
            if self.planned_simulator is None:
                raise
            return self.planned_simulator

    @cached_property
    def digest(self) -> str:
        """A hash (16 hex digits) of everything that defines what results of this scenario mean.

        It ignores comments, the order of keys, `doc`, and options of the family whose dataclass field has the
        metadata {"in_digest": False}. It includes defaults that the file leaves out.
        """
        meaning = {
            "id": self.id,
            "family": registry.target("family", self.family_name),
            "options": _options_in_digest(self.family),
            "simulator": self.simulator,
            "splits": {name: _meaning(split) for name, split in self.splits.items()},
            "budget": asdict(self.budget),
            "protocol": asdict(self.protocol),
        }
        return sha256(canonical_json(meaning)).hexdigest()[:16]


def _options_in_digest(family: Any) -> dict[str, Any]:
    counted = [field.name for field in fields(family) if field.metadata.get("in_digest", True)]
    return {name: value for name, value in asdict(family).items() if name in counted}


def _meaning(split: Split) -> dict[str, Any]:
    tasks = None if split.count is None else split.tasks.values.tolist()
    return {**asdict(split), "tasks": tasks}


def scenarios_dir() -> Path:
    """The folder of the scenarios that ship with mrl-bench, in the installed package or in a checkout."""
    packaged = Path(__file__).resolve().parent.parent / "scenarios"
    return packaged if packaged.is_dir() else packaged.parent.parent / "scenarios"


def list_scenarios() -> list[str]:
    """The ids of the scenarios that ship with mrl-bench."""
    return sorted(path.stem for path in scenarios_dir().glob("*.yaml"))


def find_scenario(name: str | Path) -> Scenario:
    """The scenario with this id, or in this file.

    Raises:
        UsageError: the id is unknown, or the file is invalid.
    """
    return load_scenario(find_file("scenario", name, scenarios_dir()))


def find_file(kind: str, name: str | Path, folder: Path) -> Path:
    """`name` itself if it is a path to a YAML file, else the file with that id in `folder`."""
    if Path(name).suffix in (".yaml", ".yml") or len(Path(name).parts) > 1:
        return Path(name)
    known = [path.stem for path in folder.glob("*.yaml")]
    if str(name) not in known:
        file = Path(f"{name}.yaml")
        hint = f"did you mean the file {str(file)!r}?" if file.is_file() else nearest(str(name), known)
        raise UsageError(f"no {kind} {str(name)!r}: {hint}")
    return folder / f"{name}.yaml"


def load_scenario(path: Path | str, options: Mapping[str, Any] | None = None) -> Scenario:
    """Reads a scenario and checks that its parts are consistent.

    Args:
        path: the YAML file.
        options: options of the family; they override those in the file, key by key.

    Raises:
        SourceError: the file is invalid; the message gives the position and the valid choices.
        MissingPart: the family needs a package that is not installed.
    """
    document = read(path)
    schema = fill(ScenarioSchema, document)
    check_file_name(document, schema.id)
    chosen = {**schema.options, **(options or {})}
    family = _family(document, schema, chosen)
    return Scenario(
        id=schema.id,
        doc=schema.doc,
        family_name=schema.family,
        family=family,
        options=chosen,
        horizon=schema.horizon,
        splits=_splits(document, schema, family),
        budget=schema.budget,
        protocol=schema.protocol,
        path=document.path,
    )


def check_file_name(document: Document, id: str) -> None:
    """Refuses a file that is not named after the id in it."""
    if document.path.name != f"{id}.yaml":
        raise document.error(
            ("id",), f"the file is named {document.path.name!r} and must be named '{id}.yaml'"
        )


def _family(document: Document, schema: ScenarioSchema, options: Mapping[str, Any]) -> TaskFamily:
    try:
        cls = registry.find("family", schema.family)
    except MissingPart:
        raise
    except UsageError as error:
        raise document.error(("family",), str(error)) from None
    except Exception as error:  # importing third-party code may raise anything
        reason = f"{type(error).__name__}: {error}".replace("\n", " ")
        raise document.error(("family",), f"family {schema.family!r} cannot be imported: {reason}") from error
    if not (isinstance(cls, type) and is_dataclass(cls)) or not all(
        hasattr(cls, name) for name in ("horizon", "params", "make")
    ):
        raise document.error(("family",), f"{schema.family!r} is not a task family: see mrl_bench/family.py")
    if "horizon" in options:
        raise document.error(
            ("options", "horizon"), "'horizon' is a key of the scenario, not an option", key=True
        )
    data = {**options, "horizon": schema.horizon}
    return cast(TaskFamily, fill_dataclass(cls, document, ("options",), data))


def _splits(document: Document, schema: ScenarioSchema, family: TaskFamily) -> dict[str, Split]:
    known = family.params
    default = {name: Draw(Fixed(param.default), name) for name, param in known.items()}
    base = default | _draws(document, ("params",), schema.params, known)
    train, test, ood = schema.splits.train, schema.splits.test, schema.splits.ood
    splits = {
        "train": Split("train", train.seed, train.count, base),
        "test": Split("test", test.seed, test.count, base),
    }
    if not test.may_repeat_train:
        _check_held_out(document, splits["train"], splits["test"])
    if ood:
        moved = _draws(document, ("splits", "ood", "params"), ood.params, known)
        splits["ood"] = Split("ood", ood.seed, ood.count, base | moved)
        _check_outside(document, base, moved)
    return splits


def _draws(
    document: Document, at: Loc, params: Mapping[str, Distribution], known: Mapping[str, Param]
) -> dict[str, Draw]:
    """Expands `params`, whose keys may be patterns, to one draw per named parameter."""
    draws: dict[str, Draw] = {}
    for key in sorted(
        params, key=lambda key: key in known
    ):  # patterns first: a parameter's exact name overrides them
        distribution, (stem, pattern) = params[key], (key[:-3], key[-3:])
        names = [key] if key in known else []
        if pattern in ("[*]", "[=]"):
            names = [name for name in known if name.startswith(f"{stem}[")]
        if not names:
            raise document.error((*at, key), f"unknown parameter {key!r}: {nearest(key, known)}", key=True)
        if pattern == "[=]" and f"{stem}[*]" in params:
            raise document.error((*at, key), f"{key!r} and '{stem}[*]' cannot be combined", key=True)
        for name in names:
            _check_possible(document, (*at, key), name, known[name], distribution)
            draws[name] = Draw(distribution, key if pattern == "[=]" else name)
    return draws


def _check_possible(document: Document, at: Loc, name: str, param: Param, distribution: Distribution) -> None:
    """Refuses a distribution with values that the family does not accept."""
    for loc, (low, high) in distribution.parts.items():
        if not param.low <= low <= high <= param.high:
            span = f"{param.low:g} to {param.high:g} {param.unit}"
            raise document.error((*at, *loc), f"{name} must be within {span}, not {_span(low, high)}")
        if param.values is not None and (low != high or low not in param.values):
            values = ", ".join(f"{value:g}" for value in param.values)
            raise document.error(
                (*at, *loc),
                f"{name} must be one of {values}, not {_span(low, high)}: give a number or a choice",
            )


def _span(low: float, high: float) -> str:
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"


def _check_outside(document: Document, train: Mapping[str, Draw], moved: Mapping[str, Draw]) -> None:
    """Refuses an ood split in which every parameter overlaps its training distribution."""
    if not moved:
        raise document.error(
            ("splits", "ood"), "ood equals training: give it 'params' outside the training ranges"
        )
    if all(draw.distribution.overlaps(train[name].distribution) for name, draw in moved.items()):
        raise document.error(
            ("splits", "ood", "params"),
            f"ood overlaps training in {', '.join(moved)}: one ood range must leave its training range",
        )


def _check_held_out(document: Document, train: Split, test: Split) -> None:
    """Refuses a list of test tasks that contains training tasks."""
    repeated = np.flatnonzero(train.may_draw(test.tasks.values))
    if len(repeated):
        raise document.error(
            ("splits", "test"),
            f"test task {repeated[0]} is also a training task; "
            "if this is intended, set 'may_repeat_train: true'",
        )

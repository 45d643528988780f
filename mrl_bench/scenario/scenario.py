"""A scenario: a task family, how its parameters are distributed in each split, and the terms of comparison.

    scenario.yaml -> ScenarioSchema -> Scenario -> TaskBatch

Neither torch nor a simulator is imported here: a family declares its parameters without them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, is_dataclass, replace
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
from mrl_bench.types import TaskBatch

Array = NDArray[np.float64]

_BEHIND_LISTS = 2**31  # index of the first draw of a split's stream that no list reaches


@dataclass(frozen=True)
class Draw:
    """How one parameter is drawn. Parameters with the same address share their uniform draws."""

    distribution: Distribution
    address: str


@dataclass(frozen=True)
class Split:
    """The tasks of one split: a stream of independent draws, and with a `count` also a list.

    A value depends on the split's name and seed, the parameter and the task's index alone; in a list, that of
    a discrete parameter depends on the length of the list too.
    """

    name: str  # "train", "test" or "ood"
    seed: int
    count: int | None  # tasks in the list; None for a stream without end
    draws: Mapping[str, Draw]  # for every parameter of the family, in its order

    def stream(self, indices: Array | NDArray[np.int64]) -> TaskBatch:
        """The draws with these indices, each independent of all others."""
        return self._batch(indices, stratified=False)

    @cached_property
    def tasks(self) -> TaskBatch:
        """The `count` tasks of the list.

        Discrete parameters are stratified: each of their values appears equally often, give or take one, so
        that a short list is not 38 to 62 in the one parameter that matters. Which task gets which value is up
        to the parameter's own uniform draws, so two parameters are independent of each other.
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

    def may_draw(self, task: Array) -> bool:
        """Whether a task (P,) is in the list, or comes up in the stream with more than probability zero."""
        if self.count is not None:
            return bool((self.tasks.values == task).all(1).any())
        known = [draw.distribution.values for draw in self.draws.values()]
        return all(values is not None and value in values for values, value in zip(known, task, strict=True))


@dataclass(frozen=True)
class Scenario:
    """What agents are compared on. Made by `load`; all of its parts fit together."""

    id: str
    doc: str
    family_name: str  # as in the file: a short name or "module:Class"
    family: TaskFamily
    options: Mapping[str, Any]  # of the family, as in the file or given to `load`
    horizon: int  # control steps of a full episode
    splits: Mapping[str, Split]  # "train", "test" and, if there is one, "ood"
    budget: Budget
    protocol: Protocol
    path: Path

    def tasks(self, split: str, count: int | None = None) -> TaskBatch:
        """The list of a split.

        Args:
            split: "train", "test" or "ood".
            count: how many draws of an endless training stream; by default as many as there are test tasks.
        """
        if split not in self.splits:
            raise UsageError(f"scenario {self.id} has no split {split!r}: {nearest(split, self.splits)}")
        chosen = self.splits[split]
        if chosen.count is not None:
            return chosen.tasks
        return self.stream(0, len(self.tasks("test")) if count is None else count)

    def stream(self, start: int, count: int) -> TaskBatch:
        """Training tasks start, ..., start + count - 1 of a stream that never ends.

        Fresh draws, or picks from the list of training tasks where that is finite.
        """
        train, indices = self.splits["train"], start + np.arange(count)
        if train.count is None:
            return train.stream(indices)
        picks = uniforms(("pick", train.name, train.seed), indices) * train.count
        return TaskBatch(train.tasks.names, train.tasks.values[picks.astype(np.int64)])

    def oracle_stream(self, start: int, count: int) -> TaskBatch:
        """The training stream, with every other task drawn out of distribution if the scenario has such a split.

        The oracle is the ceiling of both splits, so it must have met both. The listed tasks do not come up.
        """
        tasks = self.stream(start, count)
        if "ood" in self.splits:
            indices = start + np.arange(count)
            odd = indices % 2 == 1
            tasks.values[odd] = self.splits["ood"].stream(_BEHIND_LISTS + indices[odd]).values
        return tasks

    def features(self, tasks: TaskBatch) -> Array:
        """What distinguishes tasks, (B, F): each parameter that varies, scaled by its range.

        Training tasks lie within [-1, 1], others may not.
        """
        columns = []
        for name in self.splits["train"].draws:
            drawn = [split.draws[name].distribution for split in self.splits.values()]
            # By the range of the first split in which it varies: training's, if it can be.
            varying = [d for d in drawn if d.values is None or len(d.values) > 1]
            if varying:
                columns.append(varying[0].to_unit(tasks.column(name)))
        return np.stack(columns, 1) if columns else np.empty((len(tasks), 0))

    def with_overrides(self, budget: Budget | None = None, protocol: Protocol | None = None) -> Scenario:
        """The same scenario on other terms, which give it another digest."""
        return replace(self, budget=budget or self.budget, protocol=protocol or self.protocol)

    @cached_property
    def digest(self) -> str:
        """16 hex digits that stand for everything that gives a result of this scenario its meaning.

        Comments, the order of keys and `doc` are no part of it; defaults that the file does not mention are.
        """
        meaning = {
            "id": self.id,
            "family": registry.names("family").get(self.family_name, self.family_name),
            "options": asdict(self.family),  # type: ignore[call-overload]
            "simulator": self.family.simulator,
            "splits": {name: _meaning(split) for name, split in self.splits.items()},
            "budget": asdict(self.budget),
            "protocol": asdict(self.protocol),
        }
        return sha256(canonical_json(meaning)).hexdigest()[:16]


def _meaning(split: Split) -> dict[str, Any]:
    tasks = None if split.count is None else split.tasks.values.tolist()
    return {**asdict(split), "tasks": tasks}


def scenarios_dir() -> Path:
    """The folder of the scenarios that come with mrl-bench: packaged, or in the checkout."""
    packaged = Path(__file__).resolve().parent.parent / "scenarios"
    return packaged if packaged.is_dir() else packaged.parent.parent / "scenarios"


def list_scenarios() -> list[str]:
    """The ids of the scenarios that come with mrl-bench."""
    return sorted(path.stem for path in scenarios_dir().glob("*.yaml"))


def find_scenario(name: str | Path) -> Scenario:
    """The scenario with an id, or in a file.

    Raises:
        UsageError: there is no such id, or something is wrong with the file.
    """
    return load(find_file("scenario", name, scenarios_dir()))


def find_file(kind: str, name: str | Path, folder: Path) -> Path:
    """`name` itself if it is a path to a YAML file, else the file of that id in a folder."""
    if Path(name).suffix in (".yaml", ".yml") or len(Path(name).parts) > 1:
        return Path(name)
    known = [path.stem for path in folder.glob("*.yaml")]
    if str(name) not in known:
        raise UsageError(f"no {kind} {str(name)!r}: {nearest(str(name), known)}")
    return folder / f"{name}.yaml"


def load(path: Path | str, options: Mapping[str, Any] | None = None) -> Scenario:
    """Reads a scenario and checks that its parts fit together.

    Args:
        options: of the family, in place of those in the file.

    Raises:
        SourceError: something in the file is wrong; says where, and what is possible there.
        MissingPart: the family needs a part that is not installed.
    """
    document = read(path)
    form = fill(ScenarioSchema, document)
    check_file_name(document, form.id)
    chosen = {**form.options, **(options or {})}
    family = _family(document, form, chosen)
    return Scenario(
        id=form.id,
        doc=form.doc,
        family_name=form.family,
        family=family,
        options=chosen,
        horizon=form.horizon,
        splits=_splits(document, form, family),
        budget=form.budget,
        protocol=form.protocol,
        path=document.path,
    )


def check_file_name(document: Document, id: str) -> None:
    """A file bears the id of what it holds."""
    if document.path.name != f"{id}.yaml":
        raise document.error(
            ("id",), f"the file is named {document.path.name!r} and must be named '{id}.yaml'"
        )


def _family(document: Document, form: ScenarioSchema, options: Mapping[str, Any]) -> TaskFamily:
    try:
        cls = registry.find("family", form.family)
    except MissingPart:
        raise
    except UsageError as error:
        raise document.error(("family",), str(error)) from None
    except Exception as error:  # the module is anyone's code, and may fail in any way
        reason = f"{type(error).__name__}: {error}".replace("\n", " ")
        raise document.error(("family",), f"family {form.family!r} cannot be imported: {reason}") from error
    if not (isinstance(cls, type) and is_dataclass(cls)) or not all(
        hasattr(cls, name) for name in ("horizon", "params", "make")
    ):
        raise document.error(("family",), f"{form.family!r} is no task family: see mrl_bench/family.py")
    if "horizon" in options:
        raise document.error(("options", "horizon"), "'horizon' stands beside 'options', not in it", key=True)
    data = {**options, "horizon": form.horizon}
    return cast(TaskFamily, fill_dataclass(cls, document, ("options",), data))


def _splits(document: Document, form: ScenarioSchema, family: TaskFamily) -> dict[str, Split]:
    known = family.params
    default = {name: Draw(Fixed(param.default), name) for name, param in known.items()}
    base = default | _draws(document, ("params",), form.params, known)
    train, test, ood = form.splits.train, form.splits.test, form.splits.ood
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
    """The draws that `params` asks for, by the names of single parameters."""
    draws: dict[str, Draw] = {}
    for key in sorted(params, key=lambda key: key in known):  # a parameter's own entry replaces a pattern's
        distribution, (stem, pattern) = params[key], (key[:-3], key[-3:])
        names = [key] if key in known else []
        if pattern in ("[*]", "[=]"):
            names = [name for name in known if name.startswith(f"{stem}[")]
        if not names:
            raise document.error((*at, key), f"unknown parameter {key!r}: {nearest(key, known)}", key=True)
        if pattern == "[=]" and f"{stem}[*]" in params:
            raise document.error((*at, key), f"{key!r} and '{stem}[*]' exclude each other", key=True)
        for name in names:
            _check_possible(document, (*at, key), name, known[name], distribution)
            draws[name] = Draw(distribution, key if pattern == "[=]" else name)
    return draws


def _check_possible(document: Document, at: Loc, name: str, param: Param, distribution: Distribution) -> None:
    """Refuses values that the family cannot simulate."""
    for loc, (low, high) in distribution.parts.items():
        if not param.low <= low <= high <= param.high:
            span = f"{param.low:g} to {param.high:g} {param.unit}"
            raise document.error((*at, *loc), f"{name} lies within {span}, not at {_span(low, high)}")
        if param.values is not None and (low != high or low not in param.values):
            values = ", ".join(f"{value:g}" for value in param.values)
            raise document.error(
                (*at, *loc), f"{name} is one of {values}, not {_span(low, high)}: give a number or a choice"
            )


def _span(low: float, high: float) -> str:
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"


def _check_outside(document: Document, train: Mapping[str, Draw], moved: Mapping[str, Draw]) -> None:
    """Refuses an out-of-distribution split unless some parameter's values never come up in training."""
    if not moved:
        raise document.error(("splits", "ood"), "ood is training again: it needs 'params' outside of it")
    if all(draw.distribution.overlaps(train[name].distribution) for name, draw in moved.items()):
        raise document.error(
            ("splits", "ood", "params"),
            f"ood overlaps training in {', '.join(moved)}: move one of them out of its training range",
        )


def _check_held_out(document: Document, train: Split, test: Split) -> None:
    """Refuses a list of test tasks some of which are training tasks."""
    for i, task in enumerate(test.tasks.values):
        if train.may_draw(task):
            raise document.error(
                ("splits", "test"),
                f"test task {i} is a training task too; if that is meant, say 'may_repeat_train: true'",
            )

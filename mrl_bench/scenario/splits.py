"""The splits of a scenario: how each parameter is drawn in training, test and ood tasks, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import MISSING, dataclass, fields
from functools import cached_property
from itertools import islice, product
from typing import Any, Literal, get_args, get_origin, get_type_hints

import numpy as np
from numpy.typing import NDArray

from mrl_bench.errors import nearest
from mrl_bench.family import Param
from mrl_bench.keyed_random import uniforms
from mrl_bench.scenario.distributions import Distribution, Fixed
from mrl_bench.scenario.schema import ScenarioSchema
from mrl_bench.scenario.validation import Fault
from mrl_bench.scenario.yaml_reader import Loc
from mrl_bench.types import TaskBatch

Array = NDArray[np.float64]

_MOST_OPTIONS = 1000  # combinations of a family's options that are tried for the parameters they bring in


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


def make_splits(
    schema: ScenarioSchema, known: Mapping[str, Param | None], faults: list[Fault]
) -> dict[str, Split]:
    """The splits of a scenario; adds to `faults` what is wrong with them.

    Args:
        schema: may be incomplete where it has faults.
        known: the family's parameters, or only their names if its options have faults.
        faults: found so far. The splits are compared with each other only if each is without faults.
    """
    splits, params = schema.splits, schema.params
    ood = splits and splits.ood
    base = _draws(("params",), params or {}, known, faults)
    moved = _draws(("splits", "ood", "params"), (ood and ood.params) or {}, known, faults)
    incomplete = None in (splits, params, *known.values())
    if incomplete or any(fault.at[:1] in (("params",), ("splits",)) for fault in faults):
        return {}
    default = {name: Draw(Fixed(param.default), name) for name, param in known.items() if param}
    train, test, base = splits.train, splits.test, default | base
    found = {
        "train": Split("train", train.seed, train.count, base),
        "test": Split("test", test.seed, test.count, base),
    }
    if ood:
        found["ood"] = Split("ood", ood.seed, ood.count, base | moved)
        faults += _not_outside(base, moved)
    elif all(isinstance(draw.distribution, Fixed) for draw in base.values()):
        example = "give one a distribution, as {uniform: [1, 2]}"
        faults.append(Fault(("params",), f"no parameter varies, so all tasks are the same: {example}"))
        return found
    if not test.may_repeat_train:
        faults += _not_held_out(found["train"], found["test"])
    return found


def possible_parameters(cls: Any) -> set[str]:
    """The parameters that a family has under any of its options: every literal, both flags, 1 in place of 0."""
    names: set[str] = set()
    try:
        hints = get_type_hints(cls)
    except NameError:  # a type that is imported for type checkers alone
        return names
    options = {field.name: _choices(hints[field.name], field.default) for field in fields(cls)}
    options = {name: choices for name, choices in options.items() if choices}
    for values in islice(product(*options.values()), _MOST_OPTIONS):
        with suppress(Exception):  # some options cannot be combined, and the class is the user's code
            names |= cls(**dict(zip(options, values, strict=True))).params.keys()
    return names


def _choices(hint: Any, default: Any) -> tuple[Any, ...]:
    if default is MISSING:
        return ()
    if get_origin(hint) is Literal:
        return get_args(hint)
    return (False, True) if hint is bool else (0, 1) if hint is int and default == 0 else ()


def _draws(
    at: Loc, params: Mapping[str, Distribution], known: Mapping[str, Param | None], faults: list[Fault]
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
            faults.append(Fault((*at, key), f"unknown parameter {key!r}: {nearest(key, known)}", key=True))
        if names and pattern == "[=]" and f"{stem}[*]" in params:
            faults.append(Fault((*at, key), f"{key!r} and '{stem}[*]' cannot be combined", key=True))
        if distribution is not None:
            draws |= {name: Draw(distribution, key if pattern == "[=]" else name) for name in names}
            bounds = [(name, param) for name in names if (param := known[name])]
            wrong = (list(_impossible((*at, key), *bound, distribution)) for bound in bounds)
            faults += next(filter(None, wrong), [])  # of one parameter that a pattern stands for
    return draws


def _impossible(at: Loc, name: str, param: Param, distribution: Distribution) -> Iterator[Fault]:
    """Values of a distribution that the family does not accept."""
    for loc, (low, high) in distribution.parts.items():
        if not param.low <= low <= high <= param.high:
            span = f"{param.low:g} to {param.high:g} {param.unit}"
            why = f": {param.because}" if param.because else ""
            yield Fault((*at, *loc), f"{name} must be within {span}, not {_span(low, high)}{why}")
        elif param.values is not None and (low != high or low not in param.values):
            values = ", ".join(f"{value:g}" for value in param.values)
            yield Fault(
                (*at, *loc),
                f"{name} must be one of {values}, not {_span(low, high)}: give a number or a choice",
            )


def _span(low: float, high: float) -> str:
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"


def _not_outside(train: Mapping[str, Draw], moved: Mapping[str, Draw]) -> list[Fault]:
    """The fault of an ood split in which every parameter overlaps its training distribution."""
    if not moved:
        message = "ood equals training: give it 'params' outside the training ranges"
        return [Fault(("splits", "ood"), message)]
    if not all(draw.distribution.overlaps(train[name].distribution) for name, draw in moved.items()):
        return []
    message = f"ood overlaps training in {', '.join(moved)}: one ood range must leave its training range"
    return [Fault(("splits", "ood", "params"), message)]


def _not_held_out(train: Split, test: Split) -> list[Fault]:
    """The fault of a list of test tasks that contains training tasks."""
    repeated = np.flatnonzero(train.may_draw(test.tasks.values))
    if not len(repeated):
        return []
    message = (
        f"test task {repeated[0]} is also a training task; if this is intended, set 'may_repeat_train: true'"
    )
    return [Fault(("splits", "test"), message)]

"""What a task family declares, as checks: options, sizes and parameters, without a simulation."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator
from dataclasses import is_dataclass, replace
from pathlib import Path
from typing import Any, cast

from mrl_bench.checks import new_process
from mrl_bench.errors import kind_of
from mrl_bench.family import Param, TaskFamily
from mrl_bench.types import EnvSpec

PARTS = ("params", "spec", "simulator", "make")


def options_have_defaults(cls: type) -> Iterator[str]:
    """A family can be made without arguments: every option has a default."""
    cls()
    yield from ()


def has_every_part(family: TaskFamily) -> Iterator[str]:
    """A family has `params`, `spec`, `simulator` and `make`."""
    for part in PARTS:
        if inspect.getattr_static(family, part, None) is None:
            yield f"there is no {part!r}"


def declares_its_options(family: TaskFamily) -> Iterator[str]:
    """A family is a frozen dataclass; its option `horizon` sets `spec.horizon`."""
    if not is_dataclass(family):
        yield "not a dataclass"
    elif not cast(Any, family).__dataclass_params__.frozen:
        yield "a dataclass that is not frozen"
    options = new_process.options(family)
    if "horizon" not in options:
        yield f"no option 'horizon' among {list(options)}"
    elif (found := cast(Any, replace(cast(Any, family), horizon=3)).spec.horizon) != 3:
        yield f"spec.horizon = {found} with horizon=3"


def declares_its_sizes(family: TaskFamily) -> Iterator[str]:
    """`spec` is an EnvSpec of positive sizes, with a scale for each entry of an observation; `simulator` is a text."""
    spec = family.spec
    if not isinstance(spec, EnvSpec):
        yield f"spec is {kind_of(spec)}"
        return
    for name in ("obs_dim", "act_dim", "horizon"):
        size = getattr(spec, name)
        if not (isinstance(size, int) and size >= 1):
            yield f"spec.{name} = {size!r} is not a whole number from 1"
    if not 0 < spec.dt < math.inf:
        yield f"spec.dt = {spec.dt} is not positive and finite"
    if len(spec.obs_scale) != spec.obs_dim or not all(0 < scale < math.inf for scale in spec.obs_scale):
        yield f"spec.obs_scale = {spec.obs_scale} is not {spec.obs_dim} positive numbers"
    if not (isinstance(family.simulator, str) and family.simulator):
        yield f"simulator = {family.simulator!r}"


def names_its_files(family: TaskFamily) -> Iterator[str]:
    """`data_files`, if a family has it, are files that exist."""
    for path in getattr(family, "data_files", ()):
        if not Path(path).is_file():
            yield f"there is no file {str(path)!r}"


def documents_its_parameters(family: TaskFamily) -> Iterator[str]:
    """Every parameter has a unit and a doc."""
    for name, param in family.params.items():
        for part in ("unit", "doc"):
            if not getattr(param, part, None):
                yield f"parameter {name!r} has no {part}"


def declares_its_parameters(family: TaskFamily) -> Iterator[str]:
    """Every parameter has finite bounds, low below high, and its default and `values` lie within them."""
    if not family.params:
        yield "there are no parameters"
    for name, param in family.params.items():
        if isinstance(param, Param):
            yield from (f"parameter {name!r}: {found}" for found in _wrong_numbers(param))
        else:
            yield f"parameter {name!r} is {kind_of(param)}, not a Param"


def _wrong_numbers(param: Param) -> Iterator[str]:
    if not -math.inf < param.low < param.high < math.inf:
        yield f"low must be below high, and both finite, not [{param.low}, {param.high}]"
        return
    for value in (param.default, *(param.values or ())):
        if not param.low <= value <= param.high:
            yield f"{value} is outside [{param.low}, {param.high}]"
    if param.values is not None and param.default not in param.values:
        yield f"the default {param.default} is not one of values, {param.values}"


def imports_no_simulator(family: TaskFamily) -> Iterator[str]:
    """A new process can import the family as "module:Class"; reading params, spec and simulator then imports neither
    torch nor a simulator."""
    kind = type(family)
    if not new_process.can_import(kind):
        yield f"{kind.__module__}:{kind.__qualname__} is not at the top level of a module that can be imported"
        return
    loaded = new_process.run(
        family,
        "family.params, family.spec, family.simulator",
        "import sys",
        "print(*{'torch', 'mujoco', 'carla', 'gymnasium'}.intersection(sys.modules))",
    )
    if loaded:
        yield f"reading the declaration imports {', '.join(sorted(loaded))}"

"""The distributions of a task parameter.

Each class is the schema of one YAML form: `uniform: [7, 12]` is `Uniform((7, 12))`. Values are drawn by inverse
transform sampling: one uniform random number of `mrl_bench.keyed_random` gives one value.
"""

from __future__ import annotations

from statistics import NormalDist
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator, Discriminator, Field, Tag
from pydantic.dataclasses import dataclass

from mrl_bench.errors import nearest
from mrl_bench.scenario.validation import Number, Schema, describe, invalid, slip
from mrl_bench.scenario.yaml_reader import Loc

Array = NDArray[np.float64]
Range = tuple[Number, Number]

MIN_MASS = 0.01  # of a normal distribution that must lie between `low` and `high`


@dataclass(frozen=True)
class _Distribution(Schema):
    """Base class of all distributions."""

    @property
    def parts(self) -> dict[Loc, Range]:
        """The support as intervals (low, high), or points (low == high), by their location in the YAML."""
        raise NotImplementedError

    @property
    def values(self) -> tuple[float, ...] | None:
        """All values of a discrete distribution; None for a continuous one."""
        return None

    def from_uniform(self, u: Array) -> Array:
        """The inverse of the cumulative distribution function at u in (0, 1), of any shape."""
        raise NotImplementedError

    def to_unit(self, values: Array) -> Array:
        """Values scaled so that the support becomes [-1, 1]. Values outside the support are not clipped."""
        low, high = self.support
        return 2.0 * (values - low) / (high - low) - 1.0

    @property
    def support(self) -> Range:
        """The smallest and the largest possible value."""
        parts = self.parts.values()
        return min(low for low, _ in parts), max(high for _, high in parts)

    def overlaps(self, other: _Distribution) -> bool:
        """Whether the supports share an interval or a discrete value, or one has a value inside the other's interval.

        Supports that only touch, at the end of an interval, do not overlap.
        """
        mine, its = np.array([*self.parts.values()]), np.array([*other.parts.values()])  # (P, 2) each
        common = {*(self.values or ())} & {*(other.values or ())}
        return bool(common) or _reach_into(mine, its) or _reach_into(its, mine)


@dataclass(frozen=True)
class Fixed(_Distribution):
    """A constant. A bare number in the YAML means this."""

    fixed: Number

    @property
    def parts(self) -> dict[Loc, Range]:
        return {("fixed",): (self.fixed, self.fixed)}

    @property
    def values(self) -> tuple[float, ...]:
        return (self.fixed,)

    def from_uniform(self, u: Array) -> Array:
        return np.full_like(u, self.fixed)

    def to_unit(self, values: Array) -> Array:
        return np.zeros_like(values)


@dataclass(frozen=True)
class Uniform(_Distribution):
    """Uniform over [low, high]."""

    uniform: Range

    def __post_init__(self) -> None:
        _check_ascending(self.uniform, ("uniform",))

    @property
    def parts(self) -> dict[Loc, Range]:
        return {("uniform",): self.uniform}

    def from_uniform(self, u: Array) -> Array:
        low, high = self.uniform
        return np.clip(low + (high - low) * u, low, high)


@dataclass(frozen=True)
class Ranges(_Distribution):
    """Uniform over the union of several ranges: [[low, high], [low, high]], ascending."""

    ranges: tuple[Range, ...]

    def __post_init__(self) -> None:
        _check_several(self.ranges, "ranges")
        for i, part in enumerate(self.ranges):
            _check_ascending(part, ("ranges", i))
            if i and self.ranges[i - 1][1] > part[0]:
                raise invalid("ranges must ascend and not overlap", ("ranges", i))

    @property
    def parts(self) -> dict[Loc, Range]:
        return {("ranges", i): part for i, part in enumerate(self.ranges)}

    def from_uniform(self, u: Array) -> Array:
        low, high = np.array(self.ranges).T  # (R,) each
        begin = np.concatenate(
            [[0.0], np.cumsum(high - low)]
        )  # (R + 1,) total length of the ranges before each one
        at = u * begin[-1]
        i = np.clip(np.searchsorted(begin, at, side="right") - 1, 0, len(low) - 1)
        values: Array = np.clip(low[i] + (at - begin[i]), low[i], high[i])
        return values


@dataclass(frozen=True)
class LogUniform(_Distribution):
    """Uniform on a logarithmic scale over [low, high], both above 0."""

    log_uniform: Range

    def __post_init__(self) -> None:
        _check_ascending(self.log_uniform, ("log_uniform",))
        if self.log_uniform[0] <= 0:
            raise invalid("the low end of 'log_uniform' must be above 0", ("log_uniform", 0))

    @property
    def parts(self) -> dict[Loc, Range]:
        return {("log_uniform",): self.log_uniform}

    def from_uniform(self, u: Array) -> Array:
        low, high = self.log_uniform
        return np.clip(_portable(low * np.exp(u * np.log(high / low))), low, high)

    def to_unit(self, values: Array) -> Array:
        low, high = self.log_uniform
        floor = low * (low / high)  # for values that have no logarithm: maps them to -3
        part: Array = np.log(np.maximum(values, floor) / low) / np.log(high / low)
        return 2.0 * part - 1.0


@dataclass(frozen=True)
class Bell(Schema):
    """The parameters of a truncated normal distribution."""

    mean: Number
    std: Annotated[Number, Field(gt=0)]
    low: Number
    high: Number


@dataclass(frozen=True)
class Normal(_Distribution):
    """A normal distribution truncated to [low, high]."""

    normal: Bell

    def __post_init__(self) -> None:
        _check_ascending((self.normal.low, self.normal.high), ("normal",))
        if self._below(self.normal.high) - self._below(self.normal.low) < MIN_MASS:
            raise invalid(f"less than {MIN_MASS:.0%} of this normal lies between low and high", ("normal",))

    def _below(self, value: float) -> float:
        return NormalDist(self.normal.mean, self.normal.std).cdf(value)

    @property
    def parts(self) -> dict[Loc, Range]:
        return {("normal",): (self.normal.low, self.normal.high)}

    def from_uniform(self, u: Array) -> Array:
        bell = self.normal
        below, above = self._below(bell.low), self._below(bell.high)
        inside = np.clip(below + (above - below) * u, 2.0**-53, 1.0 - 2.0**-53)
        values = np.vectorize(NormalDist(bell.mean, bell.std).inv_cdf, otypes=[np.float64])(inside)
        return np.clip(_portable(values), bell.low, bell.high)


@dataclass(frozen=True)
class Choice(_Distribution):
    """Uniform over a finite set of values, as [-1, 1]."""

    choice: tuple[Number, ...]

    def __post_init__(self) -> None:
        _check_several(self.choice, "choice")
        seen: set[float] = set()
        for i, value in enumerate(self.choice):
            if value in seen:
                raise invalid(f"duplicate value {value:g}: the values of a choice must differ", ("choice", i))
            seen.add(value)

    @property
    def parts(self) -> dict[Loc, Range]:
        return {("choice", i): (value, value) for i, value in enumerate(self.choice)}

    @property
    def values(self) -> tuple[float, ...]:
        return self.choice

    def from_uniform(self, u: Array) -> Array:
        options = np.array(self.choice)
        return options[np.minimum(u * len(options), len(options) - 1).astype(np.int64)]


KINDS: dict[str, type[_Distribution]] = {
    "fixed": Fixed,
    "uniform": Uniform,
    "ranges": Ranges,
    "log_uniform": LogUniform,
    "normal": Normal,
    "choice": Choice,
}


def _one_kind(raw: Any) -> Any:
    """Turns a bare number into `fixed`, and refuses anything but exactly one known kind."""
    if isinstance(raw, int | float) and not isinstance(raw, bool):
        return {"fixed": raw}
    if not isinstance(raw, dict) or not raw:
        expected = "a number or a distribution, as {uniform: [1, 2]}, is expected"
        raise invalid(f"{expected}, not {describe(raw)}{slip(raw, 'float_type')}")
    for key in raw:
        if key not in KINDS:
            raise invalid(f"unknown distribution {key!r}: {nearest(key, KINDS)}", key=key)
    if len(raw) > 1:
        raise invalid(f"one distribution is expected, not {' and '.join(raw)}", key=list(raw)[1])
    return raw


Distribution = Annotated[
    Annotated[Fixed, Tag("fixed")]
    | Annotated[Uniform, Tag("uniform")]
    | Annotated[Ranges, Tag("ranges")]
    | Annotated[LogUniform, Tag("log_uniform")]
    | Annotated[Normal, Tag("normal")]
    | Annotated[Choice, Tag("choice")],
    Discriminator(lambda raw: next(iter(raw))),
    BeforeValidator(_one_kind),
]


def _reach_into(parts: Array, spans: Array) -> bool:
    """Whether an interval or a point of some (P, 2) has a value inside an interval of others, which ascend."""
    spans = np.concatenate([spans[spans[:, 0] < spans[:, 1]], [[np.inf, np.inf]]])
    first = np.searchsorted(spans[:, 1], parts[:, 0], side="right")  # that ends above the part's low end
    return bool((spans[first, 0] < parts[:, 1]).any())


def _check_several(entries: tuple[Any, ...], key: str) -> None:
    if len(entries) < 2:
        raise invalid(f"{key!r} needs two or more entries", (key,))


def _check_ascending(ends: Range, at: Loc) -> None:
    if not ends[0] < ends[1]:
        raise invalid(f"low must be less than high, and {ends[0]:g} is not less than {ends[1]:g}", at)


def _portable(values: Array) -> Array:
    """Rounded to float32: the last bits of `exp` differ between machines, and tasks must not."""
    return values.astype(np.float32).astype(np.float64)

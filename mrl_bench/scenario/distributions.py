"""How a scenario distributes a parameter.

Each class is a form of the YAML: `uniform: [7, 12]` is `Uniform((7, 12))`. A draw is the inverse of the
distribution function at a uniform draw of `mrl_bench.keyed_random`, so every value costs one uniform number.
"""

from __future__ import annotations

from statistics import NormalDist
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator, Discriminator, Field, Tag
from pydantic.dataclasses import dataclass

from mrl_bench.errors import nearest
from mrl_bench.scenario.validation import Form, Number, describe, wrong
from mrl_bench.scenario.yaml_reader import Loc

Array = NDArray[np.float64]
Range = tuple[Number, Number]

MIN_MASS = 0.01  # of a normal distribution, that must lie between `low` and `high`


@dataclass(frozen=True)
class _Distribution(Form):
    """What all distributions can do."""

    @property
    def parts(self) -> dict[Loc, Range]:
        """The intervals, or single points, in which values lie, by their place in the form; ascending."""
        raise NotImplementedError

    @property
    def values(self) -> tuple[float, ...] | None:
        """The values that there are, if they can be counted."""
        return None

    def from_uniform(self, u: Array) -> Array:
        """The values at these points of the distribution function, of any shape. Args: u, in (0, 1)."""
        raise NotImplementedError

    def to_unit(self, values: Array) -> Array:
        """Values scaled so that the support becomes [-1, 1]; those outside of it leave [-1, 1]."""
        low, high = self.support
        return 2.0 * (values - low) / (high - low) - 1.0

    @property
    def support(self) -> Range:
        """The smallest and the largest value."""
        parts = self.parts.values()
        return min(low for low, _ in parts), max(high for _, high in parts)

    def overlaps(self, other: _Distribution) -> bool:
        """Whether a draw of one can be a draw of the other, with more than probability zero."""
        pairs = ((mine, its) for mine in self.parts.values() for its in other.parts.values())
        return any(mine == its or max(mine[0], its[0]) < min(mine[1], its[1]) for mine, its in pairs)


@dataclass(frozen=True)
class Fixed(_Distribution):
    """Always the same value. A bare number means this."""

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
    """Every value between two ends is as likely: [low, high]."""

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
    """Uniform over several ranges with gaps between them: [[low, high], [low, high]], ascending."""

    ranges: tuple[Range, ...]

    def __post_init__(self) -> None:
        _check_several(self.ranges, "ranges")
        for i, part in enumerate(self.ranges):
            _check_ascending(part, ("ranges", i))
            if i and self.ranges[i - 1][1] > part[0]:
                raise wrong("ranges must ascend and not overlap", ("ranges", i))

    @property
    def parts(self) -> dict[Loc, Range]:
        return {("ranges", i): part for i, part in enumerate(self.ranges)}

    def from_uniform(self, u: Array) -> Array:
        low, high = np.array(self.ranges).T  # (R,) each
        begin = np.concatenate([[0.0], np.cumsum(high - low)])  # (R + 1,) length of all ranges before each
        at = u * begin[-1]
        i = np.clip(np.searchsorted(begin, at, side="right") - 1, 0, len(low) - 1)
        values: Array = np.clip(low[i] + (at - begin[i]), low[i], high[i])
        return values


@dataclass(frozen=True)
class LogUniform(_Distribution):
    """Uniform on a logarithmic scale: every factor is as likely. [low, high], both above 0."""

    log_uniform: Range

    def __post_init__(self) -> None:
        _check_ascending(self.log_uniform, ("log_uniform",))
        if self.log_uniform[0] <= 0:
            raise wrong("the low end of 'log_uniform' must be above 0", ("log_uniform", 0))

    @property
    def parts(self) -> dict[Loc, Range]:
        return {("log_uniform",): self.log_uniform}

    def from_uniform(self, u: Array) -> Array:
        low, high = self.log_uniform
        return np.clip(_portable(low * np.exp(u * np.log(high / low))), low, high)

    def to_unit(self, values: Array) -> Array:
        low, high = self.log_uniform
        floor = low * (low / high)  # what is no positive number counts as one whole range below the low end
        part: Array = np.log(np.maximum(values, floor) / low) / np.log(high / low)
        return 2.0 * part - 1.0


@dataclass(frozen=True)
class Bell(Form):
    """A normal distribution, cut off at both ends."""

    mean: Number
    std: Annotated[Number, Field(gt=0)]
    low: Number
    high: Number


@dataclass(frozen=True)
class Normal(_Distribution):
    """Normal with a mean and a standard deviation, given that the value lies between `low` and `high`."""

    normal: Bell

    def __post_init__(self) -> None:
        _check_ascending((self.normal.low, self.normal.high), ("normal",))
        if self._below(self.normal.high) - self._below(self.normal.low) < MIN_MASS:
            raise wrong(f"less than {MIN_MASS:.0%} of this normal lies between low and high", ("normal",))

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
    """One of several values, each as likely: [-1, 1]."""

    choice: tuple[Number, ...]

    def __post_init__(self) -> None:
        _check_several(self.choice, "choice")
        for i, value in enumerate(self.choice):
            if value in self.choice[:i]:
                raise wrong(
                    f"{value:g} stands here twice: a choice is between different values", ("choice", i)
                )

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
    """Turns a bare number into `fixed`, and refuses what does not name exactly one kind."""
    if isinstance(raw, int | float) and not isinstance(raw, bool):
        return {"fixed": raw}
    if not isinstance(raw, dict) or not raw:
        raise wrong(f"a number or a distribution, as {{uniform: [1, 2]}}, is expected, not {describe(raw)}")
    for key in raw:
        if key not in KINDS:
            raise wrong(f"unknown distribution {key!r}: {nearest(key, KINDS)}", key=key)
    if len(raw) > 1:
        raise wrong(f"one distribution is expected, not {' and '.join(raw)}", key=list(raw)[1])
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


def _check_several(entries: tuple[Any, ...], key: str) -> None:
    if len(entries) < 2:
        raise wrong(f"{key!r} needs two or more entries", (key,))


def _check_ascending(ends: Range, at: Loc) -> None:
    if not ends[0] < ends[1]:
        raise wrong(f"low must be less than high, and {ends[0]:g} is not less than {ends[1]:g}", at)


def _portable(values: Array) -> Array:
    """Rounded to float32, so that the last bit of one machine's `exp` cannot make a different task of it."""
    return values.astype(np.float32).astype(np.float64)

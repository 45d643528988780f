"""Families with a mistake in their own code, or that refuse some options, for tests of what a scenario may name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from annotated_types import Interval
from toy_family import Toy

from mrl_bench.errors import UsageError
from mrl_bench.family import Param

if TYPE_CHECKING:
    from fractions import Fraction


@dataclass(frozen=True)
class Picky(Toy):
    """Its options have bounds, and two of them depend on each other."""

    wheels: Annotated[int, Interval(ge=2, le=4)] = 4
    trailer: bool = False

    def __post_init__(self) -> None:
        if self.trailer and self.wheels < 4:
            raise UsageError("trailer needs\nfour wheels")
        if self.horizon > 60:
            raise UsageError("horizon must be 60 or less")


@dataclass(frozen=True)
class Stumbles(Toy):
    def __post_init__(self) -> None:
        raise KeyError(self.mode)


@dataclass(frozen=True)
class UnknownType(Toy):
    share: Fraction = 0  # type: ignore[assignment]  # a type that does not exist when the scenario is read


@dataclass(frozen=True)
class Unready(Toy):
    @property
    def params(self) -> Mapping[str, Param]:
        raise ZeroDivisionError("no parameters yet")


@dataclass(frozen=True)
class NoMapping(Toy):
    @property
    def params(self) -> Mapping[str, Param]:
        return ["gain"]  # type: ignore[return-value]

"""Agents and families that cannot be used, for tests of what a suite may name."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any

from annotated_types import Ge, Interval, MinLen


@dataclass(frozen=True)
class PartConfig:
    rate: Annotated[float, Interval(gt=0, lt=1)] = 0.5


@dataclass(frozen=True)
class BoundedConfig:
    part: PartConfig = field(default_factory=PartConfig)
    low: Annotated[int, Ge(0)] = 0
    high: int = 9
    sizes: Annotated[tuple[Annotated[int, Ge(1)], ...], MinLen(1)] = (8,)

    def __post_init__(self) -> None:
        if self.low > self.high:
            raise ValueError("high must not be less than low")


class Bounded:
    """An agent outside of mrl-bench whose settings have bounds."""

    Config = BoundedConfig


class NoConfig:
    """An agent without settings is no agent."""


class NoDefault:
    @dataclass(frozen=True)
    class Config:
        rate: float


class StrangeField:
    @dataclass(frozen=True)
    class Config:
        rate: Any = field(default_factory=object)


NOT_A_CLASS = 3

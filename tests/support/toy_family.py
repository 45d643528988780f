"""A task family without a simulator: parameters of every kind, for tests of what a scenario may say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from mrl_bench.family import Param
from mrl_bench.types import EnvSpec


@dataclass(frozen=True)
class Toy:
    horizon: int = 10
    mode: Literal["slow", "fast"] = "slow"
    friction: float = 0.5
    legs: int = 4
    grid: tuple[int, ...] = ()
    loud: bool = False

    def __post_init__(self) -> None:
        if self.mode == "fast" and self.horizon > 100:
            raise ValueError("a fast run has 100 control steps at most")

    @property
    def params(self) -> Mapping[str, Param]:
        return {
            "gain": Param(1.0, 0.0, 10.0, "N", "a continuous parameter"),
            "sign": Param(1.0, -1.0, 1.0, "1", "a discrete parameter", values=(-1.0, 1.0)),
            "delay": Param(0.0, 0.0, 3.0, "steps", "another", values=(0.0, 1.0, 2.0, 3.0)),
            "body_mass[head]": Param(1.0, 0.1, 5.0, "kg", "one of a vector"),
            "body_mass[torso]": Param(2.0, 0.1, 5.0, "kg", "one of a vector"),
            "body_mass[foot]": Param(3.0, 0.1, 5.0, "kg", "one of a vector"),
        }

    @property
    def spec(self) -> EnvSpec:
        return EnvSpec(obs_dim=3, act_dim=1, horizon=self.horizon, dt=0.1)

    @property
    def simulator(self) -> str:
        return "toy 1"

    def make(self, *_: Any) -> Any:
        raise NotImplementedError


class Twin(Toy):
    """The same under another name."""


NOT_A_FAMILY = 3

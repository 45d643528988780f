"""Every family passes every check with every set of options, and each check finds the error that it is for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from mrl_bench import registry
from mrl_bench.checks import family as family_checks
from mrl_bench.family import BatchEnv, Param, TaskFamily
from mrl_bench.keyed_random import uniforms
from mrl_bench.types import EnvSpec, Step, TaskBatch

# Option sets that change which parameters a family has, or their effect. Other families use their defaults.
OPTIONS: dict[str, list[dict[str, Any]]] = {
    "cartpole": [{}, {"control": "bang_bang", "reward": "target"}],
    "driving": [{}, {"road": "highway", "traffic": 6}, {"road": "crossing", "traffic": 2, "events": True}],
}
VARIANTS = [
    pytest.param(name, options, id="-".join(map(str, (name, *options.values()))))
    for name in registry.names("family")
    for options in OPTIONS.get(name, [{}])
]


@pytest.mark.parametrize("check", family_checks.CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize(("name", "options"), VARIANTS)
def test_every_family_passes_every_check(
    name: str, options: dict[str, Any], check: Callable[[TaskFamily], None]
) -> None:
    check(registry.find("family", name)(**options))


class Sound:
    """B x E points that slide on a line at their task's speed; an episode ends at |x| > 1."""

    def __init__(self, tasks: TaskBatch, episodes: int, dtype: torch.dtype) -> None:
        self.dtype, self.shape = dtype, (len(tasks), episodes)
        self.stride = torch.tensor(0.1 * tasks.column("speed")[:, None], dtype=dtype)  # (B, 1) [m] a step
        self.drift = torch.tensor(0.1 * tasks.column("wind")[:, None], dtype=dtype)

    def starts(self, seed: int) -> Tensor:
        return torch.tensor(uniforms(("reset", seed), *self.shape) - 0.5, dtype=self.dtype)

    def reset(self, seed: int) -> Tensor:
        self.x, self.ended = self.starts(seed), torch.zeros(self.shape, dtype=torch.bool)
        return self.x.clone()[..., None]

    def step(self, action: Tensor) -> Step:
        moved = self.x + self.stride * self.throttle(action[..., 0]) + self.drift
        self.x = torch.where(self.ended, self.x, moved)
        terminated, failed = self.x.abs() > 1.0, self.x.isnan()
        self.ended = self.ended | terminated | failed
        return Step(self.x.clone()[..., None], 1.0 - self.x.abs(), terminated, failed)

    def throttle(self, action: Tensor) -> Tensor:
        return action.clamp(-1.0, 1.0)

    def close(self) -> None:
        pass


class IgnoresWind(Sound):
    def __init__(self, tasks: TaskBatch, episodes: int, dtype: torch.dtype) -> None:
        super().__init__(tasks, episodes, dtype)
        self.drift = torch.zeros_like(self.drift)


class KeepsTheFirstStride(Sound):
    kept: ClassVar[list[Tensor]] = []

    def __init__(self, tasks: TaskBatch, episodes: int, dtype: torch.dtype) -> None:
        super().__init__(tasks, episodes, dtype)
        self.kept.append(self.stride[:1])
        self.stride = self.kept[0]


class SharesTheLastStride(Sound):
    kept: ClassVar[list[Tensor]] = []

    def __init__(self, tasks: TaskBatch, episodes: int, dtype: torch.dtype) -> None:
        super().__init__(tasks, episodes, dtype)
        self.kept.append(self.stride)

    def step(self, action: Tensor) -> Step:
        self.stride = self.kept[-1]
        return super().step(action)


class CompoundsOverTasks(Sound):
    body: ClassVar[dict[str, float]] = {"speed": 1.0}

    def __init__(self, tasks: TaskBatch, episodes: int, dtype: torch.dtype) -> None:
        super().__init__(tasks, episodes, dtype)
        self.body["speed"] *= float(tasks.column("speed")[0])
        self.stride = self.stride * self.body["speed"]


class CompoundsOverResets(Sound):
    def reset(self, seed: int) -> Tensor:
        self.stride = self.stride * 1.01
        return super().reset(seed)


class GoesOnWithItsGenerator(Sound):
    rng: ClassVar[torch.Generator] = torch.Generator()

    def starts(self, seed: int) -> Tensor:
        return torch.rand(self.shape, generator=self.rng, dtype=self.dtype) - 0.5


class DrawsForTheWholeBatch(Sound):
    def starts(self, seed: int) -> Tensor:
        rng = torch.Generator().manual_seed(seed)
        return torch.rand(self.shape, generator=rng, dtype=self.dtype) - 0.5


class LooksAtItsNeighbours(Sound):
    def step(self, action: Tensor) -> Step:
        step = super().step(action)
        return step._replace(reward=step.reward - self.stride.mean())


class Autoresets(Sound):
    def step(self, action: Tensor) -> Step:
        step = super().step(action)
        self.x = torch.where(self.ended, 0.0, self.x)
        self.ended = torch.zeros_like(self.ended)
        return step


class SlidesOnAfterTheEnd(Sound):
    def step(self, action: Tensor) -> Step:
        self.ended = torch.zeros_like(self.ended)
        return super().step(action)


class TakesAnyAction(Sound):
    def throttle(self, action: Tensor) -> Tensor:
        return action


class GivesItsState(Sound):
    def reset(self, seed: int) -> Tensor:
        super().reset(seed)
        return self.x[..., None]


class IsSilentAboutNan(Sound):
    def step(self, action: Tensor) -> Step:
        step = super().step(action)
        return step._replace(failed=torch.zeros_like(step.failed))


class PlaysOnWithNan(Sound):
    def step(self, action: Tensor) -> Step:
        self.stride, self.drift = self.stride.nan_to_num(), self.drift.nan_to_num()
        return super().step(action)


class GivesDoubles(Sound):
    def step(self, action: Tensor) -> Step:
        step = super().step(action)
        return step._replace(reward=step.reward.double())


class GivesColumns(Sound):
    def step(self, action: Tensor) -> Step:
        step = super().step(action)
        return step._replace(reward=step.reward[..., None])


@dataclass(frozen=True)
class Sliders:
    """A family whose option `env` selects how it is broken."""

    horizon: int = 60
    env: str = "Sound"

    simulator: ClassVar[str] = "sliders 1"
    params: ClassVar[dict[str, Param]] = {
        "speed": Param(1.0, 0.1, 3.0, "m/s", "at a full action"),
        "wind": Param(0.0, -1.0, 1.0, "m/s", "added to it"),
    }

    @property
    def spec(self) -> EnvSpec:
        return EnvSpec(obs_dim=1, act_dim=1, horizon=self.horizon, dt=0.1)

    def make(
        self, tasks: TaskBatch, episodes: int, device: torch.device, dtype: torch.dtype | None = None
    ) -> BatchEnv:
        env: BatchEnv = globals()[self.env](tasks, episodes, dtype or torch.float32)
        return env


@pytest.mark.parametrize(
    "check",
    [check for check in family_checks.CHECKS if check is not family_checks.imports_no_simulator],
    ids=lambda check: check.__name__,
)
def test_a_sound_family_passes(check: Callable[[TaskFamily], None]) -> None:
    check(Sliders())


@pytest.mark.parametrize(
    ("env", "check", "message"),
    [
        (IgnoresWind, family_checks.every_parameter_has_an_effect, "'wind' has no effect"),
        (KeepsTheFirstStride, family_checks.no_state_leaks_between_tasks, "first in its process"),
        (SharesTheLastStride, family_checks.no_state_leaks_between_tasks, "while an environment"),
        (CompoundsOverTasks, family_checks.no_state_leaks_between_tasks, "after a task"),
        (CompoundsOverResets, family_checks.same_seed_same_trajectory, "after a second reset"),
        (GoesOnWithItsGenerator, family_checks.same_seed_same_trajectory, "after a second reset"),
        (DrawsForTheWholeBatch, family_checks.instances_are_independent, "obs differs in a batch"),
        (
            LooksAtItsNeighbours,
            family_checks.instances_are_independent,
            "reward differs in a batch",
        ),
        (Autoresets, family_checks.ended_instances_do_not_change, "changes instance"),
        (SlidesOnAfterTheEnd, family_checks.ended_instances_do_not_change, "changes instance"),
        (TakesAnyAction, family_checks.actions_are_clamped, "clamped"),
        (GivesItsState, family_checks.memory_is_not_shared, "overwritten"),
        (IsSilentAboutNan, family_checks.broken_simulations_are_flagged, "not flagged failed"),
        (PlaysOnWithNan, family_checks.broken_simulations_are_flagged, "never flagged failed"),
        (GivesDoubles, family_checks.shapes_and_dtypes_are_right, "reward is torch.float64"),
        (GivesColumns, family_checks.shapes_and_dtypes_are_right, "reward has shape"),
    ],
)
def test_a_broken_simulation_is_caught(
    env: type[Sound], check: Callable[[TaskFamily], None], message: str
) -> None:
    with pytest.raises(AssertionError, match=message):
        check(Sliders(env=env.__name__))


@pytest.mark.parametrize(
    ("param", "message"),
    [
        (Param(5.0, 0.1, 3.0, "m/s", "at a full action"), "outside"),
        (Param(1.0, 3.0, 0.1, "m/s", "at a full action"), "low must be below high"),
        (Param(1.0, 0.1, float("inf"), "m/s", "at a full action"), "low must be below high"),
        (Param(1.0, 0.1, 3.0, "", "at a full action"), "no unit"),
        (Param(1.0, 0.1, 3.0, "m/s", ""), "no doc"),
        (Param(1.0, 0.1, 3.0, "m/s", "at a full action", values=(0.5, 2.0)), "default is not one of values"),
    ],
)
def test_a_wrong_declaration_is_caught(param: Param, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(Sliders.params, "speed", param)
    with pytest.raises(AssertionError, match=message):
        family_checks.declares_its_parameters(Sliders())


def test_a_family_that_imports_torch_is_caught() -> None:
    with pytest.raises(AssertionError, match="imports torch"):
        family_checks.imports_no_simulator(Sliders())

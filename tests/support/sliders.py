"""Simulations of the families in `broken_families`: a sound one, and variations that break one promise each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from mrl_bench.keyed_random import uniforms
from mrl_bench.types import Ratio, Step, TaskBatch


class Sound:
    """B x E points that slide on a line at their task's speed; an episode ends at |x| > 1."""

    def __init__(self, tasks: TaskBatch, episodes: int, dtype: torch.dtype) -> None:
        self.dtype, self.shape = dtype, (len(tasks), episodes)
        self.stride = torch.tensor(0.1 * tasks.column("speed")[:, None], dtype=dtype)  # (B, 1) [m] a step
        self.drift = torch.tensor(0.1 * tasks.column("wind")[:, None], dtype=dtype)

    def starts(self, seed: int) -> Tensor:
        return torch.tensor(uniforms(("reset", seed), *self.shape) - 0.5, dtype=self.dtype)

    def reset(self, seed: int) -> Any:
        self.x, self.ended = self.starts(seed), torch.zeros(self.shape, dtype=torch.bool)
        return self.x.clone()[..., None]

    def step(self, action: Tensor) -> Any:
        moved = self.x + self.stride * self.throttle(action[..., 0]) + self.drift
        self.x = torch.where(self.ended, self.x, moved)
        terminated, failed = self.x.abs() > 1.0, self.x.isnan()
        self.ended = self.ended | terminated | failed
        return Step(self.x.clone()[..., None], 1.0 - self.x.abs(), terminated, failed)

    def throttle(self, action: Tensor) -> Tensor:
        return action.clamp(-1.0, 1.0)

    def close(self) -> None:
        pass


class SoundWithExtras(Sound):
    """Measures the distance that was slid, and renders a grey image."""

    reported: ClassVar[Mapping[str, Ratio]] = {
        "distance [m]": Ratio("distance"),
        "speed": Ratio("distance", "steps"),
    }

    def reset(self, seed: int) -> Tensor:
        self.distance, self.steps = torch.zeros(self.shape), torch.zeros(self.shape)
        return super().reset(seed)

    def step(self, action: Tensor) -> Step:
        before, alive = self.x, ~self.ended
        step = super().step(action)
        self.distance = self.distance + (self.x - before).abs().nan_to_num().float()
        self.steps = self.steps + alive
        return step

    def metrics(self) -> dict[str, Any]:
        return {"distance": self.distance, "steps": self.steps}

    def render(self, task: int, episode: int, width: int, height: int) -> Any:
        return np.full((height, width, 3), 128, dtype=np.uint8)


# -- shapes and dtypes -----------------------------------------------------------------------------------------------


class GivesDoubles(Sound):
    def step(self, action: Tensor) -> Step:
        step = super().step(action)
        return step._replace(reward=step.reward.double())


class GivesColumns(Sound):
    def step(self, action: Tensor) -> Step:
        step = super().step(action)
        return step._replace(reward=step.reward[..., None])


class ObservesTwice(Sound):
    def step(self, action: Tensor) -> Step:
        step = super().step(action)
        return step._replace(obs=step.obs.repeat(1, 1, 2))


class FlagsWithFloats(Sound):
    def step(self, action: Tensor) -> Step:
        step = super().step(action)
        return step._replace(terminated=step.terminated.float())


class StartsInNumpy(Sound):
    def reset(self, seed: int) -> Any:
        return super().reset(seed).numpy()


class GivesATuple(Sound):
    def step(self, action: Tensor) -> Any:
        return tuple(super().step(action))


class IgnoresDtype(Sound):
    def __init__(self, tasks: TaskBatch, episodes: int, dtype: torch.dtype) -> None:
        super().__init__(tasks, episodes, torch.float32)


class CannotBeMade(Sound):
    def __init__(self, tasks: TaskBatch, episodes: int, dtype: torch.dtype) -> None:
        raise RuntimeError("the simulator\ndoes not start")


class HasNoClose:
    reset, step = Sound.reset, Sound.step

    def __init__(self, *arguments: Any) -> None:
        pass


# -- simulations that break down -------------------------------------------------------------------------------------


class StartsWithNan(Sound):
    def reset(self, seed: int) -> Tensor:
        return super().reset(seed) * torch.nan


class ObservesNan(Sound):
    def step(self, action: Tensor) -> Step:
        step = super().step(action)
        return step._replace(obs=torch.where(step.obs > 0.4, torch.nan, step.obs))


class CrashesLater(Sound):
    steps = 0

    def step(self, action: Tensor) -> Step:
        self.steps += 1
        if self.steps > 10:
            raise ZeroDivisionError
        return super().step(action)


class IsSilentAboutNan(Sound):
    def step(self, action: Tensor) -> Step:
        step = super().step(action)
        return step._replace(failed=torch.zeros_like(step.failed))


class PlaysOnWithNan(Sound):
    def step(self, action: Tensor) -> Step:
        self.stride, self.drift = self.stride.nan_to_num(), self.drift.nan_to_num()
        return super().step(action)


class RejectsItsBounds(Sound):
    def __init__(self, tasks: TaskBatch, episodes: int, dtype: torch.dtype) -> None:
        super().__init__(tasks, episodes, dtype)
        if (self.stride >= 0.3).any():
            raise ValueError("too fast")


class PaysMore(Sound):
    def step(self, action: Tensor) -> Step:
        step = super().step(action)
        return step._replace(reward=step.reward + 0.5)


# -- what a trajectory depends on ------------------------------------------------------------------------------------


class IgnoresWind(Sound):
    def __init__(self, tasks: TaskBatch, episodes: int, dtype: torch.dtype) -> None:
        super().__init__(tasks, episodes, dtype)
        self.drift = torch.zeros_like(self.drift)


class KeepsTheFirstStride(Sound):
    kept: ClassVar[list[Tensor]] = []

    def __init__(self, tasks: TaskBatch, episodes: int, dtype: torch.dtype) -> None:
        super().__init__(tasks, episodes, dtype)
        self.kept.append(self.stride[:1])
        self.stride = self.kept[0].to(dtype)


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


class DrawsWithoutASeed(Sound):
    def step(self, action: Tensor) -> Step:
        step = super().step(action)
        return step._replace(reward=step.reward + torch.rand_like(step.reward))


class IgnoresTheSeed(Sound):
    def starts(self, seed: int) -> Tensor:
        return super().starts(0)


class DrawsForTheWholeBatch(Sound):
    def starts(self, seed: int) -> Tensor:
        rng = torch.Generator().manual_seed(seed)
        return torch.rand(self.shape, generator=rng, dtype=self.dtype) - 0.5


class StartsByItsNeighbours(Sound):
    def starts(self, seed: int) -> Tensor:
        return super().starts(seed) + 0.1 * self.stride.mean()


class LooksAtItsNeighbours(Sound):
    def step(self, action: Tensor) -> Step:
        step = super().step(action)
        return step._replace(reward=step.reward - self.stride.mean())


class CountsTheBatch(Sound):
    def step(self, action: Tensor) -> Step:
        step = super().step(action)
        return step._replace(reward=step.reward / step.reward.numel())


# -- ends, actions and memory ----------------------------------------------------------------------------------------


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


class RejectsLargeActions(Sound):
    def throttle(self, action: Tensor) -> Tensor:
        if action.abs().max() > 1.0:
            raise ValueError("an action outside [-1, 1]")
        return action


class GivesItsState(Sound):
    def reset(self, seed: int) -> Tensor:
        super().reset(seed)
        return self.x[..., None]


class ReusesItsBuffer(Sound):
    def reset(self, seed: int) -> Tensor:
        self.buffer = super().reset(seed)
        return self.buffer

    def step(self, action: Tensor) -> Step:
        step = super().step(action)
        self.buffer.copy_(step.obs)
        return step._replace(obs=self.buffer)


class WritesIntoTheAction(Sound):
    def throttle(self, action: Tensor) -> Tensor:
        return action.clamp_(-0.5, 0.5)


# -- metrics and images ----------------------------------------------------------------------------------------------


class MovesWhenMeasured(SoundWithExtras):
    def metrics(self) -> dict[str, Any]:
        self.x = self.x + 0.01
        return super().metrics()


class MeasuresInfinity(SoundWithExtras):
    def metrics(self) -> dict[str, Any]:
        return super().metrics() | {"steps": 1.0 / self.steps}


class MeasuresNumbers(SoundWithExtras):
    def metrics(self) -> dict[str, Any]:
        return super().metrics() | {"steps": 3.0}


class MeasuresOn(SoundWithExtras):
    def step(self, action: Tensor) -> Step:
        step = super().step(action)
        self.steps = self.steps + self.ended
        return step


class ReportsWhatItDoesNotMeasure(SoundWithExtras):
    reported: ClassVar[Mapping[str, Ratio]] = {"crashes per m": Ratio("crashes", "distance")}


class MovesWhenRendered(SoundWithExtras):
    def render(self, task: int, episode: int, width: int, height: int) -> Any:
        self.x = self.x + 0.01
        return super().render(task, episode, width, height)


class RendersFloats(SoundWithExtras):
    def render(self, task: int, episode: int, width: int, height: int) -> Any:
        return super().render(task, episode, width, height) / 255.0


class RendersOnItsSide(SoundWithExtras):
    def render(self, task: int, episode: int, width: int, height: int) -> Any:
        return super().render(task, episode, height, width)

"""What the oracle plays: a scenario whose observations end with the features of the task.

The harness alone makes such a scenario, for the reference agent "oracle" (`runs.run`). No YAML or setting can.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mrl_bench.family import BatchEnv, HasMetrics, Param, Renderable, TaskFamily
from mrl_bench.scenario.scenario import APART, Scenario
from mrl_bench.types import EnvSpec, Ratio, Step, TaskBatch

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Array = NDArray[np.float64]
Scale = Callable[[Array], Array]  # values of a parameter -> scaled to about [-1, 1]


@dataclass(frozen=True)
class PrivilegedScenario(Scenario):
    """A scenario with privileged observations, and a training stream that covers the ood split as well."""

    plain: Scenario = field(kw_only=True)

    def stream(self, start: int, count: int) -> TaskBatch:
        """Training tasks start, ..., start + count - 1; every second one is drawn from the ood split, if there is one.

        The oracle is the upper reference on test and ood tasks, so it trains on both distributions. The ood draws lie
        beyond the index of every listed task, so the oracle does not train on the ood list.
        """
        tasks = super().stream(start, count)
        if "ood" in self.splits:
            indices = start + np.arange(count)
            odd = indices % 2 == 1
            tasks.values[odd] = self.splits["ood"].stream(APART + indices[odd]).values
        return tasks

    @cached_property
    def tasks_digest(self) -> str:
        """That of the plain scenario: the oracle is compared with the agents that play it."""
        return self.plain.tasks_digest


def privileged(scenario: Scenario) -> PrivilegedScenario:
    """The scenario as the oracle plays it."""
    parts = {part.name: getattr(scenario, part.name) for part in fields(Scenario)}
    family = _PrivilegedFamily(scenario.family, scales(scenario))
    return PrivilegedScenario(**{**parts, "family": family}, plain=scenario)


def scales(scenario: Scenario) -> dict[str, Scale]:
    """The parameters whose values differ over the union of the splits, and how each is scaled.

    The range of the first split in which a parameter varies (train, test, ood) is mapped to [-1, 1]; if it is constant
    in each split, the range over all splits. Other values may lie outside.
    """
    found: dict[str, Scale] = {}
    for name in scenario.splits["train"].draws:
        drawn = [split.draws[name].distribution for split in scenario.splits.values()]
        varying = [d for d in drawn if d.support[0] < d.support[1]]
        constants = sorted({d.support[0] for d in drawn})
        if varying:
            found[name] = varying[0].to_unit
        elif len(constants) > 1:
            found[name] = _to_unit(constants[0], constants[-1])
    return found


def _to_unit(low: float, high: float) -> Scale:
    return lambda values: 2.0 * (values - low) / (high - low) - 1.0


@dataclass(frozen=True)
class _PrivilegedFamily:
    """A family whose observations end with the features of the task (F), each scaled to about [-1, 1]."""

    plain: TaskFamily
    scales: Mapping[str, Scale]  # parameter -> its scaling

    @property
    def horizon(self) -> int:
        return self.plain.spec.horizon

    @property
    def params(self) -> Mapping[str, Param]:
        return self.plain.params

    @property
    def simulator(self) -> str:
        return self.plain.simulator

    @property
    def spec(self) -> EnvSpec:
        spec, added = self.plain.spec, len(self.scales)
        return replace(spec, obs_dim=spec.obs_dim + added, obs_scale=spec.obs_scale + (1.0,) * added)

    def make(
        self, tasks: TaskBatch, episodes: int, device: torch.device, dtype: torch.dtype | None = None
    ) -> BatchEnv:
        import torch

        env = self.plain.make(tasks, episodes, device, dtype)
        seen = torch.as_tensor(self.features(tasks), dtype=dtype or torch.float32, device=device)
        more = [kind for offers, kind in _MORE.items() if isinstance(env, offers)]
        wrapper: Any = type("PrivilegedEnv", (*more, _PrivilegedEnv), {})
        wrapped: BatchEnv = wrapper(env, seen[:, None].expand(-1, episodes, -1))
        return wrapped

    def features(self, tasks: TaskBatch) -> Array:
        """The features of tasks, (B, F)."""
        columns = [scale(tasks.column(name)) for name, scale in self.scales.items()]
        return np.stack(columns, 1) if columns else np.empty((len(tasks), 0))


class _PrivilegedEnv:
    """An environment whose observations end with the features of the task."""

    def __init__(self, env: Any, features: Tensor) -> None:
        self._env, self._features = env, features  # (B, E, F)

    def reset(self, seed: int) -> Tensor:
        import torch

        return torch.cat([self._env.reset(seed), self._features], -1)

    def step(self, action: Tensor) -> Step:
        import torch

        step: Step = self._env.step(action)
        return step._replace(obs=torch.cat([step.obs, self._features], -1))

    def close(self) -> None:
        self._env.close()


class _Measures(_PrivilegedEnv):
    @property
    def reported(self) -> Mapping[str, Ratio]:
        reported: Mapping[str, Ratio] = self._env.reported
        return reported

    def metrics(self) -> dict[str, Tensor]:
        metrics: dict[str, Tensor] = self._env.metrics()
        return metrics


class _Renders(_PrivilegedEnv):
    def render(self, task: int, episode: int, width: int, height: int) -> NDArray[np.uint8]:
        image: NDArray[np.uint8] = self._env.render(task, episode, width, height)
        return image


_MORE: dict[type, type] = {
    HasMetrics: _Measures,
    Renderable: _Renders,
}  # what the environment inside may offer

"""Uniform random actions: the lower reference of every table, and an example of a minimal agent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from mrl_bench.agent import Training
from mrl_bench.types import EnvSpec, Memory, Rollout, State, TimeStep


@dataclass(frozen=True)
class RandomConfig:
    """Nothing to set."""


class RandomAgent:
    Config = RandomConfig

    def __init__(self, spec: EnvSpec, config: RandomConfig, seed: int, device: torch.device) -> None:
        self.spec, self.device = spec, device

    def meta_train(self, training: Training) -> None:
        pass

    def initial_state(self, num_tasks: int) -> State:
        return {}

    def start_episode(self, state: State, num_envs: int) -> Memory:
        return ()

    def act(
        self, state: State, memory: Memory, step: TimeStep, explore: bool, rng: Generator
    ) -> tuple[Tensor, Memory]:
        shape = (*step.obs.shape[:2], self.spec.act_dim)
        return 2 * torch.rand(shape, generator=rng, device=step.obs.device, dtype=step.obs.dtype) - 1, memory

    def adapt(self, state: State, memory: Memory, rollout: Rollout, rng: Generator) -> State:
        return state

    def state_dict(self) -> dict[str, Tensor]:
        return {}

    def load_state_dict(self, tensors: Mapping[str, Tensor]) -> None:
        pass

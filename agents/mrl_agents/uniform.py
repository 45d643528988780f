"""Uniform random actions: the floor of every table, and the smallest agent there is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from mrl_bench.agent import Training
from mrl_bench.types import EnvSpec, Last, Rollout, State


@dataclass(frozen=True)
class UniformConfig:
    """Nothing to set."""


class Uniform:
    Config = UniformConfig

    def __init__(self, spec: EnvSpec, config: UniformConfig, seed: int, device: torch.device) -> None:
        self.spec = spec

    def meta_train(self, training: Training) -> None:
        pass

    def begin(self, tasks: int) -> State:
        return {}

    def act(self, state: State, last: Last, explore: bool, rng: Generator) -> tuple[Tensor, State]:
        shape = (*last.obs.shape[:2], self.spec.act_dim)
        return 2 * torch.rand(shape, generator=rng, device=last.obs.device, dtype=last.obs.dtype) - 1, state

    def adapt(self, state: State, rollout: Rollout, rng: Generator) -> State:
        return state

    def state_dict(self) -> dict[str, Tensor]:
        return {}

    def load_state_dict(self, tensors: Mapping[str, Tensor]) -> None:
        pass

"""Whether a trained agent survives being saved: its weights are loaded into a new one, and the two are compared."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from mrl_bench.agent import MetaAgent
from mrl_bench.errors import ContractError
from mrl_bench.protocol.promises import require_state, seed_global_generators
from mrl_bench.protocol.rollout import collect
from mrl_bench.scenario import Scenario
from mrl_bench.types import TaskBatch

_FEW_TASKS, _FEW_STEPS = 2, 20


def require_restored(
    trained: MetaAgent, restored: MetaAgent, scenario: Scenario, device: torch.device
) -> None:
    """Refuses an agent that acts differently once its weights were saved and loaded into a new one.

    Args:
        trained: after meta-training.
        restored: a new agent that has loaded the weights of `trained`.
        scenario: whose training tasks are played for a few steps, before and after adaptation.
        device: of environment and agents.
    """
    played = []
    for agent in (trained, restored):
        seed_global_generators(0)
        played.append(list(_few_actions(agent, scenario, device)))
    close = torch.equal if device.type == "cpu" else torch.allclose
    if not all(close(*pair) for pair in zip(*played, strict=True)):
        raise ContractError(
            "state_dict leaves something out, or load_state_dict does not restore it: a new agent that loaded the "
            "weights acts differently"
        )


def _few_actions(agent: MetaAgent, scenario: Scenario, device: torch.device) -> Iterator[Tensor]:
    def generator() -> torch.Generator:
        return torch.Generator(device).manual_seed(0)

    listed = scenario.tasks("train")
    tasks = TaskBatch(listed.names, listed.values[:_FEW_TASKS])
    spec = replace(scenario.spec, horizon=min(scenario.spec.horizon, _FEW_STEPS))
    state = require_state(agent.initial_state(len(tasks)), len(tasks), "initial_state")
    env = scenario.family.make(tasks, 1, device)
    for explore in (True, False):
        rollout, memory = collect(env, spec, agent, state, seed=0, noise_seed=0, explore=explore)
        yield rollout.action
        state = require_state(agent.adapt(state, memory, rollout, generator()), len(tasks), "adapt")
    env.close()

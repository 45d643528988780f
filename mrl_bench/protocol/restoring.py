"""Whether a trained agent survives being saved: its weights are loaded into a new one, and the two are compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from mrl_bench.agent import MetaAgent
from mrl_bench.errors import ContractError
from mrl_bench.protocol.adaptation import Adaptation
from mrl_bench.protocol.promises import require_state, seed_global_generators
from mrl_bench.protocol.rollout import collect
from mrl_bench.scenario import Scenario
from mrl_bench.types import TaskBatch

_TASKS, _STEPS = 2, 20
_NEAR = 1e-3  # between two agents on a device or a simulator that does not repeat exactly


def copies(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """On the CPU, and sharing no memory, as safetensors asks for."""
    return {name: tensor.detach().cpu().contiguous().clone() for name, tensor in weights.items()}


def few_actions(agent: MetaAgent, scenario: Scenario, device: torch.device) -> list[Tensor]:
    """The actions of an agent in the first steps on two training tasks, before and after it has adapted.

    Returns:
        Two tensors (2, E, T, A), on the CPU.
    """
    seed_global_generators(0)
    listed, actions = scenario.tasks("train"), []
    tasks = TaskBatch(listed.names, listed.values[:_TASKS])
    spec = replace(scenario.spec, horizon=min(scenario.spec.horizon, _STEPS))
    state = require_state(agent.initial_state(len(tasks)), len(tasks), "initial_state")
    env = Adaptation(agent, scenario, "train", 0, device).make_adapt_env(tasks)
    try:
        for explore in (True, False):
            rollout, memory = collect(env, spec, agent, state, seed=0, noise_seed=0, explore=explore)
            actions.append(rollout.action.cpu().contiguous())
            rng = torch.Generator(device).manual_seed(0)
            state = require_state(agent.adapt(state, memory, rollout, rng), len(tasks), "adapt")
    finally:
        env.close()
    return actions


def require_restored(trained: Sequence[Tensor], restored: Sequence[Tensor], *, exactly: bool) -> None:
    """Refuses weights with which a new agent acts differently.

    Args:
        trained: `few_actions` of the agent after meta-training.
        restored: `few_actions` of a new agent that has loaded its weights.
        exactly: whether device and simulator repeat bit for bit. If not, the first action alone is compared.
    """
    if exactly:
        same = all(map(torch.equal, trained, restored))
    else:
        same = torch.allclose(trained[0][:, :, 0], restored[0][:, :, 0], rtol=_NEAR, atol=_NEAR)
    if not same:
        raise ContractError(
            "state_dict leaves something out, or load_state_dict does not restore it: a new agent that loaded the "
            "weights acts differently"
        )

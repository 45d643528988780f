"""PPO over a distribution of tasks (Schulman et al. 2017): the two trained reference agents.

With the plain observation it is `blind`: one policy for all tasks, without adaptation. With the privileged observation,
which contains the task parameters, it is `oracle`. The code is the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from mrl_agents.advantage import clipped_surrogate, gae, masked_mean, nothing_valid
from mrl_agents.bounds import ActionStd, Count, Part, Positive, Rate, Share, Widths
from mrl_agents.gaussian import init_policy, log_prob, sample, std_of
from mrl_agents.gradients import descend
from mrl_agents.networks import init_mlp, mlp, obs_scaler
from mrl_agents.normalisation import RunningNorm
from mrl_bench.agent import Training
from mrl_bench.types import EnvSpec, Memory, Rollout, State, TimeStep


@dataclass(frozen=True)
class PpoConfig:
    hidden_sizes: Widths = (64, 64)  # widths of the hidden layers of policy and critic
    action_std: ActionStd = 0.6  # initial standard deviation of the actions
    meta_batch_size: Count = 80  # tasks in a batch
    episodes_per_task: Count = 1  # episodes of each task in a batch
    gamma: Share = 0.99  # discount factor of one control step
    gae_lambda: Share = 0.95  # lambda of the generalised advantage estimate
    learning_rate: Rate = 3e-3  # learning rate of Adam; it falls linearly over the budget, to 1 %
    epochs: Count = 6  # passes over a batch
    num_minibatches: Count = 6  # minibatches in a pass; none is smaller than 1,024 steps
    clip_coef: Part = 0.2  # clipping range of the probability ratio
    max_grad_norm: Positive = 1.0  # largest norm of the gradient; longer gradients are clipped to it


class Ppo:
    Config = PpoConfig

    def __init__(self, spec: EnvSpec, config: PpoConfig, seed: int, device: torch.device) -> None:
        self.spec, self.config, self.device = spec, config, device
        rng = torch.Generator().manual_seed(seed)
        policy = init_policy(spec.obs_dim, spec.act_dim, config.hidden_sizes, config.action_std, rng)
        critic = init_mlp([spec.obs_dim, *config.hidden_sizes, 1], rng, name="critic_")
        self.weights = {key: value.to(device).requires_grad_() for key, value in (policy | critic).items()}
        self.scaled, self.norm = obs_scaler(spec, device), RunningNorm(spec.obs_dim, device)
        self.value_scale = torch.zeros(
            (), device=device
        )  # running size of the critic's targets; 0 before the first
        self.shuffle = torch.Generator(device).manual_seed(seed)

    def meta_train(self, training: Training) -> None:
        optimiser = torch.optim.Adam(self.weights.values(), lr=self.config.learning_rate, eps=1e-5)
        while training.left > 0:
            rate = self.config.learning_rate * max(training.left / training.budget, 0.01)
            optimiser.param_groups[0]["lr"] = rate
            tasks = training.tasks(self.config.meta_batch_size, self.config.episodes_per_task)
            rollout, _ = tasks.collect(self.act, self.initial_state(self.config.meta_batch_size))
            if nothing_valid(rollout.mask):
                continue
            losses = self._update(rollout, optimiser)
            training.log({"charts/learning_rate": rate, **losses})

    def initial_state(self, num_tasks: int) -> State:
        return {}

    def start_episode(self, state: State, num_envs: int) -> Memory:
        return ()

    def act(
        self, state: State, memory: Memory, step: TimeStep, explore: bool, rng: Generator
    ) -> tuple[Tensor, Memory]:
        return sample(self.weights, self._input(step.obs), explore, rng), memory

    def adapt(self, state: State, memory: Memory, rollout: Rollout, rng: Generator) -> State:
        return state

    def state_dict(self) -> dict[str, Tensor]:
        return {
            **{key: value.detach() for key, value in self.weights.items()},
            "value_scale": self.value_scale,
            **self.norm.state_dict(),
        }

    def load_state_dict(self, tensors: Mapping[str, Tensor]) -> None:
        self.weights = {key: tensors[key].clone().requires_grad_() for key in self.weights}
        self.value_scale = tensors["value_scale"].clone()
        self.norm.load_state_dict(tensors)

    def _input(self, obs: Tensor) -> Tensor:
        """The networks' input: observations (..., O), normalised."""
        return self.norm(self.scaled(obs))

    def _value(self, obs: Tensor) -> Tensor:
        """(..., O), normalised -> (...), in units of `value_scale`."""
        return mlp(self.weights, obs, name="critic_").squeeze(-1)

    def _update(self, rollout: Rollout, optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
        config, mask = self.config, rollout.mask
        with torch.no_grad():
            obs = self._input(rollout.obs)
            value = self._value(obs) * self.value_scale  # (B, E, T + 1)
            advantage = gae(rollout.reward, value, rollout.terminated, mask, config.gamma, config.gae_lambda)
            target = advantage + value[..., :-1]
            scale = masked_mean(target**2, mask).sqrt() + 1e-6
            known = self.value_scale > 0
            self.value_scale = torch.where(known, self.value_scale.lerp(scale, 0.1), scale)
            valid = mask > 0
            obs, action, target = (
                obs[:, :, :-1][valid],
                rollout.action[valid],
                target[valid] / self.value_scale,
            )  # (N, .)
            advantage = advantage[valid]
            spread = advantage.std(correction=min(1, len(advantage) - 1))  # of a single step it is 0
            advantage = (advantage - advantage.mean()) / (spread + 1e-6)
            old = log_prob(self.weights, obs, action)
        size = max(1024, -(-len(obs) // config.num_minibatches))
        for _ in range(config.epochs):
            order = torch.randperm(len(obs), generator=self.shuffle, device=obs.device)
            for chosen in order.split(size):
                log_ratio = log_prob(self.weights, obs[chosen], action[chosen]) - old[chosen]
                policy_loss = -clipped_surrogate(log_ratio, advantage[chosen], config.clip_coef).mean()
                value_loss = 0.5 * ((self._value(obs[chosen]) - target[chosen]) ** 2).mean()
                descend(optimiser, policy_loss + value_loss, config.max_grad_norm)
        self.norm.update(self.scaled(rollout.obs)[:, :, :-1][valid])
        return {
            "losses/policy_loss": policy_loss.detach(),
            "losses/value_loss": value_loss.detach(),
            "losses/approx_kl": (log_ratio.exp() - 1 - log_ratio).mean().detach(),
            "losses/action_std": std_of(self.weights["log_std"]).mean().detach(),
        }

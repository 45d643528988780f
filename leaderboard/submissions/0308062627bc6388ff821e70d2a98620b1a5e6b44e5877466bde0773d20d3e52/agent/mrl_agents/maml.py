"""MAML for reinforcement learning (Finn, Abbeel & Levine 2017), second order, with a per-task policy-gradient step.

    adapted_i = theta - alpha * grad L_i(theta)         inner: one task's likelihood-ratio policy gradient
    theta    <- theta - beta * grad sum_i J_i(adapted_i)    outer: differentiates through the inner step

The inner surrogate is the likelihood ratio pi / pi_old times the advantage (the LVC estimator of Rothfuss et al.
2019, "ProMP"), whose second derivative keeps the credit of how the first data were gathered. pi_old is the policy that
gathered them; it does not change while the outer steps on these data move theta. The outer objective is
ProMP's clipped surrogate without its small KL penalty, or TRPO as in the first MAML. See docs/maml.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Generator, Tensor
from torch.func import grad, vmap

from mrl_agents.advantage import (
    clipped_surrogate,
    gae,
    linear_baseline,
    masked_mean,
    nothing_valid,
    standardise,
)
from mrl_agents.bounds import ActionStd, Count, Part, Positive, Rate, Share, Steps, Weight, Widths
from mrl_agents.gaussian import init_policy, kl_divergence, log_prob, mean_and_std, sample, std_of
from mrl_agents.gradients import descend
from mrl_agents.networks import Weights, expand, frozen, obs_scaler
from mrl_bench.agent import Training
from mrl_bench.types import EnvSpec, Memory, Rollout, State, TimeStep

# What one task's steps look like to a loss: "obs" (N, O), "action" (N, A), its log density "old" (N,) under the policy
# that took it, "advantage" (N,), "mask" (N,); with a leading B for a batch of tasks.
Batch = dict[str, Tensor]


@dataclass(frozen=True)
class MamlConfig:
    hidden_sizes: Widths = (64, 64)  # widths of the policy's hidden layers
    action_std: ActionStd = 0.75  # initial standard deviation of the actions
    learn_action_std: bool = True  # whether the standard deviation is adapted and meta-learned, or fixed
    meta_batch_size: Count = 20  # tasks in a meta-batch
    episodes_per_task: Count = 10  # episodes of each task before each inner step, and after the last one
    inner_steps: Steps = 1  # policy-gradient steps on each task in meta-training; each has new data
    inner_lr: Rate = 0.1  # alpha, the learning rate of the inner step
    # whether each weight's inner rate is meta-learned (Meta-SGD, Li et al. 2017)
    learn_inner_lr: bool = False
    first_order: bool = False  # whether the derivative through the inner gradient is dropped
    gamma: Share = 0.99  # discount factor of one control step
    gae_lambda: Share = 1.0  # lambda of the advantage estimate; 1 gives the return minus the baseline
    outer_update: Literal["ppo", "trpo"] = "ppo"  # method of the outer step
    outer_lr: Rate = 2e-3  # ppo: learning rate of Adam
    outer_lr_decay: bool = True  # ppo: whether outer_lr falls linearly over the budget, to 5 %
    epochs: Count = 5  # ppo: gradient steps on one meta-batch
    clip_coef: Part = 0.2  # ppo: clipping range of the probability ratio
    max_grad_norm: Positive = 1.0  # ppo: largest norm of the meta-gradient; longer ones are clipped to it
    max_kl: Positive = 0.01  # trpo: bound on the mean KL divergence of a step
    cg_steps: Count = 10  # trpo: conjugate-gradient iterations
    cg_damping: Weight = 1e-3  # trpo: multiple of the identity that is added to the curvature
    backtracks: Count = 15  # trpo: largest number of line-search steps; each is 0.8 of the one before


class Maml:
    Config = MamlConfig

    def __init__(self, spec: EnvSpec, config: MamlConfig, seed: int, device: torch.device) -> None:
        self.spec, self.config, self.device = spec, config, device
        rng = torch.Generator().manual_seed(seed)
        theta = init_policy(spec.obs_dim, spec.act_dim, config.hidden_sizes, config.action_std, rng)
        self.theta = {key: value.to(device).requires_grad_() for key, value in theta.items()}
        self.log_lr = {
            key: torch.full_like(value, math.log(config.inner_lr)) for key, value in self.theta.items()
        }
        if config.learn_inner_lr:
            self.log_lr = {key: value.requires_grad_() for key, value in self.log_lr.items()}
        if not config.learn_action_std:
            self.theta["log_std"].requires_grad_(False)
            self.log_lr["log_std"].requires_grad_(False)
        self.scaled = obs_scaler(spec, device)

    # -- what the harness calls ---------------------------------------------------------------------------------

    def meta_train(self, training: Training) -> None:
        config, optimiser = self.config, self.optimiser()
        while training.left > 0:
            self.set_rates(optimiser, training.left / training.budget)
            tasks = training.tasks(config.meta_batch_size, config.episodes_per_task)
            state, before = self.initial_state(config.meta_batch_size), []
            for _ in range(config.inner_steps):
                rollout, _ = tasks.collect(self.act, state)
                before.append(self.batch(state, rollout))
                state = self._adapt(state, before[-1])
            rollout, _ = tasks.collect(self.act, state)
            if nothing_valid(rollout.mask):
                continue
            training.log(self.outer_step(before, self.batch(state, rollout), state, optimiser))

    def initial_state(self, num_tasks: int) -> State:
        return expand(frozen(self.theta), num_tasks)

    def start_episode(self, state: State, num_envs: int) -> Memory:
        return ()

    def act(
        self, state: State, memory: Memory, step: TimeStep, explore: bool, rng: Generator
    ) -> tuple[Tensor, Memory]:
        return sample(state, self.scaled(step.obs), explore, rng), memory

    def adapt(self, state: State, memory: Memory, rollout: Rollout, rng: Generator) -> State:
        return self._adapt(state, self.batch(state, rollout))

    def state_dict(self) -> dict[str, Tensor]:
        return {
            **{f"theta.{key}": value.detach() for key, value in self.theta.items()},
            **{f"log_lr.{key}": value.detach() for key, value in self.log_lr.items()},
        }

    def load_state_dict(self, tensors: Mapping[str, Tensor]) -> None:
        for name, weights in (("theta", self.theta), ("log_lr", self.log_lr)):
            for key, value in weights.items():
                value.data.copy_(tensors[f"{name}.{key}"])

    # -- inner loop ---------------------------------------------------------------------------------------------

    @torch.no_grad()
    def batch(self, state: State, rollout: Rollout) -> Batch:
        """The data of the losses, from B tasks' episodes played in `state`: leaves (B, N, .) with N = E * T."""
        obs, mask = self.scaled(rollout.obs), rollout.mask
        advantage = gae(
            rollout.reward,
            self.values(rollout),
            rollout.terminated,
            mask,
            self.config.gamma,
            self.config.gae_lambda,
        )
        leaves = {
            "obs": obs[:, :, :-1],
            "action": rollout.action,
            "advantage": standardise(advantage, mask),
            "mask": mask,
        }
        flat = {key: value.flatten(1, 2) for key, value in leaves.items()}
        return flat | {"old": log_prob(state, flat["obs"], flat["action"])}

    def values(self, rollout: Rollout) -> Tensor:
        """Baseline of the advantages: values of the observations, (B, E, T + 1)."""
        return linear_baseline(self.scaled(rollout.obs), rollout.reward, rollout.mask, self.config.gamma)

    def inner_step(self, weights: Weights, lr: Weights, batch: Batch) -> Weights:
        """One task's policy-gradient step, differentiable in `weights` and `lr` unless `first_order`."""
        gradient = grad(inner_loss)(weights, batch)
        if self.config.first_order:
            gradient = {key: value.detach() for key, value in gradient.items()}
        if not self.config.learn_action_std:
            gradient["log_std"] = torch.zeros_like(gradient["log_std"])
        return {key: value - lr[key] * gradient[key] for key, value in weights.items()}

    @torch.no_grad()
    def _adapt(self, state: Weights, batch: Batch) -> Weights:
        lr = {key: value.exp() for key, value in self.log_lr.items()}
        step = partial(self.inner_step, lr=lr)
        return over_tasks(lambda weights, data: step(weights, batch=data), state, batch)

    # -- outer loop ---------------------------------------------------------------------------------------------

    def optimiser(self) -> torch.optim.Optimizer:
        """Adam for the meta-weights, and at five times the rate for the logarithms of the inner rates."""
        theta, log_lr = (
            [weight for weight in weights.values() if weight.requires_grad]
            for weights in (self.theta, self.log_lr)
        )
        groups = [(theta, self.config.outer_lr), (log_lr, 5 * self.config.outer_lr)]
        return torch.optim.Adam([{"params": w, "lr": rate, "initial_lr": rate} for w, rate in groups])

    def set_rates(self, optimiser: torch.optim.Optimizer, left: float) -> None:
        """Sets the outer rates for the share `left` of the budget that remains."""
        for group in optimiser.param_groups if self.config.outer_lr_decay else ():
            group["lr"] = group["initial_lr"] * max(left, 0.05)

    def outer_step(
        self, before: list[Batch], after: Batch, state: Weights, optimiser: torch.optim.Optimizer
    ) -> dict[str, Tensor]:
        """Moves the meta-weights.

        Args:
            before: data of B tasks' inner steps, in their order.
            after: data of episodes played with the adapted weights.
            state: the adapted weights.
            optimiser: takes the steps of ppo.

        Returns:
            Scalars to log.
        """
        if self.config.outer_update == "ppo":
            rate = optimiser.param_groups[0]["lr"]
            return {"charts/learning_rate": rate, **self._outer_ppo(before, after, optimiser)}
        return self._outer_trpo(before, after, state)

    def adapted(self, theta: Weights, log_lr: Weights, before: list[Batch]) -> Weights:
        """One task's weights after its inner steps, as a function of the meta-weights."""
        lr = {key: value.exp() for key, value in log_lr.items()}
        for batch in before:
            theta = self.inner_step(theta, lr, batch)
        return theta

    def _outer_ppo(
        self, before: list[Batch], after: Batch, optimiser: torch.optim.Optimizer
    ) -> dict[str, Tensor]:
        config = self.config

        def task_loss(data: Batch, *data_before: Batch) -> dict[str, Tensor]:
            weights = self.adapted(self.theta, self.log_lr, list(data_before))
            log_ratio = (log_prob(weights, data["obs"], data["action"]) - data["old"]) * data["mask"]
            gain = clipped_surrogate(log_ratio, data["advantage"], config.clip_coef)
            return {
                "policy_loss": -(gain * data["mask"]).sum(),
                "approx_kl": ((log_ratio.exp() - 1 - log_ratio) * data["mask"]).sum().detach(),
            }

        steps = after["mask"].sum()
        for _ in range(config.epochs):
            losses = {
                key: value.sum() / steps for key, value in over_tasks(task_loss, after, *before).items()
            }
            descend(optimiser, losses["policy_loss"], config.max_grad_norm)
        return {f"losses/{key}": value.detach() for key, value in losses.items()} | self._diagnostics()

    def _outer_trpo(self, before: list[Batch], after: Batch, state: Weights) -> dict[str, Tensor]:
        """A natural-gradient step of size `max_kl` (Schulman et al. 2015) on the adapted policies."""
        config = self.config
        named = {f"theta.{key}": value for key, value in self.theta.items() if value.requires_grad}
        named |= {f"log_lr.{key}": value for key, value in self.log_lr.items() if value.requires_grad}
        meta = list(named.values())
        mean, std = mean_and_std(state, after["obs"])
        after = after | {"mean": mean, "std": std}

        def task_terms(data: Batch, *data_before: Batch) -> dict[str, Tensor]:
            weights = self.adapted(self.theta, self.log_lr, list(data_before))
            ratio = ((log_prob(weights, data["obs"], data["action"]) - data["old"]) * data["mask"]).exp()
            kl = kl_divergence(data["mean"], data["std"], *mean_and_std(weights, data["obs"]))
            return {
                "loss": -(ratio * data["advantage"] * data["mask"]).sum(),
                "kl": (kl * data["mask"]).sum(),
            }

        def terms() -> tuple[Tensor, Tensor]:
            sums = over_tasks(task_terms, after, *before)
            return sums["loss"].sum() / after["mask"].sum(), sums["kl"].sum() / after["mask"].sum()

        loss, kl = terms()
        gradient = _flat(torch.autograd.grad(loss, meta, retain_graph=True))
        kl_gradient = _flat(torch.autograd.grad(kl, meta, create_graph=True))

        def curvature(vector: Tensor) -> Tensor:
            product = torch.autograd.grad(kl_gradient @ vector, meta, retain_graph=True)
            return _flat(product) + config.cg_damping * vector

        direction = conjugate_gradient(curvature, -gradient, config.cg_steps)
        length = (2 * config.max_kl / (direction @ curvature(direction)).clamp(min=1e-12)).sqrt()
        origin = _flat(meta).detach()
        with torch.no_grad():
            for backtrack in range(config.backtracks):
                _assign(meta, origin + 0.8**backtrack * length * direction)
                new_loss, new_kl = terms()
                if new_loss < loss and new_kl < 1.5 * config.max_kl:
                    break
            else:
                _assign(meta, origin)
                new_kl = torch.zeros_like(kl)
        return {"losses/policy_loss": loss.detach(), "losses/approx_kl": new_kl} | self._diagnostics()

    def _diagnostics(self) -> dict[str, Tensor]:
        moved = (key for key in self.theta if self.config.learn_action_std or key != "log_std")
        rates = torch.cat([self.log_lr[key].detach().exp().flatten() for key in moved])
        return {
            "losses/action_std": std_of(self.theta["log_std"].detach()).mean(),
            "losses/inner_lr": rates.mean(),
        }


def inner_loss(weights: Weights, batch: Batch) -> Tensor:
    """One task's negative surrogate: mean of pi / pi_old times advantage, over valid steps."""
    now = log_prob(weights, batch["obs"], batch["action"])
    ratio = ((now - batch["old"]) * batch["mask"]).exp()
    return -masked_mean(ratio * batch["advantage"], batch["mask"])


def over_tasks(function: Callable[..., dict[str, Tensor]], *batched: dict[str, Tensor]) -> dict[str, Tensor]:
    """Applies a function of one task's tensors to B tasks; every tensor leads with B, going in and coming out.

    A loop and `vmap` give the same numbers. With much data per task, a loop makes better use of the processor's cache;
    with little, or on a GPU, `vmap` saves the cost of starting B small kernels: benchmarks/maml_update.py.
    """
    first = next(iter(batched[0].values()))
    samples = max(value.shape[1] for value in batched[-1].values() if value.ndim > 1)
    if samples >= LOOP_FROM_SAMPLES.get(first.device.type, math.inf):
        results = [
            function(*({k: v[i] for k, v in data.items()} for data in batched)) for i in range(len(first))
        ]
        return {key: torch.stack([result[key] for result in results]) for key in results[0]}
    mapped: dict[str, Tensor] = vmap(function)(*batched)
    return mapped


LOOP_FROM_SAMPLES = {"cpu": 2000}  # type of device -> steps of a task from which a loop is faster there


def conjugate_gradient(product: Callable[[Tensor], Tensor], target: Tensor, steps: int) -> Tensor:
    """Solves product(x) = target for a positive definite `product` (Hestenes & Stiefel 1952), `steps` iterations."""
    solution, residual = torch.zeros_like(target), target.clone()
    direction, size = residual.clone(), residual @ residual
    for _ in range(steps):
        along = product(direction)
        step = size / (direction @ along).clamp(min=1e-20)
        solution, residual = solution + step * direction, residual - step * along
        new_size = residual @ residual
        direction, size = residual + new_size / size.clamp(min=1e-20) * direction, new_size
    return solution


def _flat(tensors: list[Tensor] | tuple[Tensor, ...]) -> Tensor:
    return torch.cat([tensor.reshape(-1) for tensor in tensors])


def _assign(tensors: list[Tensor], flat: Tensor) -> None:
    pieces = flat.split([tensor.numel() for tensor in tensors])
    for tensor, piece in zip(tensors, pieces, strict=True):
        tensor.data.copy_(piece.view_as(tensor))

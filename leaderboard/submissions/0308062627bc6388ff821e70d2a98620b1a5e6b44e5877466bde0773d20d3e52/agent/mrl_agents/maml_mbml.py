"""MAML-MBML: a real policy-gradient step on each task, then imagined improvement in a model adapted to the task.

    stage 1   MBML: a world model of all tasks and pi(s, z)                               mrl_agents.mbml
    stage 2   the model learns to adapt: meta-learns rates with which a few gradient
              steps on a task's transitions lower its error on other transitions of
              the task (Nagabandi et al. 2019)                                            mrl_agents.world_model
    stage 3   MAML: pi is meta-trained on real returns after adaptation                   mrl_agents.maml

    adapt     theta' = theta - alpha * grad L(theta)         MAML's step, on the data that theta itself gathered
              z, model <- all data of the task               as in MBML, plus gradient steps of the model
              theta'' = theta' + beta * delta                delta: a few steps up the return imagined in that model

Later rounds change z and the model, and imagination starts from theta' again. They take no further real step: a policy
gradient on the few, good episodes of an adapted policy is mostly noise (measured in docs/algorithms.md). The outer
gradient of stage 3 goes through the real step and through beta; delta is held constant.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Generator, Tensor
from torch.func import vmap

from mrl_agents.action_history import observe, widened
from mrl_agents.advantage import masked_mean, nothing_valid
from mrl_agents.bounds import Count, Positive, Rate, Steps
from mrl_agents.gradients import descend
from mrl_agents.maml import Batch, Maml, MamlConfig
from mrl_agents.mbml import Mbml, MbmlConfig
from mrl_agents.networks import Weights
from mrl_agents.replay import (
    Buffer,
    add_to_buffer,
    everything,
    sample_by_task,
    sample_contexts,
    stored,
    transitions_of,
)
from mrl_agents.world_model import adapt_model, infer_context, model_errors
from mrl_bench.agent import Tasks, Training
from mrl_bench.types import EnvSpec, Memory, Rollout, State, TimeStep


@dataclass(frozen=True)
class MamlMbmlConfig:
    # settings of stage 1 and of imagination
    mbml: MbmlConfig = field(default_factory=lambda: MbmlConfig(adapt_updates=5, adapt_imagined_rollouts=16))
    # settings of stage 3; hidden_sizes and action_std are taken from mbml
    maml: MamlConfig = field(
        default_factory=lambda: MamlConfig(
            meta_batch_size=40,
            episodes_per_task=1,
            learn_action_std=False,
            inner_lr=0.02,
            learn_inner_lr=True,
            outer_lr=2e-4,
            gae_lambda=0.95,
        )
    )
    env_steps: Count = 600_000  # largest number of env steps of meta-training, within the scenario's budget
    imagination_weight: Positive = 0.5  # initial beta, the weight of the imagined update; learned per layer
    imagination_weight_lr: Rate = 1e-2  # learning rate of Adam for the logarithms of beta
    model_inner_steps: Steps = 2  # gradient steps of the model on a task's data after each round
    model_inner_lr: Rate = 0.01  # initial rate of the model's inner steps; one is learned per weight
    model_inner_batch_size: Count = 128  # transitions that the model's inner steps use
    model_iterations: Count = 400  # gradient steps of stage 2
    model_lr: Rate = 3e-4  # learning rate of Adam in stage 2; the logarithms of the rates use 30 times it

    def __post_init__(self) -> None:
        for name in ("hidden_sizes", "action_std"):
            if getattr(self.maml, name) != getattr(MamlConfig, name):
                raise ValueError(f"maml.{name} has no effect: the policy is that of mbml")


class MamlMbml:
    Config = MamlMbmlConfig

    def __init__(self, spec: EnvSpec, config: MamlMbmlConfig, seed: int, device: torch.device) -> None:
        self.spec, self.config, self.device = spec, config, device
        self.mbml = Mbml(spec, config.mbml, seed, device)
        policy_spec = widened(self.mbml.spec, config.mbml.context_dim)
        maml = replace(
            config.maml, hidden_sizes=config.mbml.hidden_sizes, action_std=config.mbml.initial_action_std
        )
        self.maml = _RealThenImagined(policy_spec, maml, config, self.mbml, seed, device)
        self.maml.theta |= self.mbml.policy  # stage 3 continues with the policy of stage 1
        self.log_model_lr = {
            key: torch.full_like(value, math.log(config.model_inner_lr)).requires_grad_()
            for key, value in self.mbml.model.items()
            if not key.startswith("encoder_")
        }

    # -- what the harness calls ---------------------------------------------------------------------------------

    def meta_train(self, training: Training) -> None:
        try:
            self.mbml.learn(training)
            self._learn_to_adapt_the_model(training)
            self._learn_to_adapt_the_policy(training)
        finally:  # the budget may be spent at any step
            self.mbml.finish()

    def initial_state(self, num_tasks: int) -> State:
        policy = self.maml.initial_state(num_tasks)
        rounds = torch.zeros(num_tasks, dtype=torch.int64, device=self.device)
        return self.mbml.initial_state(num_tasks) | {"policy": policy, "stepped": policy, "rounds": rounds}

    def start_episode(self, state: State, num_envs: int) -> Memory:
        return self.mbml.start_episode(state, num_envs)

    def act(
        self, state: State, memory: Memory, step: TimeStep, explore: bool, rng: Generator
    ) -> tuple[Tensor, Memory]:
        obs, memory = observe(step, memory)
        observed = step._replace(obs=_with_context(obs, state["z"]))
        return self.maml.act(state["policy"], (), observed, explore, rng)[0], memory

    def adapt(self, state: State, memory: Memory, rollout: Rollout, rng: Generator) -> State:
        rollout = self.mbml.observed(rollout)
        return self._adapted(state, rollout, self._batch(state, rollout), rng)[0]

    def state_dict(self) -> dict[str, Tensor]:
        shared = [f"theta.{key}" for key in self.mbml.policy]
        maml = {key: x for key, x in self.maml.state_dict().items() if key not in shared}
        parts = {"mbml": self.mbml.state_dict(), "maml": maml, "log_model_lr": self.log_model_lr}
        return {f"{part}.{key}": x.detach() for part, tensors in parts.items() for key, x in tensors.items()}

    def load_state_dict(self, tensors: Mapping[str, Tensor]) -> None:
        def part(name: str) -> dict[str, Tensor]:
            return {key.removeprefix(name): x for key, x in tensors.items() if key.startswith(name)}

        self.mbml.load_state_dict(part("mbml."))
        shared = {f"theta.{key}": x for key, x in part("mbml.policy.").items()}
        self.maml.load_state_dict(part("maml.") | shared)
        for key, rate in part("log_model_lr.").items():
            self.log_model_lr[key].data.copy_(rate)

    # -- adaptation ---------------------------------------------------------------------------------------------

    def _collect(self, tasks: Tasks, state: State) -> Rollout:
        memory = self.start_episode(state, self.config.maml.episodes_per_task)
        return self.mbml.observed(tasks.collect(self.act, state, memory)[0])

    def _batch(self, state: State, rollout: Rollout) -> Batch:
        """The data of MAML's losses, from episodes played in `state`."""
        return self.maml.batch(state["policy"], replace(rollout, obs=_with_context(rollout.obs, state["z"])))

    @torch.no_grad()
    def _adapted(self, state: State, rollout: Rollout, batch: Batch, rng: Generator) -> tuple[State, Weights]:
        """The state after a round of B tasks' episodes, and the imagined update of their policies at weight 1."""
        buffer = add_to_buffer(state["buffer"], rollout)
        z = infer_context(self.mbml.model, self.mbml.scales, *everything(buffer))
        sample = sample_by_task(
            buffer, torch.arange(len(z), device=self.device), self.config.model_inner_batch_size, rng
        )
        valid = (stored(buffer) > 0).to(z.dtype)[:, None].expand_as(sample["reward"])
        model = self._adapted_model(sample, valid, z)
        real = (state["rounds"] < self.config.maml.inner_steps)[:, None, None]
        stepped = {
            key: torch.where(real, value, state["stepped"][key])
            for key, value in self.maml.real_step(state["policy"], batch).items()
        }
        stepped["log_std"] = torch.full_like(stepped["log_std"], self.maml.later_log_std)
        imagined = self.mbml.improved(stepped, model, z, rng)
        added = {key: imagined[key] - value for key, value in stepped.items()}
        after = {"buffer": buffer, "z": z, "model": model, "stepped": stepped, "rounds": state["rounds"] + 1}
        return after | {"policy": self.maml.with_imagined_update(stepped, added)}, added

    def _adapted_model(self, transitions: dict[str, Tensor], mask: Tensor, z: Tensor) -> Weights:
        """The world models of B tasks after gradient steps on their transitions (B, N, .)."""
        rates = {key: rate.exp() for key, rate in self.log_model_lr.items()}

        def adapted(one: dict[str, Tensor], its_mask: Tensor, its_z: Tensor) -> Weights:
            return adapt_model(
                self.mbml.model, rates, self.mbml.scales, one, its_mask, its_z, self.config.model_inner_steps
            )

        heads: Weights = vmap(adapted)(transitions, mask, z)
        return heads

    # -- stage 2 ------------------------------------------------------------------------------------------------

    def _learn_to_adapt_the_model(self, training: Training) -> None:
        """Minimises the error of adapted models on held-out transitions of their tasks. The encoder is fixed."""
        config, mbml = self.config, self.mbml
        heads = [mbml.model[key] for key in self.log_model_lr]
        if config.model_inner_steps == 0 or not len(mbml.replay):
            return
        adam = torch.optim.Adam(
            [
                {"params": heads, "lr": config.model_lr},
                {"params": self.log_model_lr.values(), "lr": 30 * config.model_lr},
            ]
        )
        for _ in range(config.model_iterations):
            tasks = mbml.replay.draw_tasks(config.mbml.model_tasks, mbml.rng)
            before, after = self._adaptation_errors(mbml.replay.buffer, tasks)
            loss = before["loss"].mean() + after["loss"].mean()
            descend(adam, loss, config.mbml.max_grad_norm, clipped=heads)
        training.log(
            {
                "losses/model_before_adaptation": before["loss"].mean().detach(),
                "losses/model_after_adaptation": after["loss"].mean().detach(),
            }
        )

    def _adaptation_errors(self, buffer: Buffer, tasks: Tensor) -> tuple[Weights, Weights]:
        """Errors (T, M, N) of the shared model and of adapted ones, on transitions of tasks (T,), given a context."""
        mbml, samples = self.mbml, self.config.mbml.model_samples
        context, mask = sample_contexts(
            buffer, tasks, self.config.model_inner_batch_size, self.config.mbml.first_episode_prob, mbml.rng
        )
        with torch.no_grad():
            z = infer_context(mbml.model, mbml.scales, context, mask)
        batch = sample_by_task(buffer, tasks, samples, mbml.rng)
        return (
            self._errors(mbml.model, batch, z),
            self._errors(self._adapted_model(context, mask, z), batch, z),
        )

    # -- stage 3 ------------------------------------------------------------------------------------------------

    def _learn_to_adapt_the_policy(self, training: Training) -> None:
        """MAML's outer steps, on real episodes before and after the whole adaptation."""
        maml, optimiser = self.config.maml, self.maml.optimiser()
        budget = training.left
        while training.left > 0:
            self.maml.set_rates(optimiser, training.left / budget)
            tasks = training.tasks(maml.meta_batch_size, maml.episodes_per_task)
            state, before = self.initial_state(maml.meta_batch_size), []
            for _ in range(max(maml.inner_steps, 1)):
                rollout = self._collect(tasks, state)
                batch = self._batch(state, rollout)
                state, added = self._adapted(state, rollout, batch, self.mbml.rng)
                before.append(batch | {f"added_{key}": value for key, value in added.items()})
            rollout = self._collect(tasks, state)
            if nothing_valid(rollout.mask):
                continue
            losses = self.maml.outer_step(before, self._batch(state, rollout), state["policy"], optimiser)
            weight = torch.stack([x.detach().exp() for x in self.maml.log_imagination_weight.values()]).mean()
            training.log(losses | {"losses/imagination_weight": weight} | self._model_errors(state, rollout))

    def _errors(self, model: Weights, batch: dict[str, Tensor], z: Tensor) -> Weights:
        """Prediction errors of each member on transitions (T, N, .) of each task, (T, M, N)."""
        members = self.config.mbml.ensemble_size
        rows = {key: x[:, None].expand(-1, members, *x.shape[1:]) for key, x in batch.items()}
        context = z[:, None, None].expand(-1, members, batch["reward"].shape[1], -1)
        return model_errors(model, self.mbml.scales, rows, context)

    @torch.no_grad()
    def _model_errors(self, state: State, rollout: Rollout) -> dict[str, Tensor]:
        """Errors of the shared and the adapted models on episodes of new tasks that they did not adapt to."""
        batch, mask = transitions_of(rollout)
        models = {"": self.mbml.model, "_adapted": state["model"]}
        errors = {name: self._errors(model, batch, state["z"]) for name, model in models.items()}
        return {
            f"model/held_out_{kind}{name}": masked_mean(error[kind].mean(1), mask)
            for name, error in errors.items()
            for kind in ("dynamics", "reward")
        }


class _RealThenImagined(Maml):
    """MAML whose inner step ends with the imagined update, and sets the action std of later episodes.

    The critic is the baseline of its advantages: one fitted to a single episode explains half of the return away.
    """

    def __init__(
        self,
        spec: EnvSpec,
        maml: MamlConfig,
        config: MamlMbmlConfig,
        mbml: Mbml,
        seed: int,
        device: torch.device,
    ) -> None:
        super().__init__(spec, maml, seed, device)
        self.mbml, self.later_log_std, self.imagination_weight_lr = (
            mbml,
            math.log(config.mbml.action_std),
            config.imagination_weight_lr,
        )
        self.log_imagination_weight = {
            key: torch.full((), math.log(config.imagination_weight), device=device).requires_grad_()
            for key in mbml.policy
        }

    def optimiser(self) -> torch.optim.Optimizer:
        optimiser = super().optimiser()
        weight = {
            "params": list(self.log_imagination_weight.values()),
            "lr": self.imagination_weight_lr,
            "initial_lr": self.imagination_weight_lr,
        }
        optimiser.add_param_group(weight)
        return optimiser

    def values(self, rollout: Rollout) -> Tensor:
        parts = [self.mbml.spec.obs_dim, self.mbml.config.context_dim]
        return self.mbml.values(*rollout.obs.split(parts, -1))

    def real_step(self, policy: Weights, batch: Batch) -> Weights:
        """The policies of B tasks after a step on real data alone."""
        return self._adapt(policy, batch | {f"added_{key}": torch.zeros_like(policy[key]) for key in policy})

    def inner_step(self, weights: Weights, lr: Weights, batch: Batch) -> Weights:
        stepped = super().inner_step(weights, lr, batch) if self.config.inner_steps else dict(weights)
        stepped["log_std"] = torch.full_like(stepped["log_std"], self.later_log_std)
        return self.with_imagined_update(
            stepped, {key: batch[f"added_{key}"] for key in self.log_imagination_weight}
        )

    def with_imagined_update(self, policy: Weights, added: Weights) -> Weights:
        """The policy plus the imagined update, times the learned weight beta of each layer."""
        return policy | {
            key: policy[key] + weight.exp() * added[key]
            for key, weight in self.log_imagination_weight.items()
        }

    def state_dict(self) -> dict[str, Tensor]:
        return super().state_dict() | {
            f"log_imagination_weight.{key}": x.detach() for key, x in self.log_imagination_weight.items()
        }

    def load_state_dict(self, tensors: Mapping[str, Tensor]) -> None:
        super().load_state_dict(tensors)
        for key, weight in self.log_imagination_weight.items():
            weight.data.copy_(tensors[f"log_imagination_weight.{key}"])


def _with_context(obs: Tensor, z: Tensor) -> Tensor:
    """Observations (B, ..., O) with the context (B, C) of their task: (B, ..., O + C)."""
    return torch.cat([obs, z.view(len(z), *[1] * (obs.ndim - 2), -1).expand(*obs.shape[:-1], -1)], -1)

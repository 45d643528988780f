"""Model-based meta-learning: a world model with a task context, and a policy that is trained inside it.

    meta-training, in rounds:
        gather   play new tasks: first with z = 0, then with the z of the episodes so far
        model    fit dynamics, reward and termination given z, and through them the encoder of z
        policy   raise the imagined return of pi(s, z) from replayed states, over the contexts of replayed tasks
    test:
        adapt    store the episodes, infer z from all of them, and raise the imagined return of this task further

The encoder is PEARL's mean over a set (Rakelly et al. 2019), trained on prediction as in CaDM (Lee et al. 2020);
the policy's gradient is Dreamer's (Hafner et al. 2020).
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Generator, Tensor
from torch.nn.functional import silu

from mrl_agents.action_history import no_history, observe, with_history, with_history_spec
from mrl_agents.bounds import ActionStd, Count, Lengths, Part, Positive, Rate, Share, Steps, Weight, Widths
from mrl_agents.gradients import descend, descend_each
from mrl_agents.imagination import ImaginedRollout, imagine, lambda_returns, survival_probability
from mrl_agents.networks import Weights, expand, frozen, init_mlp, mlp, obs_scaler
from mrl_agents.replay import (
    Replay,
    add_to_buffer,
    empty_buffer,
    everything,
    sample_by_task,
    sample_contexts,
    sample_uniformly,
)
from mrl_agents.world_model import fit_scales, infer_context, init_world_model, model_errors, unit_scales
from mrl_bench.agent import Training
from mrl_bench.types import EnvSpec, Memory, Rollout, State, TimeStep

# Limits of the observations that a saved agent keeps to begin imagined rollouts with: rows, and numbers (256 KB).
_MAX_START_OBS, _MAX_START_OBS_NUMBERS = 4096, 2**16


@dataclass(frozen=True)
class MbmlConfig:
    env_steps: Count = 80_000  # largest number of env steps of meta-training, within the scenario's budget
    rounds: Count = 6  # rounds of gathering and learning; they only learn once env_steps are used up
    meta_batch_size: Count = 60  # new tasks in a round
    episodes_per_task: Count = 3  # episodes of each new task; the first has no context yet
    initial_action_std: ActionStd = 0.75  # standard deviation of the actions in a task's first episode
    action_std: ActionStd = 0.3  # standard deviation of the actions in later and in imagined episodes
    action_history: Steps = 0  # last actions that model, policy and critic observe beside the state
    buffer_size: Count = 2000  # transitions of a task that an adapting agent keeps
    ensemble_size: Count = 1  # members of the ensemble; must divide model_samples and imagined_rollouts
    model_hidden_size: Count = 128  # width of the hidden layers of the dynamics and outcome networks
    context_dim: Count = 8  # size of the context z
    encoder_hidden_size: Count = 96  # width of the hidden layers of the context encoder
    context_lengths: Lengths = (8, 16, 32, 64, 128)  # numbers of transitions that z is inferred from
    first_episode_prob: Share = 0.6  # share of training contexts that come from a task's first episode
    model_iterations: Count = 500  # gradient steps of the model in a round; the first round has twice as many
    model_tasks: Count = 24  # tasks in a batch of the model
    model_samples: Count = 64  # transitions of each task in a batch of the model
    model_lr: Rate = 2e-3  # learning rate of the model's Adam; it falls linearly, to a tenth
    hidden_sizes: Widths = (64, 64)  # widths of the hidden layers of policy and critic
    policy_iterations: Steps = 200  # gradient steps of the policy in a round
    policy_tasks: Count = 64  # tasks in a batch of imagined rollouts
    imagined_rollouts: Count = 4  # imagined rollouts of each task in a batch
    zero_context_prob: Share = 0.2  # share of these tasks in which the policy sees z = 0, as on a new task
    imagination_horizon: Count = 16  # steps of an imagined rollout
    gamma: Share = 0.99  # discount factor of one control step
    return_lambda: Share = 0.95  # lambda of the imagined returns
    action_bound_penalty: Weight = 0.1  # weight of the squared distance of chosen actions beyond their bounds
    policy_lr: Rate = 1e-3  # learning rate of the policy's Adam; it falls linearly, to 0.3 of this
    critic_lr: Rate = 2e-3  # learning rate of the critic's Adam
    critic_updates: Count = 2  # gradient steps of the critic per policy update
    tau: Part = 0.1  # share of the way that the target critic moves to the critic after each policy update
    max_grad_norm: Positive = 1.0  # largest norm of a gradient of model or policy; longer ones are clipped
    adapt_updates: Steps = 0  # imagined policy updates on a new task after each adaptation round
    adapt_imagined_rollouts: Count = 64  # imagined rollouts in such an update; divisible by ensemble_size
    adapt_lr: Rate = 1e-3  # learning rate of Adam in these updates

    def __post_init__(self) -> None:
        for name in ("model_samples", "imagined_rollouts", "adapt_imagined_rollouts"):
            if getattr(self, name) % self.ensemble_size:
                raise ValueError(f"ensemble_size must divide {name}, which is {getattr(self, name)}")


class Mbml:
    Config = MbmlConfig

    def __init__(self, spec: EnvSpec, config: MbmlConfig, seed: int, device: torch.device) -> None:
        spec = with_history_spec(spec, config.action_history)
        self.spec, self.config, self.device = spec, config, device
        rng = torch.Generator().manual_seed(seed)
        C, inputs = config.context_dim, spec.obs_dim + config.context_dim
        model = init_world_model(
            spec, config.ensemble_size, config.model_hidden_size, config.encoder_hidden_size, C, rng
        )
        policy = init_mlp([inputs, *config.hidden_sizes, spec.act_dim], rng, last_gain=0.01)
        critic = init_mlp([inputs, *config.hidden_sizes, 1], rng, last_gain=0.1)
        self.model, self.policy, self.critic = (
            {key: value.to(device).requires_grad_() for key, value in weights.items()}
            for weights in (model, policy, critic)
        )
        self.target_critic = {key: value.detach().clone() for key, value in self.critic.items()}
        self.scales = unit_scales(spec, device)
        self.scaled = obs_scaler(spec, device)
        capacity = max(2, config.episodes_per_task) * spec.horizon  # the first round plays two episodes
        self.replay = Replay(config.rounds * config.meta_batch_size, capacity, spec, device)
        self.rng = torch.Generator(device).manual_seed(seed)
        self.host_rng = random.Random(seed)
        self.seed, self.meta_training = seed, False  # True between `learn` and `finish`
        self.start_obs = torch.zeros(0, spec.obs_dim, device=device)

    # -- what the harness calls ---------------------------------------------------------------------------------

    def meta_train(self, training: Training) -> None:
        try:
            self.learn(training)
        finally:  # the budget may be spent at any step
            self.finish()

    def learn(self, training: Training) -> None:
        """All of meta-training but `finish`."""
        self.meta_training, config = True, self.config
        model_adam = torch.optim.Adam(self.model.values(), lr=config.model_lr)
        policy_adam = torch.optim.Adam(self.policy.values(), lr=config.policy_lr)
        critic_adam = torch.optim.Adam(self.critic.values(), lr=config.critic_lr)
        for number in range(config.rounds):
            progress = number / config.rounds
            model_adam.param_groups[0]["lr"] = config.model_lr * (1 - 0.9 * progress)
            policy_adam.param_groups[0]["lr"] = config.policy_lr * (1 - 0.7 * progress)
            losses = self._gather(training)
            if not len(self.replay):  # all that was played failed at once
                continue
            self.scales = fit_scales(self.replay.buffer)
            for _ in range(config.model_iterations * (2 if number == 0 else 1)):
                losses |= self._improve_model(model_adam)
            for _ in range(config.policy_iterations):
                losses |= self._improve_policy(policy_adam, critic_adam)
            training.log(losses)

    def finish(self) -> None:
        """Ends meta-training: keeps a sample of the replayed observations, for adaptation to new tasks."""
        self.start_obs, self.meta_training = self._sampled_start_obs(), False

    def initial_state(self, num_tasks: int) -> State:
        return {
            "buffer": empty_buffer(num_tasks, self.config.buffer_size, self.spec, self.device),
            "z": torch.zeros(num_tasks, self.config.context_dim, device=self.device),
            "policy": expand(frozen(self.policy), num_tasks),
        }

    def start_episode(self, state: State, num_envs: int) -> Memory:
        return no_history(self.spec, len(state["z"]), num_envs, self.config.action_history, self.device)

    def act(
        self, state: State, memory: Memory, step: TimeStep, explore: bool, rng: Generator
    ) -> tuple[Tensor, Memory]:
        obs, memory = observe(step, memory)
        mean = self._mean(state["policy"], obs, state["z"][:, None].expand(-1, obs.shape[1], -1))
        if not explore:
            return mean, memory
        known = (state["buffer"]["written"] > 0)[:, None, None]
        std = torch.where(known, self.config.action_std, self.config.initial_action_std)
        return mean + std * torch.randn(mean.shape, generator=rng, device=mean.device), memory

    @torch.no_grad()
    def adapt(self, state: State, memory: Memory, rollout: Rollout, rng: Generator) -> State:
        buffer = add_to_buffer(state["buffer"], self.observed(rollout))
        z = infer_context(self.model, self.scales, *everything(buffer))
        policy = self.improved(state["policy"], self.model, z, rng)
        return {"buffer": buffer, "z": z, "policy": policy}

    def state_dict(self) -> dict[str, Tensor]:
        """What adaptation needs: networks, scales and start observations, but no replay buffer."""
        parts = {**self._networks(), "scales": self.scales}
        tensors = {f"{part}.{key}": x.detach() for part, ours in parts.items() for key, x in ours.items()}
        return tensors | {"start_obs": self._sampled_start_obs() if self.meta_training else self.start_obs}

    def load_state_dict(self, tensors: Mapping[str, Tensor]) -> None:
        for part, weights in self._networks().items():
            for key, value in weights.items():
                value.data.copy_(tensors[f"{part}.{key}"])
        self.scales = {key: tensors[f"scales.{key}"].clone() for key in self.scales}
        self.start_obs = tensors["start_obs"].clone()

    def _networks(self) -> dict[str, Weights]:
        return {key: getattr(self, key) for key in ("model", "policy", "critic", "target_critic")}

    def _sampled_start_obs(self) -> Tensor:
        """A sample of replayed observations, (S, O), where S is 0 if there are none.

        Its generator is used nowhere else, so that taking a sample does not change what training computes.
        """
        rng = torch.Generator(self.device).manual_seed(self.seed)
        count = min(_MAX_START_OBS, _MAX_START_OBS_NUMBERS // self.spec.obs_dim) if len(self.replay) else 0
        return sample_uniformly(self.replay.buffer, count, rng)["obs"]

    def _draw_start_obs(self, count: int, rng: Generator) -> Tensor:
        """Observations (count, O) that imagined rollouts of an adapting task begin with."""
        if self.meta_training:
            return sample_uniformly(self.replay.buffer, count, rng)["obs"]
        drawn = torch.randint(len(self.start_obs), (count,), generator=rng, device=self.device)
        return self.start_obs[drawn]

    def observed(self, rollout: Rollout) -> Rollout:
        """The rollout with what model, policy and critic observe."""
        return with_history(rollout, self.config.action_history)

    # -- experience ---------------------------------------------------------------------------------------------

    def _gather(self, training: Training) -> dict[str, Tensor]:
        """Plays as many new tasks as the env steps allow; returns the model's errors on them before it learns, to log.

        Before there are data there is no policy: each task is played for two episodes with z = 0, and no later ones.
        """
        config, blank = self.config, not len(self.replay)
        first, later = (2, 0) if blank else (1, config.episodes_per_task - 1)
        left = min(training.left, config.env_steps - training.steps)
        count = min(config.meta_batch_size, left // ((first + later) * self.spec.horizon))
        count = max(count, int(blank))  # at first the model needs some data
        if count <= 0:
            return {}
        played, state = training.tasks(count, first), self.initial_state(count)
        for number in range(1 + later):
            rollout, memory = played.collect(self.act, state, self.start_episode(state, first))
            if number == 0:  # no sooner: the budget may be spent in the first collection
                known = self.replay.new_tasks(count)
            self.replay.add(known, self.observed(rollout))
            state = self.adapt(state, memory, rollout, self.rng)
        known = self.replay.with_data(known)
        return self._held_out_errors(known) if len(known) and not blank else {}

    # -- world model --------------------------------------------------------------------------------------------

    @torch.no_grad()
    def _held_out_errors(self, tasks: Tensor) -> dict[str, Tensor]:
        """Prediction errors on tasks (T,) that the model has not learned from, given their first episode."""
        errors = self._errors(tasks, max(self.config.context_lengths), first_episode_prob=1.0)
        return {f"model/held_out_{key}": errors[key] for key in ("dynamics", "reward", "termination")}

    def _improve_model(self, adam: torch.optim.Optimizer) -> dict[str, Tensor]:
        """One gradient step on prediction errors; the gradient also reaches the encoder, through the context."""
        tasks = self.replay.draw_tasks(self.config.model_tasks, self.rng)
        length = self.host_rng.choice(self.config.context_lengths)
        errors = self._errors(tasks, length, self.config.first_episode_prob)
        descend(adam, errors["loss"], self.config.max_grad_norm)
        return {f"losses/model_{key}": value.detach() for key, value in errors.items()}

    def _errors(self, tasks: Tensor, length: int, first_episode_prob: float) -> dict[str, Tensor]:
        """Mean prediction errors on transitions of tasks (T,), given contexts of a length from the same tasks."""
        samples = self.config.model_samples
        z = self._contexts(tasks, length, first_episode_prob)[:, None].expand(-1, samples, -1)  # (T, N, C)
        batch = sample_by_task(self.replay.buffer, tasks, samples, self.rng)
        rows = {key: self._split_among_members(value) for key, value in batch.items()}
        errors = model_errors(self.model, self.scales, rows, self._split_among_members(z))
        return {key: value.mean() for key, value in errors.items()}

    def _contexts(self, tasks: Tensor, length: int, first_episode_prob: float) -> Tensor:
        """Contexts of consecutive replayed transitions of each task: (T,) -> (T, C)."""
        batch, mask = sample_contexts(self.replay.buffer, tasks, length, first_episode_prob, self.rng)
        return infer_context(self.model, self.scales, batch, mask)

    def _split_among_members(self, x: Tensor) -> Tensor:
        """Splits the N samples of each task evenly among the members: (T, N, ...) -> rows (M, T * N / M, ...)."""
        shares = x.view(len(x), self.config.ensemble_size, -1, *x.shape[2:])
        return shares.transpose(0, 1).flatten(1, 2)

    # -- policy -------------------------------------------------------------------------------------------------

    def _improve_policy(
        self, policy_adam: torch.optim.Optimizer, critic_adam: torch.optim.Optimizer
    ) -> dict[str, Tensor]:
        """One policy step up the imagined return, over contexts of replayed tasks, and then critic steps."""
        config, length = self.config, self.host_rng.choice(self.config.context_lengths)
        tasks = self.replay.draw_tasks(config.policy_tasks, self.rng)
        with torch.no_grad():
            z = self._contexts(tasks, length, config.first_episode_prob)
            blind = torch.rand(len(z), 1, generator=self.rng, device=self.device) < config.zero_context_prob
            z, observed = (  # rows (M, N, C): context of the model; context that policy and critic observe
                self._split_among_members(x[:, None].expand(-1, config.imagined_rollouts, -1))
                for x in (z, torch.where(blind, 0.0, z))
            )
            start = sample_uniformly(self.replay.buffer, z.shape[:-1].numel(), self.rng)["obs"]
        imagined, returns = self.imagine(
            self.policy, self.model, start.view(*z.shape[:-1], -1), z, observed, self.rng
        )
        weight = survival_probability(imagined.continues)
        policy_loss = (self._policy_losses(imagined, returns) * weight).mean()
        descend(policy_adam, policy_loss, config.max_grad_norm)

        observed = observed[:, None].expand(-1, config.imagination_horizon, -1, -1)  # (M, H, N, C)
        obs, target = imagined.obs[:, :-1].detach(), returns.detach() / self._value_unit()
        for _ in range(config.critic_updates):
            error = self._value(self.critic, obs, observed) - target
            critic_loss = (error**2 * weight).mean()
            descend(critic_adam, critic_loss)
        with torch.no_grad():
            for key, weights in self.target_critic.items():
                weights.lerp_(self.critic[key], config.tau)
        return {
            "losses/imagined_return": returns[:, 0].mean().detach(),
            "losses/policy_loss": policy_loss.detach(),
            "losses/critic_loss": critic_loss.detach(),
        }

    @torch.enable_grad()
    def improved(self, policy: Weights, model: Weights, z: Tensor, rng: Generator) -> Weights:
        """The policies of B tasks after `adapt_updates` gradient steps up each task's imagined return.

        Imagined rollouts begin with observations of all meta-training tasks: one short episode of the task itself
        covers too few. On cartpole-target the return after one episode is 141 with those, and 162 with all.

        Args:
            policy: leads with B.
            model: shared by the tasks, or with leading B in the weights of dynamics and outcome.
            z: contexts (B, C).
            rng: draws start observations and noise.
        """
        config, members = self.config, self.config.ensemble_size
        policy = {key: weights.detach().clone().requires_grad_() for key, weights in policy.items()}
        adam = torch.optim.Adam(policy.values(), lr=config.adapt_lr)  # elementwise, so each task has its own
        rollouts = config.adapt_imagined_rollouts // members
        observed = z[:, None, None].expand(-1, members, rollouts, -1)  # (B, M, N, C)
        trained = len(self.replay) if self.meta_training else len(self.start_obs)
        for _ in range(config.adapt_updates if trained else 0):  # an untrained model improves nothing
            start = self._draw_start_obs(observed.shape[:3].numel(), rng)
            own = {key: weights[:, None] for key, weights in policy.items()}  # the same for all members
            imagined, returns = self.imagine(
                own, model, start.view(*observed.shape[:3], -1), observed, observed, rng
            )
            losses = self._policy_losses(imagined, returns) * survival_probability(imagined.continues)
            descend_each(adam, losses.mean((1, 2, 3)))
        return frozen(policy)

    def imagine(
        self, policy: Weights, model: Weights, start: Tensor, z: Tensor, observed: Tensor, rng: Generator
    ) -> tuple[ImaginedRollout, Tensor]:
        """Rolls a policy out in the model, in the tasks that z stands for.

        Args:
            policy: its gradient is that of the returns.
            model: of the world; gets no gradient.
            start: (..., M, N, O).
            z: (..., M, N, C) context that the model is given.
            observed: (..., M, N, C) context that policy and critic observe.
            rng: of the noise.

        Returns:
            The imagined rollouts, and the lambda returns from each of their steps, (..., M, H, N).
        """
        config, spec = self.config, self.spec

        def actor(obs: Tensor, noise: Tensor) -> Tensor:
            return self._mean(policy, obs, observed) + config.action_std * noise

        shape = (*z.shape[:-2], config.imagination_horizon, z.shape[-2], spec.act_dim + spec.obs_dim)
        noise = torch.randn(shape, generator=rng, device=self.device)
        imagined = imagine(frozen(model), self.scales, actor, start, z, noise)
        observed = observed.unsqueeze(-3).expand(*imagined.obs.shape[:-1], -1)  # (..., M, H + 1, N, C)
        value = self.values(imagined.obs, observed)
        return imagined, lambda_returns(
            imagined.reward, imagined.continues, value, config.gamma, config.return_lambda
        )

    def _policy_losses(self, imagined: ImaginedRollout, returns: Tensor) -> Tensor:
        """Losses of a policy, (..., M, H, N): minus its returns in value units, plus the action-bound penalty.

        Without the penalty, actions drift far beyond their bounds, where noise changes nothing and gradients are
        small. On cheetah-dir the return was -28 without it and 122 with it (80,000 steps, seed 1, action_std 0.6).
        """
        return self.config.action_bound_penalty * imagined.excess - returns / self._value_unit()

    def _mean(self, policy: Weights, obs: Tensor, z: Tensor) -> Tensor:
        """Of the actions: (..., O) and (..., C) -> (..., A)."""
        return mlp(policy, torch.cat([self.scaled(obs), z], -1))

    def values(self, obs: Tensor, z: Tensor) -> Tensor:
        """Values by the target critic of a policy that observes z: (..., O) and (..., C) -> (...).

        They are clamped to what the rewards seen so far can add up to. A bootstrapped critic may diverge otherwise: on
        cheetah-vel, where rewards are negative, it expected a return of 192 from a robot that stood still.
        """
        steps = 1.0 / max(1.0 - self.config.gamma, 1.0 / self.spec.horizon)
        low = steps * self.scales["reward_low"].clamp(max=0)
        high = steps * self.scales["reward_high"].clamp(min=0)
        guess = self._value_unit() * self._value(self.target_critic, obs, z)
        return torch.minimum(torch.maximum(guess, low), high)

    def _value(self, critic: Weights, obs: Tensor, z: Tensor) -> Tensor:
        """(..., O) and (..., C) -> (...), in value units."""
        return mlp(critic, torch.cat([self.scaled(obs), z], -1), activation=silu).squeeze(-1)

    def _value_unit(self) -> Tensor:
        """Typical size of an imagined rollout's return; values are learned in this unit."""
        typical: Tensor = (self.scales["reward_mean"] ** 2 + self.scales["reward_std"] ** 2).sqrt()
        return self.config.imagination_horizon * typical

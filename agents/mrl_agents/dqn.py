"""Deep Q-learning that continues on each new task (Mnih et al. 2015): the plain-RL baseline.

    Q(s, a) = mean over components d of q_d(s, a_d)            each a_d is one of action_bins values in [-1, 1]
    target  = r / U + gamma (1 - terminated) max_a Q'(s', a)   Q' follows Q slowly
    Q      <- Adam step down the Huber loss of Q(s, a) - target, on replayed transitions

A network with one head for each component of the action (Tavakoli et al. 2018) is an additive Q-function (Seyde et
al. 2023): the best of bins^A actions takes the best bin of each component. Values are in units of U, the discounted
return of a full episode with reward 1 per step, so the initial network is near their size.

A learner is a state of B tasks. In meta-training B is 1: all training tasks share one buffer and are not told apart.
In adaptation each task has a copy of that learner with an empty buffer, and continues to learn.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Generator, Tensor
from torch.nn.functional import huber_loss

from mrl_agents.adam import adam_step, zero_moments
from mrl_agents.bounds import Bins, Count, Part, Rate, Share, Steps, Widths
from mrl_agents.gradients import finite_by_task
from mrl_agents.networks import Weights, init_mlp, mlp, obs_scaler
from mrl_agents.replay import Transitions, add_to_buffer, empty_buffer, sample_by_task, stored
from mrl_bench.agent import Training
from mrl_bench.types import EnvSpec, Memory, Rollout, State, TimeStep


@dataclass(frozen=True)
class DqnConfig:
    hidden_sizes: Widths = (64, 64)  # widths of the network's hidden layers
    action_bins: Bins = 3  # values that each component of the action can take, evenly from -1 to 1
    meta_batch_size: Count = 16  # tasks in a round of meta-training
    episodes_per_task: Count = 1  # episodes of each task in a round
    update_every: Count = 10  # env steps of meta-training per gradient step
    buffer_size: Count = 100_000  # transitions that the replay buffer of meta-training holds
    adapt_updates: Steps = 100  # gradient steps after each adaptation round on a new task
    adapt_buffer_size: Count = 2000  # transitions that the replay buffer of a new task holds
    batch_size: Count = 64  # transitions in a gradient step
    learning_rate: Rate = 1e-3  # learning rate of Adam; in meta-training it falls linearly, to 5 %
    gamma: Share = 0.99  # discount factor of one control step
    # share of the way that the target network moves to the network after each gradient step
    tau: Part = 0.01
    epsilon: Share = 0.05  # final share of random actions; the initial share is 1
    epsilon_steps: Count = 5_000  # env steps over which the share of random actions falls
    from_scratch: bool = False  # whether to skip meta-training, so that each task is learned from scratch


class Dqn:
    Config = DqnConfig

    def __init__(self, spec: EnvSpec, config: DqnConfig, seed: int, device: torch.device) -> None:
        self.spec, self.config, self.device = spec, config, device
        rng = torch.Generator().manual_seed(seed)
        layers = [spec.obs_dim, *config.hidden_sizes, spec.act_dim * config.action_bins]
        weights = {key: x[None].to(device) for key, x in init_mlp(layers, rng, last_gain=0.1).items()}
        self.learner: dict[str, Weights] = {  # a learner of B = 1, without its buffer
            "weights": weights,
            "target": {key: x.clone() for key, x in weights.items()},
            "moments": zero_moments(weights),
            "counts": {
                key: torch.zeros(1, dtype=torch.int64, device=device) for key in ("updates", "env_steps")
            },
        }
        self.unit = sum(config.gamma**t for t in range(spec.horizon))
        self.bin_values = torch.linspace(-1.0, 1.0, config.action_bins, device=device)
        self.scaled = obs_scaler(spec, device)
        self.rng = torch.Generator(device).manual_seed(seed)

    # -- what the harness calls ---------------------------------------------------------------------------------

    def meta_train(self, training: Training) -> None:
        config = self.config
        if config.from_scratch:
            return
        buffer, updated = empty_buffer(1, config.buffer_size, self.spec, self.device), 0
        while training.left > 0:
            tasks = training.tasks(config.meta_batch_size, config.episodes_per_task)
            rollout, _ = tasks.collect(self.act, self._copies(config.meta_batch_size))
            state = self._with_rollout(self.learner | {"buffer": buffer}, _as_one_task(rollout))
            rate = config.learning_rate * max(training.left / training.budget, 0.05)
            updates = training.steps // config.update_every - updated
            updated += updates
            state, loss = self._updated(state, updates, rate, self.rng)
            buffer = state.pop("buffer")
            self.learner = state
            training.log({"charts/epsilon": self._epsilon(state).mean(), "losses/q_loss": loss.mean()})

    def initial_state(self, num_tasks: int) -> State:
        buffer = empty_buffer(num_tasks, self.config.adapt_buffer_size, self.spec, self.device)
        return self._copies(num_tasks) | {"buffer": buffer}

    def start_episode(self, state: State, num_envs: int) -> Memory:
        return ()

    def act(
        self, state: State, memory: Memory, step: TimeStep, explore: bool, rng: Generator
    ) -> tuple[Tensor, Memory]:
        level = self._q(state["weights"], step.obs).argmax(-1)  # (B, E, A)
        if explore:
            drawn = torch.randint(self.config.action_bins, level.shape, generator=rng, device=level.device)
            chance = torch.rand(*level.shape[:-1], 1, generator=rng, device=level.device)
            level = torch.where(chance < self._epsilon(state)[:, None, None], drawn, level)
        return self.bin_values[level], memory

    def adapt(self, state: State, memory: Memory, rollout: Rollout, rng: Generator) -> State:
        config = self.config
        return self._updated(
            self._with_rollout(state, rollout), config.adapt_updates, config.learning_rate, rng
        )[0]

    def state_dict(self) -> dict[str, Tensor]:
        return {f"{part}.{key}": x for part, tensors in self.learner.items() for key, x in tensors.items()}

    def load_state_dict(self, tensors: Mapping[str, Tensor]) -> None:
        self.learner = {
            part: {key: tensors[f"{part}.{key}"].clone() for key in ours}
            for part, ours in self.learner.items()
        }

    # -- a learner ----------------------------------------------------------------------------------------------

    def _copies(self, tasks: int) -> dict[str, Weights]:
        """The meta-trained learner for each of B tasks, without a replay buffer."""
        return {
            part: {key: x.expand(tasks, *x.shape[1:]) for key, x in tensors.items()}
            for part, tensors in self.learner.items()
        }

    def _epsilon(self, state: State) -> Tensor:
        """Share of random actions, (B,)."""
        progress: Tensor = (state["counts"]["env_steps"] / self.config.epsilon_steps).clamp(max=1.0)
        return 1 - (1 - self.config.epsilon) * progress

    def _with_rollout(self, state: State, rollout: Rollout) -> State:
        """The learner with a round of episodes in its buffer."""
        env_steps = state["counts"]["env_steps"] + rollout.mask.sum((1, 2)).long()
        return state | {
            "buffer": add_to_buffer(state["buffer"], rollout),
            "counts": state["counts"] | {"env_steps": env_steps},
        }

    @torch.no_grad()
    def _updated(self, state: State, updates: int, rate: float, rng: Generator) -> tuple[State, Tensor]:
        """The learner after gradient steps on its buffer, and each task's last loss, (B,).

        The learner of a task with an empty buffer does not change.
        """
        config, buffer = self.config, state["buffer"]
        weights, target, moments, counts = (
            state[part] for part in ("weights", "target", "moments", "counts")
        )
        tasks = torch.arange(len(buffer["written"]), device=self.device)
        rates = torch.full((len(tasks),), rate, device=self.device)
        loss = torch.zeros_like(rates)
        for number in range(1, updates + 1):
            batch = sample_by_task(buffer, tasks, config.batch_size, rng)
            goal = self._target(target, batch)
            gradient, loss = self._gradient(weights, batch, goal)
            weights, moments = adam_step(weights, gradient, moments, counts["updates"] + number, rates)
            target = {key: torch.lerp(x, weights[key], config.tau) for key, x in target.items()}
        counts = counts | {"updates": counts["updates"] + updates}
        after = {"weights": weights, "target": target, "moments": moments, "counts": counts}
        learned = stored(buffer) > 0  # (B,)
        for part, tensors in after.items():
            after[part] = {
                key: torch.where(learned.view(-1, *[1] * (x.ndim - 1)), x, state[part][key])
                for key, x in tensors.items()
            }
        return state | after, loss

    def _target(self, target: Weights, batch: Transitions) -> Tensor:
        """Targets of Q for transitions (B, N, .): (B, N)."""
        best = self._q(target, batch["next_obs"]).amax(-1).mean(-1)
        return batch["reward"] / self.unit + self.config.gamma * (1 - batch["terminated"]) * best

    @torch.enable_grad()
    def _gradient(self, weights: Weights, batch: Transitions, goal: Tensor) -> tuple[Weights, Tensor]:
        """Gradients of each task's Huber loss on transitions (B, N, .), and these losses, (B,)."""
        level = ((batch["action"] + 1) / 2 * (self.config.action_bins - 1)).round().long()
        leaves = {key: x.detach().requires_grad_() for key, x in weights.items()}
        taken = self._q(leaves, batch["obs"]).gather(-1, level[..., None]).squeeze(-1).mean(-1)
        loss = huber_loss(taken, goal, reduction="none").mean(-1)
        # No task's loss depends on another's weights, so the gradient of the sum is that of each.
        slopes = torch.autograd.grad(loss.sum(), list(leaves.values()))
        return dict(zip(leaves, finite_by_task(slopes), strict=True)), loss.detach()

    def _q(self, weights: Weights, obs: Tensor) -> Tensor:
        """q_d(s, a_d) of each component and bin: (B, N, O) -> (B, N, A, action_bins)."""
        heads = mlp(weights, self.scaled(obs), activation=torch.relu)
        return heads.view(*heads.shape[:-1], self.spec.act_dim, self.config.action_bins)


def _as_one_task(rollout: Rollout) -> Rollout:
    """The episodes of all tasks as those of a single one: (B, E, ...) -> (1, B * E, ...)."""
    return replace(rollout, **{key: x.flatten(0, 1)[None] for key, x in vars(rollout).items()})

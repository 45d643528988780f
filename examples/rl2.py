"""RL2 (Duan et al. 2016): an agent that learns within its episodes.

A recurrent policy plays all episodes of a trial. Its hidden state is never reset between them, so whatever it
finds out about the task in one episode it knows in the next. PPO trains the weights on whole trials.

Run it in this folder:

    $ mrl-bench evaluate cartpole-wiring-v1 rl2:RL2
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Interval
from mrl_agents.advantage import clipped_surrogate, gae, masked_mean, nothing_valid
from mrl_agents.bounds import ActionStd, Count, Part, Positive, Rate, Share
from mrl_agents.gaussian import std_of
from mrl_agents.gradients import descend
from torch import Generator, Tensor, nn
from torch.distributions import Normal
from torch.nn.utils.rnn import pad_sequence

from mrl_bench.agent import Tasks, Training
from mrl_bench.types import EnvSpec, Memory, Rollout, State, TimeStep


@dataclass(frozen=True)
class RL2Config:
    env_steps: Count = 1_500_000  # largest number of env steps of meta-training, within the scenario's budget
    hidden_size: Count = 64  # of the recurrent layer: all that the agent can know of a task
    head_size: Count = 64  # hidden units of the policy's head, and of the value's
    action_std: ActionStd = 0.6  # initial standard deviation of the actions
    meta_batch_size: Count = 30  # tasks in a batch, each with one trial
    gamma: Annotated[float, Interval(ge=0, lt=1)] = 0.98  # discount factor of one control step
    gae_lambda: Share = 0.95  # lambda of the generalised advantage estimate
    learning_rate: Rate = 3e-3  # learning rate of Adam; it falls linearly over the training, to 2 %
    epochs: Count = 6  # passes over a batch
    num_minibatches: Count = 8  # minibatches in a pass, of whole trials
    clip_coef: Part = 0.2  # clipping range of the probability ratio
    max_grad_norm: Positive = 1.0  # largest norm of the gradient; longer gradients are clipped to it


class RecurrentPolicy(nn.Module):
    """A GRU under two heads, for policy and value. They see its input as well, so it need not pass that on."""

    def __init__(self, inputs: int, actions: int, config: RL2Config) -> None:
        super().__init__()
        self.gru = nn.GRU(inputs, config.hidden_size, batch_first=True)
        self.mean, self.value = (
            nn.Sequential(
                nn.Linear(config.hidden_size + inputs, config.head_size),
                nn.Tanh(),
                nn.Linear(config.head_size, outputs),
            )
            for outputs in (actions, 1)
        )
        self.log_std = nn.Parameter(torch.full((actions,), config.action_std).log())

    def forward(self, inputs: Tensor, hidden: Tensor) -> tuple[Normal, Tensor, Tensor]:
        """Reads T inputs of B x E sequences.

        Args:
            inputs: (B, E, T, I).
            hidden: (B, E, H), before the first of them.

        Returns:
            The policy (B, E, T, A) and the value (B, E, T) after each input, and the hidden state after the last.
        """
        outputs, last = self.gru(inputs.flatten(0, 1), hidden.flatten(0, 1)[None])
        seen = torch.cat([outputs.unflatten(0, hidden.shape[:2]), inputs], -1)
        policy = Normal(self.mean(seen), std_of(self.log_std))
        return policy, self.value(seen).squeeze(-1), last[0].view_as(hidden)


class RL2:
    """A recurrent policy that goes on from one episode to the next. State: hidden (B, H), last outcome (B, A + 2)."""

    Config = RL2Config
    sequential = True

    def __init__(self, spec: EnvSpec, config: RL2Config, seed: int, device: torch.device) -> None:
        self.spec, self.config, self.device = spec, config, device
        self.obs_scale = torch.tensor(spec.obs_scale, device=device)
        self.episodes = max(spec.trial.k) + 1  # of a training trial: as many as in an evaluation
        self.shuffle = torch.Generator().manual_seed(seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.net = RecurrentPolicy(spec.obs_dim + spec.act_dim + 2, spec.act_dim, config).to(device)

    def meta_train(self, training: Training) -> None:
        config = self.config
        optimiser = torch.optim.Adam(self.net.parameters(), lr=config.learning_rate, eps=1e-5)
        while training.left > 0:
            rate = config.learning_rate * max(training.left / training.budget, 0.02)
            optimiser.param_groups[0]["lr"] = rate
            trials = self._play(training.tasks(config.meta_batch_size, 1))
            if not nothing_valid(trials[0].mask):
                training.log({"charts/learning_rate": rate, **self._update(*trials, optimiser)})

    def initial_state(self, num_tasks: int) -> State:
        hidden = torch.zeros(num_tasks, self.config.hidden_size, device=self.device)
        return hidden, hidden.new_zeros(num_tasks, self.spec.act_dim + 2)

    def start_episode(self, state: State, num_envs: int) -> Memory:
        return state[0][:, None].repeat(1, num_envs, 1)  # (B, E, H)

    @torch.no_grad()
    def act(
        self, state: State, memory: Tensor, step: TimeStep, explore: bool, rng: Generator
    ) -> tuple[Tensor, Tensor]:
        before = _outcome(step.action, step.reward)
        if step.t == 0:  # the episode goes on from the one before
            before = state[1][:, None].expand_as(before)
        policy, _, memory = self.net(self._inputs(step.obs, before)[:, :, None], memory)
        action = policy.mean[:, :, 0]
        if explore:
            noise = torch.randn(action.shape, generator=rng, device=action.device)
            action = action + policy.stddev[:, :, 0] * noise
        return action, memory

    def adapt(self, state: State, memory: Tensor, rollout: Rollout, rng: Generator) -> State:
        outcomes = _outcome(rollout.action, rollout.reward, over=1.0)[:, 0]  # (B, T, A + 2)
        last = rollout.lengths()[:, 0].long().clamp(min=1) - 1
        return memory[:, 0], outcomes[torch.arange(len(last)), last]

    def state_dict(self) -> dict[str, Tensor]:
        return {name: weight.detach() for name, weight in self.net.state_dict().items()}

    def load_state_dict(self, tensors: Mapping[str, Tensor]) -> None:
        self.net.load_state_dict(dict(tensors))

    def _inputs(self, obs: Tensor, before: Tensor) -> Tensor:
        """(..., I): an observation, scaled, and what led to it (..., A + 2)."""
        return torch.cat([obs / self.obs_scale, before], -1)

    def _play(self, tasks: Tasks) -> tuple[Rollout, Tensor, Tensor]:
        """Plays one trial of n episodes on each task.

        Returns:
            The episodes as one rollout (B, n, ...); the network's inputs in them, (B, n, T + 1, I); and its hidden
            state before each, (B, n, H).
        """
        states, rollouts = [self.initial_state(self.config.meta_batch_size)], []
        for _ in range(self.episodes):
            rollout, memory = tasks.collect(self.act, states[-1], self.start_episode(states[-1], 1))
            states.append(self.adapt(states[-1], memory, rollout, self.shuffle))
            rollouts.append(rollout)
        joined = _in_a_row(rollouts)
        hidden, ending = (torch.stack(series, 1) for series in zip(*states[:-1], strict=True))
        before = torch.cat([ending[:, :, None], _outcome(joined.action, joined.reward)], 2)
        return joined, self._inputs(joined.obs, before), hidden

    def _update(
        self, rollout: Rollout, inputs: Tensor, hidden: Tensor, optimiser: torch.optim.Optimizer
    ) -> dict[str, Tensor]:
        """PPO on what `_play` returned.

        An action is credited with the rewards of its own episode, and the hidden state before an episode is taken as
        given. In the original, credit and gradients pass from one episode to another.
        """
        config, mask = self.config, rollout.mask
        with torch.no_grad():
            value = self.net(inputs, hidden)[1] / (1 - config.gamma)  # it gives the mean of coming rewards
            inputs = inputs[:, :, :-1]  # no action follows the last
            old = self.net(inputs, hidden)[0].log_prob(rollout.action).sum(-1)
            advantage = gae(rollout.reward, value, rollout.terminated, mask, config.gamma, config.gae_lambda)
            target = (advantage + value[..., :-1]) * (1 - config.gamma)
            advantage = advantage - masked_mean(advantage, mask)
            advantage = advantage / (masked_mean(advantage**2, mask).sqrt() + 1e-6)
        for _ in range(config.epochs):
            for chosen in torch.randperm(len(mask), generator=self.shuffle).chunk(config.num_minibatches):
                policy, value, _ = self.net(inputs[chosen], hidden[chosen])
                log_prob = policy.log_prob(rollout.action[chosen]).sum(-1)
                log_ratio = (log_prob - old[chosen]) * mask[chosen]
                surrogate = clipped_surrogate(log_ratio, advantage[chosen], config.clip_coef)
                policy_loss = -masked_mean(surrogate, mask[chosen])
                value_loss = 0.5 * masked_mean((value - target[chosen]) ** 2, mask[chosen])
                descend(optimiser, policy_loss + value_loss, config.max_grad_norm)
        return {"losses/policy_loss": policy_loss.detach(), "losses/value_loss": value_loss.detach()}


def _outcome(action: Tensor, reward: Tensor, over: float = 0.0) -> Tensor:
    """(..., A + 2): an action, the reward that it brought, and 1 if it was the last of an episode."""
    return torch.cat([action.clamp(-1, 1), reward[..., None], torch.full_like(reward[..., None], over)], -1)


def _in_a_row(rollouts: list[Rollout]) -> Rollout:
    """The episodes (B, 1, ...) of n rollouts as one rollout (B, n, ...), padded with zeros to the longest."""

    def joined(name: str) -> Tensor:
        series = [getattr(rollout, name)[:, 0].transpose(0, 1) for rollout in rollouts]  # each (T, B, ...)
        return pad_sequence(series).transpose(0, 2)

    padded = {name: joined(name) for name in ("obs", "action", "reward", "terminated", "mask")}
    return Rollout(**padded, failed=torch.cat([rollout.failed for rollout in rollouts], 1))

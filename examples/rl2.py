"""RL2 (Duan et al. 2016): an agent that learns within its episodes.

A recurrent policy lives through all episodes of a trial. Its hidden state is never reset between them, so whatever it
finds out about the task in one episode it knows in the next. PPO trains the weights on whole trials.

Run it in this folder:

    $ mrl-bench evaluate cartpole-wiring-v1 rl2:RL2
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from mrl_agents.advantage import clipped_surrogate, gae, masked_mean
from torch import Generator, Tensor, nn
from torch.distributions import Normal
from torch.nn.functional import one_hot
from torch.nn.utils.rnn import pad_sequence

from mrl_bench.agent import Tasks, Training
from mrl_bench.types import EnvSpec, Rollout, TimeStep


@dataclass(frozen=True)
class RL2Config:
    hidden_size: int = 64  # of the recurrent layer: all that the agent can know of a task
    head_size: int = 64  # hidden units of the policy's head, and of the value's
    action_std: float = 0.6  # initial standard deviation of the actions
    meta_batch_size: int = 30  # tasks in a batch, each with one trial
    gamma: float = 0.98  # discount factor of one control step
    gae_lambda: float = 0.95  # lambda of the generalised advantage estimate
    learning_rate: float = 3e-3  # learning rate of Adam; it falls linearly over the budget, to 2 %
    epochs: int = 6  # passes over a batch
    num_minibatches: int = 8  # minibatches in a pass, of whole trials
    clip_coef: float = 0.2  # clipping range of the probability ratio
    max_grad_norm: float = 1.0  # largest norm of the gradient; longer gradients are clipped to it


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
        std = self.log_std.clamp(-3.0, 1.0).exp()
        return Normal(self.mean(seen), std), self.value(seen).squeeze(-1), last[0].view_as(hidden)


class RL2:
    Config = RL2Config
    sequential = True

    def __init__(self, spec: EnvSpec, config: RL2Config, seed: int, device: torch.device) -> None:
        self.spec, self.config, self.device = spec, config, device
        self.episodes = max(spec.trial.k) + 1  # of a training trial: as many as in an evaluation
        self.shuffle = torch.Generator(device).manual_seed(seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.net = RecurrentPolicy(spec.obs_dim + spec.act_dim + 2, spec.act_dim, config).to(device)

    def meta_train(self, training: Training) -> None:
        config = self.config
        optimiser = torch.optim.Adam(self.net.parameters(), lr=config.learning_rate, eps=1e-5)
        while training.left > 0:
            rate = config.learning_rate * max(training.left / training.budget, 0.02)
            optimiser.param_groups[0]["lr"] = rate
            rollout, hidden = self._play(training.tasks(config.meta_batch_size, 1))
            training.log({"charts/learning_rate": rate, **self._update(rollout, hidden, optimiser)})

    def initial_state(self, num_tasks: int) -> Tensor:
        return torch.zeros(num_tasks, self.config.hidden_size, device=self.device)  # (B, H)

    def start_episode(self, state: Tensor, num_envs: int) -> Tensor:
        return state[:, None].repeat(1, num_envs, 1)  # (B, E, H)

    @torch.no_grad()
    def act(
        self, state: Tensor, memory: Tensor, step: TimeStep, explore: bool, rng: Generator
    ) -> tuple[Tensor, Tensor]:
        inputs = self._inputs(step.obs, step.action, step.reward, over=torch.zeros_like(step.reward))
        policy, _, memory = self.net(inputs[:, :, None], memory)
        action = policy.mean[:, :, 0]
        if explore:
            noise = torch.randn(action.shape, generator=rng, device=action.device)
            action = action + policy.stddev[:, :, 0] * noise
        return action, memory

    @torch.no_grad()
    def adapt(self, state: Tensor, memory: Tensor, rollout: Rollout, rng: Generator) -> Tensor:
        """Reads how the episode ended, which `act` does not see."""
        inputs = self._all_inputs(rollout)
        end = rollout.lengths().long()[..., None, None].expand(-1, -1, 1, inputs.shape[-1])
        _, _, memory = self.net(inputs.gather(2, end), memory)
        return memory[:, 0]

    def state_dict(self) -> dict[str, Tensor]:
        return {name: weight.detach() for name, weight in self.net.state_dict().items()}

    def load_state_dict(self, tensors: Mapping[str, Tensor]) -> None:
        self.net.load_state_dict(dict(tensors))

    def _inputs(self, obs: Tensor, action: Tensor, reward: Tensor, over: Tensor) -> Tensor:
        """(..., I): an observation, what led to it, and 1 where the episode is over, else 0."""
        scaled = obs / torch.tensor(self.spec.obs_scale, device=obs.device)
        return torch.cat([scaled, action.clamp(-1, 1), reward[..., None], over[..., None]], -1)

    def _all_inputs(self, rollout: Rollout) -> Tensor:
        """(B, E, T + 1, I): what `act` reads in each episode, then what `adapt` reads. The rest has no meaning."""
        action, reward = (
            torch.cat([torch.zeros_like(x[:, :, :1]), x], 2) for x in (rollout.action, rollout.reward)
        )
        over = one_hot(rollout.lengths().long(), reward.shape[-1]).to(reward.dtype)
        return self._inputs(rollout.obs, action, reward, over)

    def _play(self, tasks: Tasks) -> tuple[Rollout, Tensor]:
        """One trial on each task.

        Returns:
            Its n episodes as one rollout (B, n, ...), and the hidden state at the start of each, (B, n, H).
        """
        state, rollouts, hidden = self.initial_state(self.config.meta_batch_size), [], []
        for _ in range(self.episodes):
            hidden.append(self.start_episode(state, 1))
            rollout, memory = tasks.collect(self.act, state, hidden[-1])
            state = self.adapt(state, memory, rollout, self.shuffle)
            rollouts.append(rollout)
        return _in_a_row(rollouts), torch.cat(hidden, 1)

    def _update(
        self, rollout: Rollout, hidden: Tensor, optimiser: torch.optim.Optimizer
    ) -> dict[str, Tensor]:
        """PPO on the n episodes of each trial; see `_play`.

        The hidden state that an episode starts with is taken as given, and an action is credited with the rewards of
        its own episode. The original lets gradients and credit pass from one episode to the next.
        """
        config, inputs, mask = self.config, self._all_inputs(rollout), rollout.mask
        with torch.no_grad():
            policy, value, _ = self.net(inputs, hidden)
            old = _log_prob(policy, rollout.action)
            value = value / (1 - config.gamma)  # the network gives it in units of a mean reward
            advantage = gae(rollout.reward, value, rollout.terminated, mask, config.gamma, config.gae_lambda)
            target = (advantage + value[..., :-1]) * (1 - config.gamma)
            advantage = advantage - masked_mean(advantage, mask)
            advantage = advantage / (masked_mean(advantage**2, mask).sqrt() + 1e-6)
        for _ in range(config.epochs):
            order = torch.randperm(len(mask), generator=self.shuffle, device=mask.device)
            for chosen in order.chunk(config.num_minibatches):
                policy, value, _ = self.net(inputs[chosen], hidden[chosen])
                log_ratio = (_log_prob(policy, rollout.action[chosen]) - old[chosen]) * mask[chosen]
                surrogate = clipped_surrogate(log_ratio, advantage[chosen], config.clip_coef)
                policy_loss = -masked_mean(surrogate, mask[chosen])
                value_loss = 0.5 * masked_mean((value[..., :-1] - target[chosen]) ** 2, mask[chosen])
                optimiser.zero_grad()
                (policy_loss + value_loss).backward()
                nn.utils.clip_grad_norm_(self.net.parameters(), config.max_grad_norm)
                optimiser.step()
        return {
            "losses/policy_loss": policy_loss.detach(),
            "losses/value_loss": value_loss.detach(),
            "losses/action_std": self.net.log_std.exp().mean().detach(),
        }


def _log_prob(policy: Normal, action: Tensor) -> Tensor:
    """Log density (B, E, T) of actions (B, E, T, A), under a policy that was asked T + 1 times."""
    return Normal(policy.mean[:, :, :-1], policy.stddev[:, :, :-1]).log_prob(action).sum(-1)


def _in_a_row(rollouts: list[Rollout]) -> Rollout:
    """The episodes (B, 1, ...) of n rollouts as one rollout (B, n, ...), padded with zeros to the longest."""

    def joined(name: str) -> Tensor:
        series = [getattr(rollout, name)[:, 0].transpose(0, 1) for rollout in rollouts]  # each (T, B, ...)
        return pad_sequence(series).transpose(0, 2)

    padded = {name: joined(name) for name in ("obs", "action", "reward", "terminated", "mask")}
    return Rollout(**padded, failed=torch.cat([rollout.failed for rollout in rollouts], 1))

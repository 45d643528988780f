"""A world model of all tasks: next observation, reward and termination of a step, given a task context.

    z = mean over a set of transitions of  e([u, standardised u, log spread, centre])        context of the task
    next_obs - obs ~ N(f_m(obs, action, z), sigma_m(obs, action, z)^2)                        m = 1 ... M members
    (reward, termination) = g_m(obs, action, next_obs, z)

Members share the context. They differ in their initial weights and in the data that each trains on. Rewards are
learned: the reward function of a family is not known here.

Weights are those of `mrl_agents.networks`, with the name prefixes below. Weights of members lead with M, as inputs do.

    encoder_  (in, out)      dynamics_, outcome_  (M, in, out)
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Generator, Tensor
from torch.func import grad
from torch.nn.functional import binary_cross_entropy_with_logits, silu

from mrl_agents.gradients import bounded
from mrl_agents.networks import Weights, init_mlp, mlp
from mrl_agents.replay import Buffer, Transitions, everything
from mrl_bench.types import EnvSpec

# Centres and spreads of what was seen, which bring the networks' inputs and outputs to the size of 1:
# "obs_mean", "obs_std", "delta_mean", "delta_std" (O,), "reward_mean", "reward_std", "reward_low", "reward_high" ().
Scales = dict[str, Tensor]

_SPREAD_FLOOR = 1e-3  # added to spreads, in scaled units: what varies less than that counts as constant
_LOG_STD_RANGE = (-5.0, 1.0)  # of predicted deviations, in deviations of the seen changes
_DELTA_LIMIT = 6.0  # bound on predicted changes of the observation, in standard deviations of the data
_LONGEST_STEP = 10.0  # gradients that are longer are cut to it when a model adapts
_TERMINATION_WEIGHT = 0.3  # of the cross entropy, relative to squared errors of size 1


def init_world_model(
    spec: EnvSpec,
    ensemble_size: int,
    hidden_size: int,
    encoder_hidden_size: int,
    context_dim: int,
    rng: Generator,
) -> Weights:
    """Networks with two hidden layers.

    Args:
        spec: sizes of observation and action.
        ensemble_size: M.
        hidden_size: width of the hidden layers of dynamics and outcome.
        encoder_hidden_size: width of the hidden layers of the context encoder.
        context_dim: size C of the context.
        rng: on the CPU.
    """
    obs, act = spec.obs_dim, spec.act_dim
    described = 2 * obs + act + 1  # size of u: obs, action, change, reward
    sizes = {
        "dynamics_": [obs + act + context_dim, hidden_size, hidden_size, 2 * obs],
        "outcome_": [obs + act + obs + context_dim, hidden_size, hidden_size, 2],
    }
    encoder = [4 * described + 1, encoder_hidden_size, encoder_hidden_size, context_dim]
    weights = init_mlp(encoder, rng, name="encoder_")
    for name, layers in sizes.items():
        drawn = [init_mlp(layers, rng, last_gain=0.1, name=name) for _ in range(ensemble_size)]
        weights |= {key: torch.stack([member[key] for member in drawn]) for key in drawn[0]}
    return weights


def unit_scales(spec: EnvSpec, device: torch.device) -> Scales:
    """Scales before any data: the magnitudes that the environment declares."""
    obs_std = torch.tensor(spec.obs_scale, device=device)
    one = torch.ones((), device=device)
    return {
        "obs_mean": torch.zeros_like(obs_std),
        "obs_std": obs_std,
        "delta_mean": torch.zeros_like(obs_std),
        "delta_std": obs_std.clone(),
        "reward_mean": torch.zeros_like(one),
        "reward_std": one,
        "reward_low": -one,
        "reward_high": one.clone(),
    }


def fit_scales(buffer: Buffer) -> Scales:
    """Means and deviations over all transitions of a buffer."""
    batch, mask = everything(buffer)
    count = mask.sum()

    def centre_and_spread(x: Tensor) -> tuple[Tensor, Tensor]:
        weight = mask.reshape(*mask.shape, *[1] * (x.ndim - 2))
        mean = (x * weight).sum((0, 1)) / count
        return mean, (((x - mean) ** 2 * weight).sum((0, 1)) / count).sqrt() + _SPREAD_FLOOR

    scales = {}
    for name, x in {
        "obs": batch["obs"],
        "delta": batch["next_obs"] - batch["obs"],
        "reward": batch["reward"],
    }.items():
        scales[f"{name}_mean"], scales[f"{name}_std"] = centre_and_spread(x)
    seen = mask > 0
    scales["reward_low"] = torch.where(seen, batch["reward"], torch.inf).min()
    scales["reward_high"] = torch.where(seen, batch["reward"], -torch.inf).max()
    return scales


def infer_context(weights: Mapping[str, Tensor], scales: Scales, batch: Transitions, mask: Tensor) -> Tensor:
    """The context of each set of transitions: leaves (..., N, .), mask (..., N) -> z (..., C); 0 of an empty set.

    Each transition is described in four ways before the mean is taken: u = (obs, action, change, reward) scaled over
    all tasks, u standardised within the set, and the set's centre and spread. The second one is what shows how the
    reward falls along the observation within one short episode; a plain mean of u hides it (a return of
    130 instead of 160 on cartpole-target).
    """
    u = torch.cat(
        [
            _scaled(batch["obs"], scales, "obs"),
            batch["action"],
            _scaled(batch["next_obs"] - batch["obs"], scales, "delta"),
            _scaled(batch["reward"], scales, "reward")[..., None],
        ],
        -1,
    )
    weight = mask[..., None]
    count = weight.sum(-2, keepdim=True).clamp(min=1)
    centre = (u * weight).sum(-2, keepdim=True) / count
    spread = (((u - centre) ** 2 * weight).sum(-2, keepdim=True) / count).sqrt() + _SPREAD_FLOOR
    described = torch.cat(
        [
            u,
            batch["terminated"][..., None],
            ((u - centre) / spread).clamp(-5, 5),
            spread.log().expand_as(u),
            centre.expand_as(u),
        ],
        -1,
    )
    embedded = mlp(weights, described, "encoder_", silu) * weight
    return (embedded.sum(-2, keepdim=True) / count).squeeze(-2)


def predict_change(
    weights: Mapping[str, Tensor], scales: Scales, obs: Tensor, action: Tensor, z: Tensor
) -> tuple[Tensor, Tensor]:
    """Mean and log deviation of next_obs - obs, in deviations of the seen changes: (..., M, N, .) -> (..., M, N, O).

    The log deviation is as the network gives it: the caller keeps it within `_LOG_STD_RANGE`.
    """
    inputs = torch.cat([_scaled(obs, scales, "obs"), action, z], -1)
    mean, log_std = mlp(weights, inputs, "dynamics_", silu).chunk(2, -1)
    return mean, log_std


def predict_outcome(
    weights: Mapping[str, Tensor], scales: Scales, obs: Tensor, action: Tensor, next_obs: Tensor, z: Tensor
) -> tuple[Tensor, Tensor]:
    """Scaled reward and logit of termination of a step, rows (..., M, N, .) -> (..., M, N) each."""
    obs, next_obs = _scaled(obs, scales, "obs"), _scaled(next_obs, scales, "obs")
    outcome = mlp(weights, torch.cat([obs, action, next_obs, z], -1), "outcome_", silu)
    return outcome[..., 0], outcome[..., 1]


def advance(
    weights: Mapping[str, Tensor], scales: Scales, obs: Tensor, action: Tensor, z: Tensor, noise: Tensor
) -> Tensor:
    """The observation after an imagined step: rows (..., M, N, .) -> (..., M, N, O).

    The change is clamped to the range of the data, so that a policy cannot exploit model errors without bound.
    `noise` is standard normal, (..., M, N, O).
    """
    mean, log_std = predict_change(weights, scales, obs, action, z)
    change = (mean + log_std.clamp(*_LOG_STD_RANGE).exp() * noise).clamp(-_DELTA_LIMIT, _DELTA_LIMIT)
    return obs + change * scales["delta_std"] + scales["delta_mean"]


def outcome(
    weights: Mapping[str, Tensor], scales: Scales, obs: Tensor, action: Tensor, next_obs: Tensor, z: Tensor
) -> tuple[Tensor, Tensor]:
    """Reward of a step, within the range of those seen, and probability that the episode goes on after it.

    Rows (..., M, N, .) -> (..., M, N) each.
    """
    reward, end = predict_outcome(weights, scales, obs, action, next_obs, z)
    reward = reward * scales["reward_std"] + scales["reward_mean"]
    reward = torch.minimum(torch.maximum(reward, scales["reward_low"]), scales["reward_high"])
    return reward, torch.sigmoid(-end)


def model_errors(weights: Mapping[str, Tensor], scales: Scales, batch: Transitions, z: Tensor) -> Weights:
    """Prediction errors of each transition: rows (..., M, N, .) -> (..., M, N) each.

    "dynamics" and "reward" are squared errors in units of the seen variance (1 is what predicting the mean scores),
    "termination" is a cross entropy, "loss" their weighted sum.
    """
    obs, action, next_obs = batch["obs"], batch["action"], batch["next_obs"]
    mean, log_std = predict_change(weights, scales, obs, action, z)
    log_std = bounded(log_std, *_LOG_STD_RANGE)
    miss = _scaled(next_obs - obs, scales, "delta") - mean
    reward, end = predict_outcome(weights, scales, obs, action, next_obs, z)
    errors = {
        "dynamics": (miss**2).mean(-1),
        "likelihood": (0.5 * (miss.detach() / log_std.exp()) ** 2 + log_std).mean(-1),
        "reward": (reward - _scaled(batch["reward"], scales, "reward")) ** 2,
        "termination": binary_cross_entropy_with_logits(end, batch["terminated"], reduction="none"),
    }
    errors["loss"] = (
        errors["dynamics"]
        + 0.1 * errors["likelihood"]
        + errors["reward"]
        + _TERMINATION_WEIGHT * errors["termination"]
    )
    return errors


def adapt_model(
    weights: Weights, rates: Weights, scales: Scales, batch: Transitions, mask: Tensor, z: Tensor, steps: int
) -> Weights:
    """One task's model after gradient steps on its transitions (Nagabandi et al. 2019, "GrBAL"), differentiable.

    Each member steps down its own mean error; the encoder stays. `vmap` over the last three makes it B tasks'.

    Args:
        weights: of the world model.
        rates: learning rate of each weight of dynamics and outcome, with its shape.
        scales: of the world model.
        batch: leaves (N, .).
        mask: (N,).
        z: context (C,) that the task's predictions are given.
        steps: number of gradient steps.

    Returns:
        Weights of dynamics and outcome.
    """
    members = len(weights["dynamics_w0"])
    rows = {key: x.expand(members, *x.shape) for key, x in batch.items()}
    context = z.expand(members, len(mask), -1)  # (M, N, C)
    part = mask / mask.sum().clamp(min=1)

    def error(heads: Weights) -> Tensor:
        return (model_errors(heads, scales, rows, context)["loss"] * part).sum()

    heads = {key: weights[key] for key in rates}
    for _ in range(steps):
        slope = grad(error)(heads)
        # A transition far from all training data must not move the weights without bound.
        square = torch.stack([x.square().sum() for x in slope.values()]).sum()
        share = (_LONGEST_STEP / square.clamp(min=_LONGEST_STEP**2).sqrt()).nan_to_num()
        heads = {
            key: value - rates[key] * (share * slope[key]).nan_to_num(0.0, 0.0, 0.0)
            for key, value in heads.items()
        }
    return heads


def _scaled(x: Tensor, scales: Scales, name: str) -> Tensor:
    return (x - scales[f"{name}_mean"]) / scales[f"{name}_std"]

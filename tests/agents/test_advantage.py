"""The mathematics that policy-gradient agents share, against numbers worked out by hand and plain loops."""

from __future__ import annotations

import pytest
import torch
from mrl_agents.advantage import (
    clipped_surrogate,
    discounted_sum,
    gae,
    linear_baseline,
    masked_mean,
    standardise,
)
from torch import Tensor

B, E, T, O = 3, 4, 7, 2  # noqa: E741 - the letter of the observation axis
GARBAGE = 1e4


def row(*numbers: float) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float64)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def episodes() -> tuple[Tensor, Tensor]:
    """Masks of episodes of all lengths from 1 to T, and which of them terminated, both (B, E, T)."""
    length = 1 + torch.arange(B * E).reshape(B, E, 1) % T
    clock = torch.arange(T)
    return (clock < length).double(), (clock == length - 1) & (noise(B, E, 1) > 0)


def close(actual: Tensor, expected: Tensor, atol: float = 1e-12) -> None:
    torch.testing.assert_close(actual, expected, rtol=0, atol=atol)


def test_discounted_sum_of_a_hand_worked_row() -> None:
    close(discounted_sum(row(1, 2, 3), 0.5), row(1 + 1 + 0.75, 2 + 1.5, 3))
    close(discounted_sum(row(1, 2, 3), 0.0), row(1, 2, 3))
    close(discounted_sum(row(1, 2, 3), 1.0), row(6, 5, 3))


@pytest.mark.parametrize(
    ("ends", "mask", "advantage"),
    [
        # Errors .7, .75, .8, of which each passes a quarter on to the step before.
        ("was cut at the horizon", row(1, 1, 1), row(0.9375, 0.95, 0.8)),
        # No value behind the last step, so its error is 1 - .3.
        ("terminated at the horizon", row(1, 1, 1), row(0.93125, 0.925, 0.7)),
        ("terminated earlier", row(1, 1, 0), row(0.85, 0.6, 0)),
        ("broke down earlier", row(1, 1, 0), row(0.8875, 0.75, 0)),
    ],
)
def test_gae_of_an_episode_that(ends: str, mask: Tensor, advantage: Tensor) -> None:
    terminated = torch.zeros(3, dtype=torch.bool)
    terminated[int(mask.sum()) - 1] = "terminated" in ends
    reward, value = mask, row(0.5, 0.4, 0.3, 0.2)
    close(gae(reward, value, terminated, mask, gamma=0.5, gae_lambda=0.5), advantage)


def test_gae_is_the_textbooks_loop() -> None:
    gamma, gae_lambda = 0.97, 0.9
    mask, terminated = episodes()
    reward, value = noise(B, E, T) * mask, noise(B, E, T + 1, seed=1)
    ours = gae(reward, value, terminated, mask, gamma, gae_lambda)
    for b in range(B):
        for e in range(E):
            advantage = 0.0
            for t in reversed(range(T)):
                if not mask[b, e, t]:
                    assert ours[b, e, t] == 0
                    continue
                following = 0.0 if terminated[b, e, t] else value[b, e, t + 1]
                error = reward[b, e, t] + gamma * following - value[b, e, t]
                advantage = error + gamma * gae_lambda * advantage
                close(ours[b, e, t], advantage)


def test_gae_with_lambda_1_is_the_discounted_return_minus_the_baseline() -> None:
    mask, terminated = episodes()
    reward, value = noise(B, E, T) * mask, noise(B, E, T + 1, seed=1) * 0
    value[..., :-1] = noise(B, E, T, seed=2) * mask
    close(
        gae(reward, value, terminated, mask, 0.9, 1.0), (discounted_sum(reward, 0.9) - value[..., :-1]) * mask
    )


def test_the_baseline_recovers_a_return_that_is_linear_in_its_features() -> None:
    mask, _ = episodes()
    reward = noise(B, E, T) * mask
    value = discounted_sum(reward, 0.9)
    obs = noise(B, E, T + 1, O, seed=1)
    obs[:, :, :-1, 0] = value / (2.0 + torch.arange(B))[:, None, None]  # another slope for each task
    fitted = linear_baseline(obs, reward, mask, 0.9, ridge=1e-14)
    close(fitted[..., :-1], value * mask, atol=1e-7)
    assert (fitted[..., -1] == 0).all()


def test_the_baseline_knows_the_clock() -> None:
    """With reward 1 a step and no discount the return is the number of steps that are left."""
    steps = 300
    mask, obs = torch.ones(1, 2, steps, dtype=torch.float64), noise(1, 2, steps + 1, O)
    left = (steps - torch.arange(steps)).double().expand(1, 2, steps)
    close(linear_baseline(obs, mask, mask, 1.0, ridge=1e-12)[..., :-1], left, atol=1e-5)


def test_each_task_has_a_separate_baseline() -> None:
    mask, _ = episodes()
    reward, obs = noise(B, E, T) * mask, noise(B, E, T + 1, O, seed=1)
    before = linear_baseline(obs, reward, mask, 0.9)
    reward[2], obs[2] = reward[2] + 3, obs[2] * 2
    after = linear_baseline(obs, reward, mask, 0.9)
    assert torch.equal(before[:2], after[:2])
    assert not torch.allclose(before[2], after[2])


def test_the_ridge_does_not_depend_on_how_much_data_there_is() -> None:
    mask, _ = episodes()
    reward, obs = noise(B, E, T) * mask, noise(B, E, T + 1, O, seed=1)
    once = linear_baseline(obs, reward, mask, 0.9, ridge=0.1)
    twice = linear_baseline(*(torch.cat([x, x], 1) for x in (obs, reward, mask)), 0.9, ridge=0.1)
    close(twice[:, :E], once)


def test_the_baseline_of_a_task_without_valid_steps_is_zero() -> None:
    mask, _ = episodes()
    reward, obs = noise(B, E, T), noise(B, E, T + 1, O, seed=1)
    mask[1] = 0
    fitted = linear_baseline(obs, reward * mask, mask, 0.9)
    assert (fitted[1] == 0).all()
    assert fitted.isfinite().all()


def test_an_observation_beyond_10_counts_as_10_in_the_baseline() -> None:
    mask, _ = episodes()
    reward, obs = noise(B, E, T) * mask, 5 * noise(B, E, T + 1, O, seed=1)
    obs[0, 0, 0, 0] = 1e9
    far = linear_baseline(obs, reward, mask, 0.9)
    close(far, linear_baseline(obs.clamp(-10, 10), reward, mask, 0.9), atol=0)


def test_means_are_over_valid_steps() -> None:
    x, mask = row(1, 2, 3, GARBAGE).reshape(2, 2), row(1, 1, 1, 0).reshape(2, 2)
    close(masked_mean(x, mask), row(2).squeeze())
    close(masked_mean(x, mask, (1,)), row(1.5, 3))
    close(masked_mean(x, mask * 0), row(0).squeeze())


def test_standardising_is_per_task() -> None:
    mask, _ = episodes()
    advantage = standardise(noise(B, E, T) * 5 + 3, mask)
    for b in range(B):
        valid = advantage[b][mask[b] > 0]
        close(valid.mean(), row(0).squeeze())
        close(valid.std(correction=0), row(1).squeeze(), atol=1e-5)
    close(standardise(row(1, 3).reshape(1, 1, 2), torch.ones(1, 1, 2)), row(-1, 1).reshape(1, 1, 2), 1e-5)
    same = torch.full((1, 2, 3), 7.0)
    assert (standardise(same, torch.ones(1, 2, 3)) == 0).all()


@pytest.mark.parametrize(
    ("ratio", "advantage", "surrogate"),
    [
        (1.1, 2.0, 2.2),  # within the clip, it is ratio times advantage
        (1.5, 2.0, 2.4),  # a gain is granted up to ratio 1.2
        (0.5, -2.0, -1.6),  # and down to ratio 0.8
        (1.5, -2.0, -3.0),  # a loss is always counted in full
        (0.5, 2.0, 1.0),
    ],
)
def test_the_clipped_surrogate_is_pessimistic(ratio: float, advantage: float, surrogate: float) -> None:
    close(clipped_surrogate(row(ratio).log(), row(advantage), clip_coef=0.2), row(surrogate))


def test_what_lies_behind_an_episodes_end_is_ignored() -> None:
    mask, terminated = episodes()
    padding = (mask == 0).double() * GARBAGE * noise(B, E, T, seed=3)
    reward, obs = noise(B, E, T) * mask, noise(B, E, T + 1, O, seed=1)
    value = noise(B, E, T + 1, seed=2)
    dirty_obs, dirty_value = obs.clone(), value.clone()
    dirty_obs[:, :, 1:-1] += padding[:, :, 1:, None]
    # The value at the end of the mask is the one to bootstrap from, so garbage begins one later.
    dirty_value[..., 1:] += padding * (torch.cat([mask[..., :1] * 0, mask[..., :-1] == 0], -1))
    dirty_terminated = terminated | (mask == 0)

    clean = gae(reward, value, terminated, mask, 0.9, 0.8)
    close(gae(reward + padding, dirty_value, dirty_terminated, mask, 0.9, 0.8), clean, atol=0)
    clean = linear_baseline(obs, reward, mask, 0.9)
    close(linear_baseline(dirty_obs, reward + padding, mask, 0.9), clean, atol=0)
    clean = standardise(reward, mask)
    close(standardise(reward + padding, mask), clean, atol=0)

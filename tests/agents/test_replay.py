"""The replay against rings written out by hand."""

from __future__ import annotations

import pytest
import torch
from mrl_agents.replay import (
    Buffer,
    Replay,
    add_to_buffer,
    empty_buffer,
    everything,
    sample_by_task,
    sample_contexts,
    sample_uniformly,
    stored,
)
from torch import Generator

from mrl_bench.types import EnvSpec, Rollout

CPU = torch.device("cpu")
SPEC = EnvSpec(obs_dim=2, act_dim=1, horizon=10, dt=0.1)


def rng(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


def numbered(*lengths: list[int], start: int = 1) -> Rollout:
    """Episodes of these lengths (one list a task), whose steps are numbered: task b's i-th reward is 100 b + i."""
    B, E, T = len(lengths), len(lengths[0]), max(map(max, lengths))
    mask = torch.arange(T) < torch.tensor(lengths)[..., None]  # (B, E, T)
    number = mask.flatten(1).cumsum(1).view(B, E, T) - 1 + start + 100 * torch.arange(B)[:, None, None]
    reward = torch.where(mask, number, 0).float()
    obs = torch.cat([reward, reward[..., -1:]], -1)[..., None].expand(-1, -1, -1, 2)
    ends = mask & (torch.arange(T) == torch.tensor(lengths)[..., None] - 1)
    return Rollout(
        obs, 3.0 * mask[..., None], reward, ends, mask.float(), torch.zeros(B, E, dtype=torch.bool)
    )


def held(buffer: Buffer, task: int) -> list[float]:
    """The rewards in a task's ring, sorted."""
    batch, mask = everything(buffer)
    return sorted(batch["reward"][task][mask[task] > 0].tolist())


def test_only_valid_steps_are_kept_and_tasks_do_not_mix() -> None:
    buffer = add_to_buffer(empty_buffer(2, 8, SPEC, CPU), numbered([2, 3], [1, 1]))
    assert stored(buffer).tolist() == [5, 2]
    assert held(buffer, 0) == [1, 2, 3, 4, 5]
    assert held(buffer, 1) == [101, 102]
    assert buffer["terminated"][0, :5].tolist() == [0, 1, 0, 0, 1]
    assert buffer["action"][0, :5].eq(1.0).all(), "actions are kept as they took effect, clamped"


def test_a_full_ring_drops_the_oldest() -> None:
    buffer = add_to_buffer(empty_buffer(1, 4, SPEC, CPU), numbered([3]))
    buffer = add_to_buffer(buffer, numbered([3], start=4))
    assert held(buffer, 0) == [3, 4, 5, 6]
    assert buffer["written"].tolist() == [6]
    assert buffer["first"].tolist() == [3]
    longer = add_to_buffer(buffer, numbered([9], start=7))
    assert held(longer, 0) == [12, 13, 14, 15]
    assert held(buffer, 0) == [3, 4, 5, 6], "add_to_buffer changes nothing that it is given"


def test_contexts_are_consecutive_transitions() -> None:
    buffer = add_to_buffer(empty_buffer(1, 4, SPEC, CPU), numbered([3]))
    buffer = add_to_buffer(buffer, numbered([3], start=4))  # 3, 4, 5, 6, and only 3 is of the first round
    tasks = torch.zeros(200, dtype=torch.int64)
    batch, mask = sample_contexts(buffer, tasks, 2, first_episode_prob=0.0, rng=rng())
    assert mask.all()
    assert set(map(tuple, batch["reward"].tolist())) == {(3, 4), (4, 5), (5, 6)}
    batch, mask = sample_contexts(buffer, tasks, 2, first_episode_prob=1.0, rng=rng())
    assert mask.tolist() == [[1, 0]] * 200
    assert batch["reward"][:, 0].eq(3).all()


def test_a_context_is_no_longer_than_what_a_task_has() -> None:
    buffer = add_to_buffer(empty_buffer(2, 8, SPEC, CPU), numbered([2], [5]))
    batch, mask = sample_contexts(buffer, torch.tensor([0, 1]), 4, first_episode_prob=0.0, rng=rng())
    assert mask.sum(1).tolist() == [2, 4]
    assert batch["reward"][0, :2].tolist() == [1, 2]


def test_sampling_by_task_is_balanced_and_uniform_sampling_is_not() -> None:
    buffer = add_to_buffer(empty_buffer(2, 40, SPEC, CPU), numbered([10], [30]))
    by_task = sample_by_task(buffer, torch.tensor([0, 1]), 10_000, rng())["reward"]
    assert by_task[0].unique().tolist() == list(range(1, 11))
    assert by_task[1].unique().tolist() == list(range(101, 131))
    uniformly = sample_uniformly(buffer, 40_000, rng())["reward"]
    assert set(uniformly.tolist()) == {*range(1, 11), *range(101, 131)}
    assert (uniformly < 100).float().mean().item() == pytest.approx(10 / 40, abs=0.03)
    for draws in (by_task[0], uniformly):
        counts = draws.unique(return_counts=True)[1]
        assert counts.max() < 1.3 * counts.min(), "each transition is as likely as any other"


def test_a_task_without_data_is_never_drawn_uniformly() -> None:
    buffer = add_to_buffer(empty_buffer(3, 4, SPEC, CPU), numbered([2], [1], [1]))
    buffer = {key: value.clone() for key, value in buffer.items()}
    buffer["written"][1] = 0
    assert set(sample_uniformly(buffer, 200, rng())["reward"].tolist()) == {1, 2, 201}


def test_replay_draws_tasks_with_data_alone() -> None:
    replay = Replay(4, 8, SPEC, CPU)
    assert len(replay) == 0
    tasks = replay.new_tasks(3)
    replay.add(tasks, numbered([2], [0], [1]))
    assert len(replay) == 2
    assert replay.with_data(tasks).tolist() == [0, 2]
    assert set(replay.draw_tasks(100, rng()).tolist()) == {0, 2}


def test_replay_takes_new_tasks_in_place_of_the_oldest() -> None:
    replay = Replay(3, 8, SPEC, CPU)
    first = replay.new_tasks(2)
    replay.add(first, numbered([2], [3]))
    assert len(replay) == 2
    second = replay.new_tasks(2)
    replay.add(second, numbered([4], [5]))
    assert second.tolist() == [2, 0]
    assert len(replay) == 3
    assert stored(replay.buffer).tolist() == [5, 3, 4]
    replay.add(second, numbered([1], [1], start=50))
    assert held(replay.buffer, 2) == [1, 2, 3, 4, 50]
    assert replay.buffer["first"].tolist() == [5, 3, 4], "later rounds are not the first"

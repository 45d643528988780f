"""Replay buffers by task: each task has a ring of its latest transitions, on the agent's device.

A `Buffer` is a dictionary of tensors that lead with B, so an agent's state can hold the buffer of B tasks:

    obs, next_obs (B, N, O)   action (B, N, A) in [-1, 1]   reward, terminated (B, N)
    written (B,) transitions written so far; the ring holds the last min(written, N) of them
    first (B,) number of those from the first round, before any adaptation

Nothing here waits for the device but `Replay.with_data`: masks and indices that are computed there say which entries
are valid.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from mrl_bench.types import EnvSpec, Rollout

Buffer = dict[str, Tensor]
# Some transitions: "obs" (..., O), "action" (..., A), "next_obs" (..., O), "reward" (...), "terminated" (...) 1 or 0.
Transitions = dict[str, Tensor]

FIELDS = ("obs", "action", "next_obs", "reward", "terminated")


def empty_buffer(tasks: int, capacity: int, spec: EnvSpec, device: torch.device) -> Buffer:
    """Rings of N = `capacity` transitions for each of B = `tasks` tasks."""
    rings = (tasks, capacity)
    return {
        "obs": torch.zeros(*rings, spec.obs_dim, device=device),
        "action": torch.zeros(*rings, spec.act_dim, device=device),
        "next_obs": torch.zeros(*rings, spec.obs_dim, device=device),
        "reward": torch.zeros(rings, device=device),
        "terminated": torch.zeros(rings, device=device),
        "written": torch.zeros(tasks, dtype=torch.int64, device=device),
        "first": torch.zeros(tasks, dtype=torch.int64, device=device),
    }


def transitions_of(rollout: Rollout) -> tuple[Transitions, Tensor]:
    """The steps of a rollout, episode after episode, as leaves (B, E * T, .), and their mask (B, E * T)."""
    steps = {
        "obs": rollout.obs[:, :, :-1],
        "action": rollout.action.clamp(-1.0, 1.0),  # what took effect
        "next_obs": rollout.obs[:, :, 1:],
        "reward": rollout.reward,
        "terminated": rollout.terminated.to(rollout.reward.dtype),
    }
    return {key: value.flatten(1, 2) for key, value in steps.items()}, rollout.mask.flatten(1, 2)


def add_to_buffer(buffer: Buffer, rollout: Rollout) -> Buffer:
    """The buffer of B tasks with a round of their episodes added; the argument is not changed."""
    steps, mask = transitions_of(rollout)
    capacity, valid = buffer["reward"].shape[1], mask > 0
    number = valid.cumsum(1) - 1  # (B, E * T): index of each valid step in this rollout
    total = number[:, -1:] + 1
    kept = valid & (number >= total - capacity)
    # Steps that are not kept go to a column behind the ring, which is cut off again.
    column = torch.where(kept, (buffer["written"][:, None] + number) % capacity, capacity)
    rows = torch.arange(len(column), device=column.device)[:, None]
    after = {}
    for key in FIELDS:
        ring = torch.cat([buffer[key], buffer[key][:, :1]], 1)
        after[key] = ring.index_put((rows, column), steps[key].to(ring.dtype))[:, :capacity]
    after["first"] = torch.where(buffer["written"] == 0, total[:, 0], buffer["first"])
    after["written"] = buffer["written"] + total[:, 0]
    return after


def stored(buffer: Buffer) -> Tensor:
    """Number of transitions in each ring, (B,)."""
    return buffer["written"].clamp(max=buffer["reward"].shape[1])


def everything(buffer: Buffer) -> tuple[Transitions, Tensor]:
    """All transitions of the rings, in no particular order: leaves (B, N, .) and their mask (B, N)."""
    columns = torch.arange(buffer["reward"].shape[1], device=buffer["reward"].device)
    mask = (columns < stored(buffer)[:, None]).to(buffer["reward"].dtype)
    return {key: buffer[key] for key in FIELDS}, mask


def sample_uniformly(buffer: Buffer, count: int, rng: Generator) -> Transitions:
    """Draws from the transitions of all tasks, each as likely as any other, with replacement: leaves (count, .)."""
    ends = stored(buffer).cumsum(0)  # (B,)
    draw = _below(ends[-1].expand(count), rng)
    task = torch.searchsorted(ends, draw, right=True)
    return _take(buffer, task, draw - (ends - stored(buffer))[task])


def sample_by_task(buffer: Buffer, tasks: Tensor, count: int, rng: Generator) -> Transitions:
    """Draws `count` transitions of each of some tasks (T,), with replacement: leaves (T, count, .).

    A task without transitions gives zeros, or what its ring held before it was emptied.
    """
    held = stored(buffer)[tasks]
    return _take(buffer, tasks[:, None], _below(held[:, None].expand(-1, count), rng))


def sample_contexts(
    buffer: Buffer, tasks: Tensor, length: int, first_episode_prob: float, rng: Generator
) -> tuple[Transitions, Tensor]:
    """A stretch of `length` transitions in the order in which they were played, from each of some tasks (T,).

    Args:
        buffer: with any number of tasks.
        tasks: (T,) their indices.
        length: transitions in a stretch; a task with fewer gives all of them.
        first_episode_prob: probability that the stretch lies within the task's first round.
        rng: on the buffer's device.

    Returns:
        Leaves (T, length, .) and their mask (T, length).
    """
    held, written = stored(buffer)[tasks], buffer["written"][tasks]
    first = (buffer["first"][tasks] - (written - held)).clamp(min=0)  # still in the ring from the first round
    only_first = torch.rand(len(tasks), generator=rng, device=tasks.device) < first_episode_prob
    span = torch.where(only_first & (first > 0), first, held)  # the stretch lies within the `span` oldest
    start = _below((span - length).clamp(min=0) + 1, rng)
    position = start[:, None] + torch.arange(length, device=tasks.device)
    mask = (position < span[:, None]).to(buffer["reward"].dtype)
    return _take(buffer, tasks[:, None], position), mask


def _below(bound: Tensor, rng: Generator) -> Tensor:
    """Uniform whole numbers in [0, bound), elementwise; 0 where the bound is 0."""
    draw = torch.rand(bound.shape, generator=rng, device=bound.device, dtype=torch.float64)
    return (draw * bound).long()


def _take(buffer: Buffer, task: Tensor, position: Tensor) -> Transitions:
    """The transitions at positions of rings, counted from the oldest; both indices broadcast."""
    capacity = buffer["reward"].shape[1]
    column = ((buffer["written"] - stored(buffer))[task] + position) % capacity
    return {key: buffer[key][task, column] for key in FIELDS}


class Replay:
    """The replay buffer of meta-training: new tasks replace the oldest when it is full."""

    def __init__(self, tasks: int, capacity: int, spec: EnvSpec, device: torch.device) -> None:
        """Args: tasks: number of rings. capacity: transitions in a ring."""
        self.buffer = empty_buffer(tasks, capacity, spec, device)
        self.seen = 0  # tasks added so far
        # Indices of the tasks with transitions.
        self.filled = torch.zeros(0, dtype=torch.int64, device=device)

    def __len__(self) -> int:
        """Number of tasks with transitions; one whose every episode failed in its first step has none."""
        return len(self.filled)

    def new_tasks(self, count: int) -> Tensor:
        """Empties the rings of `count` new tasks and returns their indices, (count,)."""
        rings = self.buffer["written"]
        tasks = torch.arange(self.seen, self.seen + count, device=rings.device) % len(rings)
        self.seen += count
        for key in ("written", "first"):
            self.buffer[key][tasks] = 0
        return tasks

    def add(self, tasks: Tensor, rollout: Rollout) -> None:
        """Adds a round of episodes of the tasks with these indices."""
        after = add_to_buffer({key: value[tasks] for key, value in self.buffer.items()}, rollout)
        for key, value in after.items():
            self.buffer[key][tasks] = value
        self.filled = self.with_data(torch.arange(len(self.buffer["written"]), device=self.filled.device))

    def with_data(self, tasks: Tensor) -> Tensor:
        """Those of the tasks with these indices that have transitions."""
        return tasks[self.buffer["written"][tasks] > 0]

    def draw_tasks(self, count: int, rng: Generator) -> Tensor:
        """Draws indices of tasks with transitions, (count,), with replacement."""
        drawn = torch.randint(len(self), (count,), generator=rng, device=self.filled.device)
        return self.filled[drawn]

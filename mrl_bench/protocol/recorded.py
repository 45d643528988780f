"""Actions of a sample of scored episodes, and a check that plays them again without the agent.

On each split, S tasks are recorded: the first scored episode at every k. Which tasks follows from all returns of the
split, so that whoever invents returns does not know beforehand for which of them actions are asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mrl_bench.keyed_random import seed_of, uniforms
from mrl_bench.results import Curve

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from mrl_bench.family import BatchEnv
    from mrl_bench.scenario import Scenario
    from mrl_bench.types import Rollout

TASKS = 4  # S, or fewer where a split has fewer tasks


@dataclass(frozen=True)
class RecordedSplit:
    """The recorded episodes of one split. What comes after the end of an episode is 0."""

    action: NDArray[np.float32]  # (S, K, T, A) as the environment got it
    reward: NDArray[np.float32]  # (S, K, T)
    length: NDArray[np.int64]  # (S, K) control steps


class Recorder:
    """Keeps the first scored episode of every task, until the returns say which tasks are recorded."""

    def __init__(self) -> None:
        self._kept: list[tuple[Tensor, Tensor, Tensor]] = []

    def keep(self, rollout: Rollout) -> None:
        """Takes the scored episodes (B, N) at the next k."""
        self._kept.append(
            (rollout.action[:, 0].cpu(), rollout.reward[:, 0].cpu(), rollout.lengths()[:, 0].cpu())
        )

    def recorded(self, curve: Curve) -> RecordedSplit:
        """The episodes of the tasks that the returns choose."""
        chosen, longest = chosen_tasks(curve), max(action.shape[1] for action, _, _ in self._kept)

        def series(values: list[Tensor]) -> NDArray[np.float32]:
            """(B, T', ...) at every k -> (S, K, T, ...)."""
            out = np.zeros((len(chosen), len(values), longest, *values[0].shape[2:]), np.float32)
            for k, value in enumerate(values):
                out[:, k, : value.shape[1]] = value[chosen].numpy()
            return out

        actions, rewards, lengths = (list(each) for each in zip(*self._kept, strict=True))
        return RecordedSplit(
            action=series(actions),
            reward=series(rewards),
            length=np.stack([length[chosen].numpy() for length in lengths], 1).astype(np.int64),
        )


def chosen_tasks(curve: Curve) -> NDArray[np.int64]:
    """The tasks (S,) whose episodes are recorded, ascending: a function of the returns."""
    digest = blake2b(np.ascontiguousarray(curve.returns).tobytes(), digest_size=8).hexdigest()
    order = np.argsort(uniforms(("recorded", digest), len(curve.returns)), kind="stable")
    return np.sort(order[:TASKS])


def to_bytes(splits: Mapping[str, RecordedSplit]) -> bytes:
    """As a safetensors file."""
    from safetensors.numpy import save

    return save({f"{split}.{name}": x for split, each in splits.items() for name, x in vars(each).items()})


def from_bytes(data: bytes) -> dict[str, RecordedSplit]:
    """Raises: ValueError: it is not what `to_bytes` wrote."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        arrays = load(data)
    except SafetensorError:
        raise ValueError("it is no safetensors file") from None
    splits: dict[str, dict[str, NDArray[np.float32]]] = {}
    for key, array in arrays.items():
        split, _, name = key.partition(".")
        splits.setdefault(split, {})[name] = array
    try:
        return {split: RecordedSplit(**each) for split, each in splits.items()}  # type: ignore[arg-type]
    except TypeError:
        raise ValueError("it holds other arrays than recorded episodes") from None


def replay(
    scenario: Scenario, split: str, curve: Curve, recorded: RecordedSplit, device: torch.device
) -> list[str]:
    """Plays recorded actions in the scenario's environments.

    Args:
        scenario: as the agent played it.
        split: "train", "test" or "ood".
        curve: the claimed one of that split.
        recorded: of that split.
        device: where to simulate.

    Returns:
        What differs from the claim, one sentence each; nothing if the rewards are equal and add up to the returns.
    """
    chosen, longest = chosen_tasks(curve), recorded.action.shape[2:3]
    S, K, T = len(chosen), len(curve.k), longest[0] if longest else -1
    shapes = (recorded.action.shape, recorded.reward.shape, recorded.length.shape)
    if shapes != ((S, K, T, scenario.spec.act_dim), (S, K, T), (S, K)) or scenario.horizon < T:
        return [f"its recorded episodes on {split} have the shapes {shapes}"]
    if not ((recorded.length >= 0) & (recorded.length <= T)).all():
        return [f"its recorded episodes on {split} have impossible lengths"]
    differences = []
    with closing(scenario.family.make(scenario.tasks(split), curve.returns.shape[2], device)) as env:
        for at, k in enumerate(curve.k):
            one = RecordedSplit(*(values[:, at] for values in vars(recorded).values()))
            reward, ended = _played(env, seed_of("scored", scenario.id, split, 0), one, chosen)
            failures = curve.failed[:, at] - curve.online.failed[:, :k].sum(1)
            for row, task in enumerate(chosen.tolist()):
                where, earned = f"{split} task {task} at k = {k}", one.reward[row].sum(dtype=np.float64)
                if not np.array_equal(reward[row], one.reward[row]):
                    off = np.abs(reward[row] - one.reward[row]).max()
                    differences.append(f"the rewards of {where} differ by up to {off:.3g}")
                if not np.isclose(earned, curve.returns[task, at, 0], rtol=1e-4, atol=1e-4):
                    differences.append(
                        f"the rewards of {where} add up to {earned:.6g}, and its return is "
                        f"{curve.returns[task, at, 0]:.6g}"
                    )
                if not (ended[row] or one.length[row] == scenario.horizon or failures[task]):
                    differences.append(f"the episode of {where} does not end after {one.length[row]} steps")
    return differences


def _played(
    env: BatchEnv, seed: int, one: RecordedSplit, chosen: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Plays the recorded episodes at one k.

    Returns:
        Their rewards (S, T), and whether the environment ended each of them with its last step (S,).
    """
    import torch

    first = env.reset(seed)
    reward, ended = np.zeros_like(one.reward), np.zeros(len(chosen), bool)
    for t in range(int(one.length.max(initial=0))):
        action = first.new_zeros(*first.shape[:2], one.action.shape[-1])
        action[chosen, 0] = torch.from_numpy(one.action[:, t]).to(first)
        step, last, played = env.step(action), one.length == t + 1, t < one.length
        reward[:, t] = np.where(played, step.reward[chosen, 0].cpu().numpy(), 0.0)
        ended |= last & step.terminated[chosen, 0].cpu().numpy()
    return reward, ended

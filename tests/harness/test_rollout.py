"""What `collect` makes of an episode, whatever environment and agent do."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from mrl_bench.errors import ContractError
from mrl_bench.protocol import rollout as protocol
from mrl_bench.types import EnvSpec, Memory, Rollout, Step, TimeStep

B, E, T = 2, 3, 6
SPEC = EnvSpec(obs_dim=2, act_dim=1, horizon=T, dt=0.1)


class Scripted:
    """B x E environment instances whose reward is 1 a step and whose observation counts the steps; `events` break in.

    After the end of its episode an instance returns meaningless numbers, as the contract allows.
    """

    def __init__(self, events: dict[tuple[int, int, int], str] | None = None, episodes: int = E) -> None:
        self.events, self.episodes = events or {}, episodes
        self.steps, self.given = 0, []

    def reset(self, seed: int) -> Tensor:
        self.t, self.ended = 0, torch.zeros(B, self.episodes, dtype=torch.bool)
        instances = torch.arange(B)[:, None] * 10.0 + torch.arange(self.episodes)
        self.instances = torch.stack([instances + seed, torch.zeros_like(instances)], -1)
        return self.instances.clone()

    def step(self, action: Tensor) -> Step:
        self.steps += 1
        self.given.append(action.clone())
        self.t += 1
        self.instances[..., 1] += 1
        obs, reward = self.instances.clone(), torch.ones(B, self.episodes)
        terminated, failed = (torch.zeros(B, self.episodes, dtype=torch.bool) for _ in range(2))
        obs[self.ended], reward[self.ended] = 99.0, 99.0
        for (b, e, t), what in self.events.items():
            if t != self.t - 1:
                continue
            if what == "terminated":
                terminated[b, e] = True
            elif what == "failed":
                failed[b, e] = True
            elif what == "reward":
                reward[b, e] = math.inf
            elif what == "obs":
                obs[b, e, 1] = math.nan
        self.ended = self.ended | terminated | failed
        return Step(obs, reward, terminated, failed)

    def close(self) -> None:
        pass


def still(
    state: object, memory: Memory, step: TimeStep, explore: bool, rng: torch.Generator
) -> tuple[Tensor, Memory]:
    return torch.zeros(*step.obs.shape[:2], 1), memory


def play(env: Scripted, act: Callable = still, **options: object) -> Rollout:
    given = {"noise_seed": 1, "explore": True} | options
    return protocol.play(env, env.reset(5), SPEC, act, {}, (), **given)[0]


def noisy(
    state: object, memory: Memory, step: TimeStep, explore: bool, rng: torch.Generator
) -> tuple[Tensor, Memory]:
    return torch.rand(*step.obs.shape[:2], 1, generator=rng), memory


def with_action(value: float, instance: tuple[int, int], t: int) -> Callable:
    def act(
        state: object, memory: Memory, step: TimeStep, explore: bool, rng: torch.Generator
    ) -> tuple[Tensor, Memory]:
        action = torch.full((*step.obs.shape[:2], 1), 0.5)
        if step.t == t:
            action[instance] = value
        return action, memory

    return act


def test_an_undisturbed_rollout_has_every_step_of_every_instance() -> None:
    rollout = play(Scripted())
    assert rollout.obs.shape == (B, E, T + 1, 2)
    assert rollout.action.shape == (B, E, T, 1)
    assert rollout.obs[1, 2, :, 1].tolist() == list(range(T + 1))
    assert (rollout.obs[1, 2, :, 0] == 17).all()  # instance 12, started from seed 5
    assert (rollout.returns() == T).all()
    assert (rollout.lengths() == T).all()
    assert not rollout.failed.any()
    assert not rollout.terminated.any()  # an episode that is cut by the horizon has not terminated


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_an_action_that_is_not_finite_fails_in_its_step_and_earns_nothing_after(value: float) -> None:
    env = Scripted()
    rollout = play(env, with_action(value, (1, 0), t=2))
    assert rollout.failed.nonzero().tolist() == [[1, 0]]
    assert rollout.reward[1, 0].tolist() == [1, 1, 0, 0, 0, 0]
    assert rollout.mask[1, 0].tolist() == [1, 1, 0, 0, 0, 0]
    assert rollout.returns()[0].tolist() == [T] * E
    assert all(action.isfinite().all() for action in env.given), "the environment never sees it"
    assert rollout.action.isfinite().all()


@pytest.mark.parametrize("what", ["failed", "reward", "obs"])
def test_a_step_that_breaks_down_is_flagged_and_gives_neither_reward_nor_observation(what: str) -> None:
    rollout = play(Scripted({(0, 1, 3): what}))
    assert rollout.failed.nonzero().tolist() == [[0, 1]]
    assert rollout.reward[0, 1].tolist() == [1, 1, 1, 0, 0, 0]
    assert rollout.mask[0, 1].tolist() == [1, 1, 1, 0, 0, 0]
    assert rollout.obs[0, 1, :, 1].tolist() == [0, 1, 2, 3, 3, 3, 3]
    assert not rollout.terminated.any()
    assert all(series.isfinite().all() for series in (rollout.obs, rollout.action, rollout.reward))


def test_what_happens_after_the_end_of_an_episode_does_not_count() -> None:
    rollout = play(
        Scripted({(0, 0, 1): "terminated", (0, 0, 3): "failed", (0, 0, 4): "reward", (0, 0, 5): "obs"})
    )
    assert not rollout.failed.any()
    assert rollout.terminated[0, 0].tolist() == [False, True, False, False, False, False]


def test_an_ended_instance_earns_nothing_and_repeats_its_last_observation() -> None:
    rollout = play(Scripted({(1, 1, 2): "terminated"}))
    assert rollout.reward[1, 1].tolist() == [1, 1, 1, 0, 0, 0]  # the step that terminates counts
    assert rollout.mask[1, 1].tolist() == [1, 1, 1, 0, 0, 0]
    assert rollout.obs[1, 1, :, 1].tolist() == [0, 1, 2, 3, 3, 3, 3]
    assert rollout.lengths()[1].tolist() == [T, 3, T]
    assert rollout.returns()[1].tolist() == [T, 3, T]


def test_a_rollout_stops_once_every_instance_has_ended() -> None:
    env = Scripted({(b, e, 1 + (b + e) % 2): "terminated" for b in range(B) for e in range(E)})
    rollout = play(env)
    assert env.steps == 3
    assert rollout.reward.shape == (B, E, 3)
    assert sorted(rollout.lengths().flatten().tolist()) == [2, 2, 2, 3, 3, 3]


def test_no_episode_is_longer_than_the_horizon() -> None:
    env = Scripted()
    short = replace(SPEC, horizon=2)
    rollout, _ = protocol.play(env, env.reset(5), short, still, {}, (), noise_seed=1, explore=False)
    assert env.steps == rollout.reward.shape[2] == 2


def test_an_agent_sees_the_step_before_and_hands_on_its_memory() -> None:
    seen = []

    def act(
        state: object, memory: Memory, step: TimeStep, explore: bool, rng: torch.Generator
    ) -> tuple[Tensor, Memory]:
        seen.append((memory[0].tolist(), step.t, step.action[0, 0, 0].item(), step.reward[0].tolist()))
        return memory.float()[..., None], memory + 1

    env = Scripted({(0, 1, 1): "terminated"})
    start = torch.full((B, E), 7)
    _, memory = protocol.play(env, env.reset(5), SPEC, act, {}, start, noise_seed=1, explore=False)
    assert memory.tolist() == [[13, 9, 13], [13, 13, 13]]  # that of an ended episode stays
    assert seen[:4] == [
        ([7, 7, 7], 0, 0.0, [0, 0, 0]),
        ([8, 8, 8], 1, 7.0, [1, 1, 1]),
        ([9, 9, 9], 2, 8.0, [1, 1, 1]),
        ([10, 9, 10], 3, 9.0, [1, 0, 1]),
    ]


def test_memory_is_frozen_even_if_act_writes_into_it() -> None:
    def act(
        state: object, memory: Memory, step: TimeStep, explore: bool, rng: torch.Generator
    ) -> tuple[Tensor, Memory]:
        memory["steps"] += 1
        return torch.zeros(B, E, 1), memory

    env = Scripted({(1, 2, 0): "terminated"})
    start = {"steps": torch.zeros(B, E)}
    _, memory = protocol.play(env, env.reset(5), SPEC, act, {}, start, noise_seed=1, explore=False)
    assert memory["steps"].tolist() == [[T, T, T], [T, T, 1]]
    assert not start["steps"].any()


@pytest.mark.parametrize(
    "after", [(), torch.zeros(B, E, 2), torch.zeros(B, E, dtype=torch.int64), [torch.zeros(B, E)], None, 1]
)
def test_a_memory_of_another_form_is_refused(after: Memory) -> None:
    env = Scripted()
    with pytest.raises(ContractError, match="act returned a memory of another form"):
        protocol.play(
            env,
            env.reset(5),
            SPEC,
            lambda *given: (torch.zeros(B, E, 1), after),
            {},
            torch.zeros(B, E),
            noise_seed=1,
            explore=False,
        )


@pytest.mark.parametrize("dtype", [torch.int64, torch.bfloat16, torch.float64, torch.bool])
def test_actions_of_other_real_dtypes_are_converted(dtype: torch.dtype) -> None:
    rollout = play(Scripted(), lambda *given: (torch.ones(B, E, 1, dtype=dtype), ()))
    assert rollout.action.dtype == torch.float32
    assert (rollout.action == 1).all()


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (torch.zeros(B, E, 1), "act must return (action, memory), and returned a Tensor"),
        (None, "act must return (action, memory), and returned None"),
        ((np.zeros((B, E, 1)), ()), "act must return its action as a tensor, and returned a numpy array"),
        ((torch.zeros(B, E, 1, dtype=torch.complex64), ()), "act returned complex actions"),
    ],
)
def test_what_is_no_action_is_refused(returned: object, message: str) -> None:
    with pytest.raises(ContractError, match=re.escape(message)):
        play(Scripted(), lambda *given: returned)


def test_a_strict_rollout_refuses_an_action_that_is_not_finite() -> None:
    with pytest.raises(ContractError, match="an action that is not finite at t = 2"):
        play(Scripted(), with_action(math.nan, (1, 0), t=2), strict=True)


def test_explore_reaches_the_agent() -> None:
    seen = set()

    def act(
        state: object, memory: Memory, step: TimeStep, explore: bool, rng: torch.Generator
    ) -> tuple[Tensor, Memory]:
        seen.add(explore)
        return still(state, memory, step, explore, rng)

    play(Scripted(), act, explore=True)
    assert seen == {True}
    play(Scripted(), act, explore=False)
    assert seen == {True, False}


@pytest.mark.parametrize("shape", [(B, E), (B, 1, 1), (B, E, 2), (1, 1, 1), (B * E, 1), ()])
def test_actions_of_a_wrong_shape_are_refused(shape: tuple[int, ...]) -> None:
    def act(
        state: object, memory: Memory, step: TimeStep, explore: bool, rng: torch.Generator
    ) -> tuple[Tensor, Memory]:
        return torch.zeros(shape), memory

    with pytest.raises(
        ContractError, match=r"act returned actions of shape .*, not \(B, E, A\) = \(2, 3, 1\)"
    ):
        play(Scripted(), act)


def test_noise_does_not_depend_on_what_happens_to_neighbours() -> None:
    quiet = play(Scripted(), noisy)
    disturbed = play(Scripted({(0, 0, 0): "terminated", (1, 1, 2): "failed"}), noisy)
    assert torch.equal(quiet.action[0, 1:], disturbed.action[0, 1:])
    assert torch.equal(quiet.action[1, [0, 2]], disturbed.action[1, [0, 2]])
    assert torch.equal(play(Scripted(), noisy).action, quiet.action)
    assert not torch.equal(play(Scripted(), noisy, noise_seed=2).action, quiet.action)


def test_the_noise_seed_does_not_move_the_starts() -> None:
    one, other = (play(Scripted(), noisy, noise_seed=noise_seed) for noise_seed in (1, 2))
    assert torch.equal(one.obs, other.obs)


def test_an_agent_that_writes_into_its_input_changes_no_record() -> None:
    def act(
        state: object, memory: Memory, step: TimeStep, explore: bool, rng: torch.Generator
    ) -> tuple[Tensor, Memory]:
        action, memory = noisy(state, memory, step, explore, rng)
        for tensor in (step.obs, step.action, step.reward, step.alive):
            tensor.fill_(1e6)
        return action, memory

    events = {(0, 0, 2): "terminated"}
    wanted, got = play(Scripted(events), noisy), play(Scripted(events), act)
    for name in ("obs", "action", "reward", "terminated", "mask", "failed"):
        assert torch.equal(getattr(wanted, name), getattr(got, name)), name


def test_nothing_is_recorded_for_differentiation() -> None:
    weight = torch.ones(1, requires_grad=True)

    def act(
        state: object, memory: Memory, step: TimeStep, explore: bool, rng: torch.Generator
    ) -> tuple[Tensor, Memory]:
        return step.obs[..., :1] * weight, memory

    assert not play(Scripted(), act).action.requires_grad

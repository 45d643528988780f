"""Agents that break one promise each. `BROKEN` says which: class -> the check that refuses it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Generator, Tensor

from mrl_bench.agent import Training
from mrl_bench.errors import BudgetSpent
from mrl_bench.types import EnvSpec, Memory, Rollout, State, TimeStep


@dataclass(frozen=True)
class SoundConfig:
    gain: float = 0.5


class Sound:
    """Keeps every promise: pushes as in training and adaptation, more or less than in its previous step, with noise."""

    Config: ClassVar[Any] = SoundConfig

    def __init__(self, spec: EnvSpec, config: SoundConfig, seed: int, device: torch.device) -> None:
        self.spec, self.config, self.device = spec, config, device
        self.push = torch.rand(spec.act_dim, generator=torch.Generator().manual_seed(seed)).to(device)

    def meta_train(self, training: Training) -> None:
        while training.left > 0:
            state = self.initial_state(2)
            rollout, _ = training.tasks(2, 2).collect(self.act, state, self.start_episode(state, 2))
            self.push = 0.9 * self.push + 0.1 * rollout.action.mean((0, 1, 2))

    def initial_state(self, num_tasks: int) -> Any:
        return {"push": self.push.expand(num_tasks, -1).clone()}

    def start_episode(self, state: State, num_envs: int) -> Any:
        return {"previous": torch.zeros(len(state["push"]), num_envs, self.spec.act_dim, device=self.device)}

    def act(self, state: State, memory: Memory, step: TimeStep, explore: bool, rng: Generator) -> Any:
        noise = torch.rand(memory["previous"].shape, generator=rng, device=self.device) - 0.5
        action = state["push"][:, None] - 0.5 * memory["previous"] - step.obs[..., 2:3]
        return action + noise * explore, {"previous": action}

    def adapt(self, state: State, memory: Memory, rollout: Rollout, rng: Generator) -> Any:
        better = 0.01 * rollout.returns().mean(1, keepdim=True)
        played = (rollout.action * rollout.mask[..., None]).sum((1, 2)) / rollout.lengths().sum(
            1, keepdim=True
        )
        return {"push": state["push"] + self.config.gain * played + better}

    def state_dict(self) -> dict[str, Any]:
        return {"push": self.push}

    def load_state_dict(self, tensors: Mapping[str, Tensor]) -> None:
        self.push = tensors["push"]


# -- Config, methods and constructor ---------------------------------------------------------------------------------


class HasNoConfig(Sound):
    Config = None


class ConfiguresWithADict(Sound):
    Config: ClassVar = {"gain": 0.5}


class ConfiguresWithAClass(Sound):
    class Config:
        gain = 0.5


class ConfigCanChange(Sound):
    @dataclass
    class Config:
        gain: float = 0.5


class ConfigAsksForMore(Sound):
    @dataclass(frozen=True)
    class Config:
        gain: float


class HasNoMetaTrain(Sound):
    meta_train = None


class HasNoInitialState(Sound):
    initial_state = None


class HasNoStartEpisode(Sound):
    start_episode = None


class HasNoAct(Sound):
    act = None


class HasNoAdapt(Sound):
    adapt = None


class HasNoStateDict(Sound):
    state_dict = None


class HasNoLoadStateDict(Sound):
    load_state_dict = None


class IsOfTheOldContract(Sound):
    def act(self, state, step, explore, rng):
        return super().act(state, self.start_episode(state, 1), step, explore, rng)

    def adapt(self, state, rollout, rng):
        return super().adapt(state, (), rollout, rng)


class IsSomewhatSequential(Sound):
    sequential = "yes"


class CannotBeMade(Sound):
    def __init__(self, spec, config, seed, device):
        super().__init__(spec, config, seed, device)
        raise FileNotFoundError("weights.pt")


class IsMadeWithoutADevice(Sound):
    def __init__(self, spec, config, seed):
        super().__init__(spec, config, seed, torch.device("cpu"))


class TrainsWhenItIsMade(Sound):
    def __init__(self, spec, config, seed, device):
        super().__init__(spec, config, seed, device)
        self.meta_train(None)


# -- meta-training ---------------------------------------------------------------------------------------------------


class FailsToTrain(Sound):
    def meta_train(self, training):
        raise ValueError("no\nidea")


class ExitsFromTraining(Sound):
    def meta_train(self, training):
        sys.exit("that is enough")


class NeverStops(Sound):
    def meta_train(self, training):
        while True:
            state = self.initial_state(1)
            with suppress(BudgetSpent):
                training.tasks(1, 1).collect(self.act, state, self.start_episode(state, 1))


class AsksForTasksForever(Sound):
    def meta_train(self, training):
        while True:
            with suppress(BudgetSpent):
                super().meta_train(training)
            training.tasks(1, 1)


class AsksForHalfATask(Sound):
    def meta_train(self, training):
        training.tasks(2.5, 1)


class IgnoresItsSeed(Sound):
    def __init__(self, spec, config, seed, device):
        super().__init__(spec, config, int.from_bytes(os.urandom(4)), device)


class TrainsAtRandom(Sound):
    def meta_train(self, training):
        with suppress(BudgetSpent):
            super().meta_train(training)
        self.push = self.push + torch.from_numpy(np.random.default_rng().random(1, dtype=np.float32))


# -- states and memories ---------------------------------------------------------------------------------------------


class StartsWithNone(Sound):
    def initial_state(self, num_tasks):
        return None


class StartsWithNumpy(Sound):
    def initial_state(self, num_tasks):
        return {"push": super().initial_state(num_tasks)["push"].numpy()}


class StartsWithAnObject(Sound):
    def initial_state(self, num_tasks):
        return super().initial_state(num_tasks) | {"history": SoundConfig()}


class StartsWithACount(Sound):
    def initial_state(self, num_tasks):
        return super().initial_state(num_tasks) | {"rounds": 0}


class StartsWithoutTasks(Sound):
    def initial_state(self, num_tasks):
        return super().initial_state(num_tasks) | {"rounds": torch.zeros(1 + num_tasks)}


class StartsWithNan(Sound):
    def initial_state(self, num_tasks):
        return super().initial_state(num_tasks) | {"best": torch.full((num_tasks,), torch.nan)}


class RemembersNone(Sound):
    def start_episode(self, state, num_envs):
        return None


class RemembersOfTasks(Sound):
    def start_episode(self, state, num_envs):
        return {"previous": super().start_episode(state, num_envs)["previous"][:, 0]}


class RemembersAList(Sound):
    def start_episode(self, state, num_envs):
        return {"previous": super().start_episode(state, num_envs)["previous"].tolist()}


# -- act and adapt ---------------------------------------------------------------------------------------------------


class ActsWithoutMemory(Sound):
    def act(self, *arguments):
        return super().act(*arguments)[0]


class ReturnsNothing(Sound):
    def act(self, *arguments):
        super().act(*arguments)


class Changed(Sound):
    """An agent whose actions are changed."""

    def change(self, action: Tensor) -> Any:
        raise NotImplementedError

    def act(self, *arguments):
        action, memory = super().act(*arguments)
        return self.change(action), memory


class ActsInNumpy(Changed):
    change = staticmethod(Tensor.numpy)


class ActsTwice(Changed):
    def change(self, action):
        return action.repeat(1, 1, 2)


class ActsForTheFirstTask(Changed):
    def change(self, action):
        return action[0]


class ActsInTheComplexPlane(Changed):
    def change(self, action):
        return action * 1j


class ActsWithNan(Changed):
    def change(self, action):
        return action.masked_fill(action > 0.5, torch.nan)


class ActsWithInfinity(Changed):
    def change(self, action):
        return action / 0.0


class CrashesWhenItActs(Changed):
    def change(self, action):
        return action @ torch.ones(7)


class Remembers(Sound):
    """An agent whose memory is changed in every step."""

    def act(self, *arguments):
        action, memory = super().act(*arguments)
        return action, self.change(memory)


class RemembersMore(Remembers):
    def change(self, memory):
        return memory | {"actions": memory["previous"]}


class RemembersLonger(Remembers):
    def change(self, memory):
        return {"previous": torch.cat([memory["previous"]] * 2, -1)}


class RemembersInDoubles(Remembers):
    def change(self, memory):
        return {"previous": memory["previous"].double()}


class ForgetsItsMemory(Remembers):
    def change(self, memory):
        return ()


class RemembersInfinity(Remembers):
    def start_episode(self, state, num_envs):
        return super().start_episode(state, num_envs) | {"best": torch.zeros(len(state["push"]), num_envs)}

    def change(self, memory):
        best = torch.zeros(memory["previous"].shape[:2])
        return memory | {"best": best - torch.inf}


class AdaptsToNone(Sound):
    def adapt(self, *arguments):
        super().adapt(*arguments)


class AdaptsInNumpy(Sound):
    def adapt(self, *arguments):
        return {"push": super().adapt(*arguments)["push"].numpy()}


class AdaptsAllTasksToOne(Sound):
    def adapt(self, *arguments):
        return {"push": super().adapt(*arguments)["push"].mean(0, keepdim=True)}


class AdaptsToNan(Sound):
    def adapt(self, *arguments):
        return {"push": super().adapt(*arguments)["push"] * torch.nan}


class CrashesWhenItAdapts(Sound):
    def adapt(self, *arguments):
        return {"push": super().adapt(*arguments)["pull"]}


# -- what must not change --------------------------------------------------------------------------------------------


class CountsInAnAttribute(Changed):
    count = 0

    def change(self, action):
        self.count += 1
        return action


class WritesIntoItsWeights(Changed):
    def change(self, action):
        self.push += 0.1
        return action


class AdaptsItsWeights(Sound):
    def adapt(self, *arguments):
        state = super().adapt(*arguments)
        self.push = state["push"].mean(0)
        return state


class RemembersInItsClass(Changed):
    seen: ClassVar[list[Tensor]] = []

    def change(self, action):
        self.seen.append(action)
        return action


class DrawsFromItsOwnGenerator(Changed):
    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.rng = torch.Generator()

    def change(self, action):
        return action + torch.rand(1, generator=self.rng)


class DrawsGlobally(Changed):
    def change(self, action):
        return action + torch.rand_like(action)


class AdaptsGlobally(Sound):
    def adapt(self, *arguments):
        return {"push": super().adapt(*arguments)["push"] + torch.rand(1)}


class ScoresAtRandom(Sound):
    def act(self, state, memory, step, explore, rng):
        action, memory = super().act(state, memory, step, explore, rng)
        return action if explore else action + torch.randn_like(action), memory


def _counter() -> Callable[[], int]:
    calls: list[None] = []

    def count() -> int:
        calls.append(None)
        return len(calls)

    return count


_count = _counter()


class RemembersInItsModule(Changed):
    def change(self, action):
        return action + 0.01 * _count()


class ActsOnItsState(Sound):
    def act(self, state, memory, step, explore, rng):
        state["push"] += 0.01
        return super().act(state, memory, step, explore, rng)


class AddsToItsState(Sound):
    def act(self, state, memory, step, explore, rng):
        state["seen"] = step.obs.mean(1)
        return super().act(state, memory, step, explore, rng)


# -- tasks -----------------------------------------------------------------------------------------------------------


class AdaptsToTheMean(Sound):
    def adapt(self, state, memory, rollout, rng):
        return {"push": state["push"] + rollout.reward.mean()}


class NormalisesOverTasks(Sound):
    def act(self, state, memory, step, explore, rng):
        centred = step._replace(obs=step.obs - step.obs.mean((0, 1)))
        return super().act(state, memory, centred, explore, rng)


class AveragesItsLossOverTasks(Sound):
    def adapt(self, state, memory, rollout, rng):
        push = state["push"].clone().requires_grad_()
        with torch.enable_grad():
            loss = (push - rollout.returns().mean(1, keepdim=True)).square().mean()
            (slope,) = torch.autograd.grad(loss, push)
        return {"push": state["push"] - slope}


class CannotPlayOneTask(Sound):
    def adapt(self, state, memory, rollout, rng):
        if len(rollout.reward) == 1:
            raise IndexError("no other task")
        return super().adapt(state, memory, rollout, rng)


class IgnoresTheMask(Sound):
    def adapt(self, state, memory, rollout, rng):
        return {"push": state["push"] + rollout.action.mean((1, 2))}


# -- weights ---------------------------------------------------------------------------------------------------------


class SavesNumbers(Sound):
    def state_dict(self):
        return {"push": self.push, "gain": 0.5}


class SavesAList(Sound):
    def state_dict(self):
        return [self.push]


class ForgetsAWeight(Changed):
    def __init__(self, spec, config, seed, device):
        super().__init__(spec, config, seed, device)
        self.bias = torch.rand(1, generator=torch.Generator().manual_seed(seed))

    def change(self, action):
        return action + self.bias


class KeepsAWeightInItsClass(Changed):
    bias: ClassVar[float] = 0.0

    def meta_train(self, training):
        type(self).bias = 0.1
        super().meta_train(training)

    def change(self, action):
        return action + self.bias


_WEIGHTS = {"bias": 0.0}


class KeepsAWeightInItsModule(Changed):
    def meta_train(self, training):
        _WEIGHTS["bias"] = 0.1
        super().meta_train(training)

    def change(self, action):
        return action + _WEIGHTS["bias"]


class LoadsNothing(Sound):
    def load_state_dict(self, tensors):
        pass


class CannotLoad(Sound):
    def load_state_dict(self, tensors):
        self.push = tensors["weights"]


BROKEN = {
    "HasNoConfig": "has_a_config",
    "ConfiguresWithADict": "has_a_config",
    "ConfiguresWithAClass": "has_a_config",
    "ConfigCanChange": "has_a_config",
    "ConfigAsksForMore": "has_a_config",
    "HasNoMetaTrain": "has_every_method",
    "HasNoInitialState": "has_every_method",
    "HasNoStartEpisode": "has_every_method",
    "HasNoAct": "has_every_method",
    "HasNoAdapt": "has_every_method",
    "HasNoStateDict": "has_every_method",
    "HasNoLoadStateDict": "has_every_method",
    "IsOfTheOldContract": "has_every_method",
    "IsSomewhatSequential": "has_every_method",
    "CannotBeMade": "can_be_made",
    "IsMadeWithoutADevice": "can_be_made",
    "TrainsWhenItIsMade": "can_be_made",
    "FailsToTrain": "meta_trains",
    "ExitsFromTraining": "meta_trains",
    "NeverStops": "meta_trains",
    "AsksForTasksForever": "meta_trains",
    "AsksForHalfATask": "meta_trains",
    "IgnoresItsSeed": "the_seed_decides",
    "TrainsAtRandom": "the_seed_decides",
    "StartsWithNone": "initial_states_are_tensors",
    "StartsWithNumpy": "initial_states_are_tensors",
    "StartsWithAnObject": "initial_states_are_tensors",
    "StartsWithACount": "initial_states_are_tensors",
    "StartsWithoutTasks": "initial_states_are_tensors",
    "StartsWithNan": "initial_states_are_tensors",
    "RemembersNone": "memories_are_tensors",
    "RemembersOfTasks": "memories_are_tensors",
    "RemembersAList": "memories_are_tensors",
    "ActsWithoutMemory": "acts",
    "ReturnsNothing": "acts",
    "ActsInNumpy": "acts",
    "ActsTwice": "acts",
    "ActsForTheFirstTask": "acts",
    "ActsInTheComplexPlane": "acts",
    "ActsWithNan": "acts",
    "ActsWithInfinity": "acts",
    "CrashesWhenItActs": "acts",
    "RemembersMore": "acts",
    "RemembersLonger": "acts",
    "RemembersInDoubles": "acts",
    "ForgetsItsMemory": "acts",
    "RemembersInfinity": "acts",
    "AdaptsToNone": "adapts",
    "AdaptsInNumpy": "adapts",
    "AdaptsAllTasksToOne": "adapts",
    "AdaptsToNan": "adapts",
    "CrashesWhenItAdapts": "adapts",
    "CountsInAnAttribute": "stays_as_it_was",
    "WritesIntoItsWeights": "stays_as_it_was",
    "AdaptsItsWeights": "stays_as_it_was",
    "RemembersInItsClass": "stays_as_it_was",
    "DrawsFromItsOwnGenerator": "stays_as_it_was",
    "DrawsGlobally": "evaluations_repeat",
    "AdaptsGlobally": "evaluations_repeat",
    "ScoresAtRandom": "evaluations_repeat",
    "RemembersInItsModule": "evaluations_repeat",
    "ActsOnItsState": "act_does_not_write_into_the_state",
    "AddsToItsState": "act_does_not_write_into_the_state",
    "AdaptsToTheMean": "tasks_share_no_data",
    "NormalisesOverTasks": "tasks_share_no_data",
    "AveragesItsLossOverTasks": "number_of_tasks_does_not_matter",
    "CannotPlayOneTask": "number_of_tasks_does_not_matter",
    "IgnoresTheMask": "steps_after_the_end_do_not_matter",
    "SavesNumbers": "weights_can_be_restored",
    "SavesAList": "weights_can_be_restored",
    "ForgetsAWeight": "weights_can_be_restored",
    "KeepsAWeightInItsClass": "weights_can_be_restored",
    "KeepsAWeightInItsModule": "weights_can_be_restored",
    "LoadsNothing": "weights_can_be_restored",
    "CannotLoad": "weights_can_be_restored",
}

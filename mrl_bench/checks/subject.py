"""An agent under test, and the few short episodes that the checks play with it."""

from __future__ import annotations

import random
import signal
import threading
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from tempfile import TemporaryDirectory
from types import FrameType
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Generator, Tensor

from mrl_bench.agent import MetaAgent
from mrl_bench.checks import new_process
from mrl_bench.errors import BudgetSpent
from mrl_bench.family import needs_one_process
from mrl_bench.protocol.promises import require_state, seed_global_generators
from mrl_bench.protocol.restoring import few_actions
from mrl_bench.protocol.rollout import collect
from mrl_bench.protocol.training import BudgetedTraining, PlayableTasks
from mrl_bench.scenario import Budget, Protocol, Scenario, load_scenario
from mrl_bench.scenario.settings import make_config
from mrl_bench.types import Memory, Rollout, State, TimeStep

CPU = torch.device("cpu")
TASKS, EPISODES, ROUNDS = 3, 2, 2  # B, E and adaptation rounds of the episodes that are played
STEPS = 50  # control steps of them, unless the horizon is shorter
FULL_EPISODES, SECONDS = 20, 20  # meta-training that a class is given, at most
PATIENCE = 10  # how often an agent may ask for more once its budget is spent
PROTOCOL = Protocol(k=(0, EPISODES, ROUNDS * EPISODES), episodes_per_round=EPISODES, scored_episodes=EPISODES)


class Subject:
    """An agent under test: an instance; or a class, which is made with its default config when it is first needed."""

    def __init__(self, agent: MetaAgent | type, scenario: Scenario) -> None:
        self._given = None if isinstance(agent, type) else agent
        self.cls = agent if isinstance(agent, type) else type(agent)
        # A class gets the protocol that is played here in its spec; an instance already has a spec, and keeps it.
        self.scenario = scenario.with_overrides(protocol=PROTOCOL) if self._given is None else scenario

    @cached_property
    def agent(self) -> MetaAgent:
        return self.new(seed=0) if self._given is None else self._given

    def new(self, seed: int) -> MetaAgent:
        """Another agent of its kind, not trained."""
        config = getattr(self._given, "config", None) or make_config(self.cls, {})
        with kept_generators():
            seed_global_generators(seed)
            agent: MetaAgent = self.cls(self.scenario.spec, config, seed, CPU)
        return agent

    @cached_property
    def training(self) -> MetaTraining | None:
        """The meta-training of the agent, or None for an instance."""
        return meta_train(self.agent, self.scenario) if self._given is None else None

    def play(
        self, state: State, *, explore: bool, seed: int, disturb: bool = False
    ) -> tuple[Rollout, Memory]:
        """One episode of `STEPS` control steps in every environment instance; `disturb` changes what the agent
        observes of the last task."""
        tasks = self.scenario.stream(0, TASKS)
        env = self.scenario.family.make(tasks, 1 if self._sequential and explore else EPISODES, CPU)
        spec = replace(self.scenario.spec, horizon=self.steps)
        agent: Any = _Disturbed(self.agent) if disturb else self.agent
        try:
            rollout, memory = collect(
                env, spec, agent, state, seed=seed, noise_seed=seed, explore=explore, strict=True
            )
        finally:
            env.close()
        return padded(rollout, self.steps), memory

    def adapted(self, disturb: bool = False) -> State:
        """The state after a few rounds of adaptation; `disturb` changes the data of the last task."""
        state = require_state(self.agent.initial_state(TASKS), TASKS, "initial_state")
        for done in range(ROUNDS * EPISODES if self._sequential else ROUNDS):
            rollout, memory = self.play(state, explore=True, seed=done)
            if disturb:
                rollout = replace(rollout, reward=_disturbed(rollout.reward), obs=_disturbed(rollout.obs))
            state = self.agent.adapt(state, memory, rollout, Generator(CPU).manual_seed(done))
            require_state(state, TASKS, "adapt")
        return state

    def trial(self, disturb: bool = False) -> Tensor:
        """The actions before and after adaptation, (2, B, E, T, A), 0 after the end of an episode.

        `disturb` changes all that the agent gets of the last task.
        """
        states = (self.agent.initial_state(TASKS), self.adapted(disturb))
        played = [self.play(state, explore=False, seed=99, disturb=disturb)[0] for state in states]
        return torch.stack([rollout.action * rollout.mask[..., None] for rollout in played])

    def actions_on(self, obs: Tensor, state: State, rng: Generator) -> Tensor:
        """What the agent does, without exploring, when it observes obs (B, E, T, O), and earns and did nothing before.

        Returns:
            Actions, (B, E, A, T).
        """
        memory, actions = self.agent.start_episode(state, obs.shape[1]), []
        nothing = obs.new_zeros(*obs.shape[:2], self.scenario.spec.act_dim)
        for t in range(obs.shape[2]):
            step = TimeStep(
                obs[:, :, t].clone(),
                nothing.clone(),
                nothing[..., 0].clone(),
                torch.ones_like(nothing[..., 0]),
                t,
            )
            with torch.no_grad():
                action, memory = self.agent.act(state, memory, step, False, rng)
            actions.append(action)
        return torch.stack(actions, -1)

    def restored_elsewhere(self, weights: Mapping[str, Tensor]) -> list[Tensor] | None:
        """`few_actions` of a new agent that loads weights in a new process; None if it cannot be made there.

        Raises:
            ContractError: it fails, or does not end.
        """
        cls, scenario = self.cls, self.scenario
        if self._given is not None or not new_process.can_import(cls) or needs_one_process(scenario.family):
            return None
        with TemporaryDirectory() as folder:
            loaded, played = f"{folder}/weights.safetensors", f"{folder}/actions.safetensors"
            save_file({name: tensor.contiguous().clone() for name, tensor in weights.items()}, loaded)
            arguments = str(scenario.path.resolve()), dict(scenario.options), loaded, played
            new_process.execute(
                f"from {cls.__module__} import {cls.__qualname__} as Agent",
                f"from {__name__} import play_restored",
                f"play_restored(Agent, *{arguments!r})",
            )
            actions = load_file(played)
        return [actions[name] for name in sorted(actions)]

    @property
    def steps(self) -> int:
        return min(STEPS, self.scenario.horizon)

    @property
    def _sequential(self) -> bool:
        return bool(getattr(self.agent, "sequential", False))


def play_restored(cls: type, scenario: str, options: Mapping[str, Any], loaded: str, played: str) -> None:
    """Loads the weights of a new agent from one file, and saves its `few_actions` in another."""
    subject = Subject(cls, load_scenario(scenario, options))
    agent = subject.new(seed=1)
    agent.load_state_dict(load_file(loaded))
    actions = few_actions(agent, subject.scenario, CPU)
    save_file({str(number): action for number, action in enumerate(actions)}, played)


class MetaTraining(NamedTuple):
    """How an agent was meta-trained."""

    env_steps: int
    seconds: float
    refusals: int  # requests after the budget was spent
    cut_short: bool  # from outside: it took too long, or asked too often
    error: BaseException | None  # that ended it


def meta_train(agent: MetaAgent, scenario: Scenario) -> MetaTraining:
    """Meta-trains an agent for a moment: `FULL_EPISODES` and `SECONDS` at most."""
    budget, started = FULL_EPISODES * scenario.horizon, time.perf_counter()
    cut_short, failure = False, None
    limited = scenario.with_overrides(Budget(meta_train=budget, blind=budget, oracle=budget))
    training = _PatientTraining(limited, budget=budget, seed=0, device=CPU, log=lambda values, step: None)
    try:
        with kept_generators(), _time_limit(SECONDS):
            seed_global_generators(0)
            agent.meta_train(training)
    except BudgetSpent:
        pass
    except _Stopped:
        cut_short = True
    except (Exception, SystemExit) as error:  # the agent is anyone's code
        failure = error
    seconds = time.perf_counter() - started
    return MetaTraining(training.steps, seconds, training.refusals, cut_short, failure)


class _PatientTraining(BudgetedTraining):
    """Ends meta-training from outside if the agent does not stop at BudgetSpent."""

    refusals = 0

    def tasks(self, count: int, episodes: int) -> PlayableTasks:
        if not self.left:
            self._refuse()
        return super().tasks(count, episodes)

    def spend(self, alive: Tensor) -> None:
        try:
            super().spend(alive)
        except BudgetSpent:
            self._refuse()
            raise

    def _refuse(self) -> None:
        self.refusals += 1
        if self.refusals > PATIENCE:
            raise _Stopped


class _Stopped(BaseException):  # no Exception, so that no agent catches it by accident
    """Meta-training was ended by the check."""


class _Disturbed:
    """An agent that observes something else on the last task."""

    def __init__(self, agent: MetaAgent) -> None:
        self._agent, self.start_episode = agent, agent.start_episode

    def act(
        self, state: State, memory: Memory, step: TimeStep, explore: bool, rng: Generator
    ) -> tuple[Tensor, Memory]:
        return self._agent.act(state, memory, step._replace(obs=_disturbed(step.obs)), explore, rng)


def padded(rollout: Rollout, steps: int) -> Rollout:
    """A rollout filled up to `steps` control steps, where all episodes ended earlier.

    So no sum depends on the lengths of other episodes.
    """
    more = steps - rollout.mask.shape[2]
    last = rollout.obs[:, :, -1:].expand(-1, -1, more, -1)
    parts = {
        name: torch.cat([x, x.new_zeros(*x.shape[:2], more, *x.shape[3:])], 2)
        for name, x in vars(rollout).items()
        if name not in ("obs", "failed")
    }
    return Rollout(obs=torch.cat([rollout.obs, last], 2), failed=rollout.failed, **parts)


def _disturbed(tensor: Tensor) -> Tensor:
    """A copy in which the last task has other numbers."""
    changed = tensor.clone()
    changed[-1] = 0.5 * changed[-1] + 0.25
    return changed


@contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """Raises `_Stopped` in the block after some seconds; only in the main thread of a system with timers.

    An import is not interrupted, because half a module would stay in `sys.modules`.
    """
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        yield
        return

    def stop(_: int, frame: FrameType | None) -> None:
        running = (caller.f_globals.get("__name__") for caller, _ in traceback.walk_stack(frame))
        if "importlib._bootstrap" not in running:
            raise _Stopped

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(
        signal.ITIMER_REAL, seconds, 1.0
    )  # and every second after, as a bare `except` may catch it
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def kept_generators() -> Iterator[None]:
    """Restores the global random generators afterwards."""
    python, numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)

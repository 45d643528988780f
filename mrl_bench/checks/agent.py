"""Holds an agent to the contract of `mrl_bench.agent`.

    from mrl_bench import check_agent
    check_agent("my_agent:MyAgent")

A check plays a few short episodes and raises AssertionError; `check` runs them all and lists every failure.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from mrl_bench import registry
from mrl_bench.agent import MetaAgent
from mrl_bench.protocol.adaptation import copy_state
from mrl_bench.protocol.rollout import collect
from mrl_bench.protocol.training import BudgetedTraining, meta_train
from mrl_bench.scenario import Budget, Scenario
from mrl_bench.scenario.settings import make_config
from mrl_bench.types import Memory, Rollout, State, TaskBatch

TASKS = 3  # B
EPISODES = 2  # E
ROUNDS = 2  # of adaptation
TRAINING_EPISODES = 20  # full episodes of meta-training that a class is given
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Subject:
    """An agent under test."""

    agent: MetaAgent
    new: Callable[[], MetaAgent]  # another agent of its kind, not trained
    scenario: Scenario


def meta_trains(subject: Subject) -> None:
    """Meta-training runs until it ends or the budget is spent."""
    budget = TRAINING_EPISODES * subject.scenario.horizon
    scenario = subject.scenario.with_overrides(Budget(meta_train=budget, blind=budget, oracle=budget))
    training = BudgetedTraining(scenario, budget=budget, seed=0, device=CPU, log=lambda values, step: None)
    meta_train(subject.agent, training)


def shapes_and_finiteness(subject: Subject) -> None:
    """Actions are (B, E, A) and finite; every tensor of a state leads with B and is finite."""
    state, rollout = _adapted(subject)
    assert not rollout.failed.any(), "act gave an action that is not finite, or it broke the simulation"
    for when, tree in (("initial_state", subject.agent.initial_state(TASKS)), ("adapt", state)):
        for leaf in tree_leaves(tree):
            assert isinstance(leaf, Tensor), (
                f"{when}: a leaf of the state is {type(leaf).__name__}, not a tensor"
            )
            assert leaf.shape[:1] == (TASKS,), (
                f"{when}: a tensor of the state has shape {tuple(leaf.shape)}; it must lead with B = {TASKS}"
            )
            assert not leaf.is_floating_point() or leaf.isfinite().all(), f"{when}: the state is not finite"


def acting_and_adapting_change_nothing(subject: Subject) -> None:
    """`initial_state`, `act` and `adapt` leave the agent as it was, and repeat with the same random numbers."""
    before = _tensors(subject.agent)
    first = _adapted(subject)[1]
    for name, tensor in _tensors(subject.agent).items():
        kept = name in before and torch.equal(tensor, before[name])
        assert kept, f"act or adapt changed {name!r} of state_dict"
    again = _adapted(subject)[1]
    assert torch.equal(first.action, again.action), (
        "a second evaluation with the same seeds gave other actions: act or adapt changes the agent, "
        "or draws random numbers from elsewhere than rng"
    )


def adapting_leaves_its_arguments_alone(subject: Subject) -> None:
    """`adapt` returns a new state: the state and the rollout that it was given stay as they were."""
    state = subject.agent.initial_state(TASKS)
    rollout, memory = _episode(subject, state, explore=True, seed=0)
    given = tree_leaves((state, vars(rollout)))
    before = [leaf.clone() if isinstance(leaf, Tensor) else leaf for leaf in given]
    subject.agent.adapt(state, memory, rollout, torch.Generator().manual_seed(0))
    for leaf, kept in zip(given, before, strict=True):
        unchanged = torch.equal(leaf, kept) if isinstance(leaf, Tensor) else leaf == kept
        assert unchanged, "adapt wrote into the state or the rollout that it was given"


def tasks_do_not_share_data(subject: Subject) -> None:
    """What one task is given to adapt to does not change how the agent acts on another.

    The reward and observations of the last task alone are changed; the other tasks must not notice.
    """
    states = [_adapted(subject, disturbed=disturbed)[0] for disturbed in (False, True)]
    actions = [_episode(subject, state, explore=False, seed=99)[0].action[:-1] for state in states]
    assert torch.equal(*actions), "the data of one task changed the actions on another"


def weights_can_be_restored(subject: Subject) -> None:
    """A new agent acts the same after `load_state_dict(state_dict())`."""
    saved = _tensors(subject.agent)
    for name, tensor in saved.items():
        assert isinstance(tensor, Tensor), f"state_dict: {name!r} is {type(tensor).__name__}, not a tensor"
    fresh = subject.new()
    fresh.load_state_dict(saved)
    restored = replace(subject, agent=fresh)
    assert torch.equal(_adapted(subject)[1].action, _adapted(restored)[1].action), (
        "a new agent acts differently after load_state_dict: state_dict leaves something out"
    )


CHECKS: tuple[Callable[[Subject], None], ...] = (
    shapes_and_finiteness,
    acting_and_adapting_change_nothing,
    adapting_leaves_its_arguments_alone,
    tasks_do_not_share_data,
    weights_can_be_restored,
)


def check(agent: MetaAgent | type | str, scenario: Scenario) -> None:
    """Runs every check.

    Args:
        agent: an instance; or a class, a short name or "module:Class", which is meta-trained for a few episodes first.

    Raises:
        UsageError: there is no such agent, or the class has no Config.
        AssertionError: lists every failure that was found.
    """
    subject = _subject(agent, scenario)
    checks = (meta_trains, *CHECKS) if isinstance(agent, str | type) else CHECKS
    failures = [failure for promise in checks if (failure := _failure(promise, subject))]
    name = type(subject.agent).__name__
    if failures:
        raise AssertionError("\n".join([f"{name} breaks the contract of an agent:", *failures]))


def _failure(promise: Callable[[Subject], None], subject: Subject) -> str | None:
    """One line on why a promise is not kept; None if it is."""
    try:
        promise(subject)
    except Exception as error:  # the agent is anyone's code, and may fail in any way
        text = str(error) if isinstance(error, AssertionError) else f"{type(error).__name__}: {error}"
        return f"- {promise.__name__}: {' '.join(text.split())}"
    return None


def _subject(agent: MetaAgent | type | str, scenario: Scenario) -> Subject:
    spec = scenario.spec
    if not isinstance(agent, str | type):
        blank = copy.deepcopy(agent)
        return Subject(agent, lambda: type(blank)(spec, _config(blank), 1, CPU), scenario)
    cls: Any = registry.find("agent", agent) if isinstance(agent, str) else agent
    config = make_config(cls, {})
    return Subject(cls(spec, config, 0, CPU), lambda: cls(spec, config, 1, CPU), scenario)


def _config(agent: Any) -> Any:
    """The config of an agent: the attribute `config`, else the defaults."""
    return getattr(agent, "config", None) or make_config(type(agent), {})


def _adapted(subject: Subject, disturbed: bool = False) -> tuple[State, Rollout]:
    """The state after a few rounds of adaptation, and the episode that the agent then plays."""
    state = subject.agent.initial_state(TASKS)
    for done in range(ROUNDS):
        rollout, memory = _episode(subject, state, explore=True, seed=done)
        if disturbed:
            rollout = replace(rollout, reward=_disturb(rollout.reward), obs=_disturb(rollout.obs))
        state = subject.agent.adapt(state, memory, rollout, torch.Generator().manual_seed(done))
    return state, _episode(subject, state, explore=False, seed=ROUNDS)[0]


def _disturb(tensor: Tensor) -> Tensor:
    """A copy in which the last task has other numbers."""
    changed = tensor.clone()
    changed[-1] = 0.5 * changed[-1] + 0.25
    return changed


def _episode(subject: Subject, state: State, explore: bool, seed: int) -> tuple[Rollout, Memory]:
    scenario, listed = subject.scenario, subject.scenario.tasks("test")
    env = scenario.family.make(TaskBatch(listed.names, listed.values[:TASKS]), EPISODES, CPU)
    try:
        return collect(
            env,
            scenario.spec,
            subject.agent,
            copy_state(state),
            seed=seed,
            noise_seed=seed,
            explore=explore,
        )
    finally:
        env.close()


def _tensors(agent: MetaAgent) -> dict[str, Tensor]:
    return {name: x.clone() if isinstance(x, Tensor) else x for name, x in agent.state_dict().items()}

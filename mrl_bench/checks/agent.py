"""The promises of an agent (`mrl_bench.agent`), as checks.

    from mrl_bench import check_agent
    check_agent("my_agent:MyAgent")

A class is meta-trained for a moment first. Each check then plays a few short episodes.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields, is_dataclass, replace
from types import FunctionType
from typing import Any, cast

import torch
from torch import Generator, Tensor
from torch.utils._pytree import tree_flatten, tree_leaves, tree_map

from mrl_bench import registry
from mrl_bench.agent import MetaAgent
from mrl_bench.checks.check import Check, hold, package_of
from mrl_bench.checks.subject import (
    CPU,
    EPISODES,
    PATIENCE,
    TASKS,
    Subject,
    kept_generators,
    meta_train,
    padded,
)
from mrl_bench.errors import ContractError, kind_of
from mrl_bench.protocol.adaptation import copy_state
from mrl_bench.protocol.promises import (
    METHODS,
    Unchanged,
    require_memory,
    require_state,
    seed_global_generators,
)
from mrl_bench.protocol.restoring import few_actions, require_restored
from mrl_bench.scenario import Scenario
from mrl_bench.types import Rollout

MORE_STEPS = 7  # after the end of all episodes
TOLERANCE = 1e-3  # between a task alone and among others, where floats are added in another order


def has_a_config(subject: Subject) -> Iterator[str]:
    """`Config` is a frozen dataclass, and each of its fields has a default."""
    config = getattr(subject.cls, "Config", None)
    if not (isinstance(config, type) and is_dataclass(config)):
        yield f"Config is {kind_of(config)}, not a dataclass" if config else "there is no Config"
        return
    if not cast(Any, config).__dataclass_params__.frozen:
        yield "Config is a dataclass that is not frozen"
    for field in fields(config):
        if field.init and field.default is MISSING and field.default_factory is MISSING:
            yield f"{field.name!r} has no default"


def has_every_method(subject: Subject) -> Iterator[str]:
    """An agent has the methods of `MetaAgent`, with these arguments; `sequential` is True or False."""
    for name, arguments in METHODS.items():
        if not callable(getattr(subject.cls, name, None)):
            yield f"there is no method {name}{arguments}"
        elif found := _other_arguments(subject.cls, name, arguments):
            yield f"{name} takes {found}, not {arguments}"
    sequential = getattr(subject.cls, "sequential", False)
    if not isinstance(sequential, bool):
        yield f"sequential = {sequential!r}"


def can_be_made(subject: Subject) -> Iterator[str]:
    """The constructor takes (spec, config, seed, device)."""
    _ = subject.agent
    yield from ()


def initial_states_are_tensors(subject: Subject) -> Iterator[str]:
    """`initial_state` returns a tree of finite tensors (B, ...)."""
    for tasks in (TASKS, 1):
        state = require_state(subject.agent.initial_state(tasks), tasks, "initial_state")
        yield from _not_finite(state, "initial_state")


def memories_are_tensors(subject: Subject) -> Iterator[str]:
    """`start_episode` returns a tree of finite tensors (B, E, ...), or () for nothing."""
    for tasks, num_envs in ((TASKS, EPISODES), (1, 1)):
        state = subject.agent.initial_state(tasks)
        memory = require_memory(subject.agent.start_episode(state, num_envs), tasks, num_envs)
        yield from _not_finite(memory, "start_episode")


def acts(subject: Subject) -> Iterator[str]:
    """`act` returns (action, memory): a finite tensor (B, E, A), and finite tensors of the same form as before."""
    for explore in (True, False):
        _, memory = subject.play(subject.agent.initial_state(TASKS), explore=explore, seed=0)
        yield from _not_finite(memory, "act")


def adapts(subject: Subject) -> Iterator[str]:
    """`adapt` returns the next state, a tree of finite tensors (B, ...)."""
    yield from _not_finite(subject.adapted(), "adapt")


def meta_trains(subject: Subject) -> Iterator[str]:
    """Meta-training ends by itself or with BudgetSpent, and asks for nothing more after that."""
    training = subject.training
    if training and training.error:
        raise training.error
    if training and training.refusals > PATIENCE:
        yield f"meta_train asked for {training.refusals} more tasks or episodes when the budget was spent"


def stays_as_it_was(subject: Subject) -> Iterator[str]:
    """`initial_state`, `start_episode`, `act` and `adapt` change neither the agent nor its class."""
    unchanged = Unchanged(subject.agent)
    subject.play(subject.adapted(), explore=False, seed=0)
    unchanged.check()
    yield from ()


def act_does_not_write_into_the_state(subject: Subject) -> Iterator[str]:
    """What `act` learns is in the memory that it returns: the state stays as it was until `adapt`."""
    state = subject.agent.initial_state(TASKS)
    before = copy_state(state)
    subject.play(state, explore=True, seed=0)
    if not _equal(before, state):
        yield "act wrote into the state that it was given"


def evaluations_repeat(subject: Subject) -> Iterator[str]:
    """The same episodes with the same rng give the same actions: all randomness comes from rng, and nothing is
    remembered outside of state and memory."""
    with kept_generators():
        seed_global_generators(1)
        first = subject.trial()
        seed_global_generators(2)
        if not torch.equal(first, subject.trial()):
            yield (
                "a second evaluation gave other actions: the agent draws from global random generators, "
                "or remembers the first one"
            )


def tasks_share_no_data(subject: Subject) -> Iterator[str]:
    """What is observed and earned on one task changes nothing on the others."""
    first, disturbed = subject.trial(), subject.trial(disturb=True)
    if not torch.equal(first[:, :-1], disturbed[:, :-1]):
        yield "other observations and rewards of one task changed the actions on the others"


def number_of_tasks_does_not_matter(subject: Subject) -> Iterator[str]:
    """On the same data, a task alone gets the state and the actions that it gets among others.

    Where random numbers are drawn nothing is compared, because the draws depend on the number of tasks.
    """
    agent, rng = subject.agent, Generator(CPU).manual_seed(0)
    rollout, memory = subject.play(agent.initial_state(TASKS), explore=True, seed=0)
    obs, first = rollout.obs.clone(), Rollout(**_of_first_task(vars(rollout)))
    start = rng.get_state()
    alone = agent.adapt(agent.initial_state(1), _of_first_task(memory), first, rng)
    among = agent.adapt(agent.initial_state(TASKS), memory, rollout, rng)
    if torch.equal(start, rng.get_state()):
        yield from _differ(
            f"the state after adapt, for one task and for {TASKS}", _of_first_task(among), alone
        )
    start = rng.get_state()
    actions_alone = subject.actions_on(obs[:1], _of_first_task(among), rng)
    actions_among = subject.actions_on(obs, among, rng)
    if torch.equal(start, rng.get_state()):
        yield from _differ(
            f"the actions on the same observations, for one task and for {TASKS}",
            actions_among[:1],
            actions_alone,
        )


def _of_first_task(tree: Any) -> Any:
    return tree_map(lambda leaf: leaf[:1].clone(), tree)


def _differ(what: str, one: Any, other: Any) -> Iterator[str]:
    """Yields a line if two trees are not close to each other."""
    pairs = _pairs(one, other)
    if pairs is None:
        yield f"{what}: it has another form"
        return
    apart = [float((a.double() - b.double()).abs().max()) for a, b in pairs if not _close(a, b)]
    if apart:
        yield f"{what}: up to {max(apart):.2g} apart"


def _close(one: Tensor, other: Tensor) -> bool:
    return torch.allclose(one.double(), other.double(), rtol=TOLERANCE, atol=TOLERANCE)


def steps_after_the_end_do_not_matter(subject: Subject) -> Iterator[str]:
    """What `adapt` learns does not depend on the steps after the end of an episode, where the mask is 0.

    Their number depends on the other tasks. Where `adapt` draws other random numbers nothing is compared.
    """
    agent, rngs = subject.agent, [Generator(CPU).manual_seed(0) for _ in range(2)]
    rollout, memory = subject.play(agent.initial_state(TASKS), explore=True, seed=0)
    longer = padded(rollout, subject.steps + MORE_STEPS)
    ended = longer.mask[..., None] == 0
    longer = replace(longer, action=torch.where(ended, 0.5, longer.action))
    states = [
        agent.adapt(agent.initial_state(TASKS), copy_state(memory), given, rng)
        for given, rng in zip((rollout, longer), rngs, strict=True)
    ]
    if torch.equal(*(rng.get_state() for rng in rngs)):
        yield from _differ("the state after adapt, with other steps after the end", *states)


def weights_can_be_restored(subject: Subject) -> Iterator[str]:
    """`state_dict` returns named tensors, and a new agent that loads them acts the same, also in a new process.

    Not in a new process if it cannot import the class or open a second simulator, and not for an instance.
    """
    saved = subject.agent.state_dict()
    if not isinstance(saved, Mapping):
        raise ContractError(f"state_dict returned {kind_of(saved)}")
    wrong = [name for name, tensor in saved.items() if not isinstance(tensor, Tensor)]
    yield from (f"{name!r} of state_dict is {kind_of(saved[name])}, not a tensor" for name in wrong)
    if wrong:
        return
    weights = {name: tensor.detach().clone() for name, tensor in saved.items()}
    fresh = subject.new(seed=1)
    fresh.load_state_dict(weights)
    with kept_generators():
        trained, restored = (few_actions(agent, subject.scenario, CPU) for agent in (subject.agent, fresh))
        require_restored(trained, restored, exactly=True)
        # Here the new agent shares class attributes and modules with the trained one; in a new process it does not.
        elsewhere = subject.restored_elsewhere(weights)
    if elsewhere:
        what = "state_dict leaves something out: the actions of a new agent with the weights in a new process"
        yield from _differ(what, trained, elsewhere)


def the_seed_decides(subject: Subject) -> Iterator[str]:
    """The same seed gives the same weights, before and after meta-training.

    Not after it where that takes too long to do twice, and not for an instance.
    """
    if subject.training is None:
        return
    first, second = subject.new(seed=2), subject.new(seed=2)
    if not _equal(dict(first.state_dict()), dict(second.state_dict())):
        yield "two new agents with the same seed have different weights"
    elif not (subject.training.cut_short or subject.training.error):
        training = meta_train(twin := subject.new(seed=0), subject.scenario)
        if not training.cut_short and not _equal(dict(subject.agent.state_dict()), dict(twin.state_dict())):
            yield "meta-training twice with the same seed gave different weights"


CHECKS: tuple[Check[Subject], ...] = (
    Check(has_a_config, gate=True),
    Check(has_every_method, gate=True),
    Check(can_be_made, gate=True),
    Check(initial_states_are_tensors, gate=True),
    Check(memories_are_tensors, gate=True),
    Check(acts, gate=True),
    Check(adapts, gate=True),
    Check(meta_trains),
    Check(stays_as_it_was),
    Check(act_does_not_write_into_the_state),
    Check(evaluations_repeat, gate=True),
    Check(tasks_share_no_data),
    Check(number_of_tasks_does_not_matter),
    Check(steps_after_the_end_do_not_matter),
    Check(weights_can_be_restored, gate=True),
    Check(the_seed_decides),
)


def check(agent: MetaAgent | type | str, scenario: Scenario, waive: Mapping[str, str]) -> str:
    """Runs every check.

    Args:
        agent: an instance; or a class, a short name or "module:Class", which is meta-trained for a moment.

    Returns:
        How it was meta-trained, for the user.

    Raises:
        ContractError: lists every broken promise.
        UsageError: there is no such agent; or a waiver names no check, gives no reason, or is not needed.
    """
    found: Any = registry.find("agent", agent) if isinstance(agent, str) else agent
    subject = Subject(found, scenario)
    cls = subject.cls
    hold(subject, CHECKS, waive, name=cls.__name__, kind="an agent", package=package_of(cls))
    if subject.training is None:
        return "as it was given"
    return f"meta-trained for {subject.training.env_steps:,} env steps in {subject.training.seconds:.0f} s"


def _other_arguments(cls: type, name: str, expected: str) -> str:
    """The arguments of a method that cannot be called with as many as the harness passes; else ""."""
    itself = isinstance(inspect.getattr_static(cls, name), FunctionType)
    signature = inspect.signature(getattr(cls, name))
    try:
        signature.bind(*range(itself + len(expected.strip("()").split())))
    except TypeError:
        return f"({', '.join([*signature.parameters][itself:])})"
    return ""


def _not_finite(tree: Any, method: str) -> Iterator[str]:
    for leaf in tree_leaves(tree):
        if leaf.is_floating_point() and not leaf.isfinite().all():
            yield f"{method} returned a tensor {tuple(leaf.shape)} with values that are not finite"


def _equal(one: Any, other: Any) -> bool:
    pairs = _pairs(one, other)
    return pairs is not None and all(torch.equal(a, b) for a, b in pairs)


def _pairs(one: Any, other: Any) -> list[tuple[Tensor, Tensor]] | None:
    """The corresponding leaves of two trees; None if their keys, shapes or dtypes differ."""
    (leaves, form), (others, other_form) = tree_flatten(one), tree_flatten(other)
    if form != other_form:
        return None
    pairs = list(zip(leaves, others, strict=True))
    return pairs if all(_alike(a, b) for a, b in pairs) else None


def _alike(a: Any, b: Any) -> bool:
    both = isinstance(a, Tensor) and isinstance(b, Tensor)
    return both and (a.shape, a.dtype) == (b.shape, b.dtype)

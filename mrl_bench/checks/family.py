"""Checks that a task family keeps the contract of `mrl_bench.family`.

    from mrl_bench import check_family
    check_family(MyFamily())

Each check raises AssertionError that says what is wrong and where. The checks play episodes of at most `STEPS`
pseudo-random actions and compare trajectories bit for bit, up to the end of each instance's episode.
"""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass, replace
from hashlib import blake2b
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor

from mrl_bench.errors import MrlBenchError
from mrl_bench.family import BatchEnv, Param, TaskFamily
from mrl_bench.keyed_random import uniforms
from mrl_bench.types import TaskBatch

STEPS = 100  # control steps of a trajectory, unless the horizon is shorter
SEED = 7  # of the episodes
CPU = torch.device("cpu")

Changes = Mapping[str, float]  # a task: the parameters that differ from their defaults
DEFAULT: Changes = {}


def declares_its_parameters(family: TaskFamily) -> None:
    """Options, spec and parameters follow the contract, and every default is a legal value."""
    name = type(family).__name__
    assert is_dataclass(family), f"{name} is not a dataclass"
    assert cast(Any, family).__dataclass_params__.frozen, f"{name} is not a frozen dataclass"
    assert "horizon" in _options(family), f"{name} has no option 'horizon'"
    assert replace(cast(Any, family), horizon=3).spec.horizon == 3, (
        "the option 'horizon' does not set spec.horizon"
    )
    spec = family.spec
    assert min(spec.obs_dim, spec.act_dim, spec.horizon) >= 1, (
        f"{spec}: obs_dim, act_dim and horizon must be positive"
    )
    assert 0 < spec.dt < math.inf, f"{spec}: dt must be positive and finite"
    assert family.simulator, f"{name}.simulator is empty"
    assert family.params, f"{name} has no parameters"
    for name, param in family.params.items():
        assert param.unit, f"parameter {name!r} has no unit"
        assert param.doc, f"parameter {name!r} has no doc"
        assert -math.inf < param.low < param.high < math.inf, (
            f"parameter {name!r}: low must be below high, and both finite"
        )
        for value in (param.default, *(param.values or ())):
            assert param.low <= value <= param.high, f"parameter {name!r}: {value} is outside [low, high]"
        assert param.values is None or param.default in param.values, (
            f"parameter {name!r}: default is not one of values"
        )


def imports_no_simulator(family: TaskFamily) -> None:
    """Reading params, spec and simulator imports neither torch nor a simulator."""
    loaded = _in_new_process(
        family,
        "family.params, family.spec, family.simulator",
        "import sys",
        "print(*{'torch', 'mujoco', 'carla', 'gymnasium'}.intersection(sys.modules))",
    )
    assert not loaded, f"reading the declaration of {type(family).__name__} imports {', '.join(loaded)}"


def shapes_and_dtypes_are_right(family: TaskFamily) -> None:
    """Shapes, dtypes and devices follow the contract, and all values of a default task are finite."""
    spec, tasks = family.spec, _tasks(family, DEFAULT, DEFAULT)
    for requested in (None, torch.float32, torch.float64):
        dtype = requested or torch.float32
        env = family.make(tasks, 3, CPU, requested)
        first_obs = env.reset(SEED)
        step = env.step(_actions(family, 2, 3)[0].to(dtype))
        env.close()
        numbers: dict[str, tuple[Tensor, tuple[int, ...], torch.dtype]] = {
            "the initial obs": (first_obs, (2, 3, spec.obs_dim), dtype),
            "obs": (step.obs, (2, 3, spec.obs_dim), dtype),
            "reward": (step.reward, (2, 3), dtype),
            "terminated": (step.terminated, (2, 3), torch.bool),
            "failed": (step.failed, (2, 3), torch.bool),
        }
        for name, (tensor, shape, kind) in numbers.items():
            assert tensor.shape == shape, f"{name} has shape {tuple(tensor.shape)}, not {shape}"
            assert tensor.dtype == kind, f"{name} is {tensor.dtype}, not {kind}, for dtype={requested}"
            assert tensor.device == CPU, f"{name} is on {tensor.device}, not on {CPU}"
    trajectory = _play(family, tasks)
    assert trajectory.obs.isfinite().all(), "the initial obs is not finite"
    assert not (trajectory.failed | trajectory.unflagged).any(), (
        "the simulation of a default task breaks down"
    )


def same_seed_same_trajectory(family: TaskFamily) -> None:
    """A trajectory depends on task, seed and actions only, in a reused environment and in a new one."""
    tasks, actions = _tasks(family, DEFAULT, _odd_task(family)), _actions(family, 2, 2)
    env = family.make(tasks, 2, CPU)
    first = _play_in(env, actions)
    _same(first, _play_in(env, actions), "after a second reset with the same seed")
    _play_in(env, actions, seed=SEED + 1)
    _same(first, _play_in(env, actions), "after an episode with another seed")
    env.close()
    _same(first, _play(family, tasks), "in a new environment")


def instances_are_independent(family: TaskFamily) -> None:
    """The values of an instance do not depend by a bit on the size of the batch or on the other instances."""
    odd = _odd_task(family)
    tasks = [odd, DEFAULT, DEFAULT] * 3
    among = _play(family, _tasks(family, *tasks), episodes=4)
    for B, E in ((1, 1), (1, 4), (2, 1), (3, 3), (9, 2)):
        fewer = _play(family, _tasks(family, *tasks[:B]), episodes=E)
        _same(fewer, among.corner(B, E), f"in a batch of 9 tasks x 4 episodes and one of {B} x {E}")
    tasks[0], tasks[2] = DEFAULT, odd
    changed = _play(family, _tasks(family, *tasks), episodes=4)
    for b in (1, 3, 8):
        _same(among.task(b), changed.task(b), "when other tasks of the batch change")


def every_parameter_has_an_effect(family: TaskFamily) -> None:
    """Each parameter has a legal value that changes an observation or a reward relative to the default."""
    # Small actions make episodes longer; full actions excite the dynamics more.
    efforts = [_actions(family, 1, 2, effort) for effort in (0.2, 1.0)]
    default = [_play(family, _tasks(family, DEFAULT), actions=actions) for actions in efforts]
    for name, param in family.params.items():
        values = _other_values(param)
        has_effect = any(
            not _equal(before, _play(family, _tasks(family, {name: value}), actions=actions))
            for value in values
            for before, actions in zip(default, efforts, strict=True)
        )
        assert has_effect, (
            f"parameter {name!r} has no effect: {values} all give the trajectory of its default, {param.default}"
        )


def no_state_leaks_between_tasks(family: TaskFamily) -> None:
    """A trajectory does not depend on tasks played before it, at the same time, or first in its process."""
    default, odd = _tasks(family, DEFAULT), _tasks(family, _odd_task(family))
    first, second = _play(family, default), _play(family, odd)
    _same(first, _play(family, default), "after a task with other parameters")
    _same(second, _play(family, odd), "after the default task")

    env, other = family.make(default, 2, CPU), family.make(odd, 2, CPU)
    _play_in(other, _actions(family, 1, 2))
    _same(first, _play_in(env, _actions(family, 1, 2)), "while an environment with other parameters is open")
    env.close()
    other.close()

    # A cache would hold values of the first task: the default one here, the odd one in a new process.
    elsewhere = _in_new_process(
        family, "from mrl_bench.checks.family import odd_then_default", "print(*odd_then_default(family))"
    )
    assert elsewhere == odd_then_default(family), (
        "a trajectory depends on which task was the first in its process"
    )


def odd_then_default(family: TaskFamily) -> list[str]:
    """The digests of the trajectories of an odd task and then of the default one."""
    return [_play(family, _tasks(family, task)).digest() for task in (_odd_task(family), DEFAULT)]


def ended_instances_do_not_change(family: TaskFamily) -> None:
    """No autoreset: after the end of an episode, the observation of its instance does not change by a bit."""
    tasks = _tasks(family, DEFAULT, _odd_task(family), DEFAULT)
    random = _actions(family, 3, 2)
    for actions in (random, torch.ones_like(random)):
        env = family.make(tasks, 2, CPU)
        last = env.reset(SEED).clone()
        ended = torch.zeros(last.shape[:2], dtype=torch.bool)
        for t, action in enumerate(actions):
            step = env.step(action)
            unchanged = ((step.obs == last) | (step.obs.isnan() & last.isnan())).all(-1)
            moved = (ended & ~unchanged).nonzero().tolist()
            assert not moved, f"step {t} changes instance {moved[0]}, whose episode had already ended"
            ended = ended | step.terminated | step.failed
            last = step.obs.clone()
        env.close()


def actions_are_clamped(family: TaskFamily) -> None:
    """Actions outside [-1, 1] have the effect of the nearest action inside."""
    tasks, wild = _tasks(family, DEFAULT), _actions(family, 1, 2, effort=3.0)
    tame = _play(family, tasks, actions=wild.clamp(-1.0, 1.0))
    _same(
        tame, _play(family, tasks, actions=wild), "when actions outside [-1, 1] are not clamped by the caller"
    )


def memory_is_not_shared(family: TaskFamily) -> None:
    """Overwriting the tensors that `step` returned, or the action passed to it, does not change the simulation."""
    tasks, actions = _tasks(family, DEFAULT), _actions(family, 1, 2)
    env = family.make(tasks, 2, CPU)
    overwritten = _play_in(env, actions.clone(), overwrite=True)
    env.close()
    _same(_play(family, tasks), overwritten, "when observations, rewards and actions are overwritten")


def broken_simulations_are_flagged(family: TaskFamily) -> None:
    """A step with a value that is not finite is flagged `failed`; with a NaN parameter every episode fails.

    `make` may also reject a NaN parameter with a ValueError or an MrlBenchError. At the bounds of a parameter a
    simulation may break down, but the step must be flagged, and other instances must not be affected.
    """
    for name, param in family.params.items():
        for value in (math.nan, param.low, param.high):
            case = f"with {name} = {value}"
            try:
                trajectory = _play(family, _tasks(family, {name: value}, DEFAULT))
            except (ValueError, MrlBenchError) as error:
                if math.isnan(value):
                    continue
                raise AssertionError(
                    f"{case}, a legal value, `make` raises {type(error).__name__}"
                ) from error
            assert not trajectory.unflagged.any(), (
                f"{case} a value is not finite, but its step is not flagged failed"
            )
            failed = trajectory.failed.any(0)  # (B, E)
            assert failed[0].all() or not math.isnan(value), f"{case} an episode is never flagged failed"
            assert not failed[1].any(), f"{case} the default task in the same batch is flagged failed"


CHECKS: tuple[Callable[[TaskFamily], None], ...] = (
    declares_its_parameters,
    imports_no_simulator,
    shapes_and_dtypes_are_right,
    same_seed_same_trajectory,
    instances_are_independent,
    every_parameter_has_an_effect,
    no_state_leaks_between_tasks,
    ended_instances_do_not_change,
    actions_are_clamped,
    memory_is_not_shared,
    broken_simulations_are_flagged,
)


def check(family: TaskFamily) -> None:
    """Runs every check on a family with the options that it has.

    Raises:
        AssertionError: the first check that fails.
    """
    for each_check in CHECKS:
        each_check(family)


class Trajectory(NamedTuple):
    """The steps of an environment. After the end of an episode its last `obs` is repeated and the rest is 0."""

    obs: Tensor  # (T + 1, B, E, O)
    reward: Tensor  # (T, B, E)
    terminated: Tensor  # (T, B, E) bool
    failed: Tensor  # (T, B, E) bool
    unflagged: Tensor  # (T, B, E) bool: a value was not finite, but `failed` was not set

    def corner(self, tasks: int, episodes: int) -> Trajectory:
        """The trajectory of the first tasks and their first episodes."""
        return Trajectory(*(tensor[:, :tasks, :episodes] for tensor in self))

    def task(self, index: int) -> Trajectory:
        """The trajectory of one task, with B = 1."""
        return Trajectory(*(tensor[:, index : index + 1] for tensor in self))

    def digest(self) -> str:
        return blake2b(b"".join(tensor.contiguous().numpy().tobytes() for tensor in self)).hexdigest()


def _play(
    family: TaskFamily, tasks: TaskBatch, episodes: int = 2, actions: Tensor | None = None
) -> Trajectory:
    """A trajectory in a new environment."""
    env = family.make(tasks, episodes, CPU)
    trajectory = _play_in(env, _actions(family, len(tasks), episodes) if actions is None else actions)
    env.close()
    return trajectory


def _play_in(env: BatchEnv, actions: Tensor, seed: int = SEED, overwrite: bool = False) -> Trajectory:
    """Plays actions (T, B, E, A). `overwrite` fills actions, observations and rewards with a constant after use."""
    returned = env.reset(seed)
    obs = returned.clone()
    alive = torch.ones(obs.shape[:2], dtype=torch.bool)
    seen, rows = [obs], []
    for action in actions:
        if overwrite:
            returned.fill_(9.0)
        step = env.step(action)
        finite = step.obs.isfinite().all(-1) & step.reward.isfinite()
        sound = alive & finite & ~step.failed
        obs = torch.where(sound[..., None], step.obs, obs)
        reward = torch.where(sound, step.reward, 0.0)
        rows.append((reward, sound & step.terminated, alive & step.failed, alive & ~finite & ~step.failed))
        seen.append(obs)
        alive = sound & ~step.terminated
        returned = step.obs
        if overwrite:
            action.fill_(9.0)
            step.reward.fill_(9.0)
    return Trajectory(torch.stack(seen), *(torch.stack(column) for column in zip(*rows, strict=True)))


def _actions(family: TaskFamily, tasks: int, episodes: int, effort: float = 1.0) -> Tensor:
    """Uniform in [-effort, effort], (T, B, E, A). A value depends only on its indices."""
    steps = min(STEPS, family.spec.horizon)
    draws = uniforms(("conformance",), steps, tasks, episodes, family.spec.act_dim)
    return torch.tensor(effort * (2.0 * draws - 1.0), dtype=torch.float32)


def _tasks(family: TaskFamily, *tasks: Changes) -> TaskBatch:
    rows = [[task.get(name, param.default) for name, param in family.params.items()] for task in tasks]
    return TaskBatch(tuple(family.params), np.array(rows, dtype=np.float64))


def _odd_task(family: TaskFamily) -> Changes:
    """A task in which every parameter differs from its default."""
    return {name: _other_values(param)[0] for name, param in family.params.items()}


def _other_values(param: Param) -> list[float]:
    """Legal values other than the default, the nearest first."""
    if param.values is not None:
        return [value for value in param.values if value != param.default]
    bounds = [bound for bound in (param.high, param.low) if bound != param.default]
    return [param.default + 0.3 * (bound - param.default) for bound in bounds] + bounds


def _equal(one: Trajectory, other: Trajectory) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def _same(expected: Trajectory, found: Trajectory, when: str) -> None:
    for name, a, b in zip(Trajectory._fields, expected, found, strict=True):
        where = (a != b).nonzero().tolist()
        assert not where, f"{name} differs {when}, first at [step, task, episode, ...] = {where[0]}"


def _options(family: TaskFamily) -> dict[str, Any]:
    return {field.name: getattr(family, field.name) for field in fields(cast(Any, family))}


def _in_new_process(family: TaskFamily, *statements: str) -> list[str]:
    """Runs statements in a new interpreter, where `family` is this family; returns the words that they print."""
    kind = type(family)
    lines = (
        f"from {kind.__module__} import {kind.__qualname__} as Family",
        f"family = Family(**{_options(family)!r})",
        *statements,
    )
    run = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, (
        f"{kind.__module__}.{kind.__qualname__} in a new interpreter: {run.stderr[-2000:]}"
    )
    return run.stdout.split()

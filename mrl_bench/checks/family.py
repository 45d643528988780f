"""Checks of what every task family must guarantee.

    from mrl_bench import check_family
    check_family(MyFamily())

Each check raises AssertionError with the broken guarantee and where it broke. The checks compare what the harness
reads, the numbers of running environment instances, over episodes of at most `STEPS` pseudo-random actions.
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

STEPS = 100  # of a probe, or the horizon if that is shorter
SEED = 7  # of a probe's episodes
CPU = torch.device("cpu")

Changes = Mapping[str, float]  # a task, as the parameters that differ from their defaults
DEFAULT: Changes = {}


def declares_its_parameters(family: TaskFamily) -> None:
    """Options, sizes and parameters are as `mrl_bench.family` asks; every default is a legal value."""
    name = type(family).__name__
    assert is_dataclass(family), f"{name} is not a dataclass"
    assert cast(Any, family).__dataclass_params__.frozen, f"{name} is a dataclass, but not a frozen one"
    assert "horizon" in _options(family), f"{name} has no option 'horizon'"
    assert replace(cast(Any, family), horizon=3).spec.horizon == 3, (
        "the option 'horizon' does not reach the spec"
    )
    spec = family.spec
    assert min(spec.obs_dim, spec.act_dim, spec.horizon) >= 1, f"{spec}: a size is not positive"
    assert 0 < spec.dt < math.inf, f"{spec}: dt is not a time"
    assert family.simulator, f"{name} does not name its simulator"
    assert family.params, f"{name} has no parameter, so there is nothing to adapt to"
    for name, param in family.params.items():
        assert param.unit, f"parameter {name!r} has no unit"
        assert param.doc, f"parameter {name!r} has no doc"
        assert -math.inf < param.low < param.high < math.inf, f"parameter {name!r}: not a range, {param}"
        for value in (param.default, *(param.values or ())):
            assert param.low <= value <= param.high, f"parameter {name!r}: {value} is out of bounds"
        assert param.values is None or param.default in param.values, (
            f"parameter {name!r}: default not in values"
        )


def imports_no_simulator(family: TaskFamily) -> None:
    """Reading a family's declaration loads neither torch nor a simulator."""
    loaded = _in_new_process(
        family,
        "family.params, family.spec, family.simulator",
        "import sys",
        "print(*{'torch', 'mujoco', 'carla', 'gymnasium'}.intersection(sys.modules))",
    )
    assert not loaded, f"reading the declaration of {type(family).__name__} imports {', '.join(loaded)}"


def numbers_have_the_right_form(family: TaskFamily) -> None:
    """Shapes, dtypes and device are those of the contract, and a default task gives finite numbers."""
    spec, tasks = family.spec, _tasks(family, DEFAULT, DEFAULT)
    for asked in (None, torch.float32, torch.float64):
        dtype = asked or torch.float32
        env = family.make(tasks, 3, CPU, asked)
        first_obs = env.reset(SEED)
        step = env.step(_actions(family, 2, 3)[0].to(dtype))
        env.close()
        numbers: dict[str, tuple[Tensor, tuple[int, ...], torch.dtype]] = {
            "the first obs": (first_obs, (2, 3, spec.obs_dim), dtype),
            "obs": (step.obs, (2, 3, spec.obs_dim), dtype),
            "reward": (step.reward, (2, 3), dtype),
            "terminated": (step.terminated, (2, 3), torch.bool),
            "failed": (step.failed, (2, 3), torch.bool),
        }
        for name, (tensor, shape, kind) in numbers.items():
            assert tensor.shape == shape, f"{name} has shape {tuple(tensor.shape)}, not {shape}"
            assert tensor.dtype == kind, (
                f"{name} is {tensor.dtype}, not {kind}, where dtype={asked} is asked for"
            )
            assert tensor.device == CPU, f"{name} is on {tensor.device}, not on {CPU}"
    probe = _play(family, tasks)
    assert probe.obs.isfinite().all(), "the first obs is not finite"
    assert not (probe.failed | probe.unmarked).any(), "the simulation breaks down in a default task"


def same_seed_same_trajectory(family: TaskFamily) -> None:
    """A trajectory is a function of task, seed and actions, in the same environment again and in a new one."""
    tasks, actions = _tasks(family, DEFAULT, _odd_task(family)), _actions(family, 2, 2)
    env = family.make(tasks, 2, CPU)
    first = _play_in(env, actions)
    _same(first, _play_in(env, actions), "after a second reset with the same seed")
    _play_in(env, actions, seed=SEED + 1)
    _same(first, _play_in(env, actions), "after an episode from another seed")
    env.close()
    _same(first, _play(family, tasks), "in a second environment")


def slots_do_not_depend_on_neighbours(family: TaskFamily) -> None:
    """A slot's numbers are bit-identical alone, with other neighbours, and in larger batches."""
    odd = _odd_task(family)
    tasks = [odd, DEFAULT, DEFAULT] * 3
    among = _play(family, _tasks(family, *tasks), episodes=4)
    for B, E in ((1, 1), (1, 4), (2, 1), (3, 3), (9, 2)):
        fewer = _play(family, _tasks(family, *tasks[:B]), episodes=E)
        _same(fewer, among.corner(B, E), f"in a batch of 9 tasks x 4 episodes and one of {B} x {E}")
    tasks[0], tasks[2] = DEFAULT, odd
    changed = _play(family, _tasks(family, *tasks), episodes=4)
    for b in (1, 3, 8):
        _same(among.task(b), changed.task(b), "when neighbours have other parameters")


def every_parameter_is_alive(family: TaskFamily) -> None:
    """Each parameter has a legal value that, in place of its default, changes an observation or a reward."""
    # Gentle actions keep an episode alive for longer, full ones excite more.
    efforts = [_actions(family, 1, 2, effort) for effort in (0.2, 1.0)]
    default = [_play(family, _tasks(family, DEFAULT), actions=actions) for actions in efforts]
    for name, param in family.params.items():
        values = _other_values(param)
        alive = any(
            not _equal(before, _play(family, _tasks(family, {name: value}), actions=actions))
            for value in values
            for before, actions in zip(default, efforts, strict=True)
        )
        assert alive, (
            f"parameter {name!r} is dead: none of {values} differs from its default, {param.default}"
        )


def tasks_leave_nothing_behind(family: TaskFamily) -> None:
    """A task is the same whatever is played before it, beside it, or as the first of its process."""
    default, odd = _tasks(family, DEFAULT), _tasks(family, _odd_task(family))
    first, second = _play(family, default), _play(family, odd)
    _same(first, _play(family, default), "after a task with other parameters")
    _same(second, _play(family, odd), "after the default task")

    env, other = family.make(default, 2, CPU), family.make(odd, 2, CPU)
    _play_in(other, _actions(family, 1, 2))
    _same(first, _play_in(env, _actions(family, 1, 2)), "beside an environment with other parameters")
    env.close()
    other.close()

    # What is derived once and kept belongs to the first task: the default here, the odd one in a new process.
    there = _in_new_process(
        family, "from mrl_bench.checks.family import odd_then_default", "print(*odd_then_default(family))"
    )
    assert there == odd_then_default(family), (
        "a trajectory depends on which task was the first in its process"
    )


def odd_then_default(family: TaskFamily) -> list[str]:
    """Plays an odd task and then the default one: the digests of their trajectories."""
    return [_play(family, _tasks(family, task)).digest() for task in (_odd_task(family), DEFAULT)]


def ended_slots_stay_still(family: TaskFamily) -> None:
    """No autoreset: once a slot's episode has ended, its observation stays the same to the bit."""
    tasks = _tasks(family, DEFAULT, _odd_task(family), DEFAULT)
    random = _actions(family, 3, 2)
    for actions in (random, torch.ones_like(random)):
        env = family.make(tasks, 2, CPU)
        last = env.reset(SEED).clone()
        ended = torch.zeros(last.shape[:2], dtype=torch.bool)
        for t, action in enumerate(actions):
            step = env.step(action)
            still = ((step.obs == last) | (step.obs.isnan() & last.isnan())).all(-1)
            moved = (ended & ~still).nonzero().tolist()
            assert not moved, f"step {t} moves slot {moved[0]}, whose episode had ended before"
            ended = ended | step.terminated | step.failed
            last = step.obs.clone()
        env.close()


def actions_are_clamped(family: TaskFamily) -> None:
    """An action beyond [-1, 1] does what the nearest one within does."""
    tasks, wild = _tasks(family, DEFAULT), _actions(family, 1, 2, effort=3.0)
    tame = _play(family, tasks, actions=wild.clamp(-1.0, 1.0))
    _same(tame, _play(family, tasks, actions=wild), "when actions beyond [-1, 1] are not clamped before")


def memory_is_not_shared(family: TaskFamily) -> None:
    """Whoever writes into what a step gave back, or into the action that it was given, changes nothing."""
    tasks, actions = _tasks(family, DEFAULT), _actions(family, 1, 2)
    env = family.make(tasks, 2, CPU)
    overwritten = _play_in(env, actions.clone(), overwrite=True)
    env.close()
    _same(_play(family, tasks), overwritten, "when observations, rewards and actions are overwritten")


def broken_simulations_are_flagged(family: TaskFamily) -> None:
    """A number that is not finite is marked `failed` in its step; a task with a NaN parameter never plays on.

    A family may also refuse a NaN in `make`, with a ValueError or an MrlBenchError. At the bounds of a parameter
    a simulation may break down too, but not unmarked, and not at its neighbour's cost.
    """
    for name, param in family.params.items():
        for value in (math.nan, param.low, param.high):
            what = f"with {name} = {value}"
            try:
                probe = _play(family, _tasks(family, {name: value}, DEFAULT))
            except (ValueError, MrlBenchError) as error:
                if math.isnan(value):
                    continue
                raise AssertionError(f"{what}, which is legal, the family refuses to play") from error
            assert not probe.unmarked.any(), (
                f"{what} a number is not finite, but its step is not marked failed"
            )
            failed = probe.failed.any(0)  # (B, E)
            assert failed[0].all() or not math.isnan(value), f"{what} an episode is never marked failed"
            assert not failed[1].any(), f"{what} the default task beside it is marked failed"


CHECKS: tuple[Callable[[TaskFamily], None], ...] = (
    declares_its_parameters,
    imports_no_simulator,
    numbers_have_the_right_form,
    same_seed_same_trajectory,
    slots_do_not_depend_on_neighbours,
    every_parameter_is_alive,
    tasks_leave_nothing_behind,
    ended_slots_stay_still,
    actions_are_clamped,
    memory_is_not_shared,
    broken_simulations_are_flagged,
)


def check(family: TaskFamily) -> None:
    """Runs every check on a family with its present options.

    Raises:
        AssertionError: the first check that fails.
    """
    for promise in CHECKS:
        promise(family)


class Probe(NamedTuple):
    """What the harness sees of a probe. After the end of an episode `obs` repeats its last and the rest is 0."""

    obs: Tensor  # (T + 1, B, E, O)
    reward: Tensor  # (T, B, E)
    terminated: Tensor  # (T, B, E) bool
    failed: Tensor  # (T, B, E) bool
    unmarked: Tensor  # (T, B, E) bool: a number was not finite, but `failed` did not say so

    def corner(self, tasks: int, episodes: int) -> Probe:
        """The same of the first tasks and of their first episodes."""
        return Probe(*(tensor[:, :tasks, :episodes] for tensor in self))

    def task(self, index: int) -> Probe:
        """The same of one task, with B = 1."""
        return Probe(*(tensor[:, index : index + 1] for tensor in self))

    def digest(self) -> str:
        return blake2b(b"".join(tensor.contiguous().numpy().tobytes() for tensor in self)).hexdigest()


def _play(family: TaskFamily, tasks: TaskBatch, episodes: int = 2, actions: Tensor | None = None) -> Probe:
    """A probe in an environment of its own."""
    env = family.make(tasks, episodes, CPU)
    probe = _play_in(env, _actions(family, len(tasks), episodes) if actions is None else actions)
    env.close()
    return probe


def _play_in(env: BatchEnv, actions: Tensor, seed: int = SEED, overwrite: bool = False) -> Probe:
    """Plays actions (T, B, E, A); `overwrite` writes into all that was given and got, once it has been used."""
    given = env.reset(seed)
    obs = given.clone()
    alive = torch.ones(obs.shape[:2], dtype=torch.bool)
    seen, rows = [obs], []
    for action in actions:
        if overwrite:
            given.fill_(9.0)
        step = env.step(action)
        finite = step.obs.isfinite().all(-1) & step.reward.isfinite()
        sound = alive & finite & ~step.failed
        obs = torch.where(sound[..., None], step.obs, obs)
        reward = torch.where(sound, step.reward, 0.0)
        rows.append((reward, sound & step.terminated, alive & step.failed, alive & ~finite & ~step.failed))
        seen.append(obs)
        alive = sound & ~step.terminated
        given = step.obs
        if overwrite:
            action.fill_(9.0)
            step.reward.fill_(9.0)
    return Probe(torch.stack(seen), *(torch.stack(column) for column in zip(*rows, strict=True)))


def _actions(family: TaskFamily, tasks: int, episodes: int, effort: float = 1.0) -> Tensor:
    """Uniform in [-effort, effort], a function of step and slot, (T, B, E, A)."""
    steps = min(STEPS, family.spec.horizon)
    draws = uniforms(("conformance",), steps, tasks, episodes, family.spec.act_dim)
    return torch.tensor(effort * (2.0 * draws - 1.0), dtype=torch.float32)


def _tasks(family: TaskFamily, *tasks: Changes) -> TaskBatch:
    rows = [[task.get(name, param.default) for name, param in family.params.items()] for task in tasks]
    return TaskBatch(tuple(family.params), np.array(rows, dtype=np.float64))


def _odd_task(family: TaskFamily) -> Changes:
    """A task in which no parameter has its default."""
    return {name: _other_values(param)[0] for name, param in family.params.items()}


def _other_values(param: Param) -> list[float]:
    """Legal values besides the default, those near it first."""
    if param.values is not None:
        return [value for value in param.values if value != param.default]
    bounds = [bound for bound in (param.high, param.low) if bound != param.default]
    return [param.default + 0.3 * (bound - param.default) for bound in bounds] + bounds


def _equal(one: Probe, other: Probe) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def _same(expected: Probe, found: Probe, when: str) -> None:
    for name, a, b in zip(Probe._fields, expected, found, strict=True):
        where = (a != b).nonzero().tolist()
        assert not where, f"{name} is different {when}, first at [step, task, episode, ...] = {where[0]}"


def _options(family: TaskFamily) -> dict[str, Any]:
    return {field.name: getattr(family, field.name) for field in fields(cast(Any, family))}


def _in_new_process(family: TaskFamily, *statements: str) -> list[str]:
    """The words that the statements print in a new interpreter, in which `family` is this family."""
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

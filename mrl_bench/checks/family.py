"""The promises of a task family (`mrl_bench.family`), as checks.

    from mrl_bench import check_family
    check_family(MyFamily)

The checks play episodes of at most `trajectory.STEPS` pseudo-random actions and compare trajectories bit for bit, up to
the end of each instance's episode.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from mrl_bench.checks import declaration, new_process
from mrl_bench.checks.check import Check, hold, package_of
from mrl_bench.checks.trajectory import (
    CPU,
    DEFAULT,
    SEED,
    batch,
    odd_task,
    other_values,
    play,
    play_in,
    random_actions,
)
from mrl_bench.errors import MissingPart, MrlBenchError, kind_of
from mrl_bench.family import BatchEnv, HasMetrics, Renderable, TaskFamily, reward_range
from mrl_bench.types import Step

RENDERED = 10  # control steps of the trajectory that is rendered
HEIGHT, WIDTH = 48, 64  # [pixels] of its images


def shapes_and_dtypes_are_right(family: TaskFamily) -> Iterator[str]:
    """An environment gives tensors of the shapes, dtypes and device of the contract, for each `dtype`."""
    spec, tasks = family.spec, batch(family, DEFAULT, DEFAULT)
    for requested in (None, torch.float32, torch.float64):
        dtype = requested or torch.float32
        env = family.make(tasks, 3, CPU, requested)
        missing = [name for name in ("reset", "step", "close") if not callable(getattr(env, name, None))]
        if missing:
            yield f"make returned {kind_of(env)}, which has no {missing[0]}"
            return
        first_obs = env.reset(SEED)
        step = env.step(random_actions(family, 2, 3)[0].to(dtype))
        env.close()
        if not isinstance(step, Step):
            yield f"step returned {kind_of(step)}, not a Step"
            return
        for name, found, shape, expected in (
            ("the initial obs", first_obs, (2, 3, spec.obs_dim), dtype),
            ("obs", step.obs, (2, 3, spec.obs_dim), dtype),
            ("reward", step.reward, (2, 3), dtype),
            ("terminated", step.terminated, (2, 3), torch.bool),
            ("failed", step.failed, (2, 3), torch.bool),
        ):
            yield from (f"{name} {wrong}" for wrong in _wrong_tensor(found, shape, expected))


def _wrong_tensor(found: object, shape: tuple[int, ...], dtype: torch.dtype) -> Iterator[str]:
    if not isinstance(found, Tensor):
        yield f"is {kind_of(found)}, not a tensor"
        return
    if found.shape != shape:
        yield f"has shape {tuple(found.shape)}, not {shape}"
    if found.dtype != dtype:
        yield f"is {found.dtype}, not {dtype}"
    if found.device != CPU:
        yield f"is on {found.device}, not on {CPU}"


def default_tasks_do_not_fail(family: TaskFamily) -> Iterator[str]:
    """With default parameters every value is finite, and no step fails."""
    trajectory = play(family, batch(family, DEFAULT, DEFAULT))
    if not trajectory.obs[0].isfinite().all():
        yield "the initial obs is not finite"
    for name in ("failed", "unflagged"):
        where = getattr(trajectory, name).nonzero().tolist()
        if where:
            text = "is flagged failed" if name == "failed" else "is not finite, and not flagged failed"
            yield f"a default task {text} at [step, task, episode] = {where[0]}"


def rewards_are_in_their_range(family: TaskFamily) -> Iterator[str]:
    """Every reward lies within `reward_range`, if the family declares one."""
    low, high = reward_range(family)
    if (low, high) == (-math.inf, math.inf):
        return
    trajectory = play(family, batch(family, DEFAULT, odd_task(family)))
    margin = 1e-5 * max(abs(end) for end in (low, high, 1.0) if math.isfinite(end))
    paid = trajectory.reward[trajectory.played()]
    wrong = paid[(paid < low - margin) | (paid > high + margin)]
    if len(wrong):
        yield f"a reward of {float(wrong[0]):.6g} is outside [{low}, {high}]"


def same_seed_same_trajectory(family: TaskFamily) -> Iterator[str]:
    """A trajectory depends on task, seed and actions only, in a reused environment and in a new one."""
    tasks, actions = batch(family, DEFAULT, odd_task(family)), random_actions(family, 2, 2)
    env = family.make(tasks, 2, CPU)
    first = play_in(env, actions)
    yield from first.differs(play_in(env, actions), "after a second reset with the same seed")
    play_in(env, actions, seed=SEED + 1)
    yield from first.differs(play_in(env, actions), "after an episode with another seed")
    env.close()
    yield from first.differs(play(family, tasks), "in a new environment")


def another_seed_another_start(family: TaskFamily) -> Iterator[str]:
    """Initial states that differ from instance to instance also differ from seed to seed."""
    env = family.make(batch(family, DEFAULT), 8, CPU)
    starts = [env.reset(seed).clone() for seed in (SEED, SEED + 1)]
    env.close()
    if not torch.equal(starts[0], starts[0][:, :1].expand_as(starts[0])) and torch.equal(*starts):
        yield f"eight instances start in different states, the same for the seeds {SEED} and {SEED + 1}"


def instances_are_independent(family: TaskFamily) -> Iterator[str]:
    """The values of an instance do not depend by a bit on the size of the batch or on the other instances."""
    odd = odd_task(family)
    tasks = [odd, DEFAULT, DEFAULT] * 3
    among = play(family, batch(family, *tasks), episodes=4)
    for B, E in ((1, 1), (1, 4), (2, 1), (3, 3), (9, 2)):
        fewer = play(family, batch(family, *tasks[:B]), episodes=E)
        yield from fewer.differs(
            among.corner(B, E), f"in a batch of 9 tasks x 4 episodes and one of {B} x {E}"
        )
    tasks[0], tasks[2] = DEFAULT, odd
    changed = play(family, batch(family, *tasks), episodes=4)
    for b in (1, 3, 8):
        yield from among.task(b).differs(changed.task(b), "when other tasks of the batch change")


def every_parameter_has_an_effect(family: TaskFamily) -> Iterator[str]:
    """Each parameter has a legal value that changes an observation or a reward relative to the default."""
    values = {name: other_values(param) for name, param in family.params.items()}
    idle = set(values)
    for turn in range(max(map(len, values.values()), default=0)):
        tried = [name for name in values if name in idle and turn < len(values[name])]
        if not tried:
            break
        changed = [{name: values[name][turn]} for name in tried]  # all in one batch, which saves time
        for effort in (0.2, 1.0):  # small actions make episodes longer; full actions excite the dynamics more
            actions = random_actions(family, len(tried), 2, effort)
            before, after = (
                play(family, batch(family, *tasks), actions=actions)
                for tasks in ([DEFAULT] * len(tried), changed)
            )
            idle -= {name for b, name in enumerate(tried) if not before.task(b).equals(after.task(b))}
    for name, param in family.params.items():
        if name in idle:
            yield (
                f"parameter {name!r} has no effect: {values[name]} give the trajectory of its default, "
                f"{param.default}"
            )


def no_state_leaks_between_tasks(family: TaskFamily) -> Iterator[str]:
    """A trajectory does not depend on tasks played before it, at the same time, or first in its process."""
    default, odd = batch(family, DEFAULT), batch(family, odd_task(family))
    first, second = play(family, default), play(family, odd)
    yield from first.differs(play(family, default), "after a task with other parameters")
    yield from second.differs(play(family, odd), "after the default task")

    env, other = family.make(default, 2, CPU), family.make(odd, 2, CPU)
    actions = random_actions(family, 1, 2)
    play_in(other, actions)
    yield from first.differs(play_in(env, actions), "while an environment with other parameters is open")
    env.close()
    other.close()

    if not new_process.can_import(type(family)):
        return
    # A cache would hold values of the first task: the default one here, the odd one in a new process.
    elsewhere = new_process.run(
        family, "from mrl_bench.checks.family import odd_then_default", "print(*odd_then_default(family))"
    )
    if elsewhere != odd_then_default(family):
        yield "a trajectory depends on which task was the first in its process"


def odd_then_default(family: TaskFamily) -> list[str]:
    """The digests of the trajectories of an odd task and then of the default one."""
    return [play(family, batch(family, task)).digest() for task in (odd_task(family), DEFAULT)]


def ended_instances_do_not_change(family: TaskFamily) -> Iterator[str]:
    """No autoreset: after the end of an episode, obs and metrics of its instance do not change by a bit."""
    tasks, actions = batch(family, DEFAULT, odd_task(family), DEFAULT), random_actions(family, 3, 2)
    for chosen in (actions, torch.ones_like(actions)):
        env = family.make(tasks, 2, CPU)
        yield from islice(_changes_after_the_end(env, chosen), 1)
        env.close()


def _changes_after_the_end(env: BatchEnv, actions: Tensor) -> Iterator[str]:
    before = {"obs": env.reset(SEED).clone()}
    ended = torch.zeros(actions.shape[1:3], dtype=torch.bool)
    for t, action in enumerate(actions):
        step = env.step(action)
        now = {"obs": step.obs.clone(), **_metrics(env)}
        for name in before:
            moved = (ended & ~_unchanged(before[name], now[name])).nonzero().tolist()
            if moved:
                yield f"step {t} changes {name} of instance {moved[0]}, whose episode had already ended"
        ended, before = ended | step.terminated | step.failed, now


def _unchanged(before: Tensor, now: Tensor) -> Tensor:
    """Whether each instance has the same values (B, E, ...), NaN included; (B, E)."""
    same = (before == now) | (before.isnan() & now.isnan())
    return same.flatten(2).all(-1) if same.ndim > 2 else same


def _metrics(env: BatchEnv) -> dict[str, Tensor]:
    """Copies of the metrics of an environment that measures some."""
    measured = env.metrics() if isinstance(env, HasMetrics) else {}
    return {f"the metric {name!r}": value.clone() for name, value in measured.items()}


def actions_are_clamped(family: TaskFamily) -> Iterator[str]:
    """Actions outside [-1, 1] have the effect of the nearest action inside."""
    tasks, wild = batch(family, DEFAULT), random_actions(family, 1, 2, effort=3.0)
    tame = play(family, tasks, actions=wild.clamp(-1.0, 1.0))
    yield from tame.differs(
        play(family, tasks, actions=wild), "between actions up to 3 and the same ones clamped"
    )


def memory_is_not_shared(family: TaskFamily) -> Iterator[str]:
    """What was passed to `step` or returned keeps its values, and overwriting it does not change the simulation."""
    tasks, actions = batch(family, DEFAULT), random_actions(family, 1, 2)
    env = family.make(tasks, 2, CPU)
    yield from _changes_later(env, actions.clone())
    overwritten = play_in(env, actions.clone(), overwrite=True)
    env.close()
    when = "when observations, rewards and actions are overwritten after use"
    yield from play(family, tasks).differs(overwritten, when)


def _changes_later(env: BatchEnv, actions: Tensor) -> Iterator[str]:
    """Yields a line on the first tensor that the environment was given, or returned, and changed later."""
    first = env.reset(SEED)
    held = [("the initial obs", first, first.clone())]  # (name, tensor, its values when it was handed over)
    for t, action in enumerate(actions):
        held.append((f"the action of step {t}", action, action.clone()))
        step = env.step(action)
        held += [(f"{name} of step {t}", value, value.clone()) for name, value in step._asdict().items()]
    for name, now, before in held:
        if not _unchanged(before, now).all():
            yield f"the environment changes {name} after it was handed over"
            return


def metrics_are_measured(family: TaskFamily) -> Iterator[str]:
    """Metrics are finite tensors (B, E), measuring does not change the simulation, and reported ones are measured."""
    tasks = batch(family, DEFAULT, odd_task(family))
    env = family.make(tasks, 2, CPU)
    if not isinstance(env, HasMetrics):
        return
    seen: list[dict[str, Tensor]] = []
    measured = play_in(env, random_actions(family, 2, 2), look=lambda _: seen.append(env.metrics()))
    yield from play(family, tasks).differs(measured, "when metrics are read in every step")
    for metrics in seen:
        yield from (f"metric {name!r} {wrong}" for name, x in metrics.items() for wrong in _wrong_metric(x))
    for shown, ratio in env.reported.items():
        for name in {ratio.metric, ratio.per or ratio.metric} - seen[-1].keys():
            yield f"{shown!r} is reported from {name!r}, which is not among the metrics {list(seen[-1])}"
    env.close()


def _wrong_metric(value: object) -> Iterator[str]:
    if not isinstance(value, Tensor):
        yield f"is {kind_of(value)}, not a tensor"
    elif value.shape != (2, 2):
        yield f"has shape {tuple(value.shape)}, not (2, 2)"
    elif not value.isfinite().all():
        yield "is not finite"


def rendering_changes_nothing(family: TaskFamily) -> Iterator[str]:
    """Images are (height, width, 3) uint8, and rendering does not change the simulation.

    Nothing is checked where the renderer is not installed.
    """
    tasks, actions = batch(family, DEFAULT, odd_task(family)), random_actions(family, 2, 2)[:RENDERED]
    env = family.make(tasks, 2, CPU)
    if not isinstance(env, Renderable):
        return
    images: list[object] = []
    try:
        rendered = play_in(env, actions, look=lambda _: images.append(env.render(1, 1, WIDTH, HEIGHT)))
    except MissingPart:
        return
    env.close()
    if not (isinstance(images[0], np.ndarray) and images[0].shape == (HEIGHT, WIDTH, 3)):
        yield f"an image is {kind_of(images[0])} of shape {np.shape(cast(Any, images[0]))}"
    elif images[0].dtype != np.uint8:
        yield f"an image is {images[0].dtype}"
    yield from play(family, tasks, actions=actions).differs(rendered, "when every step is rendered")


def broken_simulations_are_flagged(family: TaskFamily) -> Iterator[str]:
    """A step with a value that is not finite is flagged `failed`; with a NaN parameter every episode fails.

    `make` may also reject a NaN parameter with a ValueError or an MrlBenchError. At the bounds of a parameter a
    simulation may break down, but the step must be flagged, and other instances must not be affected.
    """
    cases: list[tuple[str, float]] = []  # those that `make` does not reject
    for name, param in family.params.items():
        for value in (math.nan, param.low, param.high):
            try:
                family.make(batch(family, {name: value}, DEFAULT), 2, CPU).close()
            except (ValueError, MrlBenchError) as error:
                yield from _rejected(name, value, error)
            else:
                cases.append((name, value))
    # All in one batch, which saves time. Only if something is wrong there, one after another, to say with which.
    with suppress(Exception):
        if not any(_wrongly_broken(family, cases)):
            return
    for name, value in cases:
        try:
            yield from _wrongly_broken(family, [(name, value)])
        except (ValueError, MrlBenchError) as error:
            yield from _rejected(name, value, error)


def _rejected(name: str, value: float, error: Exception) -> Iterator[str]:
    if not math.isnan(value):
        yield f"with {name} = {value}, a legal value, make raises {type(error).__name__}: {error}"


def _wrongly_broken(family: TaskFamily, cases: Sequence[tuple[str, float]]) -> Iterator[str]:
    """What is wrong in a batch of tasks in which one parameter has another value each, and of the default task."""
    trajectory = play(family, batch(family, *({name: value} for name, value in cases), DEFAULT))
    failed = trajectory.failed.any(0)  # (B, E)
    case = "with " + ", ".join(f"{name} = {value}" for name, value in cases)
    if trajectory.unflagged.any():
        yield f"{case} a value is not finite, but its step is not flagged failed"
    if any(math.isnan(value) and not failed[b].all() for b, (_, value) in enumerate(cases)):
        yield f"{case} an episode is never flagged failed"
    if failed[-1].any():
        yield f"{case} the default task in the same batch is flagged failed"


CHECKS: tuple[Check[TaskFamily], ...] = (
    Check(declaration.has_every_part, gate=True),
    Check(declaration.declares_its_options),
    Check(declaration.declares_its_sizes, gate=True),
    Check(declaration.names_its_files),
    Check(declaration.documents_its_parameters),
    Check(declaration.declares_its_parameters, gate=True),
    Check(declaration.imports_no_simulator),
    Check(shapes_and_dtypes_are_right, gate=True),
    Check(default_tasks_do_not_fail, gate=True),
    Check(rewards_are_in_their_range),
    Check(same_seed_same_trajectory, gate=True),
    Check(another_seed_another_start),
    Check(instances_are_independent),
    Check(every_parameter_has_an_effect),
    Check(no_state_leaks_between_tasks),
    Check(ended_instances_do_not_change),
    Check(actions_are_clamped),
    Check(memory_is_not_shared),
    Check(metrics_are_measured),
    Check(rendering_changes_nothing),
    Check(broken_simulations_are_flagged),
)


def check(family: TaskFamily | type, waive: Mapping[str, str]) -> None:
    """Runs every check on a family with the options that it has, or on a class with the defaults.

    Raises:
        ContractError: lists every broken promise.
        UsageError: a waiver names no check, gives no reason, or is not needed.
        MissingPart: the simulator is not installed.
    """
    cls = family if isinstance(family, type) else type(family)
    about = {"name": cls.__name__, "kind": "a family", "package": package_of(cls)}
    if isinstance(family, type):
        hold(family, [Check(declaration.options_have_defaults)], {}, **about)
        family = cast(TaskFamily, family())
    hold(family, CHECKS, waive, **about)

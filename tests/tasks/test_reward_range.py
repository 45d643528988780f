"""What a family says that a control step can pay at least and at most, against random play on random tasks."""

from __future__ import annotations

from collections.abc import Iterator
from math import inf
from typing import Any

import numpy as np
import pytest
import torch
from mrl_tasks.locomotion.family import Locomotion
from mrl_tasks.locomotion.robots import MAX_SPEED

from mrl_bench import registry
from mrl_bench.errors import ContractError
from mrl_bench.family import TaskFamily, reward_range
from mrl_bench.types import TaskBatch

BOUNDED: list[tuple[str, dict[str, Any], tuple[float, float]]] = [
    ("cartpole", {}, (0.0, 1.0)),
    ("cartpole", {"reward": "target", "control": "bang_bang"}, (0.0, 1.0)),
    ("driving", {}, (-inf, 1.0)),
    ("driving", {"road": "highway", "traffic": 6, "start_speed": 1.0}, (-inf, 1.0)),
    ("driving", {"road": "crossing", "traffic": 2, "events": True}, (-inf, 1.0)),
    ("locomotion", {"task": "velocity"}, (-1010.6, 0.0)),
    ("locomotion", {"robot": "ant", "task": "goal"}, (-inf, 1.0)),
]


def random_tasks(family: TaskFamily, count: int) -> TaskBatch:
    """Tasks anywhere within the bounds of the parameters; the first has the defaults."""
    rng = np.random.default_rng(5)
    columns = [
        rng.choice(param.values, count) if param.values else rng.uniform(param.low, param.high, count)
        for param in family.params.values()
    ]
    values = np.stack(columns, 1)
    values[0] = [param.default for param in family.params.values()]
    return TaskBatch(tuple(family.params), values)


def rewards(family: TaskFamily, tasks: int, episodes: int) -> Iterator[torch.Tensor]:
    """The rewards of every control step before an episode's end, each (n,)."""
    env = family.make(random_tasks(family, tasks), episodes, torch.device("cpu"), torch.float64)
    rng = torch.Generator().manual_seed(0)
    alive = torch.ones(tasks, episodes, dtype=torch.bool)
    env.reset(3)
    push = 2 * torch.rand(tasks, episodes, family.spec.act_dim, generator=rng) - 1
    for _ in range(family.spec.horizon):
        push = (push + 0.3 * torch.randn(push.shape, generator=rng)).clamp(-1, 1)
        step = env.step(push)
        yield step.reward[alive & ~step.failed]
        alive &= ~(step.terminated | step.failed)
    env.close()


@pytest.mark.parametrize(("name", "options", "expected"), BOUNDED, ids=str)
def test_random_play_is_never_paid_more_or_less_than_the_family_says(
    name: str, options: dict[str, Any], expected: tuple[float, float]
) -> None:
    family = registry.find("family", name)(**options, horizon=60)
    assert reward_range(family) == expected
    paid = torch.cat(list(rewards(family, 24, 4)))
    low, high = expected
    assert low <= paid.min()
    assert paid.max() <= high
    assert paid.max() > high - 3.0, "a bound that is far from what is paid says nothing"


@pytest.mark.parametrize("task", ["forward", "direction"])
def test_a_speed_has_the_bound_from_which_on_it_is_an_error(task: Any) -> None:
    assert reward_range(Locomotion(task=task)) == (-MAX_SPEED - 0.6, MAX_SPEED)
    humanoid = Locomotion(
        robot="humanoid", task=task
    )  # control^2 of 17 motors costs 0.1, and progress counts 1.25
    assert reward_range(humanoid) == pytest.approx((-1.25 * MAX_SPEED - 0.272, 1.25 * MAX_SPEED + 5))


def test_a_healthy_robot_is_paid_for_it_on_top_of_its_progress() -> None:
    for paid, expected in ((2.5, (-1010.003, 2.5)), (-2.5, (-1012.503, 0.0))):
        family = Locomotion(robot="hopper", task="velocity", healthy_reward=paid)
        assert reward_range(family) == pytest.approx(expected)


def test_a_family_that_says_nothing_may_pay_anything() -> None:
    from toy_family import Toy

    assert reward_range(Toy()) == (-inf, inf)


@pytest.mark.parametrize(
    "declared", [None, 1.0, (1.0, 0.0), (float("nan"), 1.0), ("low", "high"), (0.0, 1.0, 2.0)]
)
def test_a_range_that_is_none_is_refused_by_name(declared: Any) -> None:
    class Vague(Locomotion):
        reward_range = declared

    with pytest.raises(
        ContractError, match=r"^Vague\.reward_range must be the least and the largest reward, not "
    ):
        reward_range(Vague())

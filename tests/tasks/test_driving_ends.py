"""Where roads end: arriving at the end of an open one, and going round a closed one."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import torch
from driving_kit import cars, drive, follow
from mrl_tasks.driving import Driving
from mrl_tasks.driving.environment import DrivingEnv
from mrl_tasks.driving.family import END_MARGIN, EVENTS
from mrl_tasks.driving.geometry import Box, gap, overlap, point, read_route
from mrl_tasks.driving.roads import ROADS
from mrl_tasks.driving.vehicle import DT, HALF_LENGTH, HALF_WIDTH

from mrl_bench.errors import UsageError
from mrl_bench.keyed_random import uniforms

OPEN = [name for name in ROADS if name != "loop"]
LAP = read_route("loop", True).length


def test_who_arrives_has_succeeded_and_pays_nothing() -> None:
    """On a road that is too short for the horizon, as only a call from Python can ask for."""
    env = cars(Driving(road="straight", horizon=680, keep_lane=True), {"target_speed": 22.0}, episodes=4)
    _, steps = drive(env, 680)
    ended = torch.stack([step.terminated[0] for step in steps])  # (T, E)
    reward = torch.stack([step.reward[0] for step in steps])
    assert not ended[600].any()
    assert ended[-1].all()
    assert (reward[ended.int().argmax(0), torch.arange(4)] > 0.9).all()
    metrics = env.metrics()
    assert (metrics["success"] == 1.0).all()
    assert (metrics["driving_score"] == 100.0).all()


@pytest.mark.parametrize("start_speed", [0.0, 1.0])
@pytest.mark.parametrize("horizon", [100, 300])
@pytest.mark.parametrize("road", OPEN)
def test_at_the_highest_target_speed_nobody_reaches_the_end(
    road: str, horizon: int, start_speed: float
) -> None:
    family = Driving(road=road, horizon=horizon, start_speed=start_speed)
    speed, route = family.params["target_speed"].high, read_route(road, keep_lane=False)
    env = cars(family, {"target_speed": speed}, {"target_speed": 5.0}, episodes=32)
    for seed in range(3):
        env.reset(seed)
        scene, task = env._all.scene, env._all.task
        last = scene.start + task.target_speed * horizon * DT
        assert (last <= route.length - END_MARGIN + 1.0).all()  # a start is projected on the route


@pytest.mark.parametrize(
    ("road", "horizon", "speed"),
    [("straight", 1200, 10.65), ("highway", 1000, 16.4), ("straight", 4200, 3.04)],
)
def test_target_speeds_fit_the_road_and_the_horizon(road: str, horizon: int, speed: float) -> None:
    family = Driving(road=road, horizon=horizon)
    param = family.params["target_speed"]
    assert param.high == pytest.approx(speed, abs=0.01)
    assert param.default == min(12.0, param.high)
    assert road in param.because


def test_a_horizon_that_is_too_long_for_any_target_speed_is_refused() -> None:
    with pytest.raises(
        UsageError, match=r"horizon must be lower, .* straight has 639 m for 4260 control steps"
    ):
        Driving(road="straight", horizon=4260)


def test_a_closed_road_has_no_end() -> None:
    assert Driving(road="loop", horizon=100_000).params["target_speed"].high == 35.0
    env = cars(Driving(road="loop", horizon=1100, keep_lane=True), episodes=4)
    _, steps = drive(env, 1100)
    assert not steps[-1].terminated.any()
    assert (env.metrics()["distance"] > 1e-3 * LAP).all()
    assert (env.metrics()["success"] == 1.0).all()


def test_a_closed_road_goes_on_where_it_began() -> None:
    route = read_route("loop", True)
    s = np.linspace(-1.0, 1.0, 201)
    here, there = point(np, route, s), point(np, route, s + LAP)
    np.testing.assert_allclose([here.x, here.y], [there.x, there.y], atol=1e-9)
    np.testing.assert_allclose(np.hypot(np.diff(here.x), np.diff(here.y)), 0.01, atol=1e-3)


def test_gaps_on_a_closed_road_are_the_shorter_way() -> None:
    closed, straight = read_route("loop", True), read_route("straight", True)
    s, other = np.array([5.0, LAP - 5.0, 5.0, 5.0]), np.array([15.0, 5.0, LAP - 5.0, 3 * LAP + 15.0])
    np.testing.assert_allclose(gap(np, closed, s, other), [10.0, 10.0, -10.0, 10.0])
    np.testing.assert_allclose(gap(np, straight, s, other), other - s)


def inside_each_other(env: DrivingEnv) -> bool:
    """Whether any two road users overlap."""
    scene = env._active.scene
    shapes = [Box(*body, HALF_LENGTH, HALF_WIDTH) for body in zip(*scene.bodies, strict=True)]
    there = scene.road_users.kind > 0.0
    return any(
        (overlap(np, shapes[one], shapes[other]) & there[one] & there[other]).any()
        for one, other in combinations(range(len(shapes)), 2)
    )


@pytest.mark.parametrize("events", [False, True])
@pytest.mark.parametrize("density", [5.0, 7.0, 10.0, 60.0])
def test_traffic_on_a_closed_road_keeps_clear_of_everybody(density: float, events: bool) -> None:
    family = Driving(road="loop", traffic=6, events=events, keep_lane=True)
    zeal = [{"traffic_density": density, "aggressiveness": zeal} for zeal in (0.0, 1.0)]
    kinds = [{"event_kind": float(kind), "event_distance": 100.0} for kind in range(len(EVENTS))]
    env = cars(family, *(one | other for one in zeal for other in (kinds if events else [{}])), episodes=32)
    for seed in range(4):
        env.reset(seed)
        assert not inside_each_other(env)
        assert not env.step(torch.zeros(*env._shape, 2)).terminated.any()
    for _ in range(100):
        env.step(torch.tensor([0.0, -1.0]).expand(*env._shape, 2))
    assert not inside_each_other(env)


@pytest.mark.parametrize("event", EVENTS[1:])
def test_road_users_on_a_closed_road_are_where_they_are_whatever_their_lap(event: str) -> None:
    """Those of the same scene some laps on: gaps, observations, contacts and events stay as they are."""
    family = Driving(road="loop", traffic=3, events=True, keep_lane=True)
    task = {"event_kind": float(EVENTS.index(event)), "traffic_density": 60.0}
    plain, moved = (cars(family, task, episodes=8) for _ in range(2))
    obs = plain.reset(0)
    moved.reset(0)
    scene = moved._all.scene
    laps = np.floor(7.0 * uniforms(("laps",), *scene.road_users.s.shape)) - 3.0
    road_users = scene.road_users._replace(s=scene.road_users.s + LAP * laps)
    moved._all = moved._active = moved._all._replace(scene=scene._replace(road_users=road_users))
    for _ in range(120):
        action = follow(obs)
        one, other = plain.step(action), moved.step(action)
        assert torch.equal(one.terminated, other.terminated)
        alive = ~one.terminated
        torch.testing.assert_close(one.obs[alive], other.obs[alive], rtol=0, atol=1e-6)
        torch.testing.assert_close(one.reward, other.reward, rtol=0, atol=1e-6)
        obs = one.obs
    assert (plain._among_all(plain._all, plain._active).scene.clock > 0.0).any() or event == "stalled_vehicle"

"""Driving: what is rewarded, what ends an episode, what the others do, and how it is scored."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from driving_kit import CPU, DOUBLE, cars, drive, follow, tasks
from mrl_tasks.driving import Driving, events, traffic
from mrl_tasks.driving.events import Part
from mrl_tasks.driving.family import EVENTS, PREVIEW
from mrl_tasks.driving.geometry import Box, overlap, read_route
from mrl_tasks.driving.metrics import driving_score
from mrl_tasks.driving.road_users import VEHICLE, RoadUsers
from mrl_tasks.driving.roads import ROADS
from mrl_tasks.driving.scene import CRASH_COST, Verdict
from mrl_tasks.driving.vehicle import DT, HALF_LENGTH, HALF_WIDTH

from mrl_bench.errors import UsageError
from mrl_bench.keyed_random import uniforms
from mrl_bench.types import Step


def code(event: str) -> dict[str, float]:
    return {"event_kind": float(EVENTS.index(event))}


def returns(steps: list[Step]) -> torch.Tensor:
    """(B, E), of the time before the end of each episode."""
    alive = torch.ones_like(steps[0].terminated)
    total = torch.zeros_like(steps[0].reward)
    for step in steps:
        total = total + torch.where(alive, step.reward, 0.0)
        alive = alive & ~step.terminated
    return total


@pytest.mark.parametrize("road", ROADS)
def test_a_sane_driver_gets_along_on_every_road(road: str) -> None:
    env = cars(Driving(road=road), {"target_speed": 8.0}, episodes=8)
    _, steps = drive(env, 200)
    assert not steps[-1].terminated.any()
    assert (returns(steps) > 0.9 * 200).all()
    assert (env.metrics()["success"] == 1.0).all()


def test_a_reversed_steering_defeats_him() -> None:
    env = cars(Driving(road="s_bends"), {"steering_sign": -1.0}, episodes=8)
    _, steps = drive(env, 200)
    assert steps[-1].terminated.all()


def test_who_turns_the_wheel_the_other_way_masters_it() -> None:
    straight, reversed_ = cars(Driving(), {}), cars(Driving(), {"steering_sign": -1.0})
    obs, mirrored = straight.reset(3), reversed_.reset(3)
    for _ in range(50):
        obs = straight.step(follow(obs)).obs
        mirrored = reversed_.step(follow(mirrored) * torch.tensor([-1.0, 1.0])).obs
    torch.testing.assert_close(obs, mirrored, rtol=0, atol=0)


def test_icy_bends_need_less_speed() -> None:
    fast, slow = {"target_speed": 16.0}, {"target_speed": 6.0}
    ice = {"road_friction": 0.15}
    env = cars(Driving(start_speed=1.0), fast, fast | ice, slow | ice, episodes=4)
    _, steps = drive(env, 150)
    assert steps[-1].terminated.any(1).tolist() == [False, True, False]


def test_wet_roads_are_between_dry_and_ice() -> None:
    """How far a full brake on the straight takes, with the same pedal."""
    family = Driving(road="straight", start_speed=1.0)
    env = cars(family, {}, {"road_wetness": 0.6}, {"road_friction": 0.15})
    start = env.reset(0)
    for _ in range(60):
        step = env.step(torch.tensor([0.0, -1.0]).expand(3, 1, 2))
    assert (start[..., 0] == 12.0).all()
    distance = env.metrics()["distance"][:, 0]
    assert 1.4 < distance[1] / distance[0] < 1.7  # friction 0.6 of the dry one, and a lag that they share
    assert distance[2] > 1.5 * distance[1]
    assert step.obs[0, 0, 0] == 0.0


def test_an_action_arrives_after_its_delay_and_not_before() -> None:
    env = cars(Driving(road="straight"), {}, {"actuator_delay": 3.0})
    env.reset(0)
    pushed = [env.step(torch.tensor([1.0, 0.0]).expand(2, 1, 2)).obs[:, 0, 3] for _ in range(8)]
    wheel = torch.stack(pushed)  # (T, 2)
    assert (wheel[:3, 1] == 0.0).all()
    torch.testing.assert_close(wheel[3:, 1], wheel[:-3, 0])
    assert (wheel[:, 0] > 0.0).all()


def test_a_misaligned_steering_goes_where_its_offset_is_and_a_ratio_scales_it() -> None:
    env = cars(Driving(road="straight"), {"steering_offset": 0.05}, {"steering_ratio": 0.5}, {})
    env.reset(0)
    for _ in range(40):
        step = env.step(torch.tensor([[0.0, 0.0], [0.2, 0.0], [0.2, 0.0]])[:, None])
    wheel = step.obs[:, 0, 3]
    assert wheel[0] == pytest.approx(0.05, rel=1e-3)
    assert wheel[1] == pytest.approx(0.5 * wheel[2].item(), rel=1e-6)


def test_wind_blows_a_car_off_its_lane_and_a_slope_slows_it() -> None:
    family = Driving(road="straight")
    lateral, speed = [], []
    for change in ({}, {"wind_speed": 25.0}, {"grade": 0.1}):
        env = cars(family, change)
        env.reset(0)
        for _ in range(40):
            step = env.step(torch.zeros(1, 1, 2))
        lateral.append(step.obs[0, 0, 4].item())
        speed.append(step.obs[0, 0, 0].item())
    assert lateral[1] > lateral[0] + 0.1
    assert lateral[2] == pytest.approx(lateral[0], abs=0.1)
    assert speed[0] - speed[2] == pytest.approx(9.81 * 0.1 / math.hypot(1.0, 0.1) * 40 * DT, rel=0.03)


def test_a_hidden_target_speed_is_rewarded_and_not_observed() -> None:
    """The car stands at first, so that nothing but the reward tells two tasks apart."""
    family = Driving(road="straight", start_speed=0.0, show_target=False)
    seen, reward = [], []
    for speed in (3.0, 3.5):
        env = cars(family, {"target_speed": speed})
        first = env.reset(0)
        steps = [env.step(torch.tensor([[[0.0, 1.0]]])) for _ in range(40)]
        seen.append(torch.stack([first, *(step.obs for step in steps)])[..., :7])
        reward.append(steps[-1].reward.item())
    assert torch.equal(*seen)
    assert (seen[0][..., 6] == 0.0).all()
    assert reward[0] < reward[1]


def test_a_target_position_is_rewarded_and_not_observed() -> None:
    """Of a car that stands."""
    family = Driving(road="highway", start_speed=0.0, lateral_cost=0.3)
    seen, reward = [], []
    for target in (0.0, 2.0, 6.0):
        env = cars(family, {"target_lateral": target})
        first, step = env.reset(0), env.step(torch.zeros(1, 1, 2))
        seen.append(torch.cat([first, step.obs]))
        lateral = step.obs[0, 0, 4].item()
        reward.append(step.reward.item() + 0.3 * abs(lateral - target))
    assert torch.equal(seen[0], seen[1])
    assert torch.equal(seen[0], seen[2])
    np.testing.assert_allclose(reward, reward[0], atol=1e-6)


@pytest.mark.parametrize(
    ("road", "keep_lane", "high"),
    [("s_bends", True, 1.5), ("s_bends", False, 5.0), ("highway", False, 8.5), ("highway", True, 1.5)],
)
def test_a_target_position_is_in_a_lane(road: str, keep_lane: bool, high: float) -> None:
    family = Driving(road=road, keep_lane=keep_lane)
    param, route = family.params["target_lateral"], read_route(road, keep_lane)
    assert (param.low, param.high) == (-1.5, high)
    assert param.high < route.left_edge
    assert -param.low < route.right_edge


def test_hidden_turning_is_not_observed_and_changes_nothing_else() -> None:
    seen = []
    for shown in (True, False):
        env = cars(Driving(road="s_bends", show_turning=shown))
        env.reset(0)
        steps = [env.step(torch.tensor([[[0.5, 0.2]]])) for _ in range(20)]
        seen.append(torch.stack([step.obs for step in steps])[..., 0, 0, :])
    turning = slice(1, 4)  # lateral velocity, yaw rate, steering angle
    assert (seen[0][..., turning].abs().max(0).values > 0.01).all()
    assert (seen[1][..., turning] == 0.0).all()
    seen[0][..., turning] = 0.0
    assert torch.equal(*seen)


def test_preview_points_lie_on_the_route() -> None:
    env = cars(Driving(road="loop"), episodes=16)
    obs = env.reset(5)[0].numpy()
    scene, route = env._all.scene, read_route("loop", False)
    for number, distance in enumerate(PREVIEW):
        ahead, left = obs[:, 7 + 2 * number], obs[:, 8 + 2 * number]
        x = scene.car.x + ahead * np.cos(scene.car.yaw) - left * np.sin(scene.car.yaw)
        y = scene.car.y + ahead * np.sin(scene.car.yaw) + left * np.cos(scene.car.yaw)
        s, knots = scene.place.s + distance, np.arange(len(route.x), dtype=float)
        lap = route.length
        np.testing.assert_allclose(x, np.interp(s, knots, route.x, period=lap), atol=4e-3)  # chords are off
        np.testing.assert_allclose(y, np.interp(s, knots, route.y, period=lap), atol=4e-3)


def test_progress_adds_up_to_the_distance_driven() -> None:
    env = cars(Driving(road="loop"), {"target_speed": 10.0}, episodes=4)
    env.reset(2)
    start = env._all.scene.car
    x, y, length = start.x.copy(), start.y.copy(), np.zeros(4)
    obs = env.reset(2)
    for _ in range(200):
        obs = env.step(follow(obs)).obs
        car = env._active.scene.car
        length += np.hypot(car.x - x, car.y - y)
        x, y = car.x.copy(), car.y.copy()
    np.testing.assert_allclose(1e3 * env.metrics()["distance"][0].numpy(), length, rtol=0.02)


def test_leaving_the_lane_ends_an_episode_only_where_it_is_to_be_kept() -> None:
    for keep_lane, edge in ((True, 1.75), (False, 1.75 + 1.5)):
        env = cars(Driving(road="straight", keep_lane=keep_lane))
        obs = env.reset(0)
        for _ in range(200):
            before = obs[0, 0, 4].item()
            step = env.step(torch.tensor([[[-0.05, 0.0]]]))
            obs = step.obs
            if step.terminated.item():
                break
        assert before > -edge >= obs[0, 0, 4].item()
        assert step.reward.item() < -CRASH_COST + 1.0


@pytest.mark.parametrize("event", EVENTS[1:])
def test_an_event_punishes_whoever_does_not_react(event: str) -> None:
    """The driver follows the route at the target speed, whatever is on it."""
    family = Driving(road="highway", events=True)
    env = cars(family, code(event) | {"event_severity": 1.0}, {"event_kind": 0.0}, episodes=4)
    _, steps = drive(env, 200)
    verdict = {
        name: value.reshape(2, 4)
        for name, value in env._among_all(env._all, env._active).verdict._asdict().items()
    }
    blamed = {"jaywalking_pedestrian": "hit_pedestrian", "red_light": "ran_red_light"}.get(
        event, "hit_vehicle"
    )
    assert verdict[blamed][0].all()
    assert not steps[-1].terminated[1].any(), "without an event nothing happens"
    assert (env.metrics()["driving_score"][0] < 70).all()


@pytest.mark.parametrize(
    "event", ["lead_hard_brake", "jaywalking_pedestrian", "red_light", "stalled_vehicle"]
)
def test_whoever_stops_in_time_is_not_punished(event: str) -> None:
    env = cars(Driving(road="highway", events=True), code(event), episodes=4)
    obs = env.reset(0)
    slowest = obs[..., 0]
    for _ in range(100):
        near = (obs[..., 20] < 25.0) & (obs[..., 20] > 0.0) if event != "red_light" else obs[..., 18] > 0
        action = follow(obs)
        action[..., 1] = torch.where(near, -1.0, action[..., 1])
        step = env.step(action)
        obs = step.obs
        slowest = torch.minimum(slowest, obs[..., 0])
        assert not step.terminated.any()
    assert (slowest < 4.0).all()


@pytest.mark.parametrize("event", [name for name in EVENTS[1:] if name != "stalled_vehicle"])
def test_an_event_happens_so_many_metres_later(event: str) -> None:
    """To a car at the target speed. Who stalled does nothing, wherever he is."""
    driven = []
    for distance in (0.0, 24.0):
        env = cars(
            Driving(road="straight", events=True, start_speed=1.0), code(event) | {"event_distance": distance}
        )
        obs = env.reset(0)
        while env._active.scene.clock == 0.0:
            obs = env.step(follow(obs)).obs
        driven.append(obs[0, 0, 19].item())
    assert driven[1] - driven[0] == pytest.approx(24.0, rel=0.1)


@pytest.mark.parametrize("event", ["jaywalking_pedestrian", "red_light"])
def test_fog_hides_who_is_far_and_changes_nothing_else(event: str) -> None:
    family, far = Driving(road="straight", events=True, traffic=3), 15.0
    clear, foggy = (cars(family, code(event) | {"visibility": sight}) for sight in (200.0, far))
    obs, dim, hidden, shown = clear.reset(0), foggy.reset(0), [], []
    for _ in range(60):
        expected = obs.clone()
        light = obs[..., 17]
        expected[..., 17:19] = torch.where(light < far, obs[..., 17:19], torch.tensor([100.0, 0.0]))
        others = expected[..., 20:].unflatten(-1, (4, 5))
        others[others[..., :2].norm(dim=-1) >= far] = 0.0
        assert torch.equal(dim, expected)
        hidden.append(not torch.equal(dim, obs))
        shown.append(bool((others != 0.0).any() or (light < far).any()))
        action = follow(obs)
        obs, dim = clear.step(action).obs, foggy.step(action).obs
    assert any(hidden)
    assert any(shown)


def test_a_red_light_turns_green_again() -> None:
    kind, zero = np.array([float(EVENTS.index("red_light"))]), np.zeros(1)
    script = events.write(kind, zero, zero, np.full(1, 12.0))
    part, clock = Part(*(np.array([value]) for value in (50.0, 0.0, 0.0, 0.0))), np.zeros(1)
    route, red = read_route("straight", False), []
    for _ in range(200):
        part, clock = events.play(np, route, script, part, clock, np.full(1, 30.0))
        red.append(bool(events.is_red(script, clock)[0]))
    assert sum(red) * DT == pytest.approx(events.RED_TIME, abs=2 * DT)
    assert red[0]
    assert not red[-1]


def row(speed: list[float], gap: float) -> tuple[RoadUsers, traffic.Drivers]:
    """DrivingEnv one after the other on one lane, with the first in front."""
    zero = np.zeros((len(speed), 1))
    s = -gap * np.arange(len(speed), dtype=float)[:, None]
    cars = RoadUsers(s, zero, np.array(speed)[:, None], zero, zero + VEHICLE)
    return cars, traffic.Drivers(zero + 15.0, np.full(1, 1.5), np.full(1, 0.3))


def test_traffic_comes_to_the_idms_equilibrium_behind_a_slow_car() -> None:
    """Equation 12 of Treiber et al. 2000: s_e = (s0 + v T) / sqrt(1 - (v / v0)^4)."""
    cars_, drivers = row([8.0, 12.0], 40.0)
    drivers = drivers._replace(desired_speed=np.array([[8.0], [15.0]]))
    lane, route = np.zeros((2, 1)), read_route("straight", False)
    for turn in range(4000):
        cars_, lane = traffic.drive(np, route, drivers, cars_, lane, cars_, turn % 2)
    gap = (cars_.s[0] - cars_.s[1] - 2 * HALF_LENGTH).item()
    speed = cars_.speed[1].item()
    assert speed == pytest.approx(cars_.speed[0].item(), rel=1e-3)
    assert gap == pytest.approx((2.0 + speed * 1.5) / math.sqrt(1 - (speed / 15.0) ** 4), rel=0.01)


@pytest.mark.parametrize(("road", "overtakes"), [("highway", True), ("straight", False)])
def test_traffic_overtakes_where_there_is_a_lane_for_it(road: str, overtakes: bool) -> None:
    cars_, drivers = row([4.0, 12.0], 40.0)
    drivers = drivers._replace(desired_speed=np.array([[4.0], [15.0]]))
    lane, route = np.zeros((2, 1)), read_route(road, False)
    for turn in range(600):
        cars_, lane = traffic.drive(np, route, drivers, cars_, lane, cars_, turn % 2)
        touching = np.abs(cars_.lateral[0] - cars_.lateral[1]) < 2 * HALF_WIDTH
        assert not (touching & (np.abs(cars_.s[0] - cars_.s[1]) < 2 * HALF_LENGTH)).any()
    assert (cars_.s[1] > cars_.s[0]).item() is overtakes


def test_boxes_overlap_where_a_dense_grid_of_points_of_one_lies_in_the_other() -> None:
    draws = uniforms(("boxes",), 4, 2_000)
    x, y, yaw = 8.0 * draws[0] - 4.0, 8.0 * draws[1] - 4.0, 2 * math.pi * draws[2]
    one = Box(0.0, 0.0, np.cos(0.3), np.sin(0.3), HALF_LENGTH, HALF_WIDTH)
    other = Box(x, y, np.cos(yaw), np.sin(yaw), 0.2 + 2 * draws[3], 0.5)
    found = overlap(np, one, other)
    grid = np.stack(np.meshgrid(np.linspace(-1, 1, 61), np.linspace(-1, 1, 61)), -1).reshape(-1, 2)
    for k in range(len(x)):
        a, b = grid[:, 0] * other.half_length[k], grid[:, 1] * other.half_width
        px, py = x[k] + a * other.cos[k] - b * other.sin[k], y[k] + a * other.sin[k] + b * other.cos[k]
        ahead, left = px * one.cos + py * one.sin, py * one.cos - px * one.sin
        inside = ((np.abs(ahead) < HALF_LENGTH) & (np.abs(left) < HALF_WIDTH)).any()
        assert found[k] >= inside
        grown = (np.abs(ahead) < HALF_LENGTH + 0.15) & (np.abs(left) < HALF_WIDTH + 0.15)
        assert grown.any() >= found[k]


def test_the_driving_score_is_completion_times_penalties() -> None:
    # Of driving on, hitting a vehicle and a pedestrian, running a light, leaving the road, and arriving.
    verdict = Verdict(np.zeros(7), *np.eye(7, 5, -1, dtype=bool).T)
    verdict = verdict._replace(arrived=verdict.arrived | (np.arange(7) == 6))
    distance = np.array([99.0, 50.0, 50.0, 80.0, 100.0, 100.0, 60.0])
    score = driving_score(np, distance, np.full(7, 100.0), verdict)
    np.testing.assert_allclose(score.driving_score, [99.0, 30.0, 25.0, 56.0, 100.0, 100.0, 60.0])
    assert score.success.tolist() == [0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0]
    assert score.collisions.tolist() == [0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0]


def test_numpy_and_torch_simulate_alike() -> None:
    family = Driving(road="highway", traffic=4, events=True)
    changes = [code(event) | {"actuator_delay": float(k % 3)} for k, event in enumerate(EVENTS)]
    ours, theirs = cars(family, *changes, episodes=3), cars(family, *changes, episodes=3, use_torch=True)
    torch.testing.assert_close(ours.reset(4), theirs.reset(4), rtol=0, atol=1e-12)
    actions = torch.tensor(2.0 * uniforms(("alike",), 120, 7, 3, 2) - 1.0) * torch.tensor([0.1, 1.0])
    alive = torch.ones(7, 3, dtype=torch.bool)
    for action in actions:
        a, b = ours.step(action), theirs.step(action)
        for name, one, other in zip(Step._fields, a, b, strict=True):
            torch.testing.assert_close(
                one[alive].double(), other[alive].double(), rtol=0, atol=1e-6, msg=name
            )
        alive = alive & ~a.terminated
    for name, value in ours.metrics().items():
        torch.testing.assert_close(value, theirs.metrics()[name], rtol=0, atol=1e-4)
    assert alive.any()
    assert not alive.all()


def test_ended_instances_cost_no_simulation_and_change_no_number() -> None:
    """One instance alone, and among many that crash at once."""
    family, crash = Driving(), {"steering_offset": 0.2, "target_speed": 20.0}
    alone, among = cars(family, {}), cars(family, {}, *[crash] * 9)
    one, many = alone.reset(0), among.reset(0)
    for _ in range(100):
        action = follow(many)
        one, many = alone.step(action[:1]).obs, among.step(action).obs
        assert torch.equal(one[0], many[0])
    assert len(among._active.scene.start) < 5
    assert among.metrics()["distance"][0] == alone.metrics()["distance"][0]


def test_a_slot_that_divides_by_zero_fails_alone_and_among_others() -> None:
    weightless = {"mass": 0.0}  # beyond its bounds
    alone, among = cars(Driving(), weightless), cars(Driving(), weightless, *[{}] * 9)
    alone.reset(0)
    among.reset(0)
    one, many = alone.step(torch.zeros(1, 1, 2)), among.step(torch.zeros(10, 1, 2))
    assert one.failed.tolist() == [[True]]
    assert many.failed[:, 0].tolist() == [True] + [False] * 9


def test_options_that_make_no_sense_are_refused() -> None:
    with pytest.raises(UsageError, match="traffic must be from 0 to 6"):
        Driving(traffic=7)
    with pytest.raises(UsageError, match="start_speed"):
        Driving(start_speed=2.0)
    family = Driving(events=True)
    with pytest.raises(UsageError, match="event_kind must be one of"):
        family.make(tasks(family, {"event_kind": 2.5}), 1, CPU, DOUBLE)


def test_a_picture_shows_our_car_and_the_others() -> None:
    env = cars(Driving(road="highway", traffic=2, events=True), code("stalled_vehicle"), episodes=2)
    before = env.reset(0)
    image = env.render(0, 1, 320, 120)
    assert image.shape == (120, 320, 3)
    blue = (image.astype(int) - (0x2A, 0x6F, 0xC9)).__abs__().sum(-1) < 12
    car = 320 / 70.0 * np.array([2 * HALF_LENGTH, 2 * HALF_WIDTH])
    assert blue.sum() == pytest.approx(car.prod(), rel=0.2)
    assert torch.equal(env.step(follow(before)).obs, cars_step(env, before))


def cars_step(env: object, before: torch.Tensor) -> torch.Tensor:
    """The same step in an environment that took no picture."""
    other = cars(Driving(road="highway", traffic=2, events=True), code("stalled_vehicle"), episodes=2)
    other.reset(0)
    return other.step(follow(before)).obs

"""The CARLA backend compared with the embedded one, and its failures; one function a test, each in a new process."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from mrl_tasks.driving.carla import client as carla_world
from mrl_tasks.driving.carla.backend import connect
from mrl_tasks.driving.carla.server import Address
from mrl_tasks.driving.environment import DrivingEnv
from mrl_tasks.driving.family import EVENTS, Driving
from mrl_tasks.driving.vehicle import CarState

from mrl_bench.errors import MrlBenchError
from mrl_bench.scenario import find_scenario, load_scenario
from mrl_bench.types import TaskBatch

CPU = torch.device("cpu")
SEED = 11


def _tasks(family: Driving, *changes: Mapping[str, float]) -> TaskBatch:
    assert not {name for task in changes for name in task} - set(family.params)
    rows = [[task.get(name, param.default) for name, param in family.params.items()] for task in changes]
    return TaskBatch(tuple(family.params), np.array(rows, dtype=np.float64))


def follow(obs: torch.Tensor) -> torch.Tensor:
    """Steers to the route's point 10 m ahead (pure pursuit) and holds the target speed; it ignores other road users."""
    x, y = obs[..., 9], obs[..., 10]
    steer = torch.atan2(2 * 2.8 * y, x.square() + y.square()) / 0.6
    return torch.stack([steer, 0.3 * (obs[..., 6] - obs[..., 0])], -1).clamp(-1.0, 1.0)


def _car(env: Any) -> CarState:
    return env._among_all(env._all, env._active).scene.car  # type: ignore[no-any-return]


def _both(family: Driving, tasks: TaskBatch, late: bool = False) -> dict[str, Any]:
    """Plays the same actions on both backends, and says how far they part. `late`: CARLA gets them a step later."""
    here = family.make(tasks, 1, CPU, torch.float64)
    there = replace(family, backend="carla").make(tasks, 1, CPU, torch.float64)
    return _compare(here, there, family.horizon, late)


def _compare(here: Any, there: Any, horizon: int, late: bool = False) -> dict[str, Any]:
    obs = here.reset(SEED)
    first = (obs - there.reset(SEED)).abs().max().item()
    alive = torch.ones(obs.shape[:2], dtype=torch.bool)
    returns = torch.zeros(2, *obs.shape[:2], dtype=torch.float64)
    waiting = torch.zeros(*obs.shape[:2], 2, dtype=torch.float64)
    places, rewards, seen, ends = [0.0], [0.0], [0.0], []
    for t in range(horizon):
        action = follow(obs)
        steps = here.step(action), there.step(waiting if late else action)
        waiting = action
        cars = [_car(env) for env in (here, there)]
        apart = np.hypot(cars[0].x - cars[1].x, cars[0].y - cars[1].y).reshape(alive.shape)
        places.append(float(apart[alive.numpy()].max()))
        rewards.append((steps[0].reward - steps[1].reward).abs()[alive].max().item())
        seen.append((steps[0].obs - steps[1].obs).abs()[alive].max().item())
        returns += torch.stack([step.reward * alive for step in steps])
        ended = [(step.terminated & alive).nonzero().tolist() for step in steps]
        if ended[0] or ended[1]:
            ends.append([t, *ended])
        alive = alive & ~steps[0].terminated & ~steps[1].terminated
        obs = steps[0].obs
        if not alive.any():
            break
    scores = [
        {name: value.flatten().tolist() for name, value in env.metrics().items()} for env in (here, there)
    ]
    here.close()
    there.close()
    return {
        "first": first,  # observation; all of these are the largest differences
        "steps": t + 1,
        "place": max(places),
        "reward": max(rewards),
        "return": (returns[0] - returns[1]).abs().max().item(),
        "obs": max(seen),
        "ends": ends,
        "scores": scores,
    }


def parity(port: int, road: str, late: bool = False) -> dict[str, Any]:
    """200 steps without traffic: an ordinary car, and one that is laden, misaligned, late, in wind and uphill."""
    family = Driving(road=road, horizon=200, carla_port=port)
    odd = {
        "mass": 2600.0,
        "mass_offset": -0.3,
        "friction_rear": 0.8,
        "road_wetness": 0.2,
        "engine_gain": 1.4,
        "brake_gain": 0.7,
        "steering_ratio": 0.8,
        "steering_offset": 0.03,
        "actuator_delay": 2.0,
        "wind_speed": 12.0,
        "grade": 0.04,
    }
    return _both(family, _tasks(family, {}, odd), late)


def events(port: int) -> dict[str, Any]:
    """Each kind of event once, with traffic, with a driver who ignores other road users."""
    family = Driving(road="crossing", traffic=2, events=True, horizon=200, carla_port=port)
    changes = [{"event_kind": float(code), "mass_offset": 0.2} for code in range(len(EVENTS))]
    return _both(family, _tasks(family, *changes))


def town(port: int, name: str) -> dict[str, Any]:
    """Three cars in a town, each with an event; then a town that there is not, and more cars than there is room for."""
    family = Driving(road=name, keep_lane=True, events=True, horizon=100, backend="carla", carla_port=port)
    kinds = (EVENTS.index(kind) for kind in ("none", "jaywalking_pedestrian", "stalled_vehicle"))
    tasks = _tasks(family, *({"event_kind": float(kind)} for kind in kinds))
    there = family.make(tasks, 1, CPU, torch.float64)
    here = DrivingEnv(family, tasks, 1, CPU, torch.float64, route=there._host_route)
    found = _compare(here, there, family.horizon)
    full = family.make(_tasks(family, {}), 8, CPU)
    full.reset(SEED)
    first = _car(full)
    world = connect(Address("127.0.0.1", port))
    places = [world.motion(instance.car).transform for instance in full._in_world]
    refused = []
    for road, cars in (("Nowhere", 1), (name, 100)):
        try:
            replace(family, road=road).make(_tasks(family, {}), cars, CPU)
        except MrlBenchError as error:
            refused.append([type(error).__name__, str(error)])
    full.reset(SEED)  # what was refused has left nothing in the way
    full.close()
    heights = [place.z for place in places]
    return found | {
        "places": list(zip(first.x, first.y, strict=True)),
        "heights": heights,
        "refused": refused,
    }


def scenarios(port: int, names: list[str]) -> dict[str, Any]:
    """An episode of each scenario."""
    return {name: _scenario(name, port) for name in names}


def _scenario(name: str, port: int) -> dict[str, Any]:
    """On CARLA, as a suite asks for it."""
    found = load_scenario(find_scenario(name).path, {"backend": "carla", "carla_port": port})
    tasks = found.tasks("test")
    few = TaskBatch(tasks.names, tasks.values[:2])
    env = found.family.make(few, 1, CPU)
    obs = env.reset(SEED)
    steps = 0
    alive = torch.ones(obs.shape[:2], dtype=torch.bool)
    sound = bool(obs.isfinite().all())
    while alive.any() and steps < found.horizon:
        step = env.step(follow(obs))
        obs, steps = step.obs, steps + 1
        sound = sound and bool(step.obs.isfinite().all()) and not bool(step.failed.any())
        alive = alive & ~step.terminated
    score = env.metrics()["driving_score"]
    env.close()
    return {
        "simulator": found.family.simulator,
        "steps": steps,
        "sound": sound,
        "scores": score.flatten().tolist(),
    }


def taking_turns(port: int) -> dict[str, Any]:
    """Two environments in one process: one is reset while the other has its cars in the world."""
    family = Driving(road="straight", horizon=20, backend="carla", carla_port=port)
    one, other = (family.make(_tasks(family, {}), episodes, CPU) for episodes in (1, 2))
    first = _drive_a_little(one)
    second = _drive_a_little(other)
    try:
        one.step(torch.zeros(1, 1, 2))
        refused = ""
    except MrlBenchError as error:
        refused = str(error)
    again = _drive_a_little(one)
    one.close()
    other.close()
    apart = max(abs(a - b) for a, b in zip(first[0], second[0], strict=True))
    return {"refused": refused, "same": first == again, "apart": apart}


def _drive_a_little(env: Any) -> list[Any]:
    obs = env.reset(SEED)
    for _ in range(10):
        obs = env.step(follow(obs)).obs
    return obs[0].tolist()  # type: ignore[no-any-return]


def _seen_by(world: Any, cars: int) -> list[Any]:
    """The vehicles that another client sees: these are as many as expected, or what there is after a while."""
    for _ in range(50):
        found = list(world.get_actors().filter("vehicle.*"))
        if len(found) == cars:
            break
        time.sleep(0.1)
    return found


def leaves_nothing(port: int) -> dict[str, Any]:
    """What a client finds after an environment was closed, and the process's connection with it."""
    import carla

    family = Driving(road="straight", traffic=3, horizon=20, backend="carla", carla_port=port)
    env = family.make(_tasks(family, {}), 2, CPU)
    _drive_a_little(env)
    client = carla.Client("127.0.0.1", port, 1)
    client.set_timeout(10.0)
    world = client.get_world()
    env.step(torch.zeros(1, 2, 2))  # so that this client gets the snapshot too
    during = len(_seen_by(world, 8))
    env.close()
    connect(Address("127.0.0.1", port)).close()
    world.wait_for_tick(5.0)
    return {
        "during": during,
        "after": len(world.get_actors().filter("vehicle.*")),
        "sensors": len(world.get_actors().filter("sensor.*")),
        "asynchronous": not world.get_settings().synchronous_mode,
    }


def server_fails(port: int, server: int, number: int) -> dict[str, Any]:
    """The server gets a signal between two steps."""
    carla_world.TIMEOUT = 2.0
    family = Driving(road="straight", horizon=50, backend="carla", carla_port=port)
    env = family.make(_tasks(family, {}), 1, CPU)
    obs = env.reset(SEED)
    obs = env.step(follow(obs)).obs
    os.kill(server, number)
    began = time.monotonic()
    try:
        env.step(follow(obs))
        reason = ""
    except MrlBenchError as error:
        reason = str(error)
    env.close()
    return {"reason": reason, "seconds": time.monotonic() - began}


def kill_while_cars_drive(port: int, server: int) -> float:
    """Kills the server as soon as another client's cars drive in it; returns the speed of one of them [m/s]."""
    import carla

    client = carla.Client("127.0.0.1", port, 1)
    client.set_timeout(10.0)
    speed = 0.0
    while speed == 0.0:
        time.sleep(0.1)
        cars = client.get_world().get_actors().filter("vehicle.*")
        speed = max((car.get_velocity().length() for car in cars), default=0.0)
    os.kill(server, signal.SIGKILL)
    return speed


def occupied(port: int) -> dict[str, Any]:
    """Somebody else's car stands where ours is to start; and what is there after that was refused."""
    import carla

    family = Driving(road="straight", horizon=20, backend="carla", carla_port=port)
    env = family.make(_tasks(family, {}), 2, CPU)
    env.reset(SEED)
    client = carla.Client("127.0.0.1", port, 1)
    client.set_timeout(10.0)
    world = client.get_world()
    env.step(torch.zeros(1, 2, 2))
    cars = _seen_by(world, 2)
    kind = world.get_blueprint_library().find("vehicle.audi.tt")
    place = max((car.get_transform() for car in cars), key=lambda place: place.location.y)
    env.close()
    other = world.spawn_actor(kind, place)
    try:
        env.reset(SEED)
        reason = ""
    except MrlBenchError as error:
        reason = str(error)
    other.destroy()
    env.reset(SEED)
    env.step(torch.zeros(1, 2, 2))
    left = len(_seen_by(world, 2))
    env.close()
    return {"reason": reason, "left": left}


def ended_cars_stand(port: int) -> float:
    """How far a car goes after its episode has ended, at full throttle, while another drives on [m]."""
    family = Driving(road="straight", horizon=100, backend="carla", carla_port=port)
    env = family.make(_tasks(family, {}, {"steering_offset": 0.2}, {"steering_offset": 0.2}), 1, CPU)
    obs = env.reset(SEED)
    ended, places = torch.zeros(3, 1, dtype=torch.bool), []
    for _ in range(100):
        action = follow(obs)
        action[1:] = torch.tensor([0.0, 1.0])
        step = env.step(action)
        obs, ended = step.obs, ended | step.terminated
        if ended[1:].all():
            places.append(env._world.motion(env._in_world[2].car).transform.x)
    assert not ended[0], "the other did not drive on"
    assert len(places) > 20, "the cars left the road too late"
    env.close()
    return abs(places[-1] - places[0])

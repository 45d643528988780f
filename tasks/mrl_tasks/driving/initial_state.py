"""Hidden parameters of each environment instance, and the scenes that episodes start with. In numpy, in float64.

N = B x E environment instances, task by task. Episodes of every backend start with these scenes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mrl_bench.keyed_random import uniforms
from mrl_bench.types import TaskBatch
from mrl_tasks.driving import events
from mrl_tasks.driving.actuation import Actuation
from mrl_tasks.driving.family import END_MARGIN, Driving
from mrl_tasks.driving.geometry import Route, point, project
from mrl_tasks.driving.road_users import VEHICLE, RoadUsers, bodies
from mrl_tasks.driving.roads import SPACING
from mrl_tasks.driving.scene import Scene, Task
from mrl_tasks.driving.traffic import Drivers
from mrl_tasks.driving.vehicle import DT, GRAVITY, STANDARD, Car, CarState, cos_sin

Column = NDArray[np.float64]

# Share of the friction that is left on wet asphalt. The table is ours: in CARLA, weather changes only the rendering.
WETNESS, GRIP_LEFT = (0.0, 0.1, 0.3, 0.6, 1.0), (1.0, 0.85, 0.7, 0.6, 0.45)
WIND_LOAD = 6.0  # [kg/m] half of air density times area times coefficient of the car's side
LATERAL, HEADING = 0.8, 0.05  # [m], [rad] largest initial errors from the lane's centre
TRAFFIC_GAP = 14.0  # [m] least distance from our car to the first car of the traffic


def hidden(family: Driving, route: Route, tasks: TaskBatch, episodes: int) -> Task:
    """The hidden parameters and the target speed of each instance."""

    def column(name: str) -> Column:
        return tasks.column(name).repeat(episodes)

    grip = column("road_friction") * np.interp(column("road_wetness"), WETNESS, GRIP_LEFT)
    mass, target, wind = column("mass"), column("target_speed"), column("wind_speed")
    car = Car(
        mass=mass,
        mass_offset=column("mass_offset"),
        friction_front=grip * column("friction_front"),
        friction_rear=grip * column("friction_rear"),
        drag=np.full_like(mass, STANDARD.drag),
        max_steer=np.full_like(mass, STANDARD.max_steer),
        drive_force=STANDARD.drive_force * column("engine_gain"),
        brake_force=STANDARD.brake_force * column("brake_gain"),
    )
    actuation = Actuation(
        gain=column("steering_sign") * column("steering_ratio"),
        offset=column("steering_offset") / STANDARD.max_steer,
    )
    drivers = script = None
    if family.traffic:
        zeal = column("aggressiveness")
        share = 0.5 + 0.25 * zeal + 0.2 * spread(family.traffic)[:, None]
        drivers = Drivers(desired_speed=share * target, headway=1.8 - 1.2 * zeal, patience=0.6 - 0.5 * zeal)
    if family.events:
        script = events.write(
            column("event_kind"), column("event_severity"), column("event_distance"), target
        )
    return Task(
        car=car,
        actuation=actuation,
        wind_force=WIND_LOAD * wind * np.abs(wind),
        slope_force=mass * GRAVITY * np.sin(np.arctan(column("grade"))),
        target_speed=target,
        target_lateral=column("target_lateral"),
        lateral_cost=np.full_like(target, family.lateral_cost),
        begin=SPACING * (len(route.x) // route.stretches) * (np.arange(len(target)) % route.stretches),
        shown_speed=target * family.show_target,
        turning_shown=np.full_like(mass, family.show_turning),
        visibility=column("visibility") if family.actors else np.zeros_like(mass),
        drivers=drivers,
        script=script,
    )


def spread(count: int) -> Column:
    """Points in [0, 1) that are far from each other whatever their number, (count,): the golden ratio's multiples."""
    return np.arange(count, dtype=np.float64) * 0.6180339887498949 % 1.0


def first_scene(
    family: Driving, route: Route, task: Task, tasks: TaskBatch, episodes: int, seed: int
) -> Scene:
    """The scene that an episode starts with: a function of the seed, the instance (b, e) and its task alone."""
    draw = uniforms(("reset", seed), len(tasks), episodes, 4).reshape(-1, 4).T  # (4, N)
    target = task.target_speed
    room = route.length
    if not route.closed:
        room = np.maximum(route.length - target * family.horizon * DT - END_MARGIN, 0.0)
    s = task.begin + draw[0] * room
    lateral, turned = LATERAL * (2.0 * draw[1] - 1.0), HEADING * (2.0 * draw[2] - 1.0)
    at, zero = point(np, route, s), np.zeros_like(s)
    car = CarState(
        x=at.x - lateral * at.sin,
        y=at.y + lateral * at.cos,
        yaw=at.heading + turned,
        vx=family.start_speed * target,
        vy=zero,
        yaw_rate=zero,
        steer=zero,
        pedal=zero,
    )
    cos, sin = cos_sin(np, car.yaw)
    road_users, lane = _first_road_users(family, route, task, tasks, episodes, s, draw[3])
    place = project(np, route, car.x, car.y, car.yaw, s)
    return Scene(
        car=car,
        cos=cos,
        sin=sin,
        place=place,
        start=place.s,
        road_users=road_users,
        bodies=bodies(np, route, road_users),
        lane=lane,
        clock=zero,
    )


def _first_road_users(
    family: Driving, route: Route, task: Task, tasks: TaskBatch, episodes: int, s: Column, jitter: Column
) -> tuple[RoadUsers, Column]:
    """Traffic starts ahead of our car, lane by lane; with an event, behind it, so that it does not block the event.

    Round a closed road it starts closer together where a lap, or the half of it behind our car, is too short for it.
    """
    rows: list[tuple[Column, ...]] = []
    lane = np.zeros((0, len(s)))
    if task.drivers is not None:
        distance = 1e3 / tasks.column("traffic_density").repeat(episodes)  # (N,)
        if route.closed:
            room = route.length / 2 if family.events else route.length - TRAFFIC_GAP
            distance = np.minimum(distance, (room - TRAFFIC_GAP) / family.traffic)
        number = np.arange(family.traffic)[:, None]
        offset = TRAFFIC_GAP + (number + jitter) * distance  # (K, N)
        lane = np.zeros_like(offset) + route.lane_width * (number % (1 + route.left_lanes))
        at = s - offset if family.events else s + offset
        speed = np.minimum(task.drivers.desired_speed, family.start_speed * task.target_speed)
        rows.append((at, lane, speed, np.zeros_like(at), np.full_like(at, VEHICLE)))
    if task.script is not None:
        script = task.script
        rows.append(
            tuple(
                value[None] for value in (s + script.gap, script.lateral, script.speed, 0.0 * s, script.kind)
            )
        )
    if not rows:
        return RoadUsers(*(np.zeros((0, len(s))) for _ in range(5))), lane
    return RoadUsers(*(np.concatenate(columns) for columns in zip(*rows, strict=True))), lane

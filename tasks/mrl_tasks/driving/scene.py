"""A scene on the road, and its observation, reward and termination.

The embedded simulator or a CARLA server moves our car and fills a `Scene`; the rest is computed here for both.
Functions are generic over numpy and torch (see `vehicle.py`): N environment instances, K other road users in each.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from mrl_tasks.driving import events, traffic
from mrl_tasks.driving.actuation import Actuation
from mrl_tasks.driving.events import Part, Script
from mrl_tasks.driving.family import PREVIEW
from mrl_tasks.driving.geometry import Box, Place, Route, gap, overlap, point, project
from mrl_tasks.driving.road_users import ABSENT, PEDESTRIAN, VEHICLE, Bodies, RoadUsers, bodies, boxes
from mrl_tasks.driving.traffic import Drivers
from mrl_tasks.driving.vehicle import DT, HALF_LENGTH, HALF_WIDTH, Array, Car, CarState, Namespace, cos_sin

NO_LIGHT = 100.0  # [m] observed distance where there is no light ahead
NEAR = 2 * HALF_LENGTH + 2 * HALF_WIDTH  # [m] boxes whose middles are farther apart do not touch
CRASH_COST = 10.0  # of a collision, a red light that is run, and leaving the road


class Task(NamedTuple):
    """What is hidden from the agent, or asked of it; each (N,), drivers (K, N)."""

    car: Car
    actuation: Actuation
    wind_force: Array  # [N] towards +y of the map
    slope_force: Array  # [N] against the direction of the route
    target_speed: Array  # [m/s]
    target_lateral: Array  # [m] to the left of the lane's centre
    lateral_cost: Array  # [1/m] weight of the distance from it
    begin: Array  # [m] where on the route its stretch begins
    shown_speed: Array  # [m/s] what is observed of it: 0 where it is hidden
    turning_shown: Array  # factor of what is observed of the car's turning: 1, or 0 where it is hidden
    visibility: Array  # [m] distance within which road users and lights are observed
    drivers: Drivers | None  # of the traffic, if there is any
    script: Script | None  # of the event, if there may be one


class Scene(NamedTuple):
    car: CarState
    cos: Array  # (N,) of our car's yaw
    sin: Array
    place: Place
    start: Array  # (N,) [m] where on the route the episode started
    road_users: RoadUsers
    bodies: Bodies
    lane: Array  # (K, N) [m] lateral position that each of the traffic goes to
    clock: Array  # (N,) [s] since the event was triggered, 0 before


class Verdict(NamedTuple):
    """Of one control step, (N,); all but the reward are bools, and each ends the episode.

    Whoever arrives has driven the whole route, which is no fault and costs nothing.
    """

    reward: Array
    hit_vehicle: Array
    hit_pedestrian: Array
    ran_red_light: Array
    left_road: Array
    arrived: Array

    @property
    def at_fault(self) -> Array:
        return self.hit_vehicle | self.hit_pedestrian | self.ran_red_light | self.left_road

    @property
    def over(self) -> Array:
        return self.at_fault | self.arrived


def push(task: Task, place: Place) -> tuple[Array, Array]:
    """External force on our car in the frame of the map [N]: wind and slope, (N,) each."""
    return -task.slope_force * place.along, task.wind_force - task.slope_force * place.across


def step_road_users(
    xp: Namespace, route: Route, task: Task, scene: Scene, turn: int
) -> tuple[RoadUsers, Array, Array]:
    """Moves the other road users by a control step. They do not know yet where our car will go.

    Args:
        turn: the control step, from 0; drivers may change lanes by turns.

    Returns:
        The road users, `lane` and `clock` of the next scene.
    """
    road_users, place = scene.road_users, scene.place
    rows, lane, clock = [], scene.lane, scene.clock
    if task.drivers is not None:
        count = len(lane)
        everyone = traffic.everyone(xp, road_users, place.s, place.lateral, scene.car.vx)
        cars = RoadUsers(*(column[:count] for column in road_users))
        cars, lane = traffic.drive(xp, route, task.drivers, cars, lane, everyone, turn % count)
        rows.append(cars[:4])
    if task.script is not None:
        part = Part(*(column[-1] for column in road_users[:4]))
        part, clock = events.play(xp, route, task.script, part, clock, place.s)
        rows.append(tuple(column[None] for column in part))
    if rows:
        s, lateral, speed, drift = (
            xp.concat(columns) if len(columns) > 1 else columns[0] for columns in zip(*rows, strict=True)
        )
        road_users = RoadUsers(s, lateral, speed, drift, road_users.kind)
    return road_users, lane, clock


def arrange(
    xp: Namespace,
    route: Route,
    before: Scene,
    car: CarState,
    road_users: RoadUsers,
    lane: Array,
    clock: Array,
) -> Scene:
    """The scene after a control step that moved our car and the road users to these states."""
    guess = before.place.s + DT * car.vx
    place = project(xp, route, car.x, car.y, car.yaw, guess)
    return Scene(
        car,
        *cos_sin(xp, car.yaw),
        place,
        before.start,
        road_users,
        bodies(xp, route, road_users),
        lane,
        clock,
    )


def judge(
    xp: Namespace,
    route: Route,
    task: Task,
    before: Scene,
    after: Scene,
    steer: Array,
    contacts: Array | None = None,
) -> Verdict:
    """The reward of a control step, and whether it ended the episode.

    The reward is progress at the target speed, 1 at most, less for distance from the target position [m], speed above
    the target and steering; and `CRASH_COST` less for a fault, which ends the episode:

        min(v_along / v_target, 1) - lateral_cost |lateral - target_lateral|
        - 0.5 max(v / v_target - 1, 0) - 0.02 steer^2

    v_along is the velocity's part in the direction of the route. A difference of positions would be less
    accurate: CARLA reports positions in float32, so a step of 0.6 m would be known to 1e-4 only.

    Args:
        steer: entry of the action, in [-1, 1].
        contacts: contacts that a sensor reported, (K, N) bool; boxes that overlap touch in any case.
    """
    place, car = after.place, after.car
    cos, sin = cos_sin(xp, place.heading_error)
    along = car.vx * cos - car.vy * sin
    progress = xp.minimum(along / task.target_speed, 1.0)
    haste = xp.maximum(car.vx / task.target_speed - 1.0, 0.0)
    aside = xp.abs(place.lateral - task.target_lateral)
    earned = progress - task.lateral_cost * aside - 0.5 * haste - 0.02 * steer * steer
    off = (place.lateral > route.left_edge) | (place.lateral < -route.right_edge)
    left_road = off | (xp.abs(place.heading_error) > 1.6)  # a car that has turned round has left it too
    arrived = place.s > task.begin + (math.inf if route.closed else route.length)
    hit_vehicle = hit_pedestrian = ran = xp.zeros_like(off)
    if len(after.road_users.kind):
        hit = _hit(xp, task, after)
        hit = hit if contacts is None else hit | contacts
        hit_vehicle = xp.any(hit & (after.road_users.kind == VEHICLE), axis=0)
        hit_pedestrian = xp.any(hit & (after.road_users.kind == PEDESTRIAN), axis=0)
    if task.script is not None:
        line = after.road_users.s[-1] - HALF_LENGTH
        crossed = (gap(xp, route, before.place.s, line) > 0.0) & (gap(xp, route, place.s, line) <= 0.0)
        ran = crossed & events.is_red(task.script, after.clock)
    verdict = Verdict(earned, hit_vehicle, hit_pedestrian, ran, left_road, arrived)
    return verdict._replace(reward=earned - xp.where(verdict.at_fault, CRASH_COST, 0.0))


def _hit(xp: Namespace, task: Task, scene: Scene) -> Array:
    """Which road users our car touches, (K, N) bool."""
    offset = task.car.mass_offset  # the body's middle is behind the centre of mass by it
    x, y = scene.car.x - offset * scene.cos, scene.car.y - offset * scene.sin
    dx, dy = scene.bodies.x - x, scene.bodies.y - y
    hit = (dx * dx + dy * dy < NEAR * NEAR) & (scene.road_users.kind > ABSENT)
    own = Box(x, y, scene.cos, scene.sin, HALF_LENGTH, HALF_WIDTH)
    if xp is not np:  # to ask which are near would wait for the device
        return hit & overlap(xp, own, boxes(xp, scene.bodies, scene.road_users.kind))
    near = _, instances = np.nonzero(hit)  # only a few
    if len(instances):
        theirs = Bodies(*(column[near] for column in scene.bodies))
        own = Box(
            x[instances], y[instances], scene.cos[instances], scene.sin[instances], HALF_LENGTH, HALF_WIDTH
        )
        hit[near] = overlap(xp, own, boxes(xp, theirs, scene.road_users.kind[near]))
    return hit


def observe(xp: Namespace, route: Route, task: Task, scene: Scene, dtype: Any) -> Array:
    """See `Driving`; (O, N), of that dtype."""
    car, cos, sin, place, start, road_users, where = scene[:7]
    turning = (task.turning_shown * entry for entry in (car.vy, car.yaw_rate, car.steer))
    own = (car.vx, *turning, place.lateral, place.heading_error, task.shown_speed)
    lights = len(own) + 2 * len(PREVIEW)  # the row of the first entry of that kind
    actors = lights + (3 if task.script is not None else 0)
    # Filled in place: to stack parts would copy them twice.
    obs = xp.empty((actors + 5 * len(road_users.kind), len(car.x)), dtype=dtype, device=car.x.device)
    for row, entry in enumerate(own):
        obs[row] = entry
    distance = xp.asarray(PREVIEW, dtype=car.x.dtype, device=car.x.device)[:, None]
    ahead = point(xp, route, place.s + distance)
    dx, dy = ahead.x - car.x, ahead.y - car.y  # (P, N)
    obs[len(own) : lights : 2] = dx * cos + dy * sin
    obs[len(own) + 1 : lights : 2] = dy * cos - dx * sin
    dx, dy = where.x - car.x, where.y - car.y  # (K, N)
    # Velocity on the map, less that of the car, in the frame of the car.
    vx = road_users.speed * where.cos - road_users.drift * where.sin
    vy = road_users.speed * where.sin + road_users.drift * where.cos
    obs[actors::5] = dx * cos + dy * sin
    obs[actors + 1 :: 5] = dy * cos - dx * sin
    obs[actors + 2 :: 5] = vx * cos + vy * sin - car.vx
    obs[actors + 3 :: 5] = vy * cos - vx * sin - car.vy
    obs[actors + 4 :: 5] = road_users.kind
    beyond = dx * dx + dy * dy - task.visibility * task.visibility
    there = (road_users.kind > ABSENT) & (beyond < 0.0)
    nothing = 0.0 * beyond  # not `zeros_like`: a NaN position must reach the observation, where it is flagged
    seen = xp.reshape(obs[actors:], (len(road_users.kind), 5, len(car.x)))
    seen[...] = xp.where(there[:, None], seen, nothing[:, None])
    if task.script is not None:
        ahead = gap(xp, route, place.s, road_users.s[-1] - HALF_LENGTH)
        shown = task.script.light & (ahead > 0.0) & (ahead < task.visibility)
        obs[lights] = xp.where(shown, ahead, NO_LIGHT)
        obs[lights + 1] = shown & events.is_red(task.script, scene.clock)
        obs[lights + 2] = place.s - start
    return obs

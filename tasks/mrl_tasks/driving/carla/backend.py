"""Driving on a CARLA server: the embedded simulator's cars, but CARLA moves them.

Initial states, actuation, road users, observation, reward and metrics are those of `DrivingEnv`. Other road users are
simulated here and placed in CARLA in each tick. All B x E environment instances drive in one world, each on a separate
copy of the map or stretch of lane, so that a control step is one tick.
"""

from __future__ import annotations

import atexit
from collections.abc import Callable
from contextlib import suppress
from functools import cache, partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from mrl_bench.errors import MrlBenchError, UsageError
from mrl_bench.types import Step, TaskBatch
from mrl_tasks.driving.carla.axes import from_carla
from mrl_tasks.driving.carla.client import CarlaWorld, drivable_lanes
from mrl_tasks.driving.carla.instance import BLUEPRINTS, CAR, Instance
from mrl_tasks.driving.carla.map_tiling import Area, offsets, side_by_side
from mrl_tasks.driving.carla.server import Address
from mrl_tasks.driving.carla.town import length_for, one_behind_the_other, stretches
from mrl_tasks.driving.environment import DrivingEnv, Instances
from mrl_tasks.driving.family import Driving
from mrl_tasks.driving.geometry import Route, read_route
from mrl_tasks.driving.road_users import RoadUsers, bodies
from mrl_tasks.driving.roads import ROADS, xodr_path
from mrl_tasks.driving.scene import Scene
from mrl_tasks.driving.trees import one
from mrl_tasks.driving.vehicle import DT, Array, CarState, Command


@cache
def connect(server: Address) -> CarlaWorld:
    """The connection of this process to a server. When the process ends, the server's settings are restored.

    Raises:
        MissingPart: the server does not answer.
    """
    world = CarlaWorld(server, DT)
    atexit.register(world.close)
    return world


class Ground(NamedTuple):
    """The roads of all environment instances."""

    load: Callable[[], None]  # makes it the server's world; quick if it is already
    moves: list[tuple[float, float, float]]  # offset (x, y, z) [m] from the route to each instance's road
    route: Route


def _copies(world: CarlaWorld, family: Driving, instances: int) -> Ground:
    """One of our roads, copied for each instance."""
    xodr = xodr_path(family.road).read_text()
    moves = offsets(_area(xodr), instances)
    load = partial(world.load, side_by_side(xodr, moves))
    return Ground(load, [(x, y, 0.0) for x, y in moves], read_route(family.road, family.keep_lane))


def _town(world: CarlaWorld, family: Driving, instances: int) -> Ground:
    """A town of the server; loads it. Raises: UsageError: it has fewer stretches than there are instances."""
    load = partial(world.load_town, family.road)
    load()
    CarlaDrivingEnv._present = None  # loading has removed all cars
    length = length_for(family.horizon)
    found = stretches(world.road_network(), length)
    if instances > len(found):
        raise UsageError(
            f"{family.road} has {len(found)} stretches of lane of {length} m, and {instances} cars need one each: "
            "fewer tasks or episodes at a time"
        )
    moves = [(0.0, 0.0, float(stretch[3].mean())) for stretch in found[:instances]]
    return Ground(load, moves, one_behind_the_other(found))


class CarlaDrivingEnv(DrivingEnv):
    """A `BatchEnv` on the CARLA server that the family's options name. Computes on the host, whatever the device."""

    _present: CarlaDrivingEnv | None = None  # the environment whose actors are in the world

    def __init__(
        self,
        family: Driving,
        tasks: TaskBatch,
        episodes: int,
        device: torch.device,
        dtype: torch.dtype | None = None,
    ) -> None:
        """Raises: MissingPart: the server does not answer; UsageError: a town is too small."""
        self._where = device
        self._world = connect(Address(family.carla_host, family.carla_port))
        ground = _copies if family.road in ROADS else _town
        self._load, self._moves, route = ground(self._world, family, len(tasks) * episodes)
        super().__init__(family, tasks, episodes, torch.device("cpu"), dtype, route=route)

    def reset(self, seed: int) -> Tensor:
        obs = super().reset(seed)
        self._load()
        self._spawn(self._all.scene)
        CarlaDrivingEnv._present = self
        return obs.to(self._where)

    def step(self, action: Tensor) -> Step:
        if CarlaDrivingEnv._present is not self:
            raise MrlBenchError("another environment has put its cars into CARLA's world: reset this one")
        return Step(*(tensor.to(self._where) for tensor in super().step(action.cpu())))

    def metrics(self) -> dict[str, Tensor]:
        return {name: value.to(self._where) for name, value in super().metrics().items()}

    def close(self) -> None:
        if CarlaDrivingEnv._present is self:
            CarlaDrivingEnv._present = None
            with suppress(MrlBenchError):  # a server that died needs no cleaning up
                self._world.clear()

    def _spawn(self, scene: Scene) -> None:
        """Spawns a scene's actors, which stand still until the first step."""
        instances = [
            Instance(self._world, move, one(self._task.car, i)) for i, move in enumerate(self._moves)
        ]
        cars = self._world.spawn(
            CAR, [instance.place(one(scene.car, i)) for i, instance in enumerate(instances)]
        )
        stock = self._world.physics(cars[0])
        for instance, car in zip(instances, cars, strict=True):
            instance.car = car
            instance.dress(stock)
        # Actor -> its index among the road users, and its instance.
        self._owners: dict[int, tuple[int, int]] = {}
        for kind, blueprint in BLUEPRINTS.items():
            found = [(int(k), int(i)) for k, i in np.argwhere(scene.road_users.kind == kind)]
            places = [
                instances[i].place_of_road_user(k, one(scene.road_users, i), one(scene.bodies, i))
                for k, i in found
            ]
            for (k, i), actor in zip(found, self._world.spawn(blueprint, places), strict=True):
                instances[i].road_users[k] = actor
                self._owners[actor] = k, i
        self._world.tick()
        self._in_world = instances

    def _drive(
        self, instances: Instances, command: Command, road_users: RoadUsers, push_x: Array, push_y: Array
    ) -> tuple[CarState, Array]:
        """Ticks the world; returns our cars' states after it, and the contacts that their sensors report."""
        active = list(range(len(self._moves))) if self._which is None else self._which.tolist()
        there = bodies(np, self._route, road_users)
        living = {number: i for i, number in enumerate(active) if not instances.outcome.ended[i]}
        for number, instance in enumerate(self._in_world):
            if number in living:
                i = living[number]
                instance.drive(
                    one(instances.scene.car, i), one(command, i), (float(push_x[i]), float(push_y[i]))
                )
                instance.move_road_users(one(road_users, i), one(there, i))
            else:
                instance.stop()
        self._world.tick()
        states = [
            self._in_world[number].state(one(instances.scene.car, i), one(command, i))
            for i, number in enumerate(active)
        ]
        contacts = np.zeros(road_users.kind.shape, dtype=bool)
        for contact in self._world.contacts():
            k, number = self._owners.get(contact.other, (0, -1))
            if number in living:
                contacts[k, living[number]] = True
        return CarState(*np.reshape(states, (-1, len(CarState._fields))).T), contacts


def _area(xodr: str) -> Area:
    lanes = [from_carla(lane) for lane in drivable_lanes(xodr, spacing=5.0)]
    x, y = [lane.x for lane in lanes], [lane.y for lane in lanes]
    return Area(min(x), min(y), max(x), max(y))

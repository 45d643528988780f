"""One environment instance in CARLA's world: our car and its road users, on a separate piece of road."""

from __future__ import annotations

import math

from mrl_tasks.driving.carla.axes import Pose, Transform, from_carla, mirrored, to_carla
from mrl_tasks.driving.carla.client import CarlaWorld
from mrl_tasks.driving.carla.physics import Physics, physics_of
from mrl_tasks.driving.road_users import PEDESTRIAN, VEHICLE, Bodies, RoadUsers
from mrl_tasks.driving.vehicle import Car, CarState, Command

CAR, WALKER = "vehicle.tesla.model3", "walker.pedestrian.0001"
BLUEPRINTS = {VEHICLE: CAR, PEDESTRIAN: WALKER}
_HEIGHT = 0.3  # [m] above the road at which actors are put there


class Instance:
    """Converts between the embedded simulator's states, as numbers, and CARLA's actors."""

    car: int  # ids of CARLA's actors
    road_users: dict[int, int]  # actor by index in `RoadUsers`, without absent ones

    def __init__(self, world: CarlaWorld, move: tuple[float, float, float], car: Car) -> None:
        """Args: move: offset (x, y, z) [m] from the map's road to this instance's; car: its physics."""
        self._world, self._move, self._physics = world, move, car
        self.road_users = {}
        self._driving = False

    def place(self, state: CarState) -> Transform:
        """Of our car. Its origin in CARLA is the middle of the body; ours is the centre of mass."""
        cos, sin, ahead = math.cos(state.yaw), math.sin(state.yaw), self._physics.mass_offset
        return self._transform(Pose(state.x - ahead * cos, state.y - ahead * sin, state.yaw))

    def place_of_road_user(self, k: int, road_users: RoadUsers, bodies: Bodies) -> Transform:
        """Of the k-th road user; arrays are (K,). Oncoming ones face our car."""
        turned = math.pi if road_users.speed[k] < 0.0 else 0.0
        yaw = math.atan2(bodies.sin[k], bodies.cos[k]) + turned
        return self._transform(Pose(float(bodies.x[k]), float(bodies.y[k]), yaw))

    def dress(self, stock: Physics) -> None:
        """Gives our car its physics, and a collision sensor. Args: stock: physics of CARLA's car."""
        self._world.set_physics(self.car, physics_of(self._physics, stock))
        self._world.watch(self.car)

    def drive(self, state: CarState, command: Command, push: tuple[float, float]) -> None:
        """Commands our car for the next tick. Args: state: before it; push: external force [N] on the map."""
        if not self._driving:
            cos, sin = math.cos(state.yaw), math.sin(state.yaw)
            velocity = mirrored(state.vx * cos - state.vy * sin, state.vx * sin + state.vy * cos)
            self._world.release(self.car)
            self._world.place(self.car, self.place(state), velocity)
            self._driving = True
        self._world.control(
            self.car,
            throttle=max(command.pedal, 0.0),
            steer=mirrored(0.0, command.steer)[1],
            brake=max(-command.pedal, 0.0),
        )
        if any(push):
            self._world.push(self.car, mirrored(*push))

    def move_road_users(self, road_users: RoadUsers, bodies: Bodies) -> None:
        """Places the road users where they are after the next tick; arrays are (K,)."""
        for k, actor in self.road_users.items():
            cos, sin, speed, drift = bodies.cos[k], bodies.sin[k], road_users.speed[k], road_users.drift[k]
            velocity = mirrored(float(speed * cos - drift * sin), float(speed * sin + drift * cos))
            self._world.place(actor, self.place_of_road_user(k, road_users, bodies), velocity)

    def stop(self) -> None:
        """The episode is over: our car stays where it is."""
        if self._driving:
            self._world.release(self.car, on=False)
            self._driving = False

    def state(self, before: CarState, command: Command) -> CarState:
        """Of our car after a tick. CARLA does not report the pedals, so they are taken from the command."""
        transform, velocity, yaw_rate = self._world.motion(self.car)
        at = from_carla(transform)
        cos, sin, ahead = math.cos(at.yaw), math.sin(at.yaw), self._physics.mass_offset
        vx, vy = mirrored(*velocity)
        return CarState(
            x=at.x - self._move[0] + ahead * cos,
            y=at.y - self._move[1] + ahead * sin,
            yaw=before.yaw + math.remainder(at.yaw - before.yaw, 2.0 * math.pi),
            vx=vx * cos + vy * sin,
            vy=vy * cos - vx * sin,
            yaw_rate=-math.radians(yaw_rate),
            steer=-math.radians(self._world.wheel_angle(self.car)),
            pedal=command.pedal,
        )

    def _transform(self, pose: Pose) -> Transform:
        moved = Pose(pose.x + self._move[0], pose.y + self._move[1], pose.yaw)
        return to_carla(moved, self._move[2] + _HEIGHT)

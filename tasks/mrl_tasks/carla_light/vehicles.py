"""Vehicles of the light server, driven by the embedded simulator's physics."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from mrl_tasks.carla_light import protocol
from mrl_tasks.carla_light.actors import GREEN, Actor, TrafficLight, Triple
from mrl_tasks.carla_light.blueprints import NOMINAL_FRICTION
from mrl_tasks.carla_light.errors import Refused
from mrl_tasks.driving.carla.axes import Pose, Transform, from_carla, mirrored, to_carla
from mrl_tasks.driving.carla.physics import Physics, car_of
from mrl_tasks.driving.vehicle import STANDARD, Car, CarState, Command, step

_SPEED_LIMIT = 50.0  # [km/h] everywhere

# Fields of a `VehiclePhysicsControl`, and of its wheels.
_TORQUE_CURVE, _MASS, _DRAG, _CENTRE_OF_MASS, _STEERING_CURVE, _WHEELS, _FIELDS = 0, 11, 12, 13, 14, 15, 17
_FRICTION, _MAX_STEER, _BRAKE_TORQUE = 0, 2, 4


def _wheel(steers: bool) -> list[Any]:
    """Friction, damping, steering [deg], radius [cm], brake and handbrake torque [N m], stiffnesses, position."""
    angle, handbrake = (math.degrees(STANDARD.max_steer), 0.0) if steers else (0.0, 3000.0)
    return [NOMINAL_FRICTION, 0.25, angle, 35.0, 1500.0, handbrake, 3.0, 20.0, 3000.0, [0.0, 0.0, 0.0]]


# The car that stands for `STANDARD`. Entries that are not in `Physics` are stored and returned, without effect.
_STOCK: list[Any] = [
    [[0.0, 400.0], [6000.0, 400.0]],  # torque [N m] by revolutions a minute
    *[6000.0, 1.0, 0.15, 2.0, 0.35, True, 0.5, 10.0, 4.0, [[1.0, 0.5, 0.65]]],  # engine, clutch and gears
    *[STANDARD.mass, 0.3, [0.0, 0.0, -0.3]],
    [[0.0, 1.0], [200.0, 1.0]],  # share of the steering by km/h
    [_wheel(True), _wheel(True), _wheel(False), _wheel(False)],
    False,
]


def _read(control: list[Any]) -> Physics:
    """Raises: Refused: it does not describe a car with four wheels and some friction."""
    if len(control) != _FIELDS or len(control[_WHEELS]) != 4 or not control[_TORQUE_CURVE]:
        raise Refused("apply_physics_control: a vehicle here has four wheels and a torque curve")
    wheels = control[_WHEELS]
    physics = Physics(
        mass=control[_MASS],
        mass_x=control[_CENTRE_OF_MASS][0],
        friction_front=(wheels[0][_FRICTION] + wheels[1][_FRICTION]) / 2.0,
        friction_rear=(wheels[2][_FRICTION] + wheels[3][_FRICTION]) / 2.0,
        drag=control[_DRAG],
        max_steer=wheels[0][_MAX_STEER],
        torque=max(torque for _, torque in control[_TORQUE_CURVE]),
        brake_torque=sum(wheel[_BRAKE_TORQUE] for wheel in wheels) / 4.0,
    )
    if not (physics.mass > 0.0 and physics.friction_front > 0.0 and physics.friction_rear > 0.0):
        raise Refused("apply_physics_control: mass and tyre friction must be above 0")
    return physics


class Vehicle(Actor):
    """A car. CARLA's origin of an actor is the middle of its body, that of `CarState` the centre of mass."""

    solid, tag = True, 14

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.control: list[Any] = [0.0, 0.0, 0.0, False, False, False, 0]  # a `VehicleControl`
        self.simulated = True  # else it stays where it is placed
        self.patch: float | None = None  # friction of the `static.trigger.friction` that it is on
        self.lamps = 0  # `VehicleLightState`
        self._force = [0.0, 0.0]  # [N] from clients and contacts, in our axes
        self._impulse = [0.0, 0.0]  # [N s], likewise
        self.car_state = CarState(*(0.0,) * 8)
        self.apply_physics(copy.deepcopy(_STOCK))

    @property
    def mass(self) -> float:
        """In kg."""
        return float(self.car.mass)

    def apply_physics(self, control: list[Any]) -> None:
        """Replaces its physics; its position stays. Args: a `VehiclePhysicsControl`."""
        self.car = car_of(_read(control), _read(_STOCK))
        self.physics = control
        self.place(self.transform)

    def place(self, transform: Transform) -> None:
        super().place(transform)
        x, y, yaw = from_carla(transform)
        ahead = self.car.mass_offset
        self.car_state = self.car_state._replace(
            x=x + ahead * math.cos(yaw), y=y + ahead * math.sin(yaw), yaw=yaw
        )

    def push(self, velocity: Triple) -> None:
        super().push(velocity)
        x, y = mirrored(*velocity[:2])
        cos, sin = math.cos(self.car_state.yaw), math.sin(self.car_state.yaw)
        self.car_state = self.car_state._replace(vx=x * cos + y * sin, vy=y * cos - x * sin)

    def spin(self, rate: float) -> None:
        """Sets its angular velocity about the vertical [deg/s], clockwise."""
        self.car_state = self.car_state._replace(yaw_rate=-math.radians(rate))

    def add_force(self, force: Triple) -> None:
        """[N] over the next tick, in CARLA's axes of the world."""
        self._force = [mine + more for mine, more in zip(self._force, mirrored(*force[:2]), strict=True)]

    def add_impulse(self, impulse: Triple) -> None:
        """[N s] at the beginning of the next tick, in CARLA's axes of the world."""
        self._impulse = [
            mine + more for mine, more in zip(self._impulse, mirrored(*impulse[:2]), strict=True)
        ]

    def wheel_angle(self) -> float:
        """Of the front wheels [deg], clockwise."""
        return -math.degrees(self.car_state.steer)

    def command(self) -> Command:
        """The actuator command of the control. There is no reverse gear; the handbrake brakes all wheels."""
        throttle, steer, brake, hand_brake, reverse, *_ = self.control
        curve = np.array(self.physics[_STEERING_CURVE] or [[0.0, 1.0]])
        share = float(np.interp(3.6 * abs(self.car_state.vx), curve[:, 0], curve[:, 1]))
        pedal = -1.0 if hand_brake else (0.0 if reverse else throttle) - brake
        return Command(-steer * share, pedal)

    def state(self, lights: Sequence[TrafficLight]) -> bytes:
        light = next((light for light in lights if light.holds(self)), None)
        at = (light.colour, True, light.id) if light else (GREEN, False, 0)
        return protocol.vehicle_state(self.control, _SPEED_LIMIT, at)

    def present_car(self) -> Car:
        """The car with the friction of the ground under it."""
        if self.patch is None:
            return self.car
        friction = self.patch / NOMINAL_FRICTION
        return self.car._replace(friction_front=friction, friction_rear=friction)

    def push_of_tick(self) -> list[float]:
        """Applies the pushes of this tick: impulses at once; forces are returned to the caller."""
        if any(self._impulse):
            x, y = mirrored(*self.velocity[:2])
            x, y = x + self._impulse[0] / self.mass, y + self._impulse[1] / self.mass
            self.push((*mirrored(x, y), 0.0))
        force, self._force, self._impulse = self._force, [0.0, 0.0], [0.0, 0.0]
        return force

    def move(self, state: CarState, delta: float) -> None:
        """Takes over the state at the end of a tick of `delta` seconds."""
        self.car_state = state
        cos, sin = math.cos(state.yaw), math.sin(state.yaw)
        ahead = self.car.mass_offset
        pose = Pose(state.x - ahead * cos, state.y - ahead * sin, state.yaw)
        before = self.velocity
        self.transform = to_carla(pose, self.transform.z)
        self.velocity = (*mirrored(state.vx * cos - state.vy * sin, state.vx * sin + state.vy * cos), 0.0)
        self.angular_velocity = (0.0, 0.0, -math.degrees(state.yaw_rate))
        self.acceleration = (
            (self.velocity[0] - before[0]) / delta,
            (self.velocity[1] - before[1]) / delta,
            0.0,
        )


def advance(vehicles: Sequence[Vehicle], delta: float) -> None:
    """One tick of `delta` seconds of all cars at once."""
    moving = [vehicle for vehicle in vehicles if vehicle.simulated]
    pushes = [vehicle.push_of_tick() for vehicle in vehicles]
    if not moving:
        return
    force = np.array([push for push, vehicle in zip(pushes, vehicles, strict=True) if vehicle.simulated]).T
    after = step(
        np,
        CarState(*np.array([vehicle.car_state for vehicle in moving]).T),
        Car(*np.array([vehicle.present_car() for vehicle in moving]).T),
        Command(*np.array([vehicle.command() for vehicle in moving]).T),
        force[0],
        force[1],
        delta,
    )
    for vehicle, row in zip(moving, np.array(after).T.tolist(), strict=True):
        vehicle.move(CarState(*row), delta)

"""Conversion of our car's parameters to CARLA's `VehiclePhysicsControl`, and back.

CARLA's values are those of PhysX, such as a tyre friction of 3.5 and a torque curve over the engine's speed. So
parameters are scaled in proportion: the stock car of a server stands for `STANDARD`, and a car with 1.2 times the mass
of `STANDARD` gets 1.2 times the mass of the stock car. `mrl-bench carla-calibrate` measures how well the stock car
stands for it; on the light server it does exactly.
"""

from __future__ import annotations

from typing import NamedTuple

from mrl_tasks.driving.vehicle import STANDARD, Car


class Physics(NamedTuple):
    """The entries of a `VehiclePhysicsControl` that differ between our cars, in CARLA's units."""

    mass: float  # [kg]
    mass_x: float  # [m] of the centre of mass, forward
    friction_front: float  # of the tyres; mean of the two
    friction_rear: float
    drag: float
    max_steer: float  # [deg] of the front wheels
    torque: float  # [N m] peak of the engine's torque curve
    brake_torque: float  # [N m] of a wheel


def physics_of(car: Car, stock: Physics) -> Physics:
    """The physics to set on a server whose stock car has `stock`."""
    return Physics(
        mass=stock.mass * car.mass / STANDARD.mass,
        mass_x=stock.mass_x + car.mass_offset - STANDARD.mass_offset,
        friction_front=stock.friction_front * car.friction_front / STANDARD.friction_front,
        friction_rear=stock.friction_rear * car.friction_rear / STANDARD.friction_rear,
        drag=stock.drag * car.drag / STANDARD.drag,
        max_steer=stock.max_steer * car.max_steer / STANDARD.max_steer,
        torque=stock.torque * car.drive_force / STANDARD.drive_force,
        brake_torque=stock.brake_torque * car.brake_force / STANDARD.brake_force,
    )


def car_of(physics: Physics, stock: Physics) -> Car:
    """The inverse of `physics_of`."""
    return Car(
        mass=STANDARD.mass * physics.mass / stock.mass,
        mass_offset=STANDARD.mass_offset + physics.mass_x - stock.mass_x,
        friction_front=STANDARD.friction_front * physics.friction_front / stock.friction_front,
        friction_rear=STANDARD.friction_rear * physics.friction_rear / stock.friction_rear,
        drag=STANDARD.drag * physics.drag / stock.drag,
        max_steer=STANDARD.max_steer * physics.max_steer / stock.max_steer,
        drive_force=STANDARD.drive_force * physics.torque / stock.torque,
        brake_force=STANDARD.brake_force * physics.brake_torque / stock.brake_torque,
    )

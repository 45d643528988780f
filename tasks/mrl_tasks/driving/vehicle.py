"""A car as a dynamic bicycle with friction-limited tyres: pure functions over arrays of cars.

The one source of vehicle physics: the embedded simulator, and the light CARLA server, step cars with this module.
Every function is generic over numpy and torch: `xp` is the array namespace (`numpy`, or `array_api_compat.torch`), and
arrays are (N,), one entry a car. Nothing here mixes cars.

Axes: x forward, y to the left, yaw counter-clockwise; the state is that of the centre of mass. SI units.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

Array = Any  # a numpy array or a torch tensor
Namespace = Any  # the module of its functions

GRAVITY = 9.81  # [m/s^2]
DT = 0.05  # [s] a control step
SUBSTEPS = 5  # of the integrator in a control step

WHEELBASE = 2.8  # [m] between the axles
HALF_LENGTH, HALF_WIDTH = 2.4, 1.0  # [m] of the body
MASS_HEIGHT = 0.5  # [m] of the centre of mass above the road
GYRATION = 1.4  # [m] radius of gyration about the vertical: the yaw inertia is mass * GYRATION^2
# [N/rad] of an axle at small slip. It does not grow with the load, so a heavy tail makes a car oversteer.
CORNERING_STIFFNESS = 80_000.0
ROLLING_RESISTANCE = 0.015  # of the weight
STEER_LAG = 0.1  # [s] time constants of the actuators
PEDAL_LAG = 0.15
# Anti-lock brakes and traction control leave some grip to steer with: the longitudinal force stays below this share.
GRIP_SHARE = 0.99
# [m/s] Slip is ill-defined at walking pace: below the first speed a car moves kinematically, above the second it is
# fully dynamic.
KINEMATIC_SPEED, DYNAMIC_SPEED = 2.0, 4.0


class Car(NamedTuple):
    """Parameters of a car, each (N,) or a number."""

    mass: Array  # [kg]
    mass_offset: Array  # [m] of the centre of mass, forward of the middle between the axles
    friction_front: Array  # tyre-road friction coefficients
    friction_rear: Array
    drag: Array  # [kg/m] air resistance is drag * v^2
    max_steer: Array  # [rad] of the front wheels at full command
    drive_force: Array  # [N] at full throttle
    brake_force: Array  # [N] at full brake


class CarState(NamedTuple):
    """Each (N,)."""

    x: Array  # [m]
    y: Array
    yaw: Array  # [rad] unwrapped
    vx: Array  # [m/s] in the frame of the car
    vy: Array
    yaw_rate: Array  # [rad/s]
    steer: Array  # [rad] of the front wheels, as it is now
    pedal: Array  # 1 is full throttle and -1 full brake, as it is now


class Command(NamedTuple):
    """Commands to the actuators, each (N,) in [-1, 1]."""

    steer: Array  # share of `max_steer`, to the left
    pedal: Array  # throttle minus brake


class AxleForces(NamedTuple):
    """Between tyres and road in the frame of the wheels, and the loads that limit them; each (N,) [N]."""

    front_long: Array
    front_lateral: Array
    front_load: Array
    rear_long: Array
    rear_lateral: Array
    rear_load: Array


# A mid-size car on a dry road.
STANDARD = Car(
    mass=1500.0,
    mass_offset=0.0,
    friction_front=1.0,
    friction_rear=1.0,
    drag=0.4,
    max_steer=0.6,
    drive_force=6000.0,
    brake_force=18000.0,
)


class Chassis(NamedTuple):
    """Constants derived from a `Car` once per control step, (N,)."""

    front_arm: Array  # [m] from the centre of mass to the front axle
    rear_arm: Array
    weight: Array  # [N]
    drive: Array  # forces at full pedal, over the weight
    brake: Array
    front_grip: Array  # friction that the longitudinal force may use
    rear_grip: Array
    front_squared: Array  # friction squared
    rear_squared: Array

    @classmethod
    def of(cls, car: Car) -> Chassis:
        weight = car.mass * GRAVITY
        return cls(
            front_arm=WHEELBASE / 2 - car.mass_offset,
            rear_arm=WHEELBASE / 2 + car.mass_offset,
            weight=weight,
            drive=car.drive_force / weight,
            brake=car.brake_force / weight,
            front_grip=GRIP_SHARE * car.friction_front,
            rear_grip=GRIP_SHARE * car.friction_rear,
            front_squared=car.friction_front * car.friction_front,
            rear_squared=car.friction_rear * car.friction_rear,
        )


def clip(xp: Namespace, value: Array, low: Array, high: Array) -> Array:
    """Two plain operations; `numpy.clip` costs several times as much on small arrays."""
    return xp.minimum(xp.maximum(value, low), high)


def cos_sin(xp: Namespace, angle: Array) -> tuple[Array, Array]:
    """Of an angle [rad], by the tangent of its half, for which numpy has vector instructions: four times as fast."""
    half = xp.tan(0.5 * angle)
    scale = 2.0 / (1.0 + half * half)
    return scale - 1.0, half * scale


def lateral_force(xp: Namespace, slip: Array, limit: Array) -> Array:
    """Of an axle [N], by the brush model of Fiala (1954, "Seitenkraefte am rollenden Luftreifen").

    Args:
        slip: tangent of the slip angle, positive where the wheel slides to its left.
        limit: [N] friction that is left to the side; the whole contact slides from slip 3 limit / stiffness on.
    """
    s = clip(xp, slip * (CORNERING_STIFFNESS / 3.0) / limit, -1.0, 1.0)
    size = xp.abs(s)
    return limit * s * (size * (3.0 - size) - 3.0)


def axle_forces(
    xp: Namespace, state: CarState, chassis: Chassis, cos_steer: Array, sin_steer: Array
) -> AxleForces:
    """Forces of the two axles, each within its friction circle.

    Pedals and rolling resistance act on both axles in proportion to their load, so the longitudinal force of an axle
    is its load times a coefficient, and longitudinal load transfer has a closed form.
    """
    a, b, weight = chassis.front_arm, chassis.rear_arm, chassis.weight
    demand = state.pedal * xp.where(state.pedal > 0, chassis.drive, chassis.brake) - ROLLING_RESISTANCE
    front = clip(xp, demand, -chassis.front_grip, chassis.front_grip)
    rear = clip(xp, demand, -chassis.rear_grip, chassis.rear_grip)
    # From load_f = weight (b - h a_x / g) / L with a_x / g = front * load_f / weight + rear * load_r / weight.
    front_load = weight * (b - MASS_HEIGHT * rear) / (WHEELBASE + MASS_HEIGHT * (front - rear))
    rear_load = weight - front_load

    front_side = state.vy + a * state.yaw_rate  # [m/s] sideways, at the front axle
    along = state.vx * cos_steer + front_side * sin_steer
    across = front_side * cos_steer - state.vx * sin_steer
    front_slip = across / xp.maximum(xp.abs(along), KINEMATIC_SPEED)
    rear_slip = (state.vy - b * state.yaw_rate) / xp.maximum(xp.abs(state.vx), KINEMATIC_SPEED)
    front_limit = front_load * xp.sqrt(chassis.front_squared - front * front)
    rear_limit = rear_load * xp.sqrt(chassis.rear_squared - rear * rear)
    return AxleForces(
        front_long=front_load * front,
        front_lateral=lateral_force(xp, front_slip, front_limit),
        front_load=front_load,
        rear_long=rear_load * rear,
        rear_lateral=lateral_force(xp, rear_slip, rear_limit),
        rear_load=rear_load,
    )


def substep(
    xp: Namespace,
    state: CarState,
    car: Car,
    chassis: Chassis,
    target: Command,
    push_x: Array,
    push_y: Array,
    h: float,
) -> CarState:
    """One semi-implicit Euler step.

    Args:
        target: where steering angle [rad] and pedal go.
        push_x, push_y: as in `step`, over the mass [m/s^2].
        h: [s]
    """
    steer = state.steer + (target.steer - state.steer) * -math.expm1(-h / STEER_LAG)
    pedal = state.pedal + (target.pedal - state.pedal) * -math.expm1(-h / PEDAL_LAG)
    state = state._replace(steer=steer, pedal=pedal)
    cos_steer, sin_steer = cos_sin(xp, steer)
    cos_yaw, sin_yaw = cos_sin(xp, state.yaw)
    tyres = axle_forces(xp, state, chassis, cos_steer, sin_steer)
    vx, vy, yaw_rate = state.vx, state.vy, state.yaw_rate

    traction = tyres.front_long * cos_steer + tyres.rear_long
    driving = xp.maximum(traction, 0.0)
    thrust = driving - tyres.front_lateral * sin_steer - car.drag * vx * xp.abs(vx)
    pushed = push_x * cos_yaw + push_y * sin_yaw
    moved = vx + h * (thrust / car.mass + pushed + vy * yaw_rate)
    # Braking tyres oppose motion, and hold a car that stands.
    held = (driving - traction) * (h / car.mass)
    next_vx = moved - clip(xp, moved, -held, held)

    front_side = tyres.front_lateral * cos_steer + tyres.front_long * sin_steer
    side = (front_side + tyres.rear_lateral) / car.mass + push_y * cos_yaw - push_x * sin_yaw
    torque = chassis.front_arm * front_side - chassis.rear_arm * tyres.rear_lateral
    next_vy = vy + h * (side - vx * yaw_rate)
    next_rate = yaw_rate + torque * (h / (GYRATION * GYRATION)) / car.mass

    # At walking pace no tyre slips: each axle moves in the direction of its wheels.
    rolling_rate = next_vx * sin_steer / (cos_steer * WHEELBASE)
    speed = xp.sqrt(vx * vx + vy * vy)
    dynamic = clip(xp, (speed - KINEMATIC_SPEED) / (DYNAMIC_SPEED - KINEMATIC_SPEED), 0.0, 1.0)
    next_rate = rolling_rate + dynamic * (next_rate - rolling_rate)
    rolling_vy = chassis.rear_arm * rolling_rate
    next_vy = rolling_vy + dynamic * (next_vy - rolling_vy)
    return CarState(
        x=state.x + h * (next_vx * cos_yaw - next_vy * sin_yaw),
        y=state.y + h * (next_vx * sin_yaw + next_vy * cos_yaw),
        yaw=state.yaw + h * next_rate,
        vx=next_vx,
        vy=next_vy,
        yaw_rate=next_rate,
        steer=steer,
        pedal=pedal,
    )


def step(
    xp: Namespace, state: CarState, car: Car, command: Command, push_x: Array, push_y: Array, dt: float = DT
) -> CarState:
    """One control step, in `SUBSTEPS` steps of the integrator.

    Args:
        command: held over the step.
        push_x, push_y: [N] external force at the centre of mass (wind, grade), in the frame of the WORLD, held over
            the step; (N,) or numbers.
        dt: [s]
    """
    chassis, target = Chassis.of(car), Command(command.steer * car.max_steer, command.pedal)
    push_x, push_y = push_x / car.mass, push_y / car.mass
    for _ in range(SUBSTEPS):
        state = substep(xp, state, car, chassis, target, push_x, push_y, dt / SUBSTEPS)
    return state

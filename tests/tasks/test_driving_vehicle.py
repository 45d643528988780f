"""The car against known answers: braking, circles, the friction circle, and the single-track model of CommonRoad."""

from __future__ import annotations

import importlib
import math
from typing import Any

import array_api_compat.torch
import numpy as np
import pytest
import torch
from mrl_tasks.driving import scalars, vehicle
from mrl_tasks.driving.vehicle import (
    CORNERING_STIFFNESS,
    DT,
    GRAVITY,
    GYRATION,
    MASS_HEIGHT,
    STANDARD,
    STEER_LAG,
    WHEELBASE,
    Car,
    CarState,
    Chassis,
    Command,
)

from mrl_bench.keyed_random import uniforms

AIRLESS = STANDARD._replace(drag=0.0)


def at_speed(vx: float, num_envs: int = 1, **state: float) -> CarState:
    values = dict.fromkeys(CarState._fields, 0.0) | {"vx": vx} | state
    return CarState(**{name: np.full(num_envs, value) for name, value in values.items()})


def drive(state: CarState, car: Car, steer: float, pedal: float, steps: int) -> CarState:
    command = Command(np.full_like(state.x, steer), np.full_like(state.x, pedal))
    for _ in range(steps):
        state = vehicle.step(np, state, car, command, 0.0, 0.0)
    return state


def coast(state: CarState, car: Car, steer: float, steps: int) -> CarState:
    """Rolls at a speed that is held, by putting vx back after each step."""
    vx = state.vx
    for _ in range(steps):
        state = drive(state, car, steer, 0.0, 1)._replace(vx=vx)
    return state


@pytest.mark.parametrize("friction", [1.0, 0.5, 0.2])
def test_a_car_stops_in_v2_over_2_mu_g_and_stands(friction: float) -> None:
    car = AIRLESS._replace(friction_front=friction, friction_rear=friction)
    state = drive(at_speed(20.0, pedal=-1.0), car, 0.0, -1.0, steps=int(3.0 / friction / DT))
    assert state.vx[0] == 0.0
    assert state.x[0] == pytest.approx(20.0**2 / (2 * friction * GRAVITY), rel=0.03)


def test_weak_brakes_stop_a_car_by_their_force_and_not_by_friction() -> None:
    car = AIRLESS._replace(brake_force=3000.0)
    state = drive(at_speed(20.0, pedal=-1.0), car, 0.0, -1.0, steps=300)
    slowing = 3000.0 / 1500.0 + vehicle.ROLLING_RESISTANCE * GRAVITY
    assert state.x[0] == pytest.approx(20.0**2 / (2 * slowing), rel=0.03)


@pytest.mark.parametrize("offset", [-0.3, 0.0, 0.3])
def test_a_slow_turn_has_the_radius_of_the_single_track_model(offset: float) -> None:
    """R = (L + K v^2) / delta with the understeer gradient K = m (l_r - l_f) / (L C), (Rajamani 2012, ch. 3)."""
    speed, steer = 10.0, 0.02
    car = AIRLESS._replace(mass_offset=offset)
    state = coast(at_speed(speed), car, steer / car.max_steer, steps=200)
    gradient = car.mass * 2 * offset / (WHEELBASE * CORNERING_STIFFNESS)
    assert state.vx[0] / state.yaw_rate[0] == pytest.approx(
        (WHEELBASE + gradient * speed**2) / steer, rel=0.03
    )


def test_at_walking_pace_a_car_goes_round_the_circle_of_its_wheels() -> None:
    state = at_speed(1.5)
    car, steer = AIRLESS, 0.5
    track = []
    for _ in range(200):
        state = coast(state, car, steer / car.max_steer, steps=1)
        track.append((state.x[0], state.y[0]))
    x, y = np.array(track[60:]).T  # the wheels have come round by then
    middle = np.linalg.lstsq(np.stack([x, y, np.ones_like(x)], 1), x**2 + y**2, rcond=None)[0]
    radius = math.sqrt(middle[2] + (middle[0] ** 2 + middle[1] ** 2) / 4)
    expected = math.hypot(WHEELBASE / math.tan(steer), WHEELBASE / 2)  # of the middle between the axles
    assert radius == pytest.approx(expected, rel=0.03)


def test_no_axle_leaves_its_friction_circle_and_loads_add_up_to_the_weight() -> None:
    draws = uniforms(("friction circle",), 9, 20_000)
    low_high = [
        (-5, 40),
        (-10, 10),
        (-3, 3),
        (-0.6, 0.6),
        (-1, 1),
        (0.05, 2),
        (0.05, 2),
        (800, 4000),
        (-0.6, 0.6),
    ]
    vx, vy, rate, steer, pedal, front, rear, mass, offset = (
        low + (high - low) * draw for draw, (low, high) in zip(draws, low_high, strict=True)
    )
    zero = np.zeros_like(vx)
    state = CarState(zero, zero, zero, vx, vy, rate, steer, pedal)
    car = STANDARD._replace(mass=mass, mass_offset=offset, friction_front=front, friction_rear=rear)
    forces = vehicle.axle_forces(np, state, Chassis.of(car), np.cos(steer), np.sin(steer))
    for friction, long, lateral, load in (
        (front, forces.front_long, forces.front_lateral, forces.front_load),
        (rear, forces.rear_long, forces.rear_lateral, forces.rear_load),
    ):
        used = np.hypot(long, lateral) / (friction * np.abs(load))
        assert used.max() <= 1.0 + 1e-9
        assert (used > 0.999).mean() > 0.1, "some of them should have met the limit"
    np.testing.assert_allclose(forces.front_load + forces.rear_load, mass * GRAVITY)


def test_load_goes_to_the_front_under_braking_by_the_height_of_the_mass() -> None:
    state = at_speed(20.0, pedal=-0.2)
    forces = vehicle.axle_forces(np, state, Chassis.of(STANDARD), np.ones(1), np.zeros(1))
    slowing = -(forces.front_long + forces.rear_long)
    moved = forces.front_load - STANDARD.mass * GRAVITY / 2
    np.testing.assert_allclose(moved, slowing * MASS_HEIGHT / WHEELBASE)


def test_a_heavy_tail_spins_where_a_heavy_nose_does_not() -> None:
    nose, tail = (
        coast(at_speed(25.0), AIRLESS._replace(mass=2500.0, mass_offset=offset), 0.02, steps=100).yaw_rate[0]
        for offset in (0.4, -0.4)
    )
    assert tail > 3 * nose > 0


def test_wind_pushes_sideways_in_the_frame_of_the_map() -> None:
    """A car that stands on ice that is no friction at all is a mass under a force."""
    state = at_speed(10.0)._replace(yaw=np.full(1, math.pi / 2))
    car = AIRLESS._replace(friction_front=1e-9, friction_rear=1e-9)
    command = Command(np.zeros(1), np.zeros(1))
    for _ in range(40):
        state = vehicle.step(np, state, car, command, 300.0, 0.0)
    assert state.x[0] == pytest.approx(0.5 * 300.0 / 1500.0 * 2.0**2, rel=0.02)
    assert state.y[0] == pytest.approx(20.0, rel=0.01)


def test_numpy_and_torch_drive_alike() -> None:
    rows = uniforms(("numpy and torch",), 10, 64)
    state = CarState(*(rows[:8] - 0.5))._replace(vx=15.0 * rows[3])
    command = Command(2 * rows[8] - 1, 2 * rows[9] - 1)
    theirs = CarState(*map(torch.from_numpy, state))
    theirs_command = Command(*map(torch.from_numpy, command))
    for _ in range(20):
        state = vehicle.step(np, state, STANDARD, command, 100.0, -50.0)
        theirs = vehicle.step(array_api_compat.torch, theirs, STANDARD, theirs_command, 100.0, -50.0)
    for name, a, b in zip(CarState._fields, state, theirs, strict=True):
        np.testing.assert_allclose(a, b.numpy(), atol=1e-6, err_msg=name)


def test_a_car_of_pythons_numbers_drives_as_one_in_an_array_to_the_last_bit() -> None:
    rows = uniforms(("few and many",), 10, 300)
    rows[3, :3] = math.nan, math.inf, -math.inf
    state = CarState(*(8.0 * rows[:8] - 4.0))._replace(vx=30.0 * rows[3] - 5.0)
    command = Command(2 * rows[8] - 1, 2 * rows[9] - 1)
    with np.errstate(invalid="ignore"):
        many = np.array(vehicle.step(np, state, STANDARD, command, 100.0, -50.0))
        for i, expected in enumerate(many.T):
            alone, given = (type(of)(*(row[i].item() for row in of)) for of in (state, command))
            np.testing.assert_array_equal(
                vehicle.step(scalars, alone, STANDARD, given, 100.0, -50.0),
                expected,  # type: ignore[arg-type]
            )


def test_in_its_linear_range_it_is_the_single_track_model_of_commonroad() -> None:
    """Their parameters are set to ours, and the steering comes to an angle as ours does."""
    pytest.importorskip("vehiclemodels", reason="needs commonroad-vehicle-models")
    model: Any = importlib.import_module("vehiclemodels.vehicle_dynamics_st").vehicle_dynamics_st
    p: Any = importlib.import_module("vehiclemodels.parameters_vehicle2").parameters_vehicle2()
    p.m, p.a, p.b, p.I_z = AIRLESS.mass, WHEELBASE / 2, WHEELBASE / 2, AIRLESS.mass * GYRATION**2
    p.h_s = MASS_HEIGHT
    p.tire.p_ky1 = -CORNERING_STIFFNESS / (AIRLESS.mass * GRAVITY / 2)  # [1/rad] theirs is by load
    speed, steer, parts = 15.0, 0.003, 50
    ours = at_speed(speed)
    theirs = np.array([0.0, 0.0, 0.0, speed, 0.0, 0.0, 0.0])  # x, y, delta, v, psi, psi_dot, beta
    rows = []
    for _ in range(60):
        ours = coast(ours, AIRLESS, steer / AIRLESS.max_steer, steps=1)
        for _ in range(parts):
            turning = (steer - theirs[2]) / STEER_LAG
            theirs = theirs + DT / parts * np.array(model(theirs, [turning, 0.0], p))
        rows.append((ours.yaw_rate[0], theirs[5], ours.vy[0] / speed, theirs[6]))
    rate, their_rate, slip, their_slip = np.array(rows).T
    assert their_rate[-1] == pytest.approx(speed * steer / WHEELBASE, rel=0.01), "theirs should be neutral"
    np.testing.assert_allclose(rate, their_rate, atol=0.05 * np.abs(their_rate).max())
    np.testing.assert_allclose(slip, their_slip, atol=0.05 * np.abs(their_slip).max())

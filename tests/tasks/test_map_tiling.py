"""Copies of a map side by side, and the physics and the axes between CARLA and us."""

from __future__ import annotations

import math
from itertools import combinations
from xml.etree import ElementTree

import pytest
from carla_kit import STRAIGHT, needs_carla
from mrl_tasks.driving.carla.axes import Pose, from_carla, mirrored, to_carla
from mrl_tasks.driving.carla.map_tiling import MARGIN, Area, offsets, side_by_side
from mrl_tasks.driving.carla.physics import Physics, car_of, physics_of
from mrl_tasks.driving.roads import ROADS, xodr_path
from mrl_tasks.driving.vehicle import STANDARD, Car

AREA = Area(west=-20.0, south=5.0, east=480.0, north=75.0)


@pytest.mark.parametrize("count", [1, 2, 3, 7, 40])
def test_copies_are_apart_and_around_the_origin(count: int) -> None:
    moves = offsets(AREA, count)
    assert len(set(moves)) == count
    for (x, y), (other_x, other_y) in combinations(moves, 2):
        assert abs(x - other_x) >= 500.0 + 2 * MARGIN or abs(y - other_y) >= 70.0 + 2 * MARGIN
    west = min(x for x, _ in moves) + AREA.west
    east = max(x for x, _ in moves) + AREA.east
    assert west == pytest.approx(-east)
    assert max(abs(west), *(abs(y) for _, y in moves)) < 620.0 * math.ceil(math.sqrt(count))


@pytest.mark.parametrize("road", ROADS)
def test_ids_are_unique_and_refer_to_the_same_copy(road: str) -> None:
    text = xodr_path(road).read_text()
    one, three = ElementTree.fromstring(text), ElementTree.fromstring(side_by_side(text, [(0.0, 0.0)] * 3))
    for kind in ("road", "junction"):
        ids = [element.get("id") for element in three.iter(kind)]
        assert len(set(ids)) == len(ids) == 3 * len(list(one.iter(kind)))
    roads = list(three.iter("road"))
    size = len(roads) // 3
    copy_of = {element.get("id"): i // size for i, element in enumerate(roads)}
    for i, element in enumerate(roads):
        for link in element.findall("link/*"):
            if link.get("elementType") == "road":
                assert copy_of[link.get("elementId")] == i // size
    size = len(list(three.iter("junction"))) // 3
    for i, junction in enumerate(three.iter("junction")):
        for connection in junction.iter("connection"):
            assert (
                copy_of[connection.get("incomingRoad")]
                == copy_of[connection.get("connectingRoad")]
                == i // size
            )


@needs_carla
@pytest.mark.parametrize("road", ROADS)
def test_carla_sees_every_lane_of_every_copy_where_it_was_moved_to(road: str) -> None:
    from mrl_tasks.driving.carla.client import drivable_lanes

    text, moves = xodr_path(road).read_text(), [(0.0, 0.0), (1000.0, -250.0)]
    before, after = (drivable_lanes(xodr, 20.0) for xodr in (text, side_by_side(text, moves)))
    expected = [lane._replace(x=lane.x + x, y=lane.y - y) for x, y in moves for lane in before]
    assert len(after) == len(expected)
    found = sorted((lane.x, lane.y) for lane in after)
    for place, wanted in zip(found, sorted((lane.x, lane.y) for lane in expected), strict=True):
        assert place == pytest.approx(wanted, abs=1e-2)


@needs_carla
def test_signals_are_copied_too() -> None:
    from mrl_tasks.driving.carla.client import traffic_signals

    (original,) = traffic_signals(STRAIGHT)
    copies = traffic_signals(side_by_side(STRAIGHT, [(0.0, 0.0), (0.0, 300.0)]))
    assert len({signal.id for signal in copies}) == 2
    assert [len(signal.stops) for signal in copies] == [len(original.stops)] * 2 == [2, 2]
    assert sorted(signal.transform.y for signal in copies) == pytest.approx(
        [original.transform.y - 300.0, original.transform.y], abs=1e-3
    )


def test_a_car_survives_the_way_to_carla_and_back() -> None:
    stock = Physics(1845.0, 0.45, 3.5, 3.4, 0.3, 70.0, 400.0, 1500.0)
    car = Car(2000.0, -0.2, 0.7, 0.9, 0.5, 0.3, 5000.0, 12000.0)
    assert car_of(physics_of(car, stock), stock) == pytest.approx(car)
    assert physics_of(STANDARD, stock) == pytest.approx(stock)
    heavier = physics_of(STANDARD._replace(mass=1.2 * STANDARD.mass), stock)
    assert heavier.mass == pytest.approx(1.2 * stock.mass)


def test_axes_are_mirrored_and_come_back() -> None:
    pose = Pose(3.0, 4.0, 0.5)
    there = to_carla(pose, 0.3)
    assert there[:3] == (3.0, -4.0, 0.3)
    assert there.yaw == pytest.approx(-math.degrees(0.5))
    assert from_carla(there) == pytest.approx(pose)
    assert to_carla(Pose(0.0, 0.0, -3.5 * math.pi)).yaw == pytest.approx(-90.0)  # always within half a turn
    assert mirrored(*mirrored(1.0, 2.0)) == (1.0, 2.0)

"""The maps of the driving family, and the routes that are kept beside them."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import pytest
from mrl_tasks.driving.geometry import point, project, read_route
from mrl_tasks.driving.roads import ROADS, SPACING, xodr_path

from mrl_bench.keyed_random import uniforms


@pytest.mark.parametrize("name", ROADS)
def test_a_route_is_a_smooth_line_of_even_points(name: str) -> None:
    route = read_route(name, keep_lane=False)
    step = np.hypot(np.diff(route.x), np.diff(route.y))
    np.testing.assert_allclose(step, SPACING, atol=1e-3)
    chord = np.arctan2(np.diff(route.y), np.diff(route.x))
    middle = (route.heading[1:] + route.heading[:-1]) / 2
    np.testing.assert_allclose(np.angle(np.exp(1j * (chord - middle))), 0.0, atol=5e-3)
    assert np.abs(route.curvature).max() < 1 / 10.0
    assert route.length > 300.0


@pytest.mark.parametrize("name", ROADS)
def test_the_map_has_the_route_for_a_lane(name: str) -> None:
    """As the carla package reads the map: centre, heading and width of the lane at points of the route."""
    carla: Any = pytest.importorskip("carla", reason="needs the carla package")
    world = carla.Map(name, xodr_path(name).read_text())
    route = read_route(name, keep_lane=False)
    points = np.stack([route.x, route.y, route.heading], 1)[::7]
    places = []
    for x, y, heading in points:
        found = world.get_waypoint(carla.Location(x=x, y=-y), lane_type=carla.LaneType.Driving)
        location, yaw = found.transform.location, -np.radians(found.transform.rotation.yaw)
        # To the side alone: along a bend carla finds the nearest waypoint to some centimetres.
        off = np.abs((-location.y - y) * np.cos(heading) - (location.x - x) * np.sin(heading))
        turned = np.abs(np.angle(np.exp(1j * (yaw - heading))))
        if not found.is_junction:  # there lanes cross each other, and the nearest is any of them
            places.append((off, turned, abs(found.lane_width - route.lane_width)))
    assert len(places) > 0.8 * len(points)
    np.testing.assert_array_less(np.array(places).max(0), (0.02, 0.01, 1e-6))


@pytest.mark.parametrize("name", ROADS)
def test_the_routes_are_those_that_the_script_would_write(name: str) -> None:
    pytest.importorskip("carla", reason="needs the carla package")
    pytest.importorskip("scenariogeneration", reason="needs scenariogeneration")
    write: Any = importlib.import_module("tools.write_roads")
    (x, y, heading, width), length = write.route(name)
    route = read_route(name, keep_lane=False)
    assert length - SPACING <= route.length <= length + 1e-3
    assert np.ptp(width) < 1e-6
    for ours, theirs in ((route.x, x), (route.y, y), (route.heading, heading)):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-3)


@pytest.mark.parametrize("name", ROADS)
def test_places_are_found_again(name: str) -> None:
    """Points beside the route, seen from a guess within the metre that a car goes in a step."""
    route = read_route(name, keep_lane=False)
    draws = uniforms(("places", name), 3, 500)
    s, lateral = 5.0 + (route.length - 10.0) * draws[0], 6.0 * draws[1] - 3.0
    at = point(np, route, s)
    x, y = at.x - lateral * at.sin, at.y + lateral * at.cos
    place = project(np, route, x, y, at.heading + 0.1, s + draws[2] - 0.5)
    np.testing.assert_allclose(place.s, s, atol=0.03)
    np.testing.assert_allclose(place.lateral, lateral, atol=0.03)
    np.testing.assert_allclose(place.heading_error, 0.1, atol=0.01)

"""Stretches of lane in a town, found on maps of our own."""

from __future__ import annotations

from itertools import combinations
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from carla_kit import STRAIGHT, needs_carla
from mrl_tasks.driving.carla.map_tiling import side_by_side
from mrl_tasks.driving.geometry import point
from mrl_tasks.driving.roads import SPACING, xodr_path

pytestmark = needs_carla

# Two crossings, whose arms are 250 m long.
TOWN = side_by_side(xodr_path("crossing").read_text(), [(0.0, 0.0), (0.0, 700.0)])


def find(xodr: str, length: int) -> Any:
    from mrl_tasks.driving.carla.town import stretches

    return stretches.__wrapped__(xodr, length)


@pytest.mark.parametrize(("length", "least"), [(100, 12), (300, 2)])
def test_stretches_are_even_lanes_that_are_nowhere_near_each_other(length: int, least: int) -> None:
    from mrl_tasks.driving.carla.town import APART, SHARPEST

    found = find(TOWN, length)
    assert len(found) >= least
    for stretch in found:
        x, y, heading, height, width = stretch
        assert len(x) == length
        np.testing.assert_allclose(np.hypot(np.diff(x), np.diff(y)), SPACING, atol=2e-3)
        chord, middle = np.arctan2(np.diff(y), np.diff(x)), (heading[1:] + heading[:-1]) / 2
        np.testing.assert_allclose(np.angle(np.exp(1j * (chord - middle))), 0.0, atol=5e-3)
        assert np.abs(np.diff(heading)).max() <= SHARPEST * SPACING * 2
        np.testing.assert_allclose(height, 0.0)
        np.testing.assert_allclose(width, 3.5)
    for one, other in combinations(found, 2):
        nearest = np.hypot(*(one[:2, :, None] - other[:2, None])).min()
        assert nearest > APART - 5.0  # every fifth point is looked at


def test_the_order_of_roads_in_the_file_does_not_matter() -> None:
    root = ElementTree.fromstring(TOWN)
    root[:] = root[::-1]
    assert np.array_equal(find(TOWN, 100), find(ElementTree.tostring(root, encoding="unicode"), 100))


@pytest.mark.parametrize(
    ("part", "other", "fits"),
    [
        ("<line/>", "<line/>", True),
        ("<line/>", '<arc curvature="0.02"/>', True),
        ("<line/>", '<arc curvature="0.05"/>', False),
        ('a="3.5"', 'a="2.9"', False),
        (
            "<lanes>",
            '<elevationProfile><elevation s="0" a="7" b="0" c="0" d="0"/></elevationProfile><lanes>',
            True,
        ),
        (
            "<lanes>",
            '<elevationProfile><elevation s="0" a="0" b="0.05" c="0" d="0"/></elevationProfile><lanes>',
            False,
        ),
        ('length="400"', 'length="99"', False),
    ],
    ids=["straight", "bend", "sharp bend", "narrow", "high", "hill", "short"],
)
def test_a_stretch_is_long_flat_wide_and_not_sharply_bent(part: str, other: str, fits: bool) -> None:
    assert part in STRAIGHT
    assert bool(find(STRAIGHT.replace(part, other), 100)) == fits


def test_of_a_route_each_stretch_is_found_where_its_instance_begins() -> None:
    from mrl_tasks.driving.carla.town import one_behind_the_other

    found = find(TOWN, 100)
    route = one_behind_the_other(found)
    assert (route.stretches, route.length, len(route.x)) == (len(found), 60.0, 100 * len(found))
    assert route.left_edge == route.right_edge == 1.75
    for number, stretch in enumerate(found):
        seen_at_its_end = 100.0 * number + route.length + np.array([0.0, 39.0])
        ahead = point(np, route, seen_at_its_end)
        np.testing.assert_allclose([ahead.x, ahead.y], stretch[:2, [60, 99]], atol=1e-9)

"""Tiles copies of a map in one OpenDRIVE file, so that many cars have separate roads in one world.

A CARLA server has one world, and the cars of a batch move together. On copies of their map, far enough from each other
that no two cars ever meet, each drives as if it were alone; and one tick advances them all.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import NamedTuple
from xml.etree import ElementTree

MARGIN = 60.0  # [m] around a map's lanes: a car's episode ends long before it gets that far

# Attributes that hold an id, and what kind of id. In OpenDRIVE, ids of roads and of junctions may coincide.
_IDS = {
    "road": {"id": "road", "junction": "junction"},
    "junction": {"id": "junction"},
    "connection": {"incomingRoad": "road", "connectingRoad": "road"},
    "signal": {"id": "signal"},
    "signalReference": {"id": "signal"},
    "object": {"id": "object"},
    "controller": {"id": "controller"},
    "control": {"signalId": "signal"},
}


class Area(NamedTuple):
    """A rectangle in OpenDRIVE's axes [m]."""

    west: float
    south: float
    east: float
    north: float


def offsets(area: Area, count: int) -> list[tuple[float, float]]:
    """Offsets [m] of the copies of a map, on a roughly square grid around the origin.

    Near the origin, because CARLA tells positions in float32: to 0.1 mm up to 1 km from it.
    """
    width, height = area.east - area.west + 2 * MARGIN, area.north - area.south + 2 * MARGIN
    columns = min(count, max(1, round(math.sqrt(count * height / width))))
    rows = math.ceil(count / columns)
    middle = (area.west + area.east) / 2, (area.south + area.north) / 2
    return [
        (
            (i % columns - (columns - 1) / 2) * width - middle[0],
            (i // columns - (rows - 1) / 2) * height - middle[1],
        )
        for i in range(count)
    ]


def side_by_side(xodr: str, moves: Sequence[tuple[float, float]]) -> str:
    """A map with a copy of `xodr` at each offset. Numeric ids stay numeric."""
    root = ElementTree.fromstring(xodr)
    originals = [child for child in root if child.tag != "header"]
    for child in originals:
        root.remove(child)
    tables: dict[tuple[str, str, int], str] = {}
    for number, move in enumerate(moves):
        for original in originals:
            moved = copy.deepcopy(original)
            for element in moved.iter():
                _renumber(element, number, tables)
                if element.tag == "geometry":
                    for axis, by in zip("xy", move, strict=True):
                        element.set(axis, repr(float(element.get(axis, "0")) + by))
            root.append(moved)
    return ElementTree.tostring(root, encoding="unicode")


def _renumber(
    element: ElementTree.Element, copy_number: int, tables: dict[tuple[str, str, int], str]
) -> None:
    """Gives every id of an element the number that stands for it in this copy."""
    ids = dict(_IDS.get(str(element.tag), {}))
    if element.tag in ("predecessor", "successor") and element.get("elementId") is not None:
        ids["elementId"] = element.get("elementType", "road")
    for attribute, kind in ids.items():
        old = element.get(attribute)
        if old is not None and (attribute, old) != ("junction", "-1"):  # -1: a road outside of junctions
            known = (kind, old, copy_number)
            tables.setdefault(known, str(len(tables) + 1))
            element.set(attribute, tables[known])

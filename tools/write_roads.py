"""Writes the OpenDRIVE maps in `tasks/mrl_tasks/driving/roads` and the routes that the simulator reads.

A developer tool. Run it from the root of the repository, with `scenariogeneration` and `carla` installed:

    python -m tools.write_roads

OpenDRIVE is right-handed, like the simulation; CARLA's frame has y and yaw negated.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

import carla
import numpy as np
from mrl_tasks.driving.roads import ROADS, SPACING, route_path, xodr_path
from numpy.typing import NDArray
from scenariogeneration import xodr

LANE_WIDTH, SHOULDER_WIDTH = 3.5, 1.5  # [m]
ORIGIN = "+proj=tmerc +lat_0=0 +lon_0=0 +k=1 +x_0=0 +y_0=0 +datum=WGS84 +units=m +no_defs"
ARM = 250.0  # [m] from the end of a road to the crossing
STRIDE = 0.05  # [m] of the walk along a lane

Pieces = list[tuple[float, float]]  # (length [m], curvature at its end [1/m]) of a line, an arc or a clothoid


def bend(radius: float, angle: float, ramp: float) -> Pieces:
    """Turns by an angle [rad], to the left if radius [m] is positive, eased in and out by clothoids of length ramp."""
    return [(ramp, 1 / radius), (abs(radius) * angle - ramp, 1 / radius), (ramp, 0.0)]


def straight(length: float) -> Pieces:
    return [(length, 0.0)]


SIDE = straight(50.0) + bend(40.0, math.pi / 2, ramp=20.0)  # four of them close a loop
# The centre lines of the roads of each map; each goes on where the one before ends.
CENTRE_LINES: dict[str, list[Pieces]] = {
    "straight": [straight(700.0)],
    "curve": [
        straight(80.0) + bend(60.0, 2.0, 20.0) + straight(60.0) + bend(-45.0, 1.8, 20.0) + straight(360.0)
    ],
    "s_bends": [[piece for _ in range(7) for radius in (45.0, -45.0) for piece in bend(radius, 1.2, 15.0)]],
    "highway": [
        straight(160.0) + bend(300.0, 0.6, 60.0) + straight(80.0) + bend(-300.0, 0.6, 60.0) + straight(160.0)
    ],
    "loop": [SIDE] * 4,
}
CLOSED = {"loop"}  # maps whose last road goes on with the first


def chain(name: str) -> Any:
    """A map of one road after the other, with lanes as `ROADS` says."""
    drawing, centre_lines = xodr.OpenDrive(name, geo_reference=ORIGIN), CENTRE_LINES[name]
    for number, pieces in enumerate(centre_lines):
        road = xodr.Road(number + 1, plan(pieces), lanes(ROADS[name].left_lanes))
        before, after = number or len(centre_lines), (number + 1) % len(centre_lines) + 1
        if name in CLOSED:
            road.add_predecessor(xodr.ElementType.road, before, xodr.ContactPoint.end)
            road.add_successor(xodr.ElementType.road, after, xodr.ContactPoint.start)
        drawing.add_road(road)
    return drawing


def plan(pieces: Pieces) -> Any:
    view, before = xodr.PlanView(), 0.0
    for length, curvature in pieces:
        if curvature != before:
            view.add_geometry(xodr.Spiral(before, curvature, length))
        else:
            view.add_geometry(xodr.Arc(curvature, length) if curvature else xodr.Line(length))
        before = curvature
    return view


def lanes(left_lanes: int) -> Any:
    """One oncoming lane, that of the route, those of the same direction to its left, and shoulders."""
    section = xodr.LaneSection(0, xodr.standard_lane())
    section.add_left_lane(lane(xodr.LaneType.driving, LANE_WIDTH))
    for _ in range(1 + left_lanes):
        section.add_right_lane(lane(xodr.LaneType.driving, LANE_WIDTH))
    section.add_left_lane(lane(xodr.LaneType.shoulder, SHOULDER_WIDTH))
    section.add_right_lane(lane(xodr.LaneType.shoulder, SHOULDER_WIDTH))
    sections = xodr.Lanes()
    sections.add_lanesection(section)
    return sections


def lane(kind: Any, width: float) -> Any:
    made = xodr.Lane(lane_type=kind, a=width)
    made.add_roadmark(xodr.std_roadmark_broken())
    return made


def crossing() -> Any:
    """Four arms of one lane each way that meet at right angles. Each begins at the junction."""
    drawing = xodr.OpenDrive("crossing", geo_reference=ORIGIN)
    junction = xodr.CommonJunctionCreator(1000, "crossing")
    for number, angle in enumerate((math.pi, 0.0, math.pi / 2, -math.pi / 2), 1):
        arm = xodr.Road(number, plan(straight(ARM)), lanes(0))
        junction.add_incoming_road_circular_geometry(arm, 18.0, angle, "predecessor")
        drawing.add_road(arm)
    for one in range(1, 5):
        for other in range(one + 1, 5):
            junction.add_connection(one, other)
    drawing.add_junction_creator(junction)
    return drawing


def arcs_and_lines(text: str) -> str:
    """A map without spirals of constant curvature, which the junction creator writes and CARLA cannot follow."""

    def simpler(spiral: re.Match[str]) -> str:
        start, end = map(float, spiral.groups())
        if abs(end - start) > 1e-6:
            return spiral.group()
        return f'<arc curvature="{start:.12g}"/>' if abs(start) > 1e-6 else "<line/>"

    return re.sub(r'<spiral curvStart="([^"]*)" curvEnd="([^"]*)"/>', simpler, text)


def route(name: str) -> tuple[NDArray[np.float64], float]:
    """What a car passes that follows its lane, and turns left at a crossing, as `carla.Map` knows it.

    Returns:
        x [m], y [m], heading [rad, unwrapped] and lane width [m] every `SPACING` metres, (4, M); and its length [m],
        which is that of one lap of the loop.
    """
    world = carla.Map(name, xodr_path(name).read_text())
    # An arm of the crossing begins at the junction, so the route comes along its left lane from the far end.
    start = (1, 1, ARM - 1e-3) if name == "crossing" else (1, -1 - ROADS[name].left_lanes, 0.0)
    here, rows, gone = world.get_waypoint_xodr(*start), [], 0.0
    longest = sum(length for pieces in CENTRE_LINES.get(name, ()) for length, _ in pieces) or 4 * ARM
    while gone < longest:
        place, heading = here.transform.location, -math.radians(here.transform.rotation.yaw)
        rows.append((place.x, -place.y, heading, here.lane_width))
        ahead = here.next(STRIDE)  # along the road's reference line, which is shorter or longer than a lane
        if not ahead:
            break
        here, gone = max(ahead, key=swing), gone + STRIDE
    if name in CLOSED:
        rows.append(rows[0])
    table = np.array(rows).T
    table[2] = np.unwrap(table[2])
    length = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(table[:2])))])
    points = np.arange(0.0, length[-1], SPACING)
    return np.array([np.interp(points, length, column) for column in table]), float(length[-1])


def swing(lane: Any) -> float:
    """How far a lane has turned to the left 20 m on [degrees, -180 to 180]."""
    far = lane.next(20.0)
    turned = lane.transform.rotation.yaw - far[0].transform.rotation.yaw if far else 0.0
    return float((turned + 180.0) % 360.0 - 180.0)


def main() -> None:
    for name in ROADS:
        drawing = crossing() if name == "crossing" else chain(name)
        drawing.adjust_roads_and_lanes()
        drawing.write_xml(str(xodr_path(name)))
        text = re.sub(r' date="[^"]*"', ' date="2026-01-01"', xodr_path(name).read_text())
        xodr_path(name).write_text(arcs_and_lines(text))
        (x, y, heading, width), length = route(name)
        columns = {"x": x, "y": y, "heading": heading}
        table = {column: np.round(values, 6).tolist() for column, values in columns.items()}
        lap = {"lap": round(length, 6)} if name in CLOSED else {}
        route_path(name).write_text(json.dumps({"lane_width": width[0], **lap, **table}) + "\n")


if __name__ == "__main__":
    main()

"""Draws a scene from above, with our car driving to the right."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from mrl_tasks.driving import events
from mrl_tasks.driving.geometry import SHOULDER, Box, Route, point
from mrl_tasks.driving.road_users import ABSENT, VEHICLE, boxes
from mrl_tasks.driving.scene import Scene, Task
from mrl_tasks.driving.vehicle import HALF_LENGTH, HALF_WIDTH

VIEW = 70.0  # [m] width of the image
AHEAD = 20.0  # [m] from our car to the middle of the image
SMOOTH = 2  # supersampling factor


def draw(route: Route, task: Task, scene: Scene, width: int, height: int) -> NDArray[np.uint8]:
    """The scene of one environment instance, (height, width, 3). Args: task, scene: of it, arrays () and (K,)."""
    scale = SMOOTH * width / VIEW  # [px/m]
    image = Image.new("RGB", (SMOOTH * width, SMOOTH * height), "#a9b89a")
    pen, car = ImageDraw.Draw(image), scene.car
    cos, sin = math.cos(car.yaw), math.sin(car.yaw)

    def pixels(x: Any, y: Any) -> list[tuple[float, float]]:
        """Of points on the map."""
        dx, dy = np.asarray(x) - car.x, np.asarray(y) - car.y
        across = (dx * cos + dy * sin - AHEAD) * scale + image.width / 2
        down = image.height / 2 - (dy * cos - dx * sin) * scale
        return list(zip(across.ravel().tolist(), down.ravel().tolist(), strict=True))

    at = point(np, route, np.arange(scene.place.s - VIEW, scene.place.s + 2 * VIEW, 1.0))

    def parallel(lateral: float) -> list[tuple[float, float]]:
        return pixels(at.x - lateral * at.sin, at.y + lateral * at.cos)

    half = route.lane_width / 2
    right, left = -half - SHOULDER, half + route.lane_width * (1 + route.left_lanes) + SHOULDER
    pen.polygon(parallel(left) + parallel(right)[::-1], fill="#6b6b6b")
    line = round(0.15 * scale)
    for lane in range(route.left_lanes + 3):
        lateral = route.lane_width * lane - half
        oncoming = lane == route.left_lanes + 1
        pen.line(parallel(lateral), fill="#e8c34a" if oncoming else "#f4f4f2", width=line)

    if task.target_lateral:  # where it is not the centre of the lane
        pen.line(parallel(float(task.target_lateral)), fill="#3f9d6b", width=line)

    if task.script is not None and task.script.light:
        stop = point(np, route, scene.road_users.s[-1] - np.zeros(2))
        side = np.array([-half, half])
        red = events.is_red(task.script, scene.clock)
        ends = pixels(stop.x - side * stop.sin, stop.y + side * stop.cos)
        pen.line(ends, fill="#d03030" if red else "#30b050", width=4 * line)

    def rectangle(box: Box, colour: str) -> None:
        ahead, left = (np.array([(1, 1), (1, -1), (-1, -1), (-1, 1)]) * (box.half_length, box.half_width)).T
        x, y = ahead * box.cos - left * box.sin, ahead * box.sin + left * box.cos
        pen.polygon(pixels(box.x + x, box.y + y), fill=colour)

    shapes = boxes(np, scene.bodies, scene.road_users.kind)
    for k, kind in enumerate(scene.road_users.kind):
        if kind > ABSENT:
            rectangle(Box(*(column[k] for column in shapes)), "#33425b" if kind == VEHICLE else "#d07820")
    offset = task.car.mass_offset  # the body's middle is behind the centre of mass by it
    own = Box(car.x - offset * cos, car.y - offset * sin, cos, sin, HALF_LENGTH, HALF_WIDTH)
    rectangle(own, "#2a6fc9")
    return np.array(image.reduce(SMOOTH), dtype=np.uint8)

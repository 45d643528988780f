"""Draws the cart and the pole, seen from the side."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from mrl_tasks.cartpole.family import TRACK_LIMIT

_VIEW = 5.6  # [m] width of the view
_CART = (0.5, 0.3)  # [m] width and height
_SMOOTH = 3  # supersampling factor, against jagged edges


def draw(
    x: float, theta: float, half_length: float, target: float | None, width: int, height: int
) -> NDArray[np.uint8]:
    """An image of the cart at x [m] with the pole at theta [rad], (height, width, 3).

    Args:
        half_length: of the pole [m]. The end of a long pole is outside the image.
        target: position of the target on the track [m]; None if there is none.
    """
    scale = _SMOOTH * width / _VIEW  # [px/m]
    image = Image.new("RGB", (_SMOOTH * width, _SMOOTH * height), "#f4f4f2")
    pen, track = ImageDraw.Draw(image), 0.8 * _SMOOTH * height

    def across(metres: float) -> float:
        return (metres + _VIEW / 2) * scale

    def line(ends: list[tuple[float, float]], metres: float, colour: str) -> None:
        pen.line(ends, fill=colour, width=max(1, round(metres * scale)))

    line([(across(-TRACK_LIMIT), track), (across(TRACK_LIMIT), track)], 0.03, "#555555")
    for end in (-TRACK_LIMIT, TRACK_LIMIT):
        line([(across(end), track - 0.15 * scale), (across(end), track + 0.15 * scale)], 0.03, "#555555")
    if target is not None:
        tip, wide, deep = across(target), 0.1 * scale, 0.25 * scale
        pen.polygon([(tip, track), (tip - wide, track + deep), (tip + wide, track + deep)], fill="#2a9d4a")
    left, top = across(x - _CART[0] / 2), track - _CART[1] * scale
    pen.rectangle([left, top, left + _CART[0] * scale, track], fill="#33425b")
    length = 2 * half_length * scale
    hinge = (across(x), top)
    pole_end = (hinge[0] + length * math.sin(theta), hinge[1] - length * math.cos(theta))
    line([hinge, pole_end], 0.08, "#c8863c")
    radius = 0.06 * scale
    pen.ellipse([hinge[0] - radius, hinge[1] - radius, hinge[0] + radius, hinge[1] + radius], fill="#8899bb")
    return np.array(image.reduce(_SMOOTH), dtype=np.uint8)

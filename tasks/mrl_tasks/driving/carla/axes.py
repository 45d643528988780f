"""From the axes of this family to CARLA's and back; nothing else converts.

Here, as in OpenDRIVE: x forward, y to the left, angles counter-clockwise in radians. CARLA: x forward, y to the right,
angles clockwise in degrees, and a positive steering to the right. Seen from either side it is the same mirror.
"""

from __future__ import annotations

import math
from typing import NamedTuple


class Pose(NamedTuple):
    """A pose in this family's axes."""

    x: float  # [m]
    y: float  # [m] to the left
    yaw: float  # [rad] counter-clockwise


class Transform(NamedTuple):
    """A `carla.Transform`: x, y, z [m], then pitch, yaw, roll [deg]."""

    x: float
    y: float
    z: float = 0.0
    pitch: float = 0.0
    yaw: float = 0.0
    roll: float = 0.0


def to_carla(pose: Pose, z: float = 0.0) -> Transform:
    """A pose on flat ground at a height [m], with a yaw in [-180, 180)."""
    return Transform(pose.x, -pose.y, z, 0.0, (math.degrees(-pose.yaw) + 180.0) % 360.0 - 180.0, 0.0)


def from_carla(transform: Transform) -> Pose:
    """Drops height, pitch and roll."""
    return Pose(transform.x, -transform.y, -math.radians(transform.yaw))


def mirrored(x: float, y: float) -> tuple[float, float]:
    """A vector on the ground (velocity, acceleration, force), converted in either direction."""
    return x, -y

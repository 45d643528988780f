"""Metrics of an episode in addition to its return: the driving score of CARLA's leaderboard 2.0, and success."""

from __future__ import annotations

from typing import NamedTuple

from mrl_bench.types import Ratio
from mrl_tasks.driving.scene import Verdict
from mrl_tasks.driving.vehicle import Array, Namespace, clip

# Leaderboard 2.0 multiplies these for each infraction (2.1 has another formula). Our episodes have no static objects,
# stop signs or minimum speed.
PENALTIES = {"hit_pedestrian": 0.5, "hit_vehicle": 0.6, "ran_red_light": 0.7}
# An episode's route is as long as a car at this share of the target speed drives in it.
ROUTE_SHARE = 0.8


class DrivingScore(NamedTuple):
    """Metrics of the current episode so far, (N,)."""

    driving_score: Array  # 0 to 100: route completion [%] times the penalties of its infractions
    success: Array  # 1 if the whole route was completed without an infraction, else 0
    collisions: Array  # 1 or 0, because the first one ends an episode
    distance: Array  # [km] along the route


# The metrics in reports, by display name.
REPORTED = {
    "driving score": Ratio("driving_score", low=0.0, high=100.0),
    "success rate": Ratio("success", low=0.0, high=1.0),
    "collisions per km": Ratio("collisions", per="distance", low=0.0),
}


def driving_score(xp: Namespace, distance: Array, route_length: Array, verdict: Verdict) -> DrivingScore:
    """Args: distance, route_length: [m] of the route driven and to drive; verdict: the episode's last."""
    completion = clip(xp, distance / route_length, 0.0, 1.0)
    penalty = 1.0
    for name, factor in PENALTIES.items():
        penalty = penalty * xp.where(getattr(verdict, name), factor, 1.0)
    clean = (completion == 1.0) & ~verdict.over
    return DrivingScore(
        driving_score=100.0 * completion * penalty,
        success=xp.where(clean, 1.0, 0.0),
        collisions=xp.where(verdict.hit_vehicle | verdict.hit_pedestrian, 1.0, 0.0),
        distance=1e-3 * distance,
    )

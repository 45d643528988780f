"""Parameters and options of the driving family. Imports no simulator: `make` does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import floor, inf
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from annotated_types import Interval

from mrl_bench.errors import UsageError, nearest
from mrl_bench.family import BatchEnv, Param
from mrl_bench.types import EnvSpec, TaskBatch
from mrl_tasks.driving.roads import ROADS, is_closed, length, read_points, route_path, xodr_path
from mrl_tasks.driving.vehicle import DT
from mrl_tasks.validation import require_listed_values

if TYPE_CHECKING:
    import torch

MOST_TRAFFIC = 6
MAX_DELAY = 10  # control steps
END_MARGIN = 60.0  # [m] of the road left at the end of an episode, for a car at the target speed
TOWN_SPEED = 20.0  # [m/s] largest target speed in a town, whose stretches of lane are so long
PREVIEW = (5.0, 10.0, 20.0, 30.0, 40.0)  # [m] along the route, of the points that are observed
# Codes of `event_kind`; `events.py` says what happens in each.
EVENTS = (
    "none",
    "lead_hard_brake",
    "cut_in",
    "jaywalking_pedestrian",
    "stalled_vehicle",
    "oncoming_overtaker",
    "red_light",
)

# Bounds say what is still a car on a road; that some corners of the box cannot be driven is up to the scenario.
_CAR: Mapping[str, Param] = {
    "friction_front": Param(1.0, 0.05, 2.0, "1", "friction coefficient of the front tyres on dry asphalt"),
    "friction_rear": Param(1.0, 0.05, 2.0, "1", "friction coefficient of the rear tyres on dry asphalt"),
    "road_friction": Param(1.0, 0.05, 1.5, "1", "scale of all tyres' friction; about 0.15 on ice"),
    "road_wetness": Param(0.0, 0.0, 1.0, "1", "water on the road: 0 is dry, 1 is standing water"),
    "mass": Param(1500.0, 800.0, 4000.0, "kg", "mass of the car with its load"),
    "mass_offset": Param(0.0, -0.6, 0.6, "m", "centre of mass ahead of the midpoint between the axles"),
    "engine_gain": Param(1.0, 0.2, 2.0, "1", "scale of the driving force"),
    "brake_gain": Param(1.0, 0.2, 2.0, "1", "scale of the braking force"),
    "steering_ratio": Param(1.0, 0.2, 2.0, "1", "scale of the steering angle"),
    "steering_offset": Param(0.0, -0.2, 0.2, "rad", "angle of the front wheels at a steering command of 0"),
    "steering_sign": Param(1.0, -1.0, 1.0, "1", "-1 if the steering is reversed", values=(-1.0, 1.0)),
    "actuator_delay": Param(
        default=0.0,
        low=0.0,
        high=float(MAX_DELAY),
        unit="control steps",
        doc="delay from an action to the actuators; they get 0 until the first action arrives",
        values=tuple(map(float, range(MAX_DELAY + 1))),
    ),
    "wind_speed": Param(0.0, -40.0, 40.0, "m/s", "speed of a steady wind towards +y of the map"),
    "grade": Param(
        0.0, -0.2, 0.2, "1", "slope of the road along the route: rise divided by horizontal distance"
    ),
    "target_speed": Param(12.0, 3.0, 35.0, "m/s", "speed that the reward asks for"),
    "target_lateral": Param(
        0.0, -1.5, 1.5, "m", "position to the left of the lane's centre that the reward asks for"
    ),
}
_OTHERS: Mapping[str, Param] = {
    "visibility": Param(
        200.0, 5.0, 200.0, "m", "distance within which other road users and traffic lights are observed"
    ),
}
_TRAFFIC: Mapping[str, Param] = {
    "traffic_density": Param(
        25.0,
        5.0,
        60.0,
        "1/km",
        "cars per kilometre at the start of an episode; more if a lap is too short for that",
    ),
    "aggressiveness": Param(0.5, 0.0, 1.0, "1", "of other drivers: faster, closer, sooner to change lanes"),
}
_EVENTS: Mapping[str, Param] = {
    "event_kind": Param(
        default=1.0,
        low=0.0,
        high=float(len(EVENTS) - 1),
        unit="code",
        doc=", ".join(f"{code} {name}" for code, name in enumerate(EVENTS)),
        values=tuple(map(float, range(len(EVENTS)))),
    ),
    "event_severity": Param(
        0.5, 0.0, 1.0, "1", "higher means that the event begins closer and becomes visible later"
    ),
    "event_distance": Param(
        0.0, 0.0, 100.0, "m", "distance driven at the target speed before the event begins"
    ),
}


@dataclass(frozen=True)
class Driving:
    """A car on a road, optionally with other cars and an unforeseen event.

    Observation: vx, vy [m/s], yaw rate [rad/s] and steering angle [rad] of the car; lateral error [m] and heading error
    [rad] from the lane's centre, both positive to the left; target speed [m/s]; x and y [m] of the
    route at the distances `PREVIEW` ahead; with events, distance [m] of the light ahead, whether it is red, and
    distance [m] driven so far; and for each other road user its position [m] and velocity relative to the car [m/s],
    and its kind (0 none or out of sight, 1 vehicle, 2 pedestrian).
    Positions and velocities are in the frame of the car: x forward, y to the left. What an option hides is 0.

    Action (2,): steering to the left, and throttle (positive) or brake (negative).
    The reward is that of `mrl_tasks.driving.scene.judge`.
    """

    # Control steps of a full episode, each of 0.05 s.
    horizon: int = 200
    # straight, curve, s_bends, highway, crossing, or loop (without an end); or a town of a CARLA server, as Town04.
    road: str = "s_bends"
    # Other cars on the route, 0 to 6.
    traffic: Annotated[int, Interval(ge=0, le=MOST_TRAFFIC)] = 0
    # Whether an event of the kind `event_kind` happens in each episode.
    events: bool = False
    # Speed at the start, as a fraction of the target speed.
    start_speed: Annotated[float, Interval(ge=0, le=1.5)] = 0.8
    # Whether the target speed is observed; if not, 0 is. Unless `start_speed` is 0, the first speed reveals it.
    show_target: bool = True
    # Weight [1/m] of the distance from `target_lateral`, subtracted from the reward.
    lateral_cost: Annotated[float, Interval(ge=0, le=10)] = 0.1
    # Whether the car's lateral velocity, yaw rate and steering angle are observed; if not, 0 is.
    show_turning: bool = True
    # Whether an episode ends when the car's middle leaves its lane rather than the asphalt.
    keep_lane: bool = False
    # "embedded" uses the built-in simulator; "carla" drives cars on a CARLA server.
    backend: Literal["embedded", "carla"] = "embedded"
    # Host of the CARLA server. Results do not depend on it.
    carla_host: str = field(default="127.0.0.1", metadata={"in_digest": False})
    # Port of the CARLA server. Results do not depend on it.
    carla_port: Annotated[int, Interval(ge=1, le=65535)] = field(default=2000, metadata={"in_digest": False})

    def __post_init__(self) -> None:
        if not 0 <= self.traffic <= MOST_TRAFFIC:
            raise UsageError(f"traffic must be from 0 to {MOST_TRAFFIC}, not {self.traffic}")
        if not 0.0 <= self.start_speed <= 1.5:
            raise UsageError(f"start_speed must be from 0 to 1.5, not {self.start_speed}")
        if self.road not in ROADS:
            if self.backend == "embedded":
                known = nearest(self.road, ROADS)
                raise UsageError(
                    f"no road {self.road!r}: {known}; a town needs a CARLA server, and 'backend: carla'"
                )
            if self.traffic or not self.keep_lane:
                raise UsageError(
                    "in a town a car keeps to its lane, without traffic: 'keep_lane: true', 'traffic: 0'"
                )
        self._target_speed()  # refuses a horizon that is too long for the road

    @property
    def params(self) -> Mapping[str, Param]:
        return {
            **_CAR,
            "target_speed": self._target_speed(),
            "target_lateral": self._target_lateral(),
            **(_OTHERS if self.actors else {}),
            **(_TRAFFIC if self.traffic else {}),
            **(_EVENTS if self.events else {}),
        }

    def _target_speed(self) -> Param:
        """At most so high that no car at its target speed reaches the end of the road within the horizon."""
        param = _CAR["target_speed"]
        if self.road not in ROADS:
            because = f"a stretch of lane in a town is as long as {TOWN_SPEED:g} m/s demands"
            return replace(param, high=TOWN_SPEED, because=because)
        if is_closed(self.road):
            return param
        room = length(self.road) - END_MARGIN
        because = f"road {self.road} has {room:g} m for {self.horizon} control steps"
        fastest = floor(100.0 * room / (self.horizon * DT)) / 100.0
        if fastest <= param.low:
            raise UsageError(
                f"horizon must be lower, because target_speed is at least {param.low:g} m/s: {because}"
            )
        if fastest >= param.high:
            return param
        return replace(param, default=min(param.default, fastest), high=fastest, because=because)

    def _target_lateral(self) -> Param:
        """In the lane to keep, or in any lane of the road."""
        param = _CAR["target_lateral"]
        if self.keep_lane:
            return param
        lanes = ROADS[self.road].left_lanes + 1  # to the left of ours, with the oncoming one
        return replace(param, high=param.high + lanes * read_points(self.road)["lane_width"])

    @property
    def actors(self) -> int:
        """Other road users that are observed: the traffic, and one of the event."""
        return self.traffic + self.events

    @property
    def spec(self) -> EnvSpec:
        scale = [10.0, 1.0, 0.5, 0.2, 1.0, 0.2, 10.0]
        for distance in PREVIEW:
            scale += [distance, max(distance / 4.0, 2.0)]
        if self.events:
            scale += [30.0, 1.0, 50.0]
        scale += [30.0, 4.0, 10.0, 2.0, 1.0] * self.actors
        return EnvSpec(obs_dim=len(scale), act_dim=2, horizon=self.horizon, dt=DT, obs_scale=tuple(scale))

    @property
    def reward_range(self) -> tuple[float, float]:
        """Progress pays 1 at most, and the rest subtracts; speed and lateral position have no bound."""
        return (-inf, 1.0)

    @property
    def simulator(self) -> str:
        if self.backend == "carla":
            from mrl_tasks.driving.carla import simulator_name
            from mrl_tasks.driving.carla.server import Address

            return simulator_name(Address(self.carla_host, self.carla_port))
        return "driving 4"

    @property
    def one_process_only(self) -> bool:
        return self.backend == "carla"

    @property
    def data_files(self) -> tuple[Path, ...]:
        """The route along the road, and the map that a CARLA server gets. A town's map is the server's own."""
        if self.road not in ROADS:
            return ()
        route, map_ = route_path(self.road), xodr_path(self.road)
        return (route, map_) if self.backend == "carla" else (route,)

    def make(
        self, tasks: TaskBatch, episodes: int, device: torch.device, dtype: torch.dtype | None = None
    ) -> BatchEnv:
        """B x E cars: in numpy and float64 on the CPU, in torch elsewhere, in float32 unless `dtype` is given.

        Raises:
            MissingPart: the backend "carla" without the carla package, or its server does not answer.
            UsageError: a parameter of few values is not one of them.
        """
        require_listed_values(self.params, tasks)
        if self.backend == "carla":
            from mrl_tasks.driving.carla.backend import CarlaDrivingEnv

            return CarlaDrivingEnv(self, tasks, episodes, device, dtype)
        from mrl_tasks.driving.environment import DrivingEnv

        return DrivingEnv(self, tasks, episodes, device, dtype)

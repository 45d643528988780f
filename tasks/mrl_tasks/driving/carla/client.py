"""CARLA's client; the only module that imports its package. In CARLA's axes and units; see `axes.py` for ours."""

from __future__ import annotations

import fcntl
import socket
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

from mrl_bench.errors import MissingPart, MrlBenchError
from mrl_tasks.driving.carla.axes import Transform
from mrl_tasks.driving.carla.physics import Physics
from mrl_tasks.driving.carla.server import INSTALL, LIGHT_MAPS, Address

try:
    import carla
except ImportError:
    raise MissingPart(INSTALL) from None

TIMEOUT = 10.0  # [s] for a call; after it a server counts as dead
LOAD_TIMEOUT = 120.0  # [s] for a map: a real server builds its meshes


class MapError(ValueError):
    """A text is not a road network."""


class Signal(NamedTuple):
    """A traffic light of a map."""

    id: str
    transform: Transform
    stops: tuple[Transform, ...]  # where cars stop for it, one for each lane


class LanePoint(NamedTuple):
    """The middle of a lane somewhere."""

    transform: Transform  # facing the way that traffic goes
    width: float  # [m]


class Motion(NamedTuple):
    """Of an actor after the last tick."""

    transform: Transform
    velocity: tuple[float, float]  # [m/s] on the ground
    yaw_rate: float  # [deg/s] clockwise


class Contact(NamedTuple):
    """A report of a collision sensor: its car, and the actor that the car hit."""

    car: int
    other: int


def drivable_lanes(xodr: str, spacing: float) -> list[Transform]:
    """Points along every lane outside of junctions, `spacing` metres apart, facing the way that traffic goes.

    Raises:
        MapError: the text is no OpenDRIVE, or has no lane to drive on.
    """
    with _parsed(xodr) as road_map:
        waypoints = road_map.generate_waypoints(spacing)
    lanes = [_plain(waypoint.transform) for waypoint in waypoints if not waypoint.is_junction]
    if not lanes:
        raise MapError("it has no lane to drive on")
    return lanes


def ways(xodr: str, spacing: float, stride: float) -> Iterator[Iterator[LanePoint]]:
    """Points about every `stride` metres along the way of a car that keeps its lane and goes straight on at forks.

    One way from each of the points of `drivable_lanes`, in an order that is the map's alone; it goes on for ever if the
    road does. Raises: MapError: the text is no OpenDRIVE.
    """
    with _parsed(xodr) as road_map:
        starts = [start for start in road_map.generate_waypoints(spacing) if not start.is_junction]
        for start in sorted(starts, key=_number):
            yield _way(start, stride)


def _way(here: Any, stride: float) -> Iterator[LanePoint]:
    ahead = [here]
    while ahead:
        here = ahead[0] if len(ahead) == 1 else min(ahead, key=lambda lane: (_swing(lane), _number(lane)))
        yield LanePoint(_plain(here.transform), here.lane_width)
        ahead = here.next(stride)


def _number(lane: Any) -> tuple[int, int, float]:
    return lane.road_id, lane.lane_id, lane.s


def _swing(lane: Any) -> int:
    """Change of a lane's heading over the next 20 m [degrees], without sign."""
    far = lane.next(20.0)
    turned = float(far[0].transform.rotation.yaw - lane.transform.rotation.yaw) if far else 0.0
    return abs(round((turned + 180.0) % 360.0 - 180.0))


def traffic_signals(xodr: str) -> tuple[Signal, ...]:
    """Traffic lights, with the stop points on the lanes that they control: along the road, against it, or both."""
    sides = {carla.LandmarkOrientation.Positive: (-1,), carla.LandmarkOrientation.Negative: (1,)}
    signals = []
    with _parsed(xodr) as road_map:
        for mark in road_map.get_all_landmarks_of_type("1000001"):  # OpenDRIVE's number of a light
            lanes = [side * i for side in sides.get(mark.orientation, (-1, 1)) for i in range(1, 9)]
            found = (road_map.get_waypoint_xodr(mark.road_id, lane, mark.s) for lane in lanes)
            stops = (_plain(at.transform) for at in found if at and at.lane_type == carla.LaneType.Driving)
            signals.append(Signal(mark.id, _plain(mark.transform), tuple(stops)))
    return tuple(signals)


@contextmanager
def _parsed(xodr: str) -> Iterator[Any]:
    """A map. Query it within the context: some broken maps fail only at a query."""
    try:
        ElementTree.fromstring(xodr)  # says where it is wrong, which CARLA does not
        yield carla.Map("map", xodr)
    except (ElementTree.ParseError, RuntimeError, IndexError) as error:
        raise MapError(f"not OpenDRIVE: {error}") from None


def server_kind(server: Address) -> str:
    """ "light" for our own server, else the version of a real one.

    Raises:
        MissingPart: nothing answers there, or it is of another version than the client.
    """
    try:
        socket.create_connection(server, TIMEOUT).close()  # the client would wait for one that refuses
        client = carla.Client(server.host, server.port, 1)
        client.set_timeout(TIMEOUT)
        version, maps = client.get_server_version(), client.get_available_maps()
    except (OSError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or f"no answer within {TIMEOUT:.0f} s"
        raise MissingPart(f"no CARLA server at {server}: {reason}") from None
    if version != client.get_client_version():
        needed = client.get_client_version()
        raise MissingPart(f"the CARLA server at {server} is {version}, and its client here is {needed}")
    return "light" if any(name.startswith(LIGHT_MAPS) for name in maps) else version


class CarlaWorld:
    """The world of a server, in synchronous mode. One process at a time owns it; other processes wait until it ends.

    Commands to actors are collected and sent with the next tick, in their order.
    Every method raises MrlBenchError if the server does not answer, or refuses.
    """

    def __init__(self, server: Address, delta: float) -> None:
        """Connects. Args: delta: [s] a tick.

        Raises:
            MissingPart: as `server_kind`.
        """
        self._server, self._delta = server, delta
        self._lock = _lock(server)
        server_kind(server)  # it may have died while we waited for it
        self._client = carla.Client(server.host, server.port, 1)
        self._client.set_timeout(TIMEOUT)
        self._lost = False  # whether it has stopped answering
        self._loaded, self._commands = "", list[Any]()
        self._actors: dict[int, Any] = {}
        self._sensors: list[Any] = []
        self._contacts: list[Contact] = []
        with self._talking():
            self._world = self._client.get_world()
            self._settings = self._world.get_settings()

    def load(self, xodr: str) -> None:
        """A world of this OpenDRIVE map and nothing else; quick if it is loaded already."""
        parameters = carla.OpendriveGenerationParameters()
        self._begin(xodr, lambda: self._client.generate_opendrive_world(xodr, parameters))

    def load_town(self, name: str) -> None:
        """One of the server's own maps and nothing else; quick if it is loaded already."""
        self._begin(name, lambda: self._client.load_world(name))

    def road_network(self) -> str:
        """The map that is loaded, in OpenDRIVE."""
        with self._talking():
            return str(self._world.get_map().to_opendrive())

    def _begin(self, name: str, load: Callable[[], Any]) -> None:
        with self._talking():
            if self._loaded == name:
                self.clear()
                return
            self._forget()
            self._loaded = ""  # until loading succeeds: the server may refuse
            self._client.set_timeout(LOAD_TIMEOUT)
            try:
                self._world = load()
            finally:
                self._client.set_timeout(TIMEOUT)
            settings = self._world.get_settings()
            settings.synchronous_mode, settings.fixed_delta_seconds = True, self._delta
            settings.no_rendering_mode = True
            self._world.apply_settings(settings)
            self._loaded = name

    def spawn(self, blueprint: str, places: Sequence[Transform]) -> list[int]:
        """Actors of one kind, which stand still until they are released; their ids."""
        with self._talking():
            kind = self._world.get_blueprint_library().find(blueprint)
            made = self._client.apply_batch_sync(
                [carla.command.SpawnActor(kind, _foreign(place)) for place in places], False
            )
            ids = [response.actor_id for response in made if not response.error]
            self._actors |= {actor.id: actor for actor in self._world.get_actors(ids)}
            for response, place in zip(made, places, strict=True):
                if response.error:
                    where = f"({place.x:.1f}, {place.y:.1f})"
                    raise MrlBenchError(f"cannot put a {blueprint} at {where}: {response.error}")
        for number in ids:
            self._commands.append(carla.command.SetSimulatePhysics(number, False))
        return ids

    def watch(self, car: int) -> None:
        """Attaches a collision sensor."""
        with self._talking():
            kind = self._world.get_blueprint_library().find("sensor.other.collision")
            sensor = self._world.spawn_actor(kind, carla.Transform(), attach_to=self._actors[car])
            contacts = self._contacts
            sensor.listen(lambda event: contacts.append(Contact(car, event.other_actor.id)))
            self._sensors.append(sensor)

    def physics(self, car: int) -> Physics:
        """Of a vehicle as it is now."""
        with self._talking():
            control = self._actors[car].get_physics_control()
        wheels = control.wheels
        return Physics(
            mass=control.mass,
            mass_x=control.center_of_mass.x,
            friction_front=(wheels[0].tire_friction + wheels[1].tire_friction) / 2,
            friction_rear=(wheels[2].tire_friction + wheels[3].tire_friction) / 2,
            drag=control.drag_coefficient,
            max_steer=wheels[0].max_steer_angle,
            torque=max(point.y for point in control.torque_curve),
            brake_torque=sum(wheel.max_brake_torque for wheel in wheels) / len(wheels),
        )

    def set_physics(self, car: int, physics: Physics) -> None:
        """Replaces a vehicle's physics; its steering angle does not depend on speed."""
        with self._talking():
            control = self._actors[car].get_physics_control()
            wheels, centre = control.wheels, control.center_of_mass
            stronger = physics.torque / max(point.y for point in control.torque_curve)
            for i, wheel in enumerate(wheels):
                wheel.tire_friction = physics.friction_front if i < 2 else physics.friction_rear
                wheel.max_brake_torque = physics.brake_torque
                if i < 2:
                    wheel.max_steer_angle = physics.max_steer
            control.wheels = wheels
            control.mass, control.drag_coefficient = physics.mass, physics.drag
            control.center_of_mass = carla.Vector3D(physics.mass_x, centre.y, centre.z)
            control.torque_curve = [carla.Vector2D(p.x, p.y * stronger) for p in control.torque_curve]
            control.steering_curve = [carla.Vector2D(0.0, 1.0), carla.Vector2D(500.0, 1.0)]
            self._actors[car].apply_physics_control(control)

    def release(self, actor: int, on: bool = True) -> None:
        """Switches its physics simulation on or off."""
        self._commands.append(carla.command.SetSimulatePhysics(actor, on))

    def place(self, actor: int, transform: Transform, velocity: tuple[float, float]) -> None:
        """Puts it somewhere, with a velocity [m/s]."""
        self._commands.append(carla.command.ApplyTransform(actor, _foreign(transform)))
        self._commands.append(carla.command.ApplyTargetVelocity(actor, carla.Vector3D(*velocity, 0.0)))

    def control(self, car: int, throttle: float, steer: float, brake: float) -> None:
        """Pedals from 0 to 1; steering from -1 to 1, to the right."""
        control = carla.VehicleControl(throttle=throttle, steer=steer, brake=brake)
        self._commands.append(carla.command.ApplyVehicleControl(car, control))

    def push(self, car: int, force: tuple[float, float]) -> None:
        """A force [N] for one tick, in the axes of the world."""
        self._commands.append(carla.command.ApplyForce(car, carla.Vector3D(*force, 0.0)))

    def tick(self) -> None:
        """Sends the collected commands, and advances the world by a tick."""
        commands, self._commands = self._commands, []
        with self._talking():
            for response in self._client.apply_batch_sync(commands, False):
                if response.error:
                    raise MrlBenchError(f"the CARLA server at {self._server} refuses: {response.error}")
            self._world.tick(TIMEOUT)
            self._snapshot = self._world.get_snapshot()

    def motion(self, actor: int) -> Motion:
        """After the last tick."""
        found = self._snapshot.find(actor)
        if found is None:
            raise MrlBenchError(f"the CARLA server at {self._server} has lost actor {actor}")
        velocity = found.get_velocity()
        return Motion(_plain(found.get_transform()), (velocity.x, velocity.y), found.get_angular_velocity().z)

    def wheel_angle(self, car: int) -> float:
        """Of the front wheels [deg], to the right."""
        with self._talking():
            return float(self._actors[car].get_wheel_steer_angle(carla.VehicleWheelLocation.FL_Wheel))

    def contacts(self) -> list[Contact]:
        """Sensor reports since the last call. Reports are asynchronous and may be a tick late."""
        found = list(self._contacts)
        del self._contacts[: len(found)]
        return found

    def clear(self) -> None:
        """Removes all spawned actors, unless the server has stopped answering."""
        sensors, actors = self._sensors, list(self._actors)
        self._forget()
        if self._lost:
            return
        with self._talking():
            for sensor in sensors:
                sensor.stop()
            numbers = [sensor.id for sensor in sensors] + actors
            self._client.apply_batch_sync([carla.command.DestroyActor(number) for number in numbers], False)

    def close(self) -> None:
        """Removes all spawned actors and restores the server's settings. Never raises."""
        with suppress(MrlBenchError):
            self.clear()
            if not self._lost:
                with self._talking():
                    self._world.apply_settings(self._settings)
        self._lock.close()

    def _forget(self) -> None:
        """Forgets all actors without a call to the server, which may be dead or in another episode."""
        self._actors, self._sensors, self._commands, self._contacts = {}, [], [], []

    @contextmanager
    def _talking(self) -> Iterator[None]:
        try:
            yield
        except (RuntimeError, IndexError) as error:
            reason = " ".join(str(error).split())
            self._lost = self._lost or "time-out" in reason
            raise MrlBenchError(f"the CARLA server at {self._server}: {reason}") from None


def _lock(server: Address) -> Any:
    """A lock file that one process at a time holds; the system releases it however the process ends."""
    file = (Path(tempfile.gettempdir()) / f"mrl-bench-carla-{server.host}-{server.port}.lock").open("w")
    fcntl.flock(file, fcntl.LOCK_EX)
    return file


def _plain(of: Any) -> Transform:
    at, turn = of.location, of.rotation
    return Transform(at.x, at.y, at.z, turn.pitch, turn.yaw, turn.roll)


def _foreign(of: Transform) -> Any:
    return carla.Transform(carla.Location(*of[:3]), carla.Rotation(*of[3:]))

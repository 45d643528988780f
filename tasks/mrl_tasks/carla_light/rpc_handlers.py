"""The calls that the light server answers: each public method is one, by CARLA's name and with its arguments.

Ids, transforms and controls arrive as arrays, in the order of their fields. A method that returns None has no answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mrl_tasks.carla_light import blueprints, protocol
from mrl_tasks.carla_light.actors import GREEN, RED, YELLOW, TrafficLight, Walker
from mrl_tasks.carla_light.errors import Refused
from mrl_tasks.carla_light.maps import OPENDRIVE_WORLD, RoadMap, parse_map
from mrl_tasks.carla_light.vehicles import Vehicle
from mrl_tasks.carla_light.world import World
from mrl_tasks.driving.carla.axes import Transform
from mrl_tasks.driving.carla.client import MapError

# What `apply_batch` may contain besides a spawn: index of the command's type -> the call that does the same.
_SPAWN = 0
_COMMANDS = {
    1: "destroy_actor",
    2: "apply_control_to_vehicle",
    4: "apply_control_to_walker",
    5: "apply_physics_control",
    6: "set_actor_transform",
    7: "_set_walker_state",
    8: "set_actor_target_velocity",
    9: "set_actor_target_angular_velocity",
    10: "add_actor_impulse",
    11: "add_actor_force",
    14: "set_actor_simulate_physics",
    15: "set_actor_enable_gravity",
    16: "set_actor_autopilot",
    19: "set_actor_location",
    21: "set_traffic_light_state",
}


class RpcHandlers:
    """What clients may ask of one world."""

    def __init__(self, world: World, maps: Mapping[str, RoadMap], stream_port: int) -> None:
        self._world, self._maps, self._stream_port = world, maps, stream_port
        self._uploaded: RoadMap | None = None
        self._managers: dict[int, list[Any]] = {}  # TrafficManagers, which run in clients, by port

    # The episode, its map and its clock.

    def version(self) -> str:
        return protocol.VERSION

    def get_episode_info(self) -> list[Any]:
        return [self._world.episode, [protocol.token(protocol.WORLD_STREAM, self._stream_port)]]

    def get_sensor_token(self, stream: int) -> list[bytes]:
        return [protocol.token(stream, self._stream_port)]

    def get_available_maps(self) -> list[str]:
        return [road_map.path for road_map in self._maps.values()]

    def get_map_info(self) -> list[Any]:
        road_map = self._world.map
        return [road_map.path, [_transform_fields(point) for point in road_map.spawn_points]]

    def get_map_data(self) -> str:
        return self._world.map.xodr

    def get_required_files(self, folder: str = "") -> list[str]:
        return []  # the client fetches the road network by get_map_data, and there is no navigation mesh

    def copy_opendrive_to_file(self, xodr: str, parameters: list[Any]) -> None:
        try:
            self._uploaded = parse_map(OPENDRIVE_WORLD, xodr)
        except MapError as error:
            raise Refused(f"generate_opendrive_world: {error}") from None

    def load_new_episode(self, name: str, reset_settings: bool = True, layers: int = 0) -> None:
        name = name.rpartition("/")[2] or self._world.map.name  # no name: the same map again
        found = self._uploaded if name == OPENDRIVE_WORLD else self._maps.get(name)
        if found is None:
            raise Refused(f"there is no map {name!r}; this server has {', '.join(self._maps)}")
        if reset_settings:
            self._world.settings = protocol.episode_settings()
        self._managers.clear()
        self._world.load(found)

    def get_episode_settings(self) -> list[Any]:
        return self._world.settings

    def set_episode_settings(self, settings: list[Any]) -> int:
        self._world.settings = settings
        return self._world.frame

    def tick_cue(self) -> int:
        return self._world.tick()

    def get_weather_parameters(self) -> list[float]:
        return self._world.weather

    def set_weather_parameters(self, weather: list[float]) -> None:
        self._world.weather = weather  # to be read back: as in CARLA, it does nothing to a car

    # Actors.

    def get_actor_definitions(self) -> list[Any]:
        return blueprints.definitions()

    def get_spectator(self) -> list[Any]:
        return self._world.describe(self._world.spectator)

    def get_actors_by_id(self, numbers: list[int]) -> list[Any]:
        actors = self._world.actors
        return [self._world.describe(actors[number]) for number in numbers if number in actors]

    def spawn_actor(self, description: list[Any], transform: list[Any]) -> list[Any]:
        return self._world.describe(self._world.spawn(description, _transform(transform)))

    def spawn_actor_with_parent(
        self, description: list[Any], transform: list[Any], parent: int, attachment: int, socket: str = ""
    ) -> list[Any]:
        return self._world.describe(self._world.spawn(description, _transform(transform), parent))

    def destroy_actor(self, number: int) -> bool:
        self._world.destroy(number)
        return True

    def get_actor_bounding_box(self, number: int) -> list[Any]:
        return self._world.actor(number).box()

    def set_actor_transform(self, number: int, transform: list[Any]) -> None:
        self._world.actor(number).place(_transform(transform))

    def set_actor_location(self, number: int, location: list[float]) -> None:
        actor = self._world.actor(number)
        x, y, z = location
        actor.place(actor.transform._replace(x=x, y=y, z=z))

    def set_actor_target_velocity(self, number: int, velocity: list[float]) -> None:
        x, y, z = velocity
        self._world.actor(number).push((x, y, z))

    def set_actor_target_angular_velocity(self, number: int, velocity: list[float]) -> None:
        self._vehicle(number).spin(velocity[2])

    def set_actor_simulate_physics(self, number: int, on: bool) -> None:
        actor = self._world.actor(number)
        if isinstance(actor, Vehicle):  # nothing else has physics here, so there is nothing to switch
            actor.simulated = on

    def set_actor_enable_gravity(self, number: int, on: bool) -> None:
        self._world.actor(number)  # flat ground holds everything up

    def add_actor_force(self, number: int, force: list[float]) -> None:
        x, y, z = force
        self._vehicle(number).add_force((x, y, z))

    def add_actor_impulse(self, number: int, impulse: list[float]) -> None:
        x, y, z = impulse
        self._vehicle(number).add_impulse((x, y, z))

    # Vehicles and walkers.

    def apply_control_to_vehicle(self, number: int, control: list[Any]) -> None:
        self._vehicle(number).control = control

    def get_physics_control(self, number: int) -> list[Any]:
        return self._vehicle(number).physics

    def apply_physics_control(self, number: int, physics: list[Any]) -> None:
        self._vehicle(number).apply_physics(physics)

    def get_wheel_steer_angle(self, number: int, wheel: int) -> float:
        vehicle = self._vehicle(number)
        return vehicle.wheel_angle() if wheel < 2 else 0.0  # the front wheels are 0 and 1

    def set_vehicle_light_state(self, number: int, state: list[int]) -> None:
        self._vehicle(number).lamps = state[0]

    def get_vehicle_light_state(self, number: int) -> list[int]:
        return [self._vehicle(number).lamps]

    def get_vehicle_light_states(self) -> list[Any]:
        actors = self._world.actors.values()
        return [[actor.id, actor.lamps] for actor in actors if isinstance(actor, Vehicle)]

    def apply_control_to_walker(self, number: int, control: list[Any]) -> None:
        walker = self._world.actor(number)
        if not isinstance(walker, Walker):
            raise Refused(f"actor {number} is a {walker.kind}, not a walker")
        walker.control = control

    # TrafficManager: it drives from within a client; the server keeps a list of them.

    def set_actor_autopilot(self, number: int, on: bool, *port: int) -> None:
        self._vehicle(number)

    def is_traffic_manager_running(self, port: int) -> bool:
        return port in self._managers

    def get_traffic_manager_running(self, port: int) -> list[Any]:
        return self._managers.get(port, ["", 0])

    def add_traffic_manager_running(self, manager: list[Any]) -> bool:
        return self._managers.setdefault(manager[1], manager) is manager

    def destroy_traffic_manager(self, port: int) -> bool:
        return self._managers.pop(port, None) is not None

    # Traffic lights, and street lamps, of which there are none.

    def set_traffic_light_state(self, number: int, colour: int) -> None:
        self._light(number).show(colour)

    def set_traffic_light_green_time(self, number: int, seconds: float) -> None:
        self._light(number).durations[GREEN] = seconds

    def set_traffic_light_yellow_time(self, number: int, seconds: float) -> None:
        self._light(number).durations[YELLOW] = seconds

    def set_traffic_light_red_time(self, number: int, seconds: float) -> None:
        self._light(number).durations[RED] = seconds

    def freeze_traffic_light(self, number: int, frozen: bool) -> None:
        self._light(number).frozen = frozen

    def freeze_all_traffic_lights(self, frozen: bool) -> None:
        for light in self._lights():
            light.frozen = frozen

    def reset_traffic_light_group(self, number: int) -> None:
        self._light(number).show(GREEN)

    def reset_all_traffic_lights(self) -> None:
        for light in self._lights():
            light.show(GREEN)

    def get_group_traffic_lights(self, number: int) -> list[int]:
        return [self._light(number).id]

    def get_light_boxes(self, number: int) -> list[Any]:
        return [self._light(number).box()]

    def query_lights_state(self, client: str) -> list[Any]:
        return []

    # Many calls in one.

    def apply_batch(self, commands: list[Any], tick: bool) -> list[Any]:
        """Responses to commands: the id of the actor, or an error, which does not stop the remaining commands."""
        responses = [self._respond(command) for (command,) in commands]
        if tick:
            self._world.tick()
        return responses

    def _respond(self, command: list[Any]) -> list[Any]:
        try:
            return protocol.answer(self._do(command))
        except Refused as error:
            return protocol.refusal(str(error), answers=True)

    def _do(self, command: list[Any]) -> int:
        """Does one command of a batch; returns the id of its actor."""
        kind, arguments = command
        if kind == _SPAWN:
            description, transform, (attached, *parent), _, _, then = arguments
            place = _transform(transform)
            actor = self._world.spawn(description, place, parent[0] if attached else 0)
            for ((later, (_, *rest)),) in then:  # these were written for an actor that had no id yet
                self._do([later, [actor.id, *rest]])
            return actor.id
        if kind not in _COMMANDS:
            raise Refused(f"light server: command {kind} of apply_batch is not served")
        getattr(self, _COMMANDS[kind])(*arguments)
        return int(arguments[0])

    def _set_walker_state(self, number: int, transform: list[Any], speed: float) -> None:
        self.set_actor_transform(number, transform)

    def _vehicle(self, number: int) -> Vehicle:
        actor = self._world.actor(number)
        if not isinstance(actor, Vehicle):
            raise Refused(f"actor {number} is a {actor.kind}, not a vehicle")
        return actor

    def _light(self, number: int) -> TrafficLight:
        actor = self._world.actor(number)
        if not isinstance(actor, TrafficLight):
            raise Refused(f"actor {number} is a {actor.kind}, not a traffic light")
        return actor

    def _lights(self) -> list[TrafficLight]:
        return [actor for actor in self._world.actors.values() if isinstance(actor, TrafficLight)]


def _transform(fields: list[Any]) -> Transform:
    (x, y, z), (pitch, yaw, roll) = fields
    return Transform(x, y, z, pitch, yaw, roll)


def _transform_fields(transform: Transform) -> list[Any]:
    return [list(transform[:3]), list(transform[3:])]

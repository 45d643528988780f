"""What the tests do with CARLA's real client, one function a test, each in a process of its own."""

from __future__ import annotations

import math
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import carla
from carla_kit import light_server


def connect(port: int) -> tuple[Any, Any]:
    """A client, and a fresh world in synchronous mode at 20 Hz."""
    client = carla.Client("127.0.0.1", port, 1)
    client.set_timeout(10.0)
    world = client.reload_world()
    _synchronise(world)
    return client, world


def _synchronise(world: Any) -> None:
    settings = world.get_settings()
    settings.synchronous_mode, settings.fixed_delta_seconds = True, 0.05
    world.apply_settings(settings)


def _put(world: Any, blueprint: str, x: float, y: float = 1.75, yaw: float = 0.0) -> Any:
    place = carla.Transform(carla.Location(x, y, 0.3), carla.Rotation(yaw=yaw))
    return world.spawn_actor(world.get_blueprint_library().find(blueprint), place)


def _car(world: Any, x: float, y: float = 1.75, speed: float = 0.0) -> Any:
    car = _put(world, "vehicle.tesla.model3", x, y)
    car.set_target_velocity(carla.Vector3D(speed, 0.0, 0.0))
    return car


def _error(call: Callable[[], Any]) -> str:
    try:
        call()
    except (RuntimeError, IndexError) as error:
        return str(error)
    return ""


def versions_and_maps(port: int) -> dict[str, Any]:
    client = carla.Client("127.0.0.1", port, 1)
    client.set_timeout(10.0)
    world = client.get_world()
    before = world.wait_for_tick(5.0).frame
    return {
        "server": client.get_server_version(),
        "client": client.get_client_version(),
        "maps": list(client.get_available_maps()),
        "map": world.get_map().name,
        "ticks_by_itself": world.wait_for_tick(5.0).frame > before,
    }


def opendrive_world(port: int, xodr: str) -> dict[str, Any]:
    client, old = connect(port)
    world = client.generate_opendrive_world(xodr, carla.OpendriveGenerationParameters())
    road = world.get_map()
    end = max(point.location.x for point in road.get_spawn_points())
    return {
        "episode_changed": world.id != old.id,
        "map": road.name,
        "lane_width": road.get_waypoint(carla.Location(10.0, 1.75, 0.0)).lane_width,
        "spawn_points": len(road.get_spawn_points()),
        "last_spawn_point": end,
        "asynchronous_again": not world.get_settings().synchronous_mode,
    }


def settings_and_clock(port: int) -> dict[str, Any]:
    _, world = connect(port)
    frames = [world.tick() for _ in range(5)]
    first = world.get_snapshot().timestamp
    time.sleep(0.3)
    still = world.get_snapshot().frame
    world.tick()
    second = world.get_snapshot().timestamp
    return {
        "frames": frames,
        "delta": world.get_settings().fixed_delta_seconds,
        "waits_for_the_client": still == frames[-1] == first.frame,
        "elapsed": second.elapsed_seconds - first.elapsed_seconds,
    }


def physics_round_trip(port: int) -> dict[str, Any]:
    _, world = connect(port)
    car = _car(world, 10.0)
    world.tick()
    physics = car.get_physics_control()
    wheels = physics.wheels
    for wheel in wheels:
        wheel.tire_friction = 1.75
    physics.wheels, physics.mass, physics.center_of_mass = wheels, 1875.0, carla.Vector3D(0.25, 0.0, -0.5)
    car.apply_physics_control(physics)
    back = car.get_physics_control()
    wrong = car.get_physics_control()
    wrong.mass = -1.0
    car.apply_physics_control(wrong)
    return {
        "mass": back.mass,
        "centre": back.center_of_mass.x,
        "frictions": [wheel.tire_friction for wheel in back.wheels],
        "mass_after_a_wrong_one": car.get_physics_control().mass,
    }


def stopping_distance(port: int, friction: float, patch: bool) -> float:
    """From 20 m/s under full brakes; the friction is that of the wheels, or of a patch on the road."""
    _, world = connect(port)
    car = _car(world, 10.0)
    if patch:
        blueprint = world.get_blueprint_library().find("static.trigger.friction")
        blueprint.set_attribute("friction", str(friction))
        for axis in "xyz":
            blueprint.set_attribute(f"extent_{axis}", "100000.0")
        world.spawn_actor(blueprint, carla.Transform())
    else:
        physics = car.get_physics_control()
        wheels = physics.wheels
        for wheel in wheels:
            wheel.tire_friction = friction
        physics.wheels = wheels
        car.apply_physics_control(physics)
    world.tick()
    start = car.get_location().x
    car.apply_control(carla.VehicleControl(brake=1.0))
    for _ in range(20):  # the brakes are on before it moves
        world.tick()
    car.set_target_velocity(carla.Vector3D(20.0, 0.0, 0.0))
    for _ in range(600):
        world.tick()
        if car.get_velocity().length() < 0.01:
            break
    return float(car.get_location().x - start)


def trajectory(port: int) -> list[list[float]]:
    """200 ticks of throttle and steering: x, y, yaw, speed, yaw rate after each."""
    _, world = connect(port)
    car = _car(world, 20.0, speed=8.0)
    rows = []
    for t in range(200):
        car.apply_control(carla.VehicleControl(throttle=0.3, steer=0.05 * math.sin(t / 15.0)))
        world.tick()
        place, speed = car.get_transform(), car.get_velocity()
        turn = car.get_angular_velocity().z
        rows.append([place.location.x, place.location.y, place.rotation.yaw, speed.length(), turn])
    return rows


def steering_sides(port: int) -> dict[str, float]:
    _, world = connect(port)
    car = _car(world, 20.0, speed=8.0)
    car.apply_control(carla.VehicleControl(steer=0.2))
    for _ in range(20):
        world.tick()
    angle = car.get_wheel_steer_angle(carla.VehicleWheelLocation.FL_Wheel)
    return {"y": car.get_location().y, "yaw": car.get_transform().rotation.yaw, "wheel": angle}


def pushed_by_force(port: int, force: float, ticks: int) -> dict[str, float]:
    """A car that coasts at 10 m/s with and without a headwind, and the mass that both have."""
    _, world = connect(port)
    calm, windy = _car(world, 20.0, 1.75, 10.0), _car(world, 20.0, 5.25, 10.0)
    for _ in range(ticks):
        windy.add_force(carla.Vector3D(-force, 0.0, 0.0))
        world.tick()
    lost = calm.get_velocity().x - windy.get_velocity().x
    return {"lost": lost, "mass": calm.get_physics_control().mass}


def collision(port: int) -> dict[str, Any]:
    _, world = connect(port)
    car, wall = _car(world, 20.0, speed=10.0), _put(world, "vehicle.audi.tt", 40.0)
    sensor = world.spawn_actor(
        world.get_blueprint_library().find("sensor.other.collision"), carla.Transform(), attach_to=car
    )
    events: list[Any] = []
    sensor.listen(events.append)
    gaps = {}
    for _ in range(60):
        frame = world.tick()
        gaps[frame] = wall.get_location().x - car.get_location().x - car.bounding_box.extent.x
        gaps[frame] -= wall.bounding_box.extent.x
    time.sleep(0.3)  # events come in a thread of the client's
    touched = [frame for frame, gap in gaps.items() if gap < 0.0]
    result = {
        "first_event": events[0].frame,
        "first_touch": touched[0],
        "other": events[0].other_actor.type_id,
        "impulse": events[0].normal_impulse.x,
        "mass": car.get_physics_control().mass,
        "wall_moved": wall.get_velocity().length() > 0.1 or wall.get_location().x > 40.1,
    }
    sensor.stop()
    return result


def lane_invasion(port: int) -> int:
    _, world = connect(port)
    car = _car(world, 20.0, speed=8.0)
    blueprint = world.get_blueprint_library().find("sensor.other.lane_invasion")
    sensor = world.spawn_actor(blueprint, carla.Transform(), attach_to=car)
    events: list[Any] = []
    sensor.listen(events.append)
    for _ in range(80):
        car.apply_control(carla.VehicleControl(steer=0.1))
        world.tick()
    time.sleep(0.3)
    sensor.stop()
    return len(events)


def walker(port: int) -> dict[str, Any]:
    _, world = connect(port)
    person = _put(world, "walker.pedestrian.0001", 30.0, 8.0)
    world.tick()
    person.apply_control(carla.WalkerControl(direction=carla.Vector3D(0.0, -1.0, 0.0), speed=1.5))
    for _ in range(40):
        world.tick()
    return {
        "y": person.get_location().y,
        "speed": person.get_velocity().length(),
        "asked": person.get_control().speed,
        "yaw": person.get_transform().rotation.yaw,
    }


def traffic_light(port: int) -> dict[str, Any]:
    _, world = connect(port)
    light = world.get_actors().filter("traffic.traffic_light*")[0]
    near, far = _car(world, 195.0), _car(world, 150.0)
    against = _put(world, "vehicle.tesla.model3", 205.0, -1.75, 180.0)
    seen = []
    for colour in (carla.TrafficLightState.Red, carla.TrafficLightState.Green):
        light.set_state(colour)
        world.tick()
        seen.append(str(near.get_traffic_light_state()))
    light.set_green_time(1.0)
    colours = []
    for _ in range(100):
        world.tick()
        colours.append(str(light.state))
    light.freeze(True)
    world.tick()
    frozen = str(light.state)
    for _ in range(300):
        world.tick()
    return {
        "id": light.get_opendrive_id(),
        "at_it": [car.is_at_traffic_light() for car in (near, far, against)],
        "seen": seen,
        "green_ticks": colours.count("Green"),
        "yellow_ticks": colours.count("Yellow"),
        "stays": frozen == str(light.state) and light.is_frozen(),
    }


def batch(port: int) -> dict[str, Any]:
    client, world = connect(port)
    library = world.get_blueprint_library()
    command = carla.command
    spawns = [
        command.SpawnActor(
            library.find("vehicle.audi.tt"), carla.Transform(carla.Location(x, 1.75, 0.3), carla.Rotation())
        ).then(command.ApplyVehicleControl(command.FutureActor, carla.VehicleControl(throttle=0.5)))
        for x in (20.0, 40.0, 60.0, 61.0)
    ]
    responses = client.apply_batch_sync(spawns, True)
    for _ in range(40):
        world.tick()
    made = world.get_actors([response.actor_id for response in responses if not response.error])
    speeds = [car.get_velocity().length() for car in made]
    gone = client.apply_batch_sync([command.DestroyActor(car.id) for car in made], True)
    return {
        "errors": [response.error for response in responses],
        "speeds": speeds,
        "destroyed": [response.error for response in gone],
        "left": len(world.get_actors().filter("vehicle.*")),
    }


def destroy(port: int) -> dict[str, Any]:
    _, world = connect(port)
    car = _car(world, 20.0)
    world.tick()
    there = len(world.get_actors().filter("vehicle.*"))
    answered = car.destroy()
    world.tick()
    return {"there": there, "answered": answered, "left": len(world.get_actors().filter("vehicle.*"))}


def weather(port: int) -> dict[str, float]:
    _, world = connect(port)
    world.set_weather(carla.WeatherParameters.HardRainNoon)
    back = world.get_weather()
    return {
        "precipitation": back.precipitation,
        "expected": carla.WeatherParameters.HardRainNoon.precipitation,
    }


def refusals(port: int) -> dict[str, Any]:
    """What goes wrong, what the client says of it, and whether the server is well afterwards."""
    client, world = connect(port)
    car = _car(world, 20.0)
    world.tick()
    library = world.get_blueprint_library()
    again = library.find("vehicle.audi.tt")
    ends = carla.Location(), carla.Location(1.0, 1.0, 1.0)
    found = {
        "occupied": _error(lambda: world.spawn_actor(again, car.get_transform())),
        "occupied, tried": str(world.try_spawn_actor(again, car.get_transform())),
        "no such town": _error(lambda: client.load_world("Nowhere")),
        "no map": _error(lambda: client.generate_opendrive_world("no map")),
        "no road": _error(lambda: client.generate_opendrive_world("<OpenDRIVE></OpenDRIVE>")),
        "not served": _error(lambda: world.cast_ray(*ends)),
        "not served, without an answer": _error(lambda: world.load_map_layer(carla.MapLayer.All)),
        "no such blueprint": _error(lambda: library.find("vehicle.none")),
    }
    before = world.get_snapshot().frame
    return found | {"well": world.tick() == before + 1}


def traffic_manager(port: int) -> dict[str, Any]:
    """Five cars on autopilot. Only where nothing outside can reach: TrafficManager listens on all addresses."""
    client, world = connect(port)
    manager = client.get_trafficmanager(8123)
    manager.set_synchronous_mode(True)
    manager.set_random_device_seed(0)
    cars = [_car(world, x) for x in range(10, 110, 20)]
    world.tick()
    for car in cars:
        car.set_autopilot(True, manager.get_port())
    starts = [car.get_location() for car in cars]
    for _ in range(200):
        world.tick()
    road = world.get_map()
    offsets = [
        car.get_location().distance(road.get_waypoint(car.get_location()).transform.location) for car in cars
    ]
    moved = [car.get_location().distance(start) for car, start in zip(cars, starts, strict=True)]
    manager.shut_down()
    return {"moved": moved, "offsets": offsets}


def traffic_manager_with_a_server(folder: str) -> dict[str, Any]:
    """`traffic_manager` and its server, in the network of this process."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    with light_server(Path(folder)) as (_, port):
        return traffic_manager(port)

"""CARLA's real client, unmodified, against the light server."""

from __future__ import annotations

import math
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from carla_kit import STRAIGHT, light_server, needs_carla, run_in_another_process
from mrl_tasks.driving.vehicle import STANDARD, CarState, Command, step

pytestmark = needs_carla


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    with light_server(tmp_path) as (_, port):
        yield port


def ask(function: str, *arguments: Any, before: tuple[str, ...] = ()) -> Any:
    return run_in_another_process("carla_clients", function, *arguments, before=before)


def test_the_client_takes_it_for_its_own_version_and_can_tell_that_it_is_light(port: int) -> None:
    found = ask("versions_and_maps", port)
    assert found["server"] == found["client"] == "0.9.16"
    assert found["map"] == "Light/Maps/straight"
    assert found["maps"] == ["Light/Maps/straight"]
    assert found["ticks_by_itself"]


def test_an_opendrive_world_is_loaded_and_begins_an_episode(port: int) -> None:
    wider = STRAIGHT.replace('length="400"', 'length="250"').replace('a="3.5"', 'a="3.25"')
    found = ask("opendrive_world", port, wider)
    assert found["map"].endswith("OpenDriveMap")
    assert found["lane_width"] == pytest.approx(3.25)
    assert found["spawn_points"] == 3 * 10  # lanes, and points 25 m apart on each
    assert found["last_spawn_point"] < 250
    assert found["episode_changed"]
    assert found["asynchronous_again"]


def test_in_synchronous_mode_the_world_waits_for_the_client(port: int) -> None:
    found = ask("settings_and_clock", port)
    first = found["frames"][0]
    assert found["frames"] == list(range(first, first + 5))
    assert found["delta"] == pytest.approx(0.05)
    assert found["waits_for_the_client"]
    assert found["elapsed"] == pytest.approx(0.05)


def test_physics_are_read_back_as_they_were_written_and_nonsense_changes_nothing(port: int) -> None:
    found = ask("physics_round_trip", port)
    assert found["mass"] == found["mass_after_a_wrong_one"] == 1875.0
    assert found["centre"] == 0.25
    assert found["frictions"] == [1.75] * 4


@pytest.mark.parametrize("patch", [False, True], ids=["wheels", "static.trigger.friction"])
def test_half_the_friction_stops_a_car_in_twice_the_distance(port: int, patch: bool) -> None:
    dry, slippery = (ask("stopping_distance", port, friction, patch) for friction in (3.5, 1.75))
    assert dry == pytest.approx(20.0**2 / (2 * 9.81), rel=0.05)  # 3.5 is a friction coefficient of 1
    assert slippery == pytest.approx(2 * dry, rel=0.05)


def test_a_drive_is_repeated_to_the_bit_and_is_that_of_the_embedded_car(port: int) -> None:
    first, second = ask("trajectory", port), ask("trajectory", port)
    assert len(first) == 200
    assert first == second
    state = CarState(20.0, -1.75, 0.0, 8.0, 0.0, 0.0, 0.0, 0.0)
    for t, row in enumerate(first):
        state = step(np, state, STANDARD, Command(-0.05 * math.sin(t / 15.0), 0.3), 0.0, 0.0)
        expected = [
            *(state.x, -state.y, -math.degrees(state.yaw)),
            *(math.hypot(state.vx, state.vy), -math.degrees(state.yaw_rate)),
        ]
        assert row == pytest.approx(expected, abs=1e-4), f"after tick {t}"


def test_positive_steering_turns_to_the_right(port: int) -> None:
    found = ask("steering_sides", port)
    assert found["y"] > 1.8  # y is to the right
    assert found["yaw"] > 1.0
    assert found["wheel"] == pytest.approx(0.2 * 34.377, rel=0.01)


def test_a_force_changes_the_velocity_by_its_impulse_over_the_mass(port: int) -> None:
    one, ten = (ask("pushed_by_force", port, 1500.0, ticks) for ticks in (1, 10))
    assert one["lost"] == pytest.approx(1500.0 * 0.05 / one["mass"], rel=0.01)
    # Air resistance, which falls, is the difference.
    assert ten["lost"] == pytest.approx(10 * one["lost"], rel=0.05)


def test_a_collision_is_reported_in_the_tick_in_which_the_boxes_touch(port: int) -> None:
    found = ask("collision", port)
    assert found["first_event"] == found["first_touch"]
    assert found["other"] == "vehicle.audi.tt"
    # Perfectly inelastic between equal masses: half of the momentum, of about 9.5 m/s by then.
    assert -0.5 * found["mass"] * 10.0 < found["impulse"] < -0.5 * found["mass"] * 8.5
    assert found["wall_moved"]


def test_the_client_sees_lane_invasions(port: int) -> None:
    assert ask("lane_invasion", port) >= 1


def test_a_walker_follows_its_control(port: int) -> None:
    found = ask("walker", port)
    assert found["y"] == pytest.approx(8.0 - 40 * 0.05 * 1.5, abs=1e-3)
    assert found["speed"] == found["asked"] == pytest.approx(1.5)
    assert found["yaw"] == pytest.approx(-90.0)


def test_a_light_of_the_map_is_seen_from_its_lanes_alone_and_changes(port: int) -> None:
    found = ask("traffic_light", port)
    assert found["id"] == "7"
    assert found["at_it"] == [True, False, False]
    assert found["seen"] == ["Red", "Green"]
    assert found["green_ticks"] == 18  # of the 20 in 1 s; one had passed, and in the last it changes
    assert found["yellow_ticks"] == 60
    assert found["stays"]


def test_a_batch_spawns_and_commands_and_one_failure_stops_none(port: int) -> None:
    found = ask("batch", port)
    assert [bool(error) for error in found["errors"]] == [False, False, False, True]
    assert "collision at spawn" in found["errors"][3]
    assert len(found["speeds"]) == 3
    assert min(found["speeds"]) > 1.0
    assert not any(found["destroyed"])
    assert found["left"] == 0


def test_a_destroyed_car_is_gone(port: int) -> None:
    assert ask("destroy", port) == {"there": 1, "answered": True, "left": 0}


def test_weather_is_read_back(port: int) -> None:
    found = ask("weather", port)
    assert found["precipitation"] == found["expected"] > 0


def test_what_cannot_be_is_refused_in_one_line_and_the_server_is_well_after_it(port: int) -> None:
    found = ask("refusals", port)
    assert "collision at spawn position" in found["occupied"]
    assert found["occupied, tried"] == "None"
    assert "no map 'Nowhere'" in found["no such town"]
    assert "not OpenDRIVE" in found["no map"]
    assert "no lane" in found["no road"]
    assert "cast_ray is not served" in found["not served"]
    assert "load_map_layer is not served" in found["not served, without an answer"]
    assert "not found" in found["no such blueprint"]
    assert all("\n" not in str(text) for text in found.values())
    assert found["well"]


def test_noise_on_the_port_closes_that_connection_alone(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as noisy:
        noisy.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert noisy.recv(100) == b""
    assert ask("destroy", port)["answered"]


def test_it_listens_on_loopback_alone(port: int) -> None:
    listening = "0A"  # state of a socket in /proc/net/tcp
    tables = [Path("/proc/net/tcp"), Path("/proc/net/tcp6")]
    lines = [
        line.split() for table in tables if table.exists() for line in table.read_text().splitlines()[1:]
    ]
    if not lines:
        pytest.skip("no /proc/net/tcp here")
    hosts = {
        line[1].partition(":")[0]
        for line in lines
        if line[3] == listening and line[1].endswith(f":{port:04X}")
    }
    assert hosts == {"0100007F"}


def test_a_file_that_is_no_map_and_a_taken_port_end_in_one_line(tmp_path: Path, port: int) -> None:
    wrong, cut, broken = (tmp_path / name for name in ("wrong.xodr", "cut.xodr", "broken.xodr"))
    wrong.write_text("no map")
    cut.write_text(STRAIGHT[:300])
    broken.write_text(STRAIGHT.replace("planView", "view"))
    right = tmp_path / "straight.xodr"
    for arguments, code, text in (
        ([str(wrong)], 2, "wrong.xodr: not a map: not OpenDRIVE: syntax error: line 1, column 0"),
        ([str(cut)], 2, "cut.xodr: not a map: not OpenDRIVE: unclosed token: line 6, column 11"),
        ([str(right), str(broken)], 2, "broken.xodr: not a map: CARLA's parser crashes on it"),
        ([str(tmp_path / "none.xodr")], 2, "none.xodr: not a map"),
        ([str(right), "--port", str(port)], 1, f"cannot serve on 127.0.0.1:{port}"),
        ([str(right), "--port", "70000"], 2, "70000 is no port"),
    ):
        run = subprocess.run(
            [sys.executable, "-m", "mrl_bench", "carla-serve", *arguments],
            capture_output=True,
            text=True,
            timeout=30,
        )
        assert run.returncode == code, run.stderr
        assert text in run.stderr.splitlines()[-1]
        assert run.stdout == ""


def test_it_ends_well_when_it_is_terminated(tmp_path: Path) -> None:
    with light_server(tmp_path) as (server, port):
        ask("destroy", port)
        server.terminate()
        assert server.wait(timeout=10) == 0


def test_traffic_manager_drives_cars(tmp_path: Path) -> None:
    alone = ("unshare", "-n")
    try:
        allowed = (
            subprocess.run([*alone, "ip", "link", "set", "lo", "up"], capture_output=True).returncode == 0
        )
    except OSError:
        allowed = False
    if not allowed:
        pytest.skip("`unshare -n` is not allowed here, and TrafficManager would listen on all addresses")
    found = ask("traffic_manager_with_a_server", str(tmp_path), before=alone)
    assert max(found["offsets"]) < 1.0
    assert sum(moved > 10.0 for moved in found["moved"]) >= 3

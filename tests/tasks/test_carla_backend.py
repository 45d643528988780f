"""The CARLA backend, driven through CARLA's real client on the light server."""

from __future__ import annotations

import json
import math
import re
import signal
import subprocess
import tokenize
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import mrl_tasks
import pytest
from bench_kit import Cli, ship_references
from carla_kit import light_server, needs_carla, run_in_another_process
from forked_code import execute
from mrl_tasks.driving.carla.map_tiling import side_by_side
from mrl_tasks.driving.family import Driving
from mrl_tasks.driving.roads import xodr_path

from mrl_bench.cli.bench import entries_with_options
from mrl_bench.cli.main import _parser
from mrl_bench.errors import MissingPart, SourceError
from mrl_bench.runs.run import Run
from mrl_bench.scenario import list_scenarios, load_scenario
from mrl_bench.scenario.suite import AgentSpec, load_suite

DRIVING = [name for name in list_scenarios() if name.startswith("drive-")]

# CARLA reports positions in float32, which up to 512 m from the origin is to 0.03 mm.
PLACE, REWARD = 1e-4, 1e-5  # [m], 1


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with light_server(tmp_path_factory.mktemp("maps")) as (_, port):
        yield port


def ask(function: str, *arguments: Any) -> Any:
    return run_in_another_process("carla_drives", function, *arguments)


@needs_carla
@pytest.mark.parametrize("road", ["s_bends", "loop"])
def test_200_steps_are_the_same_on_both_backends(port: int, road: str) -> None:
    found = ask("parity", port, road)
    assert found["steps"] == 200, "the episodes ended early, so this compares little"
    assert found["first"] == 0.0
    assert found["place"] < PLACE
    assert found["obs"] < PLACE
    assert found["reward"] < REWARD
    assert found["return"] < 1e-4
    here, there = found["scores"]
    assert here["driving_score"] == pytest.approx(there["driving_score"], rel=1e-4)


@needs_carla
def test_a_backend_that_is_one_step_late_does_not_pass_for_the_same(port: int) -> None:
    late = ask("parity", port, "s_bends", True)
    assert late["place"] > 100 * PLACE
    assert late["reward"] > 10 * REWARD


@needs_carla
def test_every_event_happens_in_the_same_step_on_both_backends(port: int) -> None:
    found = ask("events", port)
    assert found["place"] < PLACE
    assert found["reward"] < REWARD
    here, there = found["scores"]
    assert here.keys() == there.keys()
    assert here["collisions"] == there["collisions"]
    assert here["driving_score"] == pytest.approx(there["driving_score"], rel=1e-4)
    ended = [instance for _, embedded, carla in found["ends"] for instance in embedded]
    assert all(embedded == carla for _, embedded, carla in found["ends"])
    assert len(ended) >= 3, "hardly any car met its event, so this compares little"


@pytest.fixture(scope="module")
def played(port: int) -> Any:
    return ask("scenarios", port, DRIVING)


@needs_carla
@pytest.mark.parametrize("name", DRIVING)
def test_every_driving_scenario_is_played(played: Any, name: str) -> None:
    found = played[name]
    assert found["simulator"] == "carla 0.9.16, server: light"
    assert found["steps"] >= 10
    assert found["sound"]
    assert all(0.0 <= score <= 100.0 for score in found["scores"])


@needs_carla
def test_in_a_town_every_instance_has_a_separate_stretch_of_lane(tmp_path: Path) -> None:
    road = xodr_path("curve").read_text()
    hill = '<elevationProfile><elevation s="0" a="5" b="0" c="0" d="0"/></elevationProfile>'
    town = side_by_side(road.replace("<elevationProfile/>", hill), [(0.0, 0.0), (100.0, 500.0)])
    with light_server(tmp_path, Town99=town) as (_, port):
        found = ask("town", port, "Town99")
    assert found["place"] < PLACE
    assert found["reward"] < REWARD
    assert all(embedded == carla for _, embedded, carla in found["ends"])
    assert found["ends"], "no car met its event, so this compares little"
    apart = [math.dist(*pair) for pair in combinations(found["places"], 2)]
    assert len(apart) == 28
    assert min(apart) > 18.0  # of the 20 m between stretches; a car starts up to 0.8 m off its lane's middle
    assert found["heights"] == pytest.approx([5.3] * 8)
    (other, unknown), (small, reason) = found["refused"]
    assert small == "UsageError"
    assert re.fullmatch(r"Town99 has \d+ stretches of lane of 160 m, and 100 cars need one each: .*", reason)
    assert other == "MrlBenchError"
    assert "there is no map 'Nowhere'; this server has straight, Town99" in unknown


def test_a_town_without_a_server_or_with_traffic_is_refused_where_it_is_named(tmp_path: Path) -> None:
    for backend, road, column, reason in (
        ("embedded", "Town04", 17, "a town needs a CARLA server, and 'backend: carla'"),
        ("embedded", "s_bend", 17, "no road 's_bend': did you mean 's_bends'?"),
        ("carla", "Town04", 50, "in a town a car keeps to its lane, without traffic: 'keep_lane: true'"),
    ):
        with pytest.raises(SourceError, match=re.escape(reason)) as caught:
            load_scenario(_scenario(tmp_path, backend=backend, road=road))
        assert (caught.value.line, caught.value.column) == (5, column)


@needs_carla
def test_environments_take_turns_on_a_server_and_instances_are_independent(port: int) -> None:
    found = ask("taking_turns", port)
    assert "reset this one" in found["refused"]
    assert found["same"]
    assert found["apart"] < PLACE  # not to the bit: their copies of the map lie elsewhere


@needs_carla
def test_nothing_is_left_on_the_server(port: int) -> None:
    found = ask("leaves_nothing", port)
    assert found["during"] == 2 * (1 + 3)
    assert found["after"] == found["sensors"] == 0
    assert found["asynchronous"]


@needs_carla
def test_a_start_that_is_occupied_is_one_clear_error_and_leaves_nothing(port: int) -> None:
    found = ask("occupied", port)
    assert "cannot put a vehicle.tesla.model3 at (" in found["reason"]
    assert "collision at spawn position" in found["reason"]
    assert found["left"] == 2


@needs_carla
def test_cars_whose_episode_has_ended_stand_still(port: int) -> None:
    assert ask("ended_cars_stand", port) < 1e-3


@needs_carla
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["dies", "hangs"])
def test_a_server_that_dies_or_hangs_in_an_episode_is_one_clear_error(tmp_path: Path, number: int) -> None:
    with light_server(tmp_path) as (server, port):
        found = ask("server_fails", port, server.pid, int(number))
    assert f"the CARLA server at 127.0.0.1:{port}" in found["reason"]
    assert "\n" not in found["reason"]
    assert found["seconds"] < 5.0  # the client waits for 2 there


def _mrl_bench(*arguments: str, without_carla: bool = False) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, where CARLA's client can end it."""
    hide = (
        "sys.modules['carla'] = None" if without_carla else ""
    )  # so Python says that there is no such module
    lines = ("import sys", hide, f"sys.argv[1:] = {arguments!r}", "from mrl_bench.cli.main import main")
    return execute("\n".join([*lines, "sys.exit(main())"]))


def test_without_the_carla_package_one_line_says_what_to_install(tmp_path: Path) -> None:
    scenario = _scenario(tmp_path)
    for arguments in (["check", str(scenario)], ["bench", "--suite", "drive-carla"], ["carla-calibrate"]):
        run = _mrl_bench(*arguments, without_carla=True)
        assert run.returncode == 3
        assert run.stderr.splitlines() == [
            "mrl-bench: CARLA's Python package is not installed: pip install 'mrl-bench[carla]' "
            "(Python 3.11 or 3.12, x86-64)"
        ]


@needs_carla
def test_without_a_server_one_line_says_so(tmp_path: Path) -> None:
    scenario = _scenario(tmp_path, options="carla_port: 9")
    for arguments in (
        ["check", str(scenario)],
        ["bench", "--suite", "drive-carla", "--carla-port", "9"],
        ["carla-calibrate", "--carla-port", "9"],
    ):
        run = _mrl_bench(*arguments)
        assert run.returncode == 3
        assert run.stderr.splitlines() == ["mrl-bench: no CARLA server at 127.0.0.1:9: Connection refused"]


def test_a_wrong_port_is_refused_where_it_is_named(tmp_path: Path) -> None:
    for command in ("bench", "carla-calibrate"):
        run = _mrl_bench(command, "--carla-port", "70000")
        assert run.returncode == 2
        assert "'70000' is no port: a number from 1 to 65535" in run.stderr
    with pytest.raises(SourceError, match="'carla_port' must be 65535 or less, not 70000"):
        load_scenario(_scenario(tmp_path, options="carla_port: 70000"))


def test_the_address_of_the_server_is_not_in_the_environment() -> None:
    """Options hand it over. MuJoCo reads its renderer from the environment, so locomotion alone may use it."""
    package = Path(mrl_tasks.__file__).parent
    readers = [path.relative_to(package) for path in package.rglob("*.py") if "environ" in names_in(path)]
    assert {path.parts[0] for path in readers} <= {"locomotion"}


def test_bench_puts_the_address_into_the_options_of_driving_scenarios_alone(tmp_path: Path) -> None:
    suite = tmp_path / "both.yaml"
    suite.write_text(
        "id: both\ndoc: Two families.\nseeds: 1\nscenarios:\n"
        "  - {scenario: drive-steering-v3, options: {backend: carla}}\n  - {scenario: cartpole-wiring-v1}\n"
    )
    planned = load_suite(suite)
    options = _parser().parse_args(["bench", "--suite", str(suite), "--carla-port", "2010"])
    driving, cartpole = entries_with_options(planned, options)
    assert driving.scenario.options == {**planned.entries[0].scenario.options, "carla_port": 2010}
    assert (driving.scenario.family.carla_host, driving.scenario.family.carla_port) == ("127.0.0.1", 2010)
    assert driving.scenario.budget == planned.entries[0].scenario.budget
    assert cartpole == planned.entries[1]


def test_a_digest_does_not_depend_on_the_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Driving, "simulator", "carla 0.9.16, server: light")
    scenario = load_scenario(_scenario(tmp_path))
    elsewhere = scenario.with_options({"carla_host": "localhost", "carla_port": 2001})
    assert (elsewhere.family.carla_host, elsewhere.family.carla_port) == ("localhost", 2001)
    assert elsewhere.digest == scenario.digest
    assert scenario.with_options({"traffic": 1}).digest != scenario.digest


def test_the_address_reaches_workers_and_a_dead_server_does_not_undo_the_plan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dead(family: Driving) -> str:
        raise MissingPart("no CARLA server")

    scenario = load_scenario(_scenario(tmp_path, options="carla_port: 9"))
    run = Run(scenario, AgentSpec("random", "random", {}), 0, "cpu")
    with monkeypatch.context() as patched:
        patched.setattr(Driving, "simulator", "carla 0.9.16, server: light")
        data = json.loads(json.dumps(run.to_json()))
    monkeypatch.setattr(Driving, "simulator", property(dead))
    again = Run.from_json(data)
    assert again.scenario.family == scenario.family
    assert again.key("evaluate") == run.key("evaluate")
    del data["simulator"]
    with pytest.raises(MissingPart):
        Run.from_json(data)


def names_in(path: Path) -> set[str]:
    """The names and attributes in a module's code, without comments and strings."""
    with tokenize.open(path) as file:
        tokens = tokenize.generate_tokens(file.readline)
        return {token.string for token in tokens if token.type == tokenize.NAME}


@needs_carla
def test_a_bench_drives_on_the_server_and_says_which_it_was(tmp_path: Path, port: int) -> None:
    suite = tmp_path / "little.yaml"
    _scenario(tmp_path, backend="embedded")
    suite.write_text(
        "id: little\ndoc: One short scenario.\nseeds: 1\n"
        "scenarios: [{scenario: ./drive-little-v1.yaml, options: {backend: carla}}]\n"
    )
    out = tmp_path / "run"
    run = _mrl_bench(
        *("bench", "--suite", str(suite), "--out", str(out), "--workers", "2", "--device", "cpu"),
        *("--carla-host", "127.0.0.1", "--carla-port", str(port)),
    )
    assert run.returncode == 0, run.stderr + run.stdout
    assert any("server: light" in path.read_text() for path in out.glob("*.json"))


@needs_carla
def test_a_server_that_is_killed_in_a_bench_fails_its_runs_alone(tmp_path: Path) -> None:
    for id in ("drive-little-v1", "drive-small-v1"):
        path = _scenario(tmp_path, id, backend="embedded")
    ship_references(load_scenario(path))  # of drive-small-v1, which has a run of its own
    suite, out = tmp_path / "little.yaml", tmp_path / "run"
    endless = "{meta_train: 1e9, blind: 1e9, oracle: 1e9}"
    suite.write_text(
        "id: little\ndoc: One short scenario, here and there.\nseeds: 1\nscenarios:\n"
        f"  - {{scenario: ./drive-little-v1.yaml, options: {{backend: carla}}, budget: {endless}}}\n"
        "  - {scenario: ./drive-small-v1.yaml, agents: {learner: {agent: toy_agents:Learner}}}\n"
    )
    with light_server(tmp_path) as (server, port):
        bench = Cli(
            *("bench", "--suite", suite, "--out", out, "--workers", 2, "--device", "cpu"),
            *("--time-limit", 60, "--carla-port", port),
        )
        assert ask("kill_while_cars_drive", port, server.pid) > 1.0
        code, output, errors = bench.end()
    assert code == 1
    assert errors.splitlines()[-1].startswith("mrl-bench: 3 of 4 runs failed")
    assert bench.is_gone()
    ends = dict(
        re.findall(
            r"^\[\d/4\]  (\S+ \w+) seed 0(?:, [\d,]+ env steps)? in \d+ s: (.*?)(?:; [^;]* left in total)?$",
            output,
            re.MULTILINE,
        )
    )
    assert len(ends) == 4
    little = sorted(reason for run, reason in ends.items() if run.startswith("drive-little-v1"))
    refused = f"FAILED: MissingPart: no CARLA server at 127.0.0.1:{port}: Connection refused"
    assert little[:2] == [refused] * 2, "one waited for the server, one came when it was gone"
    assert little[2].startswith(f"FAILED: MrlBenchError: the CARLA server at 127.0.0.1:{port}: time-out")
    small = [result for run, result in ends.items() if run.startswith("drive-small-v1")]
    assert [result[:7] for result in small] == ["return "]


def _scenario(
    folder: Path,
    id: str = "drive-little-v1",
    backend: str = "carla",
    road: str = "straight",
    options: str = "traffic: 0",
) -> Path:
    """A scenario of 5 steps that costs next to nothing."""
    path = folder / f"{id}.yaml"
    path.write_text(
        f"id: {id}\ndoc: A little drive.\nfamily: driving\nhorizon: 5\n"
        f"options: {{road: {road}, backend: {backend}, {options}}}\n"
        "params: {mass: {uniform: [1200, 2000]}}\nsplits: {test: {count: 2, seed: 1}}\n"
        "budget: {meta_train: 40, blind: 2000, oracle: 2000}\n"
        "protocol: {k: [0, 1], episodes_per_round: 1, scored_episodes: 1}\n"
    )
    return path


@needs_carla
def test_the_light_servers_own_car_is_the_embedded_one(port: int) -> None:
    run = _mrl_bench("carla-calibrate", "--carla-port", str(port))
    assert run.returncode == 0, run.stderr
    rows = {line.split("  ")[0]: line.split() for line in run.stdout.splitlines()[1:]}
    assert list(rows) == ["coast down", "pull away", "brake", "circle", "step steer"]
    for row in rows.values():
        match, standard = float(row[-2]), float(row[-1])
        assert match == pytest.approx(standard, rel=0.01, abs=0.01)


@needs_carla
def test_calibration_finds_the_parameters_of_another_car() -> None:
    from mrl_tasks.driving.carla.calibrate import embedded, match
    from mrl_tasks.driving.vehicle import STANDARD

    other = STANDARD._replace(
        drag=0.7, drive_force=4500.0, friction_front=0.7, friction_rear=0.7, max_steer=0.5
    )
    matches = match(lambda speed, commands: embedded(other, speed, commands))
    found = {each.manoeuvre.fields[0]: each.value for each in matches}
    assert found.pop("mass_offset") == pytest.approx(0.0, abs=0.01)
    assert found == {name: pytest.approx(getattr(other, name), rel=0.01) for name in found}
    weak = STANDARD._replace(drive_force=10.0)  # out of bounds, and said to be
    values = {
        m.manoeuvre.name: m.value for m in match(lambda speed, commands: embedded(weak, speed, commands))
    }
    assert values["pull away"] is None

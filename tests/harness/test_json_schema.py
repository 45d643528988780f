"""The JSON Schemas for editors accept what mrl-bench accepts, and know all options and parameters."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from jsonschema import Draft202012Validator
from mrl_tasks.locomotion.parameters import Task
from mrl_tasks.locomotion.robots import ROBOTS
from test_broken_suites import GOOD as SUITE
from yaml_kit import edited

from mrl_bench import registry
from mrl_bench.scenario import find_scenario, list_scenarios, scenarios_dir
from mrl_bench.scenario.json_schema import scenario_schema, suite_schema
from mrl_bench.scenario.suite import suites_dir
from mrl_bench.scenario.yaml_reader import parse, read

SCENARIO = (scenarios_dir() / "cartpole-target-v1.yaml").read_text(encoding="utf-8")
SCHEMAS = {"scenario": Draft202012Validator(scenario_schema()), "suite": Draft202012Validator(suite_schema())}


def refused(kind: str, data: Any) -> list[str]:
    return [f"{error.json_path}: {error.message}" for error in SCHEMAS[kind].iter_errors(data)]


@pytest.mark.parametrize("path", sorted(scenarios_dir().glob("*.yaml")), ids=lambda path: path.stem)
def test_every_scenario_fits_its_schema(path: Path) -> None:
    assert not refused("scenario", read(path).data)


@pytest.mark.parametrize("path", sorted(suites_dir().glob("*.yaml")), ids=lambda path: path.stem)
def test_every_suite_fits_its_schema(path: Path) -> None:
    assert not refused("suite", read(path).data)


@pytest.mark.parametrize(
    "edits",
    [
        {"horizon: 200": "horizon: many"},
        {"horizon: 200": "horizon: 0"},
        {"horizon: 200": "horzion: 200"},
        {"id: cartpole-target-v1": "id: Cartpole"},
        {"family: cartpole": "family: cartpol"},
        {"{reward: target}": "{reward: targett}"},
        {"{reward: target}": "{rewrad: target}"},
        {"  wiring:": "  wirring:"},
        {"gravity: {uniform: [7, 12]}": "gravity: {unifrom: [7, 12]}"},
        {"gravity: {uniform: [7, 12]}": "gravity: {uniform: [7]}"},
        {"gravity: {uniform: [7, 12]}": "gravity: heavy"},
        {"[3.5, 5], [15, 20]": "[3.5, x], [15, 20]"},
        {"      pole_half_length: {uniform: [1, 1.5]}": "      pole_length: 3"},
        {"meta_train: 1e6, ": ""},
        {"blind: 3.4e6": "blind: -1"},
    ],
)
def test_the_schema_of_scenarios_refuses(edits: dict[str, str]) -> None:
    assert not refused("scenario", parse(SCENARIO, "good").data)
    assert refused("scenario", parse(edited(SCENARIO, edits), "bad").data)


@pytest.mark.parametrize(
    "edits",
    [
        {"seeds: 3": "seeds: 0"},
        {"seeds: 3": "sedes: 3"},
        {"dqn: {set": "dqn: {st"},
        {"agent: 'unusable_agents:Bounded'": "agent: mamll"},
        {"- scenario: cartpole-wiring-v1": "- scenrio: cartpole-wiring-v1"},
        {"{meta_train: 1e4}": "{meta_trian: 1e4}"},
        {"k: [0, 2]": "k: []"},
    ],
)
def test_the_schema_of_suites_refuses(edits: dict[str, str]) -> None:
    assert not refused("suite", parse(SUITE, "good").data)
    assert refused("suite", parse(edited(SUITE, edits), "bad").data)


@pytest.mark.parametrize("kind", SCHEMAS)
def test_a_schema_is_plain_json_and_a_valid_schema(kind: str) -> None:
    schema = SCHEMAS[kind].schema
    assert json.loads(json.dumps(schema)) == schema
    Draft202012Validator.check_schema(schema)


def rule(family: str) -> dict[str, Any]:
    rules = {rule["if"]["properties"]["family"]["const"]: rule for rule in scenario_schema()["allOf"]}
    found: dict[str, Any] = rules[family]["then"]["properties"]
    return found


def families() -> Iterator[tuple[str, Any]]:
    for name in list_scenarios():
        scenario = find_scenario(name)
        yield scenario.family_name, scenario.family
    locomotion, driving = (registry.find("family", name) for name in ("locomotion", "driving"))
    for robot in ROBOTS:
        for task in get_args(Task):
            if task not in ("heading", "goal") or ROBOTS[robot].root.place == 2:
                yield "locomotion", locomotion(robot=robot, task=task)
    yield "driving", driving(traffic=6, events=True)


def test_the_schema_offers_all_parameters_of_every_robot_road_and_task() -> None:
    offered = {name: set(rule(name)["params"]["propertyNames"]["enum"]) for name in registry.names("family")}
    for name, family in families():
        assert family.params.keys() <= offered[name], family
    assert {"body_mass[*]", "body_mass[=]"} <= offered["locomotion"]


def test_the_schema_names_the_options_of_a_family_with_their_bounds() -> None:
    options = rule("cartpole")["options"]["properties"]
    assert options["reward"]["enum"] == ["balance", "target"]
    assert "horizon" not in options
    traffic = rule("driving")["options"]["properties"]["traffic"]
    assert (traffic["minimum"], traffic["maximum"]) == (0, 6)

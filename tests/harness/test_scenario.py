import dataclasses
import random
import re
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from bench_kit import make_scenario
from yaml_kit import edited, marked, mutant

from mrl_bench.errors import SourceError, UsageError
from mrl_bench.family import HasMetrics, Renderable
from mrl_bench.keyed_random import uniforms
from mrl_bench.protocol.training import _TASKS_PER_SEED
from mrl_bench.scenario import (
    Budget,
    Protocol,
    find_scenario,
    list_scenarios,
    load_scenario,
    privileged,
    scenarios_dir,
)
from mrl_bench.scenario import scenario as scenario_module

GOOD = """\
id: toy-v1
doc: A toy.
family: toy_family:Toy
options: {mode: slow}
horizon: 50
params:
  gain: {uniform: [2, 5]}
  sign: {choice: [-1, 1]}
  body_mass[head]: 1.5
splits:
  train: {}
  test: {count: 21, seed: 1}
  ood: {count: 8, seed: 2, params: {gain: {uniform: [5, 8]}}}
budget: {meta_train: 3.2e6, blind: 5e5, oracle: 3200000}
protocol: {k: [0, 6], episodes_per_round: 3, scored_episodes: 4}
"""


@pytest.fixture
def toy(tmp_path):
    """Loads the good scenario, with replacements."""

    def load_toy(edits=None):
        path = tmp_path / "toy-v1.yaml"
        path.write_text(edited(GOOD, edits or {}), encoding="utf-8")
        return load_scenario(path)

    return load_toy


# What a file becomes


def test_a_scenario_says_what_its_file_says(toy, tmp_path):
    scenario = toy()
    assert (scenario.id, scenario.doc, scenario.horizon) == ("toy-v1", "A toy.", 50)
    assert scenario.family_name == "toy_family:Toy"
    assert (scenario.family.horizon, scenario.family.mode) == (50, "slow")
    assert scenario.options == {"mode": "slow"}
    assert scenario.budget == Budget(meta_train=3_200_000, blind=500_000, oracle=3_200_000)
    assert type(scenario.budget.meta_train) is int
    assert scenario.protocol == Protocol(k=(0, 6), episodes_per_round=3, scored_episodes=4)
    assert list(scenario.splits) == ["train", "test", "ood"]
    assert scenario.path == tmp_path / "toy-v1.yaml"


def test_what_may_be_left_out_has_defaults(toy):
    scenario = toy({"options: {mode: slow}\n": "", "  train: {}\n": "", GOOD[GOOD.index("protocol") :]: ""})
    assert scenario.protocol == Protocol()
    assert scenario.protocol.k == (0, 1, 2, 3, 5, 10)
    assert scenario.options == {}
    assert "ood" not in toy({GOOD[GOOD.index("  ood") : GOOD.index("budget")]: ""}).splits


def test_options_reach_the_family(toy):
    options = "{mode: fast, friction: 1, legs: 6.0, grid: [1, 2], loud: true}"
    family = toy({"{mode: slow}": options}).family
    assert (family.mode, family.friction, family.legs, family.grid, family.loud) == (
        "fast",
        1.0,
        6,
        (1, 2),
        True,
    )
    assert type(family.legs) is int
    assert type(family.friction) is float


def test_reference_agents_get_the_budget_of_all_agents_by_default(toy):
    budget = toy({", blind: 5e5, oracle: 3200000": ""}).budget
    assert (budget.blind, budget.oracle) == (3_200_000, 3_200_000)


def test_a_scenario_does_not_change(toy):
    with pytest.raises(dataclasses.FrozenInstanceError):
        toy().horizon = 3


# Tasks


def test_tasks_name_every_parameter_and_keep_defaults(toy):
    tasks = toy().tasks("test")
    assert tasks.names == tuple(toy().family.params)
    assert tasks.values.shape == (21, 6)
    assert (tasks.column("body_mass[head]") == 1.5).all()
    assert (tasks.column("body_mass[foot]") == 3.0).all()
    assert (tasks.column("delay") == 0.0).all()


def test_draws_lie_in_their_distributions(toy):
    scenario = toy()
    for tasks in (scenario.tasks("test"), scenario.tasks("train"), scenario.stream(7, 100)):
        assert tasks.column("gain").min() >= 2
        assert tasks.column("gain").max() <= 5
        assert set(tasks.column("sign")) == {-1.0, 1.0}
    ood = scenario.tasks("ood")
    assert ood.column("gain").min() >= 5
    assert ood.column("gain").max() <= 8
    assert set(ood.column("sign")) == {-1.0, 1.0}  # not named there, so distributed as in training


def test_a_value_depends_on_its_address_alone(toy):
    scenario = toy()
    many = scenario.stream(0, 60).values
    np.testing.assert_array_equal(scenario.stream(17, 5).values, many[17:22])
    few, more = (scenario.tasks("train", count).values for count in (30, 60))
    np.testing.assert_array_equal(few, more[:30])
    assert not {tuple(task) for task in more} & {tuple(task) for task in many}  # no seed trains on the list
    other = toy({"sign: {choice: [-1, 1]}": "delay: {choice: [1, 2]}"})
    np.testing.assert_array_equal(other.stream(0, 60).column("gain"), scenario.stream(0, 60).column("gain"))
    longer = toy({"count: 21": "count: 40"}).tasks("test")
    np.testing.assert_array_equal(longer.column("gain")[:21], scenario.tasks("test").column("gain"))


def test_splits_and_seeds_are_different_streams(toy):
    scenario, other = toy(), toy({"train: {}": "train: {seed: 1}"})
    columns = [
        scenario.tasks("test").column("gain"),
        scenario.stream(0, 21).column("gain"),
        other.stream(0, 21).column("gain"),
        toy({"count: 21, seed: 1": "count: 21, seed: 2"}).tasks("test").column("gain"),
    ]
    values = np.concatenate(columns)
    assert len(np.unique(values)) == len(values)


def test_the_stream_goes_on_far_out(toy):
    far = toy().stream(5 * 2**32, 3)
    assert len(np.unique(np.concatenate([far.column("gain"), toy().stream(0, 3).column("gain")]))) == 6


def test_lists_are_stratified_and_streams_are_not(toy):
    for count in (2, 3, 21, 50):
        signs = toy({"count: 21": f"count: {count}"}).tasks("test").column("sign")
        assert abs((signs == 1).sum() - (signs == -1).sum()) == count % 2
    delays = toy({"sign: {choice: [-1, 1]}": "delay: {choice: [3, 0, 1]}"}).tasks("test").column("delay")
    assert [(delays == value).sum() for value in (0, 1, 3)] == [7, 7, 7]
    signs = toy().stream(0, 1000).column("sign").reshape(20, 50)
    assert len(set((signs == 1).sum(1))) > 5


def test_stratified_values_ascend_with_the_uniform_draws(toy):
    order = uniforms(("task", "test", 1, "sign"), 21).argsort()
    assert (np.diff(toy().tasks("test").column("sign")[order]) >= 0).all()


def test_stratified_parameters_are_independent_of_each_other(toy):
    two = {"body_mass[head]: 1.5": "delay: {choice: [0, 3]}"}
    correlations = []
    for seed in range(40):
        tasks = toy(two | {"count: 21, seed: 1": f"count: 50, seed: {seed}"}).tasks("test")
        correlations.append(np.corrcoef(tasks.column("sign"), tasks.column("delay"))[0, 1])
    assert abs(np.mean(correlations)) < 4 / np.sqrt(40 * 50)
    assert (
        0.5 < np.std(correlations) * np.sqrt(50) < 1.5
    )  # as of independent draws: neither paired nor forced apart


def test_a_finite_training_set_is_a_list_that_the_stream_picks_from(toy):
    scenario = toy({"train: {}": "train: {count: 4, seed: 3}"})
    tasks = scenario.tasks("train")
    assert len(tasks) == 4
    assert sorted(tasks.column("sign")) == [-1, -1, 1, 1]
    rows = [tuple(row) for row in tasks.values]
    picks = [rows.index(tuple(row)) for row in scenario.stream(0, 4000).values]
    assert np.bincount(picks).min() > 900  # as likely, each
    again = [rows.index(tuple(row)) for row in scenario.stream(100, 50).values]
    assert again == picks[100:150]


def test_no_seed_trains_on_a_task_that_is_scored(toy):
    scenario = toy()
    scored = {tuple(task) for split in scenario.splits for task in scenario.tasks(split).values}
    for seed in range(3):
        trained_on = scenario.stream(seed * _TASKS_PER_SEED, 20_000).values
        assert scored.isdisjoint(map(tuple, trained_on))


def test_a_pattern_means_every_parameter_in_brackets(toy):
    each = toy({"body_mass[head]: 1.5": "body_mass[*]: {uniform: [1, 2]}"}).stream(0, 50)
    masses = np.stack([each.column(f"body_mass[{part}]") for part in ("head", "torso", "foot")])
    assert len(np.unique(masses)) == 150
    shared = toy({"body_mass[head]: 1.5": "body_mass[=]: {uniform: [1, 2]}\n  body_mass[foot]: 3"}).stream(
        0, 50
    )
    np.testing.assert_array_equal(shared.column("body_mass[head]"), shared.column("body_mass[torso]"))
    assert len(np.unique(shared.column("body_mass[head]"))) == 50
    assert (shared.column("body_mass[foot]") == 3).all()  # its own entry counts


def test_a_parameter_by_name_is_drawn_as_it_is_by_pattern(toy):
    pattern = toy({"body_mass[head]: 1.5": "body_mass[*]: {uniform: [1, 2]}"}).stream(0, 9)
    named = toy({"body_mass[head]: 1.5": "body_mass[head]: {uniform: [1, 2]}"}).stream(0, 9)
    np.testing.assert_array_equal(pattern.column("body_mass[head]"), named.column("body_mass[head]"))


def test_features_scale_what_varies_in_training(toy):
    scenario = toy({"body_mass[head]: 1.5": "body_mass[head]: {log_uniform: [0.5, 2]}"})
    stream = scenario.stream(0, 200)
    features = privileged(scenario).family.features(stream)  # gain, sign, body_mass[head]
    assert features.shape == (200, 3)
    assert np.abs(features).max() <= 1.0
    np.testing.assert_allclose(features[:, 0], (stream.column("gain") - 3.5) / 1.5)
    np.testing.assert_array_equal(features[:, 1], stream.column("sign"))
    np.testing.assert_allclose(features[:, 2], np.log2(stream.column("body_mass[head]")))
    assert (privileged(scenario).family.features(scenario.tasks("ood"))[:, 0] > 1.0).all()


def test_features_know_parameters_that_vary_only_out_of_distribution(toy):
    scenario = toy({"{gain: {uniform: [5, 8]}}": "{'body_mass[foot]': {uniform: [4, 5]}}"})
    assert privileged(scenario).family.features(scenario.tasks("test")).shape == (21, 3)
    foot = privileged(scenario).family.features(scenario.tasks("ood"))[:, 2]
    assert len(np.unique(foot)) == 8
    assert np.abs(foot).max() <= 1


def test_features_know_a_parameter_that_is_constant_in_training_and_another_in_ood(tmp_path):
    """Without it, the oracle of this scenario had a return of 15.9 on ood tasks instead of 100."""
    scenario = make_scenario(
        tmp_path,
        params={"gravity": {"uniform": [7, 12]}},
        splits={"test": {"count": 3}, "ood": {"count": 2, "params": {"wiring": -1}}},
    )
    features = {
        split: privileged(scenario).family.features(scenario.tasks(split)) for split in scenario.splits
    }
    assert features["test"].shape == (3, 2)  # gravity and wiring
    assert features["test"][:, 1].tolist() == features["train"][:, 1].tolist() == [1, 1, 1]
    assert features["ood"][:, 1].tolist() == [-1, -1]


def test_a_privileged_scenario_has_the_digest_and_the_methods_of_the_plain_one(tmp_path):
    scenario = find_scenario("drive-steering-v3")
    seen, tasks = privileged(scenario), scenario.tasks("test")
    assert seen.digest == scenario.digest
    env = seen.family.make(tasks, 1, torch.device("cpu"))
    assert isinstance(env, HasMetrics)
    assert isinstance(env, Renderable)
    assert hasattr(type(env), "metrics")  # from Python 3.12 on, `isinstance` looks at the class alone
    assert env.reset(0).shape[-1] == seen.spec.obs_dim > scenario.spec.obs_dim
    env.close()


def test_the_oracle_trains_on_both_distributions_and_on_no_listed_task(toy):
    scenario = toy()
    tasks = privileged(scenario).stream(0, 60)
    outside = tasks.column("gain") > 5
    assert 20 <= outside.sum() <= 40
    np.testing.assert_array_equal(tasks.values[~outside], scenario.stream(0, 60).values[~outside])
    listed = {tuple(row) for split in ("test", "ood") for row in scenario.tasks(split).values}
    assert not listed & {tuple(row) for row in tasks.values}


def test_an_unknown_split_is_refused(toy):
    with pytest.raises(UsageError, match="no split 'tets': did you mean 'test'"):
        toy().tasks("tets")


# Held-out tasks

DISCRETE = {"gain: {uniform: [2, 5]}": "delay: {choice: [0, 1]}", "gain: {uniform: [5, 8]}": "delay: 2"}


def test_held_out_tasks_may_repeat_training_tasks_only_where_it_says_so(toy):
    with pytest.raises(SourceError, match="test task 0 is also a training task"):
        toy(DISCRETE)
    scenario = toy(DISCRETE | {"count: 21": "may_repeat_train: true, count: 21"})
    assert len(scenario.tasks("test")) == 21


def test_held_out_tasks_of_two_long_lists_are_checked_quickly(toy):
    start = time.process_time()
    scenario = toy({"train: {}": "train: {count: 10000}", "{count: 21, seed: 1}": "{count: 10000, seed: 1}"})
    assert scenario.digest
    assert time.process_time() - start < 2.0
    listed = scenario.splits["train"]
    assert listed.may_draw(listed.tasks.values).all()
    assert not listed.may_draw(scenario.tasks("test").values).any()


def test_a_finite_training_set_leaves_room_for_held_out_tasks(toy):
    finite = {"train: {}": "train: {count: 2}", "count: 21": "count: 2"}
    scenario = toy(finite)
    train = {tuple(row) for row in scenario.tasks("train").values}
    assert not train & {tuple(row) for row in scenario.tasks("test").values}
    with pytest.raises(SourceError, match="is also a training task"):
        toy(DISCRETE | finite | {"{choice: [-1, 1]}": "1"})  # there are two tasks in all


def test_one_parameter_out_of_its_training_range_keeps_ood_tasks_out_of_training(toy):
    edits = DISCRETE | {"count: 21": "may_repeat_train: true, count: 21"}
    edits["gain: {uniform: [5, 8]}"] = "delay: 2, sign: 1"
    scenario = toy(edits)
    train = {tuple(row) for row in scenario.stream(0, 100).values}
    assert not train & {tuple(row) for row in scenario.tasks("ood").values}


# Digest


def test_the_digest_ignores_how_a_file_is_written(toy, tmp_path):
    digest = toy().digest
    assert re.fullmatch("[0-9a-f]{16}", digest)
    lines = GOOD.splitlines(keepends=True)
    other = tmp_path / "other" / "toy-v1.yaml"
    other.parent.mkdir()
    other.write_text(
        "# A comment.\n" + "".join(lines[13:] + lines[5:9] + lines[:5] + lines[9:13]), encoding="utf-8"
    )
    assert load_scenario(other).digest == digest
    same = {
        "A toy.": "Another sentence.",
        "{mode: slow}": "{legs: 4}",  # both are defaults
        "{uniform: [2, 5]}": "{uniform: [2.0, 0.5e1]}",
        "1.5": "{fixed: 1.5}",
        "3.2e6": "3200000",
        "5e5": "6e5",  # of a reference agent
        "train: {}": "train: {seed: 0}",
        "count: 21": "may_repeat_train: false, count: 21",
    }
    for old, new in same.items():
        assert toy({old: new}).digest == digest, new


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("toy_family:Toy", "toy_family:Twin"),
        ("slow", "fast"),
        ("{mode: slow}", "{friction: 0.6}"),
        ("horizon: 50", "horizon: 51"),
        ("[2, 5]", "[2, 4.5]"),
        ("{uniform: [2", "{log_uniform: [2"),
        ("[-1, 1]", "[1, -1]"),
        ("1.5", "1.6"),
        ("[head]: 1.5", "[*]: 1.5"),
        ("train: {}", "train: {seed: 1}"),
        ("train: {}", "train: {count: 30}"),
        ("count: 21", "count: 22"),
        ("seed: 1}", "seed: 3}"),
        ("[5, 8]", "[6, 8]"),
        ("seed: 2, ", "seed: 4, "),
        ("meta_train: 3.2e6", "meta_train: 3.1e6"),
        ("[0, 6]", "[0, 9]"),
        ("scored_episodes: 4", "scored_episodes: 5"),
    ],
)
def test_the_digest_changes_with_every_change_of_meaning(toy, old, new):
    assert toy({old: new}).digest != toy().digest
    changes_tasks = not any(word in new for word in ("meta_train", "[0, 9]", "scored_episodes"))
    assert (toy({old: new}).tasks_digest != toy().tasks_digest) == changes_tasks


def test_the_digest_is_that_of_the_family_whatever_it_is_called(tmp_path):
    source = scenarios_dir() / "cartpole-wiring-v1.yaml"
    text = edited(
        source.read_text(encoding="utf-8"), {"family: cartpole": "family: mrl_tasks.cartpole:CartPole"}
    )
    (tmp_path / source.name).write_text(text, encoding="utf-8")
    assert load_scenario(tmp_path / source.name).digest == load_scenario(source).digest


def test_the_digest_changes_with_simulator_and_terms(toy, monkeypatch):
    scenario = toy()
    other = scenario.with_overrides(budget=dataclasses.replace(scenario.budget, meta_train=7))
    assert (other.budget.meta_train, other.protocol) == (7, scenario.protocol)
    longer = scenario.with_overrides(protocol=Protocol(k=(0, 7)))
    digests = {scenario.digest, other.digest, longer.digest}
    monkeypatch.setattr("toy_family.Toy.simulator", "toy 2")
    digests.add(toy().digest)
    assert len(digests) == 4


# Refusals: each edit marks with ^^ where the error has to be reported

OOD = "{count: 8, seed: 2, params: {gain: {uniform: [5, 8]}}}"
MOVED = "params: {gain: {uniform: [5, 8]}}"
BUDGET = "{meta_train: 3.2e6, blind: 5e5, oracle: 3200000}"
GAIN = "{uniform: [2, 5]}"
SIGN = "{choice: [-1, 1]}"
FAMILY = "toy_family:Toy"
SLOW = "{mode: slow}"

REFUSED = [
    ("unknown key 'famly': did you mean 'family'?", {"family: toy": "^^famly: toy"}),
    ("'family' is missing", {"id: toy-v1": "^^id: toy-v1", "family: toy_family:Toy\n": ""}),
    ("'id' is missing", {"id: toy-v1\ndoc": "^^doc"}),
    ("must be text, not 3", {"id: toy-v1": "id: ^^3"}),
    ("end in a version, as 'cartpole-wiring-v1'", {"id: toy-v1": "id: ^^toy"}),
    ("lower-case words", {"id: toy-v1": "id: ^^Toy-v1"}),
    ("lower-case words", {"id: toy-v1": "id: ^^../toy-v1"}),
    ("must be named 'toy-v2.yaml'", {"id: toy-v1": "id: ^^toy-v2"}),
    ("must not be empty", {"doc: A toy.": 'doc: ^^" "'}),
    ("'doc' must be text, not nothing", {"doc: A toy.": "doc:^^"}),
    (
        "no family 'cartpol': did you mean 'cartpole'? (or give 'module:Class')",
        {"toy_family:Toy": "^^cartpol"},
    ),
    ("no module 'nowhere' can be imported", {"toy_family:Toy": "^^nowhere:Toy"}),
    ("has no 'Toi': did you mean 'Toy'?", {"toy_family:Toy": "^^toy_family:Toi"}),
    ("'toy_family:NOT_A_FAMILY' is not a task family", {"toy_family:Toy": "^^toy_family:NOT_A_FAMILY"}),
    ("'toy_family:Param' is not a task family", {"toy_family:Toy": "^^toy_family:Param"}),
    ("no family '.toy:Toy'", {"toy_family:Toy": "^^.toy:Toy"}),
    ("cannot be imported: RuntimeError: this module fails", {"toy_family:Toy": "^^broken_module:Toy"}),
    ("cannot be imported: SystemExit: 0", {"toy_family:Toy": "^^exiting_module:Toy"}),
    ("from these values: KeyError: 'slow'", {FAMILY: "picky_families:Stumbles", SLOW: "^^{mode: slow}"}),
    ("from these values: NameError", {FAMILY: "picky_families:UnknownType", SLOW: "^^{mode: slow}"}),
    ("no parameters yet", {FAMILY: "^^picky_families:Unready", "options: {mode: slow}\n": ""}),
    ("'params' of NoMapping must be a mapping", {FAMILY: "picky_families:NoMapping", SLOW: "^^{legs: 3}"}),
    ("'wheels' must be 2 or more, not 1", {FAMILY: "picky_families:Picky", SLOW: "{wheels: ^^1}"}),
    ("trailer needs four", {FAMILY: "picky_families:Picky", SLOW: "{wheels: 3, trailer: ^^true}"}),
    ("horizon must be 60", {FAMILY: "picky_families:Picky", "horizon: 50": "horizon: ^^61"}),
    ("unknown option 'mod': did you mean 'mode'?", {"{mode: slow}": "{^^mod: slow}"}),
    ("'mode' must be 'slow' or 'fast', not the text 'fats'", {"{mode: slow}": "{mode: ^^fats}"}),
    ("'friction' must be a number, not the text '0.5'", {"{mode: slow}": "{friction: ^^'0.5'}"}),
    ("'legs' must be a whole number, not 4.5", {"{mode: slow}": "{legs: ^^4.5}"}),
    ("'legs' must be a whole number, not true", {"{mode: slow}": "{legs: ^^true}"}),
    ("'loud' must be true or false, not the text 'yes'", {"{mode: slow}": "{loud: ^^yes}"}),
    ("an entry of 'grid' must be a whole number", {"{mode: slow}": "{grid: [1, ^^x]}"}),
    ("'horizon' is a key of the scenario, not an option", {"{mode: slow}": "{^^horizon: 3}"}),
    ("100 control steps at most", {"{mode: slow}": "^^{mode: fast}", "horizon: 50": "horizon: 101"}),
    ("'options' must be a mapping", {"{mode: slow}": "^^[mode, slow]"}),
    ("'horizon' must be a whole number, not 50.5", {"horizon: 50": "horizon: ^^50.5"}),
    ("'horizon' must be 1 or more, not 0", {"horizon: 50": "horizon: ^^0"}),
    ("'horizon' must be 100000 or less", {"horizon: 50": "horizon: ^^1e9"}),
    (
        "'horizon' must be a whole number, not the text '1_000': write 1000, without separators",
        {"horizon: 50": "horizon: ^^1_000"},
    ),
    ("not the text '50': write 50, without quotes", {"horizon: 50": "horizon: ^^'50'"}),
    ("is expected, not the text '1_5': write 15, without separators", {GAIN: "^^1_5"}),
    (
        "'may_repeat_train' must be true or false, not the text 'no'",
        {"count: 21": "may_repeat_train: ^^no, count: 21"},
    ),
    (
        "a name with brackets needs quotes within braces: write 'body_mass[*]'",
        {MOVED: "params: {^^body_mass[*]: {uniform: [3, 4]}}"},
    ),
    (
        "no parameter varies, so all tasks are the same: give one a distribution",
        {GAIN: "3", SIGN: "1", "  gain:": "  ^^gain:", f"  ood: {OOD}\n": ""},
    ),
    ("unknown key 'optoins': did you mean 'options'?", {"options: {mode: slow": "^^optoins: {mode: fats"}),
    ("'k' needs 1 or more entries and has 0", {"[0, 6]": "^^[]"}),
    ("'horizon' must be a whole number, not true", {"horizon: 50": "horizon: ^^true"}),
    ("unknown parameter 'gian': did you mean 'gain'?", {"  gain: {uniform": "  ^^gian: {uniform"}),
    ("did you mean 'body_mass[head]'?", {"body_mass[head]": "^^body_mass[haed]"}),
    ("unknown parameter 'gain[*]': did you mean 'gain'?", {"body_mass[head]": "^^gain[*]"}),
    ("cannot be combined", {"body_mass[head]: 1.5": "body_mass[*]: 1\n  ^^body_mass[=]: 2"}),
    ("gain must be within 0 to 10 N, not 2 to 50", {GAIN: "{uniform: ^^[2, 50]}"}),
    ("gain must be within 0 to 10 N, not -1", {GAIN: "^^-1"}),
    ("gain must be within 0 to 10 N, not 11", {GAIN: "{choice: [1, ^^11]}"}),
    ("not -1 to 3", {GAIN: "{normal: ^^{mean: 1, std: 1, low: -1, high: 3}}"}),
    ("body_mass[head] must be within 0.1 to 5 kg, not 0", {"body_mass[head]: 1.5": "body_mass[*]: ^^0"}),
    ("sign must be one of -1, 1, not -1 to 1: give a number or a choice", {SIGN: "{uniform: ^^[-1, 1]}"}),
    ("sign must be one of -1, 1, not 0", {SIGN: "{choice: [-1, ^^0]}"}),
    ("unknown distribution 'unifrom': did you mean 'uniform'?", {GAIN: "{^^unifrom: [2, 5]}"}),
    ("one distribution is expected, not fixed and choice", {SIGN: "{fixed: 1, ^^choice: [-1, 1]}"}),
    ("a number or a distribution, as {uniform: [1, 2]}", {GAIN: "^^[2, 5]"}),
    ("not the text '2..5'", {GAIN: "^^2..5"}),
    ("not nothing", {GAIN: "^^null"}),
    ("low must be less than high, and 5 is not less than 2", {"[2, 5]": "^^[5, 2]"}),
    ("an entry of 'uniform' is missing", {"[2, 5]": "^^[2]"}),
    ("'uniform' takes 2 entries at most", {"[2, 5]": "^^[2, 3, 5]"}),
    ("must be a number, not the text 'five'", {"[2, 5]": "[2, ^^five]"}),
    ("ranges must ascend and not overlap", {GAIN: "{ranges: [[2, 4], ^^[3, 5]]}"}),
    ("'ranges' needs two or more entries", {GAIN: "{ranges: ^^[[2, 5]]}"}),
    ("low end of 'log_uniform' must be above 0", {GAIN: "{log_uniform: [^^0, 5]}"}),
    ("'std' is missing", {GAIN: "{normal: ^^{mean: 3, low: 2, high: 5}}"}),
    ("'log_uniform' must be a list, as [a, b], not 3", {GAIN: "{log_uniform: ^^3}"}),
    ("unknown key 'sdt': did you mean 'std'?", {GAIN: "{normal: {mean: 3, ^^sdt: 2, low: 2, high: 5}}"}),
    ("'std' must be more than 0", {GAIN: "{normal: {mean: 3, std: ^^0, low: 2, high: 5}}"}),
    ("less than 1% of this normal", {GAIN: "{normal: ^^{mean: 9, std: 1, low: 2, high: 5}}"}),
    ("duplicate value 1", {"[-1, 1]": "[1, -1, ^^1]"}),
    ("'choice' needs two or more entries", {"[-1, 1]": "^^[-1]"}),
    ("'params' must be a mapping", {GOOD[GOOD.index("params:") : GOOD.index("splits")]: "params:^^\n"}),
    ("unknown key 'tets': did you mean 'test'?", {"test: {": "^^tets: {"}),
    ("'test' is missing", {"  train: {}": "  ^^train: {}", "  test: {count: 21, seed: 1}\n": ""}),
    ("'count' is missing", {"{count: 21, seed: 1}": "^^{seed: 1}"}),
    ("'count' must be 1 or more, not 0", {"count: 21": "count: ^^0"}),
    ("'count' must be 10000 or less", {"count: 21": "count: ^^1e7"}),
    ("'seed' must be 0 or more", {"seed: 1": "seed: ^^-1"}),
    (
        "unknown key 'params': there is: count, may_repeat_train, seed",
        {"count: 21": "^^params: {}, count: 21"},
    ),
    ("'may_repeat_train' must be true or false, not 1", {"count: 21": "may_repeat_train: ^^1, count: 21"}),
    ("unknown parameter 'gian'", {"params: {gain: {uniform: [5": "params: {^^gian: {uniform: [5"}),
    ("gain must be within 0 to 10 N", {"[5, 8]": "^^[5, 80]"}),
    ("give it 'params' outside", {OOD: "^^{count: 8}"}),
    (
        "ood overlaps training in gain: one ood range must leave",
        {MOVED: "params: ^^{gain: {uniform: [4, 8]}}"},
    ),
    ("ood overlaps training in sign", {MOVED: "params: ^^{sign: 1}"}),
    ("ood overlaps training in gain", {MOVED: "params: ^^{gain: 4.5}"}),
    ("ood overlaps training in gain", {MOVED: "params: ^^{gain: {choice: [4.5, 9]}}"}),
    ("'budget' must be a mapping", {BUDGET: "^^3e6"}),
    ("'meta_train' is missing", {"{meta_train: 3.2e6, ": "^^{"}),
    ("unknown key 'orcale': did you mean 'oracle'?", {"oracle: 3": "^^orcale: 3"}),
    ("the oracle needs at least the 3,200,000 env steps of 'meta_train'", {"3200000": "^^3199999"}),
    ("'meta_train' must be a whole number, not 3200000.5", {"3.2e6": "^^3200000.5"}),
    ("'meta_train' must be a whole number, not the text '3,200'", {"3.2e6": "^^'3,200'"}),
    ("'blind' must be 1 or more, not -500000", {"5e5": "^^-5e5"}),
    ("'k' must begin with 0 and ascend", {"[0, 6]": "^^[3, 6]"}),
    ("'k' must begin with 0 and ascend", {"[0, 6]": "^^[0, 6, 6]"}),
    ("4 is not a multiple of 'episodes_per_round', which is 3", {"[0, 6]": "[0, ^^4]"}),
    ("an entry of 'k' must be 10000 or less", {"[0, 6]": "[0, ^^1e6]"}),
    ("'scored_episodes' must be 1 or more", {"scored_episodes: 4": "scored_episodes: ^^0"}),
    ("did you mean 'episodes_per_round'?", {"episodes_per_round": "^^episode_per_round"}),
    ("duplicate key 'horizon', first on line 5", {"params:\n": "^^horizon: 3\nparams:\n"}),
    ("the file must be a mapping", {GOOD: "^^- id: toy-v1\n"}),
    ("the file must be a mapping, as {key: value}, not the text 'toy'", {GOOD: "^^toy\n"}),
    ("the file must be a mapping, as {key: value}, not nothing", {GOOD: "---\n^^"}),
]


@pytest.mark.parametrize(("allowed", "edits"), REFUSED)
def test_what_does_not_fit_is_refused_where_it_stands(tmp_path, allowed, edits):
    text, place = marked(edited(GOOD, edits))
    path = tmp_path / "toy-v1.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(SourceError) as caught:
        load_scenario(path)
    assert (caught.value.line, caught.value.column) == place, str(caught.value)
    assert allowed in caught.value.message
    assert len(str(caught.value).splitlines()) == 1


def test_all_errors_are_reported_in_the_order_of_the_file(toy):
    edits = {
        "id: toy-v1": "id: toy-v2",
        "{mode: slow}": "{mode: fats, legs: 1.5, lod: true}",
        "horizon: 50": "horizon: x",
        GAIN: "{uniform: [5, 2]}",
        "body_mass[head]": "body_mass[hed]",
        "train: {}": "trian: {}",
        "seed: 1}": "sed: 1}",
        "[5, 8]": "[5, five]",
        BUDGET: "{blind: 0}",
        "[0, 6]": "[0, 4]",
    }
    with pytest.raises(
        SourceError, match=r":1:5: the file is named 'toy-v1.yaml' and must be named"
    ) as caught:
        toy(edits)
    places = [line.split(":")[1:3] for line in caught.value.lines]
    lines = [int(line) for line, _ in places]
    assert places == sorted(places, key=lambda place: [*map(int, place)])
    assert lines == [1, 4, 4, 4, 5, 7, 9, 11, 12, 13, 14, 14, 15], str(caught.value)


def test_a_wrong_option_does_not_hide_a_wrong_parameter_nor_make_one_of_a_right_one(tmp_path):
    path = tmp_path / "cartpole-target-v1.yaml"
    text = (scenarios_dir() / path.name).read_text(encoding="utf-8")
    path.write_text(edited(text, {"{reward: target}": "{reward: targett}", "  cart_mass:": "  car_mass:"}))
    with pytest.raises(SourceError) as caught:
        load_scenario(path)
    option, parameter = caught.value.lines
    assert ":4:19: 'reward' must be 'balance' or 'target'" in option
    assert ":10:3: unknown parameter 'car_mass': did you mean 'cart_mass'?" in parameter


def test_all_errors_of_a_distribution_are_reported(toy):
    with pytest.raises(SourceError) as caught:
        toy({GAIN: "{normal: {mean: x, sdt: 2, high: 5}}"})
    assert [line.split(": ", 1)[1] for line in caught.value.lines] == [
        "'low' is missing",
        "'mean' must be a number, not the text 'x'",
        "unknown key 'sdt': did you mean 'std'?",
    ]


def test_what_distributions_share_is_reported_with_errors_elsewhere(toy):
    with pytest.raises(SourceError) as caught:
        toy({"[5, 8]": "[4, 8]", "horizon: 50": "horizon: 0"})
    first, second = caught.value.lines
    assert "'horizon' must be 1 or more" in first
    assert "ood overlaps training in gain" in second


def test_a_missing_part_of_a_family_is_said_to_be_missing(toy, monkeypatch):
    from mrl_bench.errors import MissingPart

    def find(kind, name):
        raise MissingPart("install mujoco")

    monkeypatch.setattr(scenario_module.registry, "find", find)
    with pytest.raises(MissingPart, match="install mujoco"):
        toy()


# The scenarios that come with mrl-bench


@pytest.mark.parametrize("name", list_scenarios())
def test_every_scenario_loads_by_id_and_by_path(name):
    scenario = find_scenario(name)
    assert scenario.id == name
    assert load_scenario(scenario.path).digest == scenario.digest
    assert len(scenario.tasks("test")) >= 10  # rand-params, as published, has 10
    assert np.isfinite(privileged(scenario).family.features(scenario.stream(0, 5))).all()


def test_scenarios_are_found_or_the_nearest_is_named():
    assert {"cartpole-physics-v1", "cartpole-target-v1", "cartpole-wiring-v1"} <= set(list_scenarios())
    with pytest.raises(
        UsageError, match="no scenario 'cartpole-wirings-v1': did you mean 'cartpole-wiring-v1'"
    ):
        find_scenario("cartpole-wirings-v1")
    with pytest.raises(SourceError, match=r"here/none.yaml:1:1: there is no such file"):
        find_scenario("here/none.yaml")


def test_reading_scenarios_needs_neither_torch_nor_a_simulator():
    code = (
        "import sys, mrl_bench.scenario.json_schema as schemas; from mrl_bench.scenario import find_scenario;"
        "find_scenario('walker-params-v1'); schemas.scenario_schema(); schemas.suite_schema();"
        "print(sorted({'torch', 'mujoco', 'scipy', 'matplotlib'} & set(sys.modules)))"
    )
    paths = [path for path in sys.path if path]
    command = [sys.executable, "-c", f"import sys; sys.path[:] = {paths!r}; {code}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_mutated_scenarios_load_or_are_refused(tmp_path):
    rng = random.Random(2)
    files = [scenarios_dir() / f"cartpole-{name}-v1.yaml" for name in ("physics", "wiring", "target")]
    refused = []
    for source in files * 100:
        path = tmp_path / source.name
        path.write_bytes(mutant(source.read_text(encoding="utf-8"), rng))
        try:
            assert load_scenario(path).digest
        except UsageError as error:
            refused.append(str(error))
    assert 100 < len(refused) < 300
    assert all(re.match(r"\S+\.yaml:\d+:\d+: \S", line) for text in refused for line in text.split("\n"))


def test_an_id_that_is_a_file_here_is_suggested(tmp_path, monkeypatch):
    (tmp_path / "mine-v1.yaml").write_text("")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=r"no scenario 'mine-v1': did you mean the file 'mine-v1.yaml'\?"):
        find_scenario("mine-v1")

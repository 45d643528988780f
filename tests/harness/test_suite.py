import json
import random
import re
from dataclasses import replace
from pathlib import Path

import pytest
from yaml_kit import edited, marked, mutant

from mrl_bench.errors import SourceError, UsageError
from mrl_bench.runs.run import Run
from mrl_bench.scenario import find_scenario, load_scenario, scenarios_dir
from mrl_bench.scenario.settings import overlay
from mrl_bench.scenario.suite import AgentSpec, find_suite, list_suites, load_suite

GOOD = """\
id: mine
doc: My suite.
seeds: 3
agents: {maml: {}, fast: {agent: maml, set: {inner_lr: 0.1}}}
scenarios:
  - scenario: cartpole-wiring-v1
  - scenario: cartpole-target-v1
    agents: {theirs: {agent: 'toy_agents:Learner'}}
    budget: {blind: 1e3}
    protocol: {k: [0, 4]}
"""


@pytest.fixture
def mine(tmp_path):
    """Loads the good suite, with replacements."""

    def load(edits=None):
        path = tmp_path / "mine.yaml"
        path.write_text(edited(GOOD, edits or {}), encoding="utf-8")
        return load_suite(path)

    return load


def test_a_suite_says_what_its_file_says(mine):
    suite = mine()
    assert (suite.id, suite.doc, suite.seeds) == ("mine", "My suite.", 3)
    assert [entry.scenario.id for entry in suite.entries] == ["cartpole-wiring-v1", "cartpole-target-v1"]
    assert suite.entries[0].agents == (
        AgentSpec("maml", "maml", {}),
        AgentSpec("fast", "maml", {"inner_lr": 0.1}),
    )
    assert suite.entries[1].agents == (AgentSpec("theirs", "toy_agents:Learner", {}),)


def test_settings_for_a_family_hold_on_its_scenarios_alone(mine):
    families = "families: {cartpole: {meta_batch_size: 7}, locomotion: {meta_batch_size: 5}}"
    edits = {"set: {inner_lr: 0.1}}": f"set: {{inner_lr: 0.1, meta_batch_size: 9}}, {families}}}"}
    wiring = mine(edits).entries[0]
    assert wiring.agents[1] == AgentSpec("fast", "maml", {"inner_lr": 0.1, "meta_batch_size": 7})
    whole = {old: new.replace("{cartpole:", f"{{{CARTPOLE}:") for old, new in edits.items()}
    assert mine(whole).entries[0] == wiring
    running = mine(edits | {"scenario: cartpole-wiring-v1": "scenario: cheetah-vel-v1"}).entries[0]
    assert running.agents[1] == AgentSpec("fast", "maml", {"inner_lr": 0.1, "meta_batch_size": 5})


def test_settings_inside_settings_are_changed_one_by_one():
    base = {"maml": {"meta_batch_size": 9, "hidden_sizes": [8]}, "steps": 2}
    changed = {"maml": {"meta_batch_size": 9, "hidden_sizes": [4]}, "steps": 2}
    assert overlay(base, {"maml": {"hidden_sizes": [4]}}) == changed
    assert base["maml"]["hidden_sizes"] == [8]


def test_overrides_change_what_they_name_and_the_digest(mine):
    wiring, target = (entry.scenario for entry in mine().entries)
    assert wiring.digest == find_scenario("cartpole-wiring-v1").digest
    original = find_scenario("cartpole-target-v1")
    assert (target.budget.blind, target.budget.oracle) == (1000, original.budget.oracle)
    assert (target.protocol.k, target.protocol.scored_episodes) == ((0, 4), 10)
    assert target.digest != original.digest


def test_a_suite_that_trains_agents_for_longer_trains_the_oracle_for_longer(mine):
    target = mine({"budget: {blind: 1e3}": "budget: {meta_train: 9e6}"}).entries[1].scenario
    assert (target.budget.meta_train, target.budget.oracle) == (9_000_000, 9_000_000)
    with pytest.raises(SourceError, match="the oracle needs at least the 9,000,000 env steps"):
        mine({"budget: {blind: 1e3}": "budget: {meta_train: 9e6, oracle: 8e6}"})


def test_a_scenario_may_have_no_agents_but_the_reference_agents(mine):
    suite = mine({"{theirs: {agent: 'toy_agents:Learner'}}": "{}"})
    assert suite.entries[1].agents == ()


def test_scenarios_are_found_by_path_from_the_folder_of_the_suite(mine, tmp_path):
    (tmp_path / "sub").mkdir()
    text = (scenarios_dir() / "cartpole-wiring-v1.yaml").read_text(encoding="utf-8")
    (tmp_path / "sub" / "other-v1.yaml").write_text(edited(text, {"id: cartpole-wiring-v1": "id: other-v1"}))
    suite = mine({"scenario: cartpole-wiring-v1": "scenario: sub/other-v1.yaml"})
    assert suite.entries[0].scenario.id == "other-v1"


def test_an_error_in_a_scenario_is_reported_in_its_own_file(mine, tmp_path):
    (tmp_path / "bad-v1.yaml").write_text("id: bad-v1\nfamly: x\n")
    with pytest.raises(SourceError, match=r"bad-v1.yaml:2:1: unknown key 'famly'"):
        mine({"cartpole-wiring-v1": "./bad-v1.yaml"})


CARTPOLE = "'mrl_tasks.cartpole:CartPole'"

# Each edit marks with ^^ where the error has to be reported.
THEIRS = "{theirs: {agent: 'toy_agents:Learner'}}"
REFUSED = [
    ("unknown key 'sedes': did you mean 'seeds'?", {"seeds: 3": "^^sedes: 3"}),
    ("'seeds' is missing", {"id: mine": "^^id: mine", "seeds: 3\n": ""}),
    ("'seeds' must be 1 or more", {"seeds: 3": "seeds: ^^0"}),
    ("'seeds' must be a whole number, not a list", {"seeds: 3": "seeds: ^^[0, 1, 2]"}),
    ("a suite id is lower-case words", {"id: mine": "id: ^^My suite"}),
    ("must be named 'yours.yaml'", {"id: mine": "id: ^^yours"}),
    ("must not be empty", {"My suite.": "^^''"}),
    ("'scenarios' needs one or more entries", {GOOD[GOOD.index("scenarios:") :]: "scenarios: ^^[]\n"}),
    ("'scenarios' must be a list", {GOOD[GOOD.index("scenarios:") :]: "scenarios: ^^{a: b}\n"}),
    (
        "an entry of 'scenarios' must be a mapping",
        {"- scenario: cartpole-wiring-v1": "- ^^cartpole-wiring-v1"},
    ),
    ("'scenario' must be text", {"cartpole-wiring-v1": "^^1"}),
    (
        "unknown key 'scenrio': did you mean 'scenario'?",
        {"- scenario: cartpole-w": "- ^^scenrio: cartpole-w"},
    ),
    (
        "no scenario 'cartpole-wring-v1': did you mean 'cartpole-wiring-v1'?",
        {"scenario: cartpole-wiring-v1": "scenario: ^^cartpole-wring-v1"},
    ),
    ("there is no file", {"cartpole-wiring-v1": "^^nowhere/toy-v1.yaml"}),
    (
        "'cartpole-target-v1' is already in this suite",
        {"wiring-v1\n  - scenario: ": "target-v1\n  - scenario: ^^"},
    ),
    ("no agent 'mamml': did you mean 'maml'?", {"{maml: {}": "{^^mamml: {}"}),
    ("no agent 'mamll': did you mean 'maml'? (or give 'module:Class')", {"agent: maml": "agent: ^^mamll"}),
    ("'oracle' is a reference agent, which every scenario includes", {"{maml: {}": "{^^oracle: {}"}),
    ("'random' is a reference agent, which every scenario includes", {"{theirs:": "{^^random:"}),
    ("'blind' is a reference agent, which every scenario includes", {"agent: maml": "agent: ^^blind"}),
    ("an agent's name has 1 to 40 characters of a-z", {"{theirs:": "{^^Their Agent:"}),
    ("an agent's name has 1 to 40 characters of a-z", {"{theirs:": "{^^" + "x" * 41 + ":"}),
    ("'maml' must be a mapping, as {key: value}, not nothing", {"{maml: {}": "{maml:^^ "}),
    ("'agents' must be a mapping", {THEIRS: "^^[theirs]"}),
    (
        "no family 'cartpol': did you mean 'cartpole'?",
        {"set: {inner_lr: 0.1}": "families: {^^cartpol: {inner_lr: 0.1}}"},
    ),
    ("unknown key 'st': did you mean 'set'?", {"set: {": "^^st: {"}),
    ("'set' must be a mapping", {"{inner_lr: 0.1}": "^^0.1"}),
    ("'agent' must be text, not 3", {"agent: maml": "agent: ^^3"}),
    ("unknown key 'blnd': did you mean 'blind'?", {"{blind: 1e3}": "{^^blnd: 1e3}"}),
    ("'blind' must be a whole number, not 1000.5", {"1e3": "^^1000.5"}),
    ("'blind' must be 1 or more", {"1e3": "^^0"}),
    ("'k' must begin with 0 and ascend", {"[0, 4]": "^^[4]"}),
    ("an entry of 'k' must be a whole number", {"[0, 4]": "[0, ^^four]"}),
    ("unknown key 'kk': did you mean 'k'?", {"{k:": "{^^kk:"}),
    (
        "unknown option 'contrl': did you mean 'control'?",
        {"cartpole-wiring-v1": "cartpole-wiring-v1\n    options: {^^contrl: force}"},
    ),
    ("aliases are not allowed", {THEIRS: "^^*default"}),
]


@pytest.mark.parametrize(("allowed", "edits"), REFUSED)
def test_what_does_not_fit_is_refused_where_it_stands(tmp_path, allowed, edits):
    text, place = marked(edited(GOOD, edits))
    path = tmp_path / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(SourceError) as caught:
        load_suite(path)
    assert (caught.value.line, caught.value.column) == place, str(caught.value)
    assert caught.value.path == path
    assert allowed in caught.value.message
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("name", list_suites())
def test_every_suite_loads(name):
    suite = find_suite(name)
    assert suite.id == name
    assert suite.entries


def test_an_entry_may_change_options_of_the_family_and_a_worker_gets_them_too(mine):
    wiring, _ = (
        entry.scenario
        for entry in mine(
            {"cartpole-wiring-v1": "cartpole-wiring-v1\n    options: {control: bang_bang}"}
        ).entries
    )
    original = find_scenario("cartpole-wiring-v1")
    assert wiring.family == replace(original.family, control="bang_bang")
    assert wiring.digest != original.digest
    run = Run(wiring, AgentSpec("random", "random", {}), 0, "cpu")
    assert Run.from_json(json.loads(json.dumps(run.to_json()))).scenario.digest == wiring.digest


def test_suites_are_found_or_the_nearest_is_named():
    assert {"quick", "standard"} <= set(list_suites())
    with pytest.raises(UsageError, match="no suite 'quik': did you mean 'quick'"):
        find_suite("quik")


def test_mutated_suites_load_or_are_refused(tmp_path):
    rng = random.Random(3)
    refused = []
    for _ in range(200):
        path = tmp_path / "mine.yaml"
        path.write_bytes(mutant(GOOD, rng))
        try:
            load_suite(path)
        except UsageError as error:
            refused.append(str(error))
    assert 70 < len(refused) < 200
    assert all(re.match(r"\S+\.yaml:\d+:\d+: \S", line) for text in refused for line in text.split("\n"))


def test_the_examples_of_the_docs_load(tmp_path):
    docs = (Path(__file__).parents[2] / "docs" / "scenarios.md").read_text(encoding="utf-8")
    scenario, suite = re.findall(r"```yaml\n(.*?)```", docs, re.DOTALL)
    (tmp_path / "cartpole-wiring-v1.yaml").write_text(scenario, encoding="utf-8")
    assert load_scenario(tmp_path / "cartpole-wiring-v1.yaml").splits.keys() == {"train", "test", "ood"}
    mine = edited(scenario, {"id: cartpole-wiring-v1": "id: my-scenario-v1"})
    suite = edited(suite, {"their_package.agent:Agent": "toy_agents:Learner", "{width: 256}": "{gain: 2}"})
    (tmp_path / "my-scenario-v1.yaml").write_text(mine, encoding="utf-8")
    (tmp_path / "mine.yaml").write_text(suite, encoding="utf-8")
    assert len(load_suite(tmp_path / "mine.yaml").entries) == 2

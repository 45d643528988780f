"""Suites with one mistake each, and files with several: what is refused, and where."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path

import pytest
from yaml_kit import edited, marked, reshaped

from mrl_bench.cli.main import main
from mrl_bench.errors import SourceError, UsageError
from mrl_bench.scenario.suite import load_suite
from mrl_bench.scenario.yaml_reader import parse

GOOD = """\
id: mine
doc: My suite.
seeds: 3
agents:
  maml: {set: {inner_lr: 0.1}}
  mbml: {set: {rounds: 4}, families: {cartpole: {gamma: 0.9}}}
  maml-mbml: {set: {env_steps: 1e5, maml: {outer_lr: 1e-3}}}
  dqn: {set: {tau: 0.1}}
  theirs: {agent: 'unusable_agents:Bounded', set: {high: 7}}
scenarios:
  - scenario: cartpole-wiring-v1
  - scenario: cheetah-vel-v1
    options: {robot: half_cheetah}
    budget: {meta_train: 1e4}
    protocol: {episodes_per_round: 2, k: [0, 2]}
  - scenario: drive-steering-v3
    options: {traffic: 0}
    agents: {maml: {}}
"""

MAML, MBML, BOTH, DQN = "{inner_lr: 0.1}", "{rounds: 4}", "{outer_lr: 1e-3}", "{tau: 0.1}"
CARTPOLE, ROBOT, ROAD, THEIRS = "{gamma: 0.9}", "{robot: half_cheetah}", "{traffic: 0}", "{high: 7}"
MODULE = "unusable_agents:Bounded"

# What the message says, and an edit of GOOD that marks with ^^ where it has to be reported.
BROKEN = [
    # settings without sense
    ("'inner_lr' must be more than 0, not 0", {MAML: "{inner_lr: ^^0}"}),
    ("'inner_lr' must be more than 0, not -0.1", {MAML: "{inner_lr: ^^-0.1}"}),
    ("'inner_lr' must be 10 or less, not 100", {MAML: "{inner_lr: ^^1e2}"}),
    ("'outer_lr' must be more than 0", {MAML: "{outer_lr: ^^-1e-3}"}),
    ("'gamma' must be 1 or less, not 1.5", {MAML: "{gamma: ^^1.5}"}),
    ("'gamma' must be 0 or more, not -0.9", {MAML: "{gamma: ^^-0.9}"}),
    ("'gae_lambda' must be 1 or less", {MAML: "{gae_lambda: ^^1.1}"}),
    ("'action_std' must be 0.05 or more, not 0.001", {MAML: "{action_std: ^^0.001}"}),
    ("'action_std' must be 2.7 or less, not 5", {MAML: "{action_std: ^^5}"}),
    ("'meta_batch_size' must be 1 or more, not 0", {MAML: "{meta_batch_size: ^^0}"}),
    ("'episodes_per_task' must be 1 or more, not 0", {MAML: "{episodes_per_task: ^^0}"}),
    ("'episodes_per_task' must be 1 or more, not -3", {MAML: "{episodes_per_task: ^^-3}"}),
    ("'inner_steps' must be 0 or more, not -1", {MAML: "{inner_steps: ^^-1}"}),
    ("'epochs' must be 1 or more, not 0", {MAML: "{epochs: ^^0}"}),
    ("'clip_coef' must be more than 0", {MAML: "{clip_coef: ^^0}"}),
    ("'max_grad_norm' must be more than 0", {MAML: "{max_grad_norm: ^^-1}"}),
    ("'max_kl' must be more than 0", {MAML: "{max_kl: ^^0.0}"}),
    ("'cg_damping' must be 0 or more", {MAML: "{cg_damping: ^^-1}"}),
    ("an entry of 'hidden_sizes' must be 1 or more, not 0", {MAML: "{hidden_sizes: [32, ^^0]}"}),
    ("an entry of 'hidden_sizes' must be 1 or more, not -8", {MAML: "{hidden_sizes: [^^-8]}"}),
    ("'rounds' must be 1 or more, not 0", {MBML: "{rounds: ^^0}"}),
    ("'env_steps' must be 1 or more, not 0", {MBML: "{env_steps: ^^0}"}),
    ("'buffer_size' must be 1 or more, not 0", {MBML: "{buffer_size: ^^0}"}),
    ("'zero_context_prob' must be 1 or less, not 2", {MBML: "{zero_context_prob: ^^2}"}),
    ("'first_episode_prob' must be 0 or more", {MBML: "{first_episode_prob: ^^-0.1}"}),
    ("'context_lengths' needs 1 or more entries and has 0", {MBML: "{context_lengths: ^^[]}"}),
    ("an entry of 'context_lengths' must be 1 or more", {MBML: "{context_lengths: [8, ^^0]}"}),
    ("'critic_updates' must be 1 or more, not 0", {MBML: "{critic_updates: ^^0}"}),
    ("'adapt_updates' must be 0 or more, not -1", {MBML: "{adapt_updates: ^^-1}"}),
    ("'tau' must be more than 0", {MBML: "{tau: ^^0}"}),
    ("'initial_action_std' must be 0.05 or more", {MBML: "{initial_action_std: ^^0}"}),
    ("ensemble_size must divide model_samples, which is 64", {MBML: "{ensemble_size: ^^3}"}),
    ("ensemble_size must divide imagined_rollouts", {MBML: "{imagined_rollouts: 5, ensemble_size: ^^4}"}),
    ("'gamma' must be 1 or less, not 2", {CARTPOLE: "{gamma: ^^2}"}),
    ("'mbml.gamma' must be 1 or less", {"maml: {outer_lr": "mbml: {gamma: ^^3}, maml: {outer_lr"}),
    ("'maml.outer_lr' must be more than 0", {BOTH: "{outer_lr: ^^-1}"}),
    ("maml.action_std has no effect", {"maml: {outer_lr: 1e-3}": "maml: {action_std: ^^0.3}"}),
    ("'imagination_weight' must be more than 0", {"env_steps: 1e5": "imagination_weight: ^^0"}),
    ("'model_iterations' must be 1 or more, not 0", {"env_steps: 1e5": "model_iterations: ^^0"}),
    ("'action_bins' must be 2 or more, not 1", {DQN: "{action_bins: ^^1}"}),
    ("'batch_size' must be 1 or more, not 0", {DQN: "{batch_size: ^^0}"}),
    ("'epsilon' must be 1 or less, not 1.01", {DQN: "{epsilon: ^^1.01}"}),
    ("'epsilon_steps' must be 1 or more, not 0", {DQN: "{epsilon_steps: ^^0}"}),
    ("'update_every' must be 1 or more, not 0", {DQN: "{update_every: ^^0}"}),
    # unknown and mistyped settings
    ("unknown setting 'iner_lr': did you mean 'inner_lr'?", {MAML: "{^^iner_lr: 0.1}"}),
    ("unknown setting 'gama': did you mean 'gamma'?", {CARTPOLE: "{^^gama: 0.9}"}),
    ("unknown setting 'maml.otter_lr': did you mean 'outer_lr'?", {BOTH: "{^^otter_lr: 1}"}),
    ("'meta_batch_size' must be a whole number, not 2.5", {MAML: "{meta_batch_size: ^^2.5}"}),
    ("'inner_lr' must be a number, not nothing", {MAML: "{inner_lr:^^ }"}),
    ("'inner_lr' must be a number, not a list", {MAML: "{inner_lr: ^^[0.1]}"}),
    ("'hidden_sizes' must be a list, as [a, b], not 64", {MAML: "{hidden_sizes: ^^64}"}),
    ("'outer_update' must be 'ppo' or 'trpo', not the text 'sgd'", {MAML: "{outer_update: ^^sgd}"}),
    ("'maml' must be a mapping, as {key: value}, not 3", {"{outer_lr: 1e-3}": "^^3"}),
    # settings of an agent outside of mrl-bench
    ("unknown setting 'hihg': did you mean 'high'?", {THEIRS: "{^^hihg: 7}"}),
    ("'part.rate' must be less than 1, not 1", {THEIRS: "{part: {rate: ^^1}}"}),
    ("'sizes' needs 1 or more entries and has 0", {THEIRS: "{sizes: ^^[]}"}),
    ("high must not be less than low", {THEIRS: "{low: 3, high: ^^2}"}),
    # agents that are none
    ("no agent 'mamll': did you mean 'maml'?", {"  maml: {set": "  ^^mamll: {set"}),
    ("no module 'nowhere' can be imported", {MODULE: "nowhere:Agent", "agent: '": "agent: ^^'"}),
    ("no module 'toy_agents.sub' can be imported", {MODULE: "toy_agents.sub:A", "agent: '": "agent: ^^'"}),
    (
        "has no 'Bouned': did you mean 'Bounded'?",
        {MODULE: "unusable_agents:Bouned", "agent: '": "agent: ^^'"},
    ),
    ("NoConfig is no agent", {MODULE: "unusable_agents:NoConfig", "agent: '": "agent: ^^'"}),
    ("is no agent", {MODULE: "unusable_agents:NOT_A_CLASS", "agent: '": "agent: ^^'"}),
    ("needs a default for each", {MODULE: "unusable_agents:NoDefault", "agent: '": "agent: ^^'"}),
    ("cannot be made from these", {MODULE: "unusable_agents:StrangeField", "agent: '": "agent: ^^'"}),
    ("RuntimeError: this module fails", {MODULE: "broken_module:Agent", "agent: '": "agent: ^^'"}),
    ("SystemExit: 0", {MODULE: "exiting_module:Agent", "agent: '": "agent: ^^'"}),
    ("'blind' is a reference agent", {"{maml: {}}": "{^^blind: {}}"}),
    ("duplicate key 'maml'", {"  dqn: {set": "  ^^maml: {set"}),
    (
        "no family 'cartpol': did you mean 'cartpole'?",
        {"families: {cart": "families: {^^cart", "pole: {g": "pol: {g"},
    ),
    ("no module 'nowhere'", {"{cartpole: {": "{^^'nowhere:Family': {"}),
    # scenarios, options, budget and protocol
    ("no scenario 'cheetah-val-v1': did you mean", {"cheetah-vel-v1": "^^cheetah-val-v1"}),
    ("there is no file", {"cheetah-vel-v1": "^^./" + "x" * 300 + ".yaml"}),
    ("healthy_height is a range [low, high]", {ROBOT: "{healthy_height: ^^[2, 1]}"}),
    ("healthy_height has no effect: the swimmer", {ROBOT: "{robot: swimmer, healthy_height: ^^[0, 1]}"}),
    ("cone has no effect", {ROBOT: "{robot: swimmer, cone: ^^elliptic}"}),
    ("terminates has no effect", {ROBOT: "{terminates: ^^false}"}),
    ("'timestep' must be more than 0, not -0.01", {ROBOT: "{timestep: ^^-0.01}"}),
    ("'control_cost' must be 0 or more, not -1", {ROBOT: "{control_cost: ^^-1}"}),
    ("task 'goal' needs a robot that can turn", {ROBOT: "{task: ^^goal}"}),
    ("with these options, cheetah-vel-v1.yaml is invalid", {"{robot: half": "^^{task: forward, robot: half"}),
    ("unknown option 'trafic': did you mean 'traffic'?", {ROAD: "{^^trafic: 1}"}),
    ("'traffic' must be 6 or less, not 9", {ROAD: "{traffic: ^^9}"}),
    ("no road 'lop': did you mean 'loop'?", {ROAD: "{road: ^^lop}"}),
    ("'meta_train' must be 1 or more, not 0", {"1e4": "^^0"}),
    ("'k' needs 1 or more entries and has 0", {"[0, 2]": "^^[]"}),
    ("3 is not a multiple of 'episodes_per_round', which is 2", {"[0, 2]": "[0, ^^3]"}),
    ("'seeds' must be 1 or more, not -3", {"seeds: 3": "seeds: ^^-3"}),
    ("'seeds' must be a whole number, not a list", {"seeds: 3": "seeds: ^^[0, 0, 1]"}),
    # usual slips
    ("not the text '1_000': write 1000, without separators", {"rounds: 4": "env_steps: ^^1_000"}),
    ("not the text '1,000': write 1000, without separators", {"1e4": "^^'1,000'"}),
    ("not the text '1e5': write 1e5, without quotes", {"env_steps: 1e5": "env_steps: ^^'1e5'"}),
    ("not the text 'yes': write true", {MAML: "{first_order: ^^yes}"}),
    ("not the text 'Off': write false", {MAML: "{first_order: ^^Off}"}),
    ("not the text 'true': write true, without quotes", {MAML: "{first_order: ^^'true'}"}),
    ("a tab cannot indent or separate: use spaces", {"  dqn: {set": "^^\tdqn: {set"}),
    ("nested more than 20 levels deep", {MAML: "{a: " * 18 + "^^" + "{a: " * 900}),
]


def broken(folder: Path, edits: dict[str, str]) -> tuple[SourceError, tuple[int, int]]:
    """What a suite with a mistake raises, and the place that is marked in it."""
    text, place = marked(edited(GOOD, edits))
    path = folder / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(SourceError) as caught:
        load_suite(path)
    return caught.value, place


def test_the_suite_without_mistakes_loads(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(GOOD)
    assert len(load_suite(tmp_path / "mine.yaml").entries) == 3


@pytest.mark.parametrize(("message", "edits"), BROKEN)
def test_one_mistake_is_one_line_at_its_place(tmp_path: Path, message: str, edits: dict[str, str]) -> None:
    error, place = broken(tmp_path, edits)
    assert message in error.message
    assert (error.line, error.column) == place, str(error)
    assert len(str(error).splitlines()) == len(error.lines) == 1


def test_all_mistakes_of_a_suite_are_listed_in_the_order_of_the_file(tmp_path: Path, capsys) -> None:
    edits = {
        "seeds: 3": "seeds: 0",
        MAML: "{inner_lr: 0, gama: 1, gamma: 2}",
        CARTPOLE: "{gamma: 2}",
        DQN: "{tau: 2}",
        MODULE: "nowhere:Agent",
        "cartpole-wiring-v1": "cartpole-wring-v1",
        ROBOT: "{robot: swimer, conne: 3}",
        "1e4": "0",
        "[0, 2]": "[0, 3]",
        ROAD: "{traffic: 7, start_speed: 9}",
        "{maml: {}}": "{oracle: {}}",
        "doc: My suite.": "dok: My suite.",
    }
    path = tmp_path / "mine.yaml"
    path.write_text(edited(GOOD, edits), encoding="utf-8")
    assert main(["check", str(path)]) == 2
    lines = capsys.readouterr().err.splitlines()
    places = [tuple(map(int, line.removeprefix(f"mrl-bench: {path}:").split(":")[:2])) for line in lines]
    assert places == sorted(places)
    assert [line for line, _ in places] == [2, 3, 5, 5, 5, 6, 8, 9, 11, 13, 13, 14, 15, 17, 17, 18]


def test_mistakes_in_scenario_files_are_listed_after_those_of_the_suite(tmp_path: Path) -> None:
    (tmp_path / "bad-v1.yaml").write_text("id: bad-v1\nfamly: x\n")
    edits = {"cartpole-wiring-v1": "./bad-v1.yaml", DQN: "{tau: 2}"}
    (tmp_path / "mine.yaml").write_text(edited(GOOD, edits))
    with pytest.raises(SourceError) as caught:
        load_suite(tmp_path / "mine.yaml")
    first, *others = caught.value.lines
    assert "mine.yaml:8:20: 'tau' must be 1 or less, not 2" in first
    assert "bad-v1.yaml:2:1: unknown key 'famly': did you mean 'family'?" in "\n".join(others)
    assert (
        len([line for line in others if "bad-v1.yaml:1:1:" in line]) == 5
    )  # what is missing, 'family' aside


def test_a_suite_without_its_scenarios_is_still_taken_for_a_suite(tmp_path: Path, capsys) -> None:
    (tmp_path / "mine.yaml").write_text(edited(GOOD, {"scenarios:\n": "scenarois:\n"}))
    assert main(["check", str(tmp_path / "mine.yaml")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "mine.yaml:10:1: unknown key 'scenarois': did you mean 'scenarios'?" in line


def test_a_huge_suite_is_one_line(tmp_path: Path, capsys) -> None:
    (tmp_path / "mine.yaml").write_text(GOOD + "# padding\n" * 10_000)
    assert main(["check", str(tmp_path / "mine.yaml")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "the file is longer than 50,000 bytes" in line


def test_suites_of_random_data_load_or_are_refused(tmp_path: Path) -> None:
    rng, path, refused = random.Random(4), tmp_path / "mine.yaml", []
    for _ in range(60):
        path.write_text(json.dumps(reshaped(parse(GOOD, "mine").data, rng), indent=1))
        try:
            load_suite(path)
        except UsageError as error:
            refused += str(error).split("\n")
    assert len(refused) > 60
    assert all(re.match(r"\S+\.yaml:\d+:\d+: \S", line) for line in refused)

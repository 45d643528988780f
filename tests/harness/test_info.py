"""`mrl-bench list` and `mrl-bench info`: everything is described, from its source."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Literal

import pytest
from bench_kit import SCENARIO, make_scenario, make_suite, toy

from mrl_bench import registry
from mrl_bench.checks import subject
from mrl_bench.cli.info import summary
from mrl_bench.cli.main import main
from mrl_bench.cli.settings import field_comments, settings
from mrl_bench.scenario import find_scenario, list_scenarios
from mrl_bench.scenario.suite import find_suite, list_suites


@dataclass(frozen=True)
class Inner:
    rate: float = 0.1  # of a step
    # A heading

    count: int = 3


@dataclass(frozen=True)
class Outer:
    # Which way,
    # and why.
    way: Literal["left", "right"] = "left"
    other: int | None = None
    sizes: tuple[int, ...] = (
        1,  # the first
        2,
    )
    text: str = "# no comment"
    inner: Inner = field(default_factory=lambda: Inner(rate=0.5))


def test_comments_are_read_from_the_source() -> None:
    assert field_comments(Outer) == {
        "way": "Which way, and why.",
        "other": "Which way, and why.",  # directly below another field: the comment is about both
        "sizes": "the first",
        "text": "",
        "inner": "",
    }


def test_settings_reach_into_dataclasses() -> None:
    rows = [(row.name, row.type, row.default, row.doc) for row in settings(Outer)]
    assert rows[0] == ("way", "'left' | 'right'", "left", "Which way, and why.")
    assert rows[1][:3] == ("other", "int | None", None)
    assert rows[2][:3] == ("sizes", "tuple[int, ...]", (1, 2))
    assert rows[-2:] == [("inner.rate", "float", 0.5, "of a step"), ("inner.count", "int", 3, "")]


@pytest.mark.parametrize("name", registry.names("agent"))
def test_every_setting_of_an_agent_is_described(name: str, capsys) -> None:
    rows = settings(registry.find("agent", name).Config)
    assert not [row.name for row in rows if not row.doc]
    assert main(["info", name]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"agent {name}\n")
    assert all(f"  {row.name}  " in out or f"  {row.name} " in out for row in rows)


@pytest.mark.parametrize("name", registry.names("family"))
def test_every_parameter_and_option_of_a_family_is_shown(name: str, capsys) -> None:
    cls = registry.find("family", name)
    assert main(["info", name]) == 0
    out = capsys.readouterr().out
    for param, declared in cls().params.items():
        (line,) = [line for line in out.splitlines() if line.startswith(f"  {param} ")]
        assert line.endswith(declared.doc)
        assert f" {declared.default:g} " in line
    for row in settings(cls):
        assert f"  {row.name} " in out


def test_parameters_that_need_an_option_are_shown_with_it(capsys) -> None:
    assert main(["info", "cartpole"]) == 0
    assert "  target_position (reward: target)  0  " in capsys.readouterr().out
    assert main(["info", "driving"]) == 0
    assert "  event_kind (events: true)  " in capsys.readouterr().out


def test_a_scenario_is_described(capsys) -> None:
    assert main(["info", "cartpole-target-v1"]) == 0
    out = capsys.readouterr().out
    scenario = find_scenario("cartpole-target-v1")
    for text in (scenario.digest, scenario.doc, "cartpole (reward = target)", "3,400,000", "uniform 7 to 12"):
        assert text in out
    assert "ranges 3.5 to 5 and 15 to 20" in out
    assert "choice of -1, 1" in out
    assert "wind_force" not in out  # it is fixed at its default


def test_cost_counts_the_episodes_of_the_protocol(tmp_path: Path, capsys) -> None:
    make_scenario(tmp_path)  # 3 test, 3 train and 2 ood tasks; k = 0, 2, 6 with 3 scored episodes; horizon 12
    assert main(["info", str(tmp_path / "tiny-v1.yaml")]) == 0
    episodes = 8 * (3 * 3 + 6)
    assert f"300 env steps of meta-training, up to {episodes * 12:,} of evaluation" in capsys.readouterr().out


def test_a_suite_is_described_with_its_runs_and_their_env_steps(tmp_path: Path, capsys) -> None:
    agents = {
        "learner": toy("Learner", gain=0.5),
        "short": {"agent": "mbml", "set": {"env_steps": 1e2}, "families": {"cartpole": {"rounds": 2}}},
    }
    suite = make_suite(tmp_path, agents, seeds=3, references=False)
    assert main(["info", str(suite)]) == 0
    out = capsys.readouterr().out
    runs = 3 + 2 * 3  # reference agents, and two agents with three seeds
    budget = SCENARIO["budget"]
    steps = budget["blind"] + budget["oracle"] + 3 * budget["meta_train"] + 3 * 100
    assert f"runs        {runs}, on 1 scenario\n" in out
    assert "references  provisional for tiny-v1\n" in out
    assert "time        not measured\n" in out
    played = 8 * (3 * 3 + 6 * (3 * 3 + 6)) * 12  # tasks x episodes x horizon; reference agents do not adapt
    assert f"cost        at most {steps:,} env steps of meta-training and {played:,} of evaluation\n" in out
    assert f"  tiny-v1  0, 2, 6  {runs}     300                 {steps:,}\n" in out
    assert "  learner (toy_agents:Learner)  all scenarios  gain=0.5\n" in out
    assert "  short (mbml)                  all scenarios  env_steps=100, rounds=2\n" in out


def test_a_suite_says_where_settings_differ(capsys) -> None:
    assert main(["info", "quick"]) == 0
    out = capsys.readouterr().out
    assert "  maml       cartpole, driving  defaults\n" in out
    assert "  maml       locomotion         meta_batch_size=12, " in out
    assert "  mbml       driving            rounds=3, " in out


@pytest.mark.parametrize("name", list_suites())
def test_every_suite_can_be_described(name: str, capsys) -> None:
    assert main(["info", name]) == 0
    out = capsys.readouterr().out
    for entry in find_suite(name).entries:
        assert f"\n  {entry.scenario.id} " in out


@pytest.mark.parametrize("name", list_scenarios())
def test_every_scenario_can_be_described(name: str, capsys) -> None:
    assert main(["info", name]) == 0
    assert "count " in capsys.readouterr().out


def test_a_class_elsewhere_is_described(capsys) -> None:
    assert main(["info", "toy_agents:Learner"]) == 0
    assert "seconds before each collection" in capsys.readouterr().out
    assert main(["info", "toy_family:Toy"]) == 0
    assert "gain" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("dqm", "did you mean 'dqn'?"),
        ("cartpole-wirng-v1", "did you mean 'cartpole-wiring-v1'?"),
        ("toy_agents:NoConfig", "it has no dataclass 'Config'"),
        ("none.yaml", "none.yaml"),
        ("my_agent.Lean", "did you mean 'my_agent:Lean'?"),
        ("zzzzz", "'mrl-bench list' shows all"),
    ],
)
def test_an_unknown_name_ends_with_2_and_the_nearest(name: str, hint: str, capsys) -> None:
    assert main(["info", name]) == 2
    assert hint in capsys.readouterr().err


def test_list_says_what_each_is(capsys) -> None:
    assert main(["list"]) == 0
    out = capsys.readouterr().out
    for name in list_scenarios():
        scenario = find_scenario(name)
        (line,) = [line for line in out.splitlines() if line.startswith(f"  {name} ")]
        assert line.endswith(scenario.doc)
        assert f" {scenario.family_name} " in line
        assert f" {scenario.horizon} " in line
    for kind in ("family", "agent"):
        for name in registry.names(kind):
            assert len(summary(kind, name)) > 20
            assert summary(kind, name) in out


def test_check_takes_classes(capsys, monkeypatch: pytest.MonkeyPatch, forked_checks: None) -> None:
    monkeypatch.setattr(subject, "FULL_EPISODES", 2)
    assert main(["check", "toy_agents:WrongShape", "broken_agents:Sound"]) == 1
    out, err = capsys.readouterr()
    assert "act returned actions of shape" in err
    assert out.startswith("broken_agents:Sound: an agent that keeps its contract")
    assert main(["check", "toy_agents:Lerner"]) == 2
    assert "did you mean 'Learner'?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import nothing_like_this", "cannot be imported: ModuleNotFoundError: No module named"),
        ("class Lean(", "cannot be imported: SyntaxError:"),
    ],
)
def test_check_says_in_one_line_what_is_wrong_with_a_module(code, said, tmp_path, monkeypatch, capsys):
    (tmp_path / "faulty_module.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    assert main(["check", "faulty_module:Lean"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line


@pytest.mark.parametrize("width", [20, 80])
@pytest.mark.parametrize("name", ["list", "quick", "cartpole-target-v1", "driving", "maml-mbml"])
def test_a_narrow_terminal_gets_whole_words(name: str, width: int, monkeypatch) -> None:
    class Terminal(StringIO):
        def isatty(self) -> bool:
            return True

    arguments = ["list"] if name == "list" else ["info", name]
    whole, narrow = StringIO(), Terminal()
    for variable, value in (("COLUMNS", str(width)), ("TERM", "xterm"), ("NO_COLOR", "1")):
        monkeypatch.setenv(variable, value)
    for output in (whole, narrow):
        monkeypatch.setattr("sys.stdout", output)
        assert main(arguments) == 0
    lines = re.sub(r"\x1b\[[^a-zA-Z]*[a-zA-Z]", "", narrow.getvalue()).splitlines()
    assert max(map(len, lines)) <= width
    words = {word.rstrip(":") for line in lines for word in line.split()}
    wanted = {word.rstrip(":") for word in whole.getvalue().split() if len(word) < width - width // 4}
    assert wanted - words <= (
        {"name"} if width == 20 else set()
    )  # at 20 columns the first column has no head


def test_a_module_that_cannot_be_imported_is_one_line(tmp_path: Path, monkeypatch, capsys) -> None:
    (tmp_path / "broken_module.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert main(["info", "broken_module:Lean"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("'broken_module:Lean' cannot be imported: ZeroDivisionError: division by zero")

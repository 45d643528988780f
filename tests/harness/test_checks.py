"""`check_agent` and `mrl-bench check`: sound agents pass, and each broken promise is refused by its name."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import broken_agents
import pytest
import torch
from bench_kit import make_scenario
from broken_agents import BROKEN, Sound, SoundConfig
from refusal import refused

import mrl_bench
from mrl_bench.checks import new_process, subject
from mrl_bench.cli.main import main
from mrl_bench.errors import ContractError, UsageError


@pytest.fixture(autouse=True)
def _brief_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject, "FULL_EPISODES", 1)
    monkeypatch.setattr(subject, "SECONDS", 2)
    monkeypatch.setattr(subject, "STEPS", 30)


IN_A_NEW_PROCESS = new_process.execute


@pytest.fixture(autouse=True)
def _one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plays here what a check plays in a new process, which takes seconds."""
    monkeypatch.setattr(new_process, "execute", lambda *lines: exec("\n".join(lines), {}))


@pytest.mark.parametrize(
    "agent", ["random", "blind", "maml", "mbml", "maml-mbml", "dqn", "broken_agents:Sound", Sound]
)
def test_sound_agents_pass(agent: str | type) -> None:
    mrl_bench.check_agent(agent)


def test_the_scenario_can_be_chosen(tmp_path: Path, capsys) -> None:
    scenario = make_scenario(tmp_path)
    assert main(["check", "broken_agents:Sound", "--scenario", str(scenario.path)]) == 0
    assert main(["check", "broken_agents:Sound", "--scenario", "cartpole-wirin-v1"]) == 2
    assert "no scenario 'cartpole-wirin-v1': did you mean 'cartpole-wiring-v1'?" in capsys.readouterr().err


def test_a_sequential_agent_passes() -> None:
    class OneByOne(Sound):
        sequential = True

        def adapt(self, state: Any, memory: Any, rollout: Any, rng: Any) -> Any:
            assert rollout.reward.shape[1] == 1
            return super().adapt(state, memory, rollout, rng)

    mrl_bench.check_agent(OneByOne)


def test_an_instance_can_be_checked(tmp_path: Path) -> None:
    scenario = make_scenario(tmp_path)
    mrl_bench.check_agent(Sound(scenario.spec, SoundConfig(gain=0.1), 0, torch.device("cpu")), scenario)


@pytest.fixture
def new_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(new_process, "execute", IN_A_NEW_PROCESS)


@pytest.mark.usefixtures("new_processes")
def test_a_sound_agent_passes_in_a_new_process() -> None:
    mrl_bench.check_agent(Sound)


SEEN_IN_A_NEW_PROCESS = ("KeepsAWeightInItsClass", "KeepsAWeightInItsModule")


@pytest.mark.parametrize("name", SEEN_IN_A_NEW_PROCESS)
@pytest.mark.usefixtures("forked_checks")
def test_what_a_new_process_sees(name: str, capsys) -> None:
    refused(broken_agents, name, capsys)


@pytest.mark.usefixtures("new_processes")
def test_a_new_process_has_a_time_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(new_process, "SECONDS", 0.01)
    with pytest.raises(ContractError, match=r"in a new interpreter: not finished after 0\.01 s"):
        mrl_bench.check_agent(Sound)


@pytest.mark.parametrize("name", [name for name in BROKEN if name not in SEEN_IN_A_NEW_PROCESS])
def test_a_broken_agent_is_refused_by_the_name_of_its_promise(name: str, capsys) -> None:
    refused(broken_agents, name, capsys)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("HasNoConfig", "there is no Config"),
        ("ConfiguresWithADict", "Config is a dict, not a dataclass"),
        ("ConfigAsksForMore", "'gain' has no default"),
        ("HasNoStartEpisode", "there is no method start_episode(state, num_envs)"),
        (
            "IsOfTheOldContract",
            "act takes (state, step, explore, rng), not (state, memory, step, explore, rng)",
        ),
        ("IsOfTheOldContract", "adapt takes (state, rollout, rng), not (state, memory, rollout, rng)"),
        ("CannotBeMade", "FileNotFoundError: weights.pt (broken_agents.py:"),
        ("IsMadeWithoutADevice", "takes 4 positional arguments but 5 were given"),
        ("FailsToTrain", "ValueError: no idea (broken_agents.py:"),
        ("ExitsFromTraining", "SystemExit: that is enough (broken_agents.py:"),
        ("NeverStops", "meta_train asked for 11 more tasks or episodes when the budget was spent"),
        ("AsksForHalfATask", "training.tasks: count must be a whole number of at least 1, not 2.5"),
        ("StartsWithNumpy", "a leaf that is a numpy array"),
        ("StartsWithACount", "a leaf that is an int"),
        ("ActsWithoutMemory", "act must return (action, memory), and returned a Tensor"),
        ("ActsInNumpy", "act must return its action as a tensor, and returned a numpy array"),
        ("ActsTwice", "act returned actions of shape (3, 2, 2), not (B, E, A) = (3, 2, 1)"),
        ("ActsInTheComplexPlane", "complex"),
        ("ActsWithInfinity", "not finite at t = 0"),
        ("AdaptsToNone", "adapt returned None"),
        ("CountsInAnAttribute", "count"),
        ("ForgetsAWeight", "state_dict leaves something out"),
        ("SavesNumbers", "'gain' of state_dict is a float, not a tensor"),
        ("CannotLoad", "KeyError: 'weights' (broken_agents.py:"),
    ],
)
def test_what_was_found_is_clear(name: str, found: str) -> None:
    with pytest.raises(ContractError) as refusal:
        mrl_bench.check_agent(f"broken_agents:{name}")
    assert found in str(refusal.value)


def test_all_failures_are_listed() -> None:
    class Worse(broken_agents.FailsToTrain, broken_agents.ForgetsAWeight):
        pass

    with pytest.raises(ContractError) as refusal:
        mrl_bench.check_agent(Worse)
    lines = str(refusal.value).splitlines()
    assert lines[0] == "Worse breaks 2 promises of an agent:"
    assert [line for line in lines if line.startswith("- ")] == ["- meta_trains", "- weights_can_be_restored"]


def test_what_could_not_be_checked_is_said() -> None:
    with pytest.raises(ContractError, match="not checked before that is repaired: adapts, meta_trains, "):
        mrl_bench.check_agent("broken_agents:ActsTwice")


def test_a_promise_can_be_waived_with_a_reason(capsys) -> None:
    arguments = ["broken_agents:ForgetsAWeight", "--waive", "weights_can_be_restored=it cannot be saved"]
    assert main(["check", *arguments]) == 0
    assert "except weights_can_be_restored (waived: it cannot be saved)" in capsys.readouterr().out
    with pytest.raises(UsageError, match="waived without need: Sound keeps the promise of adapts"):
        mrl_bench.check_agent(Sound, waive={"adapts": "it does not learn"})
    with pytest.raises(UsageError, match="no check 'adapt' to waive: did you mean 'adapts'"):
        mrl_bench.check_agent(Sound, waive={"adapt": "it does not learn"})


def test_meta_training_is_cut_short_and_said(capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also in an agent that catches every exception."""

    class Slow(Sound):
        def meta_train(self, training: Any) -> None:
            super().meta_train(training)
            while True:
                try:
                    torch.zeros(1)
                except Exception:
                    continue

    monkeypatch.setattr(broken_agents, "Slow", Slow, raising=False)
    monkeypatch.setattr(subject, "SECONDS", 0.5)
    assert main(["check", "broken_agents:Slow"]) == 0
    assert "meta-trained for " in capsys.readouterr().out


def test_an_import_is_not_cut_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What an agent imports first when it trains would stay in `sys.modules` as half a module."""

    class ImportsLate(Sound):
        def meta_train(self, training: Any) -> None:
            import imported_slowly

            assert imported_slowly.whole
            super().meta_train(training)

    (tmp_path / "imported_slowly.py").write_text("import time\ntime.sleep(0.3)\nwhole = True\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(subject, "SECONDS", 0.1)
    mrl_bench.check_agent(ImportsLate)


def test_global_generators_are_left_alone() -> None:
    before = random.getstate(), torch.get_rng_state().tolist()
    mrl_bench.check_agent(Sound)
    assert (random.getstate(), torch.get_rng_state().tolist()) == before

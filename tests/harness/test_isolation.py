"""Agents in a process of their own: they earn the same there, and cannot get out."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import escaping_agents
import numpy as np
import pytest
import torch
from bench_kit import make_scenario, make_training

from mrl_bench import registry
from mrl_bench.errors import ContractError
from mrl_bench.leaderboard.alone import OneTask, chosen, earns_less_alone
from mrl_bench.protocol.adaptation import evaluate
from mrl_bench.results import Curve
from mrl_bench.runs.isolation import core
from mrl_bench.runs.isolation.remote import Isolation, Patience
from mrl_bench.scenario import Scenario
from mrl_bench.scenario.settings import make_config

CPU = torch.device("cpu")
SMALL = {"meta_batch_size": 2}


@pytest.fixture(scope="module")
def isolation() -> Iterator[Isolation]:
    os.environ["OF_THE_USER"] = "secret"
    with Isolation(Patience(make=60, act=1.5, adapt=1.5)) as found:
        yield found
    del os.environ["OF_THE_USER"]


@pytest.fixture(scope="module")
def scenario(tmp_path_factory: pytest.TempPathFactory) -> Scenario:
    return make_scenario(tmp_path_factory.mktemp("scenario"))


def remotely(isolation: Isolation, scenario: Scenario, target: str, **settings: Any) -> Curve:
    with isolation.agent(target, scenario.spec, settings, 3) as agent:
        return evaluate(agent, scenario, "test", seed=3, device=CPU)


def here(scenario: Scenario, target: str, **settings: Any) -> Curve:
    cls = registry.find("agent", target)
    agent = cls(scenario.spec, make_config(cls, settings), 3, CPU)
    return evaluate(agent, scenario, "test", seed=3, device=CPU)


@pytest.mark.parametrize(
    ("target", "settings"),
    [
        ("toy_agents:Learner", {}),
        ("mrl_agents.maml:Maml", {}),
        ("mrl_agents.mbml:Mbml", {"action_history": 2}),  # has a memory
        ("mrl_agents.maml_mbml:MamlMbml", {}),
        ("mrl_agents.dqn:Dqn", {}),
        ("rl2:RL2", {}),  # is sequential
    ],
)
def test_an_agent_earns_the_same_in_isolation(
    isolation: Isolation,
    scenario: Scenario,
    target: str,
    settings: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    examples = Path(__file__).parents[2] / "examples"
    monkeypatch.syspath_prepend(str(examples))
    one, other = here(scenario, target, **settings), None
    with isolation.agent(target, scenario.spec, settings, 3, [examples]) as agent:
        other = evaluate(agent, scenario, "test", seed=3, device=CPU)
    assert np.array_equal(one.returns, other.returns)
    assert np.array_equal(one.online.returns, other.online.returns)


def test_weights_are_loaded(isolation: Isolation, scenario: Scenario) -> None:
    from safetensors.torch import save

    weights = save({"push": torch.full((1,), 0.8), "same": torch.full((1,), 0.8)})
    with isolation.agent("toy_agents:Learner", scenario.spec, {}, 3) as agent:
        before = evaluate(agent, scenario, "test", seed=3, device=CPU)
        agent.load(weights)
        after = evaluate(agent, scenario, "test", seed=3, device=CPU)
    assert not np.array_equal(before.returns, after.returns)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("SleepsInAct", "did not answer in time"),
        ("SleepsInAdapt", "did not answer in time"),
        ("SleepsAtFirst", "did not answer in time"),
        ("SleepsAtTheStart", "did not answer in time"),
        ("Leaves", "has ended"),
        ("Crashes", "has ended"),
        ("Raises", "the agent failed: SystemExit: a long story"),
        ("FillsMemory", "MemoryError"),
        ("FillsDisk", "OSError"),
        ("WrongShape", "act returned actions of shape"),
    ],
)
def test_what_an_agent_does_to_its_process_fails_its_run_alone(
    isolation: Isolation, scenario: Scenario, name: str, said: str
) -> None:
    with pytest.raises(ContractError) as failed:
        remotely(isolation, scenario, f"escaping_agents:{name}")
    assert said in str(failed.value)
    assert "\n" not in str(failed.value)
    assert len(str(failed.value)) < 600
    remotely(isolation, scenario, "toy_agents:Learner")  # others go on


@pytest.mark.parametrize(
    ("name", "use"),
    [
        ("SleepsWhenMade", lambda agent, scenario: None),
        ("SleepsInItsWeights", lambda agent, scenario: agent.state_dict()),
        ("SleepsInTraining", lambda agent, scenario: agent.meta_train(make_training(scenario))),
    ],
)
def test_an_agent_that_sleeps_elsewhere_fails_in_time(
    isolation: Isolation, scenario: Scenario, name: str, use: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(isolation, "_patience", Patience(make=3, train=1.5))

    def played() -> None:
        with isolation.agent(f"escaping_agents:{name}", scenario.spec, {}, 3) as agent:
            use(agent, scenario)

    with pytest.raises(ContractError, match="did not answer in time"):
        played()


@pytest.mark.parametrize("name", ["Forks", "Prints"])
def test_what_an_agent_does_beside_acting_changes_nothing(
    isolation: Isolation, scenario: Scenario, name: str
) -> None:
    found = remotely(isolation, scenario, f"escaping_agents:{name}")
    assert np.array_equal(found.returns, remotely(isolation, scenario, "toy_agents:Learner").returns)


def test_what_an_agent_changes_in_its_process_is_not_changed_here(
    isolation: Isolation, scenario: Scenario
) -> None:
    mean, dtype = np.mean, torch.get_default_dtype()
    found = remotely(isolation, scenario, "escaping_agents:Meddles")
    assert (np.mean, torch.get_default_dtype()) == (mean, dtype)
    assert found.returns.max() <= scenario.horizon


def test_actions_that_are_not_finite_fail_their_episodes(isolation: Isolation, scenario: Scenario) -> None:
    found = remotely(isolation, scenario, "escaping_agents:NotFinite")
    assert (found.failed[:, 0] == scenario.protocol.scored_episodes).all()


def descendants(ancestor: int) -> set[int]:
    ran = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True)
    parents = {int(pid): int(parent) for pid, parent in map(str.split, ran.stdout.splitlines())}
    found = {ancestor}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def test_what_an_agent_starts_ends_with_it(scenario: Scenario) -> None:
    with Isolation() as isolation:
        base = isolation._process.pid
        with isolation.agent("escaping_agents:Forks", scenario.spec, {}, 3) as agent:
            evaluate(agent, scenario, "test", seed=3, device=CPU)
            started = descendants(base)
            assert len(started) > 10
        deadline = time.monotonic() + 20
        while len(descendants(base)) > 1 and time.monotonic() < deadline:
            time.sleep(0.1)
        assert descendants(base) == {base}
        assert not [pid for pid in started - {base} if Path(f"/proc/{pid}").exists()]


def test_an_agent_sees_nothing_of_the_harness(isolation: Isolation, scenario: Scenario) -> None:
    assert os.environ["OF_THE_USER"]
    remotely(isolation, scenario, "escaping_agents:Looks", gain=float(os.getpid()))


def test_an_agent_has_no_network(isolation: Isolation, scenario: Scenario) -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        threading.Thread(target=lambda: socket.create_connection(("127.0.0.1", port)).close()).start()
        server.accept()[0].close()  # from here it can be reached
        with pytest.raises(ContractError, match="the agent failed"):
            remotely(isolation, scenario, "escaping_agents:Calls", gain=float(port))


def test_nothing_is_learned_from_scored_episodes(isolation: Isolation, scenario: Scenario) -> None:
    """The harness refuses such an agent; in isolation it gains nothing, for each scored episode is its first."""
    found = remotely(isolation, scenario, "escaping_agents:LearnsWhileScored")
    assert np.array_equal(found.returns[:, 0], found.returns[:, 1])
    assert np.array_equal(found.returns[:, 0], found.returns[:, 2])
    with pytest.raises(ContractError, match="changed the agent's"):
        here(scenario, "escaping_agents:LearnsWhileScored")
    escaping_agents.LearnsWhileScored.scored = 0


def test_an_agent_that_cannot_be_made_says_why(isolation: Isolation, scenario: Scenario) -> None:
    for target, settings, said in (
        ("nowhere:Agent", {}, "no module 'nowhere'"),
        ("toy_agents:Nobody", {}, "Nobody"),
        ("toy_agents:Learner", {"gian": 1.0}, "gian"),
    ):
        with (
            pytest.raises(ContractError, match=said),
            isolation.agent(target, scenario.spec, settings, 0),
        ):
            pass


def test_submitted_code_is_executed_in_place_of_the_installed_one(
    isolation: Isolation, scenario: Scenario, tmp_path: Path
) -> None:
    folder = tmp_path / "mrl_agents"
    folder.mkdir()
    (folder / "__init__.py").write_text('TABLE = {"maml": "mrl_agents.maml:Maml"}\n')
    (folder / "maml.py").write_text("from toy_agents import Learner as Maml\n")
    with isolation.agent("mrl_agents.maml:Maml", scenario.spec, {}, 3, [tmp_path]) as agent:
        assert agent.state_dict().keys() == {"push", "same"}


def test_a_task_alone_is_played_in_its_own_instance(isolation: Isolation, scenario: Scenario) -> None:
    """Of an agent without noise it is the same episode."""
    with isolation.agent("escaping_agents:LearnsWhileScored", scenario.spec, {}, 3) as agent:
        together = evaluate(agent, scenario, "test", seed=3, device=CPU)
        for task in range(3):
            alone = evaluate(OneTask(agent, task), scenario, "test", seed=3, device=CPU)
            assert np.array_equal(alone.returns[task], together.returns[task])


def test_an_agent_that_needs_the_other_tasks_is_told(isolation: Isolation, tmp_path: Path) -> None:
    scenario = make_scenario(tmp_path, splits={"test": {"count": 12, "seed": 1}})
    with isolation.agent("escaping_agents:TellsTheOthers", scenario.spec, {}, 3) as agent:
        together = evaluate(agent, scenario, "test", seed=3, device=CPU)
        alone = {
            task: evaluate(OneTask(agent, task), scenario, "test", seed=3, device=CPU).returns[task]
            for task in chosen(12, 0)
        }
    assert len(alone) == 8
    differences = [(together.returns[task, -1] - alone[task][-1]).mean() for task in alone]
    assert any(differences), "it acts otherwise alone"


def test_how_much_less_counts() -> None:
    rng = np.random.default_rng(0)
    returns = rng.normal(100.0, 5.0, (20, 1, 5))

    class Together:
        def __init__(self) -> None:
            self.returns = returns

    def less(by: float, noise: float) -> float | None:
        alone = {task: returns[task] - by + rng.normal(0, noise, (1, 5)) for task in chosen(20, 0)}
        return earns_less_alone(Together(), alone, 100.0)  # type: ignore[arg-type]

    assert less(0.0, 0.0) is None
    assert less(30.0, 0.0) == pytest.approx(0.3)
    assert less(30.0, 5.0) == pytest.approx(0.3, abs=0.1)
    assert less(-30.0, 5.0) is None, "who earns more alone loses nothing"
    assert not any(less(0.0, 10.0) for _ in range(300))


def test_a_lent_isolation_starts_nothing_and_is_the_same(isolation: Isolation, scenario: Scenario) -> None:
    own = remotely(isolation, scenario, "toy_agents:Learner")
    with Isolation(lent=isolation.lend()) as lent, Isolation(lent=lent.lend()) as again:
        for each in (lent, again):
            found = remotely(each, scenario, "toy_agents:Learner")
            assert np.array_equal(found.returns, own.returns)
            with each.agent("escaping_agents:Looks", scenario.spec, {}, 3) as agent:  # in a sandbox, too
                evaluate(agent, scenario, "test", seed=3, device=CPU)
    assert np.array_equal(remotely(isolation, scenario, "toy_agents:Learner").returns, own.returns)


@pytest.fixture
def own_cores(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """The cores of this process, which no other process of the tests claims."""
    if not hasattr(os, "sched_setaffinity"):
        pytest.skip("this system keeps no process on a core")
    monkeypatch.setattr(core, "NAME", f"\0mrl-bench-test-{os.getpid()}-")
    return os.sched_getaffinity(0)


def test_an_agent_shares_a_core_with_the_harness(own_cores: set[int], scenario: Scenario) -> None:
    with Isolation() as isolation:
        for _ in range(2):
            with (
                isolation.agent("escaping_agents:SaysItsCores", scenario.spec, {}, 3) as one,
                isolation.agent("escaping_agents:SaysItsCores", scenario.spec, {}, 3) as other,
            ):
                shared = os.sched_getaffinity(0)
                assert len(shared) == 1
                for agent in (one, other):
                    assert set(agent.state_dict()["cores"].tolist()) == shared
            assert os.sched_getaffinity(0) == own_cores


def test_no_two_workers_claim_the_same_core(own_cores: set[int]) -> None:
    many = len(own_cores) + 1
    together = threading.Barrier(many)

    def work(_: int) -> int | None:
        found = core.claim()
        together.wait(60)  # each thread has cores of its own
        if found:
            assert os.sched_getaffinity(0) == {found.number}
            found.release()
        assert os.sched_getaffinity(0) == own_cores
        return found and found.number

    for _ in range(2):
        with ThreadPoolExecutor(many) as pool:
            claimed = [*pool.map(work, range(many))]
        assert sorted(claimed, key=str) == sorted([*own_cores, None], key=str)


def test_isolation_ends_its_processes(scenario: Scenario) -> None:
    with Isolation() as isolation:
        remotely(isolation, scenario, "toy_agents:Learner")
        process = isolation._process
        assert process.poll() is None
    assert process.poll() is not None

"""Agents behind a socket: `mrl-bench serve-agent`, and a program that knows the messages alone."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from bench_kit import Cli, make_scenario, make_suite, make_training, run_here

from mrl_bench.errors import ContractError
from mrl_bench.leaderboard.verify import verify
from mrl_bench.protocol.adaptation import evaluate
from mrl_bench.protocol.training import meta_train
from mrl_bench.runs.isolation.served import ServedAgent
from mrl_bench.scenario import Scenario

CPU = torch.device("cpu")
TARGET = "mrl_bench.runs.isolation.served:ServedAgent"


def appears(path: Path, within: float = 60) -> None:
    until = time.monotonic() + within
    while not path.exists():
        assert time.monotonic() < until
        time.sleep(0.05)


@contextmanager
def foreign(path: Path) -> Iterator[None]:
    program = Path(__file__).parents[1] / "support" / "foreign_agent.py"
    process = subprocess.Popen([sys.executable, "-S", program, path])
    try:
        appears(path)
        yield
    finally:
        process.kill()
        process.wait()


def served(scenario: Scenario, path: Path) -> ServedAgent:
    return ServedAgent(scenario.spec, ServedAgent.Config(str(path)), 3, CPU)


def test_a_program_in_another_language_can_be_an_agent(tmp_path: Path) -> None:
    scenario, path = make_scenario(tmp_path), tmp_path / "agent.sock"
    logged: list[float] = []
    with foreign(path):
        agent = served(scenario, path)
        training = make_training(
            scenario, 200, log=lambda values, _: logged.extend(v for k, v in values.items() if "losses" in k)
        )
        meta_train(agent, training)  # type: ignore[arg-type]
        weights = agent.state_dict()
        copy = served(scenario, path)
        copy.load_state_dict(weights)
        curves = [evaluate(each, scenario, "test", seed=3, device=CPU) for each in (agent, copy)]  # type: ignore[arg-type]
    assert logged == pytest.approx([0.1, 0.2, 0.3], abs=1e-3)
    assert weights["push"].tolist() == pytest.approx([logged[-1]])
    assert 0 < training.steps <= 200
    assert np.array_equal(curves[0].returns, curves[1].returns)
    assert not np.array_equal(curves[0].returns[:, 0], curves[0].returns[:, 1])


def test_an_agent_that_nobody_serves_is_told(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match=r"no agent is served on .*No such file"):
        served(make_scenario(tmp_path), tmp_path / "agent.sock")


@pytest.mark.usefixtures("no_figures")
def test_a_served_agent_is_scored_and_verified(tmp_path: Path) -> None:
    suite, path = make_suite(tmp_path, {}), tmp_path / "agent.sock"
    server = Cli("serve-agent", "toy_agents:Learner", "--socket", path)
    try:
        server.wait_for("serving toy_agents:Learner")
        code, _, errors = run_here(
            "score", TARGET, "--set", f"socket={path}", "--set", "settings.gain=0.5", "--name", "mine",
            "--suite", suite, "--out", tmp_path / "out", "--submissions", tmp_path / "made", "--workers", 1,
        )  # fmt: skip
        assert code == 0, errors
        (made,) = (tmp_path / "made").iterdir()
        assert not (made / "agent").exists()
        said: dict[int, str] = {}
        verify(made, 2, suite, said.__setitem__)
        assert said[2] == "1 runs evaluated again in isolation, 1 of them with the same returns"
    finally:
        server.process.terminate()
        server.end()
    assert not path.exists()

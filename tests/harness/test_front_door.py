"""`import mrl_bench`: what it offers, that it is cheap, and that it does what the harness does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from bench_kit import make_scenario
from toy_agents import Learner, ToyConfig
from toy_family import Toy

import mrl_bench
from mrl_bench.cli.main import main
from mrl_bench.errors import ContractError, UsageError
from mrl_bench.protocol.adaptation import evaluate
from mrl_bench.types import Step


def test_all_is_exactly_the_public_surface() -> None:
    code = "import mrl_bench; print(*(set(vars(mrl_bench)) - set(mrl_bench.__all__)))"
    others = {name for name in run_python(code).split() if not name.startswith("_")}
    helpers = {"annotations", "dataclass", "Mapping", "Sequence", "Path", "TYPE_CHECKING", "Any"}
    assert others == helpers
    assert mrl_bench.__all__ == sorted(mrl_bench.__all__)
    assert all(
        callable(getattr(mrl_bench, name)) and getattr(mrl_bench, name).__doc__ for name in mrl_bench.__all__
    )


def test_importing_and_listing_import_neither_torch_nor_a_simulator() -> None:
    code = "import sys, mrl_bench; {}; print(*{{'torch', 'mujoco', 'gymnasium', 'carla'}} & set(sys.modules))"
    assert run_python(code.format("pass")).split() == []
    assert run_python(code.format("assert len(mrl_bench.list_scenarios()) > 20")).split() == []
    assert run_python("import sys, mrl_bench; print('numpy' in sys.modules)").strip() == "False"


def run_python(code: str) -> str:
    path = f"import sys; sys.path[:0] = {[p for p in sys.path if p]!r}; "
    ran = subprocess.run([sys.executable, "-c", path + code], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


# -- make --------------------------------------------------------------------------------------------------------


def test_make_steps_all_instances_with_the_shapes_of_the_contract() -> None:
    env = mrl_bench.make("cartpole-wiring-v1", tasks=[4, 2], num_envs=3)
    assert (len(env.tasks), env.num_envs, env.spec.horizon) == (2, 3, 200)
    obs = env.reset(seed=5)
    assert obs.shape == (2, 3, env.spec.obs_dim)
    assert torch.equal(obs, env.reset(seed=5))
    assert not torch.equal(obs, env.reset(seed=6))
    step = env.step(torch.zeros(2, 3, env.spec.act_dim))
    assert isinstance(step, Step)
    assert step.obs.shape == obs.shape
    for value in (step.reward, step.terminated, step.failed):
        assert value.shape == (2, 3)
    env.close()


def test_a_step_before_the_first_reset_is_refused() -> None:
    env = mrl_bench.make("cartpole-wiring-v1", tasks=0)
    with pytest.raises(UsageError, match=r"call reset\(\) before step\(\)"):
        env.step(torch.zeros(1, 1, 1))


def test_make_plays_the_tasks_of_the_split(tmp_path: Path) -> None:
    scenario = make_scenario(tmp_path)
    for split in ("train", "test", "ood"):
        np.testing.assert_array_equal(
            mrl_bench.make(scenario, split).tasks.values, scenario.tasks(split).values
        )
    one = mrl_bench.make(scenario.path, tasks=1)
    np.testing.assert_array_equal(one.tasks.values, scenario.tasks("test").values[[1]])


def test_make_is_the_environment_of_the_family(tmp_path: Path) -> None:
    scenario = make_scenario(tmp_path)
    ours = mrl_bench.make(scenario, num_envs=2)
    theirs = scenario.family.make(scenario.tasks("test"), 2, torch.device("cpu"))
    assert torch.equal(ours.reset(3), theirs.reset(3))
    action = torch.full((3, 2, 1), 0.5)
    assert torch.equal(ours.step(action).obs, theirs.step(action).obs)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"scenario": "cartpole-wirin-v1"}, "did you mean 'cartpole-wiring-v1'"),
        ({"split": "tset"}, "did you mean 'test'"),
        ({"tasks": 50}, r"tasks 0 to 49, not \[50\]"),
        ({"tasks": [0, -1]}, r"tasks 0 to 49, not \[-1\]"),
        ({"tasks": []}, "not none"),
        ({"num_envs": 0}, "num_envs must be at least 1"),
    ],
)
def test_make_refuses_what_there_is_not(arguments: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        mrl_bench.make(**{"scenario": "cartpole-wiring-v1", **arguments})


def test_every_listed_scenario_can_be_loaded() -> None:
    names = mrl_bench.list_scenarios()
    assert names == sorted(names)
    for name in names:
        assert mrl_bench.load_scenario(name).id == name


# -- evaluate ----------------------------------------------------------------------------------------------------


def test_a_class_and_its_name_are_trained_and_score_what_the_command_line_says(
    tmp_path: Path, capsys
) -> None:
    scenario = make_scenario(tmp_path)
    by_class = mrl_bench.evaluate(Learner, scenario, seed=3, settings={"gain": 0.5})
    by_name = mrl_bench.evaluate("toy_agents:Learner", scenario.path, seed=3, settings={"gain": 0.5})
    np.testing.assert_array_equal(by_class.returns, by_name.returns)
    command = ["evaluate", str(scenario.path), "toy_agents:Learner", "--seed", "3", "--set", "gain=0.5"]
    assert main([*command, "--out", str(tmp_path / "run")]) == 0
    printed = " ".join(f"{value:.1f}" for value in by_class.returns.mean((0, 2)))
    assert f"return {printed} at k = 0, 2, 6" in capsys.readouterr().out


def test_an_instance_is_evaluated_as_it_is(tmp_path: Path) -> None:
    scenario = make_scenario(tmp_path)
    agent = Learner(scenario.family.spec, ToyConfig(), 0, torch.device("cpu"))
    agent.push = torch.full((1,), 0.3)
    curve = mrl_bench.evaluate(agent, scenario, "ood", seed=1)
    same = evaluate(agent, scenario, "ood", seed=1, device=torch.device("cpu"))
    np.testing.assert_array_equal(curve.returns, same.returns)
    assert curve.returns.shape == (2, 3, 3)  # (B, K, N)
    with pytest.raises(UsageError, match="this agent is an instance"):
        mrl_bench.evaluate(agent, scenario, settings={"gain": 1.0})


def test_the_name_oracle_alone_observes_the_parameters(tmp_path: Path) -> None:
    scenario = make_scenario(tmp_path)
    assert mrl_bench.evaluate("oracle", scenario).returns.shape == (3, 3, 3)
    with pytest.raises(UsageError, match="no agent 'orcle'"):
        mrl_bench.evaluate("orcle", scenario)


# -- checks ------------------------------------------------------------------------------------------------------


def test_a_family_is_checked_by_name_class_or_instance() -> None:
    mrl_bench.check_family("cartpole")
    with pytest.raises(ContractError, match="NotImplementedError"):
        mrl_bench.check_family(Toy)

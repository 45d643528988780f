"""References: made with several seeds, kept in a file, used by every bench whose tasks they are of."""

from __future__ import annotations

import dataclasses
import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
from bench_kit import make_scenario, make_suite, online, run_here, toy
from score_kit import RANDOM, references

from mrl_bench.cli.main import main
from mrl_bench.errors import MrlBenchError
from mrl_bench.results import Curve, Evaluation, TrainingResult
from mrl_bench.runs.executor import plan_runs
from mrl_bench.runs.manifest import read_manifest
from mrl_bench.runs.reference import plan_references
from mrl_bench.scenario import find_scenario, list_scenarios
from mrl_bench.scenario.references import References, references_path, shipped_references
from mrl_bench.scenario.suite import find_suite
from tools.write_headroom import PAGE, with_table


def with_half(found: References, agent: str, half: list[float]) -> References:
    """The references with other returns of an agent that was trained with half of the budget."""
    trained = found.agents[agent]
    test = dataclasses.replace(trained.splits["test"], half=np.array(half))
    changed = dataclasses.replace(trained, splits={**trained.splits, "test": test})
    return dataclasses.replace(found, agents={**found.agents, agent: changed})


def ten_to_twenty() -> References:
    """Random earns 0, blind 10 at best, oracle 20 at best; half of the budget changes nothing."""
    rows = {
        "random": [[0.0, 0.0]],
        "blind": [[2.0, 4.0], [8.0, 12.0]],
        "oracle": [[20.0, 20.0], [10.0, 10.0]],
    }
    found = references(**{name: np.array(values) for name, values in rows.items()})
    return with_half(with_half(found, "blind", [10.0, 1.0]), "oracle", [3.0, 20.0])


def test_the_best_seed_counts() -> None:
    found = ten_to_twenty()
    assert [found.agents[name].splits["test"].best for name in ("blind", "oracle")] == [1, 0]


def test_references_are_certified_if_doubling_the_budget_moves_the_best_return_by_less_than_three_percent() -> (
    None
):
    found = ten_to_twenty()
    assert (found.moved("blind"), found.moved("oracle"), found.moved("random")) == (0.0, 0.0, None)
    assert found.certified
    weaker = with_half(found, "oracle", [19.0])
    assert weaker.moved("oracle") == pytest.approx(0.05)
    assert not weaker.certified
    assert with_half(found, "blind", [10.5]).moved("blind") == pytest.approx(-0.025)
    assert not with_half(found, "blind", [10.7]).certified
    assert not with_half(found, "blind", []).certified


def test_an_oracle_that_is_not_above_random_is_no_ceiling() -> None:
    found = with_half(with_half(references(oracle=RANDOM), "oracle", [0.0]), "blind", [0.0])
    assert found.moved("oracle") is None
    assert not found.certified


def test_references_say_what_is_known_to_be_weak_about_them() -> None:
    found = ten_to_twenty()
    assert found.doubts(env_steps=5000) == []
    (doubt,) = found.doubts(env_steps=6000)
    assert doubt == "the oracle was trained with 5,000 env steps, and an agent with 6,000"
    (doubt,) = with_half(found, "oracle", []).doubts(env_steps=5000)
    assert "not certified" in doubt
    (doubt,) = dataclasses.replace(found, provisional=True).doubts(env_steps=5000)
    assert doubt.startswith("provisional")


def test_a_failed_simulation_of_a_reference_agent_does_not_count(tmp_path: Path) -> None:
    scenario = make_scenario(tmp_path)

    def evaluation(agent: str, seed: int, returns: list[float], failed: list[int]) -> Evaluation:
        curve = Curve(
            k=(0,),
            returns=np.array(returns)[:, None, None],
            env_steps=np.zeros((3, 1)),
            failed=np.array(failed)[:, None],
            online=online(3, 0),
        )
        return Evaluation(scenario.id, "d", agent, True, seed, TrainingResult(10), {"test": curve})

    runs = [evaluation("random", 0, [-300.0, -300.0, -300.0], [0, 0, 0])]
    runs += [evaluation("blind", 0, [-200.0, -200.0, -200.0], [0, 0, 0])]
    runs += [evaluation("oracle", 0, [-100.0, -5.0, -5.0], [0, 1, 1])]  # cut short
    runs += [evaluation("oracle", 1, [-120.0, -130.0, -7.0], [0, 0, 1])]
    found = References.of(scenario.id, runs).agents["oracle"].splits["test"].returns
    np.testing.assert_array_equal(found, [[-100.0, -130.0, -5.0], [-120.0, -130.0, -7.0]])


def test_a_file_of_references_is_read_as_it_was_written(tmp_path: Path) -> None:
    scenario = make_scenario(tmp_path)
    found = dataclasses.replace(ten_to_twenty(), scenario=scenario.id, digest=scenario.tasks_digest)
    path = references_path(scenario)
    assert shipped_references(scenario) is None
    path.parent.mkdir()
    path.write_bytes(found.to_bytes())
    again = shipped_references(scenario)
    assert again is not None
    assert again.to_bytes() == found.to_bytes()


def test_references_of_other_tasks_are_not_used(tmp_path: Path) -> None:
    scenario = make_scenario(tmp_path)
    found = dataclasses.replace(ten_to_twenty(), scenario=scenario.id, digest=scenario.tasks_digest)
    references_path(scenario).parent.mkdir()
    references_path(scenario).write_bytes(found.to_bytes())
    assert shipped_references(make_scenario(tmp_path, budget={"meta_train": 7}, protocol={"k": [0, 1]}))
    assert shipped_references(make_scenario(tmp_path, horizon=13)) is None


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data.pop("agents"),
        lambda data: data["agents"].pop("blind"),
        lambda data: data["agents"]["blind"]["splits"]["test"]["returns"].pop(),
        lambda data: data["agents"]["blind"]["splits"]["test"]["returns"][0].pop(),
        lambda data: data["agents"]["oracle"]["splits"]["test"].update(returns="high"),
        lambda data: data["agents"]["oracle"]["splits"]["test"].update(returns=[1.0, 2.0]),
        lambda data: data["agents"]["oracle"].update(env_steps=float("inf")),
        lambda data: data["agents"]["oracle"].update(splits={}),
        lambda data: data["agents"]["oracle"].update(seeds=[]),
        lambda data: data.update(reported=[["speed"]]),
        lambda data: data.update(reported=[["speed", "speed", None, None, None]]),  # and is not measured
    ],
)
def test_damaged_references_are_refused(tmp_path: Path, damage) -> None:
    scenario = make_scenario(tmp_path)
    found = dataclasses.replace(ten_to_twenty(), scenario=scenario.id, digest=scenario.tasks_digest)
    data = json.loads(found.to_bytes())
    damage(data)
    references_path(scenario).parent.mkdir()
    references_path(scenario).write_text(json.dumps(data))
    with pytest.raises(MrlBenchError, match=r"tiny-v1\.json is damaged"):
        shipped_references(scenario)


def test_blind_and_oracle_are_trained_with_the_whole_budget_and_with_half_of_it(tmp_path: Path) -> None:
    runs = plan_references(make_scenario(tmp_path, budget={"meta_train": 300, "blind": 1000}), [4, 5], "cpu")
    planned = sorted((run.agent.name, run.seed, run.budget) for run in runs)
    assert planned == sorted(
        [("random", seed, 0) for seed in (4, 5)]
        + [("blind", seed, steps) for seed in (4, 5) for steps in (1000, 500)]
        + [("oracle", seed, steps) for seed in (4, 5) for steps in (300, 150)]
    )
    assert len({run.key("train") for run in runs}) == len({run.label for run in runs}) == len(runs)


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A suite whose references do not ship, and of which reference agents learn at least something."""
    budget = {"meta_train": 3000}
    return make_suite(tmp_path / "bare", {"learner": toy("Learner")}, references=False, budget=budget)


def worker_that_ends_at_once() -> subprocess.Popen[bytes]:
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    return subprocess.Popen(["sh", "-c", "exit 3"], start_new_session=True, **pipes)


def test_references_that_are_made_are_used_by_every_bench(
    bare: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_figures: None
) -> None:
    scenario = find_suite(bare).entries[0].scenario
    make = ["reference", scenario.path, "--seeds", 1, "--out", tmp_path / "made", "--device", "cpu"]
    with monkeypatch.context() as once:
        once.setattr("mrl_bench.runs.processes.Worker", worker_that_ends_at_once)
        code, _, err = run_here(*make)
    assert code == 1
    assert "failed" in err
    assert shipped_references(scenario) is None

    code, out, _ = run_here(*make)  # the failed runs are tried again
    found = shipped_references(scenario)
    assert found is not None
    assert code == (0 if found.certified else 1)
    assert "oracle" in out
    assert {len(agent.seeds) for agent in found.agents.values()} == {1}
    assert found.agents["oracle"].env_steps <= 3000
    assert found.made_with["torch"]

    assert [run.agent.name for run in plan_runs(find_suite(bare), "cpu")] == ["learner"]
    code, out, err = run_here("bench", "--suite", bare, "--out", tmp_path / "results")
    assert code == 0, err
    assert "provisional" not in out + err
    assert read_manifest(tmp_path / "results")["references"] == {scenario.digest: found.to_json()}
    scores = (tmp_path / "results" / "scores.json").read_bytes()

    references_path(scenario).unlink()  # the results folder keeps its own
    run_here("report", tmp_path / "results")
    assert (tmp_path / "results" / "scores.json").read_bytes() == scores

    with monkeypatch.context() as none:
        none.setattr("mrl_bench.runs.processes.Worker", None)  # nothing is trained again
        run_here(*make)
    again = shipped_references(scenario)
    assert again is not None
    assert again.to_bytes() == found.to_bytes()


def test_a_suite_without_agents_whose_references_ship_has_nothing_to_run(tmp_path: Path, capsys) -> None:
    suite = make_suite(tmp_path, {})
    assert main(["bench", "--suite", str(suite), "--out", str(tmp_path / "results")]) == 2
    assert "has nothing to run" in capsys.readouterr().err


def test_a_bench_without_references_trains_its_own_and_says_provisional(
    bare: Path, tmp_path: Path, no_figures: None
) -> None:
    code, out, err = run_here("bench", "--suite", bare, "--out", tmp_path / "results")
    assert code == 0, err
    assert "provisional" in out
    planned = {run["agent"]["name"] for run in read_manifest(tmp_path / "results")["runs"]}
    assert planned == {"random", "blind", "oracle", "learner"}


def test_what_ships_fits_the_scenario_and_certifies() -> None:
    folder = references_path(find_scenario(list_scenarios()[0])).parent
    for path in folder.glob("*.json"):
        scenario = find_scenario(path.stem)
        found = shipped_references(scenario)
        assert found is not None, f"{path.name} is of other tasks: make it again"
        assert min(len(agent.seeds) for agent in found.agents.values()) >= 3
        assert found.agents["oracle"].env_steps > 0.99 * scenario.budget.meta_train


def test_the_page_of_headrooms_is_that_of_the_references_that_ship() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page == with_table(page), "run: python -m tools.write_headroom"


def test_references_are_compared_with_others_where_there_are_any(tmp_path: Path, capsys) -> None:
    scenario = make_scenario(tmp_path)
    found = dataclasses.replace(ten_to_twenty(), scenario=scenario.id, digest=scenario.tasks_digest)
    for folder in (tmp_path / "references", tmp_path / "other"):
        folder.mkdir()
    references_path(scenario).write_bytes(found.to_bytes())
    check = ["reference", str(scenario.path), "--check", "--against", str(tmp_path / "other")]
    assert main(check) == 0
    assert capsys.readouterr().out.count("0.50") == 1
    (tmp_path / "other" / "tiny-v1.json").write_bytes(found.to_bytes())
    assert main(check) == 0
    assert capsys.readouterr().out.count("0.50") == 2
    references_path(scenario).write_bytes(with_half(found, "oracle", [1.0]).to_bytes())
    assert main(check) == 1
    assert "tiny-v1 has no certificate" in capsys.readouterr().err

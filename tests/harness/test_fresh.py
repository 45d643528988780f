"""Level 3: who overfits the published tasks is refused, and who does not is not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from bench_kit import bench_here, make_suite, toy

from mrl_bench.leaderboard.build import build
from mrl_bench.leaderboard.fresh import fresh_tasks, overfitted
from mrl_bench.leaderboard.submission import Refused
from mrl_bench.leaderboard.verify import verify
from mrl_bench.scenario import find_scenario

NAMES = [f"scenario-{number} {split}" for number in range(8) for split in ("test", "ood")]


def test_fresh_tasks_are_others_of_the_same_distributions() -> None:
    scenario = find_scenario("cartpole-target-v1")
    fresh, again, other = (fresh_tasks(scenario, seed) for seed in (5, 5, 6))
    for split in ("test", "ood"):
        tasks = [each.tasks(split).values for each in (scenario, fresh, again, other)]
        assert len({each.shape for each in tasks}) == 1
        assert np.array_equal(tasks[1], tasks[2])
        for one, two in ((0, 1), (1, 3)):
            assert not np.isclose(tasks[one], tasks[two])[:, np.ptp(tasks[0], 0) > 0].all(0).any()
    assert np.array_equal(scenario.stream(0, 9).values, fresh.stream(0, 9).values)
    half = fresh.tasks("test").column("pole_half_length")
    assert 0.25 <= half.min() <= half.max() <= 1


def earned(rng: np.random.Generator, mean: float) -> np.ndarray:
    """Returns of 50 tasks, most of them good and some bad, as on cartpole-target."""
    return np.where(rng.random(50) < 0.2, rng.uniform(10, 60, 50), rng.normal(mean, 15, 50))


def test_honest_submissions_are_hardly_ever_refused() -> None:
    rng = np.random.default_rng(0)
    refused = sum(
        bool(overfitted(*({name: earned(rng, 150) for name in NAMES} for _ in range(2)))) for _ in range(200)
    )
    assert refused <= 10


@pytest.mark.parametrize("which", [NAMES, NAMES[:1]], ids=["everywhere", "on one split"])
def test_overfitted_submissions_are_refused(which: list[str]) -> None:
    """The figures of an agent with a table of answers: 200 where an honest one earns 106."""
    rng, refused = np.random.default_rng(0), 0
    for _ in range(200):
        fresh = {name: earned(rng, 106) for name in NAMES}
        claimed = {name: earned(rng, 200 if name in which else 106) for name in NAMES}
        refused += bool(set(overfitted(claimed, fresh)) & set(which))
    assert refused >= 190


def test_what_does_not_vary_is_compared_as_it_is() -> None:
    same = {"one test": np.full(5, 2.0)}
    assert overfitted(same, same) == {}
    assert overfitted(same, {"one test": np.full(5, 1.0)}) == {"one test": 1.0}
    assert overfitted(same, {"one test": np.full(5, 3.0)}) == {}


def test_a_table_of_answers_passes_level_2_and_not_level_3(tmp_path: Path) -> None:
    changes = {
        "horizon": 60,
        "params": {"target_position": {"uniform": [-2, 2]}},
        "splits": {"test": {"count": 30, "seed": 1}},
        "protocol": {"k": [0], "episodes_per_round": 2, "scored_episodes": 2},
    }
    suite = make_suite(tmp_path, {}, **changes)
    knows = {"agent": "knowing_agents:Knows", "set": {"file": str(suite.parent / "tiny-v1.yaml")}}
    suite = make_suite(tmp_path, {"knows": knows, "learner": toy("Learner")}, **changes)
    bench_here(suite, tmp_path / "run")
    honest, table = (build(tmp_path / "run", name, tmp_path / "submissions") for name in ("learner", "knows"))
    said: dict[int, str] = {}
    verify(honest, 3, suite, said.__setitem__, seed=7)
    assert said[3] == "as much on fresh tasks, drawn with seed 7"
    said.clear()
    with pytest.raises(Refused, match="less than it claims on tiny-v1 test"):
        verify(table, 3, suite, said.__setitem__, seed=7)
    assert set(said) == {0, 1, 2}

"""Level 4: weights that meta-training does not give are refused, and honest ones are not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bench_kit import bench_here, make_suite, toy

from mrl_bench.leaderboard.build import build
from mrl_bench.leaderboard.retrain import short_of_claims
from mrl_bench.leaderboard.submission import Refused
from mrl_bench.leaderboard.verify import verify

NAMES = [f"scenario-{number} {split}" for number in range(8) for split in ("test", "ood")]


def compared(rng: np.random.Generator, seeds: int, again: float) -> dict[str, float]:
    """Scores of seeds around 0.6, and of one that was trained again."""
    claimed = {name: rng.normal(0.6, 0.05, seeds) for name in NAMES}
    return short_of_claims(claimed, {name: rng.normal(again, 0.05) for name in NAMES})


@pytest.mark.parametrize("seeds", [3, 10])
def test_honest_submissions_are_hardly_ever_refused(seeds: int) -> None:
    rng = np.random.default_rng(0)
    assert sum(bool(compared(rng, seeds, 0.6)) for _ in range(200)) <= 10


def test_who_scores_far_less_when_trained_again_is_refused() -> None:
    rng = np.random.default_rng(0)
    assert sum(bool(compared(rng, 10, 0.3)) for _ in range(200)) >= 190


def test_seeds_that_are_all_alike_let_expect_the_same() -> None:
    same = {"one test": np.full(3, 0.5)}
    assert short_of_claims(same, {"one test": 0.5}) == {}
    assert short_of_claims(same, {"one test": 0.4}) == {"one test": pytest.approx(0.1)}


def submitted(folder: Path, seeds: int, agent: dict[str, Any]) -> tuple[Path, Path]:
    """The suite and the submission."""
    short = {
        "horizon": 30,
        "splits": {"test": {"count": 3, "seed": 1}},
        "protocol": {"k": [0], "episodes_per_round": 2, "scored_episodes": 2},
    }
    suite = make_suite(folder, {"agent": agent}, seeds=seeds, **short)
    bench_here(suite, folder / "run")
    return suite, build(folder / "run", "agent", folder / "submissions")


def test_a_run_that_is_trained_again_earns_the_same(tmp_path: Path) -> None:
    suite, made = submitted(tmp_path, 1, toy("Learner"))
    said: dict[int, str] = {}
    verify(made, 4, suite, said.__setitem__)
    assert said[4] == "1 runs trained again, 1 of them with the same returns"


@pytest.mark.parametrize(("seeds", "why"), [(3, "less than it claims on tiny-v1"), (1, "less than 3 seeds")])
def test_weights_from_elsewhere_pass_level_3_and_not_level_4(tmp_path: Path, seeds: int, why: str) -> None:
    secret = tmp_path / "secret"
    secret.touch()
    agent = {"agent": "knowing_agents:TrainedElsewhere", "set": {"file": str(secret)}}
    suite, made = submitted(tmp_path, seeds, agent)
    secret.unlink()
    said: dict[int, str] = {}
    with pytest.raises(Refused, match=why):
        verify(made, 4, suite, said.__setitem__, seed=7)
    assert set(said) == {0, 1, 2, 3}

"""Recorded episodes are played again without their agent, and what was invented shows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from bench_kit import make_scenario, toy_run

from mrl_bench.protocol.recorded import RecordedSplit, chosen_tasks, from_bytes, replay, to_bytes
from mrl_bench.results import Curve
from mrl_bench.runs.run import execute
from mrl_bench.runs.store import Store, StoreError
from mrl_bench.scenario import Scenario

CPU = torch.device("cpu")

CHEETAH = {
    "family": "locomotion",
    "options": {"robot": "half_cheetah", "task": "velocity"},
    "horizon": 8,
    "params": {"target_velocity": {"uniform": [0, 2]}},
    "splits": {"test": {"count": 6, "seed": 1}},
}
DRIVE = {
    "family": "driving",
    "options": {"road": "loop", "traffic": 2},
    "horizon": 10,
    "params": {"target_speed": {"uniform": [8, 12]}},
    "splits": {"test": {"count": 6, "seed": 1}},
}
FAMILIES = pytest.mark.parametrize("changes", [{}, CHEETAH, DRIVE], ids=["cartpole", "locomotion", "driving"])


def evaluated(folder: Path, agent: str = "Learner", **changes) -> tuple[Scenario, Store, str]:
    scenario = make_scenario(folder, **changes)
    store, run = Store(folder / "run"), toy_run(scenario, agent)
    assert execute(run, store, lambda *_: None).error is None
    return scenario, store, run.key("evaluate")


def curves_and_episodes(store: Store, key: str) -> tuple[dict[str, Curve], dict[str, RecordedSplit]]:
    evaluation, episodes = store.evaluation(key), store.episodes(key)
    assert evaluation is not None
    assert episodes is not None
    return dict(evaluation.curves), from_bytes(episodes)


@FAMILIES
def test_recorded_actions_earn_what_they_earned(tmp_path: Path, changes) -> None:
    scenario, store, key = evaluated(tmp_path, **changes)
    curves, episodes = curves_and_episodes(store, key)
    assert set(episodes) == set(curves)
    for split, curve in curves.items():
        recorded = episodes[split]
        assert recorded.action.shape[:2] == (min(4, len(curve.returns)), len(curve.k))
        assert (recorded.action[:, -1] != recorded.action[:, 0]).any(), "the agent adapts"
        assert replay(scenario, split, curve, recorded, CPU) == []


def test_an_episode_that_failed_ends_where_it_failed(tmp_path: Path) -> None:
    scenario, store, key = evaluated(tmp_path, "NotFinite")
    curves, episodes = curves_and_episodes(store, key)
    assert (episodes["test"].length == 0).any() or (episodes["test"].length < scenario.horizon).any()
    assert replay(scenario, "test", curves["test"], episodes["test"], CPU) == []


def test_invented_returns_choose_other_tasks_or_differ(tmp_path: Path) -> None:
    """A return of any one task is raised, as a forger would who has recorded episodes of all tasks."""
    scenario, store, key = evaluated(tmp_path, splits={"test": {"count": 20, "seed": 1}})
    curves, episodes = curves_and_episodes(store, key)
    curve, refused = curves["test"], 0
    for task in range(20):
        returns = curve.returns.copy()
        returns[task, -1, 0] += 0.5
        refused += bool(replay(scenario, "test", replace(curve, returns=returns), episodes["test"], CPU))
    assert refused == 20


@pytest.mark.parametrize("what", ["action", "reward", "length"])
def test_a_changed_recording_is_told(tmp_path: Path, what: str) -> None:
    scenario, store, key = evaluated(tmp_path)
    curves, episodes = curves_and_episodes(store, key)
    values = getattr(episodes["test"], what).copy()
    values[0, 1, ...].flat[0] += 1
    changed = replace(episodes["test"], **{what: values})
    (first, *_) = replay(scenario, "test", curves["test"], changed, CPU)
    assert "test" in first


def test_an_episode_cannot_be_cut_where_rewards_are_negative(tmp_path: Path) -> None:
    """Its return would be larger."""
    scenario, store, key = evaluated(tmp_path, **CHEETAH)
    curves, episodes = curves_and_episodes(store, key)
    recorded, curve = episodes["test"], curves["test"]
    shorter = replace(recorded, reward=recorded.reward.copy(), length=recorded.length.copy())
    shorter.reward[:, 0, 3:], shorter.length[:, 0] = 0.0, 3
    found = replay(scenario, "test", curve, shorter, CPU)
    assert any("does not end after 3 steps" in one for one in found)
    assert any("add up to" in one for one in found)


def test_a_recording_of_another_shape_is_refused(tmp_path: Path) -> None:
    scenario, store, key = evaluated(tmp_path)
    curves, episodes = curves_and_episodes(store, key)
    shorter = RecordedSplit(**{name: x[:-1] for name, x in vars(episodes["test"]).items()})
    (only,) = replay(scenario, "test", curves["test"], shorter, CPU)
    assert "have the shapes" in only


def test_the_file_is_as_it_was_written(tmp_path: Path) -> None:
    _, store, key = evaluated(tmp_path)
    data = store.episodes(key)
    assert data is not None
    assert to_bytes(from_bytes(data)) == data
    store.episodes_path(key).write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(StoreError, match="sha256"):
        store.episodes(key)
    for nonsense in (b"", b"no safetensors", data[: len(data) // 2]):
        with pytest.raises(ValueError, match="safetensors"):
            from_bytes(nonsense)


def test_a_failed_run_has_no_episodes(tmp_path: Path) -> None:
    scenario = make_scenario(tmp_path)
    store, run = Store(tmp_path / "run"), toy_run(scenario, "Raises")
    assert execute(run, store, lambda *_: None).error
    assert store.episodes(run.key("evaluate")) is None


def test_the_chosen_tasks_follow_from_all_returns() -> None:
    returns = np.arange(60.0).reshape(20, 1, 3)

    class Claimed:
        def __init__(self, returns):
            self.returns = returns

    chosen = {tuple(chosen_tasks(Claimed(returns + shift))) for shift in range(30)}
    assert len(chosen) > 20
    assert all(len(tasks) == 4 and sorted(tasks) == list(tasks) for tasks in chosen)

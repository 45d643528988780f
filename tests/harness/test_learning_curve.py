"""Periodic evaluation during meta-training, and that it does not affect the agent."""

from __future__ import annotations

import math
import multiprocessing
import os
import time
from itertools import pairwise

import numpy as np
import pytest
import torch
from bench_kit import make_scenario, toy_run
from mrl_tasks.cartpole import CartPole
from mrl_tasks.driving import Driving
from toy_agents import GlobalNoise, Learner, ToyConfig

from mrl_bench.errors import MrlBenchError
from mrl_bench.family import needs_one_process
from mrl_bench.protocol.learning_curve import PeriodicEvaluation
from mrl_bench.report.scoring import score_scenario
from mrl_bench.runs.run import Run, execute, train
from mrl_bench.runs.store import Store
from mrl_bench.scenario.references import References
from mrl_bench.scenario.suite import AgentSpec


class LeaksThroughItsClass(Learner):
    """Breaks its contract in a way that no attribute shows: what any copy of it sees goes into a global."""

    def act(self, state, memory, step, explore, rng):
        SEEN.append(step.obs.mean())
        return super().act(state, memory, step, explore, rng)

    def meta_train(self, training):
        for _ in range(5):
            training.tasks(2, 2).collect(self.act, self.initial_state(2))
        self.push = torch.stack(SEEN).sum(0, keepdim=True)


SEEN: list[torch.Tensor] = []


class Modelling(Learner):
    """Logs errors of a model that it does not have: a falling one, and one that cannot be computed."""

    def meta_train(self, training):
        for error in (0.5, 0.25):
            training.tasks(2, 2).collect(self.act, self.initial_state(2))
            training.log(
                {"model/held_out_dynamics": error, "model/held_out_reward": math.nan, "losses/x": 1.0}
            )


class Idle(Learner):
    """Does not meta-train."""

    def meta_train(self, training):
        pass


@pytest.fixture
def scenario(tmp_path):
    return make_scenario(tmp_path)


def run_of(scenario, cls, seed=0, **settings):
    return Run(
        scenario, AgentSpec(cls.__name__.lower(), f"{cls.__module__}:{cls.__name__}", settings), seed, "cpu"
    )


def trained(run, folder):
    return train(run, Store(folder), lambda *_: None)


@pytest.mark.parametrize("cls", [Learner, GlobalNoise, LeaksThroughItsClass])
def test_weights_are_the_same_bytes_with_and_without_periodic_evaluation(
    scenario, tmp_path, monkeypatch, cls
):
    run = run_of(scenario, cls)
    SEEN.clear()
    evaluated = trained(run, tmp_path / "with")
    monkeypatch.setattr(PeriodicEvaluation, "due", lambda self, steps: False)
    SEEN.clear()
    plain = trained(run, tmp_path / "without")
    assert len(evaluated.learning_curve.env_steps) > len(plain.learning_curve.env_steps) == 1
    assert evaluated.env_steps == plain.env_steps
    models = [
        Store(tmp_path / name).weights_path(run.key("train")).read_bytes() for name in ("with", "without")
    ]
    assert models[0] == models[1]


def test_evaluations_follow_when_the_steps_have_doubled_and_at_the_end(scenario, tmp_path):
    result = trained(run_of(scenario, Learner), tmp_path)
    steps = result.learning_curve.env_steps
    a_batch = 4 * scenario.horizon
    assert 0 < steps[0] <= a_batch
    assert steps[-1] == result.env_steps >= 300
    for before, after in pairwise(steps[:-1]):
        assert 2 * before <= after < 2 * before + a_batch
    assert result.learning_curve.returns.shape == result.learning_curve.failed.shape == (3, len(steps))


def test_the_last_point_is_the_evaluation_after_the_first_round(scenario, tmp_path):
    evaluation = execute(run_of(scenario, Learner), Store(tmp_path), lambda *_: None)
    curve, learning = evaluation.curves["train"], evaluation.training.learning_curve
    assert learning.k == curve.k[1] == 2
    assert learning.returns[:, -1].tolist() == curve.returns[:, curve.k.index(2)].mean(-1).tolist()
    assert learning.returns[:, 0].tolist() != learning.returns[:, -1].tolist()


def test_a_learning_curve_grows_with_what_is_learned(scenario, tmp_path):
    """From a file to a board: an agent that pushes the harder, the longer it trained, has a curve that moves."""
    store = Store(tmp_path)
    names = ("random", "blind", "oracle")
    references = [Run(scenario, AgentSpec(name, name, {}), 0, "cpu") for name in names]
    runs = [*references, *(run_of(scenario, Learner, seed) for seed in (0, 1))]
    for run in runs:
        execute(run, store, lambda *_: None)
    evaluations = [store.evaluation(run.key("evaluate")) for run in runs]
    assert [evaluation.training.learning_curve is None for evaluation in evaluations] == [True] * 3 + [
        False
    ] * 2
    board = score_scenario(evaluations[3:], References.of("tiny-v1", evaluations[:3]))
    (row,) = (row for row in board.splits["test"].rows if row.agent == "learner")
    assert np.all(np.diff(row.learning.env_steps) > 0)
    assert len(row.learning.scores) == len(row.learning.env_steps) > 2
    (trained_on,) = (row for row in board.splits["train"].rows if row.agent == "learner")
    assert row.learning.scores[-1].value == pytest.approx(trained_on.scores[1].value)
    assert all(row.learning is None for split in ("train", "ood") for row in board.splits[split].rows)


def test_a_failed_simulation_is_counted_in_the_learning_curve(scenario, tmp_path):
    result = trained(toy_run(scenario, "NotFinite"), tmp_path)
    assert (result.learning_curve.failed == 3 + 2).all()  # scored episodes and those of the round
    assert not result.learning_curve.returns.any()


def test_an_agent_that_does_not_train_is_evaluated_once(scenario, tmp_path):
    result = trained(run_of(scenario, Idle), tmp_path)
    assert (result.env_steps, result.learning_curve.env_steps.tolist()) == (0, [0])


def test_the_last_model_errors_are_part_of_the_result(scenario, tmp_path):
    run = run_of(scenario, Modelling)
    for _ in range(2):  # as it was trained, and as it comes from the file
        errors = trained(run, tmp_path).model_errors
        assert errors.keys() == {"held_out_dynamics", "held_out_reward"}
        assert errors["held_out_dynamics"] == 0.25
        assert math.isnan(errors["held_out_reward"])


class CannotBeRestored(Learner):
    def load_state_dict(self, tensors):
        raise KeyError("push")


def test_an_agent_that_cannot_be_evaluated_fails_in_one_line(scenario, tmp_path):
    with pytest.raises(MrlBenchError, match="evaluating the learning curve failed: KeyError: 'push'"):
        trained(run_of(scenario, CannotBeRestored), tmp_path)


class Forgets(Learner):
    """Acts by a number that is not in its weights."""

    def meta_train(self, training):
        self.bias = 0.3

    def act(self, state, memory, step, explore, rng):
        action, memory = super().act(state, memory, step, explore, rng)
        return action + getattr(self, "bias", 0.0), memory


def test_weights_that_forget_something_fail_the_run(scenario, tmp_path):
    evaluation = execute(run_of(scenario, Forgets), Store(tmp_path), lambda *_: None)
    assert evaluation.error.startswith("ContractError: state_dict leaves something out")


def test_no_process_is_left_behind(scenario, tmp_path):
    trained(run_of(scenario, Learner), tmp_path)
    assert not multiprocessing.active_children()


def test_the_tasks_of_the_learning_curve_are_neither_test_tasks_nor_trained_on(scenario):
    listed = {tuple(task) for task in scenario.tasks("train").values}
    assert not listed & {tuple(task) for task in scenario.tasks("test").values}
    for seed in range(3):
        assert not listed & {tuple(task) for task in scenario.stream(seed * 2**32, 20_000).values}


class TrainsItsClass(Learner):
    """What it learns is a class attribute, which a copy in the same process has too."""

    bias = 0.0

    def meta_train(self, training):
        training.tasks(2, 2).collect(self.act, self.initial_state(2))
        TrainsItsClass.bias = 0.3

    def act(self, state, memory, step, explore, rng):
        action, memory = super().act(state, memory, step, explore, rng)
        return action + self.bias, memory


def test_weights_that_are_kept_in_the_class_are_missed(scenario, tmp_path, monkeypatch):
    monkeypatch.setattr(TrainsItsClass, "bias", 0.0)
    evaluation = execute(run_of(scenario, TrainsItsClass), Store(tmp_path), lambda *_: None)
    assert evaluation.error.startswith("ContractError: state_dict leaves something out")


def test_where_one_process_has_the_simulator_the_curve_is_the_same_and_no_process_is_started(
    scenario, tmp_path, monkeypatch
):
    """As on a CARLA server, for which a second process would wait for ever."""
    run = run_of(scenario, Learner)
    apart = trained(run, tmp_path / "apart").learning_curve
    monkeypatch.setattr(CartPole, "one_process_only", True, raising=False)

    def start(self):
        raise AssertionError("a process was started")

    monkeypatch.setattr("multiprocessing.context.ForkProcess.start", start)
    together = trained(run, tmp_path / "together").learning_curve
    assert together.to_json() == apart.to_json()


def test_a_process_that_dies_is_noticed_even_if_its_child_lives(scenario):
    class Dies(Learner):
        def load_state_dict(self, tensors):
            if os.fork() == 0:
                time.sleep(20)  # and holds the connection open
                os._exit(0)
            os._exit(1)

    curve = PeriodicEvaluation(
        lambda: Dies(scenario.spec, ToyConfig(), 0, torch.device("cpu")), scenario, seed=0
    )
    with curve, pytest.raises(MrlBenchError, match="the process that measures the learning curve has ended"):
        curve.evaluate(1, {"push": torch.zeros(1)})


def test_driving_on_a_carla_server_says_that_one_process_has_it():
    assert needs_one_process(Driving(backend="carla"))
    assert not needs_one_process(Driving())

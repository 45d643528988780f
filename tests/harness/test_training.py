"""The budget, the tasks and the starts that meta-training gets."""

from __future__ import annotations

import pytest
import torch
from bench_kit import make_scenario, make_training
from mrl_tasks.cartpole import CartPole
from toy_agents import Learner, ToyConfig

from mrl_bench.errors import BudgetSpent, ContractError
from mrl_bench.protocol.training import StepCount, meta_train
from mrl_bench.scenario import privileged

CPU = torch.device("cpu")


@pytest.fixture
def scenario(tmp_path):
    return make_scenario(tmp_path)


def push(state, memory, step, explore, rng):
    return 2 * torch.rand(*step.obs.shape[:2], 1, generator=rng) - 1, memory


def broken_after_two(state, memory, step, explore, rng):
    action, memory = push(state, memory, step, explore, rng)
    return (action / 0 if step.t == 2 else action), memory


def test_steps_are_the_sum_of_the_masks(scenario):
    training = make_training(scenario)
    assert (training.budget, training.steps, training.left) == (1000, 0, 1000)
    played = 0
    for count, episodes in ((3, 2), (1, 5)):
        tasks = training.tasks(count, episodes)
        for _ in range(2):
            rollout, _ = tasks.collect(push, {})
            played += int(rollout.mask.sum())
            assert training.steps == played
            assert training.left == 1000 - played
    assert 0 < played < 4 * 6 * scenario.horizon  # episodes that end early count fewer steps


def test_a_step_that_breaks_down_was_a_step_too(scenario):
    training = make_training(scenario)
    rollout, _ = training.tasks(2, 2).collect(broken_after_two, {})
    assert rollout.failed.all()
    assert training.steps == int(rollout.mask.sum()) + 4 == 12


def collect_for_ever(tasks):
    for _ in range(1001):
        tasks.collect(push, {})


@pytest.mark.parametrize("budget", [1, 3, 4, 7, 100, 101, 1000])
@pytest.mark.parametrize(("count", "episodes"), [(1, 1), (2, 2), (50, 3), (2000, 1)])
def test_a_collection_ends_before_the_step_that_exceeds_the_budget(scenario, budget, count, episodes):
    training = make_training(scenario, budget=budget)
    tasks = training.tasks(count, episodes)
    with pytest.raises(BudgetSpent, match=f"the budget of {budget} env steps is used up"):
        collect_for_ever(tasks)
    assert training.steps <= budget
    assert training.steps > budget - count * episodes  # not even one more step of all of them fitted in
    assert training.left == 0
    steps = training.steps
    for again in (tasks, training.tasks(1, 1)):  # even if it would fit in
        with pytest.raises(BudgetSpent):
            again.collect(push, {})
    assert training.steps == steps


@pytest.mark.parametrize(("count", "episodes"), [(0, 1), (1, 0), (2.5, 1), (1, "2"), (-1, 1), (True, 1)])
def test_what_is_no_number_of_tasks_or_episodes_is_refused(scenario, count, episodes):
    with pytest.raises(ContractError, match="must be a whole number of at least 1, not"):
        make_training(scenario).tasks(count, episodes)


def test_steps_are_counted_exactly_whenever_the_total_is_read():
    generator = torch.Generator().manual_seed(0)
    steps, wanted = StepCount(200), 0
    for number in range(1000):
        alive = torch.rand(3, 4, generator=generator) < 0.3
        try:
            steps.spend(alive)
        except BudgetSpent:
            break
        wanted += int(alive.sum())
        assert number % 3 or steps.total == wanted
    assert steps.total == wanted <= 200 < wanted + int(alive.sum())


@pytest.fixture
def drawn(monkeypatch):
    """The tasks that a training hands out, (B, P), which it shows to no agent."""
    kept = []

    make = CartPole.make

    def spy(family, batch, *rest):
        kept.append(batch.values)
        return make(family, batch, *rest)

    monkeypatch.setattr(CartPole, "make", spy)

    def draw(training, count):
        training.tasks(count, 1)
        return {tuple(task) for task in kept[-1]}

    return draw


def test_tasks_are_fresh_each_time_and_the_same_in_every_run(scenario, drawn):
    training, again = make_training(scenario), make_training(scenario)
    first, second = drawn(training, 20), drawn(training, 20)
    assert len(first | second) == 40
    assert drawn(again, 20) == first
    assert drawn(again, 20) == second
    assert drawn(make_training(scenario), 40) == first | second  # however many are asked for at a time


def test_training_seeds_share_no_task(scenario, drawn):
    assert len(set.union(*(drawn(make_training(scenario, seed=seed), 50) for seed in range(4)))) == 200


def test_no_training_task_is_held_out(scenario, drawn):
    trained = drawn(make_training(scenario), 200)
    for split in ("test", "ood"):
        assert not trained & {tuple(task) for task in scenario.tasks(split).values}


def test_every_collection_has_its_own_initial_states_and_noise(scenario):
    tasks = make_training(scenario).tasks(2, 2)
    one, other = (tasks.collect(push, {})[0] for _ in range(2))
    assert not torch.equal(one.obs[:, :, 0], other.obs[:, :, 0])
    assert not torch.equal(one.action[:, :, 0], other.action[:, :, 0])


def test_training_seeds_meet_other_starts_and_noise(scenario):
    one, other = (make_training(scenario, seed=seed).tasks(2, 2).collect(push, {})[0] for seed in range(2))
    assert not torch.equal(one.obs[:, :, 0], other.obs[:, :, 0])
    assert not torch.equal(one.action[:, :, 0], other.action[:, :, 0])


def test_parameters_are_seen_by_the_oracle_alone(scenario):
    plain, oracle = (make_training(played).tasks(3, 2) for played in (scenario, privileged(scenario)))
    blind, seeing = (tasks.collect(push, {})[0] for tasks in (plain, oracle))
    size = scenario.family.spec.obs_dim
    assert blind.obs.shape[-1] == size
    assert seeing.obs.shape[-1] == size + 2  # two parameters vary
    assert len(seeing.obs[:, 0, 0, size:].unique(dim=0)) == 3
    assert (seeing.obs[..., size:] == seeing.obs[:, :1, :1, size:]).all()


def test_scalars_come_at_the_present_step_under_the_usual_tags(scenario):
    rows = []
    training = make_training(scenario, log=lambda values, step: rows.append((values, step)))
    tasks = training.tasks(2, 2)
    tasks.collect(push, {})
    tasks.collect(push, {})
    training.log({"losses/policy_loss": torch.tensor(0.5)})
    (first, step), (second, _), (third, last) = rows
    assert set(first) == {"charts/episodic_return_0", "charts/episodic_length_0", "charts/SPS"}
    assert "charts/episodic_return_1" in second
    assert first["charts/episodic_length_0"] * 4 == pytest.approx(step)
    assert third == {"losses/policy_loss": 0.5}
    assert last == training.steps


def test_counts_and_budget_cannot_be_set_nor_changed_through_a_rollout(scenario):
    """What this does not cover: agent and harness share a process, and Python hides nothing from whoever reaches for
    names with an underscore. Runs of strangers' agents belong in a process of their own that only sees bytes."""
    training = make_training(scenario)
    for name in ("steps", "left", "budget"):
        with pytest.raises(AttributeError):
            setattr(training, name, 10**9)
    rollout, _ = training.tasks(2, 2).collect(push, {})
    steps = training.steps
    rollout.mask.zero_()
    rollout.reward.fill_(1e9)
    assert training.steps == steps
    assert not {"scenario", "family", "env", "params", "privileged"} & {
        *vars(training),
        *vars(training.tasks(1, 1)),
    }


class Collects(Learner):
    def meta_train(self, training):
        while True:
            training.tasks(20, 1).collect(self.act, self.initial_state(20))


def test_a_budget_that_ends_in_the_first_collection_is_an_error(scenario):
    agent = Collects(scenario.spec, ToyConfig(), 0, CPU)
    with pytest.raises(BudgetSpent, match="nothing was learned: the budget of 50 env steps is used up"):
        meta_train(agent, make_training(scenario, budget=50))
    training = make_training(scenario, budget=1000)
    meta_train(agent, training)
    assert training.collections

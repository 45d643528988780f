"""The adaptation protocol, as agents that keep a record of it saw it."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

import numpy as np
import pytest
import torch
from bench_kit import make_scenario, make_suite, planned_run, toy
from toy_agents import Learner, NotFinite, ToyConfig, Writes

from mrl_bench.errors import ContractError
from mrl_bench.protocol.adaptation import Adaptation, evaluate
from mrl_bench.results import Curve, canonical_json
from mrl_bench.runs.run import execute
from mrl_bench.runs.store import Store
from mrl_bench.scenario import privileged
from mrl_bench.types import TaskBatch, Trial

CPU = torch.device("cpu")


class Record(NamedTuple):
    adapted: list  # rollouts
    scored: list  # (first obs, state) of each scored collection


RECORDS: dict[int, Record] = {}  # outside of the agent, which may not change


class Recorder(Learner):
    """Learner that keeps what it was shown."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        RECORDS[id(self)] = Record([], [])

    def act(self, state, memory, step, explore, rng):
        if step.t == 0 and not explore:
            RECORDS[id(self)].scored.append((step.obs.clone(), state["push"].clone()))
        return super().act(state, memory, step, explore, rng)

    def adapt(self, state, memory, rollout, rng):
        RECORDS[id(self)].adapted.append(rollout)
        return super().adapt(state, memory, rollout, rng)


class ScribblesInState(Recorder):
    """Changes its state in place while it acts."""

    def act(self, state, memory, step, explore, rng):
        result = super().act(state, memory, step, explore, rng)
        state["push"] += step.obs[..., 0].mean(1, keepdim=True)
        return result


@pytest.fixture
def scenario(tmp_path):
    return make_scenario(tmp_path)


def make(cls, scenario, seed=0, **settings):
    agent = cls(scenario.spec, ToyConfig(**settings), seed, CPU)
    agent.push = torch.full((1,), 0.1 * seed + 0.1)
    return agent


def score(agent, scenario, split="test", seed=0):
    return evaluate(agent, scenario, split, seed=seed, device=CPU)


def test_every_task_has_its_quota_at_every_point_of_the_protocol(scenario):
    for split, tasks in (("test", 3), ("ood", 2), ("train", 3)):
        curve = score(make(Learner, scenario), scenario, split)
        assert curve.k == (0, 2, 6)
        assert curve.returns.shape == (tasks, 3, 3)  # tasks, points, scored episodes
        assert curve.env_steps.shape == curve.failed.shape == (tasks, 3)
        assert np.isfinite(curve.returns).all()


def test_env_steps_are_those_of_the_adaptation_episodes_of_each_task(scenario):
    agent = make(Recorder, scenario)
    curve = score(agent, scenario)
    assert len(RECORDS[id(agent)].adapted) == 3  # after the last round nothing is left to adapt for
    assert all(rollout.mask.shape[:2] == (3, 2) for rollout in RECORDS[id(agent)].adapted)
    played = np.cumsum([rollout.mask.sum((1, 2)).numpy() for rollout in RECORDS[id(agent)].adapted], 0)
    assert curve.env_steps[:, 0].tolist() == [0, 0, 0]
    assert curve.env_steps[:, 1].tolist() == played[0].tolist()
    assert curve.env_steps[:, 2].tolist() == played[2].tolist()


def test_adapt_never_sees_a_scored_episode(scenario):
    agent = make(Recorder, scenario)
    score(agent, scenario)
    scored = {tuple(row) for obs, _ in RECORDS[id(agent)].scored for row in obs.flatten(0, 1).tolist()}
    adapted = {
        tuple(row)
        for rollout in RECORDS[id(agent)].adapted
        for row in rollout.obs[:, :, 0].flatten(0, 1).tolist()
    }
    assert len(scored) == 9
    assert len(adapted) == 18  # three rounds of two episodes of three tasks, each with its own initial state
    assert not scored & adapted


def test_scored_starts_are_the_same_for_every_point_seed_and_agent(scenario):
    agents = [make(Recorder, scenario, seed=seed) for seed in (0, 3)] + [make(ScribblesInState, scenario)]
    for agent, seed in zip(agents, (0, 3, 1), strict=True):
        score(agent, scenario, seed=seed)
    first = RECORDS[id(agents[0])].scored[0][0]
    for agent in agents:
        assert len(RECORDS[id(agent)].scored) == 3
        assert all(torch.equal(obs, first) for obs, _ in RECORDS[id(agent)].scored)


def test_what_a_scored_episode_does_to_the_state_is_gone_after_it(scenario):
    """Scores go on from the state that adaptation left: with no scored point between, the last one is the same."""
    often = make_scenario(scenario.path.parent, protocol={"k": [0, 2, 4, 6], "scored_episodes": 3})
    once = make_scenario(scenario.path.parent, protocol={"k": [0, 6], "scored_episodes": 3})
    for cls in (Learner, ScribblesInState):
        curves = [score(make(cls, each), each) for each in (often, once)]
        assert curves[0].returns[:, -1].tolist() == curves[1].returns[:, -1].tolist()


def test_the_agent_is_as_it_was(scenario):
    agent = make(Learner, scenario)
    before = {name: tensor.clone() for name, tensor in agent.state_dict().items()}
    one, other = (score(agent, scenario) for _ in range(2))
    assert one.returns.tolist() == other.returns.tolist()
    assert all(torch.equal(before[name], tensor) for name, tensor in agent.state_dict().items())


def test_seeds_differ_in_noise_alone(scenario):
    agent = make(Learner, scenario)
    assert score(agent, scenario, seed=0).returns.tolist() != score(agent, scenario, seed=1).returns.tolist()


def test_an_agent_that_writes_into_what_it_sees_scores_what_it_would_have_scored(scenario):
    sane, writing = (score(make(cls, scenario), scenario) for cls in (Learner, Writes))
    assert sane.returns.tolist() == writing.returns.tolist()


def test_failures_count_from_their_round_on_and_a_scored_one_only_in_its_point(scenario):
    class FailsInRound(Learner):
        """Its action is NaN in one episode of task 1 in the second round, and in one scored episode of task 2."""

        def initial_state(self, num_tasks):
            return super().initial_state(num_tasks) | {"round": torch.zeros(num_tasks, 1)}

        def act(self, state, memory, step, explore, rng):
            action, memory = super().act(state, memory, step, explore, rng)
            round = int(state["round"][0])
            if step.t == 1 and explore and round == 1:
                action[1, 0] = torch.nan
            if step.t == 1 and not explore and round == 1:
                action[2, 2] = torch.nan
            return action, memory

        def adapt(self, state, memory, rollout, rng):
            return super().adapt(state, memory, rollout, rng) | {"round": state["round"] + 1}

    curve = score(make(FailsInRound, scenario), scenario)
    assert curve.failed.tolist() == [[0, 0, 0], [0, 0, 1], [0, 1, 0]]


def test_actions_that_are_never_finite_fail_everywhere_and_earn_nothing(scenario):
    curve = score(make(NotFinite, scenario), scenario)
    assert curve.returns.tolist() == np.zeros((3, 3, 3)).tolist()
    assert curve.failed.tolist() == [[3, 5, 9]] * 3  # 3 scored episodes, and 2 of each round so far
    assert curve.env_steps.tolist() == [[0, 2, 6]] * 3


def test_the_tasks_of_a_split_do_not_depend_on_the_agent_but_the_curve_does(scenario):
    curves = [score(make(Learner, scenario, gain=1.0, seed=seed), scenario) for seed in (0, 5)]
    assert curves[0].returns.tolist() != curves[1].returns.tolist()


class Remembers(Learner):
    """Its memory is every reward that it was shown, and its state every reward of its episodes."""

    sequential = False

    def initial_state(self, num_tasks):
        return {"push": self.push.expand(num_tasks, -1).clone(), "seen": torch.zeros(num_tasks, 0)}

    def start_episode(self, state, num_envs):
        return {
            "shown": torch.zeros(len(state["push"]), num_envs),
            "calls": torch.zeros(len(state["push"]), num_envs),
        }

    def act(self, state, memory, step, explore, rng):
        action = state["push"][:, None] - step.obs[..., 2:3]  # noise would depend on the size of the batch
        return action, {"shown": 3 * memory["shown"] + step.reward, "calls": memory["calls"] + 1}

    def adapt(self, state, memory, rollout, rng):
        returns = rollout.reward.cumsum(-1)[
            ..., -1
        ]  # in order: a sum would depend on T, and so on the neighbours
        parts = (memory["shown"], memory["calls"], returns, rollout.lengths())
        return state | {"seen": torch.cat([state["seen"], *parts], 1)}


class RemembersInOrder(Remembers):
    sequential = True


def final_state(agent, scenario, tasks):
    """What an agent has made of some tasks (B,) after the last round."""
    adaptation = Adaptation(agent, scenario, "test", 0, CPU)
    listed = scenario.tasks("test")
    env = adaptation.make_adapt_env(TaskBatch(listed.names, listed.values[tasks]))
    (checkpoint,) = adaptation.checkpoints(env, len(tasks), [3])
    return checkpoint


@pytest.mark.parametrize("cls", [Remembers, RemembersInOrder])
def test_memory_does_not_depend_on_the_neighbours_and_every_reward_is_seen(tmp_path, cls):
    """Of 50 tasks, whose episodes have many lengths."""
    many = make_scenario(tmp_path, horizon=50, splits={"test": {"count": 50, "seed": 1}})
    among = final_state(make(cls, many), many, list(range(50))).state["seen"]
    _, calls, _, lengths = among.view(50, -1, 4, 1 if cls.sequential else 2).unbind(2)
    assert len(lengths.unique()) > 10
    assert torch.equal(calls, lengths)  # `act` is not called for an instance once its episode has ended
    for few in (1, 2, 8):  # initial states depend on a task's place in the batch, so its place must stay
        alone = final_state(make(cls, many), many, list(range(few))).state["seen"]
        assert alone.numpy().tobytes() == among[:few].numpy().tobytes()


def test_sequential_agents_play_as_many_episodes_and_adapt_after_each(scenario):
    parallel, in_order = make(Remembers, scenario), make(RemembersInOrder, scenario)
    for agent, times, together in ((parallel, 3, 2), (in_order, 6, 1)):
        curve = score(agent, scenario)
        assert curve.k == (0, 2, 6)
        seen = final_state(agent, scenario, [0, 1, 2]).state["seen"]
        assert seen.shape == (3, times * 4 * together)
        lengths = seen.view(3, times, 4, together)[:, :, 3]
        assert curve.env_steps[:, 2].tolist() == lengths.sum((1, 2)).tolist()


def test_adaptation_episodes_of_a_sequential_agent_start_in_different_states(scenario):
    class RecordsInOrder(Recorder):
        sequential = True

    agent = make(RecordsInOrder, scenario)
    score(agent, scenario)
    starts = [rollout.obs[:, :, 0] for rollout in RECORDS[id(agent)].adapted]
    assert all(start.shape[:2] == (3, 1) for start in starts)
    assert len(torch.cat(starts, 1).flatten(0, 1).unique(dim=0)) == 18


class Wanders(Recorder):
    """Its actions are noise; one of them is NaN in every adaptation episode of task 1 that starts at x > 0."""

    def act(self, state, memory, step, explore, rng):
        action = torch.randn(*step.obs.shape[:2], 1, generator=rng)
        if explore and step.t == 2:
            action[1, step.obs[1, :, 0] > 0] = torch.nan
        return action, memory


class WandersInOrder(Wanders):
    sequential = True


@pytest.mark.parametrize(("cls", "times", "together"), [(Wanders, 3, 2), (WandersInOrder, 6, 1)])
def test_returns_failures_and_metrics_of_adaptation_episodes_are_recorded_in_order(
    tmp_path, cls, times, together
):
    params = {"speed": {"uniform": [1, 3]}, "wind": {"uniform": [-0.5, 0.5]}}
    splits = {"test": {"count": 3, "seed": 1}}
    family = "broken_families:SlidersWithExtras"
    sliders = make_scenario(tmp_path, family=family, options={}, horizon=40, params=params, splits=splits)
    agent = make(cls, sliders)
    curve = score(agent, sliders)
    adapted = RECORDS[id(agent)].adapted
    assert [rollout.failed.shape for rollout in adapted] == [(3, together)] * times
    returns, failed, lengths = (
        torch.cat(each, 1)
        for each in zip(*((r.returns(), r.failed, r.lengths()) for r in adapted), strict=True)
    )
    assert curve.online.returns.tolist() == returns.double().tolist()
    assert curve.online.failed.tolist() == failed.long().tolist()
    assert failed[1].any()
    assert not failed[[0, 2]].any()
    assert not failed.all()
    steps = curve.online.metrics["steps"]
    assert steps[~failed].tolist() == lengths[~failed].tolist()
    assert np.ptp(steps) > 0
    assert curve.online.metrics.keys() == curve.metrics.keys() == {"distance", "steps"}
    for place, k in enumerate(curve.k):
        assert curve.failed[:, place].tolist() == failed[:, :k].sum(1).tolist()
        assert curve.env_steps[:, place].tolist() == (lengths + failed)[:, :k].sum(1).tolist()
    data = curve.to_json()
    assert canonical_json(Curve.from_json(data).to_json()) == canonical_json(data)


@pytest.mark.parametrize(("agent", "k"), [("random", (0,)), ("learner", (0, 2, 6))])
def test_a_run_of_a_reference_agent_is_scored_once(tmp_path, agent, k):
    run = planned_run(make_suite(tmp_path, {"learner": toy("Learner")}, references=False), agent)
    evaluation = execute(run, Store(tmp_path), lambda *_: None)
    assert evaluation.error is None
    assert {curve.k for curve in evaluation.curves.values()} == {run.terms.k} == {k}


def test_without_adaptation_no_adaptation_episode_is_recorded(scenario):
    curve = evaluate(make(Learner, scenario), scenario, "test", seed=0, device=CPU, k=(0,))
    assert curve.online.returns.shape == curve.online.failed.shape == (3, 0)
    data = curve.to_json()
    assert canonical_json(Curve.from_json(data).to_json()) == canonical_json(data)


class Told(Learner):
    pass


def test_an_agent_is_told_the_shape_of_a_trial(scenario):
    assert make(Told, scenario).spec.trial == Trial(k=(0, 2, 6), episodes_per_round=2, scored_episodes=3)
    assert privileged(scenario).spec.trial == scenario.spec.trial


class CountsInItself(Learner):
    def act(self, state, memory, step, explore, rng):
        self.calls = getattr(self, "calls", 0) + 1
        return super().act(state, memory, step, explore, rng)


class Grows(Learner):
    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.seen = []

    def adapt(self, state, memory, rollout, rng):
        self.seen.append(rollout.returns().mean().item())
        return super().adapt(state, memory, rollout, rng)


class SharesInItsClass(Learner):
    shared = {"push": torch.zeros(1)}  # noqa: RUF012

    def act(self, state, memory, step, explore, rng):
        self.shared["push"] += step.obs.mean()
        return super().act(state, memory, step, explore, rng)


class OwnGenerator(Learner):
    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.rng = torch.Generator().manual_seed(0)

    def act(self, state, memory, step, explore, rng):
        return super().act(state, memory, step, explore, self.rng)


class Queues(Learner):
    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.replay = deque(maxlen=3)

    def adapt(self, state, memory, rollout, rng):
        self.replay.append(rollout.reward)
        return super().adapt(state, memory, rollout, rng)


class SharesAModule(Learner):
    net = torch.nn.Linear(1, 1)

    def adapt(self, state, memory, rollout, rng):
        with torch.no_grad():
            self.net.weight += 1
        return super().adapt(state, memory, rollout, rng)


class Slots:
    __slots__ = ("seen",)


class KeepsInSlots(Learner):
    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.slots = Slots()

    def adapt(self, state, memory, rollout, rng):
        self.slots.seen = rollout.reward
        return super().adapt(state, memory, rollout, rng)


class Bytes(Learner):
    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.raw = bytearray(1)

    def adapt(self, state, memory, rollout, rng):
        self.raw[0] += 1
        return super().adapt(state, memory, rollout, rng)


@pytest.mark.parametrize(
    ("cls", "name"),
    [
        (Queues, "attribute replay.0"),
        (SharesAModule, "class attribute net._parameters.weight"),
        (KeepsInSlots, "attribute slots.seen"),
        (Bytes, "attribute raw"),
        (CountsInItself, "attribute calls"),
        (Grows, "attribute seen.0"),
        (SharesInItsClass, "class attribute shared.push"),
        (OwnGenerator, "attribute rng"),
    ],
)
def test_an_agent_that_changes_while_it_is_evaluated_is_refused(scenario, cls, name):
    with pytest.raises(ContractError, match=f"changed the agent's {name}:"):
        score(make(cls, scenario), scenario)


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (None, "returned None"),
        ({"seen": np.zeros(3)}, "a leaf that is a numpy array"),
        ({"push": torch.zeros(3, 1), "seen": object()}, "a leaf that is an object"),
        ([torch.zeros(3), 3], "a leaf that is an int"),
        (torch.zeros(2, 3), r"a tensor of shape \(2, 3\); every leaf must lead with \(3,\)"),
        (torch.zeros(()), r"a tensor of shape \(\)"),
    ],
)
@pytest.mark.parametrize("method", ["initial_state", "adapt"])
def test_a_state_that_is_no_tree_of_tensors_of_the_tasks_is_refused(scenario, state, message, method):
    agent = make(Learner, scenario)
    setattr(agent, method, lambda *given: state)
    with pytest.raises(ContractError, match=f"{method} returned .*{message}|{method} {message}"):
        score(agent, scenario)


def test_a_memory_that_does_not_lead_with_tasks_and_instances_is_refused(scenario):
    agent = make(Learner, scenario)
    agent.start_episode = lambda state, num_envs: torch.zeros(3)
    with pytest.raises(ContractError, match=r"start_episode returned a memory with a tensor of shape \(3,\)"):
        score(agent, scenario)


def test_an_agent_without_a_method_is_refused(scenario):
    class OldFashioned:
        def act(self, state, step, explore, rng): ...

    with pytest.raises(ContractError, match=r"OldFashioned has no method meta_train\(training\)"):
        score(OldFashioned(), scenario)

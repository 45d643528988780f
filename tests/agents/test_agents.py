"""What every agent promises, held against each entry of `mrl_agents.TABLE`."""

from __future__ import annotations

import ast
import inspect
import json
import math
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import fields, is_dataclass, replace
from functools import cache
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, get_args, get_origin, get_type_hints

import mrl_agents
import pytest
import torch
from bench_kit import make_scenario, make_training
from goal_game import GoalTraining, goal_spec
from mrl_agents import TABLE
from safetensors.torch import load, save
from torch import Tensor

from mrl_bench import registry
from mrl_bench.agent import Act, MetaAgent, Training
from mrl_bench.errors import BudgetSpent
from mrl_bench.protocol.training import meta_train
from mrl_bench.scenario import Scenario, find_scenario, list_scenarios
from mrl_bench.scenario.settings import make_config, parse_settings
from mrl_bench.types import EnvSpec, Memory, Rollout, State, TimeStep

CPU = torch.device("cpu")
SPEC = EnvSpec(obs_dim=3, act_dim=2, horizon=5, dt=0.1, obs_scale=(1.0, 2.0, 0.5))
B, E = 3, 2
AGENTS = sorted(TABLE)

# Where an agent's defaults would take long: settings for a meta-training of a second.
_QUICK_MBML = {
    "env_steps": 900,
    "rounds": 3,
    "meta_batch_size": 6,
    "buffer_size": 30,
    "hidden_sizes": [16],
    "model_hidden_size": 16,
    "encoder_hidden_size": 16,
    "context_lengths": [8, 16],
    "model_iterations": 2,
    "model_tasks": 6,
    "model_samples": 8,
    "policy_iterations": 2,
    "policy_tasks": 6,
    "imagination_horizon": 4,
    "adapt_updates": 1,
    "adapt_imagined_rollouts": 4,
}
QUICK: dict[str, dict[str, Any]] = {
    "maml": {"hidden_sizes": [16], "meta_batch_size": 6, "episodes_per_task": 5, "epochs": 2},
    "mbml": _QUICK_MBML,
    "maml-mbml": {
        "mbml": _QUICK_MBML,
        "maml": {"meta_batch_size": 6, "episodes_per_task": 2, "epochs": 2},
        "env_steps": 1_900,
        "model_inner_batch_size": 8,
        "model_iterations": 2,
    },
    "dqn": {"hidden_sizes": [16], "buffer_size": 1000, "update_every": 40},
}
# Settings that a short meta-training need not feel.
INERT = {
    ("maml", "backtracks"),  # the line search takes its first step there
    ("maml-mbml", "maml.backtracks"),
    ("maml-mbml", "maml.hidden_sizes"),  # that of mbml, as is
    ("maml-mbml", "maml.action_std"),
    ("dqn", "adapt_updates"),  # these two matter to new tasks alone: tests/test_dqn.py
    ("dqn", "adapt_buffer_size"),
}


def settings_of(config: Any, prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Name, value and type of every setting; those inside others have dotted names."""
    hints = get_type_hints(type(config))
    for field in fields(config):
        value = getattr(config, field.name)
        if is_dataclass(value):
            yield from settings_of(value, f"{prefix}{field.name}.")
        else:
            yield prefix + field.name, value, hints[field.name]


SETTINGS = [
    (name, setting) for name in AGENTS for setting, _, _ in settings_of(registry.find("agent", name).Config())
]


def make(name: str, spec: EnvSpec = SPEC, seed: int = 0, **settings: Any) -> MetaAgent:
    return registry.find("agent", name)(spec, config_of(name, settings), seed, CPU)


def config_of(name: str, settings: Mapping[str, Any]) -> Any:
    """The quick settings of an agent, but for some, named with dots."""
    quick = make_config(registry.find("agent", name), QUICK.get(name, {}))
    merged = {setting: value for setting, value, _ in settings_of(quick)} | dict(settings)
    nested = parse_settings([f"{setting}={json.dumps(value)}" for setting, value in merged.items()])
    return make_config(registry.find("agent", name), nested)


def noise(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def rollout_of(spec: EnvSpec = SPEC, seed: int = 0, size: float = 1.0) -> Rollout:
    """Made-up episodes of all lengths from 1 on, some of them terminated, with observations of a size."""
    rng, T = noise(seed), spec.horizon
    length = torch.randint(1, T + 1, (B, E, 1), generator=rng)
    clock = torch.arange(T)
    mask = (clock < length).float()
    terminated = (clock == length - 1) & (torch.rand(B, E, 1, generator=rng) < 0.5)
    return Rollout(
        obs=size * torch.randn(B, E, T + 1, spec.obs_dim, generator=rng),
        action=torch.randn(B, E, T, spec.act_dim, generator=rng),
        reward=torch.randn(B, E, T, generator=rng) * mask,
        terminated=terminated,
        mask=mask,
        failed=torch.zeros(B, E, dtype=torch.bool),
    )


def last_of(rollout: Rollout) -> TimeStep:
    """What is seen before the second step of the rollout's episodes."""
    return TimeStep(
        rollout.obs[:, :, 1], rollout.action[:, :, 0], rollout.reward[:, :, 0], rollout.mask[:, :, 0], 1
    )


def adapted_actions(agent: MetaAgent, rollout: Rollout, step: TimeStep, explore: bool = True) -> Tensor:
    """Actions after one round of adaptation, with the same noise in every call."""
    state = agent.adapt(agent.initial_state(B), (), rollout, noise(1))
    return agent.act(state, (), step, explore, noise(2))[0].detach()


def leaves(tree: Any) -> Iterator[Tensor]:
    """The tensors of a state, a rollout or a `TimeStep`."""
    if isinstance(tree, Tensor):
        yield tree
    elif not isinstance(tree, int):
        children = vars(tree) if isinstance(tree, Rollout) else tree
        for child in children.values() if isinstance(children, dict) else children:
            yield from leaves(child)


def bytes_of(tensors: dict[str, Tensor]) -> bytes:
    return save({name: tensor.detach().contiguous() for name, tensor in tensors.items()})


@cache
def short_cartpole() -> Scenario:
    with TemporaryDirectory() as folder:
        return make_scenario(Path(folder), horizon=30)


@cache
def trained_on_cartpole(name: str, seed: int, attempt: int = 0) -> MetaAgent:
    scenario = short_cartpole()
    agent = make(name, scenario.spec, seed)
    meta_train(agent, make_training(scenario, budget=3_000, seed=seed))
    return agent


@pytest.mark.parametrize("name", AGENTS)
@pytest.mark.parametrize("explore", [True, False])
@pytest.mark.parametrize("size", [0.0, 1.0, 1e6])
def test_actions_are_finite_and_of_the_right_shape(name: str, explore: bool, size: float) -> None:
    agent, rollout = make(name), rollout_of(size=size)
    fresh, _ = agent.act(agent.initial_state(B), (), last_of(rollout), explore, noise())
    for actions in (fresh, adapted_actions(agent, rollout, last_of(rollout), explore)):
        assert actions.shape == (B, E, SPEC.act_dim)
        assert actions.isfinite().all()


@pytest.mark.parametrize("name", AGENTS)
def test_a_task_that_broke_down_in_its_first_step_is_survived(name: str) -> None:
    rollout = rollout_of()
    for tensor in (rollout.mask, rollout.reward, rollout.terminated):
        tensor[1] = 0
    rollout.failed[1] = True
    assert adapted_actions(make(name), rollout, last_of(rollout)).isfinite().all()


@pytest.mark.parametrize("name", AGENTS)
def test_acting_and_adapting_change_neither_the_agent_nor_their_inputs(name: str) -> None:
    agent, rollout = make(name), rollout_of()
    state, last = agent.initial_state(B), last_of(rollout)
    inputs = list(leaves((state, rollout, last)))
    copies, weights = [tensor.clone() for tensor in inputs], bytes_of(agent.state_dict())
    agent.act(state, (), last, True, noise())
    agent.adapt(state, (), rollout, noise())
    assert bytes_of(agent.state_dict()) == weights
    assert all(torch.equal(tensor, copy) for tensor, copy in zip(inputs, copies, strict=True))


@pytest.mark.parametrize("name", AGENTS)
def test_what_was_learned_of_a_task_can_be_replayed(name: str) -> None:
    agent, rollout = make(name), rollout_of()
    first = adapted_actions(agent, rollout, last_of(rollout))
    adapted_actions(agent, rollout_of(seed=1), last_of(rollout))
    assert torch.equal(adapted_actions(agent, rollout, last_of(rollout)), first)


@pytest.mark.parametrize("name", AGENTS)
def test_a_task_learns_nothing_from_another(name: str) -> None:
    agent, rollout = make(name), rollout_of()
    changed, other = rollout_of(), rollout_of(seed=1)
    for mine, theirs in zip(leaves(changed), leaves(other), strict=True):
        mine[2] = theirs[2]
    before = adapted_actions(agent, rollout, last_of(rollout))
    after = adapted_actions(agent, changed, last_of(changed))
    assert torch.equal(before[:2], after[:2])


@pytest.mark.parametrize("name", AGENTS)
def test_every_tensor_of_a_state_leads_with_the_tasks(name: str) -> None:
    agent, rollout = make(name), rollout_of()
    fresh = agent.initial_state(B)
    for state in (fresh, agent.adapt(fresh, (), rollout, noise())):
        assert all(tensor.shape[:1] == (B,) for tensor in leaves(state))


@pytest.mark.parametrize("name", AGENTS)
def test_a_seed_repeats_and_another_differs(name: str) -> None:
    weights = bytes_of(trained_on_cartpole(name, 0).state_dict())
    assert bytes_of(trained_on_cartpole(name, 0, attempt=1).state_dict()) == weights
    learns = bool(make(name).state_dict())
    assert (bytes_of(trained_on_cartpole(name, 1).state_dict()) != weights) == learns


@pytest.mark.parametrize("name", AGENTS)
def test_a_state_dict_holds_all_that_was_learned(name: str) -> None:
    agent = trained_on_cartpole(name, 0)
    spec = short_cartpole().spec
    copy = make(name, spec, seed=5)
    copy.load_state_dict(load(bytes_of(agent.state_dict())))
    assert bytes_of(copy.state_dict()) == bytes_of(agent.state_dict())
    rollout = rollout_of(replace(spec, horizon=30))
    for explore in (True, False):
        ours, theirs = (adapted_actions(a, rollout, last_of(rollout), explore) for a in (agent, copy))
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("name", AGENTS)
@pytest.mark.parametrize("budget", [1, 151, 301, 1_501])  # ends before, within and between collections
def test_the_budget_is_never_exceeded_whenever_it_ends(name: str, budget: int) -> None:
    training = GoalTraining(budget, horizon=5)
    agent = make(name, goal_spec(5))
    meta_train(agent, training)
    assert training.steps <= budget
    rollout = rollout_of(goal_spec(5))
    assert adapted_actions(agent, rollout, last_of(rollout)).isfinite().all()


@pytest.mark.parametrize("name", AGENTS)
def test_meta_training_moves_weights_and_logs_finite_scalars(name: str) -> None:
    training = GoalTraining(5_000, horizon=5)
    agent = make(name, goal_spec(5))
    weights = bytes_of(agent.state_dict())
    learns = bool(agent.state_dict())
    meta_train(agent, training)
    assert (bytes_of(agent.state_dict()) != weights) == learns
    assert bool(training.logged) == learns
    for values in training.logged:
        for tag, value in values.items():
            assert tag.count("/") == 1, f"{tag} is not of the form section/name"
            assert math.isfinite(float(value)), tag


@cache
def weights_after_a_game(name: str, settings: str) -> bytes:
    """Args: settings: as JSON, so that they can be a key."""
    agent = make(name, goal_spec(20), **json.loads(settings))
    meta_train(agent, game_of(agent))
    return bytes_of(agent.state_dict())


def game_of(agent: MetaAgent) -> GoalTraining:
    """A game with the env steps that the agent's config asks for, as the harness gives them."""
    config = getattr(agent, "config", None)
    return GoalTraining(min(4_000, getattr(config, "env_steps", 4_000)), horizon=20)


def another(setting: str, value: Any, words: Sequence[str]) -> Any:
    """A value for a setting that is far from its default, and within its bounds."""
    if words:
        return next(word for word in words if word != value)
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return max(value // 6, 1) if value > 3 else value + 1
    if isinstance(value, float):
        return (0.2 if setting.endswith("action_std") else 1e-3) * value or 0.1
    return value[:-1]


@pytest.mark.parametrize(("name", "setting"), [pair for pair in SETTINGS if pair not in INERT])
def test_every_setting_is_alive(name: str, setting: str) -> None:
    """Under some choice of the settings that are words, another value gives other weights."""
    listed = list(settings_of(config_of(name, {})))
    words = {key: get_args(hint) for key, _, hint in listed if get_origin(hint) is Literal}
    default = next(value for key, value, _ in listed if key == setting)
    changed = {setting: another(setting, default, words.pop(setting, ()))}
    assert any(
        weights_after_a_game(name, json.dumps(chosen))
        != weights_after_a_game(name, json.dumps(chosen | changed))
        for chosen in (dict(zip(words, choice, strict=True)) for choice in product(*words.values()))
    )


@pytest.mark.parametrize("name", AGENTS)
def test_every_setting_has_a_default_and_a_comment(name: str) -> None:
    Config = registry.find("agent", name).Config
    Config()
    source = textwrap.dedent(inspect.getsource(Config))
    lines = source.splitlines()
    for statement in ast.parse(source).body[0].body:
        if isinstance(statement, ast.AnnAssign):
            line, above = lines[statement.lineno - 1], lines[statement.lineno - 2].strip()
            assert "  # " in line or above.startswith("# "), f"no comment: {line.strip()}"


def behind_a_door(training: Training) -> Any:
    """A training of which an agent gets to see what the contract names, and not an attribute more."""

    class Door:
        budget = property(lambda self: training.budget)
        steps = property(lambda self: training.steps)
        left = property(lambda self: training.left)

        def tasks(self, count: int, episodes: int) -> Any:
            inside = training.tasks(count, episodes)

            class Game:
                def collect(
                    self, act: Act, state: State, memory: Memory = (), explore: bool = True
                ) -> tuple[Rollout, Memory]:
                    return inside.collect(act, state, memory, explore)

            return Game()

        def log(self, values: Mapping[str, float | Tensor]) -> None:
            training.log(values)

    return Door()


@pytest.mark.parametrize("name", AGENTS)
def test_agents_learn_from_their_experience_alone(name: str) -> None:
    """So none needs the reward function or the parameters: they are not to be reached from what it is given."""
    agent = make(name, goal_spec(20))
    with suppress(BudgetSpent):
        agent.meta_train(behind_a_door(game_of(agent)))
    assert bytes_of(agent.state_dict()) == weights_after_a_game(name, "{}")


@pytest.mark.parametrize("scenario_id", list_scenarios())
def test_agents_observe_sizes_a_clock_and_units_but_no_parameter(scenario_id: str) -> None:
    given = {field.name for field in fields(EnvSpec)}
    assert given == {"obs_dim", "act_dim", "horizon", "dt", "obs_scale", "trial"}
    scenario = find_scenario(scenario_id)
    spec = scenario.spec
    env = scenario.family.make(scenario.tasks("test"), 1, CPU)
    assert env.reset(0).shape[-1] == spec.obs_dim == len(spec.obs_scale)
    env.close()


def test_agents_import_nothing_of_ours_but_the_contract() -> None:
    """So none can look up a task family, a scenario or the oracle's privilege."""
    for path in Path(mrl_agents.__path__[0]).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            modules: list[str] = []
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                modules = [node.module or ""]
            ours = {module for module in modules if module.partition(".")[0] in ("mrl_bench", "mrl_tasks")}
            assert ours <= {"mrl_bench.agent", "mrl_bench.types"}, f"{path.name} imports {ours}"

"""mrl-bench: a benchmark for meta-reinforcement learning, backed by real simulators.

    import mrl_bench
    env = mrl_bench.make("cartpole-wiring-v1", tasks=[0, 1], num_envs=4)   # 2 tasks x 4 instances
    obs = env.reset(seed=0)                                                # (2, 4, 4)
    curve = mrl_bench.evaluate("random", "cartpole-wiring-v1")             # a results.Curve

Importing this package is cheap: each function imports what it needs, torch included, when it is called.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from mrl_bench.agent import MetaAgent
    from mrl_bench.family import BatchEnv, TaskFamily
    from mrl_bench.results import Curve
    from mrl_bench.scenario import Scenario
    from mrl_bench.types import EnvSpec, Step, TaskBatch

__version__ = "0.1.0"

__all__ = [
    "ScenarioEnv",
    "check_agent",
    "check_family",
    "evaluate",
    "list_scenarios",
    "load_scenario",
    "make",
]


@dataclass
class ScenarioEnv:
    """B tasks of a scenario with E environment instances each, which step together. Made by `make`.

    There is no autoreset: an instance whose episode has ended stays as it is until the next `reset`, and the numbers
    that it gives until then have no meaning. An episode ends when `terminated` or `failed` says so, or after
    `spec.horizon` steps, which the caller counts.
    """

    scenario: Scenario
    tasks: TaskBatch  # the B tasks that are played, with their parameters
    num_envs: int  # E
    spec: EnvSpec  # sizes of observation (O) and action (A), horizon, seconds of a step
    unwrapped: BatchEnv  # the family's own environment, with `render` and `metrics` where it has them
    _was_reset = False

    def reset(self, seed: int = 0) -> Tensor:
        """Starts an episode in every instance. The same seed gives the same starts.

        Returns:
            Observations, (B, E, O).
        """
        self._was_reset = True
        return self.unwrapped.reset(seed)

    def step(self, action: Tensor) -> Step:
        """Advances every instance by one control step.

        Args:
            action: (B, E, A), finite; clamped to [-1, 1].

        Returns:
            Step: obs (B, E, O), reward (B, E), terminated (B, E) bool, failed (B, E) bool.

        Raises:
            UsageError: `reset` was never called.
        """
        if not self._was_reset:
            from mrl_bench.errors import UsageError

            raise UsageError("no episode has started: call reset() before step()")
        return self.unwrapped.step(action)

    def close(self) -> None:
        self.unwrapped.close()


def make(
    scenario: str | Path | Scenario,
    split: str = "test",
    tasks: int | Sequence[int] | None = None,
    num_envs: int = 1,
    device: str | torch.device = "cpu",
) -> ScenarioEnv:
    """An environment that plays tasks of a scenario.

    Args:
        scenario: an id, a YAML file, or a loaded scenario.
        split: "train", "test" or "ood".
        tasks: which tasks of the split: an index, several, or None for all of them.
        num_envs: environment instances of each task.
        device: where the environment computes and the tensors live.

    Raises:
        UsageError: there is no such scenario, split or task, or `num_envs` is less than 1.
    """
    import torch

    from mrl_bench.errors import UsageError
    from mrl_bench.types import TaskBatch

    found = load_scenario(scenario)
    listed = found.tasks(split)
    indices = range(len(listed)) if tasks is None else [tasks] if isinstance(tasks, int) else list(tasks)
    wrong = [index for index in indices if not 0 <= index < len(listed)]
    if wrong or not indices:
        raise UsageError(
            f"split {split!r} of {found.id} has tasks 0 to {len(listed) - 1}, not {wrong or 'none'}"
        )
    if num_envs < 1:
        raise UsageError(f"num_envs must be at least 1, not {num_envs}")
    chosen = TaskBatch(listed.names, listed.values[list(indices)])
    env = found.family.make(chosen, num_envs, torch.device(device))
    return ScenarioEnv(found, chosen, num_envs, found.family.spec, env)


def load_scenario(name: str | Path | Scenario) -> Scenario:
    """The scenario with an id or in a YAML file; a scenario that is loaded already is returned as it is.

    Raises:
        UsageError: there is no such id, or something is wrong with the file.
    """
    from mrl_bench.scenario import Scenario, find_scenario

    return name if isinstance(name, Scenario) else find_scenario(name)


def list_scenarios() -> list[str]:
    """The ids of the scenarios that come with mrl-bench, sorted."""
    from mrl_bench.scenario import list_scenarios

    return list_scenarios()


def evaluate(
    agent: MetaAgent | type | str,
    scenario: str | Path | Scenario,
    split: str = "test",
    *,
    seed: int = 0,
    device: str | torch.device = "cpu",
    settings: Mapping[str, Any] | None = None,
) -> Curve:
    """The adaptation curve of an agent on every task of a split.

    Args:
        agent: an instance, which is evaluated as it is; or a class, a short name or "module:Class", which is
            meta-trained first with the scenario's budget. "oracle" observes the task's parameters.
        scenario: an id, a YAML file, or a loaded scenario.
        split: "train", "test" or "ood".
        seed: the training seed; also of the noise in the evaluation.
        settings: name -> value of some fields of the agent's Config. Not for an instance.

    Returns:
        A `results.Curve`: `k` (K,), `returns` (B, K, N) of N scored episodes, `env_steps` (B, K), `failed` (B, K), and
        `online`, the adaptation episodes: `online.returns` (B, M), in the order played.

    Raises:
        UsageError: there is no such agent, setting, scenario or split.
        ContractError: the agent broke a promise of `mrl_bench.agent`, such as finite actions.
    """
    import torch

    from mrl_bench.errors import UsageError
    from mrl_bench.protocol.adaptation import evaluate as adaptation_curve
    from mrl_bench.scenario import played_by

    found, place = load_scenario(scenario), torch.device(device)
    played = played_by(agent, found) if isinstance(agent, str) else found
    if isinstance(agent, str | type):
        trained = _meta_trained(agent, played, seed, place, settings or {})
    elif settings:
        raise UsageError(
            "settings belong to a class or a name: this agent is an instance, with its own config"
        )
    else:
        trained = agent
    return adaptation_curve(trained, played, split, seed=seed, device=place, strict=True)


def _meta_trained(
    agent: str | type, scenario: Scenario, seed: int, device: torch.device, settings: Mapping[str, Any]
) -> MetaAgent:
    """A new agent, meta-trained with the env steps that the scenario and its own config give it."""
    from dataclasses import asdict

    from mrl_bench import registry
    from mrl_bench.protocol.promises import require_methods
    from mrl_bench.protocol.training import BudgetedTraining, meta_train
    from mrl_bench.scenario.settings import make_config

    cls: Any = registry.find("agent", agent) if isinstance(agent, str) else agent
    config = make_config(cls, settings)
    trained: MetaAgent = cls(scenario.spec, config, seed, device)
    require_methods(trained)
    training = BudgetedTraining(
        scenario,
        budget=scenario.budget.planned(str(agent), asdict(config)),
        seed=seed,
        device=device,
        log=lambda values, step: None,
    )
    meta_train(trained, training)
    return trained


def check_agent(
    agent: MetaAgent | type | str,
    scenario: str | Path | Scenario = "cartpole-wiring-v1",
    *,
    waive: Mapping[str, str] | None = None,
) -> None:
    """Holds an agent to the contract of `mrl_bench.agent` in a few episodes.

    Args:
        agent: an instance, a class, a short name or "module:Class". A class is meta-trained with its default config,
            for at most 20 full episodes and 20 seconds.
        scenario: where it is tried.
        waive: name of a check -> why the agent need not pass it. Such a check must fail.

    Raises:
        ContractError: lists every broken promise: what was promised, and what was found.
        UsageError: there is no such agent or scenario, or a waiver names no check, has no reason or is not needed.
    """
    from mrl_bench.checks.agent import check

    check(agent, load_scenario(scenario), waive or {})


def check_family(family: TaskFamily | type | str, *, waive: Mapping[str, str] | None = None) -> None:
    """Holds a task family to the contract of `mrl_bench.family`.

    Args:
        family: an instance, with the options that it has; or a class, a short name or "module:Class", with defaults.
        waive: name of a check -> why the family need not pass it. Such a check must fail.

    Raises:
        ContractError: lists every broken promise: what was promised, and what was found.
        UsageError: there is no such family, or a waiver names no check, has no reason or is not needed.
        MissingPart: the simulator is not installed.
    """
    from mrl_bench import registry
    from mrl_bench.checks.family import check

    check(registry.find("family", family) if isinstance(family, str) else family, waive or {})

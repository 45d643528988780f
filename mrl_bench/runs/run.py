"""A run: one agent with one seed on one scenario, in two stages, "train" and "evaluate".

The result of a stage is a file. Its name is a hash of everything that the result depends on, so a finished stage is
skipped, and a stage whose code or settings have changed runs again.
"""

from __future__ import annotations

import json
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from functools import cache, cached_property, partial
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mrl_bench import registry
from mrl_bench.errors import ContractError, UsageError, printable
from mrl_bench.family import needs_one_process
from mrl_bench.results import REFERENCE_AGENTS, Evaluation, TrainingResult, canonical_json
from mrl_bench.runs.code import Code, CodeChanged, are_unchanged, code_of, import_root
from mrl_bench.runs.provenance import package_versions
from mrl_bench.runs.store import Store, StoreError
from mrl_bench.runs.terms import Terms
from mrl_bench.scenario import Budget, Protocol, Scenario, load_scenario, played_by
from mrl_bench.scenario.settings import flat, make_config
from mrl_bench.scenario.suite import AgentSpec

if TYPE_CHECKING:
    from torch import Tensor

    from mrl_bench.agent import MetaAgent
    from mrl_bench.protocol.learning_curve import PeriodicEvaluation
    from mrl_bench.results import Curve

# (stage, steps so far, steps in all, mean training return so far or None)
ReportProgress = Callable[[str, int, int, float | None], None]
# What a stage has imported although no import statement names it: file -> SHA-256, as `Imports.unplanned` says.
Unplanned = Callable[[], Mapping[str, str]]

_RETURN = "charts/episodic_return_"  # followed by how often the tasks had been played before
_ADAPTATION = "adaptation/return_"  # followed by the split; its steps are adaptation episodes
_ISOLATION = (
    "mrl_bench.runs.isolation.remote"  # with what it imports, it decides what an isolated agent earns
)
_MODEL = "model/"  # the last scalars under it are part of the result


@dataclass(frozen=True)
class Run:
    """What to train and evaluate."""

    scenario: Scenario
    agent: AgentSpec
    seed: int
    device: str  # "cpu" or "cuda"
    isolated: bool = False  # whether its code is executed in a process of its own: see `runs.isolation`

    @property
    def is_reference(self) -> bool:
        return self.agent.name in REFERENCE_AGENTS

    @cached_property
    def played(self) -> Scenario:
        """The scenario as the agent plays it."""
        return played_by(self.agent.name, self.scenario)

    @property
    def budget(self) -> int:
        return self.scenario.budget.of(self.agent.name)

    @property
    def planned_env_steps(self) -> int:
        """Env steps that the agent plans to use."""
        return self.scenario.budget.planned(self.agent.name, self.settings)

    @property
    def label(self) -> str:
        trained = self.is_reference and self.budget  # `mrl-bench reference` trains them with two budgets
        steps = f", {self.budget:,} env steps" if trained else ""
        return f"{self.scenario.id} {self.agent.name} seed {self.seed}{steps}"

    @cached_property
    def terms(self) -> Terms:
        return Terms.of(self.scenario, self.agent.name, self.seed)

    @property
    def tensorboard_name(self) -> str:
        """Has a part of the run's key, so that runs with different settings keep their own curves."""
        return f"{self.scenario.id}/{self.agent.name}/seed-{self.seed}-{self.key('train')[:6]}"

    @property
    def shown_settings(self) -> dict[str, bool | float | str]:
        """What TensorBoard compares runs by: scenario, agent, budget, seed and the whole config, one level deep."""
        facts = {"scenario": self.scenario.id, "agent": self.agent.name, "seed": self.seed}
        settings = {**facts, "budget": self.planned_env_steps, **flat(self.settings)}
        return {
            name: value if isinstance(value, bool | int | float) else str(value)
            for name, value in settings.items()
        }

    def key(self, stage: str) -> str:
        """The file name of a stage's result ("train" or "evaluate"): a hash of everything that it depends on."""
        return sha256(canonical_json({**self._depends_on, "stage": stage})).hexdigest()[:24]

    @cached_property
    def code(self) -> Code:
        """The code that the results depend on, as it is when this is first asked for."""
        return code_of(*self.modules)

    @property
    def modules(self) -> tuple[str, ...]:
        """Of the family, of the agent, and of what isolates it."""
        names = {"family": self.scenario.family_name, "agent": self.agent.agent}
        family, agent = (registry.target(kind, name).partition(":")[0] for kind, name in names.items())
        return (family, agent, _ISOLATION) if self.isolated else (family, agent)

    @cached_property
    def import_root(self) -> Path:
        """The folder that the agent is imported from."""
        return import_root(self.modules[1])

    @cached_property
    def _depends_on(self) -> dict[str, Any]:
        """Everything that the results depend on."""
        code = self.code  # found before the agent is imported, which may change the import path
        packages = package_versions()
        return {
            "scenario": self.scenario.digest,
            "agent": registry.target("agent", self.agent.agent),
            "name": self.agent.name,
            "settings": self.settings,
            "budget": self.budget,
            "seed": self.seed,
            "device": self.device,
            **({"isolated": True} if self.isolated else {}),
            "versions": {name: packages[name] for name in ("torch", "numpy")} | dict(code.packages),
            "code": dict(code.sources),
        }

    @property
    def settings(self) -> Mapping[str, Any]:
        """The agent's hyperparameters as plain data, one mapping for each level.

        Raises:
            UsageError: it does not accept those of the suite.
        """
        if not self.isolated:
            return asdict(self.config)
        return _isolated_settings(registry.target("agent", self.agent.agent), json.dumps(self.agent.settings))

    @property
    def config(self) -> Any:
        """The agent's hyperparameters: its defaults, overridden by the suite's settings."""
        cls = registry.find("agent", self.agent.agent)
        return deepcopy(_config(cls, json.dumps(self.agent.settings)))  # an agent may change its copy

    def to_json(self) -> dict[str, Any]:
        """The run as data, for a worker process and the manifest."""
        return {
            "scenario": str(self.scenario.path.resolve()),
            "options": dict(self.scenario.options),
            "budget": asdict(self.scenario.budget),
            "protocol": asdict(self.scenario.protocol),
            "digest": self.scenario.digest,
            "simulator": self.scenario.simulator,
            "agent": asdict(self.agent),
            "seed": self.seed,
            "device": self.device,
            "isolated": self.isolated,
        }

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Run:
        """Raises UsageError if the scenario's file has changed since."""
        budget = Budget(**data["budget"])
        protocol = Protocol(**{**data["protocol"], "k": tuple(data["protocol"]["k"])})
        scenario = load_scenario(data["scenario"], data.get("options")).with_overrides(budget, protocol)
        scenario = replace(scenario, planned_simulator=data.get("simulator"))
        if scenario.digest != data["digest"]:
            more = "or a file or simulator that its family uses"
            raise UsageError(f"{data['scenario']} has changed since this run was planned, {more}")
        agent = AgentSpec(**data["agent"])
        return Run(scenario, agent, data["seed"], data["device"], data.get("isolated", False))


@cache
def _config(agent: Any, settings: str) -> Any:
    """The Config of an agent class with settings, as JSON. Hundreds of runs share a few of them."""
    return make_config(agent, json.loads(settings))


@cache
def _isolated_settings(target: str, settings: str) -> Mapping[str, Any]:
    """All settings of an agent whose code must not be imported here."""
    from mrl_bench.runs.isolation.remote import isolation

    try:
        return isolation().settings(target, json.loads(settings))
    except ContractError as error:
        raise UsageError(f"agent {target!r} cannot be used: {error}") from None


def finished(run: Run, store: Store) -> Evaluation | None:
    """The result of a run, unless code that it imported without an import statement has changed since."""
    done = store.evaluation(run.key("evaluate"), run.terms)
    same = done and are_unchanged({**done.training.sources, **done.sources}, run.import_root)
    return done if same else None


def finished_training(run: Run, store: Store) -> TrainingResult | None:
    """The result of a run's meta-training, under the same condition."""
    done = store.trained(run.key("train"), run.terms)
    return done if done and are_unchanged(done.sources, run.import_root) else None


def execute(run: Run, store: Store, progress: ReportProgress, unplanned: Unplanned = dict) -> Evaluation:
    """Runs the stages that are not finished yet.

    If the agent or the simulation raises an error, the run has failed. The error is stored as its result, because
    failed runs are counted, and score no better than random.
    """
    done = finished(run, store)
    if done:
        return done
    try:
        trained = train(run, store, progress, unplanned)
        evaluation, recorded = _evaluate(run, store, trained, progress)
    except (StoreError, CodeChanged):
        raise  # such as a full disk: the executor finds out whether the run is to blame
    except Exception as error:
        traceback.print_exc()
        evaluation, recorded = failure(run, f"{type(error).__name__}: {error}"), None
    evaluation = replace(evaluation, sources=unplanned())
    store.put_evaluation(run.key("evaluate"), evaluation, recorded)
    return evaluation


def failure(run: Run, reason: str) -> Evaluation:
    """The result of a failed run."""
    reason = printable(" ".join(reason.split()))[:300]
    return _evaluation(run, TrainingResult(0), {}, reason)


def _evaluation(
    run: Run, trained: TrainingResult, curves: Mapping[str, Curve], error: str | None = None
) -> Evaluation:
    return Evaluation(
        scenario=run.scenario.id,
        digest=run.scenario.digest,
        agent=run.agent.name,
        is_reference=run.is_reference,
        seed=run.seed,
        training=trained,
        curves=curves,
        error=error,
    )


def make_agent(run: Run, device: str) -> MetaAgent:
    """A new agent. The global generators are seeded as at the start of a stage."""
    import torch

    from mrl_bench.protocol.promises import require_methods, seed_global_generators

    if run.isolated:
        from mrl_bench.runs.isolation.remote import isolation

        target = registry.target("agent", run.agent.agent)
        remote: Any = isolation().make(target, run.played.spec, run.agent.settings, run.seed)
        agent: MetaAgent = remote
        return agent
    seed_global_generators(run.seed)
    cls = registry.find("agent", run.agent.agent)
    agent = cls(run.played.spec, run.config, run.seed, torch.device(device))
    require_methods(agent)
    return agent


def train(run: Run, store: Store, progress: ReportProgress, unplanned: Unplanned = dict) -> TrainingResult:
    """Meta-trains the agent, and stores its weights and the result. Reference agents get no learning curve."""
    key = run.key("train")
    done = finished_training(run, store)
    if done:
        return done
    store.forget(key)  # of code that has changed since: with new weights it would look damaged
    import torch

    from mrl_bench.protocol.learning_curve import PeriodicEvaluation
    from mrl_bench.protocol.training import BudgetedTraining, meta_train

    started = time.perf_counter()
    model_errors: dict[str, float] = {}
    returns: dict[int, float] = {}  # the last mean return after 0, 1, ... collections on the same tasks
    curve = None
    if not run.is_reference:
        curve = PeriodicEvaluation(partial(make_agent, run, "cpu"), run.scenario, seed=run.seed)
    logging = store.tensorboard(run.tensorboard_name, "train", run.shown_settings, f"{_ADAPTATION}test")
    with curve or nullcontext(), logging as write:
        agent = make_agent(run, run.device)

        def log(values: Mapping[str, float], step: int) -> None:
            write(values, step)
            returns.update(
                {int(tag.removeprefix(_RETURN)): x for tag, x in values.items() if tag.startswith(_RETURN)}
            )
            progress("train", step, run.planned_env_steps, returns[max(returns)] if returns else None)
            model_errors.update(
                {tag.removeprefix(_MODEL): x for tag, x in values.items() if tag.startswith(_MODEL)}
            )

        def watch(steps: int) -> None:
            if curve and steps < training.budget and curve.due(steps):
                curve.evaluate(steps, agent.state_dict())

        training = BudgetedTraining(
            run.played,
            budget=run.planned_env_steps,
            seed=run.seed,
            device=torch.device(run.device),
            log=log,
            watch=watch,
        )
        meta_train(agent, training)
        weights = {name: tensor.detach().clone() for name, tensor in agent.state_dict().items()}
        if curve:
            curve.evaluate(training.steps, weights)
        _require_restored(run, agent, weights, curve)
        learned = curve.curve if curve else None
        for steps, each in zip(learned.env_steps, learned.returns.T, strict=True) if learned else ():
            write({"charts/learning_curve": each.mean()}, int(steps))
    trained = TrainingResult(training.steps, learned, model_errors, unplanned())
    run.terms.check_training(trained)
    store.put_training(key, weights, trained)
    store.put_seconds(key, time.perf_counter() - started - (curve.seconds if curve else 0.0))
    return trained


def _require_restored(
    run: Run, agent: MetaAgent, weights: Mapping[str, Tensor], curve: PeriodicEvaluation | None
) -> None:
    """Raises ContractError if the weights do not hold everything that the agent has learned."""
    import torch

    from mrl_bench.protocol.restoring import few_actions, require_restored

    device = torch.device(run.device)
    exactly = run.device == "cpu" and not needs_one_process(run.scenario.family)
    restored = curve.few_actions(weights) if curve and exactly else None  # nothing in common with the agent
    if restored is None:
        copy = make_agent(run, run.device)
        copy.load_state_dict(weights)
        restored = few_actions(copy, run.played, device)
    require_restored(few_actions(agent, run.played, device), restored, exactly=exactly)


def _evaluate(
    run: Run, store: Store, trained: TrainingResult, progress: ReportProgress
) -> tuple[Evaluation, bytes]:
    """The evaluation, and a sample of its episodes with their actions: see `mrl_bench.protocol.recorded`."""
    import torch

    from mrl_bench.protocol.adaptation import evaluate
    from mrl_bench.protocol.recorded import Recorder, to_bytes

    started = time.perf_counter()
    device = torch.device(run.device)
    agent = make_agent(run, run.device)
    agent.load_state_dict(store.weights(run.key("train"), run.device))
    curves, recorded = {}, {}
    with store.tensorboard(run.tensorboard_name, "evaluate") as write:
        for done, split in enumerate(run.scenario.splits):
            progress(f"evaluate on {split}", done, len(run.scenario.splits), None)
            recorder = Recorder()
            curve = evaluate(
                agent, run.played, split, seed=run.seed, device=device, k=run.terms.k, recorder=recorder
            )
            recorded[split] = recorder.recorded(curve)
            for k, mean_return in zip(curve.k, curve.returns.mean((0, 2)), strict=True):
                write({f"{_ADAPTATION}{split}": mean_return}, k)
            curves[split] = curve
    store.put_seconds(run.key("evaluate"), time.perf_counter() - started)
    evaluation = _evaluation(run, trained, curves)
    run.terms.check(evaluation)
    return evaluation, to_bytes(recorded)

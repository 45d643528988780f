"""A run: one agent with one seed on one scenario, in two stages, "train" and "evaluate".

The result of a stage is a file. Its name is a hash of everything that the result depends on, so a finished stage is
skipped, and a stage whose code or settings have changed runs again.
"""

from __future__ import annotations

import json
import sys
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
from mrl_bench.errors import UsageError
from mrl_bench.results import REFERENCE_AGENTS, Evaluation, TrainingResult, canonical_json
from mrl_bench.runs.provenance import package_versions
from mrl_bench.runs.store import Store, StoreError
from mrl_bench.scenario import Budget, Protocol, Scenario, load_scenario, privileged
from mrl_bench.scenario.settings import make_config
from mrl_bench.scenario.suite import AgentSpec

if TYPE_CHECKING:
    from mrl_bench.agent import MetaAgent
    from mrl_bench.results import Curve

# (stage, steps so far, steps in all, mean training return so far or None)
ReportProgress = Callable[[str, int, int, float | None], None]

_RETURN = "charts/episodic_return_"  # followed by how often the tasks had been played before
_MODEL = "model/"  # the last scalars under it are part of the result

# The parts of the harness that decide a result. The rest only schedules or shows.
_HARNESS = ("scenario", "protocol", "types.py", "keyed_random.py", "runs/run.py")


@dataclass(frozen=True)
class Run:
    """What to train and evaluate."""

    scenario: Scenario
    agent: AgentSpec
    seed: int
    device: str  # "cpu" or "cuda"

    @property
    def is_reference(self) -> bool:
        return self.agent.name in REFERENCE_AGENTS

    @cached_property
    def played(self) -> Scenario:
        """The scenario as the agent plays it. Only the oracle's is privileged; suites cannot give its name away."""
        return privileged(self.scenario) if self.agent.name == "oracle" else self.scenario

    @property
    def budget(self) -> int:
        return self.scenario.budget.of(self.agent.name)

    @property
    def planned_env_steps(self) -> int:
        """Env steps that the agent plans to use: the budget, or its setting `env_steps` if that is less."""
        return min(self.budget, int(getattr(self.config, "env_steps", self.budget)))

    @property
    def label(self) -> str:
        return f"{self.scenario.id} {self.agent.name} {self.seed}"

    @property
    def tensorboard_name(self) -> str:
        """Has a part of the run's key, so that runs with different settings keep their own curves."""
        return f"{self.scenario.id}/{self.agent.name}-{self.seed}-{self.key('train')[:6]}"

    def key(self, stage: str) -> str:
        """The file name of a stage's result ("train" or "evaluate"): a hash of everything that it depends on."""
        return sha256(canonical_json({**self._depends_on, "stage": stage})).hexdigest()[:24]

    @cached_property
    def _depends_on(self) -> dict[str, Any]:
        """Everything that the results depend on."""
        packages = package_versions()
        return {
            "scenario": self.scenario.digest,
            "agent": registry.target("agent", self.agent.agent),
            "name": self.agent.name,
            "settings": asdict(self.config),
            "seed": self.seed,
            "device": self.device,
            "versions": {name: packages[name] for name in ("torch", "numpy")},
            "code": code_digest(self.scenario.family_name, self.agent.agent),
        }

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
        }

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Run:
        """Raises UsageError if the scenario's file has changed since."""
        budget = Budget(**data["budget"])
        protocol = Protocol(**{**data["protocol"], "k": tuple(data["protocol"]["k"])})
        scenario = load_scenario(data["scenario"], data.get("options")).with_overrides(budget, protocol)
        scenario = replace(scenario, planned_simulator=data.get("simulator"))
        if scenario.digest != data["digest"]:
            raise UsageError(f"{data['scenario']} has changed since this run was planned")
        return Run(scenario, AgentSpec(**data["agent"]), data["seed"], data["device"])


@cache
def _config(agent: Any, settings: str) -> Any:
    """The Config of an agent class with settings, as JSON. Hundreds of runs share a few of them."""
    return make_config(agent, json.loads(settings))


@cache
def code_digest(family: str, agent: str) -> str:
    """A hash of the source code of the harness (`_HARNESS`), the family's package and the agent's package."""
    harness = Path(__file__).parents[1]
    parts = (harness / name for name in _HARNESS)
    sources = [path for part in parts for path in (part.rglob("*.py") if part.is_dir() else [part])]
    files = {f"mrl_bench/{path.relative_to(harness)}": path for path in sources}
    for kind, name in (("family", family), ("agent", agent)):
        root = Path(_source(registry.find(kind, name).__module__.partition(".")[0]))
        found = root.rglob("*.py") if root.is_dir() else [root]
        files |= {f"{kind}/{path.relative_to(root)}": path for path in found}
    total = sha256()
    for name, path in sorted(files.items()):
        total.update(name.encode() + b"\0" + sha256(path.read_bytes()).digest())
    return total.hexdigest()


def _source(module: str) -> str:
    """The folder of a package, or the file of a module."""
    found = sys.modules[module]
    if hasattr(found, "__path__"):
        return str(next(iter(found.__path__)))
    return str(found.__file__)


def execute(run: Run, store: Store, progress: ReportProgress) -> Evaluation:
    """Runs the stages that are not finished yet.

    If the agent or the simulation raises an error, the run has failed. The error is stored as its result, because
    failed runs are counted, and scored as random.
    """
    done = store.evaluation(run.key("evaluate"))
    if done:
        return done
    try:
        trained = train(run, store, progress)
        evaluation = _evaluate(run, store, trained, progress)
    except StoreError:
        raise  # such as a full disk: the run did not fail
    except Exception as error:
        traceback.print_exc()
        evaluation = failure(run, f"{type(error).__name__}: {error}")
    store.put_evaluation(run.key("evaluate"), evaluation)
    return evaluation


def failure(run: Run, reason: str) -> Evaluation:
    """The result of a failed run."""
    reason = " ".join(reason.split())[:300]
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

    seed_global_generators(run.seed)
    cls = registry.find("agent", run.agent.agent)
    agent: MetaAgent = cls(run.played.spec, run.config, run.seed, torch.device(device))
    require_methods(agent)
    return agent


def train(run: Run, store: Store, progress: ReportProgress) -> TrainingResult:
    """Meta-trains the agent, and stores its weights and the result. Reference agents get no learning curve."""
    key = run.key("train")
    done = store.trained(key)
    if done:
        return done
    import torch

    from mrl_bench.protocol.learning_curve import PeriodicEvaluation
    from mrl_bench.protocol.promises import require_restored
    from mrl_bench.protocol.training import BudgetedTraining, meta_train

    started = time.perf_counter()
    model_errors: dict[str, float] = {}
    returns: dict[int, float] = {}  # the last mean return after 0, 1, ... collections on the same tasks
    curve = None
    if not run.is_reference:
        curve = PeriodicEvaluation(partial(make_agent, run, "cpu"), run.scenario, seed=run.seed)
    with curve or nullcontext(), store.tensorboard(run.tensorboard_name) as write:
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
    restored = make_agent(run, run.device)
    restored.load_state_dict(weights)
    require_restored(agent, restored, run.played, torch.device(run.device))
    trained = TrainingResult(training.steps, curve.curve if curve else None, model_errors)
    store.put_training(key, weights, trained)
    store.put_seconds(key, time.perf_counter() - started - (curve.seconds if curve else 0.0))
    return trained


def _evaluate(run: Run, store: Store, trained: TrainingResult, progress: ReportProgress) -> Evaluation:
    import torch

    from mrl_bench.protocol.adaptation import evaluate

    started = time.perf_counter()
    device = torch.device(run.device)
    agent = make_agent(run, run.device)
    agent.load_state_dict(store.weights(run.key("train"), run.device))
    curves = {}
    for done, split in enumerate(run.scenario.splits):
        progress(f"evaluate on {split}", done, len(run.scenario.splits), None)
        curves[split] = evaluate(agent, run.played, split, seed=run.seed, device=device)
    store.put_seconds(run.key("evaluate"), time.perf_counter() - started)
    return _evaluation(run, trained, curves)

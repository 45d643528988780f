"""Trains the reference agents of a scenario with several seeds, and gathers their returns."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mrl_bench.errors import MrlBenchError
from mrl_bench.results import REFERENCE_AGENTS, Evaluation
from mrl_bench.runs.executor import NotFinished
from mrl_bench.runs.provenance import git_commit, machine, package_versions
from mrl_bench.runs.run import Run
from mrl_bench.scenario import Budget, Scenario
from mrl_bench.scenario.references import References
from mrl_bench.scenario.suite import AgentSpec


def plan_references(scenario: Scenario, seeds: Sequence[int], device: str) -> list[Run]:
    """The runs of the reference agents, and those of blind and oracle with half of the budget.

    The latter show whether the budget is large enough; see `References.moved`.
    """
    blind, oracle = scenario.budget.blind, scenario.budget.oracle
    half = Budget(meta_train=1, blind=max(blind // 2, 1), oracle=max(oracle // 2, 1))
    halved = scenario.with_overrides(budget=half)
    plans = [(scenario, name) for name in REFERENCE_AGENTS] + [(halved, "blind"), (halved, "oracle")]
    return [Run(played, AgentSpec(name, name, {}), seed, device) for played, name in plans for seed in seeds]


def gather_references(
    scenario: Scenario, results: Iterable[tuple[Run, Evaluation | NotFinished]]
) -> References:
    """The references from the results of `plan_references`.

    Raises:
        MrlBenchError: a run has failed or is not finished.
    """
    whole: list[Evaluation] = []
    half: list[Evaluation] = []
    settings = {}
    for run, result in results:
        if isinstance(result, NotFinished):
            raise result
        if result.error:
            raise MrlBenchError(f"{run.label} failed: {result.error}")
        settings[run.agent.name] = dict(run.settings)
        (whole if run.budget == scenario.budget.of(run.agent.name) else half).append(result)
    made_with = package_versions() | {
        "simulator": scenario.simulator,
        "machine": machine(),
        "commit": git_commit(),
    }
    return References.of(
        scenario.id, whole, half, settings, digest=scenario.tasks_digest, made_with=made_with
    )

"""A large suite starts at once: configs, versions and code digests are computed once, not once a run."""

from __future__ import annotations

import time
from pathlib import Path

import torch  # noqa: F401  (its import is not planning)
from bench_kit import make_scenario, toy_run

from mrl_bench.runs.cost import Cost
from mrl_bench.runs.executor import check, plan_runs
from mrl_bench.runs.manifest import read_manifest, write_manifest
from mrl_bench.runs.store import Store
from mrl_bench.scenario.suite import find_suite

LIMIT = 3.0  # seconds of process time; it takes about 1.5


def test_the_standard_suite_is_planned_checked_and_written_within_seconds(tmp_path: Path) -> None:
    suite = find_suite("standard")
    check(plan_runs(suite, "cpu")[:40])  # imports the agents and families
    started = time.process_time()
    suite = find_suite("standard")
    runs = plan_runs(suite, "cpu")
    check(runs)
    write_manifest(Store(tmp_path), suite, runs)
    assert time.process_time() - started < LIMIT
    assert len(read_manifest(tmp_path)["runs"]) == len(runs) > 500


def test_an_agent_that_changes_its_config_changes_no_other_run() -> None:
    run = next(run for run in plan_runs(find_suite("quick"), "cpu") if run.agent.name == "maml")
    key, before = run.key("train"), run.config
    changed = run.config
    assert changed is not before
    changed.__dict__.clear()
    assert run.config == before
    assert run.key("train") == key


def test_the_shortest_run_comes_first_and_then_the_longest(tmp_path: Path) -> None:
    runs = [toy_run(make_scenario(tmp_path), "Noisy", seed) for seed in range(4)]
    weights = {run.label: seconds for run, seconds in zip(runs, (3.0, 1.0, 5.0, 3.0), strict=True)}
    cost = Cost(runs=4, finished=0, env_steps=0, weights=weights, seconds=None)
    assert [run.seed for run in cost.in_order(runs)] == [1, 2, 0, 3]

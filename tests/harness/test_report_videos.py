"""Videos in a report: which run is recorded, in a worker and in time; and reports without videos."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from bench_kit import make_suite, planned_run, toy
from score_kit import RANDOM, crash, references, run, score
from test_executor import Record, bench, execute_runs

from mrl_bench.cli.main import main
from mrl_bench.report import bench_report as runs
from mrl_bench.results import Evaluation
from mrl_bench.runs import executor as executor_module
from mrl_bench.runs.executor import Executor, plan_runs
from mrl_bench.runs.store import Store
from mrl_bench.scenario.references import References
from mrl_bench.scenario.suite import find_suite

SOME = [0.5, 0.6, 0.7, 0.8]  # scores of four tasks


def leader(*evaluations: Evaluation, on: References | None = None) -> str | None:
    keyed = {f"{each.agent} {each.seed}": each for each in evaluations}
    return runs._leader(score(*evaluations, on=on), keyed)


def test_the_first_seed_of_the_best_agent_is_recorded() -> None:
    worse = run("worse", RANDOM + np.array(SOME))
    best = [run("best", 10 * np.array(SOME) + RANDOM, seed) for seed in (2, 1)]
    assert leader(worse, *best) == "best 1"
    assert leader(worse, *best, crash("worse", seed=1)) == "best 1"
    assert leader(*(crash("best", seed) for seed in range(2))) is None


def test_no_agent_is_recorded_where_scores_mean_nothing() -> None:
    some = run("best", RANDOM + np.array(SOME))
    assert leader(some) == "best 0"
    assert leader(some, on=references(blind=RANDOM + 9)) is None


def test_a_bench_records_a_video_and_its_page_shows_it(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    no_figures: None,
) -> None:
    suite, folder = make_suite(tmp_path, {"learner": toy("Learner")}), tmp_path / "run"
    assert bench(suite, folder) == 0  # too short a task for anyone to need adaptation
    assert not (folder / "videos").exists()
    page = folder / "report.html"
    assert "data:image/webp" not in page.read_text()

    key = planned_run(suite, "learner").key("evaluate")
    monkeypatch.setattr(runs, "_leader", lambda *_: key)
    assert main(["report", str(folder)]) == 0  # which runs no agent
    assert "data:image/webp" not in page.read_text()
    assert bench(suite, folder) == 0
    assert "learner, seed 0, on the first test task (force_magnitude" in page.read_text()
    facts = folder / "videos" / f"{key}.json"
    made = facts.stat().st_mtime_ns
    assert bench(suite, folder) == 0
    assert facts.stat().st_mtime_ns == made
    assert capsys.readouterr().err == ""


def test_a_video_that_fails_or_takes_too_long_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    suite, store = make_suite(tmp_path, {"learner": toy("Learner")}), Store(tmp_path / "run")
    run, executor = planned_run(suite, "learner"), Executor(store, Record(), 1, 120)
    executor.record([run])
    assert store.video(run.key("evaluate")) is None
    execute_runs(
        store.folder, [run for run in plan_runs(find_suite(suite), "cpu") if run.agent.name == "learner"]
    )
    monkeypatch.setattr(executor_module, "VIDEO_TIME_LIMIT", 0.2)
    executor.record([run])
    assert store.video(run.key("evaluate")) is None

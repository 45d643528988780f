"""Films for a report: who is filmed, by a worker, within seconds; and that a report does well without."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from bench_kit import make_suite, toy, unit_of
from test_executor import Record, bench, run_units
from test_scores import RANDOM, anchors, crash, run

from mrl_bench.cli.main import main
from mrl_bench.report import bench_report as runs
from mrl_bench.report.scores import score_scenario
from mrl_bench.results import Evaluation
from mrl_bench.runs import executor as bench_module
from mrl_bench.runs.executor import Bench, plan_runs
from mrl_bench.runs.store import Store
from mrl_bench.scenario.suite import find_suite

SOME = [0.5, 0.6, 0.7, 0.8]  # scores of four tasks


def leader(*evaluations: Evaluation) -> str | None:
    keyed = {f"{each.agent} {each.seed}": each for each in evaluations}
    return runs._leader(score_scenario(list(evaluations)), keyed)


def test_the_first_seed_of_the_best_agent_is_filmed() -> None:
    worse = run("worse", RANDOM + np.array(SOME))
    best = [run("best", 10 * np.array(SOME) + RANDOM, seed) for seed in (2, 1)]
    assert leader(*anchors(), worse, *best, crash("best")) == "best 1"
    assert leader(*anchors(), *(crash("best", seed) for seed in range(2))) is None
    assert leader(*anchors()) is None


def test_nobody_is_filmed_where_scores_mean_nothing() -> None:
    some = run("best", RANDOM + np.array(SOME))
    assert leader(*anchors(), some) == "best 0"
    assert leader(*anchors(blind=RANDOM + 9), some) is None


def test_a_bench_films_and_its_page_shows_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mrl_bench.report.figures.write_figures", lambda *_: None)
    suite, folder = make_suite(tmp_path, {"learner": toy("Learner")}), tmp_path / "run"
    assert bench(suite, folder) == 0  # too short a task for anyone to need adaptation
    assert not (folder / "films").exists()
    page = folder / "report.html"
    assert "data:image/webp" not in page.read_text()

    key = unit_of(suite, "learner").key("evaluate")
    monkeypatch.setattr(runs, "_leader", lambda *_: key)
    assert main(["report", str(folder)]) == 0  # which runs nobody's code
    assert "data:image/webp" not in page.read_text()
    assert bench(suite, folder) == 0
    assert "learner, seed 0, on the first test task (force_magnitude" in page.read_text()
    film = folder / "films" / f"{key}.json"
    made = film.stat().st_mtime_ns
    assert bench(suite, folder) == 0
    assert film.stat().st_mtime_ns == made
    assert capsys.readouterr().err == ""


def test_what_cannot_be_filmed_in_time_or_at_all_goes_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    suite, store = make_suite(tmp_path, {"learner": toy("Learner")}), Store(tmp_path / "run")
    run, filming = unit_of(suite, "learner"), Bench(store, Record(), 1, 120)
    filming.film([run])
    assert store.film(run.key("evaluate")) is None
    assert "No such file" in store.log_path(run.key("evaluate")).read_text()  # of its weights
    run_units(
        store.folder, [run for run in plan_runs(find_suite(suite), "cpu") if run.agent.name == "learner"]
    )
    monkeypatch.setattr(bench_module, "FILM_LIMIT", 0.2)
    filming.film([run])
    assert store.film(run.key("evaluate")) is None

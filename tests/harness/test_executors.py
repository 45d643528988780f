"""However a bench is spread over workers, nodes and shards, its results have the same bytes."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
from bench_kit import Cli, canonical, make_scenario, make_suite, planned_run, run_here, toy
from test_executor import Record

from mrl_bench.cli.arguments import shard as parse_shard
from mrl_bench.results import Evaluation
from mrl_bench.runs.attempt import Attempt, Backend, read_files, write_files
from mrl_bench.runs.cost import weigh
from mrl_bench.runs.executor import Executor, check, plan_runs
from mrl_bench.runs.manifest import read_manifest, share_manifest
from mrl_bench.runs.processes import Processes
from mrl_bench.runs.ray_cluster import RayCluster
from mrl_bench.runs.run import Run
from mrl_bench.runs.shard import Shard
from mrl_bench.runs.store import Store, StoreError
from mrl_bench.scenario.suite import find_suite

AGENTS = {
    "learner": toy("Learner"),
    "noise": toy("GlobalNoise"),
    "raises": toy("Raises"),
    "weak": toy("Learner", gain=0.5),
}


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_suite(tmp_path_factory.mktemp("suite"), AGENTS)


@pytest.fixture(scope="module")
def runs(suite: Path) -> list[Run]:
    planned = plan_runs(find_suite(suite), "cpu")
    check(planned)
    return planned


@pytest.fixture(scope="module")
def alone(runs: list[Run], tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files that one worker makes."""
    return execute(tmp_path_factory.mktemp("alone"), runs, 1)


def execute(folder: Path, runs: list[Run], workers: int, backend: Backend | None = None) -> dict[str, bytes]:
    executor = Executor(Store(folder), Record(), workers, 120, backend or Processes())
    assert all(isinstance(result, Evaluation) for result in executor.run(runs))
    return canonical(folder)


# -- workers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [2, 4])
def test_several_workers_make_the_same_files_as_one(
    runs: list[Run], alone: dict[str, bytes], tmp_path: Path, workers: int
) -> None:
    assert len(alone) == 3 * 4 + 1  # a failed run has an evaluation alone
    assert execute(tmp_path, runs, workers) == alone


# -- shards -------------------------------------------------------------------------------------------------------


def shard_command(suite: Path, folder: Path, shard: str) -> list[object]:
    return ["bench", "--suite", suite, "--out", folder, "--workers", 1, "--shard", shard]


def test_three_shards_at_the_same_time_make_the_same_files(
    suite: Path, runs: list[Run], alone: dict[str, bytes], tmp_path: Path
) -> None:
    store = Store(tmp_path)

    def execute_part(shard: Shard) -> None:
        with store.held(shard):
            share_manifest(store, find_suite(suite), runs)
            execute(tmp_path, shard.part(runs, weigh(runs, {})), 1)

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(execute_part, (Shard(number, 3) for number in (1, 2, 3))))
    assert canonical(tmp_path) == alone
    assert len(read_manifest(tmp_path)["runs"]) == len(runs)


@pytest.mark.usefixtures("no_figures")
def test_the_command_without_shard_reports_what_the_shards_have_done(
    suite: Path, alone: dict[str, bytes], tmp_path: Path
) -> None:
    for number in (1, 2):
        code, out, _ = run_here(*shard_command(suite, tmp_path, f"{number}/2"))
        assert code == number % 2  # the run that fails is in the first part
        assert "IQM" not in out
    assert (
        "shard 2/2 has ended; all 4 runs are finished. The same command without --shard does the rest" in out
    )
    assert canonical(tmp_path) == alone
    code, out, _ = run_here("bench", "--suite", suite, "--out", tmp_path, "--workers", 1)
    assert code == 1
    assert "4 runs (4 finished)" in out
    assert "IQM" in out


@pytest.mark.slow
def test_a_shard_that_was_killed_goes_on(suite: Path, alone: dict[str, bytes], tmp_path: Path) -> None:
    command = shard_command(suite, tmp_path, "1/1")
    shard = Cli(*command)
    shard.wait_for("start")
    shard.process.kill()
    shard.end()
    assert shard.is_gone()
    assert run_here(*command)[0] == 1
    assert canonical(tmp_path) == alone
    left = {path.name for path in tmp_path.rglob(".*")}
    assert left == {".lock", ".manifest.lock", ".shard-1-of-1.lock"}, "nothing half written is left"


def test_a_shard_says_how_many_runs_are_left(suite: Path, tmp_path: Path) -> None:
    code, out, err = run_here(*shard_command(suite, tmp_path, "3/5"))
    assert (code, err) == (1, f"mrl-bench: 1 of 1 runs failed; their output is in {tmp_path / 'logs'}\n")
    assert "raises seed 0" in out
    assert "shard 3/5 has ended; 3 of 4 runs are not finished." in out
    code, out, _ = run_here(*shard_command(suite, tmp_path, "5/5"))
    assert code == 0
    assert "shard 5/5: 0 runs" in out


def test_a_shard_of_other_runs_is_refused(suite: Path, tmp_path: Path) -> None:
    run_here(*shard_command(suite, tmp_path, "5/5"))
    before = (tmp_path / "manifest.json").read_bytes()
    code, _, err = run_here(*shard_command(suite, tmp_path, "4/5"), "--seeds", 3)
    assert code == 2
    assert err.startswith(f"mrl-bench: {tmp_path} holds other runs than this shard plans")
    assert (tmp_path / "manifest.json").read_bytes() == before


def test_shards_share_a_folder_with_each_other_and_with_no_bench(tmp_path: Path) -> None:
    store, one, two = Store(tmp_path), Shard(1, 2), Shard(2, 2)
    with store.held(one), store.held(two):
        with pytest.raises(StoreError, match=r"shard 1/2 runs in"), store.held(one):
            pass
        with pytest.raises(StoreError, match="another bench runs in"), store.held():
            pass
    with store.held(), pytest.raises(StoreError, match="another bench runs in"), store.held(one):
        pass


@pytest.mark.parametrize("count", [1, 2, 4, 9])
def test_shards_are_disjoint_complete_and_balanced(runs: list[Run], count: int) -> None:
    seconds = dict(zip((run.label for run in runs), (90, 80, 30, 20), strict=True))
    parts = [Shard(number, count).part(runs, seconds) for number in range(1, count + 1)]
    assert sorted(run.label for part in parts for run in part) == sorted(seconds)
    work = [sum(seconds[run.label] for run in part) for part in parts]
    assert max(work) <= max(90, 220 / count + 30)
    equal = [Shard(number, count).part(runs, weigh(runs, {})) for number in range(1, count + 1)]
    assert equal == [runs[number::count] for number in range(count)]


@pytest.mark.parametrize("text", ["0/3", "4/3", "1", "1/", "/2", "1/0", "-1/2", "1/2/3", "a/b"])
def test_what_is_no_shard_is_refused(text: str) -> None:
    with pytest.raises(Exception, match="is not a part as 2/8"):
        parse_shard(text)
    assert parse_shard("2/8") == Shard(2, 8)


def test_a_shard_writes_no_references_and_makes_no_submission(suite: Path, tmp_path: Path) -> None:
    scenario = make_scenario(tmp_path, budget={"meta_train": 100, "blind": 100, "oracle": 100})
    parts = ("--seeds", 1, "--workers", 1, "--out", tmp_path / "runs", "--shard", "5/5")
    code, out, err = run_here("reference", scenario.path, *parts)
    assert (code, err) == (0, "")
    assert "shard 5/5 has ended; 4 of 5 runs are not finished" in out
    assert not (tmp_path / "references").exists()
    agent = ("toy_agents:Learner", "--suite", suite, "--seeds", 1, "--submissions", tmp_path / "submissions")
    code, out, err = run_here("score", *agent, "--out", tmp_path / "score", "--shard", "2/2")
    assert (code, err) == (0, "")
    assert "shard 2/2 has ended; 1 of 1 runs are not finished" in out
    assert not (tmp_path / "submissions").exists()


# -- the files that travel ------------------------------------------------------------------------------------------


def test_an_attempt_brings_back_the_files_of_its_own_run_and_no_others(
    runs: list[Run], alone: dict[str, bytes], tmp_path: Path
) -> None:
    store = Store(tmp_path / "run")
    attempt, other = (Attempt.of(run, "evaluate", 1.0, False) for run in runs[:2])
    assert Attempt.from_bytes(attempt.to_bytes()).to_bytes() == attempt.to_bytes()
    own = {name: data for name, data in alone.items() if attempt.train in name or attempt.key in name}
    scalars = f"tensorboard/{attempt.tensorboard}/events.1.host.train"
    foreign = [
        "manifest.json",
        f"results/{other.key}.json",
        f"results/{attempt.key}/../../manifest.json",
        f"tensorboard/{attempt.tensorboard}/../../../manifest.json",
        f"tensorboard/{other.tensorboard}/events.1.host.train",
        f"../results/{attempt.key}.json",
        f"/results/{attempt.key}.json",
    ]
    write_files(store, attempt, own | {scalars: b"s"} | dict.fromkeys(foreign, b"x"))
    there = {path.relative_to(store.folder).as_posix() for path in store.folder.rglob("*") if path.is_file()}
    assert there == {*own, scalars}
    assert read_files(store, attempt) == own | {scalars: b"s"}
    assert read_files(store, other) == {}
    write_files(store, attempt, own)
    assert read_files(store, attempt) == own, "scalars of an attempt that was interrupted are removed"


# -- Ray ----------------------------------------------------------------------------------------------------------


def test_without_ray_its_executor_is_a_missing_part(
    suite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    code, _, err = run_here("bench", "--suite", suite, "--out", tmp_path, "--executor", "ray")
    assert (code, err) == (3, "mrl-bench: --executor ray needs Ray: pip install 'mrl-bench[ray]'\n")


@pytest.fixture(scope="module")
def cluster() -> Iterator[RayCluster]:
    ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'mrl-bench[ray]'")
    yield RayCluster.connect(None, 1, "cpu")
    ray.shutdown()


def test_ray_makes_the_same_files_as_one_process(
    cluster: RayCluster, suite: Path, alone: dict[str, bytes], tmp_path: Path
) -> None:
    runs = [planned_run(suite, name) for name in ("learner", "raises")]
    files = execute(tmp_path, runs, 1, cluster)
    assert len(files) == 4 + 1
    assert all(alone[name] == data for name, data in files.items())
    logs = {Store(tmp_path).log_path(run.key("evaluate")).read_text() for run in runs}
    assert any(log.startswith("about to fail\nTraceback") for log in logs)


@pytest.mark.slow
@pytest.mark.usefixtures("no_figures")
def test_a_run_whose_ray_worker_is_killed_is_tried_again_and_a_killed_driver_leaves_nothing(
    suite: Path, alone: dict[str, bytes], tmp_path: Path
) -> None:
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'mrl-bench[ray]'")
    command = ("bench", "--suite", suite, "--out", tmp_path, "--executor", "ray", "--workers", 2)
    driver = Cli(*command)
    driver.wait_for("start")
    os.kill(wait_for_ray_worker(driver), signal.SIGKILL)
    code, out, err = driver.end()
    assert (code, err) == (1, f"mrl-bench: 1 of 4 runs failed; their output is in {tmp_path / 'logs'}\n"), out
    assert {name: data for name, data in canonical(tmp_path).items() if name != "scores.json"} == alone
    assert driver.is_gone()

    shutil.rmtree(tmp_path / "results")
    for end in (signal.SIGKILL, signal.SIGINT):
        driver = Cli(*command)
        driver.wait_for("start")
        wait_for_ray_worker(driver)
        os.kill(driver.process.pid, end)
        assert driver.end()[0] == {signal.SIGKILL: -9, signal.SIGINT: 130}[end]
        assert driver.is_gone(within=100), "Ray lives on without its driver"


def wait_for_ray_worker(driver: Cli) -> int:
    """The process of a Ray task, once there is one."""
    while True:
        for pid in driver.alive():
            with suppress(OSError):
                if Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"ray::execute_on_node"):
                    return pid
        assert driver.process.poll() is None
        time.sleep(0.05)

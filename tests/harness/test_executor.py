"""Benches in processes of their own: what is there stays, what breaks is counted, and the rest goes on."""

from __future__ import annotations

import json
import os
import random
import re
import resource
import shutil
import signal
import time
from pathlib import Path

import hostile_agents
import pytest
from bench_kit import Cli, canonical, make_scenario, make_suite, planned_run, toy, toy_run
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mrl_bench.cli.main import main
from mrl_bench.errors import MrlBenchError, UsageError
from mrl_bench.results import Evaluation
from mrl_bench.runs import executor as executor_module
from mrl_bench.runs import processes
from mrl_bench.runs.executor import Executor, NotFinished, check, forget_failed, plan_runs
from mrl_bench.runs.manifest import write_manifest
from mrl_bench.runs.run import Run, execute, failure
from mrl_bench.runs.store import Store
from mrl_bench.scenario.suite import AgentSpec, find_suite

AGENTS = {"learner": toy("Learner"), "noise": toy("GlobalNoise"), "raises": toy("Raises")}


class Record:
    """Records the progress that it receives."""

    def __init__(self) -> None:
        self.fresh: dict[str, bool] = {}
        self.starts: list[str] = []
        self.stages: set[str] = set()

    def started(self, run: Run) -> None:
        self.starts.append(run.agent.name)

    def advanced(self, run: Run, stage: str, done: int, total: int, mean_return: float | None = None) -> None:
        self.stages.add(stage)

    def finished(self, run: Run, evaluation: Evaluation, fresh: bool) -> None:
        self.fresh[run.agent.name] = fresh

    def unfinished(self, run: Run, reason: str) -> None:
        pass


def execute_runs(
    folder: Path, runs: list[Run], workers: int = 2, time_limit: float = 120
) -> list[Evaluation]:
    check(runs)
    results = Executor(Store(folder), Record(), workers, time_limit).run(runs)
    assert all(isinstance(result, Evaluation) for result in results), results
    return results  # type: ignore[return-value]


def bench(suite: Path, folder: Path) -> int:
    """The command, in this process; its exit code."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        return main(["bench", "--suite", str(suite), "--out", str(folder), "--workers", "2"])
    finally:
        signal.signal(signal.SIGTERM, before)


def stamps(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {name: ((folder / name).stat().st_mtime_ns, data) for name, data in canonical(folder).items()}


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_suite(tmp_path_factory.mktemp("suite"), AGENTS)


@pytest.fixture(scope="module")
def own_references(suite: Path, unbroken: tuple[Path, int, str, str], tmp_path_factory) -> tuple[Path, Path]:
    """The same suite where no references ship, and the folder of its bench, in which only the oracle is left to do."""
    root = tmp_path_factory.mktemp("own_references")
    alone, folder = make_suite(root, AGENTS, references=False), root / "run"
    shutil.copytree(unbroken[0], folder)
    loaded = find_suite(alone)
    runs = plan_runs(loaded, "cpu")
    assert [run.agent.name for run in runs] == ["random", "blind", "oracle", *AGENTS]
    write_manifest(Store(folder), loaded, runs)
    for run in runs[:2]:
        execute(run, Store(folder), lambda *_: None)
    return alone, folder


@pytest.fixture(scope="module")
def unbroken(suite: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int, str, str]:
    """A bench that nothing disturbed: its folder, exit code, output and errors."""
    folder = tmp_path_factory.mktemp("unbroken") / "run"
    return folder, *Cli("bench", "--suite", suite, "--out", folder, "--workers", "2").end()


# -- a bench and what it leaves ----------------------------------------------------------------------------------


def test_a_bench_with_a_failed_run_scores_it_as_random_says_so_and_ends_with_1(
    unbroken: tuple[Path, int, str, str],
) -> None:
    folder, code, out, err = unbroken
    assert code == 1, err
    assert err == f"mrl-bench: 1 of 3 runs failed; their output is in {folder / 'logs'}\n"
    assert "raises seed 0 in" in out
    assert "FAILED: RuntimeError: no good at all" in out
    assert "raises: 1 seed failed; a failed seed scores no better than random" in out
    assert "\x1b" not in out
    (board,) = json.loads((folder / "scores.json").read_bytes())
    rows = {row["agent"]: row for row in board["splits"]["test"]["rows"]}
    assert rows["raises"]["failed_runs"] == 1
    assert [score["value"] for score in rows["raises"]["scores"]] == [0, 0, 0]
    assert [row["value"] for row in rows["raises"]["returns"]] == pytest.approx(
        [board["splits"]["test"]["random"]] * 3
    )


def test_the_log_of_a_failed_run_holds_what_it_printed_and_its_traceback(
    unbroken: tuple[Path, int, str, str], suite: Path
) -> None:
    log = Store(unbroken[0]).log_path(planned_run(suite, "raises").key("evaluate")).read_text()
    assert log.startswith("about to fail\nTraceback")
    assert log.endswith("RuntimeError: no good\nat all\n")


def test_the_plan_says_what_was_run_and_on_what(unbroken: tuple[Path, int, str, str]) -> None:
    plan = json.loads((unbroken[0] / "manifest.json").read_bytes())
    assert plan["suite"] == "tiny"
    assert plan["device"] == "cpu"
    assert {"python", "mrl-bench", "torch", "numpy", "simulators"} <= plan["versions"].keys()
    assert {"commit", "machine", "created"} <= plan.keys()
    runs = {run["agent"]["name"]: run for run in plan["runs"]}
    assert runs.keys() == {"learner", "noise", "raises"}
    assert runs["learner"]["config"] == {"file": "", "pause": 0.0, "gain": 1.0}  # defaults too
    assert all({"budget", "protocol", "digest", "seed"} <= run.keys() for run in runs.values())


def test_scalars_have_the_usual_tags(own_references: tuple[Path, Path]) -> None:
    suite, folder = own_references
    for agent, own in (("learner", "losses/push"), ("blind", "losses/value_loss")):
        name = planned_run(suite, agent).tensorboard_name
        events = EventAccumulator(str(folder / "tensorboard" / name)).Reload()
        tags = {
            "charts/episodic_return_0",
            "charts/episodic_length_0",
            "charts/SPS",
            own,
            "adaptation/return_ood",
        }
        assert tags <= set(events.Tags()["scalars"])


def test_what_is_there_is_not_run_again(unbroken: tuple[Path, int, str, str], suite: Path) -> None:
    folder, display = unbroken[0], Record()
    before = stamps(folder)
    Executor(Store(folder), display, 2, 120).run(plan_runs(find_suite(suite), "cpu"))
    assert stamps(folder) == before
    assert not display.starts
    assert len(display.fresh) == 3
    assert not any(display.fresh.values())


@pytest.mark.usefixtures("no_figures")
def test_a_bench_without_failures_ends_with_0(
    unbroken: tuple[Path, int, str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fewer = make_suite(tmp_path, {"learner": AGENTS["learner"]})
    folder = tmp_path / "run"
    shutil.copytree(unbroken[0], folder)
    assert bench(fewer, folder) == 0
    out, err = capsys.readouterr()
    assert out.count("(finished before)") == 1
    assert not err


def test_a_bench_whose_oracle_failed_ends_with_1_and_says_why_there_is_no_table(
    own_references: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    suite, done = own_references
    folder, oracle = tmp_path / "run", planned_run(suite, "oracle")
    shutil.copytree(done, folder)
    Store(folder).put_evaluation(oracle.key("evaluate"), failure(oracle, "it broke"))
    assert bench(suite, folder) == 1
    why, count = capsys.readouterr().err.splitlines()
    assert why == "mrl-bench: tiny-v1: no scores without the reference agent 'oracle' (every seed failed)"
    assert count.startswith("mrl-bench: 2 of 6 runs failed")


@pytest.mark.usefixtures("no_figures")
def test_a_report_of_an_unfinished_run_says_so(
    unbroken: tuple[Path, int, str, str],
    own_references: tuple[Path, Path],
    suite: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(unbroken[0], folder)
    Store(folder).forget(planned_run(suite, "noise").key("evaluate"))
    assert main(["report", str(folder), "--split", "test", "--split", "ood"]) == 0
    out, err = capsys.readouterr()
    assert "learner" in out
    assert err == "mrl-bench: 1 of 3 runs are not finished: run the same command again to resume\n"
    folder = tmp_path / "without oracle"
    shutil.copytree(own_references[1], folder)
    assert main(["report", str(folder)]) == 0
    out, err = capsys.readouterr()
    assert "tiny-v1 learner seed 0: return " in out  # there are no scores, but there are returns
    assert err.startswith("mrl-bench: tiny-v1: no scores without the reference agent 'oracle' (missing)")
    shutil.rmtree(folder / "results")
    assert main(["report", str(folder)]) == 1
    assert (
        capsys.readouterr().err
        == "mrl-bench: 6 of 6 runs are not finished: run the same command again to resume\n"
    )


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"runs": 3}'])
def test_a_damaged_plan_is_one_line(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "manifest.json").write_text(text)
    assert main(["report", str(tmp_path)]) == 1
    assert (
        capsys.readouterr().err
        == f"mrl-bench: {tmp_path / 'manifest.json'} is damaged: run the bench again to rewrite it, or remove it\n"
    )


def test_retry_failed_runs_the_failed_runs_and_no_others(
    unbroken: tuple[Path, int, str, str], suite: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(unbroken[0], folder)
    runs = plan_runs(find_suite(suite), "cpu")
    forget_failed(Store(folder), runs)
    display = Record()
    Executor(Store(folder), display, 2, 120).run(runs)
    assert display.starts == ["raises"]
    assert display.fresh == {run.agent.name: run.agent.name == "raises" for run in runs}
    assert canonical(folder) == canonical(unbroken[0])


def test_one_worker_two_workers_and_no_worker_give_the_same_bytes(
    unbroken: tuple[Path, int, str, str], suite: Path, tmp_path: Path
) -> None:
    runs = [planned_run(suite, name) for name in ("learner", "noise")]
    execute_runs(tmp_path / "one", runs, workers=1)
    for run in runs:
        execute(run, Store(tmp_path / "none"), lambda *_: None)
    two = canonical(unbroken[0])
    for folder in (tmp_path / "one", tmp_path / "none"):
        files = canonical(folder)
        assert len(files) == 8
        assert all(two[name] == data for name, data in files.items())


def test_an_evaluation_that_goes_on_from_a_training_gives_the_same_bytes(
    unbroken: tuple[Path, int, str, str], suite: Path, tmp_path: Path
) -> None:
    shutil.copytree(unbroken[0], tmp_path / "run")
    for name in ("learner", "noise"):
        run = planned_run(suite, name)
        Store(tmp_path / "run").forget(run.key("evaluate"))
        execute(run, Store(tmp_path / "run"), lambda *_: None)
    assert canonical(tmp_path / "run") == canonical(unbroken[0])


# -- runs that misbehave ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def mayhem(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Evaluation], dict[str, Run]]:
    """A bench of agents that do what they should not."""
    folder = tmp_path_factory.mktemp("mayhem")
    scenario = make_scenario(folder)
    runs = {
        name: toy_run(scenario, name, file=str(folder / name)) for name in ("Exits", "Noisy", "KilledOnce")
    }
    results = execute_runs(folder / "run", list(runs.values()))
    return folder, dict(zip(runs, results, strict=True)), runs


@pytest.fixture(scope="module")
def sane(tmp_path_factory: pytest.TempPathFactory) -> Evaluation:
    """What the learner scores that most of the others are underneath."""
    folder = tmp_path_factory.mktemp("sane")
    return execute(toy_run(make_scenario(folder), "Learner"), Store(folder), lambda *_: None)


def curves(evaluation: Evaluation) -> dict[str, object]:
    return {split: curve.to_json() for split, curve in evaluation.curves.items()}


def test_a_run_whose_worker_exits_twice_is_failed_and_the_rest_goes_on(mayhem) -> None:
    folder, results, _ = mayhem
    assert results["Exits"].error == "the worker ended with code 7"
    assert not results["Exits"].curves
    assert len((folder / "Exits").read_text().split()) == 2, "attempts"
    assert results["Noisy"].error is None


def test_a_run_whose_worker_dies_once_is_none_the_worse_for_it(mayhem, sane: Evaluation) -> None:
    folder, results, _ = mayhem
    assert results["KilledOnce"].error is None
    assert curves(results["KilledOnce"]) == curves(sane)
    assert len(set((folder / "KilledOnce").read_text().split())) == 2, "attempts"


def test_what_a_run_prints_and_leaves_running_changes_no_score(mayhem, sane: Evaluation) -> None:
    _, results, _ = mayhem
    assert results["Noisy"].error is None
    assert curves(results["Noisy"]) == curves(sane)


def test_an_agent_that_writes_into_what_it_sees_changes_no_score(tmp_path: Path, sane: Evaluation) -> None:
    result = execute(toy_run(make_scenario(tmp_path), "Writes"), Store(tmp_path), lambda *_: None)
    assert curves(result) == curves(sane)


def test_an_agent_that_gives_a_wrong_shape_is_a_failed_run(tmp_path: Path, capsys) -> None:
    result = execute(toy_run(make_scenario(tmp_path), "WrongShape"), Store(tmp_path), lambda *_: None)
    shapes = "act returned actions of shape (2, 2, 2), not (B, E, A) = (2, 2, 1)"
    assert result.error == f"ContractError: {shapes}"
    assert "Traceback" in capsys.readouterr().err


def test_an_agent_finds_nothing_that_it_could_set_or_use_to_see_the_task(
    tmp_path: Path, sane: Evaluation
) -> None:
    run = toy_run(make_scenario(tmp_path), "Greedy", file=str(tmp_path / "came"))
    result = execute(run, Store(tmp_path), lambda *_: None)
    assert (tmp_path / "came").read_text() == ""
    assert result.error is None
    assert (
        abs(result.training.env_steps - sane.training.env_steps) < 50
    )  # it spent no more than its budget either


def test_what_a_run_started_ends_with_it(mayhem) -> None:
    folder, _, _ = mayhem
    child = int((folder / "Noisy").read_text())
    status = Path(f"/proc/{child}/status")
    assert not status.exists() or "Z (zombie)" in status.read_text()


def test_a_log_keeps_the_beginning_and_the_end_of_what_was_printed(mayhem) -> None:
    folder, _, runs = mayhem
    log = Store(folder / "run").log_path(runs["Noisy"].key("evaluate")).read_bytes()
    assert log.startswith(b"x" * 2**20)
    assert b" bytes left out]\n" in log
    assert b"the last words\n" in log[-1000:]
    assert len(log) < processes.LOG_HEAD + processes.LOG_TAIL + 100


def test_a_hanging_run_is_ended_by_the_time_limit_with_what_it_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(executor_module, "ATTEMPTS", 1)
    begun = time.monotonic()
    (result,) = execute_runs(tmp_path, [toy_run(make_scenario(tmp_path), "Hangs")], time_limit=1)
    assert result.error == "not finished within 1 s"
    assert time.monotonic() - begun < 60


# -- an agent can fail its own run only ---------------------------------------------------------------------------

OWN_FAULT = {
    "RaisesStoreError": "No space left on device",
    "RaisesUsageError": "UsageError: wrong .* usage",
    "RaisesMissingPart": "MissingPart: pip install something",
    "LimitsFiles": "File too large: .*",
    "ReportsAndExits": "\N{REPLACEMENT CHARACTER}{2}\\[2J it is over",
    "Segfaults": "the worker was killed by signal 11",
}
NO_FAULT = {
    "RaisesCodeChanged": "all of it",
    "Terminated": "the worker was killed by signal 15",
    "Killed": "the worker was killed by signal 9",
    "CopyKilled": "the worker was killed by signal 9",
}


@pytest.fixture(scope="module")
def hostile(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Path, dict[str, Evaluation | NotFinished], list[Run]]:
    folder = tmp_path_factory.mktemp("hostile")
    scenario = make_scenario(folder)
    names = [*OWN_FAULT, *NO_FAULT, "Reports", "Learner"]
    runs = []
    for name in names:
        module = "hostile_agents" if hasattr(hostile_agents, name) else "toy_agents"
        agent = AgentSpec(name.lower(), f"{module}:{name}", {"file": str(folder / name)})
        runs.append(Run(scenario, agent, 0, "cpu"))
    check(runs)
    results = Executor(Store(folder / "run"), Record(), 2, 120).run(runs)
    return folder, dict(zip(names, results, strict=True)), runs


@pytest.mark.parametrize("name", OWN_FAULT)
def test_what_an_agent_does_is_its_own_failure(hostile, name: str) -> None:
    result = hostile[1][name]
    assert isinstance(result, Evaluation)
    assert re.fullmatch(OWN_FAULT[name], str(result.error)), result.error


@pytest.mark.parametrize("name", NO_FAULT)
def test_a_run_that_is_not_to_blame_has_no_result_and_says_why(hostile, name: str) -> None:
    folder, results, runs = hostile
    assert isinstance(results[name], NotFinished)
    assert str(results[name]) == f"tiny-v1 {name.lower()} seed 0 is not finished: {NO_FAULT[name]}"
    (run,) = (run for run in runs if run.agent.name == name.lower())
    assert not Store(folder / "run").evaluation_path(run.key("evaluate")).exists()


def test_reports_that_the_run_writes_itself_change_nothing(hostile, sane: Evaluation) -> None:
    for name in ("Reports", "Learner"):
        assert hostile[1][name].error is None
        assert curves(hostile[1][name]) == curves(sane)


def test_the_next_bench_tries_a_killed_run_again_and_no_failed_one(hostile) -> None:
    folder, _, runs = hostile
    display = Record()
    some = [run for run in runs if run.agent.name in ("killed", "segfaults")]
    _, killed = sorted(Executor(Store(folder / "run"), display, 2, 120).run(some), key=str)
    assert isinstance(killed, NotFinished)
    assert display.starts == ["killed"]
    assert len((folder / "Killed").read_text().split()) == 4, "attempts"


@pytest.mark.usefixtures("no_figures")
def test_a_bench_with_a_killed_run_reports_the_rest_and_ends_with_1(
    unbroken: tuple[Path, int, str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    agents = {"learner": AGENTS["learner"], "killed": toy("Killed", file=str(tmp_path / "note"))}
    folder = tmp_path / "run"
    shutil.copytree(unbroken[0], folder)
    assert bench(make_suite(tmp_path, agents), folder) == 1
    out, err = capsys.readouterr()
    assert "tiny-v1 killed seed 0 is not finished: the worker was killed by signal 9" in out
    assert err.splitlines() == [
        "mrl-bench: 1 of 2 runs are not finished: run the same command again to resume",
        "mrl-bench: tiny-v1 killed seed 0 is not finished: the worker was killed by signal 9; the same command runs it",
    ]


# -- when the bench itself cannot go on ---------------------------------------------------------------------------


def test_a_result_that_cannot_be_written_stops_the_bench_and_marks_no_run_as_failed(tmp_path: Path) -> None:
    scenario = make_scenario(tmp_path)
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "weights").write_text("a file where a folder should be")
    slow = toy_run(scenario, "Learner", seed=1, pause=100.0)
    begun = time.monotonic()
    with pytest.raises(MrlBenchError, match=r"^File exists: .*weights"):
        execute_runs(folder, [slow, toy_run(scenario, "Learner")])
    assert time.monotonic() - begun < 100, "the other run was waited for"
    assert not list(folder.glob("results/*"))


def test_a_full_disk_stops_the_bench_with_one_line(tmp_path: Path) -> None:
    """No file of the bench or of its workers may become as large as the weights."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))

    suite, folder = make_suite(tmp_path, {"large": toy("Large")}), tmp_path / "run"
    code, _, err = Cli("bench", "--suite", suite, "--out", folder, preexec_fn=limit).end()
    assert code == 1
    assert re.fullmatch(rf"mrl-bench: File too large: {folder}/\w+\n", err), err
    assert not [path for path in folder.glob("results/*") if b"too large" in path.read_bytes()]


def test_a_scenario_that_was_changed_meanwhile_is_refused(tmp_path: Path) -> None:
    data = toy_run(make_scenario(tmp_path), "Learner").to_json()
    make_scenario(tmp_path, horizon=13)
    with pytest.raises(UsageError, match=r"tiny-v1\.yaml has changed since"):
        Run.from_json(data)


def test_agents_that_cannot_be_used_are_refused_before_anything_runs(tmp_path: Path, monkeypatch) -> None:
    scenario = make_scenario(tmp_path)
    (tmp_path / "broken_agent.py").write_text("raise RuntimeError('not\\ntoday')\n")
    monkeypatch.syspath_prepend(tmp_path)
    for agent, message in (
        ("broken_agent:Agent", "agent 'broken_agent:Agent' cannot be imported: RuntimeError: not today"),
        ("toy_agents:NoConfig", "NoConfig is no agent: it has no dataclass 'Config'"),
        ("toy_agents:Lerner", "did you mean 'Learner'"),
        ("toy_agent:Learner", "no module 'toy_agent' can be imported"),
    ):
        run = toy_run(scenario, "Learner")
        run = Run(scenario, type(run.agent)("x", agent, {}), 0, "cpu")
        with pytest.raises(UsageError) as caught:
            check([run])
        assert message in str(caught.value)
        assert "\n" not in str(caught.value)


def test_progress_is_shown_against_what_an_agent_means_to_use(tmp_path: Path) -> None:
    scenario = make_scenario(tmp_path)  # with a budget of 300
    for agent, settings, goal in (("maml", {}, 300), ("mbml", {}, 300), ("mbml", {"env_steps": 200}, 200)):
        assert Run(scenario, AgentSpec(agent, agent, settings), 0, "cpu").planned_env_steps == goal


def test_two_benches_do_not_share_a_folder(suite: Path, tmp_path: Path, capsys) -> None:
    with Store(tmp_path).held():
        assert bench(suite, tmp_path) == 1
    assert capsys.readouterr().err == f"mrl-bench: another bench runs in {tmp_path}\n"


# -- kill -9, at any moment ---------------------------------------------------------------------------------------


def end_and_restart(suite: Path, folder: Path, signals: list[int], moments: list[float]) -> None:
    """Ends a bench by a signal, again and again, each time with a look at what is left; then lets one finish."""
    for number, moment in zip(signals, moments, strict=True):
        cli = Cli("bench", "--suite", suite, "--out", folder, "--workers", "2")
        cli.wait_for("start")
        time.sleep(moment)
        os.kill(cli.process.pid, number)
        code, out, err = cli.end(timeout=60)
        if number == signal.SIGKILL:
            assert code == -number
        else:
            assert (code, err) == (130, "mrl-bench: stopped; the same command continues from here\n")
        assert "Traceback" not in out + err
        assert cli.is_gone(), "workers live on without their bench"
        for path in folder.glob("results/*.json"):
            assert json.loads(path.read_bytes()), "half a file"
    assert bench(suite, folder) == 1


def check_restarted(folder: Path, unbroken: Path) -> None:
    assert canonical(folder) == canonical(unbroken)
    left = [path.name for path in folder.rglob(".*") if path.name != ".lock"]
    assert not left, "nothing half written is left"
    for run_folder in folder.glob("tensorboard/*/*/*"):
        stages = [path.suffix for path in run_folder.iterdir()]
        assert len(stages) == len(set(stages)), "scalars of one attempt only"


@pytest.mark.usefixtures("no_figures")
def test_a_bench_that_was_interrupted_or_killed_ends_with_the_bytes_of_an_unbroken_one(
    unbroken: tuple[Path, int, str, str], suite: Path, tmp_path: Path
) -> None:
    end_and_restart(suite, tmp_path, [signal.SIGINT, signal.SIGKILL, signal.SIGTERM], [0.3, 3.0, 1.5])
    check_restarted(tmp_path, unbroken[0])


@pytest.mark.slow
@pytest.mark.usefixtures("no_figures")
def test_a_bench_that_is_killed_at_fifty_moments_ends_with_the_bytes_of_an_unbroken_one(
    tmp_path: Path,
) -> None:
    """Each time one kill at a random moment of an unbroken bench's time, then the same command again."""
    suite = make_suite(tmp_path, {name: AGENTS[name] for name in ("learner", "noise")})
    begun = time.monotonic()
    code, _, err = Cli("bench", "--suite", suite, "--out", tmp_path / "unbroken", "--workers", "2").end()
    assert code == 0, err
    took, rng = time.monotonic() - begun, random.Random(2)
    for number in range(50):
        folder = tmp_path / str(number)
        cli = Cli("bench", "--suite", suite, "--out", folder, "--workers", "2")
        time.sleep(rng.uniform(0, took))
        cli.process.kill()
        cli.end()
        assert cli.is_gone(), "workers live on without their bench"
        assert bench(suite, folder) == 0
        check_restarted(folder, tmp_path / "unbroken")


def test_no_worker_outlives_its_bench_even_if_its_interpreter_is_held(tmp_path: Path) -> None:
    note = tmp_path / "note"
    suite = make_suite(
        tmp_path,
        {"hangs": toy("Hangs", file=str(note))},
        budget={"meta_train": 3000},
    )
    cli = Cli("bench", "--suite", suite, "--out", tmp_path / "run", "--workers", "1")
    while not note.exists():
        assert cli.process.poll() is None
        time.sleep(0.05)
    # The bench, what forks workers, the worker, what waits for it, what keeps an eye on both, and what measures the
    # learning curve.
    assert len(cli.alive()) == 6
    cli.process.kill()
    cli.end()
    assert cli.is_gone()

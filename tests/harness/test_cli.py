"""The command line: quick where it must be, one line where something is wrong, and the documented exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from io import StringIO
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
import torch
from bench_kit import SCENARIO, make_scenario, make_suite, run_cli, toy_run
from rich.console import Console

from mrl_bench.cli import main as cli
from mrl_bench.cli.main import main
from mrl_bench.results import Curve, Evaluation, TrainingResult
from mrl_bench.runs.progress import BarProgress, PlainProgress, make_progress, summary
from mrl_bench.runs.run import failure

HEAVY = {"torch", "mujoco", "carla", "gymnasium", "matplotlib", "tensorboard"}


def python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )


def imported_by(*arguments: str) -> set[str]:
    """Top-level modules that a command has imported when it ends."""
    ran = python(
        "import sys\n"
        "from mrl_bench.cli.main import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print('\\n', *{name.partition('.')[0] for name in sys.modules})",
        *arguments,
    )
    assert ran.returncode == 0, ran.stderr
    return set(ran.stdout.splitlines()[-1].split())


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    """The error, which is one line that says who speaks."""
    err = capsys.readouterr().err
    assert err.startswith("mrl-bench: ")
    assert err.count("\n") == 1, err
    return err


# -- quick -------------------------------------------------------------------------------------------------------


def test_help_is_quick() -> None:
    def seconds() -> float:
        begun = time.perf_counter()
        assert python("from mrl_bench.cli.main import main; main()", "--help").returncode == 0
        return time.perf_counter() - begun

    assert min(seconds() for _ in range(5)) < 0.4  # the best, because the others share the machine


def test_help_imports_next_to_nothing() -> None:
    for arguments in (["--help"], ["bench", "--help"], ["--version"]):
        assert not imported_by(*arguments) & {*HEAVY, "pydantic", "numpy", "rich", "yaml", "scipy"}


def test_commands_that_only_read_import_neither_torch_nor_a_simulator(tmp_path: Path) -> None:
    suite = make_suite(tmp_path, {"maml": {}})
    for arguments in (["list"], ["check", str(suite), str(tmp_path / "tiny-v1.yaml")], ["schema", "suite"]):
        assert not imported_by(*arguments) & HEAVY


def test_as_a_module_it_is_the_same_program() -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "mrl_bench", "--version"], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0
    assert ran.stdout.startswith("mrl-bench 0.")


# -- what there is -----------------------------------------------------------------------------------------------


def test_list_names_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    out = capsys.readouterr().out.split()
    assert {"cartpole-wiring-v1", "quick", "standard", "cartpole", "maml", "random", "oracle"} <= set(out)


def test_check_says_what_a_file_is_and_goes_on_after_a_wrong_one(tmp_path: Path, capsys) -> None:
    suite = make_suite(tmp_path, {"maml": {}})
    (tmp_path / "bad-v1.yaml").write_text("id: bad-v1\nfamly: cartpole\n")
    files = [tmp_path / "bad-v1.yaml", tmp_path, tmp_path / "none.yaml", tmp_path / "tiny-v1.yaml", suite]
    assert main(["check", *map(str, files)]) == 2
    out, err = capsys.readouterr()
    assert "scenario tiny-v1, digest " in out
    assert "suite tiny, 1 scenarios, 1 seeds" in out
    wrong, folder, missing = err.splitlines()
    assert "bad-v1.yaml:2:1: unknown key 'famly': did you mean 'family'?" in wrong
    assert str(tmp_path) in folder
    assert "none.yaml" in missing


@pytest.mark.parametrize("kind", ["scenario", "suite"])
def test_schema_is_json(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema", kind]) == 0
    assert "properties" in json.loads(capsys.readouterr().out)


def test_doctor_says_what_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    for word in ("machine", "commit", "python", f"torch        {torch.__version__}", "GPU"):
        assert word in out


# -- what is wrong -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["bench", "--suite", "quik"], "no suite 'quik': did you mean 'quick'?"),
        (["evaluate", "cartpole-wirng-v1", "maml"], "did you mean 'cartpole-wiring-v1'?"),
        (["evaluate", "cartpole-wiring-v1", "mamal"], "no agent 'mamal': did you mean 'maml'?"),
        (["evaluate", "cartpole-wiring-v1", "toy_agents:Lerner"], "did you mean 'Learner'?"),
        (["evaluate", "cartpole-wiring-v1", "no_module:Learner"], "no module 'no_module'"),
        (["evaluate", "cartpole-wiring-v1", "os:path"], "is no agent: it has no dataclass 'Config'"),
        (["train", "no/such.yaml", "maml"], "no/such.yaml"),
        (["report", "no/such/run"], "no/such/run holds no bench: there is no manifest.json in it"),
    ],
)
def test_wrong_names_are_one_line_with_the_nearest(arguments: list[str], hint: str, capsys) -> None:
    assert main(arguments) == 2
    assert hint in one_line(capsys)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("meta_batch_sise=3", "Maml has no setting 'meta_batch_sise': did you mean 'meta_batch_size'?"),
        ("meta_batch_size", "--set takes name=value, not 'meta_batch_size'"),
        ("meta_batch_size=", "--set takes name=value, not 'meta_batch_size='"),
        ("=3", "--set takes name=value, not '=3'"),
        ("a b=3", "--set takes name=value, not 'a b=3'"),
        ("meta_batch_size=3.5", "Maml, setting 'meta_batch_size': input should be a valid integer, not 3.5"),
        (
            "meta_batch_size=three",
            "Maml, setting 'meta_batch_size': input should be a valid integer, not the text 'three'",
        ),
        ("meta_batch_size=", "--set takes name=value"),
        ("hidden_sizes=5", "Maml, setting 'hidden_sizes': input should be a valid array, not 5"),
        (
            "hidden_sizes=[5, x]",
            "Maml, setting 'hidden_sizes.1': input should be a valid integer, not the text 'x'",
        ),
        (
            "outer_update=sgd",
            "Maml, setting 'outer_update': input should be 'ppo' or 'trpo', not the text 'sgd'",
        ),
        (
            "first_order=yes",
            "Maml, setting 'first_order': input should be a valid boolean, not the text 'yes'",
        ),
        ("inner_lr=.nan", "--set inner_lr:1:1: a number must be finite"),
        ("inner_lr=[1", "--set inner_lr:1:"),
        ("inner_lr=!!python/object:os.system 1", "--set inner_lr:1:1: tags are not allowed"),
        ("meta_batch_size=" + "9" * 5000, "a whole number has at most 18 digits"),
    ],
)
def test_wrong_settings_are_one_line(setting: str, message: str, capsys) -> None:
    assert main(["train", "cartpole-wiring-v1", "maml", "--set", setting]) == 2
    assert message in one_line(capsys)


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["bnech"],
        ["bench", "--workers", "0"],
        ["bench", "--seeds", "1.5"],
        ["bench", "--time-limit", "9" * 400],
        ["bench", "--device", "tpu"],
        ["train", "cartpole-wiring-v1", "maml", "--seed", "-1"],
        ["train", "cartpole-wiring-v1"],
        ["schema", "agent"],
        ["report", "runs", "--split", "tset"],
    ],
)
def test_wrong_usage_ends_with_2(arguments: list[str], capsys) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_missing_part_ends_with_3(tmp_path: Path, capsys) -> None:
    scenario = make_scenario(tmp_path)
    assert main(["train", str(scenario.path), "maml", "--device", "cuda"]) == 3
    assert "no CUDA device" in one_line(capsys)


@pytest.mark.parametrize("command", ["train", "evaluate", "bench"])
def test_a_folder_that_cannot_be_written_is_one_line(command: str, tmp_path: Path, capsys) -> None:
    suite = make_suite(tmp_path, {})
    (tmp_path / "file").write_text("")
    what = ["--suite", str(suite)] if command == "bench" else [str(tmp_path / "tiny-v1.yaml"), "random"]
    assert main([command, *what, "--out", str(tmp_path / "file" / "run")]) == 1
    assert "Not a directory: " in one_line(capsys)


def test_an_interruption_ends_with_130_and_a_hint(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    def interrupted(_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_list", interrupted)
    assert main(["list"]) == 130
    assert "the same command goes on from here" in one_line(capsys)


def test_a_reader_that_has_seen_enough_gets_no_traceback() -> None:
    for arguments in (["list"], ["schema", "scenario"], ["--help"]):
        read, write = os.pipe()
        os.close(read)  # as `head` does, only sooner
        ran = subprocess.run(
            [sys.executable, "-m", "mrl_bench", *arguments],
            env=os.environ | {"PYTHONUNBUFFERED": ""},
            stdout=write,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
        os.close(write)
        assert (ran.returncode, ran.stderr) == (1, "")


def test_output_that_cannot_be_encoded_is_no_error() -> None:
    ran = subprocess.run(
        [
            sys.executable,
            "-c",
            "from mrl_bench.cli import main as cli; cli._list = lambda _: print('±') or 0; cli.main(['list'])",
        ],
        env=os.environ | {"PYTHONIOENCODING": "ascii"},
        capture_output=True,
        check=False,
    )
    assert (ran.returncode, ran.stdout) == (0, b"?\n")


# -- one run at a time ------------------------------------------------------------------------------------------


@pytest.fixture
def single(tmp_path: Path):
    """Runs `train` or `evaluate` on the tiny scenario."""
    scenario = make_scenario(tmp_path)

    def run(command: str, agent: str, *options: str) -> int:
        return main([command, str(scenario.path), agent, "--out", str(tmp_path / "run"), *options])

    return run


def test_evaluate_goes_on_from_what_was_trained_and_from_what_was_evaluated(single, tmp_path, capsys) -> None:
    settings = ("--set", "gain=0.5", "--set", 'file="x"', "--seed", "2")
    assert single("train", "toy_agents:Learner", *settings) == 0
    trained = capsys.readouterr().out
    assert trained.startswith("tiny-v1 learner 2: ")
    (model,) = (tmp_path / "run" / "weights").iterdir()
    assert str(model) in trained
    before = model.stat().st_mtime_ns
    assert single("train", "toy_agents:Learner", *settings) == 0
    assert capsys.readouterr().out == trained
    assert single("evaluate", "toy_agents:Learner", *settings) == 0
    evaluated = capsys.readouterr().out
    assert evaluated.startswith("tiny-v1 learner 2: return ")
    assert evaluated.endswith(" at k = 0, 2, 6\n")
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*") if path.is_file()}
    assert single("evaluate", "toy_agents:Learner", *settings) == 0
    assert capsys.readouterr().out == evaluated
    assert {path: path.stat().st_mtime_ns for path in files} == files
    assert files[model] == before
    assert single("train", "toy_agents:Learner", "--set", "gain=0.6") == 0
    assert len(list((tmp_path / "run" / "weights").iterdir())) == 2


def test_an_evaluation_that_failed_ends_with_1_and_is_tried_again(single, capsys) -> None:
    for _ in range(2):
        assert single("evaluate", "toy_agents:Raises") == 1
        out, err = capsys.readouterr()
        assert "FAILED: RuntimeError: no good at all" in out
        assert "Traceback" in err  # its author wants to see it
        assert err.endswith("mrl-bench: tiny-v1 raises 0 failed\n")


def test_a_class_that_is_called_as_an_anchor_has_none_of_its_privileges(
    tmp_path, monkeypatch, capsys
) -> None:
    code = "from toy_agents import Learner, ToyConfig\nclass Oracle(Learner):\n    Config = ToyConfig\n"
    (tmp_path / "their_agent.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    scenario = make_scenario(tmp_path)
    options = cli._parser().parse_args(["train", str(scenario.path), "their_agent:Oracle"])
    run = cli._single(options)
    assert run.label == "tiny-v1 oracle-agent 0"
    assert not run.privileged
    assert not run.is_reference
    assert run.budget == SCENARIO["budget"]["meta_train"]
    assert cli._single(cli._parser().parse_args(["train", str(scenario.path), "oracle"])).privileged


def test_an_agent_is_found_in_the_present_folder(tmp_path: Path) -> None:
    (tmp_path / "their_agent.py").write_text("raise SystemError('found')\n")
    scenario = make_scenario(tmp_path)
    code, _, err = run_cli("train", scenario.path, "their_agent:Agent", cwd=tmp_path)
    assert (code, err) == (2, "mrl-bench: agent 'their_agent:Agent' cannot be used: SystemError: found\n")


# -- display -----------------------------------------------------------------------------------------------------


def evaluation() -> Evaluation:
    curve = Curve((0, 3), np.ones((2, 2, 4)), np.ones((2, 2)), np.zeros((2, 2), dtype=np.int64))
    return Evaluation("tiny-v1", "d" * 16, "learner", False, 0, TrainingResult(100), {"test": curve})


def test_a_summary_is_one_line(tmp_path: Path) -> None:
    assert summary(evaluation()) == "return 1.0 1.0 at k = 0, 3"
    run = toy_run(make_scenario(tmp_path), "Learner")
    assert summary(failure(run, "many\nlines\r\n" + "x" * 1000)) == "FAILED: many lines " + "x" * 289


def test_without_a_terminal_lines_are_whole_and_plain(tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # of no use to whoever reads a log
    scenario = make_scenario(tmp_path)
    runs = [toy_run(scenario, "Learner", seed=seed) for seed in range(20)]
    display = make_progress(20)
    assert isinstance(display, PlainProgress)

    def work(seed: int) -> None:
        display.started(runs[seed])
        display.advanced(runs[seed], "train", 5, 10)
        display.finished(runs[seed], evaluation(), fresh=seed % 2 == 0)

    with display:
        threads = [Thread(target=work, args=(seed,)) for seed in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    lines = capsys.readouterr().out.splitlines()
    assert sorted(line for line in lines if line.startswith("start")) == sorted(
        f"start  {run.label}" for run in runs
    )
    ends = [line for line in lines if line.startswith("[")]
    assert {line.partition("]")[0] for line in ends} == {f"[{count}/20" for count in range(1, 21)}
    assert sum("(was there)" in line for line in ends) == 10
    assert len(lines) == 40
    assert not any("\x1b" in line for line in lines)


def test_a_line_now_and_then_says_how_far_a_run_is(tmp_path: Path, capsys, monkeypatch) -> None:
    run, display = toy_run(make_scenario(tmp_path), "Learner"), PlainProgress(1)
    now = time.monotonic()
    display.started(run)
    for seconds in (1, 29, 31, 32, 62):
        monkeypatch.setattr(time, "monotonic", lambda seconds=seconds: now + seconds)
        display.advanced(run, "train", seconds * 100, 10_000)
    lines = capsys.readouterr().out.splitlines()
    assert lines[1:] == [
        "       tiny-v1 learner 0: train 31%, 100 steps/s, 69 s left",
        "       tiny-v1 learner 0: train 62%, 100 steps/s, 38 s left",
    ]


def test_bars_show_what_runs_and_lines_what_is_finished(tmp_path: Path) -> None:
    out = StringIO()
    run = toy_run(make_scenario(tmp_path), "Learner")
    with BarProgress(2, Console(file=out, force_terminal=True, width=120)) as display:
        display.started(run)
        display.advanced(run, "train", 150, 300)
        display.progress.refresh()
        display.finished(run, evaluation(), fresh=True)
        display.finished(toy_run(make_scenario(tmp_path), "Learner", seed=1), evaluation(), fresh=False)
    text = out.getvalue()
    assert "50 %" in text
    assert "steps/s" in text
    assert "tiny-v1 learner 0: return 1.0 1.0 at k = 0, 3" in text
    assert "tiny-v1 learner 1: return" in text
    assert text.rstrip("\n").endswith("\x1b[?25h"), "the cursor is back"

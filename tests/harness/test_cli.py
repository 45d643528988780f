"""The command line: quick where it must be, one line where something is wrong, and the documented exit codes."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from io import StringIO
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
import torch
from bench_kit import (
    SCENARIO,
    Cli,
    canonical,
    make_scenario,
    make_suite,
    online,
    planned_run,
    run_cli,
    toy,
    toy_run,
)
from rich.console import Console
from score_kit import references, score

from mrl_bench.cli import main as cli
from mrl_bench.cli.main import main
from mrl_bench.cli.single import single_run
from mrl_bench.report import BenchInfo
from mrl_bench.report.table import print_tables
from mrl_bench.results import Curve, Evaluation, TrainingResult
from mrl_bench.runs.cost import Cost, TimeLeft
from mrl_bench.runs.executor import Executor, check, plan_runs
from mrl_bench.runs.manifest import add_to_manifest, read_manifest, write_manifest
from mrl_bench.runs.progress import BarProgress, PlainProgress, make_progress, summary
from mrl_bench.runs.run import Run, failure
from mrl_bench.runs.store import Store
from mrl_bench.scenario import list_scenarios
from mrl_bench.scenario.suite import find_suite

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
    assert "suite tiny, 1 scenario, 1 seed\n" in out
    *wrong, folder, missing = err.splitlines()
    assert len(wrong) == 6  # 'famly', and five missing keys
    assert "bad-v1.yaml:2:1: unknown key 'famly': did you mean 'family'?" in wrong[-1]
    assert all("bad-v1.yaml:1:1: " in line and "is missing" in line for line in wrong[:-1])
    assert str(tmp_path) in folder
    assert "none.yaml" in missing


def test_check_takes_every_name_of_the_list(capsys) -> None:
    assert main(["check", "cartpole-wiring-v1", "quick", "random"]) == 0
    scenario, suite, agent = capsys.readouterr().out.splitlines()
    assert scenario.startswith("cartpole-wiring-v1: scenario cartpole-wiring-v1, digest ")
    assert suite.startswith("quick: suite quick, ")
    assert agent.startswith("random: an agent that keeps its contract (meta-trained for 0 env steps in ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["cartpol"], "'cartpol' is no file, scenario, suite, family or agent: did you mean 'cartpole'?"),
        (["toy_agents:Lerner"], "did you mean 'Learner'?"),
        (["toy_agents:StateOfMind"], "module toy_agents has no 'StateOfMind'"),
        (["toy_family:NOT_A_FAMILY"], "'toy_family:NOT_A_FAMILY' is no class, but of type int"),
        (["toy_agents:NoConfig"], "is neither an agent, with meta_train, initial_state, start_episode,"),
        (["quick", "--waive", "adapts=it does not learn"], "--waive is for agents and families"),
        (["random", "--waive", "adapts"], "give the name of a check and a reason, as NAME=REASON"),
        (["random", "--waive", "adapt=x"], "there is no check 'adapt' to waive: did you mean 'adapts'?"),
    ],
)
def test_check_refuses_other_names(arguments: list[str], message: str, capsys) -> None:
    assert main(["check", *arguments]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1


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
        (["evaluate", "cartpole-wiring-v1", "my_agent.Lean"], "did you mean 'my_agent:Lean'?"),
        (["evaluate", "cartpole-wiring-v1", "a/my_agent.py:Lean"], "did you mean 'a.my_agent:Lean'?"),
        (["evaluate", "cartpole-wiring-v1", "./my_agent.py:Lean"], "did you mean 'my_agent:Lean'?"),
        (["evaluate", "cartpole-wiring-v1", "my_agent.py"], "did you mean 'my_agent:Class'?"),
        (["play", "cartpole-wiring-v1", "--agent", "my.Lean", "--out", "x.gif"], "did you mean 'my:Lean'?"),
        (["evaluate", "maml", "ant-dir-v1"], "did you mean 'mrl-bench evaluate ant-dir-v1 maml'?"),
        (
            ["train", "toy_agents:Learner", "a.yaml"],
            "did you mean 'mrl-bench train a.yaml toy_agents:Learner'?",
        ),
        (["evaluate", "cartpole-wiring-v1", "os:path"], "is no agent: it has no dataclass 'Config'"),
        (["train", "no/such.yaml", "maml"], "no/such.yaml"),
        (["report", "no/such/run"], "no/such/run holds no bench: there is no such folder"),
    ],
)
def test_wrong_names_are_one_line_with_the_nearest(arguments: list[str], hint: str, capsys) -> None:
    assert main(arguments) == 2
    assert hint in one_line(capsys)


def test_a_name_like_no_other_is_answered_with_the_nearest_ones_alone(capsys) -> None:
    assert main(["evaluate", "pendulum", "maml"]) == 2
    hint = one_line(capsys).rpartition("'pendulum': ")[2]
    count, names = re.fullmatch(r"nearest of (\d+): (.*); 'mrl-bench list' shows all\n", hint).groups()
    known = list_scenarios()
    assert int(count) == len(known)
    assert set(names.split(", ")) < set(known)
    assert len(names.split(", ")) == 3


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("meta_batch_sise=3", "Maml: unknown setting 'meta_batch_sise': did you mean 'meta_batch_size'?"),
        ("meta_batch_size", "--set takes name=value, not 'meta_batch_size'"),
        ("meta_batch_size=", "--set takes name=value, not 'meta_batch_size='"),
        ("=3", "--set takes name=value, not '=3'"),
        ("a b=3", "--set takes name=value, not 'a b=3'"),
        ("meta_batch_size=3.5", "Maml: 'meta_batch_size' must be a whole number, not 3.5"),
        (
            "meta_batch_size=three",
            "Maml: 'meta_batch_size' must be a whole number, not the text 'three'",
        ),
        ("meta_batch_size=", "--set takes name=value"),
        ("hidden_sizes=5", "Maml: 'hidden_sizes' must be a list, as [a, b], not 5"),
        (
            "hidden_sizes=[5, x]",
            "Maml: an entry of 'hidden_sizes' must be a whole number, not the text 'x'",
        ),
        (
            "outer_update=sgd",
            "Maml: 'outer_update' must be 'ppo' or 'trpo', not the text 'sgd'",
        ),
        (
            "first_order=yes",
            "Maml: 'first_order' must be true or false, not the text 'yes': write true",
        ),
        ("meta_batch_size=0", "Maml: 'meta_batch_size' must be 1 or more, not 0"),
        ("inner_lr=-0.1", "Maml: 'inner_lr' must be more than 0, not -0.1"),
        ("meta_batch_size=1_000", "not the text '1_000': write 1000, without separators"),
        ("hidden_sizes=" + "[" * 9999, "--set hidden_sizes:1:22: nested more than 20 levels deep"),
        ("inner_lr=.nan", "--set inner_lr:1:1: a number must be finite"),
        ("inner_lr=[1", "--set inner_lr:1:"),
        ("inner_lr=!!python/object:os.system 1", "--set inner_lr:1:1: tags are not allowed"),
        ("meta_batch_size=" + "9" * 5000, "an integer has at most 18 digits"),
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
        ["train", "cartpole-wiring-v1", "maml", "--budget", "0"],
        ["train", "cartpole-wiring-v1", "maml", "--budget", "1.5"],
        ["train", "cartpole-wiring-v1", "maml", "--budget", "nan"],
        ["train", "cartpole-wiring-v1", "maml", "--budget", "1e99"],
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
    suite = make_suite(tmp_path, {"learner": toy("Learner")})
    (tmp_path / "file").write_text("")
    what = ["--suite", str(suite)] if command == "bench" else [str(tmp_path / "tiny-v1.yaml"), "random"]
    assert main([command, *what, "--out", str(tmp_path / "file" / "run")]) == 1
    assert "Not a directory: " in one_line(capsys)


def test_an_interruption_ends_with_130_and_a_hint(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    def interrupted(_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_list", interrupted)
    assert main(["list"]) == 130
    assert "the same command continues from here" in one_line(capsys)


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


@pytest.mark.parametrize("descriptor", [1, 2])
def test_a_closed_stream_is_no_error(descriptor: int) -> None:
    ran = subprocess.run(
        ["sh", "-c", f'exec "$0" -m mrl_bench list {descriptor}>&-', sys.executable],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ran.returncode, ran.stderr) == (0, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_output_that_cannot_be_written_is_one_line() -> None:
    with Path("/dev/full").open("w") as full:
        ran = subprocess.run(
            [sys.executable, "-m", "mrl_bench", "list"],
            env=os.environ | {"PYTHONUNBUFFERED": ""},
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert ran.returncode == 1
    assert ran.stderr == "mrl-bench: cannot write the output: [Errno 28] No space left on device\n"


@pytest.mark.parametrize(
    "name", ["x" * 5000, "x/" * 2500, "\x1b[31mred\x1b[0m", "two\nlines", "a\r\x07\u202eb"]
)
@pytest.mark.parametrize("what", ["scenario", "suite", "file", "folder", "out", "command"])
def test_odd_names_are_one_clean_short_line(name: str, what: str, tmp_path: Path, capsys) -> None:
    scenario = make_scenario(tmp_path)
    arguments = {
        "scenario": ["evaluate", name, "random"],
        "suite": ["bench", "--suite", name],
        "file": ["check", name],
        "folder": ["report", name],
        "out": ["train", str(scenario.path), "random", "--out", str(scenario.path / name)],
        "command": ["schema", name],
    }[what]
    try:
        code = main(arguments)
    except SystemExit as ended:  # argparse ends so, after two lines of usage at most
        code = int(str(ended.code))
    err = capsys.readouterr().err
    assert code in (1, 2)
    assert len(err) < 1300
    assert "mrl-bench" in err
    assert err.count("\n") <= (3 if what == "command" else 1)
    assert all(char.isprintable() or char == "\n" for char in err)


def test_help_documents_the_exit_codes_and_the_defaults(capsys) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    out = capsys.readouterr().out
    for code in ("0    success", "1    a run", "2    wrong usage", "3    an optional part", "130  stopped"):
        assert code in out
    with pytest.raises(SystemExit):
        main(["evaluate", "--help"])
    out = " ".join(capsys.readouterr().out.split())
    for default in ("seconds for one run (default: 7200)", "(default: runs/single)", "(default: 0)"):
        assert default in out


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
    assert trained.startswith("tiny-v1 learner seed 2: ")
    (model,) = (tmp_path / "run" / "weights").iterdir()
    assert str(model) in trained
    before = model.stat().st_mtime_ns
    assert single("train", "toy_agents:Learner", *settings) == 0
    assert capsys.readouterr().out == trained
    assert single("evaluate", "toy_agents:Learner", *settings) == 0
    evaluated = capsys.readouterr().out
    assert evaluated.startswith("tiny-v1 learner seed 2: return ")
    first, ood, _, adapting, failures, score, *files = evaluated.splitlines()
    assert first.endswith(" at k = 0, 2, 6")
    assert ood.startswith("  ood: return ")
    assert re.fullmatch(r"  while adapting: return \d+\.\d on average, \d+\.\d at worst", adapting)
    assert failures == "  failures: none"
    assert score.startswith("  score: none yet: first evaluate random, blind, oracle on this scenario")
    paths = dict(line.strip().split(": ") for line in files)
    assert paths.keys() == {"results", "weights", "log"}
    assert paths["weights"] == str(model)
    assert all(Path(path).is_file() for path in paths.values())
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*") if path.is_file()}
    assert single("evaluate", "toy_agents:Learner", *settings) == 0
    assert capsys.readouterr().out == evaluated
    assert {path: path.stat().st_mtime_ns for path in files} == files
    assert files[model] == before
    assert single("train", "toy_agents:Learner", "--set", "gain=0.6") == 0
    assert len(list((tmp_path / "run" / "weights").iterdir())) == 2
    capsys.readouterr()
    assert single("evaluate", "random") == 0
    out = capsys.readouterr().out
    assert "score" not in out
    assert "while adapting" not in out


def test_an_evaluation_that_failed_ends_with_1_and_is_tried_again(single, capsys) -> None:
    for _ in range(2):
        assert single("evaluate", "toy_agents:Raises") == 1
        out, err = capsys.readouterr()
        assert "FAILED: RuntimeError: no good at all" in out
        assert "Traceback" in err  # its author wants to see it
        assert "results: " in out
        assert "log: " in out
        assert err.endswith("mrl-bench: tiny-v1 raises seed 0 failed\n")


def test_a_single_run_gives_the_bytes_of_a_bench(single, tmp_path: Path) -> None:
    suite = make_suite(tmp_path, {"learner": toy("Learner")})
    run = planned_run(suite, "learner")
    check([run])
    Executor(Store(tmp_path / "bench"), PlainProgress(cost([run])), 1, 120).run([run])
    assert single("train", "toy_agents:Learner") == 0
    assert single("evaluate", "toy_agents:Learner") == 0
    assert canonical(tmp_path / "run") == canonical(tmp_path / "bench")


@pytest.mark.parametrize("command", ["train", "evaluate"])
def test_an_agent_that_exits_is_a_failure(command: str, single, tmp_path: Path, capsys) -> None:
    assert single(command, "toy_agents:Exits", "--set", f'file="{tmp_path / "note"}"') == 1
    out, err = capsys.readouterr()
    assert "the worker ended with code 7" in out + err
    assert err.splitlines()[-1].startswith("mrl-bench: tiny-v1 exits seed 0")


def test_a_training_that_fails_ends_with_1_and_shows_its_traceback(single, capsys) -> None:
    assert single("train", "toy_agents:Raises") == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "Traceback" in err
    assert err.endswith("mrl-bench: tiny-v1 raises seed 0: training failed: RuntimeError: no good at all\n")


@pytest.mark.parametrize("command", ["train", "evaluate"])
def test_the_time_limit_ends_a_single_run(command: str, single, monkeypatch, capsys) -> None:
    monkeypatch.setattr("mrl_bench.runs.executor.ATTEMPTS", 1)
    assert single(command, "toy_agents:Hangs", "--time-limit", "1") == 1
    out, err = capsys.readouterr()
    assert "not finished within 1 s" in out + err
    assert err.startswith(
        "start  tiny-v1 hangs seed 0\n"
    )  # progress without a terminal, apart from the result


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_run_says_which_weights_it_has_left(number: int, tmp_path: Path) -> None:
    scenario, note = make_scenario(tmp_path), tmp_path / "note"
    what = (scenario.path, "toy_agents:Hangs", "--set", f'file="{note}"', "--out", tmp_path / "run")
    cli = Cli("evaluate", *what)
    while not note.exists():
        assert cli.process.poll() is None
        time.sleep(0.05)
    cli.process.send_signal(number)
    code, out, err = cli.end()
    assert (code, out) == (130, "")
    assert err.endswith("mrl-bench: stopped; weights so far: none\n")
    assert "Traceback" not in err
    assert cli.is_gone()


def test_a_run_that_is_stopped_after_training_names_its_weights(
    single, tmp_path, monkeypatch, capsys
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    assert single("train", "toy_agents:Learner") == 0
    monkeypatch.setattr(Executor, "run", interrupted)
    assert single("evaluate", "toy_agents:Learner") == 130
    (model,) = (tmp_path / "run" / "weights").iterdir()
    stopped = f"stopped; weights so far: {model}; the same command continues from them\n"
    assert capsys.readouterr().err.endswith(stopped)


def test_single_runs_are_reported_with_returns_and_with_scores_once_there_are_references(
    single, tmp_path: Path, monkeypatch, capsys
) -> None:
    monkeypatch.setattr("mrl_bench.report.figures.write_figures", lambda *_: None)
    for gain in ("1.0", "0.5"):  # the second replaces the first: same agent, same seed
        assert single("evaluate", "toy_agents:Learner", "--set", f"gain={gain}") == 0
    capsys.readouterr()
    assert main(["report", str(tmp_path / "run")]) == 0
    out, err = capsys.readouterr()
    assert out.count("tiny-v1 learner seed 0: return ") == 1
    assert "no scores without" in err
    for agent in ("random", "blind", "oracle"):
        assert single("evaluate", agent) == 0
    assert single("evaluate", "toy_agents:Learner", "--set", "gain=0.5") == 0
    score = r"  score: (-?\d+\.\d\d ){3}\(0 = random, 1 = oracle, provisional\)\n"
    assert re.search(score, capsys.readouterr().out)
    moved = (tmp_path / "run").rename(tmp_path / "elsewhere")
    assert main(["report", str(moved)]) == 0
    out, err = capsys.readouterr()
    assert not err
    assert "learner" in out
    assert f"report: {moved / 'report.html'}" in out


def test_single_runs_that_start_at_the_same_time_all_join_the_manifest(tmp_path: Path) -> None:
    scenario, store = make_scenario(tmp_path), Store(tmp_path / "run")
    runs = [toy_run(scenario, "Learner", seed=seed) for seed in range(8)]
    check(runs)
    threads = [Thread(target=add_to_manifest, args=(store, run)) for run in runs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {entry["seed"] for entry in read_manifest(store.folder)["runs"]} == set(range(8))


def test_a_single_run_joins_the_manifest_of_a_bench(single, tmp_path: Path) -> None:
    suite = find_suite(make_suite(tmp_path, {"learner": toy("Learner")}))
    store, runs = Store(tmp_path / "run"), plan_runs(suite, "cpu")
    write_manifest(store, suite, runs)
    before = read_manifest(store.folder)
    assert single("train", "toy_agents:GlobalNoise") == 0
    after = read_manifest(store.folder)
    assert after["runs"][:-1] == before["runs"]
    assert after["runs"][-1]["agent"]["name"] == "globalnoise"
    assert after | {"runs": []} == before | {"runs": []}


def test_a_class_that_is_called_as_an_anchor_has_none_of_its_privileges(
    tmp_path, monkeypatch, capsys
) -> None:
    code = "from toy_agents import Learner, ToyConfig\nclass Oracle(Learner):\n    Config = ToyConfig\n"
    (tmp_path / "their_agent.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    scenario = make_scenario(tmp_path)
    options = cli._parser().parse_args(["train", str(scenario.path), "their_agent:Oracle"])
    run = single_run(options)
    assert run.label == "tiny-v1 oracle-agent seed 0"
    assert run.played is run.scenario
    assert not run.is_reference
    assert run.budget == SCENARIO["budget"]["meta_train"]
    oracle = single_run(cli._parser().parse_args(["train", str(scenario.path), "oracle"]))
    assert oracle.played.spec.obs_dim == scenario.spec.obs_dim + 2


def test_a_budget_is_that_of_the_agent_and_of_the_reference_agents(single, tmp_path: Path) -> None:
    scenario = make_scenario(tmp_path)
    options = [
        ["train", str(scenario.path), agent, "--budget", "2e2"] for agent in ("blind", "oracle", "maml")
    ]
    runs = [single_run(cli._parser().parse_args(option)) for option in options]
    assert [run.budget for run in runs] == [200] * 3
    (digest,) = {run.scenario.digest for run in runs}
    assert digest != scenario.digest
    assert single("train", "toy_agents:Learner", "--budget", "200") == 0
    (entry,) = read_manifest(tmp_path / "run")["runs"]
    assert (entry["digest"], set(entry["budget"].values())) == (digest, {200})


def test_an_agent_is_found_in_the_present_folder(tmp_path: Path) -> None:
    (tmp_path / "their_agent.py").write_text("raise SystemError('found')\n")
    scenario = make_scenario(tmp_path)
    code, _, err = run_cli("train", scenario.path, "their_agent:Agent", cwd=tmp_path)
    assert (code, err) == (2, "mrl-bench: agent 'their_agent:Agent' cannot be imported: SystemError: found\n")


# -- display -----------------------------------------------------------------------------------------------------


def cost(runs: list[Run]) -> Cost:
    """All runs cost the same."""
    return Cost(len(runs), 0, 300 * len(runs), {run.label: 1.0 for run in runs}, None)


def evaluation() -> Evaluation:
    return Evaluation(
        "tiny-v1", "d" * 16, "learner", False, 0, TrainingResult(100), {"test": flat_curve(1.0)}
    )


def flat_curve(value: float) -> Curve:
    returns, failed = np.full((2, 2, 4), value), np.zeros((2, 2), dtype=np.int64)
    return Curve((0, 3), returns, np.ones((2, 2)), failed, online(2, 3))


def test_a_summary_is_one_line(tmp_path: Path) -> None:
    assert summary(evaluation()) == "return 1.0 1.0 at k = 0, 3"
    run = toy_run(make_scenario(tmp_path), "Learner")
    assert summary(failure(run, "many\nlines\r\n" + "x" * 1000)) == "FAILED: many lines " + "x" * 289


def test_without_a_terminal_lines_are_whole_and_plain(tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # of no use to whoever reads a log
    scenario = make_scenario(tmp_path)
    runs = [toy_run(scenario, "Learner", seed=seed) for seed in range(20)]
    display = make_progress(cost(runs))
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
    assert sum("(finished before)" in line for line in ends) == 10
    assert len(lines) == 40
    assert not any("\x1b" in line for line in lines)


def test_a_line_now_and_then_says_how_far_a_unit_is(tmp_path: Path, capsys, monkeypatch) -> None:
    run = toy_run(make_scenario(tmp_path), "Learner")
    display = PlainProgress(cost([run]))
    now = time.monotonic()
    display.started(run)
    for seconds, mean_return in ((1, None), (29, None), (31, None), (32, None), (62, 7.25)):
        monkeypatch.setattr(time, "monotonic", lambda seconds=seconds: now + seconds)
        display.advanced(run, "train", seconds * 100, 10_000, mean_return)
    lines = capsys.readouterr().out.splitlines()
    assert lines[1:] == [
        "       tiny-v1 learner seed 0: train 31%, 1 min 09 s left, 100 steps/s",
        "       tiny-v1 learner seed 0: train 62%, return 7.2, 38 s left, 100 steps/s",
    ]


def test_bars_show_what_runs_and_lines_what_is_finished(tmp_path: Path) -> None:
    out = StringIO()
    run = toy_run(make_scenario(tmp_path), "Learner")
    second = toy_run(make_scenario(tmp_path), "Learner", seed=1)
    with BarProgress(cost([run, second]), Console(file=out, force_terminal=True, width=120)) as display:
        display.started(run)
        display.advanced(run, "train", 150, 300, 12.34)
        display.progress.refresh()
        display.finished(run, evaluation(), fresh=True)
        display.finished(second, evaluation(), fresh=False)
    text = out.getvalue()
    assert "50 %" in text
    assert "steps/s" in text
    assert "return 12.3" in text
    assert "left in total" in text
    assert "tiny-v1 learner seed 0: return 1.0 1.0 at k = 0, 3" in text
    assert "tiny-v1 learner seed 1: return" in text
    assert text.rstrip("\n").endswith("\x1b[?25h"), "the cursor is back"


def test_control_characters_of_an_exception_are_not_printed(tmp_path: Path) -> None:
    run = toy_run(make_scenario(tmp_path), "Learner")
    assert summary(failure(run, "red \x1b[31m")) == "FAILED: red \N{REPLACEMENT CHARACTER}[31m"


@pytest.mark.parametrize("width", [20, 40, 60, 80, 120])
def test_progress_is_whole_in_a_narrow_terminal(width: int, tmp_path: Path) -> None:
    out = StringIO()
    run = toy_run(make_scenario(tmp_path), "Learner")
    run = replace(run, agent=replace(run.agent, name="an-agent-with-a-name-of-forty-characters"))
    console = Console(file=out, force_terminal=True, width=width, color_system=None)
    with BarProgress(cost([run]), console) as display:
        display.started(run)
        display.advanced(run, "train", 150, 300, 12.34)
        display.progress.refresh()
    lines = re.sub(r"\x1b\[[^a-zA-Z]*[a-zA-Z]", "", out.getvalue()).replace("\r", "\n").splitlines()
    assert max(map(len, lines)) <= width
    text = "".join("".join(lines).split())
    for words in ("50 %", run.label, "return 12.3", "steps/s", "left in total"):
        assert "".join(words.split()) in text, words


@pytest.mark.parametrize("width", [20, 80])
def test_a_table_in_a_narrow_terminal_is_whole(width: int, monkeypatch) -> None:
    class Terminal(StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("TERM", "xterm")
    learner = Evaluation("tiny-v1", "d", "learner", False, 0, TrainingResult(100), {"test": flat_curve(76.5)})
    scores = score(learner, on=references([0, 0], [21, 21], [100, 100], scenario="tiny-v1"))
    terminal = Terminal()
    print_tables([scores], BenchInfo("tiny"), file=terminal)
    text = re.sub(r"\x1b\[[^a-zA-Z]*[a-zA-Z]", "", terminal.getvalue())
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= width
    # A narrow table goes on below, with the name again.
    cells = re.findall(r"^learner +(.*)$", text, re.MULTILINE)
    numbers = " ".join(" ".join(cells).split())
    assert numbers.startswith("1* 0.77 0.77")  # one seed has no interval
    assert "76.5 76.5 1 100" in numbers


def test_the_expected_cost_counts_what_is_left_and_uses_earlier_timings(tmp_path: Path) -> None:
    suite = find_suite(make_suite(tmp_path, {"learner": toy("Learner")}, seeds=2, references=False))
    runs, store = plan_runs(suite, "cpu"), Store(tmp_path / "run")
    new = Cost.of(runs, store, workers=2)
    assert str(new) == "5 runs, at most 6,600 env steps of meta-training"  # random trains for none
    assert new.seconds is None
    done = next(run for run in runs if run.label == "tiny-v1 learner seed 0")
    write_manifest(store, suite, runs)
    store.put_evaluation(done.key("evaluate"), failure(done, "it broke"))
    store.put_seconds(done.key("train"), 50.0)
    store.put_seconds(done.key("evaluate"), 10.0)
    later = Cost.of(runs, store, workers=2)
    assert later.weights == {run.label: 60.0 for run in runs if run is not done}
    assert later.seconds == 120.0
    assert str(later) == "5 runs (1 finished), at most 6,300 env steps of meta-training, about 2 min 00 s"


def test_the_time_left_follows_from_the_share_of_the_work_done(monkeypatch) -> None:
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now)
    left = TimeLeft(Cost(3, 1, 0, {"a": 30.0, "b": 10.0}, None))
    assert str(left) == ""
    monkeypatch.setattr(time, "monotonic", lambda: now + 20)
    left.advanced("a", 0.5)
    left.advanced("finished before", 1.0)
    assert left.seconds() == pytest.approx(20 * 25 / 15)
    assert str(left) == "33 s left in total"
    left.advanced("a", 1.0)
    left.advanced("b", 1.0)
    assert left.seconds() == 0


def test_a_bench_prints_its_cost_first_and_reports_carry_the_return(tmp_path: Path) -> None:
    agents = {"learner": toy("Learner", pause=0.1), "noise": toy("GlobalNoise")}
    suite = make_suite(tmp_path, agents, references=False)
    returns = []

    class Record(PlainProgress):
        def advanced(self, run, stage, done, total, mean_return=None) -> None:
            returns.append((run.agent.name, stage, mean_return))

    run = planned_run(suite, "learner")
    check([run])
    Executor(Store(tmp_path / "run"), Record(cost([run])), 1, 120).run([run])
    assert all(isinstance(value, float) for _, stage, value in returns if stage == "train")
    assert any(stage == "train" for _, stage, _ in returns)
    cli = Cli("bench", "--suite", suite, "--out", tmp_path / "run", "--workers", "1")
    assert cli.process.stdout
    first = cli.process.stdout.readline()
    cli.process.kill()
    cli.end()
    assert first == (
        "tiny: 5 runs (1 finished), at most 6,300 env steps of meta-training; "
        f"1 at a time on cpu, results folder {tmp_path / 'run'}\n"
    )

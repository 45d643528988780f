"""The folder of a leaderboard, and the commands that a user types."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bench_kit import bench_here, make_suite, run_here, toy

from mrl_bench.errors import UsageError
from mrl_bench.leaderboard.build import build
from mrl_bench.leaderboard.entry import Entry
from mrl_bench.leaderboard.folder import Leaderboard
from mrl_bench.leaderboard.submission import Refused
from mrl_bench.leaderboard.submitted import submitted_agent
from mrl_bench.protocol.adaptation import evaluate
from mrl_bench.results import canonical_json
from mrl_bench.runs.fork_server import Worker


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_suite(tmp_path_factory.mktemp("suite"), {"learner": toy("Learner")})


@pytest.fixture(scope="module")
def submission(suite: Path) -> Path:
    folder = suite.parent / "results"
    bench_here(suite, folder)
    return build(folder, "learner", suite.parent / "submissions")


def others(submission: Path, folder: Path, count: int) -> list[Path]:
    """Copies with other authors, which are other submissions."""
    made = []
    for number in range(count):
        made.append(shutil.copytree(submission, folder / str(number)))
        path = made[-1] / "submission.json"
        data = json.loads(path.read_bytes())
        data["agent"]["author"] = f"author {number}"
        path.write_bytes(canonical_json(data))
    return made


@pytest.fixture
def leaderboard(tmp_path: Path) -> Leaderboard:
    return Leaderboard(tmp_path / "leaderboard")


@pytest.mark.usefixtures("no_figures")
def test_what_a_user_types(suite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = run_here("score", "toy_agents:Learner", "--suite", suite, "--smoke")
    assert code == 0, err
    assert "makes no submission" in out
    assert not (tmp_path / "submissions").exists()

    command = (
        "score",
        "toy_agents:Learner",
        "--suite",
        suite,
        "--seeds",
        1,
        "--name",
        "mine",
        "--set",
        "gain=0.5",
    )
    code, out, err = run_here(*command, "--author", "Me", "--workers", 1)
    assert code == 0, err
    (made,) = (tmp_path / "submissions").iterdir()
    assert f"submission: submissions/{made.name} (" in out
    assert made.name.startswith("mine-")
    assert json.loads((made / "submission.json").read_bytes())["agent"]["settings"]["tiny-v1"]["gain"] == 0.5

    code, out, _ = run_here("verify", made, "--suite", suite, "--level", 2)
    assert code == 0
    assert [line.split()[2] for line in out.splitlines()[:3]] == ["intact", "replayed", "re-evaluated"]

    code, out, _ = run_here("leaderboard", "add", made, "--suite", suite)
    assert code == 0
    id = out.split()[-1]
    code, out, _ = run_here("leaderboard", "verify", id[:8], "--suite", suite, "--level", 1)
    assert json.loads(Path(out.strip()).read_bytes())["level"] == 1
    code, out, _ = run_here("leaderboard", "list")
    assert "mine on tiny, 1 seed, verified at level 1" in out
    code, out, _ = run_here("leaderboard", "show", id[:8], "--suite", suite)
    assert "mine by Me: toy_agents:Learner" in out
    assert "tiny-v1" in out
    code, out, _ = run_here("leaderboard", "rank", "--suite", suite, "--ladder", id[:8])
    assert [line.split()[:2] for line in out.splitlines() if " mine " in line] == [["1", "mine"]] * 2
    assert "overall, test" in out

    Path("leaderboard/ladder.txt").write_text(f"{id}  mine\n")
    _, ranked, _ = run_here("leaderboard", "rank", "--suite", suite)
    assert ranked == out, "the ladder in the folder counts unless another one is given"
    code, out, err = run_here(*command, "--author", "Me", "--workers", 1)
    assert code == 0, err
    assert out.startswith("references and 1 baseline: shipped results used, none trained")
    assert [line.split()[:2] for line in out.splitlines() if line.strip().startswith("1-2 ")] == [
        ["1-2", "mine"]
    ] * 4

    code, out, _ = run_here("leaderboard", "check")
    assert out.startswith("1 submissions are as they were added; 2 lines")
    code, out, _ = run_here("leaderboard", "withdraw", id[:8], "--why", "a fault in it")
    code, out, _ = run_here("leaderboard", "list")
    assert "withdrawn: a fault in it" in out
    code, _, err = run_here("leaderboard", "add", made, "--suite", suite)
    assert code == 1
    assert "was withdrawn" in err
    code, _, err = run_here("leaderboard", "show", id[:8], "--suite", suite)
    assert code == 2


def test_a_suite_without_references_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    suite = make_suite(tmp_path, {}, references=False)
    code, out, err = run_here("score", "toy_agents:Learner", "--suite", suite, "--out", tmp_path / "run")
    assert (code, out) == (2, "")
    assert "no references of tiny-v1 ship" in err
    assert not (tmp_path / "run").exists()


def test_an_edited_submission_is_refused_with_one_line(submission: Path, suite: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(submission, tmp_path / "copy")
    path = copy / "agent" / "toy_agents.py"
    path.write_bytes(path.read_bytes() + b"#")
    for command in (("verify", copy), ("leaderboard", "add", copy, "--folder", tmp_path / "leaderboard")):
        code, out, err = run_here(*command, "--suite", suite)
        assert (code, out) == (1, "")
        assert err.count("\n") == 1
        assert "agent/toy_agents.py" in err
    assert not (tmp_path / "leaderboard" / "log.jsonl").exists()


def test_adding_twice_changes_nothing(leaderboard: Leaderboard, submission: Path, suite: Path) -> None:
    leaderboard.add(submission, suite)
    before = (leaderboard.folder / "log.jsonl").read_bytes()
    leaderboard.add(submission, suite)
    assert (leaderboard.folder / "log.jsonl").read_bytes() == before
    assert leaderboard.check() == 1


def test_an_id_needs_as_many_digits_as_tell_it_apart(
    leaderboard: Leaderboard, submission: Path, suite: Path, tmp_path: Path
) -> None:
    for each in others(submission, tmp_path, 2):
        leaderboard.add(each, suite)
    assert [each.author for each in leaderboard.listed()] == ["author 0", "author 1"]
    assert leaderboard.find(leaderboard.listed()[0].id) == leaderboard.listed()[0].id
    with pytest.raises(Exception, match="2 submissions"):
        leaderboard.find("")
    with pytest.raises(Exception, match="no submissions"):
        leaderboard.find("x")


def reordered(lines: list[bytes]) -> list[bytes]:
    return [lines[1], lines[0], *lines[2:]]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (reordered, "does not follow"),
        (lambda lines: lines[1:], "does not follow"),
        (lambda lines: [lines[0], lines[2]], "does not follow"),
        (lambda lines: lines[:-1], "in the folder and not in the log"),
        (lambda lines: [*lines, lines[-1]], "does not follow"),
        (lambda lines: [lines[0].replace(b'"add"', b'"verify"'), *lines[1:]], "does not follow"),
        (lambda lines: [b"{}\n", *lines], "is not one of a log"),
        (lambda lines: [lines[0][:-1] + b" \n", *lines[1:]], "does not follow"),
        (lambda lines: [], "in the folder and not in the log"),
    ],
)
def test_a_changed_log_is_refused(
    change, said: str, leaderboard: Leaderboard, submission: Path, suite: Path, tmp_path: Path
) -> None:
    for each in others(submission, tmp_path, 3):
        leaderboard.add(each, suite)
    assert leaderboard.check() == 3
    log = leaderboard.folder / "log.jsonl"
    log.write_bytes(b"".join(change(log.read_bytes().splitlines(keepends=True))))
    with pytest.raises(Refused, match=said):
        leaderboard.check()


def test_a_missing_and_an_exchanged_submission_are_told(
    leaderboard: Leaderboard, submission: Path, suite: Path, tmp_path: Path
) -> None:
    first, second = (leaderboard.add(each, suite).id for each in others(submission, tmp_path, 2))
    shutil.rmtree(leaderboard.submission_folder(first))
    with pytest.raises(Refused, match="in the log and not in the folder"):
        leaderboard.check()
    shutil.copytree(leaderboard.submission_folder(second), leaderboard.submission_folder(first))
    with pytest.raises(Refused, match="another one"):
        leaderboard.check()


def adder(leaderboard: Leaderboard, suite: Path, folders: list[Path]) -> Worker:
    """A process that adds submissions, and writes the id of each once it is added."""
    return Worker(f"""
from pathlib import Path
from mrl_bench.leaderboard.folder import Leaderboard
for folder in {list(map(str, folders))}:
    print(Leaderboard(Path({str(leaderboard.folder)!r})).add(Path(folder), {str(suite)!r}).id, flush=True)
""")


def said(process: Worker) -> set[str]:
    """The ids that a process has written before it ended."""
    with process.stdin, process.stderr, process.stdout:
        return set(process.stdout.read().decode().split())


@pytest.mark.parametrize(
    ("adders", "each", "kills"), [(2, 5, 3), pytest.param(4, 100, 20, marks=pytest.mark.slow)]
)
def test_what_is_added_at_the_same_time_is_all_there_and_a_kill_loses_nothing(
    adders: int,
    each: int,
    kills: int,
    leaderboard: Leaderboard,
    submission: Path,
    suite: Path,
    tmp_path: Path,
) -> None:
    """Some processes add; another is killed again and again while it adds. What it had acknowledged is there."""
    folders = iter(others(submission, tmp_path, adders * each + 4 * kills))
    steady = [adder(leaderboard, suite, [*islice(folders, each)]) for _ in range(adders)]
    acknowledged, rng = set[str](), random.Random(0)
    for _ in range(kills):
        last = [*islice(folders, 4)]
        killed = adder(leaderboard, suite, last)
        acknowledged.add(killed.stdout.readline().decode().strip())
        time.sleep(rng.uniform(0, 0.3))
        with suppress(ProcessLookupError):
            os.kill(killed.pid, signal.SIGKILL)
        acknowledged |= said(killed)
        killed.wait()
    for process in steady:
        added = said(process)
        assert process.wait() == 0
        assert len(added) == each
        acknowledged |= added
    leaderboard.add(last[0], suite)  # a writer after the last kill tidies up
    there = {each.id for each in leaderboard.listed()}
    assert acknowledged <= there
    assert len(acknowledged) >= adders * each + kills
    assert leaderboard.check() == len(there)


def test_a_submission_whose_line_was_written_gets_its_place(
    leaderboard: Leaderboard, submission: Path, suite: Path, tmp_path: Path
) -> None:
    one, other = others(submission, tmp_path, 2)
    id = leaderboard.add(one, suite).id
    leaderboard.submission_folder(id).rename(
        leaderboard.folder / f".incoming-{id}"
    )  # as a kill in between leaves it
    leaderboard.add(other, suite)
    assert leaderboard.check() == 2


def test_half_a_line_and_a_folder_without_a_line_are_removed(
    leaderboard: Leaderboard, submission: Path, suite: Path, tmp_path: Path
) -> None:
    one, other = others(submission, tmp_path, 2)
    leaderboard.add(one, suite)
    log = leaderboard.folder / "log.jsonl"
    log.write_bytes(log.read_bytes() + log.read_bytes()[:40])
    (leaderboard.folder / ".incoming-x" / "agent").mkdir(parents=True)
    leaderboard.add(other, suite)
    assert leaderboard.check() == 2
    assert [event.event for event in leaderboard.events()] == ["add", "add"]
    assert not [*leaderboard.folder.glob(".incoming-*")]


def test_an_agent_of_the_leaderboard_plays_without_training(
    leaderboard: Leaderboard, submission: Path, suite: Path
) -> None:
    added = leaderboard.add(submission, suite)
    run, agent = submitted_agent(leaderboard, "tiny-v1", "learner", 0, suite)
    returns = evaluate(agent, run.played, "test", seed=0, device=torch.device("cpu")).returns
    (claimed,) = Entry.load(submission, suite).evaluations.values()
    assert np.array_equal(returns, claimed.curves["test"].returns)
    for name, seed, why in (
        ("lerner", 0, "did you mean 'learner'"),
        ("learner", 1, "no finished run with seed 1"),
        (added.id[:8], 7, "no finished run with seed 7"),
    ):
        with pytest.raises(UsageError, match=why):
            submitted_agent(leaderboard, "tiny-v1", name, seed, suite)
    with pytest.raises(UsageError, match="was not submitted for"):
        submitted_agent(leaderboard, "drive-lane-v1", "learner", 0, suite)
    code, _, err = run_here("play", "drive-lane-v1", "--agent", "leaderboard:learner", "--leaderboard",
                            leaderboard.folder, "--out", leaderboard.folder / "a.gif")  # fmt: skip
    assert code == 2
    assert "was not submitted for drive-lane-v1" in err


def test_the_site_shows_videos_that_are_recorded_once(
    leaderboard: Leaderboard, submission: Path, suite: Path, tmp_path: Path
) -> None:
    id = leaderboard.add(submission, suite).id[:12]
    command = (
        "leaderboard",
        "site",
        "--folder",
        leaderboard.folder,
        "--suite",
        suite,
        "--out",
        tmp_path / "site",
    )
    assert run_here(*command)[0] == 0
    page = tmp_path / "site" / "agents" / f"{id}.html"
    assert "<picture>" not in page.read_text()
    for _ in range(2):
        code, _, err = run_here(*command, "--videos")
        assert code == 0, err
        (moving,) = {*(tmp_path / "site" / "videos").iterdir()} - {
            tmp_path / f"site/videos/{id}-tiny-v1-still.webp"
        }
        assert moving.name == f"{id}-tiny-v1.webp"
        assert f"../videos/{moving.name}" in page.read_text()
        os.utime(moving, (1, 1))
    assert moving.stat().st_mtime == 1


def git(folder: Path, *arguments: str) -> None:
    identity = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false")
    subprocess.run(["git", "-C", folder, *identity, *arguments], check=True, capture_output=True)


@pytest.fixture
def repository(tmp_path: Path, submission: Path) -> Path:
    """A git repository with a leaderboard of one submission, on a branch that is a pull request to `main`."""
    folder = tmp_path / "repository"
    (first,) = others(submission, tmp_path / "old", 1)
    Leaderboard(folder / "leaderboard").add(first, submission.parents[1] / "tiny.yaml")
    (folder / ".gitignore").write_text(".lock\n")
    git(folder, "init", "-q", "-b", "main")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "first")
    git(folder, "checkout", "-qb", "mine")
    return folder


def pull_request(repository: Path) -> tuple[int, str, str]:
    git(repository, "add", ".")
    git(repository, "commit", "-qm", "mine")
    folder = repository / "leaderboard"
    return run_here("leaderboard", "verify", "--changed", "main", "--level", 1, "--folder", folder,
                    "--suite", repository.parent / "tiny.yaml")  # fmt: skip


def test_a_pull_request_is_verified(repository: Path, submission: Path, suite: Path, tmp_path: Path) -> None:
    shutil.copytree(suite.parent, tmp_path, dirs_exist_ok=True)
    leaderboard = Leaderboard(repository / "leaderboard")
    leaderboard.add(submission, suite)
    code, out, err = pull_request(repository)
    assert code == 0, err
    assert out.startswith("2 submissions are as they were added\nlevel 0")
    assert out.endswith("holds up to level 1\n")


def withdraws(folder: Path) -> None:
    leaderboard = Leaderboard(folder)
    leaderboard.withdraw(leaderboard.listed()[0].id, "it is another's")


def says_verified(folder: Path) -> None:
    leaderboard = Leaderboard(folder)
    leaderboard._write(leaderboard.events(), "verify", leaderboard.listed()[0].id, "3")


def writes_elsewhere(folder: Path) -> None:
    (folder / "verifications").mkdir()
    (folder / "verifications" / "mine.json").write_text("{}")


def begins_anew(folder: Path) -> None:
    (folder / "log.jsonl").unlink()
    shutil.rmtree(folder / "submissions")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (withdraws, "a withdraw event"),
        (says_verified, "a verify event"),
        (writes_elsewhere, "belongs to no submission that was added"),
        (begins_anew, "does not go on from the log that was there"),
    ],
)
def test_a_pull_request_that_changes_more_is_refused(repository: Path, change: Any, why: str) -> None:
    change(repository / "leaderboard")
    code, _, err = pull_request(repository)
    assert code == 1
    assert why in err


def test_verify_wants_an_id_or_what_was_changed(tmp_path: Path) -> None:
    code, _, err = run_here("leaderboard", "verify", "--folder", tmp_path)
    assert code == 2
    assert "--changed" in err

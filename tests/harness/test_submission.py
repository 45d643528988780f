"""Submissions: what is in them, and that nothing in them can be changed unseen."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bench_kit import bench_here, make_suite, toy
from safetensors.numpy import load, save

from mrl_bench.leaderboard.build import build
from mrl_bench.leaderboard.entry import Entry
from mrl_bench.leaderboard.submission import Refused, claims_of, returns_path
from mrl_bench.leaderboard.verify import _reevaluate, verify
from mrl_bench.report.bench_report import read_report
from mrl_bench.results import canonical_json
from mrl_bench.runs.isolation.remote import Isolation


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    agents = {"learner": toy("Learner"), "raises": toy("Raises")}
    return make_suite(tmp_path_factory.mktemp("suite"), agents, seeds=3)


@pytest.fixture(scope="module")
def bench(suite: Path) -> Path:
    folder = suite.parent / "results"
    bench_here(suite, folder)
    return folder


@pytest.fixture(scope="module")
def original(bench: Path) -> Path:
    return build(bench, "learner", bench.parent / "submissions", author="A. Nonymous")


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return shutil.copytree(original, tmp_path / "copy")


def rewrite(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Changes the contents of submission.json, and makes all hashes right again."""
    path = folder / "submission.json"
    data = json.loads(path.read_bytes())
    change(data)
    for name in data["files"]:
        if (folder / name).is_file():
            contents = (folder / name).read_bytes()
            data["files"][name] = {"bytes": len(contents), "sha256": sha256(contents).hexdigest()}
    path.write_bytes(canonical_json(data))


def claim_anew(data: dict[str, Any], folder: Path, suite: Path) -> None:
    (scores,) = Entry.load(folder, suite).scores.values()
    data["claims"]["tiny-v1"] = claims_of(scores, "learner")


def refusal(folder: Path, suite: Path, level: int = 1) -> str:
    with pytest.raises(Refused) as refused:
        verify(folder, level, suite)
    text = str(refused.value)
    assert "\n" not in text
    return text


def test_an_honest_submission_is_verified(original: Path, suite: Path, bench: Path) -> None:
    seen: list[int] = []
    entry = verify(original, suite=suite, report=lambda level, text: seen.append(level), seed=7)
    assert seen == [0, 1, 2, 3]
    assert original.name == f"learner-{entry.submission.id[:6]}"
    assert entry.submission.agent.author == "A. Nonymous"
    (scores,) = read_report(bench).scores  # of a board with other agents
    assert entry.submission.claims["tiny-v1"].keys() == {"test", "ood"}
    expected = claims_of(scores, "learner")
    for split, claims in entry.submission.claims["tiny-v1"].items():
        np.testing.assert_allclose(claims["score"], expected[split]["score"])
    assert (original / "agent" / "toy_agents.py").is_file()
    assert len([*original.glob("weights/*")]) == 3


def test_the_same_runs_make_the_same_submission_but_for_its_date(
    bench: Path, original: Path, tmp_path: Path
) -> None:
    again = build(bench, "learner", tmp_path, author="A. Nonymous")
    one, other = (json.loads((each / "submission.json").read_bytes()) for each in (original, again))
    del one["created"], other["created"]
    assert one == other


def test_failed_runs_are_submitted_too(bench: Path, suite: Path, tmp_path: Path) -> None:
    made = build(bench, "raises", tmp_path)
    entry = verify(made, suite=suite)
    assert [run.error is None for run in entry.submission.runs] == [False] * 3
    assert not [*made.glob("returns/*")]


def test_one_changed_byte_is_detected_wherever_it_is(original: Path, folder: Path, suite: Path) -> None:
    rng, files = random.Random(0), sorted(path for path in folder.rglob("*") if path.is_file())
    sizes = [path.stat().st_size for path in files]
    for _ in range(1000):
        (path,) = rng.choices(files, sizes)
        data = bytearray(path.read_bytes())
        at = rng.randrange(len(data))
        data[at] ^= rng.randrange(1, 256)
        path.write_bytes(data)
        try:
            entry = verify(folder, 0, suite)
        except Refused:
            pass
        else:  # submission.json itself: another one, with another id
            assert path.name == "submission.json"
            assert not original.name.endswith(entry.submission.id[:6])
        shutil.copyfile(original / path.relative_to(folder), path)
    verify(folder, 1, suite)


def edit_returns(folder: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    path = folder / returns_path("tiny-v1")
    arrays = {name: array.copy() for name, array in load(path.read_bytes()).items()}
    edit(arrays)
    path.write_bytes(save(arrays))


def test_an_edited_return_is_refused_though_all_hashes_fit(folder: Path, suite: Path, bench: Path) -> None:
    def edit(arrays: dict[str, Any]) -> None:
        arrays["test.returns"][0, 0, -1, 0] += 0.25

    edit_returns(folder, edit)
    rewrite(folder, lambda data: None)
    assert "do not follow" in refusal(folder, suite, 0)

    rewrite(folder, lambda data: claim_anew(data, folder, suite))
    verify(folder, 0, suite)
    assert "tiny-v1-0" in refusal(folder, suite, 1)


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda arrays: arrays.pop("ood.failed"), "it has no failed"),
        (
            lambda arrays: arrays.update({"test.returns": arrays["test.returns"][:2]}),
            "test.returns is not of 3",
        ),
        (lambda arrays: arrays.update({"test.failed": np.zeros(3)}), "must have the shapes"),
        (lambda arrays: arrays.update({"test.returns": np.zeros(3)}), "must have the shapes"),
        (lambda arrays: arrays.update({"test.online.returns": np.zeros(3)}), "must all have the shape"),
        (lambda arrays: arrays.update({"test.metrics.x": np.zeros((3, 2))}), "must have the shape"),
        (
            lambda arrays: arrays.update({"test.returns": np.full_like(arrays["test.returns"], np.nan)}),
            "test",
        ),
        (lambda arrays: arrays.update({"train.returns": arrays["test.returns"]}), "it has no env_steps"),
        (lambda arrays: arrays.clear(), "it has curves for nothing"),
    ],
)
def test_returns_that_cannot_be_are_refused(
    edit: Callable[[dict[str, Any]], object], said: str, folder: Path, suite: Path
) -> None:
    edit_returns(folder, edit)
    rewrite(folder, lambda data: None)
    text = refusal(folder, suite, 0)
    assert text.startswith("the returns on tiny-v1 are not possible")
    assert said in text


def swap_files(data: dict[str, Any], folder: Path) -> None:
    edit_returns(folder, lambda arrays: arrays.update({n: x[[1, 0, 2]] for n, x in arrays.items()}))
    for kind in ("episodes", "weights"):
        one, other = (folder / kind / f"tiny-v1-{seed}.safetensors" for seed in (0, 1))
        first = one.read_bytes()
        one.write_bytes(other.read_bytes())
        other.write_bytes(first)


def remove_run(data: dict[str, Any], folder: Path) -> None:
    run = data["runs"].pop(1)
    edit_returns(folder, lambda arrays: arrays.update({n: x[[0, 2]] for n, x in arrays.items()}))
    for kind in ("episodes", "weights"):
        name = f"{kind}/{run['scenario']}-{run['seed']}.safetensors"
        (folder / name).unlink()
        del data["files"][name]


TAMPERING: dict[str, tuple[Callable[[dict[str, Any], Path], object], str]] = {
    "a run removed": (remove_run, "its runs are not the seeds 0 to 1"),
    "a run twice": (lambda data, _: data["runs"].append(data["runs"][0]), "its runs are not"),
    "runs in another order": (lambda data, _: data["runs"].reverse(), "its runs are not"),
    "another digest": (
        lambda data, _: data["scenarios"]["tiny-v1"].update(digest="0" * 16),
        "its digest differs",
    ),
    "other references": (
        lambda data, _: data["scenarios"]["tiny-v1"].update(references="0" * 64),
        "other references",
    ),
    "a further scenario": (
        lambda data, _: data["scenarios"].update({"other-v1": data["scenarios"]["tiny-v1"]}),
        "other-v1 is not of suite",
    ),
    "a higher claim": (
        lambda data, _: data["claims"]["tiny-v1"]["test"]["score"][-1].__setitem__(0, 0.99),
        "do not follow",
    ),
    "no claim": (lambda data, _: data["claims"].clear(), "other scenarios"),
    "another k": (lambda data, _: data["scenarios"]["tiny-v1"].update(k=[0, 2, 4]), "not possible"),
    "the name of a reference agent": (lambda data, _: data["agent"].update(name="oracle"), "oracle"),
    "a division of its own": (lambda data, _: data["agent"].update(division="best"), "is no division"),
    "a format of the future": (lambda data, _: data.update(format=2), "format 2"),
    "an unknown key": (lambda data, _: data.update(more=1), "not canonical"),
    "an impossible number of steps": (lambda data, _: data["runs"][0].update(env_steps=301), "not possible"),
    "an error in place of returns": (lambda data, _: data["runs"][0].update(error="oh"), "not of 2 runs"),
}


@pytest.mark.parametrize("what", TAMPERING)
def test_tampering_is_refused_though_all_hashes_fit(what: str, folder: Path, suite: Path) -> None:
    change, said = TAMPERING[what]
    rewrite(folder, lambda data: change(data, folder))
    assert said in refusal(folder, suite, 0)


def test_swapped_runs_are_refused(folder: Path, suite: Path) -> None:
    rewrite(folder, lambda data: swap_files(data, folder))
    assert "do not follow" in refusal(folder, suite, 0)
    rewrite(folder, lambda data: claim_anew(data, folder, suite))
    verify(folder, 1, suite)  # returns and actions fit each other
    assert "earns other returns" in refusal(folder, suite, 2)


@pytest.mark.parametrize("what", ["weights", "settings", "code"])
def test_what_did_not_earn_the_returns_is_refused(what: str, folder: Path, suite: Path) -> None:
    def change(data: dict[str, Any]) -> None:
        if what == "settings":
            data["agent"]["target"] = "toy_agents:GlobalNoise"
        elif what == "weights":
            path = folder / "weights" / "tiny-v1-1.safetensors"
            path.write_bytes(save({name: -array for name, array in load(path.read_bytes()).items()}))
        else:
            path = folder / "agent" / "toy_agents.py"
            path.write_text(
                path.read_text().replace("(1.0 if explore else 0.1)", "(1.0 if explore else 0.2)")
            )

    rewrite(folder, change)
    verify(folder, 1, suite)
    assert "earns other returns" in refusal(folder, suite, 2)


def test_on_another_platform_scores_must_be_near(folder: Path, suite: Path) -> None:
    rewrite(folder, lambda data: data.update(machine="another"))
    verify(folder, 2, suite)
    path = folder / "weights" / "tiny-v1-1.safetensors"
    original = load(path.read_bytes())
    path.write_bytes(save({name: array * np.float32(1.001) for name, array in original.items()}))
    rewrite(folder, lambda data: None)
    verify(folder, 2, suite)
    edit_returns(folder, lambda arrays: arrays["test.returns"].fill(5.0))
    rewrite(folder, lambda data: None)
    rewrite(folder, lambda data: claim_anew(data, folder, suite))
    with (
        Isolation() as isolation,
        pytest.raises(Refused, match="evaluated again, the score on tiny-v1 test is"),
    ):
        _reevaluate(Entry.load(folder, suite), isolation, 0)


@pytest.mark.parametrize(
    "name",
    [
        "../out",
        "/out",
        "returns/../../out",
        "agent/.hidden",
        "returns//x",
        "other/x",
        "agent/a\x00b",
    ],
)
def test_names_that_lead_elsewhere_are_refused(name: str, folder: Path, suite: Path) -> None:
    rewrite(folder, lambda data: data["files"].update({name: {"bytes": 0, "sha256": "0" * 64}}))
    assert "no submission of this version" in refusal(folder, suite, 0)


def test_links_pipes_and_files_that_are_not_listed_are_refused(
    folder: Path, suite: Path, tmp_path: Path
) -> None:
    path = folder / "agent" / "toy_agents.py"
    (tmp_path / "same").write_bytes(path.read_bytes())
    path.unlink()
    path.symlink_to(tmp_path / "same")
    assert "neither a file nor a folder" in refusal(folder, suite, 0)
    path.unlink()
    import os

    os.mkfifo(path)
    assert "neither a file nor a folder" in refusal(folder, suite, 0)
    path.unlink()
    assert "is missing" in refusal(folder, suite, 0)
    path.write_bytes((tmp_path / "same").read_bytes())
    (folder / "agent" / "more.py").write_text("")
    assert "is not listed" in refusal(folder, suite, 0)
    (folder / "agent" / "more.py").unlink()
    (folder / "linked").symlink_to(tmp_path)
    assert "neither a file nor a folder" in refusal(folder, suite, 0)


def test_a_larger_file_than_listed_is_not_read(folder: Path, suite: Path) -> None:
    with (folder / "agent" / "toy_agents.py").open("r+b") as file:
        file.truncate(2**40)  # a hole, which takes no room
    assert "has more than" in refusal(folder, suite, 0) or "cannot be read" in refusal(folder, suite, 0)


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", "{", "[" * 10_000, '{"format":1}', "\xff\xfe"])
def test_what_is_no_submission_is_refused_in_one_line(text: str, folder: Path, suite: Path) -> None:
    (folder / "submission.json").write_text(text, encoding="latin-1")
    assert "no submission" in refusal(folder, suite, 0)


def test_an_empty_folder_is_refused(tmp_path: Path, suite: Path) -> None:
    assert "holds no submission" in refusal(tmp_path, suite, 0)

"""No changed file is believed: changed by chance, by hand, or by a hand that also mends the hash.

And nothing is written outside of the results folder.
"""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from bench_kit import canonical, make_suite, toy

from mrl_bench.cli.main import main
from mrl_bench.errors import MrlBenchError
from mrl_bench.report.bench_report import add_videos, draw_figures, read_report, write_report
from mrl_bench.results import Video, canonical_json
from mrl_bench.runs.executor import forget_failed, plan_runs
from mrl_bench.runs.manifest import read_manifest, write_manifest
from mrl_bench.runs.run import Run, execute
from mrl_bench.runs.seal import seal
from mrl_bench.runs.store import MAX_BYTES, Store, StoreError
from mrl_bench.scenario.suite import find_suite


class Bench(NamedTuple):
    folder: Path
    runs: dict[tuple[str, int], Run]  # (agent, seed) ->

    @property
    def store(self) -> Store:
        return Store(self.folder)

    def result(self, agent: str = "learner", seed: int = 0, stage: str = "evaluate") -> Path:
        return self.folder / "results" / f"{self.runs[agent, seed].key(stage)}.json"

    def readers(self) -> dict[Path, Callable[[], Any]]:
        """Every file that is read again, and what reads it."""
        store, found = self.store, {self.folder / "manifest.json": lambda: read_manifest(self.folder)}

        def add(path: Path, read: Callable[..., Any], *arguments: Any) -> None:
            if path.exists():
                found[path] = lambda: read(*arguments)

        for run in self.runs.values():
            train, evaluate = run.key("train"), run.key("evaluate")
            add(self.folder / "results" / f"{evaluate}.json", store.evaluation, evaluate, run.terms)
            add(self.folder / "results" / f"{train}.json", store.trained, train, run.terms)
            add(self.folder / "weights" / f"{train}.safetensors", store.weights, train, "cpu")
            for key in (train, evaluate):
                add(self.folder / "timings" / f"{key}.json", store.seconds, key)
            for name in (f"{evaluate}.json", f"{evaluate}.webp", f"{evaluate}-still.webp"):
                add(self.folder / "videos" / name, store.video, evaluate, run.terms)
        return found


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """A finished bench with two seeds of an agent, an agent that failed, and a video."""
    folder = tmp_path_factory.mktemp("damage")
    agents = {"learner": toy("Learner"), "raises": toy("Raises")}
    suite = find_suite(make_suite(folder, agents, seeds=2, references=False))
    made = Bench(folder / "run", {(run.agent.name, run.seed): run for run in plan_runs(suite, "cpu")})
    write_manifest(made.store, suite, list(made.runs.values()))
    for run in made.runs.values():
        execute(run, made.store, lambda *_: None)
    images = [random.Random(name).randbytes(500) for name in ("moving", "still")]
    video = Video("learner", 0, "wiring -1", 6, (1.5, 2.5), (0.2, 0.4), 404, 150, *images)
    made.store.put_video(made.runs["learner", 0].key("evaluate"), video)
    return made


@pytest.fixture
def copy(bench: Bench, tmp_path: Path) -> Bench:
    shutil.copytree(bench.folder, tmp_path / "run")
    return Bench(tmp_path / "run", bench.runs)


@contextmanager
def changed(path: Path, data: bytes) -> Iterator[None]:
    before = path.read_bytes()
    path.write_bytes(data)
    try:
        yield
    finally:
        path.write_bytes(before)


@contextmanager
def changed_byte(path: Path, at: int, change: int) -> Iterator[None]:
    """In place, which is many times as fast as `changed`."""
    with path.open("r+b", buffering=0) as file:
        (before,) = os.pread(file.fileno(), 1, at)
        os.pwrite(file.fileno(), bytes([before ^ change]), at)
        try:
            yield
        finally:
            os.pwrite(file.fileno(), bytes([before]), at)


def plain(value: Any) -> Any:
    """A result as data that can be compared."""
    return value.to_json() if hasattr(value, "to_json") else repr(value)


# -- by chance ----------------------------------------------------------------------------------------------------


def test_of_1000_random_one_byte_changes_each_is_noticed_or_changes_nothing_that_is_read(
    bench: Bench,
) -> None:
    rng = random.Random(12)
    readers = bench.readers()
    as_written = {path: plain(read()) for path, read in readers.items()}
    kinds = sorted({(path.parent.name, path.suffix) for path in readers})
    assert len(kinds) == 6  # manifest, results, weights, timings; images of videos and their facts
    noticed, believed, unclear = 0, [], []
    for turn in range(1000):
        kind = kinds[turn % len(kinds)]
        path = rng.choice([path for path in readers if (path.parent.name, path.suffix) == kind])
        at = rng.randrange(path.stat().st_size)
        with changed_byte(path, at, rng.randrange(1, 256)):
            try:
                if plain(readers[path]()) != as_written[path]:
                    believed.append((path.name, at))
            except MrlBenchError as error:
                noticed += 1
                unclear += [str(error)] if str(path) not in str(error) or "\n" in str(error) else []
    assert not believed
    assert not unclear
    assert noticed >= 990  # white space in the manifest changes nothing


@pytest.mark.parametrize("share", [0.0, 0.5, 0.999])
def test_a_file_that_was_cut_off_is_noticed(bench: Bench, share: float) -> None:
    for path, read in bench.readers().items():
        whole = path.read_bytes()
        with changed(path, whole[: int(share * len(whole))]), pytest.raises(MrlBenchError, match=path.name):
            read()


@pytest.mark.parametrize("data", [b"[" * 10**6, b'{"a":' * 10**5, bytes(10**5), b"\xff\xfe{}", b"1" * 10**5])
def test_a_file_of_something_else_is_noticed(bench: Bench, data: bytes) -> None:
    for path, read in bench.readers().items():
        with changed(path, data), pytest.raises(MrlBenchError, match=path.name):
            read()


def test_what_is_no_file_or_too_large_is_one_line_and_is_not_read(copy: Bench) -> None:
    path, read = copy.result(), copy.readers()[copy.result()]
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(StoreError, match=f"it is not a file: {path}"):
        read()
    path.unlink()
    path.mkdir()
    with pytest.raises(StoreError, match=f"it is not a file: {path}"):
        read()
    path.rmdir()
    with path.open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    with pytest.raises(StoreError, match=rf"it has more than 1,073,741,824 bytes: {path}"):
        read()


# -- by hand ------------------------------------------------------------------------------------------------------


def resealed(path: Path, change: Callable[[Any], Any]) -> bytes:
    """The bytes of a result file after a change of its envelope, with a hash that fits."""
    envelope = json.loads(path.read_bytes())
    change(envelope)
    del envelope["sha256"]
    contents = json.dumps(envelope, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()[:-1]
    return contents + b',"sha256":"%s"}\n' % sha256(contents).hexdigest().encode()


def put(*path: str | int, value: Any) -> Callable[[Any], None]:
    """A change of one value."""

    def change(envelope: Any) -> None:
        *outer, last = path
        for key in outer:
            envelope = envelope[key]
        envelope[last] = value

    return change


def drop(*path: str | int) -> Callable[[Any], None]:
    def change(envelope: Any) -> None:
        *outer, last = path
        for key in outer:
            envelope = envelope[key]
        del envelope[last]

    return change


def body(*path: str | int, value: Any) -> Callable[[Any], None]:
    return put("body", *path, value=value)


def test_curve(*path: str | int, value: Any) -> Callable[[Any], None]:
    return body("curves", "test", *path, value=value)


test_curve.__test__ = False  # type: ignore[attr-defined]

EDITS = {
    "a return beyond what can be paid": test_curve("returns", 0, 0, 0, value=1e9),
    "a return a little beyond": test_curve("returns", 0, 0, 0, value=12.1),
    "a return below": test_curve("returns", 2, 2, 2, value=-0.1),
    "NaN": test_curve("returns", 0, 0, 0, value=float("nan")),
    "infinity": test_curve("returns", 0, 0, 0, value=float("inf")),
    "a text for a number": test_curve("returns", 0, 0, 0, value="12"),
    "true for a number": test_curve("returns", 0, 0, 0, value=True),
    "null for a number": test_curve("returns", 0, 0, 0, value=None),
    "a whole number for a fraction": test_curve("returns", 0, 0, 0, value=1),
    "an episode less": drop("body", "curves", "test", "returns", 0, 0, 0),
    "a value of k less": drop("body", "curves", "test", "returns", 1, 1),
    "a task less": drop("body", "curves", "test", "returns", 1),
    "no returns": drop("body", "curves", "test", "returns"),
    "a number for returns": test_curve("returns", value=3.0),
    "other k": test_curve("k", value=[0, 2, 60]),
    "negative env steps": test_curve("env_steps", 0, 1, value=-1.0),
    "more env steps than k episodes have": test_curve("env_steps", 0, 1, value=25.0),
    "env steps before adaptation": test_curve("env_steps", 0, 0, value=1.0),
    "fewer failed episodes than none": test_curve("failed", 0, 0, value=-1),
    "more failed episodes than episodes": test_curve("failed", 0, 0, value=4),
    "half a failed episode": test_curve("failed", 0, 0, value=0.5),
    "a metric of another shape": test_curve("metrics", value={"success": [1.0]}),
    "an adaptation episode less": drop("body", "curves", "test", "online", "returns", 0, 0),
    "no adaptation episodes": test_curve(
        "online", value={"returns": [[]] * 3, "failed": [[]] * 3, "metrics": {}}
    ),
    "an adaptation return beyond what can be paid": test_curve("online", "returns", 0, 5, value=12.1),
    "an adaptation return that is NaN": test_curve("online", "returns", 2, 0, value=float("nan")),
    "an adaptation episode that failed twice": test_curve("online", "failed", 0, 0, value=2),
    "a failed adaptation episode that the curve does not count": test_curve(
        "online", "failed", 0, 0, value=1
    ),
    "a metric of adaptation episodes alone": test_curve(
        "online", "metrics", value={"success": [[1.0] * 6] * 3}
    ),
    "an unknown key": body("note", value="trust me"),
    "a key less": drop("body", "error"),
    "a split less": drop("body", "curves", "ood"),
    "a split that is a path": body("curves", "../../x", value={}),
    "another scenario": body("scenario", value="x/../../../PWN"),
    "another digest": body("digest", value="0" * 16),
    "another agent": body("agent", value="better"),
    "another seed": body("seed", value=1),
    "a seed that is a text": body("seed", value="0"),
    "a seed that is a fraction": body("seed", value=0.0),
    "a reference agent": body("is_reference", value=True),
    "an error beside its curves": body("error", value="it broke"),
    "negative training": body("training", "env_steps", value=-1),
    "training beyond the budget": body("training", "env_steps", value=301),
    "a learning curve at another k": body("training", "learning_curve", "k", value=6),
    "training that ended before its learning curve": body("training", "env_steps", value=1),
    "a learning curve beyond what can be paid": body(
        "training", "learning_curve", "returns", 0, 0, value=1e9
    ),
    "a learning curve that goes back": body("training", "learning_curve", "env_steps", 0, value=10**6),
    "a deep nest": body("error", value=json.loads("[" * 500 + "]" * 500)),
    "a huge number": body("seed", value=10**400),
    "another kind": put("kind", value="training"),
    "another key": put("key", value="0" * 24),
    "no body": drop("body"),
}


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
def test_no_edit_of_an_evaluation_is_believed_though_its_hash_fits(bench: Bench, edit) -> None:
    path = bench.result()
    with changed(path, resealed(path, edit)), pytest.raises(StoreError) as caught:
        bench.readers()[path]()
    line = str(caught.value)
    assert line.startswith(f"{path} is damaged: ")
    assert len(line.splitlines()) == 1


def test_an_edit_that_changes_nothing_is_believed(bench: Bench) -> None:
    path = bench.result()
    assert resealed(path, lambda envelope: None) == path.read_bytes()


def test_a_failed_run_cannot_be_made_a_finished_one_without_returns(bench: Bench) -> None:
    path = bench.result("raises")
    with (
        changed(path, resealed(path, body("error", value=None))),
        pytest.raises(StoreError, match="curves for nothing"),
    ):
        bench.readers()[path]()


@pytest.mark.parametrize("other", [("learner", 1), ("oracle", 0), ("raises", 0)])
def test_a_result_under_the_name_of_another_is_not_believed(bench: Bench, other: tuple[str, int]) -> None:
    path, key = bench.result(), bench.runs["learner", 0].key("evaluate")
    theirs = bench.result(*other)
    for data in (theirs.read_bytes(), resealed(theirs, put("key", value=key))):
        with changed(path, data), pytest.raises(StoreError, match=f"{key}.json is damaged: it"):
            bench.readers()[path]()


@pytest.mark.parametrize(
    ("name", "edit"),
    [
        ("timings/{train}.json", body("seconds", value=-1.0)),
        ("timings/{train}.json", body("seconds", value="1.0")),
        ("timings/{train}.json", body("seconds", value=[])),
        ("videos/{evaluate}.json", body("agent", value="<script>")),
        ("videos/{evaluate}.json", body("seed", value=1)),
        ("videos/{evaluate}.json", body("returns", value=[1.5, 1e9])),
        ("videos/{evaluate}.json", body("returns", value=[1.5])),
        ("videos/{evaluate}.json", body("width", value="404 onload=alert(1)")),
        ("videos/{evaluate}.json", put("files", value={})),
        ("results/{train}.json", body("env_steps", value=-1)),
        ("results/{train}.json", body("model_errors", value={"dynamics": "small"})),
        ("results/{train}.json", put("kind", value="evaluation")),
    ],
)
def test_no_edit_of_another_file_is_believed_though_its_hash_fits(bench: Bench, name: str, edit) -> None:
    run = bench.runs["learner", 0]
    path = bench.folder / name.format(train=run.key("train"), evaluate=run.key("evaluate"))
    with changed(path, resealed(path, edit)), pytest.raises(StoreError, match="is damaged"):
        bench.readers()[path]()


def test_images_and_weights_of_another_run_are_not_believed(bench: Bench) -> None:
    keys = [bench.runs["learner", seed].key("train") for seed in range(2)]
    weights = [bench.folder / "weights" / f"{key}.safetensors" for key in keys]
    with (
        changed(weights[0], weights[1].read_bytes()),
        pytest.raises(StoreError, match="sha256 is not the one"),
    ):
        bench.store.weights(keys[0], "cpu")
    moving, still = sorted((bench.folder / "videos").glob("*.webp"))
    with changed(moving, still.read_bytes()), pytest.raises(StoreError, match="sha256 is not the one"):
        bench.readers()[moving]()


def rewritten(folder: Path, change: Callable[[Any], Any]) -> bytes:
    """A manifest after a change, with a hash that fits."""
    manifest = json.loads((folder / "manifest.json").read_bytes())
    change(manifest)
    del manifest["sha256"]
    return canonical_json(manifest | {"sha256": sha256(canonical_json(manifest)).hexdigest()})


@pytest.mark.parametrize(
    "edit",
    [
        put("runs", 0, "terms", "scenario", value="x/../../../PWN"),
        put("runs", 0, "terms", "scenario", value="tiny-v1\n"),
        put("runs", 0, "terms", "agent", value="../x"),
        put("runs", 0, "terms", "agent", value="<b>"),
        put("runs", 0, "terms", "tasks", value={"../x": 3}),
        put("runs", 0, "terms", "seed", value="0"),
        put("runs", 0, "terms", "k", value=3),
        put("runs", 0, "evaluate", value="../../../etc/passwd"),
        put("runs", 0, "train", value="/etc/passwd"),
        put("runs", 0, "terms", value=None),
        put("runs", value=3),
        put("scenarios", value=[]),
        put("suite", value=["core"]),
        drop("versions"),
        drop("runs", 0, "terms", "digest"),
    ],
)
def test_a_manifest_with_other_ids_or_types_is_one_line(bench: Bench, edit) -> None:
    with (
        changed(bench.folder / "manifest.json", rewritten(bench.folder, edit)),
        pytest.raises(MrlBenchError, match=r"manifest\.json is damaged: run the bench again to rewrite it"),
    ):
        read_report(bench.folder)


@pytest.mark.parametrize(
    "edit",
    [
        put("terms", "agent", value="better"),
        put("terms", "seed", value=7),
        put("terms", "digest", value="0" * 16),
        put("terms", "scenario", value="other-v1"),
        put("terms", "horizon", value=1),
        put("evaluate", value="0" * 24),
    ],
)
def test_a_manifest_that_says_something_else_than_the_results_shows_no_wrong_number(
    bench: Bench, edit
) -> None:
    place = next(
        i for i, run in enumerate(read_manifest(bench.folder)["runs"]) if run["agent"]["name"] == "learner"
    )
    whole = read_report(bench.folder)
    data = rewritten(bench.folder, lambda manifest: edit(manifest["runs"][place]))
    with changed(bench.folder / "manifest.json", data):
        report = read_report(bench.folder)
    assert len(report.damaged) + len(report.missing) == len(whole.damaged + whole.missing) + 1
    rows = {row.agent: row.seeds for row in report.scores[0].splits["test"].rows}
    assert rows == {"random": 1, "blind": 1, "oracle": 1, "learner": 1, "raises": 2}


# -- when results are made ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("paid", "told"), [((0.0, 0.01), "pays 0 to 0.12"), ((-1.0, -1.0), "pays -12 to 0")])
def test_a_run_that_was_paid_more_than_its_family_can_pay_has_failed(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, paid: tuple[float, float], told: str
) -> None:
    monkeypatch.setattr("mrl_tasks.cartpole.family.CartPole.reward_range", paid)
    planned = bench.runs["learner", 0]
    result = execute(Run(planned.scenario, planned.agent, 0, "cpu"), Store(tmp_path), lambda *_: None)
    assert result.error
    assert result.error.startswith(f"ContractError: tiny-v1 {told} in 12 control steps, not ")


# -- what users see -----------------------------------------------------------------------------------------------


@pytest.fixture
def _no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves the figures out, of which matplotlib takes seconds to draw."""
    monkeypatch.setattr("mrl_bench.report.figures.write_figures", lambda *_: None)
    monkeypatch.setattr("mrl_bench.report.page.inline_svg", lambda *_: "")


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


@pytest.mark.usefixtures("_no_figures")
def test_a_report_names_the_damaged_file_and_shows_the_rest(copy: Bench, capsys) -> None:
    flip(copy.result(seed=1))
    flip(copy.folder / "timings" / f"{copy.runs['learner', 0].key('train')}.json")
    assert main(["report", str(copy.folder)]) == 1
    out, err = capsys.readouterr()
    assert "learner" in out
    lines = err.splitlines()
    assert len(lines) == 2
    shown, left_out = sorted(lines)
    assert shown.startswith("mrl-bench: tiny-v1 learner 0 is shown without its training time: ")
    assert left_out == (
        f"mrl-bench: tiny-v1 learner 1 is left out: {copy.result(seed=1)} is damaged: "
        "its sha256 is not that of its contents; remove it, or give `bench --retry-failed`"
    )


def test_a_report_without_its_damaged_video_says_so(copy: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    key = copy.runs["learner", 0].key("evaluate")
    monkeypatch.setattr("mrl_bench.report.bench_report._leader", lambda *_: key)
    assert add_videos(copy.folder, read_report(copy.folder)).info.videos
    flip(copy.folder / "videos" / f"{key}-still.webp")
    report = add_videos(copy.folder, read_report(copy.folder))
    assert not report.info.videos
    (line,) = report.damaged
    assert line.startswith("tiny-v1 learner 0 is shown without its video: ")


def test_a_bench_stops_at_a_damaged_result_before_anything_runs(copy: Bench, capsys) -> None:
    flip(copy.result())
    suite = copy.runs["learner", 0].scenario.path.parent / "tiny.yaml"
    before = {path: path.stat().st_mtime_ns for path in copy.folder.rglob("*.json")}
    assert main(["bench", "--suite", str(suite), "--out", str(copy.folder)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"mrl-bench: {copy.result()} is damaged: ")
    assert {path: path.stat().st_mtime_ns for path in copy.folder.rglob("*.json")} == before


def test_damaged_files_of_all_kinds_are_forgotten_and_made_again(copy: Bench, bench: Bench) -> None:
    run, oracle = copy.runs["learner", 0], copy.runs["oracle", 0]
    damaged = [
        copy.result(seed=1),
        copy.result(stage="train"),
        copy.folder / "weights" / f"{oracle.key('train')}.safetensors",
        copy.folder / "timings" / f"{run.key('train')}.json",
        copy.folder / "videos" / f"{run.key('evaluate')}.webp",
    ]
    for path in damaged:
        flip(path)
    forget_failed(copy.store, copy.runs.values())
    assert copy.store.video(run.key("evaluate"), run.terms) is None
    for each in copy.runs.values():
        execute(each, copy.store, lambda *_: None)
    assert canonical(copy.folder) == canonical(bench.folder)
    assert all(read() is not None for path, read in copy.readers().items() if path.parent.name != "videos")


# -- nothing outside ----------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("_no_figures")
@pytest.mark.parametrize(
    "name", ["results", "weights", "timings", "videos", "logs", "tensorboard", "figures"]
)
def test_a_folder_that_is_a_link_to_elsewhere_is_not_written_to(
    copy: Bench, tmp_path: Path, name: str
) -> None:
    report = read_report(copy.folder)
    shutil.rmtree(copy.folder / name, ignore_errors=True)
    outside = tmp_path / "outside"
    outside.mkdir()
    (copy.folder / name).symlink_to(outside)
    run = copy.runs["learner", 0]
    copied = Store(copy.folder)
    writes: list[Callable[[], Any]] = [
        lambda: copied.put_evaluation("key", failed_evaluation(run)),
        lambda: copied.put_training("key", {}, failed_evaluation(run).training),
        lambda: copied.put_seconds("key", 1.0),
        lambda: copied.put_video("key", Video("a", 0, "", 6, (1.0, 1.0), (1.0, 1.0), 1, 1, b"", b"")),
        lambda: copied.log_path("key").write_text("line"),
        lambda: copied.tensorboard("tiny-v1/learner/seed-0", "train").__enter__(),
        lambda: draw_figures(copy.folder, report),
    ]
    refused = []
    for write in writes:
        try:
            write()
        except (StoreError, OSError) as error:
            refused.append(str(error))
    assert any("leads out of the results folder" in line for line in refused)
    assert not list(outside.iterdir())


def hold(store: Store) -> None:
    with store.held():
        pass


@pytest.mark.usefixtures("_no_figures")
@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("report.html", lambda folder: write_report(folder, read_report(folder))),
        ("scores.json", lambda folder: write_report(folder, read_report(folder))),
        (".lock", lambda folder: hold(Store(folder))),
        ("logs/key.log", lambda folder: Store(folder).log_path("key")),
    ],
)
def test_a_file_that_is_a_link_to_elsewhere_is_not_written_to(
    copy: Bench, tmp_path: Path, name: str, write: Callable[[Path], Any]
) -> None:
    outside = tmp_path / "outside"
    outside.write_text("mine")
    link = copy.folder / name
    link.parent.mkdir(exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(outside)
    with pytest.raises((StoreError, OSError), match="leads out of the results folder"):
        write(copy.folder)
    assert outside.read_text() == "mine"


@pytest.mark.parametrize("key", ["../../PWN", "x/../../../PWN"])
def test_a_key_that_is_a_path_leads_nowhere(copy: Bench, key: str) -> None:
    for use in (copy.store.evaluation, copy.store.log_path, copy.store.forget, copy.store.weights_path):
        with pytest.raises(StoreError, match="leads out of the results folder"):
            use(key)


def test_links_in_a_circle_are_one_line(copy: Bench) -> None:
    shutil.rmtree(copy.folder / "results")
    (copy.folder / "results").symlink_to(copy.folder / "results")
    with pytest.raises(StoreError):
        copy.store.evaluation("key")


def failed_evaluation(run: Run) -> Any:
    from mrl_bench.runs.run import failure

    return failure(run, "it broke")


def test_the_same_contents_give_the_same_bytes() -> None:
    assert seal("a", "k", {"y": 1, "x": 2}, {}) == seal("a", "k", {"x": 2, "y": 1}, {})

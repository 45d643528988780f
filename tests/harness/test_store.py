"""Files are there whole or not at all, whatever happens while they are written."""

from __future__ import annotations

import errno
import os
import platform
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from bench_kit import make_scenario, online, toy_run
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from mrl_bench.results import Curve, Evaluation, TrainingResult, Video
from mrl_bench.runs.files import remove_unfinished, write_atomically
from mrl_bench.runs.run import execute
from mrl_bench.runs.store import Store, StoreError

KEY = "0123456789abcdef"


def evaluation(value: float = 1.0) -> Evaluation:
    returns, failed = np.full((3, 2, 4), value), np.zeros((3, 2), dtype=np.int64)
    curve = Curve((0, 2), returns, np.ones((3, 2)), failed, online(3, 2))
    return Evaluation("tiny-v1", "d" * 16, "maml", False, 0, TrainingResult(100), {"test": curve})


def full_disk(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def in_a_process(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_file_gets_its_folder_and_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "file"
    write_atomically(path, b"first")
    write_atomically(path, b"second")
    assert path.read_bytes() == b"second"
    assert os.listdir(path.parent) == ["file"]


@pytest.mark.parametrize("breaks", ["os.fsync", "pathlib.Path.replace", "pathlib.Path.open"])
def test_what_was_there_survives_a_write_that_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, breaks: str
) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"before")
    with monkeypatch.context() as patch:
        patch.setattr(breaks, full_disk)
        with pytest.raises(OSError, match=r"No space left on device: '.*/file'") as caught:
            write_atomically(path, b"after")
    assert caught.value.errno == errno.ENOSPC
    assert path.read_bytes() == b"before"
    assert os.listdir(tmp_path) == ["file"]


def test_what_was_there_survives_a_disk_that_fills_up_within_a_write(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"before")
    ran = in_a_process(f"""
import resource
from pathlib import Path
from mrl_bench.runs.files import write_atomically
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    write_atomically(Path({str(path)!r}), b"x" * 100_000)
except OSError as error:
    print(error)
""")
    assert ran.stdout == f"[Errno {errno.EFBIG}] File too large: '{path}'\n", ran.stderr
    assert path.read_bytes() == b"before"
    assert os.listdir(tmp_path) == ["file"]


def test_a_reader_sees_one_whole_file_or_the_other(tmp_path: Path) -> None:
    path = tmp_path / "file"
    whole = {letter * 300_000 for letter in (b"a", b"b")}
    write_atomically(path, min(whole))
    stop = threading.Event()

    def rewrite() -> None:
        while not stop.is_set():
            for data in whole:
                write_atomically(path, data)

    writer = threading.Thread(target=rewrite)
    writer.start()
    try:
        assert {path.read_bytes() for _ in range(300)} <= whole
    finally:
        stop.set()
        writer.join()


def test_what_a_killed_writer_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    code = f"""
import os, signal
from pathlib import Path
from mrl_bench.runs.files import write_atomically
os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)
write_atomically(Path({str(tmp_path)!r}) / "results" / "key.json", b"data")
"""
    assert in_a_process(code).returncode == -9
    (left,) = (tmp_path / "results").iterdir()
    host = platform.node()
    others = [
        f"results/.other.json.{host}.{os.getpid()}",  # of a writer that runs
        f"results/.other.json.another-{host}.4000000",  # of another machine
        ".lock",
        ".hidden.12",
        f"results/key.json.{host}x.4000000",
    ]
    for name in others:
        (tmp_path / name).write_text("")
    remove_unfinished(tmp_path)
    assert not left.exists()
    assert all((tmp_path / name).exists() for name in others)


def test_what_a_killed_writer_left_is_removed_at_the_start_and_at_the_end_of_a_bench(tmp_path: Path) -> None:
    """At the start a worker that was killed may still be ending."""
    before, within = (tmp_path / f".{name}.json.{platform.node()}.4000000" for name in ("before", "within"))
    before.write_text("")
    with Store(tmp_path).held():
        assert not before.exists()
        within.write_text("")
    assert not within.exists()


def test_an_evaluation_comes_back_as_it_was(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert store.evaluation(KEY) is None
    store.put_evaluation(KEY, evaluation(0.1))
    back = store.evaluation(KEY)
    assert back
    assert back.to_json() == evaluation(0.1).to_json()
    assert back.curves["test"].failed.dtype == np.int64
    store.forget(KEY)
    store.forget(KEY)
    assert store.evaluation(KEY) is None


def test_weights_come_back_as_they_were_and_shared_ones_too(tmp_path: Path) -> None:
    store = Store(tmp_path)
    shared = torch.arange(6.0).reshape(2, 3)
    weights = {
        "a": shared,
        "b": shared.T,
        "c": torch.tensor(3, requires_grad=False),
        "d": torch.ones(2)[None].expand(3, 2),
    }
    store.put_training(KEY, weights, TrainingResult(123))
    back = store.weights(KEY, "cpu")
    assert store.trained(KEY) == TrainingResult(123)
    assert back.keys() == weights.keys()
    assert all(torch.equal(weights[name], back[name]) for name in weights)
    first = store.weights_path(KEY).read_bytes()
    store.put_training(KEY, weights, TrainingResult(123))
    assert store.weights_path(KEY).read_bytes() == first


def test_a_training_without_its_weights_is_not_done(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.put_training(KEY, {}, TrainingResult(123))
    store.weights_path(KEY).unlink()
    assert store.trained(KEY) is None


def test_weights_are_there_before_their_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path)
    monkeypatch.setattr("mrl_bench.runs.store.seal", full_disk)
    with pytest.raises(OSError, match="No space"):
        store.put_training(KEY, {}, TrainingResult(123))
    assert store.weights_path(KEY).exists()
    assert store.trained(KEY) is None


@pytest.mark.parametrize(
    "write",
    [
        lambda store: store.put_evaluation(KEY, evaluation(2.0)),
        lambda store: store.put_training(KEY, {"a": torch.ones(2)}, TrainingResult(1)),
        lambda store: store.put_seconds(KEY, 1.0),
    ],
)
def test_a_result_that_cannot_be_written_is_one_line_and_spares_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write
) -> None:
    store = Store(tmp_path)
    write(store)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full_disk)
        with pytest.raises(StoreError, match=rf"^No space left on device: {tmp_path}/.*$") as caught:
            write(store)
    assert caught.value.exit_code == 1
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    store = Store(tmp_path / "file" / "run")
    with pytest.raises(StoreError, match=r"^Not a directory: "), store.held():
        pass
    with pytest.raises(StoreError, match=r"^Not a directory: "):
        store.put_evaluation(KEY, evaluation())


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b"null", b"{}", b'{"curves": 3}', b"\xff", b"[" * 10**6, bytes(10**6)]
)
def test_a_damaged_result_is_one_line_that_says_what_to_do(tmp_path: Path, data: bytes) -> None:
    store = Store(tmp_path)
    write_atomically(tmp_path / "results" / f"{KEY}.json", data)
    for read in (store.evaluation, store.trained):
        with pytest.raises(
            StoreError, match=rf"^{tmp_path}.*/{KEY}\.json is damaged: its sha256 .*; remove it"
        ):
            read(KEY)


def test_a_folder_is_held_by_one_bench_at_a_time(tmp_path: Path) -> None:
    store = Store(tmp_path / "run")
    with (
        store.held(),
        pytest.raises(StoreError, match="another bench runs in"),
        Store(tmp_path / "run").held(),
    ):
        pass
    with Store(tmp_path / "run").held():
        pass


def test_a_killed_bench_holds_no_folder(tmp_path: Path) -> None:
    code = f"""
import os, signal
from pathlib import Path
from mrl_bench.runs.store import Store
with Store(Path({str(tmp_path)!r})).held():
    os.kill(os.getpid(), signal.SIGKILL)
"""
    assert in_a_process(code).returncode == -9
    with Store(tmp_path).held():
        pass


def test_scalars_can_be_read_by_tensorboard_and_those_of_a_cut_off_attempt_are_gone(tmp_path: Path) -> None:
    store = Store(tmp_path)
    run = toy_run(make_scenario(tmp_path), "Learner", seed=3)
    for value in (1.0, 2.0):
        with store.tensorboard(run.tensorboard_name, "train") as write:
            write({"losses/policy_loss": value, "charts/SPS": 5.0}, 100)
    with store.tensorboard(run.tensorboard_name, "evaluate") as write:
        write({"adaptation/return_test": 3.0}, 6)
    folder = tmp_path / "tensorboard" / "tiny-v1" / "learner" / f"seed-3-{run.key('train')[:6]}"
    assert len(list(folder.iterdir())) == 2
    events = EventAccumulator(str(folder)).Reload()
    assert events.Tags()["scalars"] == ["losses/policy_loss", "charts/SPS", "adaptation/return_test"]
    (scalar,) = events.Scalars("losses/policy_loss")
    assert (scalar.step, scalar.value) == (100, 2.0)


def test_runs_with_different_settings_keep_their_own_scalars(tmp_path: Path) -> None:
    store, scenario = Store(tmp_path), make_scenario(tmp_path)
    for gain in (0.5, 1.0):
        with store.tensorboard(toy_run(scenario, "Learner", gain=gain).tensorboard_name, "train") as write:
            write({"losses/policy_loss": gain}, 100)
    folders = list((tmp_path / "tensorboard" / "tiny-v1" / "learner").iterdir())
    assert len(folders) == len(list((tmp_path / "tensorboard").rglob("events.*"))) == 2


def make_video() -> Video:
    return Video("maml", 0, "wiring -1", 6, (1.5, 2.5), (0.2, 0.4), 404, 150, b"moving", b"still")


def test_a_video_comes_back_as_it_was_and_its_images_are_webp_files(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert store.video(KEY) is None
    store.put_video(KEY, make_video())
    assert store.video(KEY) == make_video()
    files = {path.name: path.read_bytes() for path in (tmp_path / "videos").iterdir()}
    assert set(files) == {f"{KEY}.webp", f"{KEY}-still.webp", f"{KEY}.json"}
    assert files[f"{KEY}.webp"] == b"moving"
    assert len(files[f"{KEY}.json"]) < 700


def test_a_video_without_its_images_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path)
    store.put_video(KEY, make_video())
    (tmp_path / "videos" / f"{KEY}-still.webp").unlink()
    assert store.video(KEY) is None
    monkeypatch.setattr("mrl_bench.runs.store.seal", full_disk)  # the facts are written last
    with pytest.raises(OSError, match="No space"):
        store.put_video("other", make_video())
    assert (tmp_path / "videos" / "other.webp").exists()
    assert store.video("other") is None


def test_scalars_that_cannot_be_written_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "tensorboard").write_text("")
    run = toy_run(make_scenario(tmp_path), "Learner")
    with (
        pytest.raises(StoreError, match="tensorboard"),
        Store(tmp_path).tensorboard(run.tensorboard_name, "train"),
    ):
        pass


def test_tensorboard_compares_runs_by_their_settings(tmp_path: Path) -> None:
    run = toy_run(make_scenario(tmp_path), "Learner", seed=3, gain=0.25)
    execute(run, Store(tmp_path), lambda *_: None)
    events = EventAccumulator(str(tmp_path / "tensorboard" / run.tensorboard_name)).Reload()
    data = {
        tag: HParamsPluginData.FromString(events.SummaryMetadata(tag).plugin_data.content)
        for tag in events.PluginTagToContent("hparams")
    }
    start = data["_hparams_/session_start_info"].session_start_info.hparams
    assert start["gain"].number_value == 0.25
    assert start["seed"].number_value == 3
    assert start["scenario"].string_value == "tiny-v1"
    assert start["budget"].number_value == 300
    (metric,) = data["_hparams_/experiment"].experiment.metric_infos
    assert metric.name.tag == "adaptation/return_test"
    curve = events.Scalars(metric.name.tag)
    assert [point.step for point in curve] == [0, 2, 6]
    done = Store(tmp_path).evaluation(run.key("evaluate"))
    assert done
    assert curve[-1].value == pytest.approx(done.curves["test"].returns[:, -1].mean())
    learned = done.training.learning_curve
    assert learned
    assert [point.step for point in events.Scalars("charts/learning_curve")] == learned.env_steps.tolist()

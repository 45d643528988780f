"""A results folder: all files of a bench. Each file is written atomically, and named by the key of a stage of a run.

manifest.json  the runs that were asked for, their settings, and the machine
results/       KEY.json: the result of a stage; the same run gives the same bytes
weights/       KEY.safetensors: the weights after meta-training; their hash is in the result
episodes/      KEY.safetensors: actions of a sample of the scored episodes; their hash is in the result
videos/        KEY.webp, KEY-still.webp: an evaluated agent on one test task; KEY.json: what they show
timings/       KEY.json: measured seconds; they differ from run to run
logs/          KEY.log: the output of the run's code; the middle of a long output is left out
tensorboard/   SCENARIO/AGENT/seed-SEED-KEY/: scalars and settings of a run; here KEY is its first 6 digits
scores.json    scores of all runs; the same runs give the same bytes; scores.csv: the main ones as a table
report.html, figures/

Each KEY.json is an envelope with a hash: see seal.py.
"""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from mrl_bench.errors import ContractError, MrlBenchError
from mrl_bench.results import Evaluation, TrainingResult, Video
from mrl_bench.runs.files import inside, read_file, remove_unfinished, write_atomically
from mrl_bench.runs.seal import Damaged, Fingerprint, fingerprint, seal, unseal
from mrl_bench.runs.terms import Terms

if TYPE_CHECKING:
    from torch import Tensor

    from mrl_bench.runs.shard import Shard


T = TypeVar("T")

MAX_BYTES = 2**30  # of a result file; a larger one is not read
_UNREADABLE = (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError, MemoryError)
_ROOM = 2**24  # bytes that the files of a run may need


class StoreError(MrlBenchError):
    """A result could not be written or read. The run itself did not fail."""


class _Kind(NamedTuple, Generic[T]):
    """What a result file holds."""

    name: str
    folder: str
    to_json: Callable[[T], Any]
    from_json: Callable[[Any], T]
    check: Callable[[Terms, T], None]


_EVALUATION = _Kind("evaluation", "results", Evaluation.to_json, Evaluation.from_json, Terms.check)
_TRAINING = _Kind(
    "training", "results", TrainingResult.to_json, TrainingResult.from_json, Terms.check_training
)
_VIDEO = _Kind(
    "video", "videos", Video.to_json, lambda facts: Video.from_json(facts, b"", b""), Terms.check_video
)
_TIMING = _Kind[float](
    "timing",
    "timings",
    lambda seconds: {"seconds": round(float(seconds), 3)},
    lambda body: _seconds(body["seconds"]),
    lambda terms, seconds: None,
)


class Store:
    """The files of a results folder, by the keys of their runs. Its methods raise StoreError.

    A result that is read is as it was written: its hash and its key are checked and, if the terms of its run are given,
    whose result it is and whether its values are possible. Nothing is written outside of the folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @contextmanager
    def held(self, shard: Shard | None = None) -> Iterator[None]:
        """Creates and locks the folder, and removes unfinished files of a bench that was killed.

        The shards of a bench share the folder with each other, and with no other bench.
        """
        with _explained(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        with ExitStack() as locks:
            self._lock(locks, ".lock", fcntl.LOCK_SH if shard else fcntl.LOCK_EX, "another bench")
            if shard:
                name = f".shard-{shard.number}-of-{shard.count}.lock"
                self._lock(locks, name, fcntl.LOCK_EX, f"shard {shard}")
            remove_unfinished(self.folder)
            yield
            remove_unfinished(self.folder)  # also of a worker that was still ending at the start

    def _lock(self, locks: ExitStack, name: str, kind: int, holder: str) -> None:
        """Takes a lock, which the system releases when this process ends."""
        with _explained(self.folder):
            lock = locks.enter_context(inside(self.folder, name).open("a+"))
        try:
            fcntl.flock(lock, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StoreError(f"{holder} runs in {self.folder}") from None
        except OSError:
            pass  # the file system has no locks

    def require_room(self) -> None:
        """Raises StoreError if the files of one more run cannot be written."""
        for kind in ("results", "weights", "episodes", "timings", "tensorboard"):
            folder = self._inside(kind)
            with _explained(folder):
                folder.mkdir(parents=True, exist_ok=True)
                with TemporaryFile(dir=folder) as file:  # has no name, so a kill leaves nothing
                    file.write(bytes(_ROOM))
                    file.flush()

    def evaluation(self, key: str, terms: Terms | None = None) -> Evaluation | None:
        """The result of an "evaluate" stage, if it is finished."""
        found = self._read(_EVALUATION, key, terms)
        return found and found[0]

    def put_evaluation(self, key: str, evaluation: Evaluation, episodes: bytes | None = None) -> None:
        """Stores the sample of episodes, as `mrl_bench.protocol.recorded` packs it, and then the result."""
        files = {} if episodes is None else {self.episodes_path(key): episodes}
        self._write(_EVALUATION, key, evaluation, files)

    def episodes(self, key: str) -> bytes | None:
        """The sample of episodes of an "evaluate" stage; None if it failed or is not finished."""
        found, path = self._read(_EVALUATION, key), self.episodes_path(key)
        return self._file(path, found[1]) if found and path.name in found[1] else None

    def forget(self, key: str) -> None:
        """Removes the result of a stage, so that it runs again."""
        self._remove("results", key)

    def forget_damaged(self, train: str, evaluate: str, terms: Terms) -> None:
        """Removes what cannot be read of a run, by its keys, so that it is made again.

        Without its weights a run starts from its beginning, so the evaluation of damaged weights is removed too.
        """
        if _is_damaged(lambda: self.trained(train, terms)):
            self.forget(train)
            self.forget(evaluate)
        if _is_damaged(lambda: self.evaluation(evaluate, terms)):
            self.forget(evaluate)
        if _is_damaged(lambda: self.video(evaluate, terms)):
            self._remove("videos", evaluate)
        for key in (train, evaluate):
            if _is_damaged(partial(self.seconds, key)):
                self._remove("timings", key)

    def trained(self, key: str, terms: Terms | None = None) -> TrainingResult | None:
        """The result of a "train" stage, if it is finished and has weights, which are as they were written."""
        found = self._read(_TRAINING, key, terms)
        if found is None or not self.weights_path(key).exists():
            return None
        self._file(self.weights_path(key), found[1])
        return found[0]

    def put_training(self, key: str, weights: Mapping[str, Tensor], trained: TrainingResult) -> None:
        """Stores the weights and then the result, so that a finished stage has weights."""
        from safetensors.torch import save

        from mrl_bench.protocol.restoring import copies

        self._write(_TRAINING, key, trained, {self.weights_path(key): save(copies(weights))})

    def weights(self, key: str, device: str) -> dict[str, Tensor]:
        from safetensors import SafetensorError
        from safetensors.torch import load

        path, found = self.weights_path(key), self._read(_TRAINING, key)
        if found is None:
            raise StoreError(f"there is no training result of these weights: {path}")
        data = self._file(path, found[1])
        with _believed(path):
            try:
                return {name: tensor.to(device) for name, tensor in load(data).items()}
            except SafetensorError:
                raise Damaged("it is no safetensors file") from None

    def video(self, key: str, terms: Terms | None = None) -> Video | None:
        """The video of a run by the key of its "evaluate" stage, if it has been recorded."""
        moving, still = self._video_paths(key)
        found = self._read(_VIDEO, key, terms)
        if found is None or not (moving.exists() and still.exists()):
            return None
        video, files = found
        return replace(video, moving=self._file(moving, files), still=self._file(still, files))

    def put_video(self, key: str, video: Video) -> None:
        """Stores the images and then the facts, so that a video with facts has images."""
        moving, still = self._video_paths(key)
        self._write(_VIDEO, key, video, {moving: video.moving, still: video.still})

    def _video_paths(self, key: str) -> tuple[Path, Path]:
        moving, still = (self._path("videos", key, suffix) for suffix in (".webp", "-still.webp"))
        return moving, still

    def evaluation_path(self, key: str) -> Path:
        return self._path("results", key)

    def weights_path(self, key: str) -> Path:
        return self._path("weights", key, ".safetensors")

    def episodes_path(self, key: str) -> Path:
        return self._path("episodes", key, ".safetensors")

    def log_path(self, key: str) -> Path:
        return self._path("logs", key, ".log")

    def seconds(self, key: str) -> float | None:
        """Measured seconds of a stage, if it is finished."""
        found = self._read(_TIMING, key)
        return found and found[0]

    def put_seconds(self, key: str, seconds: float) -> None:
        self._write(_TIMING, key, seconds)

    @contextmanager
    def tensorboard(
        self, name: str, stage: str, settings: Mapping[str, Any] | None = None, metric: str = ""
    ) -> Iterator[Callable[[Mapping[str, float], int], None]]:
        """A function that writes scalars of a stage: (tag -> value, step).

        Args:
            name: of the folder, as in `Run.tensorboard_name`.
            stage: "train" or "evaluate".
            settings: of the run, for the HPARAMS tab.
            metric: tag of the scalar that this tab shows next to them.
        """
        from torch.utils.tensorboard import SummaryWriter
        from torch.utils.tensorboard.summary import hparams

        folder = self._inside(Path("tensorboard") / name)
        with _explained(folder):
            for leftover in folder.glob(f"events.*.{stage}"):  # of an attempt that was interrupted
                leftover.unlink()
            writer = SummaryWriter(str(folder), filename_suffix=f".{stage}")
            events: Any = writer.file_writer  # torch declares it as None
            for summary in hparams(settings, {metric: 0.0}) if settings else ():
                events.add_summary(summary)

        def write(values: Mapping[str, float], step: int) -> None:
            with _explained(folder):
                for tag, value in values.items():
                    writer.add_scalar(tag, value, step)

        try:
            yield write
        finally:
            with _explained(folder):
                writer.close()

    def _path(self, folder: str, key: str, suffix: str = ".json") -> Path:
        return self._inside(f"{folder}/{key}{suffix}")

    def _inside(self, name: Path | str) -> Path:
        with _explained(self.folder):
            return inside(self.folder, name)

    def _remove(self, folder: str, key: str) -> None:
        path = self._path(folder, key)
        with _explained(path):
            path.unlink(missing_ok=True)

    def _read(
        self, kind: _Kind[T], key: str, terms: Terms | None = None
    ) -> tuple[T, Mapping[str, Fingerprint]] | None:
        """The contents of a result file, and the fingerprints of the files that belong to it; None if there is none."""
        path = self._path(kind.folder, key)
        with _explained(path):
            data = read_file(path, MAX_BYTES)
        if data is None:
            return None
        with _believed(path):
            body, files = unseal(data, kind.name, key)
            value = kind.from_json(body)
            if not _same(kind.to_json(value), body):
                raise Damaged("it is not as mrl-bench writes it")
            if terms:
                kind.check(terms, value)
        return value, files

    def _file(self, path: Path, files: Mapping[str, Fingerprint]) -> bytes:
        """A file that belongs to a result."""
        with _explained(path), _believed(path):
            expected = files[path.name]
            data = read_file(path, expected["bytes"])
            if data is None or fingerprint(data) != expected:
                raise Damaged("its sha256 is not the one in its result")
        return data

    def _write(self, kind: _Kind[T], key: str, value: T, files: Mapping[Path, bytes] | None = None) -> None:
        """Writes the files that belong to a result, and then the result."""
        for path, data in (files or {}).items():
            with _explained(path):
                write_atomically(path, data)
        prints = {path.name: fingerprint(data) for path, data in (files or {}).items()}
        path = self._path(kind.folder, key)
        text = seal(kind.name, key, kind.to_json(value), prints)
        with _explained(path):
            write_atomically(path, text)


def _seconds(value: Any) -> float:
    if float(value) < 0:
        raise Damaged(f"a stage takes no {float(value)} s")
    return float(value)


def _same(one: Any, other: Any) -> bool:
    """Whether two JSON values are equal, and of one type at every depth: 1, 1.0, true and "1" are four values."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return bool(one == other)


def _is_damaged(read: Callable[[], object]) -> bool:
    try:
        read()
    except StoreError:
        return True
    return False


@contextmanager
def _believed(path: Path) -> Iterator[None]:
    """Turns every sign that a file is not what was written into a StoreError, with one line."""
    try:
        yield
    except (Damaged, ContractError) as error:
        reason = str(error)
    except _UNREADABLE:
        reason = "it cannot be read"
    else:
        return
    raise StoreError(f"{path} is damaged: {reason}; remove it, or give `bench --retry-failed`")


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turns an OSError into a StoreError, with one line."""
    try:
        yield
    except OSError as error:
        raise StoreError(f"{error.strerror or error}: {error.filename or path}") from error

"""A results folder: all files of a bench. Each file is written atomically, and named by the key of a stage of a run.

manifest.json  the runs that were asked for, their settings, and the machine
results/       KEY.json: the result of a stage; the same run gives the same bytes
weights/       KEY.safetensors: the weights after meta-training
videos/        KEY.webp, KEY-still.webp: an evaluated agent on one test task; KEY.json: what they show
timings/       KEY.json: measured seconds; they differ from run to run
logs/          KEY.log: the output of the run's code; the middle of a long output is left out
tensorboard/   SCENARIO/AGENT-SEED-KEY/: scalars of meta-training; here KEY is its first 6 digits
scores.json    scores of all runs; the same runs give the same bytes
report.html, figures/
"""

from __future__ import annotations

import fcntl
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any, TypeVar

from mrl_bench.errors import MrlBenchError
from mrl_bench.results import Evaluation, TrainingResult, Video, canonical_json
from mrl_bench.runs.files import remove_unfinished, write_atomically

if TYPE_CHECKING:
    from torch import Tensor


T = TypeVar("T")

_ROOM = 2**24  # bytes that the files of a run may need


class StoreError(MrlBenchError):
    """A result could not be written or read. The run itself did not fail."""


class Store:
    """The files of a results folder, by the keys of their runs. Its methods raise StoreError."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @contextmanager
    def held(self) -> Iterator[None]:
        """Creates and locks the folder, and removes unfinished files of a bench that was killed."""
        with _explained(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = (self.folder / ".lock").open("w")
        with lock:  # the system releases it when this process ends
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise StoreError(f"another bench runs in {self.folder}") from None
            except OSError:
                pass  # the file system has no locks
            remove_unfinished(self.folder)
            yield

    def require_room(self) -> None:
        """Raises StoreError if the files of one more run cannot be written."""
        for kind in ("results", "weights", "timings", "tensorboard"):
            folder = self.folder / kind
            with _explained(folder):
                folder.mkdir(parents=True, exist_ok=True)
                with TemporaryFile(dir=folder) as file:  # has no name, so a kill leaves nothing
                    file.write(bytes(_ROOM))
                    file.flush()

    def evaluation(self, key: str) -> Evaluation | None:
        """The result of an "evaluate" stage, if it is finished."""
        return self._read("results", key, Evaluation.from_json)

    def put_evaluation(self, key: str, evaluation: Evaluation) -> None:
        self._write("results", key, evaluation.to_json())

    def forget(self, key: str) -> None:
        """Removes the result of a stage, so that it runs again."""
        with _explained(self._path("results", key)):
            self._path("results", key).unlink(missing_ok=True)

    def trained(self, key: str) -> TrainingResult | None:
        """The result of a "train" stage, if it is finished and has weights."""
        done = self._read("results", key, TrainingResult.from_json)
        return done if self.weights_path(key).exists() else None

    def put_training(self, key: str, weights: Mapping[str, Tensor], trained: TrainingResult) -> None:
        """Stores the weights and then the result, so that a finished stage has weights."""
        import torch
        from safetensors.torch import save

        # safetensors refuses tensors that share memory.
        copies = {
            name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
            for name, tensor in weights.items()
        }
        with _explained(self.weights_path(key)):
            write_atomically(self.weights_path(key), save(copies))
        self._write("results", key, trained.to_json())

    def weights(self, key: str, device: str) -> dict[str, Tensor]:
        from safetensors.torch import load_file

        weights: dict[str, Tensor] = load_file(self.weights_path(key), device=device)
        return weights

    def video(self, key: str) -> Video | None:
        """The video of a run by the key of its "evaluate" stage, if it has been recorded."""
        paths = self._video_paths(key)
        if not all(path.exists() for path in paths):
            return None
        with _explained(paths[0].parent):
            moving, still = (path.read_bytes() for path in paths)
        return self._read("videos", key, lambda facts: Video.from_json(facts, moving, still))

    def put_video(self, key: str, video: Video) -> None:
        """Stores the images and then the facts, so that a video with facts has images."""
        for path, data in zip(self._video_paths(key), (video.moving, video.still), strict=True):
            with _explained(path):
                write_atomically(path, data)
        self._write("videos", key, video.to_json())

    def _video_paths(self, key: str) -> tuple[Path, Path]:
        folder = self.folder / "videos"
        return folder / f"{key}.webp", folder / f"{key}-still.webp"

    def evaluation_path(self, key: str) -> Path:
        return self._path("results", key)

    def weights_path(self, key: str) -> Path:
        return self.folder / "weights" / f"{key}.safetensors"

    def log_path(self, key: str) -> Path:
        return self.folder / "logs" / f"{key}.log"

    def seconds(self, key: str) -> float | None:
        """Measured seconds of a stage, if it is finished."""
        return self._read("timings", key, lambda data: float(data["seconds"]))

    def put_seconds(self, key: str, seconds: float) -> None:
        self._write("timings", key, {"seconds": round(seconds, 3)})

    @contextmanager
    def tensorboard(self, name: str) -> Iterator[Callable[[Mapping[str, float], int], None]]:
        """A function that writes scalars (tag -> value, step) to the folder `name`, as in `Run.tensorboard_name`."""
        from torch.utils.tensorboard import SummaryWriter

        folder = self.folder / "tensorboard" / name
        with _explained(folder):
            for leftover in folder.glob("events.*"):  # of an attempt that was interrupted
                leftover.unlink()
            writer = SummaryWriter(str(folder))

        def write(values: Mapping[str, float], step: int) -> None:
            with _explained(folder):
                for tag, value in values.items():
                    writer.add_scalar(tag, value, step)

        try:
            yield write
        finally:
            with _explained(folder):
                writer.close()

    def _path(self, kind: str, key: str) -> Path:
        return self.folder / kind / f"{key}.json"

    def _read(self, kind: str, key: str, parse: Callable[[Any], T]) -> T | None:
        path = self._path(kind, key)
        with _explained(path):
            data = path.read_bytes() if path.exists() else None
        try:
            return None if data is None else parse(json.loads(data))
        except (ValueError, KeyError, TypeError, AttributeError):
            raise StoreError(f"{path} is damaged: remove it, and start the bench again") from None

    def _write(self, kind: str, key: str, data: Any) -> None:
        text = canonical_json(data)
        with _explained(self._path(kind, key)):
            write_atomically(self._path(kind, key), text)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turns an OSError into a StoreError, with one line."""
    try:
        yield
    except OSError as error:
        raise StoreError(f"{error.strerror or error}: {error.filename or path}") from error

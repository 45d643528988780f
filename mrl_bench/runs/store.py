"""A results folder: everything that a bench leaves behind, each file there whole or not at all.

manifest.json       what was asked for, and on what it ran
runs/         KEY.json: the canonical result of a stage; same run, same bytes
models/        KEY.safetensors: what an agent meta-learned
films/         KEY.json: an evaluated agent on one test task, as pictures
times/         KEY.json: measured seconds, which are never the same twice
logs/          KEY.log: what the code of the run printed, the middle left out where that is long
tensorboard/   SCENARIO/AGENT-SEED/: scalars of meta-training
scores.json     scores of all runs; canonical too
report.html, figures/
"""

from __future__ import annotations

import fcntl
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from mrl_bench.errors import MrlBenchError
from mrl_bench.results import Evaluation, TrainingResult, Video, canonical_json
from mrl_bench.runs.files import remove_unfinished, write_atomically

if TYPE_CHECKING:
    from torch import Tensor

    from mrl_bench.runs.run import Run

T = TypeVar("T")


class StoreError(MrlBenchError):
    """A result could not be written or read: no fault of the run whose result it is."""


class Store:
    """The results in a results folder, by the keys of their runs. Its methods raise StoreError."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @contextmanager
    def held(self) -> Iterator[None]:
        """Makes the folder, keeps other benches out of it, and clears away what a killed one left half written."""
        with _explained(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = (self.folder / ".lock").open("w")
        with lock:  # whichever way this process ends, the system lets go of it
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise StoreError(f"another bench runs in {self.folder}") from None
            except OSError:
                pass  # a file system that has no locks
            remove_unfinished(self.folder)
            yield

    def evaluation(self, key: str) -> Evaluation | None:
        """The result of an "evaluate" stage, if it is there."""
        return self._read("runs", key, Evaluation.from_json)

    def put_evaluation(self, key: str, evaluation: Evaluation) -> None:
        self._write("runs", key, evaluation.to_json())

    def forget(self, key: str) -> None:
        """Removes the result of a stage, so that it runs again."""
        with _explained(self._path("runs", key)):
            self._path("runs", key).unlink(missing_ok=True)

    def trained(self, key: str) -> TrainingResult | None:
        """The result of a "train" stage, if it is done and its weights are there."""
        done = self._read("runs", key, TrainingResult.from_json)
        return done if self.model_path(key).exists() else None

    def put_training(self, key: str, weights: Mapping[str, Tensor], trained: TrainingResult) -> None:
        """Stores weights and then the result, so that a stage that is done has its weights."""
        import torch
        from safetensors.torch import save

        # Copies, because two names may stand for one tensor.
        whole = {
            name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
            for name, tensor in weights.items()
        }
        with _explained(self.model_path(key)):
            write_atomically(self.model_path(key), save(whole))
        self._write("runs", key, trained.to_json())

    def weights(self, key: str, device: str) -> dict[str, Tensor]:
        from safetensors.torch import load_file

        weights: dict[str, Tensor] = load_file(self.model_path(key), device=device)
        return weights

    def film(self, key: str) -> Video | None:
        """The film of a run by the key of its "evaluate" stage, if it was made."""
        return self._read("films", key, Video.from_json)

    def put_film(self, key: str, film: Video) -> None:
        self._write("films", key, film.to_json())

    def evaluation_path(self, key: str) -> Path:
        return self._path("runs", key)

    def model_path(self, key: str) -> Path:
        return self.folder / "models" / f"{key}.safetensors"

    def log_path(self, key: str) -> Path:
        return self.folder / "logs" / f"{key}.log"

    def seconds(self, key: str) -> float | None:
        """Measured seconds of a stage."""
        return self._read("times", key, lambda data: float(data["seconds"]))

    def put_seconds(self, key: str, seconds: float) -> None:
        self._write("times", key, {"seconds": round(seconds, 3)})

    @contextmanager
    def tensorboard(self, run: Run) -> Iterator[Callable[[Mapping[str, float], int], None]]:
        """A function that writes scalars (tag -> value, step) of a run's meta-training."""
        from torch.utils.tensorboard import SummaryWriter

        folder = self.folder / "tensorboard" / run.scenario.id / f"{run.agent.name}-{run.seed}"
        with _explained(folder):
            for leftover in folder.glob("events.*"):  # of an attempt that was cut off
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
            raise StoreError(f"{path} is damaged: remove it, and its run runs again") from None

    def _write(self, kind: str, key: str, data: Any) -> None:
        text = canonical_json(data)
        with _explained(self._path(kind, key)):
            write_atomically(self._path(kind, key), text)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turns what can go wrong with a file into an error of one line."""
    try:
        yield
    except OSError as error:
        raise StoreError(f"{error.strerror or error}: {error.filename or path}") from error

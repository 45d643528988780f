"""A run folder: everything that a bench leaves behind, each file there whole or not at all.

run.json       what was asked for, and on what it ran
units/         KEY.json: the canonical result of a stage; same unit, same bytes
models/        KEY.safetensors: what an agent meta-learned
times/         KEY.json: measured seconds, which are never the same twice
logs/          KEY.log: what the code of the unit printed
tensorboard/   SCENARIO/AGENT-SEED/: scalars of meta-training
board.json     scores of all units; canonical too
report.html, figures/
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mrl_bench.files import write_atomically
from mrl_bench.results import Evaluation, canonical_json

if TYPE_CHECKING:
    from torch import Tensor

    from mrl_bench.unit import Unit


class Store:
    """The results in a run folder, by the keys of their units."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def evaluation(self, key: str) -> Evaluation | None:
        """The result of an "evaluate" stage, if it is there."""
        data = self._read("units", key)
        return Evaluation.from_json(data) if data else None

    def put_evaluation(self, key: str, evaluation: Evaluation) -> None:
        self._write("units", key, evaluation.to_json())

    def forget(self, key: str) -> None:
        """Removes the result of a stage, so that it runs again."""
        self._path("units", key).unlink(missing_ok=True)

    def trained(self, key: str) -> int | None:
        """Env steps that a "train" stage used, if it is done."""
        data = self._read("units", key)
        return int(data["train_env_steps"]) if data else None

    def put_trained(self, key: str, weights: Mapping[str, Tensor], env_steps: int) -> None:
        """Stores weights and then the result, so that a stage that is done has its weights."""
        from safetensors.torch import save

        whole = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
        write_atomically(self.model_path(key), save(whole))
        self._write("units", key, {"train_env_steps": env_steps})

    def weights(self, key: str, device: str) -> dict[str, Tensor]:
        from safetensors.torch import load_file

        weights: dict[str, Tensor] = load_file(self.model_path(key), device=device)
        return weights

    def model_path(self, key: str) -> Path:
        return self.folder / "models" / f"{key}.safetensors"

    def log_path(self, key: str) -> Path:
        return self.folder / "logs" / f"{key}.log"

    def seconds(self, key: str) -> float | None:
        """Measured seconds of a stage."""
        data = self._read("times", key)
        return float(data["seconds"]) if data else None

    def put_seconds(self, key: str, seconds: float) -> None:
        self._write("times", key, {"seconds": round(seconds, 3)})

    @contextmanager
    def tensorboard(self, unit: Unit) -> Iterator[Callable[[Mapping[str, float], int], None]]:
        """A function that writes scalars (tag -> value, step) of a unit's meta-training."""
        from torch.utils.tensorboard import SummaryWriter

        folder = self.folder / "tensorboard" / unit.scenario.id / f"{unit.agent.name}-{unit.seed}"
        for leftover in folder.glob("events.*"):  # of an attempt that was cut off
            leftover.unlink()
        writer = SummaryWriter(str(folder))

        def write(values: Mapping[str, float], step: int) -> None:
            for tag, value in values.items():
                writer.add_scalar(tag, value, step)

        try:
            yield write
        finally:
            writer.close()

    def _path(self, kind: str, key: str) -> Path:
        return self.folder / kind / f"{key}.json"

    def _read(self, kind: str, key: str) -> Any:
        path = self._path(kind, key)
        return json.loads(path.read_bytes()) if path.exists() else None

    def _write(self, kind: str, key: str, data: Any) -> None:
        write_atomically(self._path(kind, key), canonical_json(data))

"""What a run of work leaves behind, and its form on disk.

A run is one (scenario, agent, seed, stage). Its result is canonical: the same run gives the same bytes, on the same
machine, however often it is run. Measured times are no part of it (see `runs.py`).
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from math import isfinite, nan
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrl_bench.types import Ratio


@dataclass(frozen=True)
class Curve:
    """The adaptation curves of one agent on one split: B tasks, K points that are scored, N scored episodes each."""

    k: tuple[int, ...]  # (K,) adaptation episodes of each task before each point, starting with 0
    returns: NDArray[np.float64]  # (B, K, N) undiscounted return of each scored episode
    env_steps: NDArray[np.float64]  # (B, K) env steps of adaptation data that each task had given by then
    failed: NDArray[
        np.int64
    ]  # (B, K) scored episodes, and adaptation episodes so far, in which the simulation broke
    # What the family measures beside the return, name -> (B, K, N); see `mrl_bench.family.HasMetrics`.
    metrics: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    reported: Mapping[str, Ratio] = field(default_factory=dict)  # what a board shows of them

    def __post_init__(self) -> None:
        named = {name for ratio in self.reported.values() for name in ratio if name is not None}
        if missing := sorted(named - set(self.metrics)):
            raise ValueError(f"the family reports what it does not measure: {', '.join(missing)}")

    def to_json(self) -> dict[str, Any]:
        mappings = {
            "metrics": {name: value.tolist() for name, value in self.metrics.items()},
            "reported": [[name, *ratio] for name, ratio in self.reported.items()],  # a list keeps the order
        }
        return {name: np.asarray(value).tolist() for name, value in vars(self).items()} | mappings

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Curve:
        return Curve(
            k=tuple(data["k"]),
            returns=np.asarray(data["returns"], dtype=np.float64),
            env_steps=np.asarray(data["env_steps"], dtype=np.float64),
            failed=np.asarray(data["failed"], dtype=np.int64),
            metrics={
                name: np.asarray(value, dtype=np.float64) for name, value in data.get("metrics", {}).items()
            },
            reported={name: Ratio(*ratio) for name, *ratio in data.get("reported", [])},
        )


@dataclass(frozen=True)
class LearningCurve:
    """What one agent scored after the first adaptation round while it meta-trained: B test tasks, M probes."""

    k: int  # adaptation episodes of each task in that round
    env_steps: NDArray[np.int64]  # (M,) of meta-training before each probe, rising
    returns: NDArray[np.float64]  # (B, M) mean undiscounted return of the scored episodes
    failed: NDArray[
        np.int64
    ]  # (B, M) scored episodes, and adaptation episodes, in which the simulation broke

    def to_json(self) -> dict[str, Any]:
        return {name: np.asarray(value).tolist() for name, value in vars(self).items()}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> LearningCurve:
        return LearningCurve(
            k=data["k"],
            env_steps=np.asarray(data["env_steps"], dtype=np.int64),
            returns=np.asarray(data["returns"], dtype=np.float64),
            failed=np.asarray(data["failed"], dtype=np.int64),
        )


@dataclass(frozen=True)
class TrainingResult:
    """What meta-training left behind beside the weights."""

    env_steps: int  # counted by the harness
    learning_curve: LearningCurve | None = None  # None for anchors, and where the run failed
    model_errors: Mapping[str, float] = field(
        default_factory=dict
    )  # what was logged under "model/" -> its last value

    def to_json(self) -> dict[str, Any]:
        return {
            "env_steps": self.env_steps,
            "learning_curve": self.learning_curve and self.learning_curve.to_json(),
            "model_errors": {tag: x if isfinite(x) else None for tag, x in self.model_errors.items()},
        }

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> TrainingResult:
        return TrainingResult(
            env_steps=int(data["env_steps"]),
            learning_curve=data["learning_curve"] and LearningCurve.from_json(data["learning_curve"]),
            model_errors={tag: nan if x is None else float(x) for tag, x in data["model_errors"].items()},
        )


@dataclass(frozen=True)
class Evaluation:
    """What one trained agent (scenario, agent, seed) scored. `error` is set, and `curves` empty, if the run failed."""

    scenario: str  # scenario id
    digest: str  # of the scenario; evaluations with different digests never share a table
    agent: str  # the name it has on the board
    is_reference: bool  # random, blind and oracle: they normalise the scores and are not ranked
    seed: int
    training: TrainingResult
    curves: Mapping[str, Curve]  # split ("train", "test", "ood") -> curve
    error: str | None = None

    def to_json(self) -> dict[str, Any]:
        curves = {name: curve.to_json() for name, curve in self.curves.items()}
        return asdict(self) | {"training": self.training.to_json(), "curves": curves}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Evaluation:
        curves = {name: Curve.from_json(curve) for name, curve in data["curves"].items()}
        return Evaluation(
            **{**data, "training": TrainingResult.from_json(data["training"]), "curves": curves}
        )


@dataclass(frozen=True)
class Video:
    """Two scored episodes of one test task side by side, before any adaptation and after all of it."""

    agent: str
    seed: int  # of its meta-training
    task: str  # the parameters in which the test tasks differ
    episodes: int  # of adaptation in between
    returns: tuple[float, float]  # undiscounted, before and after
    seconds: tuple[float, float]  # simulated, until the episode ended
    width: int  # [px] of both pictures together
    height: int
    moving: bytes  # WebP
    still: bytes  # its last picture

    def to_json(self) -> dict[str, Any]:
        images = {name: b64encode(getattr(self, name)).decode() for name in ("moving", "still")}
        return asdict(self) | images

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Video:
        pairs = {name: tuple(data[name]) for name in ("returns", "seconds")}
        images = {name: b64decode(data[name], validate=True) for name in ("moving", "still")}
        return Video(**{**data, **pairs, **images})


def canonical_json(value: Any) -> bytes:
    """The one JSON text of a value: keys sorted, no spaces, UTF-8, shortest floats, no NaN; ends with a newline."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode() + b"\n"

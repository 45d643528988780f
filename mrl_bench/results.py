"""Results of runs, and their JSON form.

A run is one agent with one seed on one scenario. Its results are canonical: on the same machine, the same run gives the
same bytes. So measured times are not part of them (see `runs/store.py`).

Each `from_json` converts every value to the type of its field, so a result that was written by `to_json` comes back as
it was, and one that was not (with "12" for 12, or an unknown key) differs from what was read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isfinite, nan
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrl_bench.types import Ratio

# They run on every scenario, and their returns normalise the scores. They are not ranked.
REFERENCE_AGENTS = ("random", "blind", "oracle")


@dataclass(frozen=True)
class Online:
    """The price of adaptation: the adaptation episodes of one agent on one split, B tasks with M episodes each.

    They are in the order played; those of a round that are played at the same time, by environment instance.
    """

    returns: NDArray[np.float64]  # (B, M) undiscounted
    failed: NDArray[np.int64]  # (B, M) 1 if the episode failed, else 0
    # Name -> (B, M), the same as of the scored episodes; none if M = 0.
    metrics: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        shape = self.returns.shape
        same = all(np.shape(value) == shape for value in (self.failed, *self.metrics.values()))
        if len(shape) != 2 or not same:
            raise ValueError("the values of adaptation episodes must all have the shape (B, M)")

    def to_json(self) -> dict[str, Any]:
        return {
            "returns": self.returns.tolist(),
            "failed": self.failed.tolist(),
            "metrics": {name: value.tolist() for name, value in self.metrics.items()},
        }

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Online:
        return Online(
            returns=np.asarray(data["returns"], dtype=np.float64),
            failed=np.asarray(data["failed"], dtype=np.int64),
            metrics=_arrays(data["metrics"]),
        )


@dataclass(frozen=True)
class Curve:
    """The adaptation curve of one agent on one split: B tasks, K scored values of k, N scored episodes at each."""

    k: tuple[int, ...]  # (K,) adaptation episodes on each task before scoring, ascending
    returns: NDArray[np.float64]  # (B, K, N) undiscounted return of each scored episode
    env_steps: NDArray[np.float64]  # (B, K) env steps of adaptation on each task so far
    # (B, K) failed episodes: those scored at this k, and all adaptation episodes so far.
    failed: NDArray[np.int64]
    online: Online  # the adaptation episodes, of which there are M = k[-1] on each task
    # Further measurements of the family, name -> (B, K, N); see `mrl_bench.family.HasMetrics`.
    metrics: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    reported: Mapping[str, Ratio] = field(default_factory=dict)  # those that tables show

    def __post_init__(self) -> None:
        cells = self.returns.shape[:2]
        same = all(np.shape(value) == cells for value in (self.env_steps, self.failed))
        if self.returns.ndim != 3 or not same or cells[1] != len(self.k):
            raise ValueError("the arrays of an adaptation curve must have the shapes (B, K, N) and (B, K)")
        if any(np.shape(value) != self.returns.shape for value in self.metrics.values()):
            raise ValueError("each metric of an adaptation curve must have the shape (B, K, N)")
        if self.online.returns.shape != (cells[0], self.k[-1]):
            raise ValueError(
                f"an adaptation curve up to k = {self.k[-1]} must have as many adaptation episodes"
            )
        if self.k[-1] and set(self.online.metrics) != set(self.metrics):
            raise ValueError("scored episodes and adaptation episodes must have the same metrics")
        named = {name for ratio in self.reported.values() for name in ratio.measured}
        if missing := sorted(named - set(self.metrics)):
            raise ValueError(f"the family reports metrics that it does not measure: {', '.join(missing)}")

    def to_json(self) -> dict[str, Any]:
        mappings = {
            "online": self.online.to_json(),
            "metrics": {name: value.tolist() for name, value in self.metrics.items()},
            "reported": [[name, *ratio] for name, ratio in self.reported.items()],  # a list keeps the order
        }
        arrays = {name: value for name, value in vars(self).items() if name not in mappings}
        return {name: np.asarray(value).tolist() for name, value in arrays.items()} | mappings

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Curve:
        return Curve(
            k=tuple(map(int, data["k"])),
            returns=np.asarray(data["returns"], dtype=np.float64),
            env_steps=np.asarray(data["env_steps"], dtype=np.float64),
            failed=np.asarray(data["failed"], dtype=np.int64),
            online=Online.from_json(data["online"]),
            metrics=_arrays(data["metrics"]),
            reported={name: ratio_from_json(*values) for name, *values in data["reported"]},
        )


@dataclass(frozen=True)
class LearningCurve:
    """Returns during meta-training, after one adaptation round: B tasks of `train`, M periodic evaluations."""

    k: int  # adaptation episodes on each task in that round
    env_steps: NDArray[np.int64]  # (M,) env steps of meta-training before each evaluation, ascending
    returns: NDArray[np.float64]  # (B, M) mean undiscounted return of the scored episodes
    failed: NDArray[np.int64]  # (B, M) failed scored episodes and adaptation episodes

    def to_json(self) -> dict[str, Any]:
        return {name: np.asarray(value).tolist() for name, value in vars(self).items()}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> LearningCurve:
        return LearningCurve(
            k=int(data["k"]),
            env_steps=np.asarray(data["env_steps"], dtype=np.int64),
            returns=np.asarray(data["returns"], dtype=np.float64),
            failed=np.asarray(data["failed"], dtype=np.int64),
        )


@dataclass(frozen=True)
class TrainingResult:
    """The result of meta-training, apart from the weights."""

    env_steps: int  # of meta-training, counted by the harness
    learning_curve: LearningCurve | None = None  # None for reference agents and failed runs
    # Last value of each scalar that the agent logged under "model/", by its name there.
    model_errors: Mapping[str, float] = field(default_factory=dict)
    # Files that were imported dynamically -> SHA-256; see `mrl_bench.runs.code`.
    sources: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return {
            "env_steps": self.env_steps,
            "learning_curve": self.learning_curve and self.learning_curve.to_json(),
            "model_errors": {tag: x if isfinite(x) else None for tag, x in self.model_errors.items()},
            **_if_any("sources", self.sources),
        }

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> TrainingResult:
        return TrainingResult(
            env_steps=int(data["env_steps"]),
            learning_curve=data["learning_curve"] and LearningCurve.from_json(data["learning_curve"]),
            model_errors={tag: nan if x is None else float(x) for tag, x in data["model_errors"].items()},
            sources=_sources(data),
        )


def _sources(data: Mapping[str, Any]) -> dict[str, str]:
    return {str(path): str(digest) for path, digest in data.get("sources", {}).items()}


def _if_any(name: str, values: Mapping[str, str]) -> dict[str, Any]:
    return {name: dict(values)} if values else {}


@dataclass(frozen=True)
class Evaluation:
    """The result of one run (scenario, agent, seed). If it failed, `error` is set and `curves` is empty."""

    scenario: str  # scenario id
    digest: str  # of the scenario; scores of different digests are never compared
    agent: str  # its name in the suite and in tables
    is_reference: bool  # random, blind, oracle: they normalise scores and are not ranked
    seed: int
    training: TrainingResult
    curves: Mapping[str, Curve]  # split ("train", "test", "ood") -> curve
    error: str | None = None
    sources: Mapping[str, str] = field(default_factory=dict)  # as in TrainingResult

    def to_json(self) -> dict[str, Any]:
        curves = {name: curve.to_json() for name, curve in self.curves.items()}
        values = vars(self) | {"training": self.training.to_json(), "curves": curves}
        del values["sources"]
        return values | _if_any("sources", self.sources)

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Evaluation:
        return Evaluation(
            scenario=str(data["scenario"]),
            digest=str(data["digest"]),
            agent=str(data["agent"]),
            is_reference=bool(data["is_reference"]),
            seed=int(data["seed"]),
            training=TrainingResult.from_json(data["training"]),
            curves={name: Curve.from_json(curve) for name, curve in data["curves"].items()},
            error=_text(data["error"]),
            sources=_sources(data),
        )


@dataclass(frozen=True)
class Video:
    """Two scored episodes of one test task next to each other, before adaptation and after k adaptation episodes."""

    agent: str
    seed: int  # of its meta-training
    task: str  # the parameters in which the test tasks differ
    episodes: int  # k: adaptation episodes between the two
    returns: tuple[float, float]  # undiscounted, before and after
    seconds: tuple[float, float]  # simulated, until the episode ended
    width: int  # [px] of both episodes together
    height: int
    moving: bytes  # animated WebP
    still: bytes  # its last frame, WebP

    def to_json(self) -> dict[str, Any]:
        """What the video shows, without its images."""
        facts = {name: value for name, value in vars(self).items() if name not in ("moving", "still")}
        return facts | {"returns": list(self.returns), "seconds": list(self.seconds)}

    @staticmethod
    def from_json(data: Mapping[str, Any], moving: bytes, still: bytes) -> Video:
        return Video(
            agent=str(data["agent"]),
            seed=int(data["seed"]),
            task=str(data["task"]),
            episodes=int(data["episodes"]),
            returns=_pair(data["returns"]),
            seconds=_pair(data["seconds"]),
            width=int(data["width"]),
            height=int(data["height"]),
            moving=moving,
            still=still,
        )


def ratio_from_json(metric: Any, per: Any, low: Any, high: Any) -> Ratio:
    low, high = (None if bound is None else float(bound) for bound in (low, high))
    return Ratio(str(metric), _text(per), low, high)


def _arrays(data: Mapping[str, Any]) -> dict[str, NDArray[np.float64]]:
    return {str(name): np.asarray(value, dtype=np.float64) for name, value in data.items()}


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _pair(value: Any) -> tuple[float, float]:
    first, second = value
    return float(first), float(second)


def canonical_json(value: Any) -> bytes:
    """The one JSON text of a value: keys sorted, no spaces, UTF-8, shortest floats, no NaN; ends with a newline."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode() + b"\n"

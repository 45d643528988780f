"""Returns as arrays in a safetensors file: exact, and a twentieth of their JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrl_bench.results import Curve, Online
from mrl_bench.types import Ratio

_NARROWER = {"f": (np.float32,), "i": (np.int8, np.int16, np.int32)}  # kind of numbers -> smaller types
_METRICS = "metrics."


def pack(runs: Sequence[Mapping[str, Curve]]) -> bytes:
    """The adaptation curves of S runs on one scenario, split -> curve each.

    Arrays have the shapes of `Curve` behind a first axis (S,), each in the smallest type that holds it exactly.
    """
    from safetensors.numpy import save

    arrays: dict[str, NDArray[Any]] = {}
    for split in sorted({split for run in runs for split in run}):
        named = [_named(run[split]) for run in runs]
        arrays |= {f"{split}.{name}": _narrow(np.stack([each[name] for each in named])) for name in named[0]}
    return save(arrays)


def _named(curve: Curve) -> dict[str, NDArray[Any]]:
    found: dict[str, NDArray[Any]] = {"env_steps": curve.env_steps}
    parts: dict[str, Curve | Online] = {"": curve, "online.": curve.online}
    for part, each in parts.items():
        found |= {f"{part}returns": each.returns, f"{part}failed": each.failed}
        found |= {f"{part}{_METRICS}{name}": values for name, values in each.metrics.items()}
    return found


def _narrow(array: NDArray[Any]) -> NDArray[Any]:
    for dtype in _NARROWER[array.dtype.kind]:
        with np.errstate(over="ignore"):
            smaller = array.astype(dtype)
        if np.array_equal(smaller.astype(array.dtype), array):
            return np.ascontiguousarray(smaller)
    return np.ascontiguousarray(array)


def unpack(
    data: bytes, runs: int, k: tuple[int, ...], reported: Mapping[str, Ratio]
) -> list[dict[str, Curve]]:
    """The curves of `pack`.

    Args:
        data: what `pack` returned.
        runs: S.
        k: adaptation episodes before each point.
        reported: the metrics that tables show.

    Raises:
        ValueError: the data are something else.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        arrays = load(data)
    except SafetensorError:
        raise ValueError("it is no safetensors file") from None
    by_split: dict[str, dict[str, NDArray[Any]]] = {}
    for name, array in arrays.items():
        split, _, rest = name.partition(".")
        if array.ndim == 0 or len(array) != runs:
            raise ValueError(f"{name} is not of {runs} runs")
        whole = np.int64 if rest in ("failed", "online.failed") else np.float64
        by_split.setdefault(split, {})[rest] = array.astype(whole, copy=False)
    try:
        return [
            {split: _curve(each, run, k, reported) for split, each in sorted(by_split.items())}
            for run in range(runs)
        ]
    except KeyError as error:
        raise ValueError(f"it has no {error.args[0]}") from None


def _curve(
    arrays: Mapping[str, NDArray[Any]], run: int, k: tuple[int, ...], reported: Mapping[str, Ratio]
) -> Curve:
    def metrics(part: str) -> dict[str, NDArray[np.float64]]:
        start = f"{part}{_METRICS}"
        return {
            name.removeprefix(start): array[run] for name, array in arrays.items() if name.startswith(start)
        }

    return Curve(
        k=k,
        returns=arrays["returns"][run],
        env_steps=arrays["env_steps"][run],
        failed=arrays["failed"][run],
        online=Online(arrays["online.returns"][run], arrays["online.failed"][run], metrics("online.")),
        metrics=metrics(""),
        reported=reported,
    )

"""The returns of a run as arrays in a safetensors file: exact, and a twentieth of their JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mrl_bench.results import Curve, Online, ratio_from_json

_NARROWER = {"f": (np.float32,), "i": (np.int8, np.int16, np.int32)}  # kind of numbers -> smaller types


def pack(curves: Mapping[str, Curve]) -> bytes:
    """The arrays of adaptation curves, split -> curve, each in the smallest type that holds it exactly."""
    from safetensors.numpy import save

    arrays: dict[str, NDArray[Any]] = {}
    for split, curve in curves.items():
        arrays[f"{split}.env_steps"] = curve.env_steps
        parts: dict[str, Curve | Online] = {"": curve, "online.": curve.online}
        for part, each in parts.items():
            arrays |= {f"{split}.{part}returns": each.returns, f"{split}.{part}failed": each.failed}
            arrays |= {f"{split}.{part}metrics.{name}": x for name, x in each.metrics.items()}
    return save({name: _narrow(array) for name, array in arrays.items()})


def _narrow(array: NDArray[Any]) -> NDArray[Any]:
    for dtype in _NARROWER[array.dtype.kind]:
        with np.errstate(over="ignore"):
            smaller = array.astype(dtype)
        if np.array_equal(smaller.astype(array.dtype), array):
            return np.ascontiguousarray(smaller)
    return np.ascontiguousarray(array)


def unpack(data: bytes, k: Sequence[int], reported: Sequence[Any] | None) -> dict[str, Curve]:
    """The curves of `pack`.

    Args:
        data: what `pack` returned.
        k: adaptation episodes before each point.
        reported: the metrics that tables show, as in `References.to_json`; None leaves out all metrics.

    Raises:
        ValueError: the data are something else.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        arrays = load(data)
    except SafetensorError:
        raise ValueError("it is no safetensors file") from None
    ratios = {str(name): ratio_from_json(*values) for name, *values in reported or ()}
    measured = [] if reported is None else sorted(name for name in arrays if "metrics." in name)

    def part(prefix: str, name: str, dtype: type) -> NDArray[Any]:
        if f"{prefix}{name}" not in arrays:
            raise ValueError(f"it has no {prefix}{name}")
        return arrays[f"{prefix}{name}"].astype(dtype, copy=False)

    def metrics(prefix: str) -> dict[str, NDArray[np.float64]]:
        start = f"{prefix}metrics."
        return {
            name.removeprefix(start): arrays[name].astype(np.float64)
            for name in measured
            if name.startswith(start)
        }

    return {
        split: Curve(
            k=tuple(k),
            returns=part(f"{split}.", "returns", np.float64),
            env_steps=part(f"{split}.", "env_steps", np.float64),
            failed=part(f"{split}.", "failed", np.int64),
            online=Online(
                returns=part(f"{split}.online.", "returns", np.float64),
                failed=part(f"{split}.online.", "failed", np.int64),
                metrics=metrics(f"{split}.online."),
            ),
            metrics=metrics(f"{split}."),
            reported=ratios,
        )
        for split in sorted({name.partition(".")[0] for name in arrays})
    }

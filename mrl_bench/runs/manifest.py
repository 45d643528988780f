"""manifest.json: the runs of a bench, and the machine."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mrl_bench.errors import MrlBenchError, UsageError
from mrl_bench.runs.files import write_atomically
from mrl_bench.runs.provenance import git_commit, machine, package_versions
from mrl_bench.runs.run import Run
from mrl_bench.runs.store import Store
from mrl_bench.scenario.suite import Suite

_FACTS = ("suite", "doc", "created", "commit", "machine", "device", "docs")


def write_manifest(store: Store, suite: Suite, runs: Sequence[Run]) -> None:
    """Writes the runs, in the suite's order, with their configs and keys, and the versions and machine."""
    order = [entry.scenario.id for entry in suite.entries]
    simulators = {entry.scenario.family.simulator for entry in suite.entries}
    plan = {
        "suite": suite.id,
        "doc": suite.doc,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": git_commit(),
        "machine": machine(),
        "device": _device(runs[0].device),
        "versions": package_versions() | {"simulators": sorted(simulators)},
        "docs": {entry.scenario.id: entry.scenario.doc for entry in suite.entries},
        "runs": [
            {
                **run.to_json(),
                "config": asdict(run.config),
                "train": run.key("train"),
                "evaluate": run.key("evaluate"),
            }
            for run in sorted(runs, key=lambda run: order.index(run.scenario.id))
        ],
    }
    text = json.dumps(plan, indent=1, ensure_ascii=False) + "\n"
    write_atomically(store.folder / "manifest.json", text.encode())


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a results folder, as `write_manifest` wrote it.

    Raises:
        UsageError: there is no manifest.
        MrlBenchError: the manifest is damaged.
    """
    path = folder / "manifest.json"
    if not path.is_file():
        raise UsageError(f"{folder} holds no bench: there is no manifest.json in it")
    try:
        manifest: dict[str, Any] = json.loads(path.read_bytes())
        for run in manifest["runs"]:
            _ = [run[key] for key in ("scenario", "seed", "train", "evaluate")]
            _ = [run["agent"][key] for key in ("name", "agent")]
        _ = [manifest[key] for key in _FACTS], manifest["versions"]["simulators"]
    except (ValueError, KeyError, TypeError):
        raise MrlBenchError(f"{path} is damaged: run the bench again to rewrite it") from None
    return manifest


def _device(name: str) -> str:
    """The device in a few words: of a GPU its model too."""
    if name == "cpu":
        return name
    import torch

    return f"{name} ({torch.cuda.get_device_name()})"

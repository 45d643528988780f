"""manifest.json: the runs of a bench, and the machine."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, TypeAdapter

from mrl_bench.errors import MrlBenchError, UsageError
from mrl_bench.results import canonical_json
from mrl_bench.runs.files import inside, read_file, write_atomically
from mrl_bench.runs.provenance import git_commit, machine, package_versions
from mrl_bench.runs.run import Run
from mrl_bench.runs.store import MAX_BYTES, Store
from mrl_bench.runs.terms import Terms
from mrl_bench.scenario import Scenario
from mrl_bench.scenario.description import Description
from mrl_bench.scenario.references import shipped_references
from mrl_bench.scenario.suite import AgentSpec, Suite, suites_dir

Key = Annotated[str, Field(pattern=r"^[\w-]{1,64}$")]


@dataclass(frozen=True)
class _PlannedRun:
    """What readers rely on in an entry of "runs"; see `_entry`."""

    scenario: str  # the path of its file
    options: dict[str, Any]
    budget: dict[str, int]
    protocol: dict[str, int | list[int]]
    digest: str
    simulator: str
    agent: AgentSpec
    seed: int
    device: str
    train: Key
    evaluate: Key
    terms: Terms


@dataclass(frozen=True)
class _Manifest:
    """What readers rely on in a manifest."""

    suite: str
    suite_file: str | None  # as `--suite` takes it; None for single runs
    doc: str
    created: str
    commit: str
    machine: str
    device: str
    scenarios: dict[str, Description]  # by digest
    versions: dict[str, str | list[str]]
    references: dict[str, Any]  # digest of a scenario -> `References`, where they ship
    runs: list[_PlannedRun]
    sha256: str  # of the rest, as canonical JSON


def write_manifest(store: Store, suite: Suite, runs: Sequence[Run]) -> None:
    """Writes the runs, in the suite's order, with their configs and keys, and the versions and machine."""
    order = [entry.scenario.id for entry in suite.entries]
    simulators = {entry.scenario.simulator for entry in suite.entries}
    plan = {
        "suite": suite.id,
        "suite_file": suite.id if suite.path.parent == suites_dir() else str(suite.path),
        "doc": suite.doc,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": git_commit(),
        "machine": machine(),
        "device": _device(runs[0].device),
        "versions": package_versions() | {"simulators": sorted(simulators)},
        "scenarios": {
            entry.scenario.digest: asdict(Description.of(entry.scenario)) for entry in suite.entries
        },
        "references": {k: v for entry in suite.entries for k, v in _references(entry.scenario).items()},
        "runs": [_entry(run) for run in sorted(runs, key=lambda run: order.index(run.scenario.id))],
    }
    _write(store, plan)


def share_manifest(store: Store, suite: Suite, runs: Sequence[Run]) -> None:
    """Writes the manifest as `write_manifest` does, unless another shard has written that of the same runs.

    Raises:
        UsageError: the folder's manifest is of other runs.
    """
    with _held(store):
        if not (store.folder / "manifest.json").is_file():
            write_manifest(store, suite, runs)
        found = {entry["evaluate"] for entry in read_manifest(store.folder)["runs"]}
        if found != {run.key("evaluate") for run in runs}:
            raise UsageError(
                f"{store.folder} holds other runs than this shard plans: their code, settings or number differ; "
                "start all shards from the same code, with the same options, in a new folder"
            )


def add_to_manifest(store: Store, run: Run) -> None:
    """Adds a single run, or replaces the one with its agent's name and seed on the same scenario."""
    store.folder.mkdir(parents=True, exist_ok=True)
    with _held(store):
        _add(store, run)


@contextmanager
def _held(store: Store) -> Iterator[None]:
    """Locks the manifest: single runs and shards may start at the same time."""
    with inside(store.folder, ".manifest.lock").open("a") as lock:
        with suppress(OSError):  # the file system has no locks
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _add(store: Store, run: Run) -> None:
    entry, known = _entry(run), None
    if (store.folder / "manifest.json").is_file():
        known = read_manifest(store.folder)
    manifest = known or {
        "suite": "single runs",
        "suite_file": None,
        "doc": "",
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": git_commit(),
        "machine": machine(),
        "device": _device(run.device),
        "versions": package_versions() | {"simulators": []},
        "scenarios": {},
        "references": {},
        "runs": [],
    }
    if any(other["evaluate"] == entry["evaluate"] for other in manifest["runs"]):
        return
    manifest["runs"] = [other for other in manifest["runs"] if _place(other) != _place(entry)] + [entry]
    manifest["scenarios"][run.scenario.digest] = asdict(Description.of(run.scenario))
    manifest["references"] |= _references(run.scenario)
    versions = manifest["versions"]
    versions["simulators"] = sorted({*versions["simulators"], run.scenario.simulator})
    _write(store, manifest)


def _references(scenario: Scenario) -> dict[str, Any]:
    """The references that ship with a scenario, by its digest, so that a results folder keeps its scores."""
    found = shipped_references(scenario)
    return {scenario.digest: found.to_json()} if found else {}


def _entry(run: Run) -> dict[str, Any]:
    keys = {"train": run.key("train"), "evaluate": run.key("evaluate")}
    return {**run.to_json(), "config": dict(run.settings), **keys, "terms": run.terms.to_json()}


def _place(entry: Mapping[str, Any]) -> tuple[Any, ...]:
    """Two runs with the same place cannot stand in one table."""
    return entry.get("digest"), entry["agent"]["name"], entry["seed"]


def _write(store: Store, manifest: Mapping[str, Any]) -> None:
    text = canonical_json({**manifest, "sha256": _hash(manifest)})
    write_atomically(inside(store.folder, "manifest.json"), text)


def _hash(manifest: Mapping[str, Any]) -> str:
    return sha256(canonical_json(manifest)).hexdigest()


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a results folder, as `write_manifest` wrote it; ids and names in it match their patterns.

    Raises:
        UsageError: there is no manifest.
        MrlBenchError: the manifest is damaged.
    """
    path = folder / "manifest.json"
    if not path.is_file():
        reason = "there is no manifest.json in it" if folder.is_dir() else "there is no such folder"
        raise UsageError(f"{folder} holds no bench: {reason}")
    try:
        data = read_file(path, MAX_BYTES) or b""
        _reader().validate_json(data, strict=True)
        manifest: dict[str, Any] = json.loads(data)
        whole = manifest.pop("sha256") == _hash(manifest)
    except (ValueError, RecursionError):
        whole = False
    if not whole:
        raise damaged_manifest(folder)
    return manifest


def damaged_manifest(folder: Path) -> MrlBenchError:
    return MrlBenchError(
        f"{folder / 'manifest.json'} is damaged: run the bench again to rewrite it, or remove it"
    )


@cache
def _reader() -> TypeAdapter[_Manifest]:
    return TypeAdapter(_Manifest)


def _device(name: str) -> str:
    """The device in a few words: of a GPU its model too."""
    if name == "cpu":
        return name
    import torch

    return f"{name} ({torch.cuda.get_device_name()})"

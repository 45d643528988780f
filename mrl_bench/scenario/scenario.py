"""A scenario: a task family, how its parameters are distributed in each split, and the terms of comparison.

    scenario.yaml -> ScenarioSchema -> Scenario -> TaskBatch

This module imports neither torch nor a simulator; a family declares its parameters without them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from mrl_bench import registry
from mrl_bench.errors import MissingPart, MrlBenchError, UsageError, nearest, reason
from mrl_bench.family import TaskFamily
from mrl_bench.keyed_random import uniforms
from mrl_bench.results import canonical_json
from mrl_bench.scenario.schema import Budget, Protocol, ScenarioSchema
from mrl_bench.scenario.splits import Split, make_splits, possible_parameters
from mrl_bench.scenario.validation import Fault, check, fill
from mrl_bench.scenario.yaml_reader import Document, read
from mrl_bench.types import EnvSpec, TaskBatch, Trial

Array = NDArray[np.float64]

# Stream indices from here on are in no stretch that a seed trains on, and those of ood in no task list.
APART = 2**31


@dataclass(frozen=True)
class Scenario:
    """A task distribution with its splits, training budget and evaluation protocol. Made by `load_scenario`."""

    id: str
    doc: str
    family_name: str  # as in the file: a short name or "module:Class"
    family: TaskFamily
    options: Mapping[str, Any]  # of the family, from the file or from `load_scenario`
    horizon: int  # control steps of a full episode
    splits: Mapping[str, Split]  # "train", "test" and, if there is one, "ood"
    budget: Budget
    protocol: Protocol
    path: Path
    # Used if the simulator's server has died since the run was planned.
    planned_simulator: str | None = field(default=None, compare=False)

    def tasks(self, split: str, count: int | None = None) -> TaskBatch:
        """The task list of a split; for an endless training stream, `count` tasks that no seed trains on.

        Args:
            split: "train", "test" or "ood".
            count: used for an endless training stream only; by default the number of test tasks.

        Raises:
            UsageError: the scenario has no such split.
        """
        if split not in self.splits:
            raise UsageError(f"scenario {self.id} has no split {split!r}: {nearest(split, self.splits)}")
        chosen = self.splits[split]
        if chosen.count is not None:
            return chosen.tasks
        indices = APART + np.arange(len(self.tasks("test")) if count is None else count)
        return chosen.stream(indices)

    def stream(self, start: int, count: int) -> TaskBatch:
        """Training tasks start, ..., start + count - 1 of an endless stream.

        These are new draws, or random picks from the training list if the split has a `count`.
        """
        train, indices = self.splits["train"], start + np.arange(count)
        if train.count is None:
            return train.stream(indices)
        picks = uniforms(("pick", train.name, train.seed), indices) * train.count
        return TaskBatch(train.tasks.names, train.tasks.values[picks.astype(np.int64)])

    @property
    def spec(self) -> EnvSpec:
        """The spec that an agent is given: the family's, with the episodes of an evaluation."""
        return replace(self.family.spec, trial=Trial(**asdict(self.protocol)))

    def with_overrides(self, budget: Budget | None = None, protocol: Protocol | None = None) -> Scenario:
        """The scenario with another budget or protocol; its digest changes too."""
        return replace(self, budget=budget or self.budget, protocol=protocol or self.protocol)

    def with_options(self, options: Mapping[str, Any]) -> Scenario:
        """The scenario with options of the family overridden, key by key.

        Raises:
            SourceError: an option is unknown or its value is invalid.
        """
        changed = load_scenario(self.path, {**self.options, **options})
        return changed.with_overrides(self.budget, self.protocol)

    @cached_property
    def simulator(self) -> str:
        """Name and version of the simulator. Raises: MissingPart: it is not installed or does not answer."""
        try:
            return self.family.simulator
        except MissingPart:
            if self.planned_simulator is None:
                raise
            return self.planned_simulator

    @cached_property
    def digest(self) -> str:
        """A hash (16 hex digits) of everything that defines what an agent's results on this scenario mean.

        That is what `tasks_digest` covers, the protocol, and the agents' budget, but not the reference agents'.
        """
        terms = {"meta_train": self.budget.meta_train, "protocol": asdict(self.protocol)}
        return _hash({"tasks": self.tasks_digest, **terms})

    @cached_property
    def tasks_digest(self) -> str:
        """A hash (16 hex digits) of everything that decides which return a policy earns on the tasks.

        It ignores comments, the order of keys, `doc`, and options of the family whose dataclass field has the
        metadata {"in_digest": False}. It includes defaults that the file leaves out, and the content of the files that
        the family reads.
        """
        meaning: dict[str, Any] = {
            "id": self.id,
            "family": registry.target("family", self.family_name),
            "options": _options_in_digest(self.family),
            "simulator": self.simulator,
            "splits": {name: _meaning(split) for name, split in self.splits.items()},
        }
        if files := getattr(self.family, "data_files", ()):
            meaning["files"] = [(path.name, sha256(path.read_bytes()).hexdigest()) for path in files]
        return _hash(meaning)


def _hash(meaning: Any) -> str:
    return sha256(canonical_json(meaning)).hexdigest()[:16]


def _options_in_digest(family: Any) -> dict[str, Any]:
    counted = [field.name for field in fields(family) if field.metadata.get("in_digest", True)]
    return {name: value for name, value in asdict(family).items() if name in counted}


def _meaning(split: Split) -> dict[str, Any]:
    tasks = None if split.count is None else split.tasks.values.tolist()
    return {**asdict(split), "tasks": tasks}


def scenarios_dir() -> Path:
    """The folder of the scenarios that ship with mrl-bench, in the installed package or in a checkout."""
    packaged = Path(__file__).resolve().parent.parent / "scenarios"
    return packaged if packaged.is_dir() else packaged.parent.parent / "scenarios"


def list_scenarios() -> list[str]:
    """The ids of the scenarios that ship with mrl-bench."""
    return sorted(path.stem for path in scenarios_dir().glob("*.yaml"))


def find_scenario(name: str | Path) -> Scenario:
    """The scenario with this id, or in this file.

    Raises:
        UsageError: the id is unknown, or the file is invalid.
    """
    return load_scenario(find_file("scenario", name, scenarios_dir()))


def find_file(kind: str, name: str | Path, folder: Path) -> Path:
    """`name` itself if it is a path to a YAML file, else the file with that id in `folder`."""
    if Path(name).suffix in (".yaml", ".yml") or len(Path(name).parts) > 1:
        return Path(name)
    known = [path.stem for path in folder.glob("*.yaml")]
    if str(name) not in known:
        file = Path(f"{name}.yaml")
        hint = nearest(str(name), known, listed_by="mrl-bench list")
        hint = f"did you mean the file {str(file)!r}?" if file.is_file() else hint
        raise UsageError(f"no {kind} {str(name)!r}: {hint}")
    return folder / f"{name}.yaml"


def load_scenario(path: Path | str, options: Mapping[str, Any] | None = None) -> Scenario:
    """Reads a scenario and checks that its parts are consistent.

    Args:
        path: the YAML file.
        options: options of the family; they override those in the file, key by key.

    Raises:
        SourceError: the file is invalid; it lists all faults, with their position and the valid choices.
        MissingPart: the family needs a package that is not installed.
    """
    document = read(path)
    schema, faults = fill(ScenarioSchema, document.data)
    if schema is None:
        check(document, faults)
    chosen = {**(schema.options or {}), **(options or {})}
    cls = _family_class(schema.family, faults)
    family = _family(cls, schema.horizon, chosen, faults) if cls and schema.options is not None else None
    # Without the family, a name is fine if some options bring it in, and nothing is known of its bounds.
    known = family.params if family else dict.fromkeys(possible_parameters(cls) if cls else ())
    splits = make_splits(schema, known, faults) if family or known else {}
    check(document, [*faults, *misnamed(document, schema.id)])
    return Scenario(
        id=schema.id,
        doc=schema.doc,
        family_name=schema.family,
        family=cast(TaskFamily, family),
        options=chosen,
        horizon=schema.horizon,
        splits=splits,
        budget=schema.budget,
        protocol=schema.protocol,
        path=document.path,
    )


def misnamed(document: Document, id: str | None) -> list[Fault]:
    """The fault of a file that is not named after the id in it."""
    if id is None or document.path.name == f"{id}.yaml":
        return []
    return [Fault(("id",), f"the file is named {document.path.name!r} and must be named '{id}.yaml'")]


def _family_class(name: str | None, faults: list[Fault]) -> Any:
    """The family's class; None if the name is faulty."""
    if name is None:
        return None
    try:
        cls = registry.find("family", name)
    except MissingPart:
        raise
    except UsageError as error:
        faults.append(Fault(("family",), str(error)))
        return None
    members = ("horizon", "params", "make")
    if isinstance(cls, type) and is_dataclass(cls) and all(hasattr(cls, member) for member in members):
        return cls
    faults.append(Fault(("family",), f"{name!r} is not a task family: see mrl_bench/family.py"))
    return None


def _family(cls: Any, horizon: int | None, options: Mapping[str, Any], faults: list[Fault]) -> Any:
    """The family with these options; None if it has faults."""
    if "horizon" in options:
        message = "'horizon' is a key of the scenario, not an option"
        faults.append(Fault(("options", "horizon"), message, key=True))
    try:
        family, found = fill(cls, {**options, "horizon": horizon or cls.horizon}, noun="option")
        if not found and isinstance(family.params, Mapping):
            return family
        found = found or [Fault((), f"'params' of {cls.__name__} must be a mapping: see mrl_bench/family.py")]
    except MrlBenchError as error:
        found = [Fault((), str(error))]
    except Exception as error:  # of the user's `params`
        found = [Fault((), f"{cls.__name__} has no parameters: {reason(error)}")]
    place = "options" if options else "family"
    faults += [fault if fault.at == ("horizon",) else fault.under(place) for fault in found]
    return None

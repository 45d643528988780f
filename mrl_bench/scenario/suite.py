"""A suite: a list of scenarios, the agents that are compared on each, and the number of training seeds."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, field, fields
from dataclasses import dataclass as plain_dataclass
from os.path import isfile
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator
from pydantic.dataclasses import dataclass

from mrl_bench import registry
from mrl_bench.errors import MissingPart, SourceError, UsageError, nearest
from mrl_bench.results import REFERENCE_AGENTS
from mrl_bench.scenario.scenario import Scenario, find_file, load_scenario, misnamed, scenarios_dir
from mrl_bench.scenario.schema import MAX_ID, Budget, Doc, Protocol, ScenarioSchema
from mrl_bench.scenario.settings import fill_config, overlay
from mrl_bench.scenario.validation import Fault, Schema, Text, between, check, fill, invalid
from mrl_bench.scenario.yaml_reader import Document, Loc, read

SUITE_ID_PATTERN = r"[a-z0-9]+(-[a-z0-9]+)*"
MAX_SEEDS = 1_000


@plain_dataclass(frozen=True)
class AgentSpec:
    """An agent of a suite."""

    name: str  # unique in the suite; labels the agent in results, tables and figures
    agent: str  # the implementation: a short name or "module:Class"
    settings: Mapping[str, Any]  # hyperparameters that differ from the Config's defaults

    @staticmethod
    def outside_suite(agent: str, settings: Mapping[str, Any]) -> AgentSpec:
        """An agent that no suite names, labelled by its short name or by its class.

        A user's class Oracle is labelled "oracle-agent": it is not the oracle, which observes the task's parameters.
        """
        name = agent.rpartition(":")[2].lower()
        return AgentSpec(
            f"{name}-agent" if name in REFERENCE_AGENTS and name != agent else name, agent, settings
        )


@plain_dataclass(frozen=True)
class Entry:
    """A scenario with the suite's overrides, and the agents to run on it in addition to the reference agents."""

    scenario: Scenario
    agents: tuple[AgentSpec, ...]


@plain_dataclass(frozen=True)
class Suite:
    """The scenarios, agents and seeds of a bench. Made by `load_suite`."""

    id: str
    doc: str
    seeds: int  # each agent is trained with seeds 0, ..., seeds - 1
    entries: tuple[Entry, ...]
    path: Path


def _check_id(text: str) -> str:
    if not re.fullmatch(SUITE_ID_PATTERN, text) or len(text) > MAX_ID:
        raise invalid("a suite id is lower-case words joined by '-', as 'quick' or 'my-suite'")
    return text


@dataclass(frozen=True)
class AgentSchema(Schema):
    """An agent and its hyperparameters. `agent` defaults to the entry's name."""

    agent: Text | None = None
    set: dict[str, Any] = field(default_factory=dict)  # hyperparameters on every scenario
    families: dict[str, dict[str, Any]] = field(default_factory=dict)  # overrides of `set`, by task family


@dataclass(frozen=True)
class EntrySchema(Schema):
    """A scenario, by its id or by a path relative to the suite's folder, and its overrides in this suite."""

    scenario: Text
    agents: dict[str, AgentSchema] | None = None  # replace the suite's agents
    options: dict[str, Any] = field(default_factory=dict)  # overrides of the family's options, key by key
    budget: dict[str, Any] = field(default_factory=dict)  # overrides, key by key
    protocol: dict[str, Any] = field(default_factory=dict)  # overrides, key by key


@dataclass(frozen=True)
class SuiteSchema(Schema):
    """Scenarios, the agents that run on each of them, and the number of training seeds per agent."""

    id: Annotated[Text, AfterValidator(_check_id)]
    doc: Doc
    seeds: Annotated[int, *between(1, MAX_SEEDS)]
    scenarios: tuple[EntrySchema, ...]
    agents: dict[str, AgentSchema] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.scenarios:
            raise invalid("'scenarios' needs one or more entries", ("scenarios",))


def suites_dir() -> Path:
    """The folder of the suites that ship with mrl-bench."""
    return scenarios_dir() / "suites"


def list_suites() -> list[str]:
    """The ids of the suites that ship with mrl-bench."""
    return sorted(path.stem for path in suites_dir().glob("*.yaml"))


def find_suite(name: str | Path) -> Suite:
    """The suite with this id, or in this file.

    Raises:
        UsageError: the id is unknown, or the file or one of its scenarios is invalid.
    """
    return load_suite(find_file("suite", name, suites_dir()))


def is_suite(data: Any) -> bool:
    """Whether the data of a YAML file are rather those of a suite than of a scenario."""
    keys = data.keys() if isinstance(data, dict) else set()
    of_suite, of_scenario = ({field.name for field in fields(cls)} for cls in (SuiteSchema, ScenarioSchema))
    return len(keys & of_suite) > len(keys & of_scenario)


def load_suite(path: Path | str) -> Suite:
    """Reads a suite and all of its scenarios, and checks the settings of its agents.

    Raises:
        SourceError: a file is invalid; it lists all faults, with their position and the valid choices.
        MissingPart: a family needs a package that is not installed.
    """
    document = read(path)
    schema, faults = fill(SuiteSchema, document.data)
    if schema is None:
        check(document, faults)
    faults += misnamed(document, schema.id) + _agents_faults(("agents",), schema.agents)
    files: dict[Path, Scenario | SourceError] = {}
    entries: list[Entry] = []
    for i, entry in enumerate(schema.scenarios or ()):
        at: Loc = ("scenarios", i)
        if entry is None:
            continue
        faults += _agents_faults((*at, "agents"), entry.agents)
        scenario = _scenario(document, at, entry, faults, files)
        if scenario is None:
            continue
        if scenario.id in (entry.scenario.id for entry in entries):
            faults.append(Fault((*at, "scenario"), f"scenario {scenario.id!r} is already in this suite"))
        agents = schema.agents if entry.agents is None else entry.agents
        entries.append(Entry(scenario, _agents(agents, scenario.family_name)))
    check(document, faults, [file for file in files.values() if isinstance(file, SourceError)])
    return Suite(schema.id, schema.doc, schema.seeds, tuple(entries), document.path)


def _scenario(
    document: Document,
    at: Loc,
    schema: EntrySchema,
    faults: list[Fault],
    files: dict[Path, Scenario | SourceError],
) -> Scenario | None:
    """The scenario of an entry with its overrides. What its file holds is added to `files`."""
    if schema.scenario is None:
        return None
    try:
        found = find_file("scenario", schema.scenario, scenarios_dir())
    except UsageError as error:
        faults.append(Fault((*at, "scenario"), str(error)))
        return None
    path = document.path.parent / found  # an absolute path is kept as it is
    if not isfile(path):  # False also for a name that is too long
        faults.append(Fault((*at, "scenario"), f"there is no file {path}"))
        return None
    if path not in files:
        files[path] = _loaded(path)
    scenario = files[path]
    if isinstance(scenario, SourceError):
        return None
    if schema.options:
        scenario = _with_options(scenario, schema.options, (*at, "options"), faults)
    budget, wrong = fill(Budget, _overridden(scenario.budget, schema.budget or {}))
    faults += [fault.under(*at, "budget") for fault in wrong]
    protocol, wrong = fill(Protocol, asdict(scenario.protocol) | (schema.protocol or {}))
    faults += [fault.under(*at, "protocol") for fault in wrong]
    return scenario.with_overrides(budget, protocol)


def _overridden(budget: Budget, changes: Mapping[str, Any]) -> dict[str, Any]:
    """The entries of a budget after changes. With a larger budget of the agents, the oracle's grows too."""
    changed = asdict(budget) | dict(changes)
    if "oracle" not in changes and isinstance(more := changed["meta_train"], int | float):
        changed["oracle"] = max(budget.oracle, more)
    return changed


def _loaded(path: Path) -> Scenario | SourceError:
    try:
        return load_scenario(path)
    except SourceError as error:
        return error


def _with_options(scenario: Scenario, options: Mapping[str, Any], at: Loc, faults: list[Fault]) -> Scenario:
    """The scenario with other options. Those are checked first, so that an error names the suite's file."""
    given = {**scenario.options, "horizon": scenario.horizon, **options}
    _, wrong = fill(type(scenario.family), given, noun="option")
    try:
        if not wrong:
            return scenario.with_options(options)
    except SourceError as error:
        wrong = [Fault((), f"with these options, {scenario.path.name} is invalid: {error.message}")]
    faults += [fault.under(*at) for fault in wrong]
    return scenario


def _agents(schemas: Mapping[str, AgentSchema] | None, family: str) -> tuple[AgentSpec, ...]:
    return tuple(
        AgentSpec(name, schema.agent or name, overlay(schema.set, _of_family(schema, family)))
        for name, schema in (schemas or {}).items()
        if isinstance(schema, AgentSchema)  # and has no fault
    )


def _of_family(schema: AgentSchema, family: str) -> dict[str, Any]:
    """The settings for a family, whether it is called by its short name or as "module:Class"."""
    targets = {registry.target("family", name): own for name, own in schema.families.items()}
    return targets.get(registry.target("family", family), {})


def _agents_faults(at: Loc, schemas: Mapping[str, AgentSchema] | None) -> list[Fault]:
    """What is wrong with agents: their names, classes, families and settings."""
    return [
        fault.under(*at, name)
        for name, schema in (schemas or {}).items()
        for fault in (*_name_faults(name), *(_agent_faults(name, schema) if schema else ()))
    ]


def _name_faults(name: str) -> Iterator[Fault]:
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,39}", name):
        message = "an agent's name has 1 to 40 characters of a-z, 0-9, '-' and '_', not '-' or '_' first"
        yield Fault((), message, key=True)
    elif name in REFERENCE_AGENTS:
        message = f"{name!r} is a reference agent, which every scenario includes: choose another name"
        yield Fault((), message, key=True)


def _agent_faults(name: str, schema: AgentSchema) -> Iterator[Fault]:
    for family in schema.families or ():
        try:
            registry.find("family", family)
        except MissingPart:  # found, and not needed here
            continue
        except UsageError as error:
            yield Fault(("families", family), str(error), key=True)
    known = registry.names("agent").keys() - REFERENCE_AGENTS
    incomplete = not isinstance(schema, AgentSchema) and name not in known
    if schema.agent is None and (incomplete or any(_name_faults(name))):
        return  # the name or `agent` is faulty, which was said
    agent, place = (name, ()) if schema.agent is None else (schema.agent, ("agent",))
    if agent in REFERENCE_AGENTS:
        message = f"{agent!r} is a reference agent, which every scenario includes: {nearest(agent, known)}"
        yield Fault(place, message, key=not place)
    elif ":" not in agent and agent not in known:
        message = f"no agent {agent!r}: {registry.suggestion(agent, known)}"
        yield Fault(place, message, key=not place)
    elif ":" in agent or schema.set or schema.families:  # else there is no need to import torch
        try:
            yield from _settings_faults(registry.find("agent", agent), schema)
        except UsageError as error:
            yield Fault(place, str(error), key=not place)


def _settings_faults(agent: Any, schema: AgentSchema) -> Iterator[Fault]:
    """Faults of `set`, and of it with the overrides of each family; each where the setting stands."""
    families = schema.families or {}
    for family in (None, *families):
        own = families[family] or {} if family else {}
        _, faults = fill_config(agent, overlay(schema.set or {}, own))
        for fault in faults:
            in_family = bool(own) and _holds(own, fault.at)
            yield fault.under("families", str(family)) if in_family else fault.under("set")


def _holds(data: Any, at: Loc) -> bool:
    """Whether the keys of a location are in nested mappings."""
    for part in at:
        if not isinstance(data, Mapping):
            break
        if part not in data:
            return False
        data = data[part]
    return True

"""A suite: a list of scenarios, the agents that are compared on each, and the number of training seeds."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, field
from dataclasses import dataclass as plain_dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator
from pydantic.dataclasses import dataclass

from mrl_bench import registry
from mrl_bench.errors import UsageError, nearest
from mrl_bench.results import REFERENCE_AGENTS
from mrl_bench.scenario.scenario import Scenario, check_file_name, find_file, load_scenario, scenarios_dir
from mrl_bench.scenario.schema import MAX_ID, Budget, Doc, Protocol
from mrl_bench.scenario.settings import overlay
from mrl_bench.scenario.validation import Schema, Text, between, fill, fill_dataclass, invalid
from mrl_bench.scenario.yaml_reader import Document, Loc, read

ID_PATTERN = r"[a-z0-9]+(-[a-z0-9]+)*"
MAX_SEEDS = 1_000


@plain_dataclass(frozen=True)
class AgentSpec:
    """An agent of a suite. `make_config` checks the settings later, because the agent's Config needs torch."""

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
    if not re.fullmatch(ID_PATTERN, text) or len(text) > MAX_ID:
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


def load_suite(path: Path | str) -> Suite:
    """Reads a suite and all of its scenarios.

    Raises:
        SourceError: one of the files is invalid; the message gives the position and the valid choices.
        MissingPart: a family needs a package that is not installed.
    """
    document = read(path)
    schema = fill(SuiteSchema, document)
    check_file_name(document, schema.id)
    entries: list[Entry] = []
    for i, entry in enumerate(schema.scenarios):
        at: Loc = ("scenarios", i)
        scenario = _scenario(document, at, entry)
        if scenario.id in (entry.scenario.id for entry in entries):
            raise document.error((*at, "scenario"), f"scenario {scenario.id!r} is already in this suite")
        own = entry.agents
        where, agents = (("agents",), schema.agents) if own is None else ((*at, "agents"), own)
        entries.append(Entry(scenario, _agents(document, where, agents, scenario.family_name)))
    return Suite(schema.id, schema.doc, schema.seeds, tuple(entries), document.path)


def _scenario(document: Document, at: Loc, schema: EntrySchema) -> Scenario:
    try:
        found = find_file("scenario", schema.scenario, scenarios_dir())
    except UsageError as error:
        raise document.error((*at, "scenario"), str(error)) from None
    path = document.path.parent / found  # an absolute path is kept as it is
    if not path.is_file():
        raise document.error((*at, "scenario"), f"there is no file {path}")
    scenario = load_scenario(path)
    if schema.options:  # check them first, so that an error names this file
        chosen = {**scenario.options, "horizon": scenario.horizon, **schema.options}
        fill_dataclass(type(scenario.family), document, (*at, "options"), chosen)
        scenario = load_scenario(path, schema.options)
    return scenario.with_overrides(
        fill(Budget, document, (*at, "budget"), asdict(scenario.budget) | schema.budget),
        fill(Protocol, document, (*at, "protocol"), asdict(scenario.protocol) | schema.protocol),
    )


def _agents(
    document: Document, at: Loc, schemas: Mapping[str, AgentSchema], family: str
) -> tuple[AgentSpec, ...]:
    return tuple(_agent(document, (*at, name), name, schema, family) for name, schema in schemas.items())


def _agent(document: Document, at: Loc, name: str, schema: AgentSchema, family: str) -> AgentSpec:
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,39}", name):
        message = "an agent's name has 1 to 40 characters of a-z, 0-9, '-' and '_', not '-' or '_' first"
        raise document.error(at, message, key=True)
    if name in REFERENCE_AGENTS:
        raise document.error(
            at, f"{name!r} is a reference agent, which every scenario includes: choose another name", key=True
        )
    agent = schema.agent or name
    place, is_key = (at, True) if schema.agent is None else ((*at, "agent"), False)
    known = registry.names("agent").keys() - REFERENCE_AGENTS
    if agent in REFERENCE_AGENTS:
        raise document.error(
            place,
            f"{agent!r} is a reference agent, which every scenario includes: {nearest(agent, known)}",
            is_key,
        )
    if ":" not in agent and agent not in known:
        raise document.error(place, f"no agent {agent!r}: {registry.suggestion(agent, known)}", is_key)
    families = registry.names("family")
    for other in schema.families:
        if ":" not in other and other not in families:
            raise document.error(
                (*at, "families", other), f"no family {other!r}: {nearest(other, families)}", key=True
            )
    return AgentSpec(name, agent, overlay(schema.set, schema.families.get(family, {})))

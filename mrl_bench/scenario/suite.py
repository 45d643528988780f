"""A suite: scenarios, on which terms, and the agents that compete on each."""

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
from mrl_bench.scenario.scenario import Scenario, check_file_name, find_file, load, scenarios_dir
from mrl_bench.scenario.schema import MAX_ID, Budget, Doc, Protocol
from mrl_bench.scenario.settings import overlay
from mrl_bench.scenario.validation import Form, Text, between, fill, fill_dataclass, wrong
from mrl_bench.scenario.yaml_reader import Document, Loc, read

REFERENCE_AGENTS = ("random", "blind", "oracle")  # the harness adds them to every scenario
ID_PATTERN = r"[a-z0-9]+(-[a-z0-9]+)*"
MAX_SEEDS = 1_000


@plain_dataclass(frozen=True)
class AgentSpec:
    """An agent as a suite names it. Its settings are checked by the agent's Config, which needs torch."""

    name: str  # on the board
    agent: str  # a short name or "module:Class"
    settings: Mapping[str, Any]


@plain_dataclass(frozen=True)
class Entry:
    """A scenario, on the suite's terms, and the agents that compete on it beside the anchors."""

    scenario: Scenario
    agents: tuple[AgentSpec, ...]


@plain_dataclass(frozen=True)
class Suite:
    """What a bench runs. Made by `load_suite`."""

    id: str
    doc: str
    seeds: int  # each agent is trained with seeds 0, ..., seeds - 1
    entries: tuple[Entry, ...]
    path: Path


def _check_id(text: str) -> str:
    if not re.fullmatch(ID_PATTERN, text) or len(text) > MAX_ID:
        raise wrong("the id of a suite is words in lower case, as 'quick' or 'my-suite'")
    return text


@dataclass(frozen=True)
class AgentSchema(Form):
    """An agent: by default the one of its name on the board. `set` changes its hyperparameters, `families` does so
    on the scenarios of one family."""

    agent: Text | None = None
    set: dict[str, Any] = field(default_factory=dict)
    families: dict[str, dict[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class EntrySchema(Form):
    """A scenario by its id, or by a path from the suite's folder, and what is different on it here."""

    scenario: Text
    agents: dict[str, AgentSchema] | None = None  # instead of the suite's
    options: dict[str, Any] = field(default_factory=dict)  # some of the family's
    budget: dict[str, Any] = field(default_factory=dict)  # some entries of the scenario's
    protocol: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class SuiteSchema(Form):
    """Scenarios, and the agents that compete on each of them with so many training seeds."""

    id: Annotated[Text, AfterValidator(_check_id)]
    doc: Doc
    seeds: Annotated[int, *between(1, MAX_SEEDS)]
    scenarios: tuple[EntrySchema, ...]
    agents: dict[str, AgentSchema] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.scenarios:
            raise wrong("'scenarios' needs one or more entries", ("scenarios",))


def suites_dir() -> Path:
    """The folder of the suites that come with mrl-bench."""
    return scenarios_dir() / "suites"


def list_suites() -> list[str]:
    """The ids of the suites that come with mrl-bench."""
    return sorted(path.stem for path in suites_dir().glob("*.yaml"))


def find_suite(name: str | Path) -> Suite:
    """The suite with an id, or in a file.

    Raises:
        UsageError: there is no such id, or something is wrong with the file or with a scenario that it lists.
    """
    return load_suite(find_file("suite", name, suites_dir()))


def load_suite(path: Path | str) -> Suite:
    """Reads a suite and all of its scenarios.

    Raises:
        SourceError: something in one of the files is wrong; says where, and what is possible there.
        MissingPart: a family needs a part that is not installed.
    """
    document = read(path)
    form = fill(SuiteSchema, document)
    check_file_name(document, form.id)
    entries: list[Entry] = []
    for i, entry_form in enumerate(form.scenarios):
        at: Loc = ("scenarios", i)
        scenario = _scenario(document, at, entry_form)
        if scenario.id in (entry.scenario.id for entry in entries):
            raise document.error((*at, "scenario"), f"scenario {scenario.id!r} is in this suite already")
        own = entry_form.agents
        where, agents = (("agents",), form.agents) if own is None else ((*at, "agents"), own)
        entries.append(Entry(scenario, _agents(document, where, agents, scenario.family_name)))
    return Suite(form.id, form.doc, form.seeds, tuple(entries), document.path)


def _scenario(document: Document, at: Loc, form: EntrySchema) -> Scenario:
    try:
        found = find_file("scenario", form.scenario, scenarios_dir())
    except UsageError as error:
        raise document.error((*at, "scenario"), str(error)) from None
    path = document.path.parent / found  # an absolute path stays what it is
    if not path.is_file():
        raise document.error((*at, "scenario"), f"there is no file {path}")
    scenario = load(path)
    if form.options:
        chosen = {**scenario.options, "horizon": scenario.horizon, **form.options}
        fill_dataclass(type(scenario.family), document, (*at, "options"), chosen)  # refuses in this file
        scenario = load(path, form.options)
    return scenario.with_overrides(
        fill(Budget, document, (*at, "budget"), asdict(scenario.budget) | form.budget),
        fill(Protocol, document, (*at, "protocol"), asdict(scenario.protocol) | form.protocol),
    )


def _agents(
    document: Document, at: Loc, forms: Mapping[str, AgentSchema], family: str
) -> tuple[AgentSpec, ...]:
    return tuple(_agent(document, (*at, name), name, form, family) for name, form in forms.items())


def _agent(document: Document, at: Loc, name: str, form: AgentSchema, family: str) -> AgentSpec:
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,39}", name):
        raise document.error(at, "a name on the board is up to 40 of a-z, 0-9, '-' and '_'", key=True)
    if name in REFERENCE_AGENTS:
        raise document.error(
            at, f"{name!r} is an anchor, which every scenario has: name others only", key=True
        )
    agent = form.agent or name
    place, is_key = (at, True) if form.agent is None else ((*at, "agent"), False)
    known = registry.names("agent").keys() - REFERENCE_AGENTS
    if agent in REFERENCE_AGENTS:
        raise document.error(
            place, f"{agent!r} is an anchor, which competes already: {nearest(agent, known)}", is_key
        )
    if ":" not in agent and agent not in known:
        raise document.error(
            place, f"no agent {agent!r}: {nearest(agent, known)} (or give 'module:Class')", is_key
        )
    families = registry.names("family")
    for other in form.families:
        if ":" not in other and other not in families:
            raise document.error(
                (*at, "families", other), f"no family {other!r}: {nearest(other, families)}", key=True
            )
    return AgentSpec(name, agent, overlay(form.set, form.families.get(family, {})))

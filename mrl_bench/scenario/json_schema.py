"""JSON Schemas (draft 2020-12) of the YAML files, for completion and validation in editors.

A JSON Schema covers the structure of a file and the names of shipped families, agents and scenarios. Only
`load_scenario` and `load_suite` check that the parts of a file are consistent.
"""

from __future__ import annotations

from typing import Any

from pydantic import TypeAdapter

from mrl_bench import registry
from mrl_bench.results import REFERENCE_AGENTS
from mrl_bench.scenario.scenario import list_scenarios
from mrl_bench.scenario.schema import SCENARIO_ID_PATTERN, Budget, Protocol, ScenarioSchema
from mrl_bench.scenario.splits import possible_parameters
from mrl_bench.scenario.suite import SuiteSchema

JsonSchema = dict[str, Any]

_DIALECT = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
_MODULE_CLASS = {"type": "string", "pattern": "^[^:]+:[^:]+$"}


def scenario_schema() -> JsonSchema:
    """The JSON Schema of a scenario file."""
    schema = TypeAdapter(ScenarioSchema).json_schema()
    properties, definitions = schema["properties"], schema["$defs"]
    kinds = properties["params"]["additionalProperties"]["oneOf"]
    definitions["Distribution"] = {"anyOf": [{"type": "number"}, *kinds]}
    for owner in (properties, definitions["OodSchema"]["properties"]):
        owner["params"]["additionalProperties"] = {"$ref": "#/$defs/Distribution"}
    properties["id"]["pattern"] = f"^{SCENARIO_ID_PATTERN}$"
    families = sorted(registry.names("family"))
    properties["family"] = {"anyOf": [{"enum": families}, _MODULE_CLASS]}
    return (
        _DIALECT
        | schema
        | {"title": "mrl-bench scenario", "allOf": [_family_rule(name) for name in families]}
    )


def suite_schema() -> JsonSchema:
    """The JSON Schema of a suite file."""
    schema = TypeAdapter(SuiteSchema).json_schema()
    definitions = schema["$defs"]
    entry = definitions["EntrySchema"]["properties"]
    entry["scenario"]["examples"] = list_scenarios()
    for name, cls in {"budget": Budget, "protocol": Protocol}.items():
        whole = TypeAdapter(cls).json_schema()
        entry[name] = {key: value for key, value in whole.items() if key != "required"}
    agents = sorted(registry.names("agent").keys() - REFERENCE_AGENTS)
    definitions["AgentSchema"]["properties"]["agent"] = {"anyOf": [{"enum": agents}, _MODULE_CLASS]}
    return _DIALECT | schema | {"title": "mrl-bench suite"}


def _family_rule(name: str) -> JsonSchema:
    """Restricts `options` and `params` of a scenario to those of its family."""
    cls = registry.find("family", name)
    options = TypeAdapter(cls).json_schema()["properties"]
    del options["horizon"]
    names = {"propertyNames": {"enum": _parameters(cls)}}
    rule = {
        "options": {"properties": options, "additionalProperties": False},
        "params": names,
        "splits": {"properties": {"ood": {"properties": {"params": names}}}},
    }
    return {"if": {"properties": {"family": {"const": name}}}, "then": {"properties": rule}}


def _parameters(cls: Any) -> list[str]:
    """The parameters that a family has under any of its options, and the patterns for indexed ones."""
    names = possible_parameters(cls)
    stems = {name.partition("[")[0] for name in names if "[" in name}
    return sorted(names | {stem + pattern for stem in stems for pattern in ("[*]", "[=]")})

"""Hyperparameters: an agent's Config dataclass, filled from a suite's `set` or from `--set name=value`."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import TypeAdapter, ValidationError

from mrl_bench.errors import UsageError, nearest
from mrl_bench.forms import describe, whole
from mrl_bench.yaml_source import parse


def make_config(agent: Any, settings: Mapping[str, Any]) -> Any:
    """The agent's Config with its defaults, but for `settings`.

    Args:
        agent: an agent class.
        settings: name -> value of some of the Config's fields.

    Raises:
        UsageError: there is no such setting, the value does not fit it, or `agent` is no agent.
    """
    config = getattr(agent, "Config", None)
    if not (isinstance(config, type) and dataclasses.is_dataclass(config)):
        raise UsageError(f"{getattr(agent, '__name__', agent)} is no agent: it has no dataclass 'Config'")
    known = [field.name for field in dataclasses.fields(config)]
    for name in settings:
        if name not in known:
            raise UsageError(f"{agent.__name__} has no setting {name!r}: {nearest(name, known)}")
    try:  # as JSON, because strictness spares the containers there: a list still fills a tuple
        return TypeAdapter(config).validate_json(json.dumps(whole(dict(settings))), strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        message = first["msg"][:1].lower() + first["msg"][1:]
        got = describe(first["input"])
        raise UsageError(f"{agent.__name__}, setting {where!r}: {message}, not {got}") from None


def parse_settings(pairs: Sequence[str]) -> dict[str, Any]:
    """`["inner_lr=0.1", "hidden=[32, 32]"]` -> settings; values are read as YAML.

    Raises:
        UsageError: not of the form name=value, or no YAML.
    """
    settings = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not (equals and name.isidentifier() and value.strip()):
            raise UsageError(f"--set takes name=value, not {pair!r}")
        settings[name] = parse(value, f"--set {name}").data
    return settings

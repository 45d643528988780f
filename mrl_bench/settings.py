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
    merged = _merged(agent.__name__, "", dataclasses.asdict(config()), whole(dict(settings)))
    try:  # as JSON, because strictness spares the containers there: a list still fills a tuple
        return TypeAdapter(config).validate_json(json.dumps(merged), strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        message = first["msg"][:1].lower() + first["msg"][1:]
        got = describe(first["input"])
        raise UsageError(f"{agent.__name__}, setting {where!r}: {message}, not {got}") from None


def _merged(agent: str, prefix: str, defaults: dict[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """The defaults with the settings in place of some; settings in a mapping replace part of one only."""
    merged = dict(defaults)
    for name, value in settings.items():
        if name not in defaults:
            raise UsageError(f"{agent} has no setting {prefix + str(name)!r}: {nearest(name, defaults)}")
        if isinstance(defaults[name], dict) and isinstance(value, Mapping):
            value = _merged(agent, f"{prefix}{name}.", defaults[name], value)
        merged[name] = value
    return merged


def parse_settings(pairs: Sequence[str]) -> dict[str, Any]:
    """`["inner_lr=0.1", "maml.hidden=[32, 32]"]` -> settings; values are read as YAML, a dot leads inside.

    Raises:
        UsageError: not of the form name=value, or no YAML.
    """
    settings: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        *outer, last = name.split(".")
        if not (equals and all(part.isidentifier() for part in (*outer, last)) and value.strip()):
            raise UsageError(f"--set takes name=value, not {pair!r}")
        inner = settings
        for part in outer:
            inner = inner.setdefault(part, {})
            if not isinstance(inner, dict):
                raise UsageError(f"--set {name}: {part!r} was set as a whole already")
        inner[last] = parse(value, f"--set {name}").data
    return settings

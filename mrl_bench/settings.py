"""Hyperparameters: an agent's Config dataclass, filled from a suite's `set` or from `--set name=value`."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import TypeAdapter, ValidationError

from mrl_bench.errors import UsageError, nearest
from mrl_bench.forms import whole
from mrl_bench.yaml_source import parse


def make_config(agent: Any, settings: Mapping[str, Any]) -> Any:
    """The agent's Config with its defaults, but for `settings`.

    Args:
        agent: an agent class.
        settings: name -> value of some of the Config's fields.

    Raises:
        UsageError: there is no such setting, or the value does not fit it.
    """
    known = [field.name for field in dataclasses.fields(agent.Config)]
    for name in settings:
        if name not in known:
            raise UsageError(f"{agent.__name__} has no setting {name!r}: {nearest(name, known)}")
    try:  # as JSON, because strictness spares the containers there: a list still fills a tuple
        return TypeAdapter(agent.Config).validate_json(json.dumps(whole(dict(settings))), strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        message = first["msg"][:1].lower() + first["msg"][1:]
        raise UsageError(f"{agent.__name__}, setting {where!r}: {message}, not {first['input']!r}") from None


def parse_settings(pairs: Sequence[str]) -> dict[str, Any]:
    """`["inner_lr=0.1", "hidden=[32, 32]"]` -> settings; values are read as YAML.

    Raises:
        UsageError: not of the form name=value, or no YAML.
    """
    settings = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not (equals and name.isidentifier()):
            raise UsageError(f"--set takes name=value, not {pair!r}")
        settings[name] = parse(value, f"--set {name}").data
    return settings

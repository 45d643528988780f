"""Hyperparameters: an agent's Config dataclass, filled from a suite's `set` or from `--set name=value`."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

from mrl_bench.errors import SourceError, UsageError, reason
from mrl_bench.scenario.validation import Fault, fill
from mrl_bench.scenario.yaml_reader import MAX_DIGITS, parse


def make_config(agent: Any, settings: Mapping[str, Any]) -> Any:
    """The agent's Config: its defaults, overridden by `settings`.

    Args:
        agent: an agent class.
        settings: field name -> value, for some fields of the Config.

    Raises:
        UsageError: a setting is unknown, a value is invalid, or `agent` is not an agent class.
    """
    config, faults = fill_config(agent, settings)
    if faults:
        raise UsageError(f"{agent.__name__}: " + "; ".join(fault.message for fault in faults))
    return config


def fill_config(agent: Any, settings: Mapping[str, Any]) -> tuple[Any, list[Fault]]:
    """The agent's Config, and all faults of the settings.

    Raises:
        UsageError: `agent` is not an agent class.
    """
    config = getattr(agent, "Config", None)
    if not (isinstance(config, type) and dataclasses.is_dataclass(config)):
        raise UsageError(f"{getattr(agent, '__name__', agent)} is no agent: it has no dataclass 'Config'")
    try:
        defaults = dataclasses.asdict(config())
    except Exception as error:  # of the user's class
        raise UsageError(f"{config.__name__} needs a default for each field: {reason(error)}") from error
    return fill(config, overlay(defaults, settings), noun="setting")


def overlay(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`base` updated with `changes`; nested mappings are merged recursively."""
    both = {
        key for key in changes if isinstance(changes[key], Mapping) and isinstance(base.get(key), Mapping)
    }
    return {**base, **changes, **{key: overlay(base[key], changes[key]) for key in both}}


def parse_settings(pairs: Sequence[str]) -> dict[str, Any]:
    """`["inner_lr=0.1", "maml.hidden=[32, 32]"]` -> nested settings; values are parsed as YAML, a dot separates levels.

    Raises:
        UsageError: a pair is not name=value, its value is not valid YAML, or two pairs conflict.
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
                raise UsageError(f"--set {name}: {part!r} is already set as a whole")
        inner[last] = parse(value, f"--set {name}").data
    return settings


def flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings in one level, by names as "maml.hidden"."""
    found: dict[str, Any] = {}
    for name, value in settings.items():
        nested = isinstance(value, Mapping) and value
        found |= flat(value, f"{prefix}{name}.") if nested else {f"{prefix}{name}": value}
    return found


def assignments(settings: Mapping[str, Any]) -> list[str]:
    """Settings as `--set` takes them: the inverse of `parse_settings`."""
    return [f"{name}={_as_yaml(value)}" for name, value in flat(settings).items()]


def _as_yaml(value: Any) -> str:
    if isinstance(value, float) and value.is_integer() and abs(value) < 10 ** (MAX_DIGITS - 1):
        return f"{value:.0f}"  # such as 1.2e5 env steps
    if isinstance(value, str) and _is_plain(value):
        return value
    return json.dumps(value, ensure_ascii=False)


def _is_plain(text: str) -> bool:
    """Whether YAML reads a text without quotes as itself."""
    try:
        return bool(parse(text, "--set").data == text)
    except SourceError:
        return False

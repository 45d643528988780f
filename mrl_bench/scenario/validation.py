"""Validates YAML data against dataclasses with pydantic, and turns its errors into errors with file and line.

A schema is a frozen dataclass that inherits from `Schema`. Containers are converted (a list fills a tuple); scalars
are checked strictly ("5" is not a number, 1 is not true), except that 3.2e6 is accepted as an integer.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

from pydantic import BeforeValidator, ConfigDict, Field, Strict, TypeAdapter, ValidationError, model_validator
from pydantic.dataclasses import dataclass
from pydantic_core import ErrorDetails, PydanticCustomError

from mrl_bench.errors import SourceError, UsageError, nearest
from mrl_bench.scenario.yaml_reader import Document, Loc, short

T = TypeVar("T")

# pydantic's error type -> our message. {name} is the key, {got} the value in the file.
_MESSAGES = {
    "invalid": "{message}",
    "missing": "{name} is missing",
    "string_type": "{name} must be text, not {got}",
    "int_type": "{name} must be a whole number, not {got}",
    "int_from_float": "{name} must be a whole number, not {got}",
    "float_type": "{name} must be a number, not {got}",
    "bool_type": "{name} must be true or false, not {got}",
    "literal_error": "{name} must be {expected}, not {got}",
    "dict_type": "{name} must be a mapping, as {{key: value}}, not {got}",
    "dataclass_type": "{name} must be a mapping, as {{key: value}}, not {got}",
    "list_type": "{name} must be a list, as [a, b], not {got}",
    "tuple_type": "{name} must be a list, as [a, b], not {got}",
    "too_short": "{name} needs {min_length} or more entries and has {actual_length}",
    "too_long": "{name} takes {max_length} entries at most and has {actual_length}",
    "greater_than_equal": "{name} must be {ge} or more, not {got}",
    "greater_than": "{name} must be more than {gt:g}, not {got}",
    "less_than_equal": "{name} must be {le} or less, not {got}",
    "less_than": "{name} must be less than {lt:g}, not {got}",
}


def invalid(message: str, at: Loc = (), key: str | None = None) -> PydanticCustomError:
    """An error for validators to raise.

    Args:
        message: one line, shown unchanged.
        at: the location of the error, relative to the value that is validated.
        key: set it if a key is invalid, not its value: the error is reported at that key.
    """
    return PydanticCustomError("invalid", "{message}", {"message": message, "at": at, "key": key})


def whole(value: Any) -> Any:
    """The data with each integral float, as 3.2e6, converted to an int."""
    if isinstance(value, dict):
        return {key: whole(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [whole(entry) for entry in value]
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 1e18 else value


Text = Annotated[str, Strict()]
Number = Annotated[float, Strict()]
Flag = Annotated[bool, Strict()]


def between(low: int, high: int) -> tuple[Any, ...]:
    """Metadata for an integer in [low, high]: `Annotated[int, *between(1, 9)]`."""
    return Field(strict=True, ge=low, le=high), BeforeValidator(whole)


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Schema:
    """Base class of all schemas. Refuses an unknown key and names the nearest known one."""

    @model_validator(mode="before")
    @classmethod
    def _check_keys(cls, data: Any) -> Any:
        if isinstance(data, dict):
            check_keys(data, [field.name for field in dataclasses.fields(cls)])
        return data


def check_keys(data: Mapping[str, Any], known: list[str]) -> None:
    """Raises `invalid` at the first unknown key."""
    for key in data:
        if key not in known:
            raise invalid(f"unknown key {key!r}: {nearest(key, known)}", key=key)


def fill(schema: type[T], document: Document, at: Loc = (), data: Any = None) -> T:
    """An instance of the schema with the data of a document.

    Args:
        schema: a dataclass that inherits from `Schema`.
        document: the file; gives errors their position.
        at: the location of `data` in the document.
        data: used instead of the whole document's data, if given.

    Raises:
        SourceError: the data do not match; reports the first error in the file.
    """
    try:
        return TypeAdapter(schema).validate_python(document.data if data is None else data)
    except ValidationError as error:
        raise _first(document, at, error) from None


def fill_dataclass(cls: type[T], document: Document, at: Loc, data: Mapping[str, Any]) -> T:
    """An instance of a plain dataclass, such as a family, validated as strictly as a schema.

    Args:
        cls: the dataclass.
        document: the file; gives errors their position.
        at: the location of `data` in the document.
        data: values of some or all fields.

    Raises:
        SourceError: the data do not match; reports the first error in the file.
    """
    known = [field.name for field in dataclasses.fields(cls) if field.init]  # type: ignore[arg-type]
    for key in data:
        if key not in known:
            raise document.error((*at, key), f"unknown option {key!r}: {nearest(key, known)}", key=True)
    try:  # as JSON: there, strict mode still converts a list to a tuple
        return TypeAdapter(cls).validate_json(json.dumps(whole(dict(data))), strict=True)
    except ValidationError as error:
        raise _first(document, at, error) from None
    except UsageError as error:
        raise document.error(at, str(error)) from None


def _first(document: Document, at: Loc, error: ValidationError) -> SourceError:
    """The error with the first position in the file."""
    errors = [_translated(document, at, details) for details in error.errors(include_url=False)]
    return min(errors, key=lambda error: (error.line, error.column))


def _translated(document: Document, at: Loc, details: ErrorDetails) -> SourceError:
    context = details.get("ctx", {})
    loc: Loc = (*at, *details["loc"], *context.get("at", ()))
    if key := context.get("key"):
        return document.error((*loc, key), details["msg"], key=True)
    if details["type"] == "value_error":  # a ValueError raised by a dataclass itself
        return document.error(loc, str(context["error"]))
    pattern = _MESSAGES.get(details["type"], "{name}: {message}")
    message = details["msg"][:1].lower() + details["msg"][1:]
    got = describe(details["input"])
    return document.error(loc, pattern.format(**{"message": message, **context}, name=_name(loc), got=got))


def _name(loc: Loc) -> str:
    """How a message names a location: by its last key."""
    names = [part for part in loc if isinstance(part, str)]
    if not names:
        return "the file"
    return repr(names[-1]) if loc[-1] == names[-1] else f"an entry of {names[-1]!r}"


def describe(value: Any) -> str:
    """A short description of a value, for messages."""
    if isinstance(value, str):
        return f"the text {short(value)!r}"
    if isinstance(value, dict | list):
        return "a mapping" if isinstance(value, dict) else "a list"
    if value is None:
        return "nothing"
    return str(value).lower() if isinstance(value, bool) else str(value)

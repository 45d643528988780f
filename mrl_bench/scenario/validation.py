"""What a YAML file must look like, said as dataclasses: pydantic fills them, and its errors become ours.

A form is a frozen dataclass that inherits from `Form`. Containers are read leniently (a list fills a tuple),
but values are not: "5" is not a number, and 1 is not true. 3.2e6 fills a whole number, because it is one.
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

# What pydantic calls an error, and how it is said here. {name} is what is wrong, {got} what stands there.
_MESSAGES = {
    "wrong": "{message}",
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


def wrong(message: str, at: Loc = (), key: str | None = None) -> PydanticCustomError:
    """An error for validators to raise.

    Args:
        message: one line, shown as it is.
        at: leads from the value that is validated to the one that is wrong.
        key: names the entry whose key is wrong, if it is a key.
    """
    return PydanticCustomError("wrong", "{message}", {"message": message, "at": at, "key": key})


def whole(value: Any) -> Any:
    """The same data, with whole numbers that are written as 3.2e6 turned into integers."""
    if isinstance(value, dict):
        return {key: whole(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [whole(entry) for entry in value]
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 1e18 else value


Text = Annotated[str, Strict()]
Number = Annotated[float, Strict()]
Flag = Annotated[bool, Strict()]


def between(low: int, high: int) -> tuple[Any, ...]:
    """What makes `Annotated[int, *between(1, 9)]` a whole number in a range, ends included."""
    return Field(strict=True, ge=low, le=high), BeforeValidator(whole)


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Form:
    """Base of all forms: knows its keys, and names the nearest to one that it does not know."""

    @model_validator(mode="before")
    @classmethod
    def _check_keys(cls, data: Any) -> Any:
        if isinstance(data, dict):
            check_keys(data, [field.name for field in dataclasses.fields(cls)])
        return data


def check_keys(data: Mapping[str, Any], known: list[str]) -> None:
    """Raises `wrong` for the first key that is not known."""
    for key in data:
        if key not in known:
            raise wrong(f"unknown key {key!r}: {nearest(key, known)}", key=key)


def fill(form: type[T], document: Document, at: Loc = (), data: Any = None) -> T:
    """The form, filled with a document, or with other data that come from its place `at`.

    Raises:
        SourceError: at the first place in the file that does not fit.
    """
    try:
        return TypeAdapter(form).validate_python(document.data if data is None else data)
    except ValidationError as error:
        raise _first(document, at, error) from None


def fill_dataclass(cls: type[T], document: Document, at: Loc, data: Mapping[str, Any]) -> T:
    """A plain dataclass, such as a family or an agent's Config, filled as strictly as a form.

    Args:
        cls: the dataclass.
        document: where the values come from.
        at: the place of `data` in the document.
        data: values of some or all of its fields.

    Raises:
        SourceError: at the first place in the file that does not fit.
    """
    known = [field.name for field in dataclasses.fields(cls) if field.init]  # type: ignore[arg-type]
    for key in data:
        if key not in known:
            raise document.error((*at, key), f"unknown option {key!r}: {nearest(key, known)}", key=True)
    try:  # as JSON, because strictness spares the containers there: a list still fills a tuple
        return TypeAdapter(cls).validate_json(json.dumps(whole(dict(data))), strict=True)
    except ValidationError as error:
        raise _first(document, at, error) from None
    except UsageError as error:
        raise document.error(at, str(error)) from None


def _first(document: Document, at: Loc, error: ValidationError) -> SourceError:
    """The error that stands first in the file."""
    errors = [_translated(document, at, details) for details in error.errors(include_url=False)]
    return min(errors, key=lambda error: (error.line, error.column))


def _translated(document: Document, at: Loc, details: ErrorDetails) -> SourceError:
    context = details.get("ctx", {})
    loc: Loc = (*at, *details["loc"], *context.get("at", ()))
    if key := context.get("key"):
        return document.error((*loc, key), details["msg"], key=True)
    if details["type"] == "value_error":  # a ValueError that a dataclass raised itself
        return document.error(loc, str(context["error"]))
    pattern = _MESSAGES.get(details["type"], "{name}: {message}")
    message = details["msg"][:1].lower() + details["msg"][1:]
    got = describe(details["input"])
    return document.error(loc, pattern.format(**{"message": message, **context}, name=_name(loc), got=got))


def _name(loc: Loc) -> str:
    """What a place is called in a message: the last key, and which entry of it."""
    names = [part for part in loc if isinstance(part, str)]
    if not names:
        return "the file"
    return repr(names[-1]) if loc[-1] == names[-1] else f"an entry of {names[-1]!r}"


def describe(value: Any) -> str:
    """A value of a file in a few words."""
    if isinstance(value, str):
        return f"the text {short(value)!r}"
    if isinstance(value, dict | list):
        return "a mapping" if isinstance(value, dict) else "a list"
    if value is None:
        return "nothing"
    return str(value).lower() if isinstance(value, bool) else str(value)

"""Validates YAML data against dataclasses with pydantic, and collects all faults, each with its location.

A schema is a frozen dataclass that inherits from `Schema`. Containers are converted (a list fills a tuple); scalars
are checked strictly ("5" is not a number, 1 is not true), except that 3.2e6 is accepted as an integer. Families and
the Config of agents are plain dataclasses, and are validated as strictly. Bounds are written with `annotated_types`.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass as plain_dataclass
from functools import lru_cache
from types import NoneType, SimpleNamespace, UnionType
from typing import Annotated, Any, NamedTuple, TypeVar, Union, get_args, get_origin, get_type_hints

from pydantic import BeforeValidator, ConfigDict, Field, Strict, TypeAdapter, ValidationError, model_validator
from pydantic.dataclasses import dataclass
from pydantic_core import ErrorDetails, PydanticCustomError

from mrl_bench.errors import MrlBenchError, SourceError, UsageError, nearest, reason, similar
from mrl_bench.scenario.yaml_reader import Document, Loc, short

T = TypeVar("T")

# pydantic's error type -> our message. {name} is the key, {got} the value in the file.
_MESSAGES = {
    "invalid": "{message}",
    "value_error": "{error}",
    "assertion_error": "{error}",
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
    "greater_than": "{name} must be more than {gt}, not {got}",
    "less_than_equal": "{name} must be {le} or less, not {got}",
    "less_than": "{name} must be less than {lt}, not {got}",
}

_NUMBER = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_SEPARATORS = re.compile(r"(?<=[0-9])[_,' ](?=[0-9])")
_FLAGS = {
    **dict.fromkeys(("true", "yes", "on", "y"), "true"),
    **dict.fromkeys(("false", "no", "off", "n"), "false"),
}


class Fault(NamedTuple):
    """Something wrong in a file."""

    at: Loc
    message: str  # one line
    key: bool = False  # whether the key is wrong, not its value

    def under(self, *place: str | int) -> Fault:
        """The same fault of data that lie at a place of the file."""
        return self._replace(at=(*place, *self.at))


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
    if isinstance(value, list | tuple):
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
        known = [field.name for field in dataclasses.fields(cls)]
        for key in data if isinstance(data, dict) else ():
            if key not in known:
                raise invalid(f"unknown key {key!r}: {nearest(key, known)}", key=key)
        return data


def fill(cls: type[T], data: Any, noun: str = "key") -> tuple[T, list[Fault]]:
    """An instance of a dataclass, and all faults of the data.

    Args:
        cls: a `Schema`, or a plain dataclass such as a family or a Config.
        data: plain data, as from YAML.
        noun: what messages call a field.

    Returns:
        The instance, and no faults. Or, for further checks, a namespace with the fields (None where one is faulty, and
        None in its place if the data are no mapping), and the faults.
    """
    filling = _Filling(noun, not issubclass(cls, Schema), [])
    try:
        return filling.part(cls, data, ()), filling.faults
    except MrlBenchError:
        raise
    except (
        Exception
    ) as error:  # of a user's class: a type that pydantic does not know, a bug in __post_init__
        raise UsageError(f"{cls.__name__} cannot be made from these values: {reason(error)}") from error


def check(document: Document, faults: Iterable[Fault], elsewhere: Iterable[SourceError] = ()) -> None:
    """Raises all faults of a document as one SourceError, in the order of the file, and then those of other files."""
    errors: dict[tuple[int, int, str], SourceError] = {}
    for at, message, key in faults:
        error = document.error(at, " ".join(message.splitlines()), key)
        errors[error.line, error.column, error.message] = error
    found = [*(errors[place] for place in sorted(errors)), *elsewhere]
    if len(found) > 1:
        raise SourceError(found[0].path, found[0].line, found[0].column, found[0].message, found[1:])
    if found:
        raise found[0]


@plain_dataclass
class _Filling:
    """Fills a dataclass part by part: pydantic checks the values, and a faulty part does not hide the next one."""

    noun: str
    plain: bool  # a dataclass that knows nothing of pydantic
    faults: list[Fault]

    def part(self, hint: Any, data: Any, at: Loc) -> Any:
        inner = _core(hint, data)
        origin, args = get_origin(inner), get_args(inner)
        if isinstance(data, dict) and dataclasses.is_dataclass(inner):
            filled = self.fields(inner, data, at)
            return None if isinstance(filled, SimpleNamespace) and inner is not _core(hint) else filled
        if isinstance(data, dict) and origin is dict:
            return {key: self.part(args[1], entry, (*at, key)) for key, entry in data.items()}
        if isinstance(data, list) and origin is tuple and args[1:] == (...,):
            return tuple(self.part(args[0], entry, (*at, i)) for i, entry in enumerate(data))
        return self.value(hint, data, at)

    def fields(self, cls: Any, data: dict[str, Any], at: Loc) -> Any:
        known = {field.name: field for field in dataclasses.fields(cls) if field.init}
        hints, before = get_type_hints(cls, include_extras=True), len(self.faults)
        unknown = [key for key in data if key not in known]
        for key in unknown:
            message = f"unknown {self.noun} {self.name((*at, key))}: {nearest(key, known)}"
            self.faults.append(Fault((*at, key), message, key=True))
        meant = {similar(key, known) for key in unknown}
        filled: dict[str, Any] = dict.fromkeys(known)
        for name, field in known.items():
            if name in data:
                filled[name] = self.part(hints[name], data[name], (*at, name))
            elif name not in meant and _default(field) is dataclasses.MISSING:
                self.faults.append(Fault(at, f"{self.name((*at, name))} is missing"))
            elif name not in meant:
                filled[name] = _default(field)
        if len(self.faults) == before:
            return self.value(cls, data, at)  # each part is fine: what can fail now is the whole
        return SimpleNamespace(**filled)

    def value(self, hint: Any, data: Any, at: Loc) -> Any:
        try:
            if self.plain:  # as JSON: there, strict mode still converts a list to a tuple
                return _adapter(hint).validate_json(json.dumps(whole(data)), strict=True)
            return _adapter(hint).validate_python(data)
        except ValidationError as error:
            self.faults += [self._fault(at, details) for details in error.errors(include_url=False)]
        except UsageError as error:  # raised by a dataclass itself
            self.faults.append(Fault((*at, *_mentioned(str(error), data)), str(error)))
        return None

    def name(self, at: Loc) -> str:
        """How a message names a location: by its last key, and within settings and options by all of them."""
        names = [part for part in at if isinstance(part, str)]
        if not names:
            return "the file"
        name = ".".join(names) if self.plain else names[-1]
        return repr(name) if at[-1] == names[-1] else f"an entry of {name!r}"

    def _fault(self, at: Loc, details: ErrorDetails) -> Fault:
        context, kind, got = whole(details.get("ctx", {})), details["type"], details["input"]
        loc: Loc = (*at, *details["loc"], *context.get("at", ()))
        if key := context.get("key"):
            return Fault((*loc, key), details["msg"], key=True)
        message = details["msg"][:1].lower() + details["msg"][1:]
        words = {"message": message, **context, "name": self.name(loc), "got": describe(got)}
        text = _MESSAGES.get(kind, "{name}: {message}").format(**words) + slip(got, kind)
        if kind in ("value_error", "assertion_error"):  # raised by a dataclass itself
            loc = (*loc, *_mentioned(text, got))
        return Fault(loc, " ".join(text.split()))


@lru_cache(maxsize=1000)
def _adapter(hint: Any) -> TypeAdapter[Any]:
    return TypeAdapter(hint)


def _core(hint: Any, data: Any = None) -> Any:
    """X of `X | None` and of `Annotated[X, ...]`, and of several dataclasses the one with the keys of the data."""
    if get_origin(hint) is Annotated:
        return _core(get_args(hint)[0], data)
    if get_origin(hint) not in (Union, UnionType):
        return hint
    others = [_core(arg) for arg in get_args(hint) if arg is not NoneType]
    fitting = [other for other in others if _has_keys(other, data)]
    return others[0] if len(others) == 1 else fitting[0] if fitting else hint


def _has_keys(hint: Any, data: Any) -> bool:
    names = [field.name for field in dataclasses.fields(hint)] if dataclasses.is_dataclass(hint) else []
    return isinstance(data, dict) and list(data) == names


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def _mentioned(message: str, data: Any) -> Loc:
    """The first field that a message of a dataclass mentions, if it is in the data."""
    keys = data if isinstance(data, dict) else {}
    return next(((word,) for word in re.findall(r"\w+", message) if word in keys), ())


def slip(got: Any, kind: str) -> str:
    """What to write instead of text that was meant as a number or a flag; "" if that is not plain."""
    if not isinstance(got, str):
        return ""
    if kind == "bool_type" and got.lower() in _FLAGS:
        return f": write {_FLAGS[got.lower()]}" + (", without quotes" if got in ("true", "false") else "")
    number = _SEPARATORS.sub("", got.strip())
    if kind.startswith(("int_", "float_")) and _NUMBER.fullmatch(number):
        return f": write {number}, without " + ("quotes" if number == got.strip() else "separators")
    return ""


def describe(value: Any) -> str:
    """A short description of a value, for messages."""
    if isinstance(value, str):
        return f"the text {short(value)!r}"
    if isinstance(value, dict | list):
        return "a mapping" if isinstance(value, dict) else "a list"
    if value is None:
        return "nothing"
    return str(value).lower() if isinstance(value, bool) else str(value)

"""Reads a YAML file as plain data that knows where in the file each value stands.

YAML is more than a configuration needs, and PyYAML reads its version 1.1, in which `no` is False, `1e3` is
text and `12:30:45` is a number. So PyYAML's safe loader only takes the text apart into events here. What they
mean follows the YAML 1.2 core schema; aliases, tags, merge keys, further documents and all that could grow
without bound are refused, with a place and a reason.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from mrl_bench.errors import SourceError

MAX_BYTES = 50_000  # a scenario has about 1,000; PyYAML reads the worst of this length in about a second
MAX_DEPTH = 20
MAX_DIGITS = 18  # whole numbers fit in 64 bits

Loc = tuple[str | int, ...]  # the keys and list indices that lead to a value
Place = tuple[int, int]  # line and column, from 1

_NULL = re.compile(r"(null|Null|NULL|~|)\Z")
_TRUE = re.compile(r"(true|True|TRUE)\Z")
_FALSE = re.compile(r"(false|False|FALSE)\Z")
_INT = re.compile(r"[-+]?[0-9]+\Z")
_INT_BASE = re.compile(r"0o[0-7]+\Z|0x[0-9a-fA-F]+\Z")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?\Z")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)\Z|\.(nan|NaN|NAN)\Z")

# What no text may hold: control characters, halves of surrogate pairs, and line breaks of YAML 1.1 alone,
# after which its line numbers would differ from an editor's.
_UNPRINTABLE = re.compile(
    "[^\t\n\r\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]"
)

# How PyYAML's messages begin, and what its user needs to hear.
_SAID_BETTER = {
    "mapping values are not allowed": "a ': ' cannot stand here: look at the line above too, or use quotes",
    "could not find expected ':'": "a key must be followed by ': ' on the same line",
    "expected ',' or ']'": "this list needs a ',' between its items and a ']' at its end",
    "expected ',' or '}'": "this mapping needs ',' between entries and '}' at its end; quote text with brackets",
    "expected <block end>": "this does not fit what stands before it: check indentation and quotes",
    "expected the node content, but found '<stream end>'": "the file ends where a value is expected",
    "expected the node content": "a value is expected here",
    "expected '<document start>'": "the document has ended before: nothing may follow",
    "found unexpected end of stream": "the file ends inside a quoted text: add the closing quote",
    "found unexpected document separator": "the document ends inside a quoted text: add the closing quote",
    "block sequence entries are not allowed": "a '- ' cannot stand here: begin the list on a line of its own",
    "sequence entries are not allowed": "a '- ' cannot stand here: begin the list on a line of its own",
    "found unknown escape character": "this backslash means nothing in double quotes: use single quotes",
    "found character '\\t'": "a tab cannot indent or separate: use spaces",
    "found character": "text cannot begin with this character: put it in quotes",
}


@dataclass(frozen=True)
class Document:
    """A YAML file: its data, made of dict, list, str, int, float, bool and None, and where they stand."""

    path: Path
    data: Any
    values: dict[Loc, Place] = field(repr=False)  # where each value begins; () is the whole
    keys: dict[Loc, Place] = field(repr=False)  # where the key of each entry of a mapping begins

    def where(self, loc: Sequence[str | int], key: bool = False) -> Place:
        """The place of a value, or of its key.

        Parts of `loc` that lead nowhere are skipped: a missing key stands where its mapping does, and the
        names of union members, which pydantic puts into its locations, stand nowhere.
        """
        at: Loc = ()
        for part in loc:
            if (*at, part) in self.values:
                at = (*at, part)
        return self.keys.get(at, self.values[at]) if key else self.values[at]

    def error(self, loc: Sequence[str | int], message: str, key: bool = False) -> SourceError:
        """An error to raise, at the place of a value or of its key."""
        return SourceError(self.path, *self.where(loc, key), message)


def read(path: Path | str) -> Document:
    """Reads a YAML file.

    Raises:
        SourceError: the file cannot be read, or is not one document in the part of YAML that is allowed.
    """
    path = Path(path)
    return parse(_text(path), path)


def parse(text: str, name: Path | str) -> Document:
    """Reads YAML that is no file; `name` stands for the path in errors.

    Raises:
        SourceError: as of `read`.
    """
    if bad := _UNPRINTABLE.search(text):
        raise SourceError(name, *_end(text[: bad.start()]), _unprintable(bad[0]))
    return _Reader(Path(name), text).document()


def _text(path: Path) -> str:
    """The text of a file that is readable and small."""
    try:
        if path.exists() and not path.is_file():
            raise SourceError(path, 1, 1, "this is a folder or a device, not a YAML file")
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise SourceError(path, 1, 1, "there is no such file") from None
    except OSError as error:
        raise SourceError(path, 1, 1, f"the file cannot be read: {error.strerror}") from None
    if len(data) > MAX_BYTES:
        raise SourceError(path, 1, 1, f"the file is longer than {MAX_BYTES:,} bytes")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before, byte = error.object[: error.start].decode(), error.object[error.start]
        raise SourceError(path, *_end(before), f"byte 0x{byte:02x} is not UTF-8 text") from None


def _end(text: str) -> Place:
    """The place just behind a text."""
    lines = re.split("\r\n|\r|\n", text)
    return len(lines), len(lines[-1]) + 1


class _Reader:
    """Builds the data from PyYAML's events, never deeper than MAX_DEPTH."""

    def __init__(self, path: Path, text: str) -> None:
        self.path = path
        self.loader = yaml.SafeLoader(text)
        self.events = self._events()
        self.values: dict[Loc, Place] = {}
        self.keys: dict[Loc, Place] = {}

    def document(self) -> Document:
        next(self.events)  # the start of the stream
        if isinstance(next(self.events), yaml.StreamEndEvent):
            raise SourceError(self.path, 1, 1, "the file is empty")
        data = self._value(next(self.events), ())
        next(self.events)  # the end of the document
        if not isinstance(rest := next(self.events), yaml.StreamEndEvent):
            raise self._error(rest, "a second document begins here: a file holds one")
        return Document(self.path, data, self.values, self.keys)

    def _events(self) -> Iterator[Any]:
        try:
            while self.loader.check_event():
                yield self.loader.get_event()  # type: ignore[no-untyped-call]
        except yaml.MarkedYAMLError as error:
            raise self._syntax_error(error) from None
        except (ValueError, OverflowError):  # an escape beyond Unicode, a version with 5,000 digits
            raise self._error(self.loader, "this number or escape sequence is out of range") from None

    def _value(self, event: Any, loc: Loc) -> Any:
        self._check_bare(event)
        if len(loc) > MAX_DEPTH:
            raise self._error(event, f"nested more than {MAX_DEPTH} levels deep")
        self.values[loc] = _place(event.start_mark)
        if isinstance(event, yaml.ScalarEvent):
            return self._scalar(event)
        return self._list(loc) if isinstance(event, yaml.SequenceStartEvent) else self._mapping(loc)

    def _check_bare(self, event: Any) -> None:
        """Refuses the decorations of YAML: aliases, anchors and tags."""
        if isinstance(event, yaml.AliasEvent):
            raise self._error(event, f"aliases are not allowed: write out what *{event.anchor} stands for")
        if event.anchor is not None:
            raise self._error(event, f"anchors are not allowed: remove &{event.anchor}")
        if event.tag is not None:
            tag = event.tag.replace("tag:yaml.org,2002:", "!!")
            raise self._error(event, f"tags are not allowed: remove {short(tag)}")

    def _list(self, loc: Loc) -> list[Any]:
        items: list[Any] = []
        while not isinstance(event := next(self.events), yaml.SequenceEndEvent):
            items.append(self._value(event, (*loc, len(items))))
        return items

    def _mapping(self, loc: Loc) -> dict[str, Any]:
        entries: dict[str, Any] = {}
        while not isinstance(event := next(self.events), yaml.MappingEndEvent):
            key = self._key(event)
            if key in entries:
                line, _ = self.keys[*loc, key]
                raise self._error(
                    event, f"key {short(key)!r} stands on line {line} already: keep one of them"
                )
            self.keys[*loc, key] = _place(event.start_mark)
            entries[key] = self._value(next(self.events), (*loc, key))
        return entries

    def _key(self, event: Any) -> str:
        self._check_bare(event)
        if not isinstance(event, yaml.ScalarEvent):
            raise self._error(event, "a key must be text, not a list or a mapping")
        if event.implicit[0] and event.value == "<<":
            raise self._error(event, "merge keys are not allowed: write out the entries")
        key = self._scalar(event)
        if not isinstance(key, str):
            raise self._error(
                event, f"a key must be text: put {short(event.value)!r} in quotes if you mean it"
            )
        return key

    def _scalar(self, event: Any) -> Any:
        text: str = event.value
        if bad := _UNPRINTABLE.search(text):  # by an escape sequence
            raise self._error(event, _unprintable(bad[0]))
        if not event.implicit[0]:  # in quotes or a block
            return text
        if _NULL.match(text):
            return None
        if _TRUE.match(text):
            return True
        if _FALSE.match(text):
            return False
        if _INT.match(text) or _INT_BASE.match(text):
            if len(text) > MAX_DIGITS:
                raise self._error(event, f"a whole number has at most {MAX_DIGITS} digits")
            return int(text) if _INT.match(text) else int(text, 0)
        if _FLOAT.match(text) and math.isfinite(number := float(text)):
            return number
        if _FLOAT.match(text) or _NOT_FINITE.match(text):
            raise self._error(event, f"a number must be finite and below 1.8e308, not {short(text)}")
        return text

    def _error(self, at: Any, message: str) -> SourceError:
        mark = at.start_mark if isinstance(at, yaml.Event) else at.get_mark()
        return SourceError(self.path, *_place(mark), message)

    def _syntax_error(self, error: yaml.MarkedYAMLError) -> SourceError:
        problem = (error.problem or "").replace("'\\x00'", "the end of the file")
        said = (said for start, said in _SAID_BETTER.items() if problem.startswith(start))
        message = next(said, f"not valid YAML: {problem}")
        mark, begin = error.problem_mark or self.loader.get_mark(), error.context_mark
        if begin and begin.line < mark.line:
            message += f" (what is unfinished began on line {begin.line + 1})"
        return SourceError(self.path, *_place(mark), message)


def _unprintable(character: str) -> str:
    return f"character U+{ord(character):04X} is not allowed: text must be printable"


def _place(mark: Any) -> Place:
    return mark.line + 1, mark.column + 1


def short(text: str) -> str:
    """A text, cut where it would make a message too long."""
    return text if len(text) <= 40 else text[:37] + "..."

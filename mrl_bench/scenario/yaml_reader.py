"""Reads a YAML file as plain data, and records the line and column of every key and value.

PyYAML's composer parses the text into nodes, each with its position. Three things differ from `yaml.safe_load`:
scalars follow the YAML 1.2 core schema (in YAML 1.1, `no` is False and `1e3` is text); anchors, aliases, tags, merge
keys and duplicate keys are refused; length, depth and digits are limited, so a hostile file cannot exhaust memory.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from mrl_bench.errors import SourceError

# A scenario has about 1,000; PyYAML needs about a second for the worst file of this length.
MAX_BYTES = 50_000
MAX_DEPTH = 20
MAX_DIGITS = 18  # integers fit in 64 bits

Loc = tuple[str | int, ...]  # the keys and list indices that lead to a value
Place = tuple[int, int]  # line and column, from 1

# Plain scalars of the YAML 1.2 core schema.
_CONSTANTS: dict[str, bool | None] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_DECIMAL = re.compile(r"[-+]?[0-9]+")
_OCTAL_OR_HEX = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_BRACKETED = re.compile(r"\w+\[[\w*=]+\]")  # the name of a vector parameter
_LONGEST_NAME = 100  # characters
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")

# Refused in any text: control characters, surrogates, and the line breaks of YAML 1.1 alone, which would make
# PyYAML's line numbers differ from an editor's.
_UNPRINTABLE = re.compile(
    "[^\t\n\r\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]"
)

# The first words of PyYAML's message -> a message that says how to fix the file.
_CLEARER = {
    "mapping values are not allowed": "a ': ' is not allowed here: look at the line above too, or use quotes",
    "could not find expected ':'": "a key must be followed by ': ' on the same line",
    "expected ',' or ']'": "this list needs a ',' between its items and a ']' at its end",
    "expected ',' or '}'": "this mapping needs ',' between entries and '}' at its end; quote text with brackets",
    "expected <block end>": "this does not fit the text before it: check indentation and quotes",
    "expected the node content, but found '<stream end>'": "the file ends where a value is expected",
    "expected the node content": "a value is expected here",
    "expected '<document start>'": "the document has ended: nothing may follow",
    "found unexpected end of stream": "the file ends inside a quoted text: add the closing quote",
    "found unexpected document separator": "the document ends inside a quoted text: add the closing quote",
    "block sequence entries are not allowed": "a '- ' is not allowed here: begin the list on a new line",
    "sequence entries are not allowed": "a '- ' is not allowed here: begin the list on a new line",
    "found unknown escape character": "unknown escape sequence in double quotes: use single quotes",
    "expected alphabetic or numeric character": "'*' and '&' begin aliases and anchors: put the text in quotes",
    "found character '\\t'": "a tab cannot indent or separate: use spaces",
    "found character": "text cannot begin with this character: put it in quotes",
}


@dataclass(frozen=True)
class Document:
    """A YAML file: its data (dict, list, str, int, float, bool and None) and the position of each part."""

    path: Path
    data: Any
    values: dict[Loc, Place] = field(repr=False)  # where each value begins; () is the whole document
    keys: dict[Loc, Place] = field(repr=False)  # where the key of each mapping entry begins

    def where(self, loc: Sequence[str | int], key: bool = False) -> Place:
        """The position of a value, or of its key.

        Parts of `loc` that do not exist are skipped. So a missing key is reported at its mapping, and the names
        of union members, which pydantic puts into its locations, do no harm.
        """
        at: Loc = ()
        for part in loc:
            if (*at, part) in self.values:
                at = (*at, part)
        return self.keys.get(at, self.values[at]) if key else self.values[at]

    def error(self, loc: Sequence[str | int], message: str, key: bool = False) -> SourceError:
        """An error to raise, at the position of a value or of its key."""
        return SourceError(self.path, *self.where(loc, key), message)


def read(path: Path | str) -> Document:
    """Reads a YAML file.

    Raises:
        SourceError: the file cannot be read, or is not one document of the permitted subset of YAML.
    """
    path = Path(path)
    return parse(_text(path), path)


def parse(text: str, name: Path | str) -> Document:
    """Reads YAML from a string; `name` takes the place of the path in errors.

    Raises:
        SourceError: as for `read`.
    """
    if bad := _UNPRINTABLE.search(text):
        raise SourceError(name, *_end(text[: bad.start()]), _unprintable(bad[0]))
    document = Document(Path(name), None, {}, {})
    return replace(document, data=_build(_compose(text, str(name)), (), document))


def _text(path: Path) -> str:
    """The text of a file, which must be a regular file of at most MAX_BYTES of UTF-8."""
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
    """The position just after a text."""
    lines = re.split("\r\n|\r|\n", text)
    return len(lines), len(lines[-1]) + 1


class _Loader(yaml.SafeLoader):
    """Refuses anchors, aliases, tags, collections as keys and deep nesting, before they are composed."""

    depth = 0  # of the node that is being composed; the document's own is 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent):
            raise _error(event, f"aliases are not allowed: write out the value of *{event.anchor}")
        if event.anchor is not None:
            raise _error(event, f"anchors are not allowed: remove &{event.anchor}")
        if event.tag is not None:
            tag = event.tag.replace("tag:yaml.org,2002:", "!!")
            raise _error(event, f"tags are not allowed: remove {short(tag)}")
        is_key = parent is not None and index is None
        if is_key and not isinstance(event, yaml.ScalarEvent):
            raise _error(event, "a key must be text, not a list or a mapping")
        if self.depth > MAX_DEPTH and not is_key:
            raise _error(event, f"nested more than {MAX_DEPTH} levels deep")
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


def _compose(text: str, name: str) -> Any:
    """The root node of the only document in a text."""
    loader = _Loader(text)
    loader.name = name  # PyYAML copies it into every mark
    try:
        if not loader.check_node():
            raise SourceError(name, 1, 1, "the file is empty")
        node = loader.get_node()
        if loader.check_node():
            raise _error(loader.peek_event(), "a second document begins here: a file holds one")  # type: ignore[no-untyped-call]
    except yaml.MarkedYAMLError as error:
        raise _syntax_error(error, loader) from None
    except (ValueError, OverflowError):  # an escape beyond Unicode, a version with 5,000 digits
        message = "this number or escape sequence is out of range"
        raise SourceError(name, *_place(loader.get_mark()), message) from None
    return node


def _build(node: Any, loc: Loc, document: Document) -> Any:
    """The data of a node; records its position in the document."""
    document.values[loc] = _place(node.start_mark)
    if isinstance(node, yaml.ScalarNode):
        return _scalar(node)
    if isinstance(node, yaml.SequenceNode):
        return [_build(item, (*loc, i), document) for i, item in enumerate(node.value)]
    entries: dict[str, Any] = {}
    for key_node, value_node in node.value:
        key = _key(key_node)
        if key in entries:
            line, _ = document.keys[*loc, key]
            raise _error(key_node, f"duplicate key {short(key)!r}, first on line {line}: keep one of them")
        document.keys[*loc, key] = _place(key_node.start_mark)
        entries[key] = _build(value_node, (*loc, key), document)
    return entries


def _key(node: Any) -> str:
    if node.style is None and node.value == "<<":
        raise _error(node, "merge keys are not allowed: write out the entries")
    key = _scalar(node)
    if not isinstance(key, str):
        raise _error(node, f"a key must be text: put {short(node.value)!r} in quotes")
    return key


def _scalar(node: Any) -> str | int | float | bool | None:
    """The value of a scalar. `node.tag`, which PyYAML resolved by YAML 1.1, is ignored."""
    text: str = node.value
    if bad := _UNPRINTABLE.search(text):  # written as an escape sequence
        raise _error(node, _unprintable(bad[0]))
    if node.style is not None:  # quoted, or a block scalar
        return text
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    decimal = _DECIMAL.fullmatch(text)
    if decimal or _OCTAL_OR_HEX.fullmatch(text):
        if len(text) > MAX_DIGITS:
            raise _error(node, f"an integer has at most {MAX_DIGITS} digits")
        return int(text) if decimal else int(text, 0)
    if _NOT_FINITE.fullmatch(text) or (_FLOAT.fullmatch(text) and math.isinf(float(text))):
        raise _error(node, f"a number must be finite and below 1.8e308, not {short(text)}")
    return float(text) if _FLOAT.fullmatch(text) else text


def _syntax_error(error: yaml.MarkedYAMLError, loader: _Loader) -> SourceError:
    problem = (error.problem or "").replace("'\\x00'", "the end of the file")
    clearer = (message for start, message in _CLEARER.items() if problem.startswith(start))
    mark, begin = error.problem_mark or loader.get_mark(), error.context_mark
    if name := _unquoted_name(mark):
        message = f"a name with brackets needs quotes within braces: write '{short(name[1])}'"
        return SourceError(loader.name, mark.line + 1, mark.column + 1 - name[0], message)
    message = next(clearer, f"not valid YAML: {problem}")
    if begin and begin.line < mark.line:
        message += f" (the unfinished part begins on line {begin.line + 1})"
    return SourceError(loader.name, *_place(mark), message)


def _unquoted_name(mark: Any) -> tuple[int, str] | None:
    """A name with brackets around a mark, as in {body_mass[*]: 1}, and how far before the mark it begins.

    Within braces, PyYAML reads it as a name and then a list or an alias.
    """
    before = mark.buffer[max(mark.pointer - min(mark.column, _LONGEST_NAME), 0) : mark.pointer]
    after = mark.buffer[mark.pointer : mark.pointer + _LONGEST_NAME]
    for found in _BRACKETED.finditer(before + after):
        if found.start() <= len(before) <= found.end():
            return len(before) - found.start(), found[0]
    return None


def _error(at: Any, message: str) -> SourceError:
    """An error at a node or an event."""
    return SourceError(at.start_mark.name, *_place(at.start_mark), message)


def _unprintable(character: str) -> str:
    return f"character U+{ord(character):04X} is not allowed: text must be printable"


def _place(mark: Any) -> Place:
    return mark.line + 1, mark.column + 1


def short(text: str) -> str:
    """A text, cut where it would make a message too long."""
    return text if len(text) <= 40 else text[:37] + "..."

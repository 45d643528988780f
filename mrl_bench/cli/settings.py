"""The settings that a dataclass declares, as its source describes them: the comment at each field is its meaning."""

from __future__ import annotations

import ast
import inspect
import io
import textwrap
import tokenize
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from operator import attrgetter
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

_SIGNS = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}  # of the bounds in `annotated_types`


class Setting(NamedTuple):
    """A field of a dataclass, as its source declares it."""

    name: str
    type: str
    default: Any
    doc: str


def settings(cls: Any) -> list[Setting]:
    """The fields of a dataclass with defaults; those of a dataclass in a field are named `outer.inner`."""
    default, docs = cls(), field_comments(cls)
    hints = get_type_hints(cls, include_extras=True)
    found: list[Setting] = []
    for field in fields(cls):
        value, hint = getattr(default, field.name), hints[field.name]
        if is_dataclass(value):
            found += [
                row._replace(name=f"{field.name}.{row.name}", default=attrgetter(row.name)(value))
                for row in settings(type(value))
            ]
        else:
            found.append(Setting(field.name, _type(hint), value, docs.get(field.name, "")))
    return found


def _type(hint: Any) -> str:
    """A type as it stands in a table, with its bounds, as "int >= 1"."""
    if get_origin(hint) is Annotated:
        inner, *bounds = get_args(hint)
        return " ".join([_type(inner), *filter(None, map(_bounds, bounds))])
    if get_origin(hint) is tuple:
        return f"tuple[{', '.join('...' if arg is ... else _type(arg) for arg in get_args(hint))}]"
    if get_origin(hint) is Literal:
        return " | ".join(map(repr, get_args(hint)))
    if get_origin(hint) in (Union, UnionType):
        return " | ".join(map(_type, get_args(hint)))
    return "None" if hint is NoneType else hint.__name__ if type(hint) is type else str(hint)


def _bounds(bound: Any) -> str:
    limits = {sign: getattr(bound, name, None) for name, sign in _SIGNS.items()}
    return ", ".join(f"{sign} {limit:g}" for sign, limit in limits.items() if limit is not None)


def field_comments(cls: Any) -> dict[str, str]:
    """The comment of each field of a dataclass and its bases: on its lines, else directly above it."""
    comments: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        if hasattr(base, "__dataclass_fields__"):
            try:
                comments |= _comments(textwrap.dedent(inspect.getsource(base)))
            except (OSError, TypeError):  # no source, as of a class that was made in a console
                continue
    return comments


def _comments(source: str) -> dict[str, str]:
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    at = {
        token.start: token.string.lstrip("# ").strip() for token in tokens if token.type == tokenize.COMMENT
    }
    lines = source.splitlines()
    text = {line: comment for (line, _), comment in at.items()}
    alone = {line for line, column in at if not lines[line - 1][:column].strip()}
    body = ast.parse(source).body[0]
    assert isinstance(body, ast.ClassDef)
    found: dict[str, str] = {}
    # The line of the last field, and the comment above it: it may be about several fields.
    last, shared = 0, ""
    for node in body.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            first, end = node.lineno, node.end_lineno or node.lineno
            own = [text[line] for line in range(first, end + 1) if line in text]
            above = " ".join(_above(first, alone, text))
            shared = "" if own else above or (shared if last == first - 1 else "")
            found[node.target.id], last = " ".join(own) or shared, end
    return found


def _above(line: int, alone: Iterable[int], text: Mapping[int, str]) -> list[str]:
    """The block of comment lines that ends directly above a line."""
    block: list[str] = []
    while line - 1 in alone:
        line -= 1
        block.insert(0, text[line])
    return block

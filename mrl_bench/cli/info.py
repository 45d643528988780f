"""`mrl-bench list` and `mrl-bench info NAME`: what there is, and what can be set.

Meanings come from the source: the docstring of a family or agent, and the comment at each field of a dataclass.
"""

from __future__ import annotations

import argparse
import ast
import inspect
import io
import textwrap
import tokenize
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, fields, is_dataclass, replace
from importlib.util import find_spec
from operator import attrgetter
from pathlib import Path
from types import NoneType, UnionType
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Literal,
    NamedTuple,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from mrl_bench import registry
from mrl_bench.errors import MrlBenchError, UsageError, nearest

if TYPE_CHECKING:
    from mrl_bench.family import Param
    from mrl_bench.scenario import Scenario

_REFERENCES = {
    "random": "Reference agent: uniform random actions; score 0.",
    "blind": "Reference agent: PPO on all tasks at once, without any means to adapt.",
    "oracle": "Reference agent: PPO that observes the task's hidden parameters; score 1.",
}
_SIGNS = {"gt": ">", "ge": ">=", "lt": "<", "le": "<="}  # of the bounds in `annotated_types`


class Setting(NamedTuple):
    """A field of a dataclass, as its source declares it."""

    name: str
    type: str
    default: Any
    doc: str


# -- list ----------------------------------------------------------------------------------------------------------


def list_command(options: argparse.Namespace) -> int:
    """Prints scenarios, suites, families and agents, each with one line on what it is."""
    from mrl_bench.scenario import find_scenario, list_scenarios
    from mrl_bench.scenario.suite import list_suites, suites_dir

    scenarios = [find_scenario(name) for name in list_scenarios()]
    rows = [(s.id, s.family_name, str(s.horizon), "-", s.doc) for s in scenarios]
    _print_table("scenarios", [("name", "family", "horizon", "headroom", "what it asks"), *rows])
    suites = [(name, _doc_of_yaml(suites_dir() / f"{name}.yaml")) for name in list_suites()]
    _print_table("suites", [("name", "what it runs"), *suites])
    for kind, title in (("family", "families"), ("agent", "agents")):
        names = registry.names(kind)
        _print_table(title, [("name", "what it is"), *((name, summary(kind, name)) for name in names)])
    print("mrl-bench info NAME describes one of them, with all its settings.")
    return 0


def summary(kind: str, name: str) -> str:
    """One line on a family or an agent: of its class's docstring, else of its module's. Imports nothing heavy."""
    if kind == "agent" and name in _REFERENCES:
        return _REFERENCES[name]
    module, _, attribute = registry.names(kind)[name].partition(":")
    if kind == "family":
        return _first_line(inspect.getdoc(registry.find(kind, name)))
    spec = find_spec(module)
    tree = ast.parse(Path(str(spec and spec.origin)).read_text(encoding="utf-8"))
    classes: list[ast.Module | ast.ClassDef] = [tree]
    classes[:0] = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == attribute]
    docs = (ast.get_docstring(node) for node in classes)
    return _first_line(next(filter(None, docs), None))


def _doc_of_yaml(path: Path) -> str:
    from mrl_bench.scenario.yaml_reader import read

    data = read(path).data
    return " ".join(str(data.get("doc", "")).split()) if isinstance(data, Mapping) else ""


def _first_line(doc: str | None) -> str:
    return (doc or "").partition("\n")[0].strip()


# -- info ----------------------------------------------------------------------------------------------------------


def info_command(options: argparse.Namespace) -> int:
    """Describes what a name stands for; names are looked up among scenarios, families and agents."""
    from mrl_bench.scenario import find_scenario, list_scenarios

    name = options.name
    if name in registry.names("family"):
        _print_family(name, registry.find("family", name))
    elif name in registry.names("agent"):
        _print_agent(name, registry.find("agent", name))
    elif ":" in name:
        found = registry.find("agent", name)
        (_print_family if hasattr(found, "params") else _print_agent)(name, found)
    elif name in list_scenarios() or name.endswith((".yaml", ".yml")):
        _print_scenario(find_scenario(name))
    else:
        known = [*list_scenarios(), *registry.names("family"), *registry.names("agent")]
        raise UsageError(f"no scenario, family or agent {name!r}: {nearest(name, known)}")
    return 0


def _print_scenario(scenario: Scenario) -> None:
    print(f"scenario {scenario.id}, digest {scenario.digest}\n{scenario.doc}\n")
    shown = ", ".join(f"{name} = {value}" for name, value in scenario.options.items())
    print(f"family    {scenario.family_name}" + (f" ({shown})" if shown else ""))
    print(f"horizon   {scenario.horizon} control steps, {scenario.horizon * scenario.family.spec.dt:g} s")
    protocol, budget = scenario.protocol, asdict(scenario.budget)
    print(f"protocol  k = {', '.join(map(str, protocol.k))} adaptation episodes;", end=" ")
    print(f"{protocol.episodes_per_round} a round, {protocol.scored_episodes} scored at each k")
    print("budget    " + ", ".join(f"{name} {steps:,}" for name, steps in budget.items()), "env steps")
    played = sum(len(scenario.tasks(split)) for split in scenario.splits)
    episodes = played * (len(protocol.k) * protocol.scored_episodes + protocol.k[-1])
    print(
        f"cost      one agent and seed: {budget['meta_train']:,} env steps of meta-training, "
        f"up to {episodes * scenario.horizon:,} of evaluation\n"
    )
    counts = [f"{split.count or 'endless'}" for split in scenario.splits.values()]
    _print_table("tasks", [("", *scenario.splits), ("count", *counts), *_distributions(scenario)])


def _distributions(scenario: Scenario) -> Iterator[tuple[str, ...]]:
    """A row for each parameter that is not fixed at its default: its name, and its distribution in each split."""
    for name, param in scenario.family.params.items():
        drawn = [split.draws[name].distribution for split in scenario.splits.values()]
        if any(distribution.values != (param.default,) for distribution in drawn):
            yield (name, *map(_describe, drawn))


def _describe(distribution: Any) -> str:
    """A distribution as it stands in YAML, as "uniform 5 to 15"."""
    ((kind, value),) = asdict(distribution).items()
    if kind == "fixed":
        return f"{value:g}"
    if kind == "normal":
        return "normal " + ", ".join(f"{name} {number:g}" for name, number in value.items())
    if kind == "choice":
        return "choice of " + ", ".join(f"{number:g}" for number in value)
    spans = value if kind == "ranges" else [value]
    return f"{kind} " + " and ".join(f"{low:g} to {high:g}" for low, high in spans)


def _print_family(name: str, cls: Any) -> None:
    print(f"family {name}\n{inspect.getdoc(cls)}\n")
    _print_settings("options", settings(cls))
    rows = [(name, *_param(param)) for name, param in cls().params.items()]
    rows += [(f"{name} ({option})", *_param(param)) for option, name, param in _further_params(cls)]
    _print_table("parameters", [("name", "default", "bounds", "unit", "meaning"), *rows])


def _param(param: Param) -> tuple[str, str, str, str]:
    bounds = f"{param.low:g} to {param.high:g}"
    if param.values is not None:
        bounds = ", ".join(f"{value:g}" for value in param.values)
    return f"{param.default:g}", bounds, param.unit, param.doc


def _further_params(cls: Any) -> Iterator[tuple[str, str, Param]]:
    """(option, parameter, Param) of the parameters that exist only where an option differs from its default."""
    default, seen = cls(), set(cls().params)
    for name, hint in get_type_hints(cls).items():
        for choice in _other_choices(hint, getattr(default, name)):
            try:
                params = replace(default, **{name: choice}).params
            except (MrlBenchError, ValueError):  # it needs other options too
                continue
            for param in [param for param in params if param not in seen]:
                seen.add(param)
                yield f"{name}: {str(choice).lower()}", param, params[param]


def _other_choices(hint: Any, default: Any) -> tuple[Any, ...]:
    """Values of an option that may bring in further parameters: every literal, the other bool, 1 in place of 0."""
    if get_origin(hint) is Literal:
        return get_args(hint)
    if hint is bool:
        return (not default,)
    return (1,) if hint is int and default == 0 else ()


def _print_agent(name: str, cls: Any) -> None:
    module = inspect.getmodule(cls)
    doc = _REFERENCES.get(name) or inspect.getdoc(cls) or (module and module.__doc__) or ""
    print(f"agent {name}\n{doc.strip()}\n")
    if not is_dataclass(getattr(cls, "Config", None)):
        raise UsageError(f"{name} is no agent: it has no dataclass 'Config'")
    _print_settings("settings (--set NAME=VALUE, or `set` in a suite)", settings(cls.Config))


# -- settings from source ------------------------------------------------------------------------------------------


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
    last, shared = (
        0,
        "",
    )  # the line of the last field, and the comment above it: it may be about several fields
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


def _print_settings(title: str, rows: Sequence[Setting]) -> None:
    if not rows:
        print(f"{title}: none\n")
        return
    shown = [(row.name, row.type, str(row.default), row.doc) for row in rows]
    _print_table(title, [("name", "type", "default", "meaning"), *shown])


def _print_table(title: str, rows: Sequence[Sequence[str]]) -> None:
    """Left-aligned columns under a title; the first row is their head."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    print(f"{title}:")
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print(("  " + "  ".join(cells)).rstrip())
    print()

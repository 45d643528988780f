"""`mrl-bench list` and `mrl-bench info NAME`: what there is, and what can be set.

Meanings come from the source: the docstring of a family or agent, and the comment at each field of a dataclass.
"""

from __future__ import annotations

import argparse
import ast
import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import is_dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin, get_type_hints

from mrl_bench import registry
from mrl_bench.cli.layout import print_facts, print_table, print_text
from mrl_bench.cli.settings import Setting, settings
from mrl_bench.errors import MrlBenchError, UsageError

if TYPE_CHECKING:
    from mrl_bench.family import Param
    from mrl_bench.runs.run import Run
    from mrl_bench.scenario import Scenario
    from mrl_bench.scenario.suite import Suite

_REFERENCES = {
    "random": "Reference agent: uniform random actions; score 0.",
    "blind": "Reference agent: PPO on all tasks at once, without any means to adapt.",
    "oracle": "Reference agent: PPO that observes the task's hidden parameters; score 1.",
}


# -- list ----------------------------------------------------------------------------------------------------------


def list_command(options: argparse.Namespace) -> int:
    """Prints scenarios, suites, families and agents, each with one line on what it is."""
    from mrl_bench.scenario import find_scenario, list_scenarios
    from mrl_bench.scenario.suite import list_suites, suites_dir

    scenarios = [find_scenario(name) for name in list_scenarios()]
    rows = [(s.id, s.family_name, str(s.horizon), s.doc) for s in scenarios]
    print_table("scenarios", ("name", "family", "horizon", "what it asks"), rows)
    suites = [(name, _doc_of_yaml(suites_dir() / f"{name}.yaml")) for name in list_suites()]
    print_table("suites", ("name", "what it runs"), suites)
    for kind, title in (("family", "families"), ("agent", "agents")):
        known = [(name, summary(kind, name)) for name in registry.names(kind)]
        print_table(title, ("name", "what it is"), known)
    print_text("mrl-bench info NAME describes one of them, with all its settings.")
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
    """Describes what a name stands for; names are looked up among families, agents, scenarios and suites."""
    from mrl_bench.scenario import find_scenario, list_scenarios
    from mrl_bench.scenario.suite import find_suite, is_suite, list_suites
    from mrl_bench.scenario.yaml_reader import read

    name, is_file = options.name, options.name.endswith((".yaml", ".yml"))
    if name in registry.names("family"):
        _print_family(name, registry.find("family", name))
    elif name in registry.names("agent") or ":" in name:
        found = registry.find("agent", name)
        (_print_family if hasattr(found, "params") else _print_agent)(name, found)
    elif name in list_suites() or (is_file and is_suite(read(Path(name)).data)):
        _print_suite(find_suite(name))
    elif name in list_scenarios() or is_file:
        _print_scenario(find_scenario(name))
    else:
        known = [*list_scenarios(), *list_suites(), *registry.names("family"), *registry.names("agent")]
        hint = registry.suggestion(name, known, listed_by="mrl-bench list")
        raise UsageError(f"no scenario, suite, family or agent {name!r}: {hint}")
    return 0


def _print_scenario(scenario: Scenario) -> None:
    from mrl_bench.scenario.description import budget_in_words, drawn_params, protocol_in_words

    print_text(f"scenario {scenario.id}, digest {scenario.digest}\n\n{scenario.doc}\n")
    shown = ", ".join(f"{name} = {value}" for name, value in scenario.options.items())
    seconds = scenario.horizon * scenario.family.spec.dt
    print_facts(
        [
            ("family", scenario.family_name + (f" ({shown})" if shown else "")),
            ("horizon", f"{scenario.horizon} control steps, {seconds:g} s"),
            ("protocol", protocol_in_words(scenario.protocol)),
            ("budget", budget_in_words(scenario.budget)),
            (
                "cost",
                f"one agent and seed: {scenario.budget.meta_train:,} env steps of meta-training, "
                f"up to {_evaluation_steps(scenario, scenario.protocol.k):,} of evaluation",
            ),
        ]
    )
    counts = [f"{split.count or 'endless'}" for split in scenario.splits.values()]
    params = [(param.name, *param.draws.values()) for param in drawn_params(scenario)]
    print_table("tasks", ("", *scenario.splits), [("count", *counts), *params])


def _evaluation_steps(scenario: Scenario, k: Sequence[int]) -> int:
    """Env steps of the evaluation of one run that is scored at each k, if no episode ends early."""
    protocol, tasks = scenario.protocol, sum(len(scenario.tasks(split)) for split in scenario.splits)
    return tasks * (len(k) * protocol.scored_episodes + k[-1]) * scenario.horizon


def _print_suite(suite: Suite) -> None:
    from mrl_bench.runs.executor import plan_runs
    from mrl_bench.scenario.references import shipped_references

    for agent in {agent.agent for entry in suite.entries for agent in entry.agents}:
        registry.find("agent", agent)
    runs = plan_runs(suite, "cpu")
    trained = sum(run.planned_env_steps for run in runs)
    played = sum(
        _evaluation_steps(run.scenario, run.scenario.protocol.scored_at(run.agent.name)) for run in runs
    )
    provisional = [entry.scenario.id for entry in suite.entries if shipped_references(entry.scenario) is None]
    print_text(f"suite {suite.id}\n\n{suite.doc}\n")
    print_facts(
        [
            ("seeds", f"{suite.seeds} of each agent"),
            ("references", f"provisional for {', '.join(provisional)}" if provisional else "ship"),
            ("runs", f"{len(runs)}, on {len(suite.entries)} scenario{'s' * (len(suite.entries) != 1)}"),
            ("cost", f"at most {trained:,} env steps of meta-training and {played:,} of evaluation"),
            ("time", _core_hours(suite, runs)),
        ]
    )
    rows = []
    for entry in suite.entries:
        own = [run for run in runs if run.scenario.id == entry.scenario.id]
        budget = entry.scenario.budget.meta_train
        steps = sum(run.planned_env_steps for run in own)
        k = ", ".join(map(str, entry.scenario.protocol.k))
        rows.append((entry.scenario.id, k, str(len(own)), f"{budget:,}", f"{steps:,}"))
    print_table("scenarios", ("name", "k", "runs", "budget of an agent", "meta-training of all runs"), rows)
    print_table("agents", ("name", "on", "settings"), list(_agent_rows(suite)))


def _core_hours(suite: Suite, runs: Sequence[Run]) -> str:
    from mrl_bench.runs.cost import Measured, duration

    measured = Measured.of_suite(suite)
    if measured is None:
        return "not measured"
    seconds = measured.of(runs)
    return f"{seconds / 3600:.2g} core-hours, {duration(seconds / 2)} on two cores ({measured.where})"


def _agent_rows(suite: Suite) -> Iterator[tuple[str, str, str]]:
    """(name, where, settings) of each agent; several where its settings differ between scenarios."""
    from mrl_bench.scenario.settings import assignments

    groups: dict[tuple[str, str], list[Scenario]] = {}
    for entry in suite.entries:
        for agent in entry.agents:
            name = agent.name if agent.name == agent.agent else f"{agent.name} ({agent.agent})"
            groups.setdefault((name, ", ".join(assignments(agent.settings))), []).append(entry.scenario)
    for (name, shown), scenarios in sorted(groups.items()):
        yield name, _where(scenarios, [entry.scenario for entry in suite.entries]), shown or "defaults"


def _where(chosen: Sequence[Scenario], among: Sequence[Scenario]) -> str:
    """The chosen scenarios in short: all, those of whole families, or by id."""
    families = {scenario.family_name for scenario in chosen}
    if len(chosen) == len(among):
        return "all scenarios"
    if len(chosen) == sum(scenario.family_name in families for scenario in among):
        return ", ".join(sorted(families))
    return ", ".join(scenario.id for scenario in chosen)


def _print_family(name: str, cls: Any) -> None:
    print_text(f"family {name}\n\n{inspect.getdoc(cls)}\n")
    _print_settings("options", settings(cls))
    rows = [(name, *_param(param)) for name, param in cls().params.items()]
    rows += [(f"{name} ({option})", *_param(param)) for option, name, param in _further_params(cls)]
    print_table("parameters", ("name", "default", "bounds", "unit", "meaning"), rows)


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
    print_text(f"agent {name}\n\n{doc.strip()}\n")
    if not is_dataclass(getattr(cls, "Config", None)):
        raise UsageError(f"{name} is no agent: it has no dataclass 'Config'")
    _print_settings("settings (--set NAME=VALUE, or `set` in a suite)", settings(cls.Config))


def _print_settings(title: str, rows: Sequence[Setting]) -> None:
    if not rows:
        print_text(f"{title}: none\n")
        return
    shown = [(row.name, row.type, str(row.default), row.doc) for row in rows]
    print_table(title, ("name", "type", "default", "meaning"), shown)

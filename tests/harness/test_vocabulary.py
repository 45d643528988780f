"""No word that was made up here stands where users read: settings, public names, modules, help texts and docs."""

from __future__ import annotations

import argparse
import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import mrl_bench
from mrl_bench import registry
from mrl_bench.cli.main import _parser
from mrl_bench.scenario.schema import Budget, Protocol, ScenarioSchema
from mrl_bench.scenario.suite import AgentSchema, EntrySchema, SuiteSchema

ROOT = Path(__file__).parents[2]

# Old name -> the field's name for a setting.
SETTINGS = {
    "discount": "gamma",
    "trace": "gae_lambda or return_lambda",
    "clip": "clip_coef",
    "sigma": "action_std",
    "first_sigma": "initial_action_std",
    "learn_sigma": "learn_action_std",
    "critic_lag": "tau",
    "target_lag": "tau",
    "memory": "buffer_size",
    "replay": "buffer_size",
    "batch": "batch_size",
    "tasks": "meta_batch_size",
    "episodes": "episodes_per_task",
    "members": "ensemble_size",
    "imagined_steps": "imagination_horizon",
    "policy_starts": "imagined_rollouts",
    "test_starts": "adapt_imagined_rollouts",
    "test_updates": "adapt_updates",
    "restraint": "action_bound_penalty",
    "blind_share": "zero_context_prob",
    "first_share": "first_episode_prob",
    "trust": "imagination_weight",
    "levels": "action_bins",
    "fresh": "from_scratch",
}

# Old word -> the field's word, in names, help texts and docs. A trailing s is looked for too.
CONCEPTS = {
    "unit": "run",
    "board": "leaderboard, results or scores",
    "anchor": "reference agent",
    "reveal": "privileged observation",
    "slot": "environment instance",
    "picture": "render",
    "film": "video",
    "pictured": "Renderable",
    "metered": "HasMetrics",
    "carts": "CartPoleEnv",
    "gait": "LocomotionEnv",
    "last": "TimeStep",
    "probe": "periodic evaluation, learning curve",
    "stream": "keyed random numbers",
    "conformance": "check_family",
    "going": "continues",
    "told": "observed",
    "dream": "imagined",
    "lived": "valid",
    "form": "schema",
    "look": "style",
    "display": "progress",
    "versions": "provenance",
    "others": "road_users",
    "copies": "map_tiling",
    "carla_world": "client",
}

# Where an old word is ordinary English, or another thing's proper name: (word, a pattern that its line matches).
ENGLISH = (
    # Of measurement.
    (
        "unit",
        r"(?i)bounds|metre|second|physical|units? (of|in)|SI units?|, unit|\| unit \||Param\(|\+units=m",
    ),
    ("last", r"."),  # an adjective
    ("form", r"."),  # a verb and a noun of everyday
    ("look", r"."),  # a verb of everyday
    ("going", r"."),  # a verb of everyday
    ("told", r"told apart"),
    ("others", r"."),  # a pronoun of everyday
    ("display", r"(?i)screen|headless"),
    ("stream", r"(?i)task stream|training stream|stream of|byte stream|sensor stream|streaming"),
    ("versions", r"."),  # of packages
    ("copies", r"."),  # a verb and a noun of everyday
    ("anchor", r"(?i)aliases|YAML"),  # of a YAML file
    ("picture", r"(?i)the picture|whole picture"),
)


def settings() -> Iterator[tuple[str, str]]:
    """(where, name) of everything that a YAML file or `--set` may name."""
    for kind in ("agent", "family"):
        for name in registry.names(kind):
            cls = registry.find(kind, name)
            yield from _fields(name, cls.Config if kind == "agent" else cls)
    for schema in (Budget, Protocol, ScenarioSchema, SuiteSchema, EntrySchema, AgentSchema):
        yield from ((schema.__name__, field.name) for field in dataclasses.fields(schema))


def _fields(where: str, config: type) -> Iterator[tuple[str, str]]:
    for field in dataclasses.fields(config):
        yield where, field.name
        if field.default_factory is not dataclasses.MISSING and dataclasses.is_dataclass(
            field.default_factory()
        ):
            yield from _fields(f"{where}.{field.name}", type(field.default_factory()))


def help_texts() -> Iterator[tuple[str, str]]:
    def walk(parser: argparse.ArgumentParser) -> Iterator[tuple[str, str]]:
        yield from ((parser.prog, line) for line in parser.format_help().splitlines())
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                for sub in action.choices.values():
                    yield from walk(sub)

    yield from walk(_parser())


def docs() -> Iterator[tuple[str, str]]:
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        for number, line in enumerate(path.read_text().splitlines(), 1):
            yield f"{path.name}:{number}", line


def developer_tools() -> Iterator[tuple[str, str]]:
    for path in sorted((*(ROOT / "benchmarks").glob("*.py"), *(ROOT / "tools").glob("*.py"))):
        for number, line in enumerate(path.read_text().splitlines(), 1):
            yield f"{path.name}:{number}", line


def public_names() -> Iterator[tuple[str, str]]:
    """Of the front door, of the modules that agents and families are written against, and of all modules."""
    yield from (("mrl_bench", name) for name in mrl_bench.__all__)
    for module in ("types", "agent", "family", "results", "errors"):
        source = (ROOT / "mrl_bench" / f"{module}.py").read_text()
        for name in re.findall(r"^ *(?:class|def) (\w+)", source, re.MULTILINE):
            if not name.startswith("_"):
                yield f"mrl_bench.{module}", re.sub(r"(?<=[a-z])(?=[A-Z])|_", " ", name)
    for folder in ("mrl_bench", "tasks", "agents"):
        yield from ((str(path), path.stem) for path in sorted((ROOT / folder).rglob("*.py")))


def worn(texts: Iterator[tuple[str, str]]) -> list[str]:
    """Lines with one of the old words where it is not everyday English."""
    return [
        f"{where}: {word!r} (say {better!r}): {line.strip()[:100]}"
        for where, line in texts
        for word, better in CONCEPTS.items()
        if re.search(rf"(?i)\b{word}s?\b", line)
        and not any(word == free and re.search(pattern, line) for free, pattern in ENGLISH)
    ]


def test_settings_have_the_names_of_the_field() -> None:
    known = dict(SETTINGS)
    # A suite's list of agents and a scenario's list of tasks are what they say.
    found = [f"{where}.{name} (say {known[name]!r})" for where, name in settings() if name in known]
    assert not found


@pytest.mark.parametrize("texts", [help_texts, public_names, docs, developer_tools])
def test_words_are_those_of_the_field(texts) -> None:
    assert not worn(texts())


def test_docs_name_no_setting_by_its_old_name() -> None:
    """As code: in backquotes, or before a colon or an equals sign."""
    ordinary = {
        "discount",
        "trace",
        "clip",
        "memory",
        "replay",
        "batch",
        "tasks",
        "episodes",
        "members",
        "levels",
        "fresh",
        "trust",
        "sigma",
    }
    contract = {"memory"}  # is a word of the agent's interface too
    found = []
    for where, line in docs():
        for old in SETTINGS:
            code = "" if old in contract else rf"`{old}`|"
            asked = rf"{code}--set ({old}|\w+\.{old})=" + ("" if old in ordinary else rf"|\b{old}\b")
            if re.search(asked, line):
                found.append(f"{where}: {old!r} (say {SETTINGS[old]!r}): {line.strip()[:80]}")
    assert not found

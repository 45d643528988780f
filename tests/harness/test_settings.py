"""Hyperparameters: what is refused, and settings that lie inside others."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest
from yaml_kit import PIECES

from mrl_bench.errors import UsageError
from mrl_bench.scenario.settings import assignments, make_config, parse_settings


@dataclass(frozen=True)
class Part:
    rate: float = 0.1
    sizes: tuple[int, ...] = (8, 8)


@dataclass(frozen=True)
class WholeConfig:
    part: Part = field(default_factory=lambda: Part(rate=0.5))
    steps: int = 3


class Agent:
    Config = WholeConfig


def test_a_dot_leads_inside() -> None:
    settings = parse_settings(["part.sizes=[4]", "steps=2", "part.rate=1e-3"])
    assert settings == {"part": {"sizes": [4], "rate": 1e-3}, "steps": 2}


def test_what_is_not_set_inside_keeps_the_agents_default() -> None:
    assert make_config(Agent, {"part": {"sizes": [4]}}) == WholeConfig(Part(rate=0.5, sizes=(4,)))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"part": {"rat": 1.0}}, "Agent: unknown setting 'part.rat': did you mean 'rate'"),
        ({"prt": {}}, "Agent: unknown setting 'prt': did you mean 'part'"),
        ({"part": {"rate": "much"}}, "Agent: 'part.rate' must be a number, not the text 'much'"),
        ({"part": 3}, "Agent: 'part' must be a mapping, as {key: value}, not 3"),
    ],
)
def test_what_does_not_fit_is_refused_by_its_whole_name(settings: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make_config(Agent, settings)


@pytest.mark.parametrize("pairs", [["part.=1"], [".rate=1"], ["part=1", "part.rate=2"], ["a b=1"], ["steps"]])
def test_what_is_no_name_with_a_value_is_refused(pairs: list[str]) -> None:
    with pytest.raises(UsageError, match="--set"):
        parse_settings(pairs)


@pytest.mark.parametrize(
    "value",
    ["1e3", "x: y", "", " ", "null", "a # b", "a\nb", "\U0001f600", 1e22, 1.2e5, 5e-324, 0.1, None, True, {}],
)
def test_what_is_written_for_set_is_read_as_it_was(value: object) -> None:
    for settings in ({"a": value}, {"a": {"b": value}, "c": [value, [value]]}):
        assert parse_settings(assignments(settings)) == settings


def test_any_text_that_yaml_may_hold_is_read_as_it_was() -> None:
    rng = random.Random(0)
    pieces = [piece for piece in PIECES if piece.isprintable() or piece in "\n\t\r"]
    for _ in range(1000):
        text = "".join(rng.choices(pieces, k=rng.randint(1, 6)))
        assert parse_settings(assignments({"a": text})) == {"a": text}, repr(text)

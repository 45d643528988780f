"""Where entries stand: to a fixed ladder, and among each other."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from mrl_bench.leaderboard.standing import OVERALL, standings, verdicts
from mrl_bench.report.ranks import Contender

SEEDS = tuple(range(10))


def contender(mean: float, luck: int = 0, steps: float = 1e6, failed: float = 0.0) -> Contender:
    """Ten seeds with a deviation of 0.1 around exactly this mean."""
    noise = np.random.default_rng(luck).normal(0.0, 0.1, len(SEEDS))
    return Contender(SEEDS, mean + noise - noise.mean(), failed, steps)


def entry(name: str, **scores: Contender) -> Any:
    """Only what a standing needs of an entry."""
    scenarios = {scenario.replace("_", "-"): SimpleNamespace(splits={"test", "ood"}) for scenario in scores}
    return SimpleNamespace(
        submission=SimpleNamespace(agent=SimpleNamespace(name=name)),
        scenarios=scenarios,
        contender=lambda scenario, split: scores[scenario.replace("-", "_")],
    )


LADDER = {"weak": contender(0.2, 1), "middle": contender(0.5, 2), "strong": contender(0.9, 3)}


@pytest.mark.parametrize(
    ("one", "expected"),
    [
        (contender(0.5, 4), {"weak": "beats", "middle": "level", "strong": "below"}),
        (contender(1.0, 4, steps=2e6), {"weak": "level", "middle": "level", "strong": "level"}),
        (contender(0.1, 4, steps=5e5), {"weak": "level", "middle": "level", "strong": "level"}),
        (contender(0.1, 4, steps=2e6), {"weak": "below", "middle": "below", "strong": "below"}),
        (contender(2.0, 4, failed=0.1), {"weak": "below", "middle": "below", "strong": "below"}),
    ],
    ids=["in the middle", "more steps win nothing", "fewer steps lose nothing", "last", "failed seeds"],
)
def test_verdicts(one: Contender, expected: dict[str, str]) -> None:
    assert verdicts(one, LADDER) == expected


def test_an_agent_is_level_with_itself_and_an_empty_ladder_says_nothing() -> None:
    assert verdicts(LADDER["weak"], {"weak": LADDER["weak"]}) == {"weak": "level"}
    assert verdicts(LADDER["weak"], {}) == {}


def test_identical_agents_rarely_beat_or_lose_to_a_ladder() -> None:
    rng, wrong = np.random.default_rng(0), 0
    for _ in range(1000):
        drawn = [Contender(SEEDS, rng.normal(0.5, 0.1, 10), 0.0, 1e6) for _ in range(6)]
        found = verdicts(drawn[0], {str(number): one for number, one in enumerate(drawn[1:])})
        wrong += set(found.values()) != {"level"}
    assert wrong <= 60


def test_fifty_copies_of_a_weak_agent_change_nobodys_verdict() -> None:
    ladder = {
        f"l{number}": entry(name, a_v1=one, b_v1=one) for number, (name, one) in enumerate(LADDER.items())
    }
    mine = entry("mine", a_v1=contender(0.8, 5), b_v1=contender(0.3, 6))
    copies = {
        f"c{n}": entry("copy", a_v1=contender(0.1, 10 + n), b_v1=contender(0.1, 99 + n)) for n in range(50)
    }
    before = standings({**ladder, "mine": mine}, list(ladder))
    after = standings({**ladder, "mine": mine, **copies}, list(ladder))
    assert before.keys() == after.keys() == {"a-v1", "b-v1", OVERALL}
    for name, found in before.items():
        for id, standing in found.items():
            assert after[name][id].verdicts == standing.verdicts
            assert after[name][id].places == standing.places, "weak ones stand behind"


def test_places_and_overall() -> None:
    entries = {
        "x": entry("x", a_v1=contender(0.9, 1), b_v1=contender(0.3, 2)),
        "y": entry("y", a_v1=contender(0.5, 3), b_v1=contender(0.5, 4)),
        "z": entry("z", a_v1=contender(0.1, 5), b_v1=contender(0.49, 6)),
    }
    found = standings(entries, [])
    assert [*found["a-v1"]] == ["x", "y", "z"]
    assert [each.places for each in found["a-v1"].values()] == [(1, 1), (2, 2), (3, 3)]
    assert [*found["b-v1"]] == ["y", "z", "x"]
    assert [each.places for each in found["b-v1"].values()] == [(1, 2), (1, 2), (3, 3)]
    assert found[OVERALL]["x"].score == pytest.approx(0.6)
    standing, scores = found["a-v1"]["x"], entries["x"].contender("a-v1", "").scores
    assert standing.high - standing.score == pytest.approx(2.262 * scores.std(ddof=1) / 10**0.5, rel=1e-3)


def test_no_interval_below_three_seeds() -> None:
    one = Contender((0, 1), np.array([0.2, 0.4]), 0.0, 1e6)
    (standing,) = standings({"x": entry("x", a_v1=one)}, [])["a-v1"].values()
    assert np.isnan([standing.low, standing.high]).all()
    assert standing.places == (1, 1)

"""How often a 95 % interval of a score contains the true score, and how often identical agents are told apart.

    python benchmarks/score_coverage.py            # writes benchmarks/results/score_coverage.json

What is simulated. A split with 20 tasks, on which random returns about 0 and the oracle about 1, so that returns are in
units of the span; blind returns about 0.4, and the agent from 0.3 to 1.1 by task. To these levels a seed adds its luck,
the same on all tasks, and noise of 0.1 on each task. All seeds are drawn again in each repetition, those of the
reference agents too; random has no luck. The settings differ in the luck's standard deviation, of the agent and of
blind and oracle. In the last one each seed of the agent fails with a probability of a fifth.

The true score is that of endlessly many seeds, relative to the expected return of random and the expected return of the
best of as many oracle seeds as there are. Both are means over many draws. The true headroom is defined likewise.

Identical agents. Six of them, with the same seeds, are compared on one split; the shared luck is what a seed's training
tasks add to every agent with that seed. A comparison is false if any agent is found better than another.

The intervals and ranks are those of `mrl_bench.report`, not a copy of them.
"""

from __future__ import annotations

import argparse
import json
import math
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from machine import describe

from mrl_bench.report.estimates import Statistic, pooled_iqm, pooled_mean
from mrl_bench.report.ranks import Contender, rank_ranges
from mrl_bench.report.scale import Scale
from mrl_bench.report.scores import Estimate
from mrl_bench.report.stats import Array, iqm
from mrl_bench.scenario.references import ReferenceAgent, ReferenceReturns, References

RESULTS = Path(__file__).resolve().parent / "results" / "score_coverage.json"
REPEATS, COMPARISONS = 2000, 2000
TASKS, NOISE = 20, 0.1
AGENT_SEEDS, REFERENCE_SEEDS = (3, 5, 10, 20), (3, 5)
REFERENCE_LEVELS = {"random": 0.0, "blind": 0.4, "oracle": 1.0}
AGENT_LEVELS = np.linspace(0.3, 1.1, TASKS)  # (B,)
MANY = 20_000  # draws that stand for endlessly many
AGENTS = 6
STATISTICS: dict[str, Statistic] = {"iqm": pooled_iqm, "mean": pooled_mean}


class Setting(NamedTuple):
    name: str
    agent_luck: float  # standard deviation over seeds, shared by all tasks
    reference_luck: float  # of blind and oracle
    failing: float = 0.0  # probability that a seed of the agent fails


SETTINGS = (
    Setting("usual", 0.1, 0.05),
    Setting("uncertain references", 0.1, 0.1),
    Setting("references alone", 0.02, 0.1),
    Setting("a fifth of the seeds fails", 0.1, 0.05, failing=0.2),
)


class World:
    """Draws the returns of one setting, and knows the true numbers."""

    def __init__(self, setting: Setting, reference_seeds: int, rng: np.random.Generator) -> None:
        self.setting, self.reference_seeds, self.rng = setting, reference_seeds, rng
        self.levels = {name: np.full(TASKS, level) for name, level in REFERENCE_LEVELS.items()}
        self.truth = self._truth()

    def seeds(self, shape: tuple[int, ...], level: Array, luck: float) -> Array:
        """Returns of seeds, (*shape, B)."""
        shared = self.rng.normal(0.0, luck, (*shape, 1))
        return level + shared + self.rng.normal(0.0, NOISE, (*shape, TASKS))

    def reference(self, name: str, sets: int) -> Array:
        """The returns of a reference agent's seeds, (sets, S, B)."""
        luck = 0.0 if name == "random" else self.setting.reference_luck
        return self.seeds((sets, self.reference_seeds), self.levels[name], luck)

    def scale(self) -> Scale:
        return scale_of({name: self.reference(name, 1)[0] for name in self.levels})

    def returns(self, scale: Scale, seeds: int) -> Array:
        """The returns of an agent's seeds that count, (S, B, 1)."""
        returns = self.seeds((seeds,), AGENT_LEVELS, self.setting.agent_luck)[..., None]
        failed = self.rng.random(seeds) < self.setting.failing
        return scale.over_seeds(
            [None if lost else each for lost, each in zip(failed, returns, strict=True)], 1
        )

    def _truth(self) -> dict[str, float]:
        """The numbers of endlessly many seeds on the expected scale."""
        expected = {"random": self.levels["random"]}
        for name in ("blind", "oracle"):
            sets = self.reference(name, MANY)
            best = sets.mean(-1).argmax(1)
            expected[name] = sets[np.arange(MANY), best].mean(0)
        scale = scale_of({name: returns[None] for name, returns in expected.items()})
        scores = scale.scores(self.returns(scale, MANY))[None, ..., 0]
        values = {name: float(statistic(scores)[0]) for name, statistic in STATISTICS.items()}
        return values | {"headroom": scale.headroom.value}


def scale_of(returns: dict[str, Array]) -> Scale:
    """The scale of reference returns, (S, B) each."""
    agents = {
        name: ReferenceAgent(
            0, tuple(range(len(each))), {}, {"test": ReferenceReturns(each, {}, np.zeros(0))}
        )
        for name, each in returns.items()
    }
    references = References(scenario="simulated", digest="", agents=agents, reported={})
    return Scale.of(references, "test", (-math.inf, math.inf), seed=0)


def contains(estimate: Estimate, truth: float) -> bool:
    return estimate.low <= truth <= estimate.high


def coverage(
    setting: Setting, reference_seeds: int, agent_seeds: int, repeats: int, seed: int
) -> dict[str, Any]:
    """Shares of the repetitions in which the interval of IQM, mean and headroom contains the true value."""
    world = World(setting, reference_seeds, np.random.default_rng(seed))
    covered = dict.fromkeys(world.truth, 0)
    for _ in range(repeats):
        scale = world.scale()
        scores = scale.scores(world.returns(scale, agent_seeds))[..., 0]
        for name, statistic in STATISTICS.items():
            covered[name] += contains(scale.score(scores, statistic), world.truth[name])
        covered["headroom"] += contains(scale.headroom, world.truth["headroom"])
    return {
        "setting": setting.name,
        "reference_seeds": reference_seeds,
        "agent_seeds": agent_seeds,
        "covered": {name: round(count / repeats, 4) for name, count in covered.items()},
    }


def false_comparisons(seeds: int, shared_luck: float, comparisons: int, seed: int) -> dict[str, Any]:
    """The share of comparisons of identical agents in which any is found better than another."""
    rng = np.random.default_rng(seed)
    false = 0
    for _ in range(comparisons):
        shared = rng.normal(0.0, shared_luck, (seeds, 1))
        agents = {}
        for agent in range(AGENTS):
            luck = shared + rng.normal(0.0, 0.1, (seeds, 1))
            scores = iqm(AGENT_LEVELS + luck + rng.normal(0.0, NOISE, (seeds, TASKS)))
            agents[str(agent)] = Contender(tuple(range(seeds)), scores, failed_share=0.0, env_steps=1.0)
        false += set(rank_ranges(agents).values()) != {(1, AGENTS)}
    return {"seeds": seeds, "shared_luck": shared_luck, "false_comparisons": round(false / comparisons, 4)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=REPEATS)
    parser.add_argument("--comparisons", type=int, default=COMPARISONS)
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()

    record: dict[str, Any] = {
        "machine": describe(("numpy", "scipy")),
        "method": __doc__,
        "repeats": args.repeats,
        "comparisons": args.comparisons,
        "settings": [setting._asdict() for setting in SETTINGS],
        "coverage": [],
        "identical_agents": [],
    }
    for case in product(SETTINGS, REFERENCE_SEEDS, AGENT_SEEDS):
        record["coverage"].append(coverage(*case, args.repeats, seed=len(record["coverage"])))
        print(record["coverage"][-1], flush=True)
    for seeds, luck in product(AGENT_SEEDS, (0.0, 0.1)):
        record["identical_agents"].append(false_comparisons(seeds, luck, args.comparisons, seed=seeds))
        print(record["identical_agents"][-1], flush=True)
    args.out.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()

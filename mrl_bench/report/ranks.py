"""Which agents are better than which others, and so the range of ranks of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

from mrl_bench.report.stats import Array, half_width, holm, same_mean

EQUAL_STEPS = 1.01  # the largest ratio of env steps at which the agent that used more can be the better one


@dataclass(frozen=True)
class Contender:
    """An agent in comparison with others."""

    seeds: tuple[int, ...]  # (S,)
    scores: Array  # (S,) one score per seed, in the same order
    failed_share: float  # of its seeds
    env_steps: float  # of meta-training

    @property
    def mean(self) -> float:
        return float(self.scores.mean())

    @property
    def half_width(self) -> float:
        """Half of the 95 % interval of the mean over seeds (Student's t); NaN below three seeds."""
        return float(half_width(self.scores))

    def compare(self, other: Contender) -> float:
        """The p-value that both have the same mean."""
        return same_mean(self.scores, other.scores, paired=self.seeds == other.seeds)


def rank_ranges(agents: Mapping[str, Contender], alpha: float = 0.05) -> dict[str, tuple[int, int]]:
    """The (best, worst) rank of each agent that its seeds are consistent with.

    The best rank is 1 plus the number of better agents; the worst is the number of agents minus the number of worse
    ones. (1, 1) is a clear winner; n indistinguishable agents are all (1, n).

    An agent of which a larger share of seeds failed is worse. Of two with equal shares, one is better if its mean is
    higher, the t-test is significant at `alpha` after Holm's adjustment over all tested pairs, and it used no more env
    steps. The test is paired where both have the same seeds, because these draw the same training tasks.
    """
    decided: list[tuple[str, str]] = []  # pairs (better, worse)
    tested: list[tuple[str, str]] = []
    for pair in combinations(agents, 2):
        worse, better = sorted(pair, key=lambda name: (-agents[name].failed_share, agents[name].mean))
        equal = agents[better].failed_share == agents[worse].failed_share
        (tested if equal else decided).append((better, worse))
    p_values = holm([agents[better].compare(agents[worse]) for better, worse in tested])
    decided += [
        (better, worse)
        for (better, worse), p in zip(tested, p_values, strict=True)
        if p < alpha and agents[better].env_steps <= EQUAL_STEPS * agents[worse].env_steps
    ]
    wins, losses = Counter(better for better, _ in decided), Counter(worse for _, worse in decided)
    return {name: (1 + losses[name], len(agents) - wins[name]) for name in agents}

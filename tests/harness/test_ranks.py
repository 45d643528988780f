"""Which agents are told apart, and on how many boards of identical agents wrongly."""

import dataclasses

import numpy as np
import pytest
import scipy.stats
from score_kit import crash, row, run, score, scored

from mrl_bench.report.ranks import Contender, rank_ranges
from mrl_bench.results import TrainingResult

SPREAD = scipy.stats.zscore(np.linspace(-1, 1, 10), ddof=1)  # ten seeds with a standard deviation of 1


def contender(scores, first_seed=0, failed_share=0.0, env_steps=1000.0):
    seeds = tuple(range(first_seed, first_seed + len(scores)))
    return Contender(seeds, np.asarray(scores, dtype=float), failed_share, env_steps)


def unpaired(**scores):
    """Agents without a common seed."""
    return {name: contender(values, 100 * i) for i, (name, values) in enumerate(scores.items())}


def test_a_winner_a_loser_and_two_that_tie():
    spread = 0.05 * SPREAD
    ranks = rank_ranges(
        unpaired(loser=0.1 + spread, tie=0.50 + spread, winner=0.9 + spread, too=0.501 + spread)
    )
    assert ranks == {"loser": (4, 4), "tie": (2, 3), "winner": (1, 1), "too": (2, 3)}


def test_ranges_overlap_where_only_the_ends_differ():
    # Neighbours are 1.0 standard deviations apart, the ends 2.0: t = 2.24 (p = .04) and 4.47 (p < .001).
    ranks = rank_ranges(unpaired(a=SPREAD, b=SPREAD + 1.0, c=SPREAD + 2.0))
    assert ranks == {"a": (2, 3), "b": (1, 3), "c": (1, 2)}


def test_ranks_adjust_for_the_number_of_pairs():
    pair = {"a": SPREAD, "b": SPREAD + 1.0}  # p = .04 counts alone, and not as one of six
    assert rank_ranges(unpaired(**pair)) == {"a": (2, 2), "b": (1, 1)}
    crowd = unpaired(**pair, c=SPREAD + 0.5, d=SPREAD + 0.5)
    assert set(rank_ranges(crowd).values()) == {(1, 4)}


def test_agents_with_the_same_seeds_are_compared_seed_by_seed():
    # The difference is a tenth of the spread over seeds, and the same with every seed up to a hundredth.
    a, b = SPREAD, SPREAD + 0.1 + 0.01 * SPREAD[[3, 1, 4, 0, 5, 9, 2, 6, 8, 7]]
    assert rank_ranges(unpaired(a=a, b=b)) == {"a": (1, 2), "b": (1, 2)}
    assert rank_ranges({"a": contender(a), "b": contender(b)}) == {"a": (2, 2), "b": (1, 1)}


@pytest.mark.parametrize(("env_steps", "better"), [(900, True), (1009, True), (1020, False)])
def test_an_agent_is_better_only_at_no_more_env_steps(env_steps, better):
    agents = {"a": contender(SPREAD), "b": contender(SPREAD + 9, env_steps=env_steps)}
    assert rank_ranges(agents) == ({"a": (2, 2), "b": (1, 1)} if better else {"a": (1, 2), "b": (1, 2)})


def test_a_larger_share_of_failed_seeds_is_worse_whatever_the_scores():
    agents = {
        "good": contender(SPREAD + 9, failed_share=0.2),
        "bad": contender(SPREAD, failed_share=0.1),
        "clean": contender(SPREAD - 9),
    }
    assert rank_ranges(agents) == {"good": (3, 3), "bad": (2, 2), "clean": (1, 1)}


def test_two_seeds_say_nothing():
    agents = unpaired(a=[0.0, 0.1], b=[9.0, 9.1], c=[5.0, 5.1])
    assert set(rank_ranges(agents).values()) == {(1, 3)}


def test_few_agents():
    assert rank_ranges({}) == {}
    assert rank_ranges(unpaired(alone=[0.1, 0.2])) == {"alone": (1, 1)}


def test_scores_pair_runs_of_the_same_seed_and_look_at_env_steps():
    luck = np.linspace(-0.3, 0.3, 5)
    runs = [run("a", scored([0.5 + x] * 4), seed) for seed, x in enumerate(luck)]
    better = [run("b", scored([0.6 + x + 0.01 * (seed % 2)] * 4), seed) for seed, x in enumerate(luck)]
    assert ranks_of(*runs, *better) == {"a": (2, 2), "b": (1, 1)}
    others = [dataclasses.replace(each, seed=each.seed + 10) for each in better]
    assert ranks_of(*runs, *others) == {"a": (1, 2), "b": (1, 2)}
    longer = [dataclasses.replace(each, training=TrainingResult(1100)) for each in better]
    assert ranks_of(*runs, *longer) == {"a": (1, 2), "b": (1, 2)}
    assert ranks_of(*runs, *better[:4], crash("b", 4)) == {"a": (1, 1), "b": (2, 2)}


def ranks_of(*evaluations):
    found = score(*evaluations)
    return {agent: row(found, agent).rank for agent in ("a", "b")}


@pytest.mark.parametrize("shared_luck", [0.0, 0.1])
@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_of_six_identical_agents_one_is_found_better_on_at_most_5_percent_of_200_boards(seeds, shared_luck):
    rng = np.random.default_rng(seeds)
    agents, boards, wrong = 6, 200, 0
    for _ in range(boards):
        shared = rng.normal(0.5, shared_luck, seeds)  # of a seed's training tasks
        ranks = rank_ranges({str(i): contender(shared + rng.normal(0, 0.1, seeds)) for i in range(agents)})
        wrong += set(ranks.values()) != {(1, agents)}
    assert wrong / boards <= 0.05

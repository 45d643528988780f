"""Family metrics other than the return, from evaluations to report rows, on the tasks of test_scores."""

import dataclasses
import math

import numpy as np
import pytest
from bench_kit import online
from test_scores import RANDOM, crash, curve, references, row, run, values

from mrl_bench.report.scores import score_scenario
from mrl_bench.results import Curve
from mrl_bench.types import Ratio

REPORTED = {"success rate": Ratio("success"), "hits per km": Ratio("hits", per="km")}


def measured(returns, success, hits, km, **changes):
    """A curve of two scored episodes a cell with these metrics, each (B, K, N) or what repeats to it."""
    plain = curve(returns, **changes)
    metrics = {"success": success, "hits": hits, "km": km}
    metrics = {
        name: np.broadcast_to(np.asarray(m, float), plain.returns.shape) for name, m in metrics.items()
    }
    adapting = online(len(plain.returns), plain.k[-1], success=0, hits=0, km=0)
    return dataclasses.replace(plain, online=adapting, metrics=metrics, reported=REPORTED)


def metered_references(**changes):
    """Of which random succeeds in a quarter of its episodes, and hits 3 times in 2 km."""
    returns = {one.agent: one.curves["test"].returns for one in references()}
    return [run(name, measured(each, 0.25, 3, 2, **changes)) for name, each in returns.items()]


def test_means_are_over_episodes_and_ratios_are_sum_over_sum():
    success = np.array([[0, 0], [0, 1], [1, 1]])  # (K, N)
    km = np.array([1, 2, 3, 14])[:, None, None]  # (B, 1, 1)
    hits = np.array([0, 1, 0, 4])[:, None, None]
    scenario_scores = score_scenario([*metered_references(), run("a", measured(RANDOM, success, hits, km))])
    found = row(scenario_scores, "a").metrics
    assert values(found["success rate"]) == pytest.approx([0, 0.5, 1])
    assert values(found["hits per km"]) == pytest.approx([5 / 20] * 3)  # the mean of four ratios is 0.196
    assert values(row(scenario_scores, "random").metrics["hits per km"]) == pytest.approx([1.5] * 3)


def test_intervals_are_over_whole_seeds():
    seeds = [run("a", measured(RANDOM, 1, hits, 1), seed) for seed, hits in enumerate((1, 2, 6))]
    (hits, *_) = row(score_scenario([*metered_references(), *seeds]), "a").metrics["hits per km"]
    half = 4.303 * np.std([1, 2, 6], ddof=1) / math.sqrt(3)  # Student's, with 2 degrees of freedom
    assert hits.value == pytest.approx(3)
    assert (hits.low, hits.high) == pytest.approx((3 - half, 3 + half), rel=0.15)
    alone = row(score_scenario([*metered_references(), seeds[0]]), "a").metrics["success rate"]
    assert math.isnan(alone[0].low)


def test_what_failed_counts_as_random():
    good = measured(RANDOM, 1, 0, 2)
    scenario_scores = score_scenario([*metered_references(), run("a", good), crash("a", seed=1)])
    found = row(scenario_scores, "a").metrics
    assert values(found["success rate"]) == pytest.approx([(1 + 0.25) / 2] * 3)
    assert values(found["hits per km"]) == pytest.approx([3 / 4] * 3)
    failed = np.zeros((4, 3), int)
    failed[0, 2] = 1  # one of four tasks, at the last point
    scenario_scores = score_scenario(
        [*metered_references(), run("a", dataclasses.replace(good, failed=failed))]
    )
    assert values(row(scenario_scores, "a").metrics["success rate"]) == pytest.approx([1, 1, (3 + 0.25) / 4])


def test_broken_cells_of_random_are_left_out():
    failed = np.zeros((4, 3), int)
    failed[:, 0] = 1
    blind, oracle = metered_references()[1:]
    broken = measured(RANDOM, np.array([[1], [0.5], [0]]), 0, 1, failed=failed)
    scenario_scores = score_scenario([run("random", broken), blind, oracle, crash("a")])
    assert values(row(scenario_scores, "a").metrics["success rate"]) == pytest.approx([0.25] * 3)


def test_per_nothing_there_is_no_number():
    scenario_scores = score_scenario([*metered_references(), run("a", measured(RANDOM, 1, 1, 0))])
    assert all(math.isnan(value) for value in values(row(scenario_scores, "a").metrics["hits per km"]))


def test_what_was_measured_otherwise_does_not_belong_together():
    with pytest.raises(ValueError, match="or in what is reported"):
        score_scenario([*metered_references(), run("a", RANDOM)])


def test_a_report_of_what_is_not_measured_is_refused():
    with pytest.raises(ValueError, match="reports metrics that it does not measure: km"):
        dataclasses.replace(
            curve(RANDOM),
            online=online(4, 3, hits=0),
            metrics={"hits": np.zeros((4, 3, 2))},
            reported=REPORTED | {"success rate": Ratio("hits")},
        )


def test_a_curve_is_the_same_after_it_was_written_down():
    data = measured(RANDOM, 1, 2, 3).to_json()
    assert Curve.from_json(data).to_json() == data
    assert Curve.from_json(data).reported == REPORTED

"""Family metrics other than the return, from evaluations to report rows, on the tasks of score_kit."""

import dataclasses
import math

import numpy as np
import pytest
from bench_kit import online
from score_kit import RANDOM, crash, curve, references, row, row_of, run, score, values

from mrl_bench.results import Curve, Online
from mrl_bench.types import Ratio

REPORTED = {"success rate": Ratio("success", low=0, high=1), "hits per km": Ratio("hits", per="km", low=0)}


def measured(returns, success, hits, km, **changes):
    """A curve of two scored episodes a cell with these metrics, each (B, K, N) or what repeats to it."""
    plain = curve(returns, **changes)
    metrics = {"success": success, "hits": hits, "km": km}
    metrics = {
        name: np.broadcast_to(np.asarray(m, float), plain.returns.shape) for name, m in metrics.items()
    }
    adapting = online(len(plain.returns), plain.k[-1], success=0, hits=0, km=0)
    return dataclasses.replace(plain, online=adapting, metrics=metrics, reported=REPORTED)


METERED = references(
    measured={name: {"success": 0.25, "hits": 3, "km": 2} for name in ("random", "blind", "oracle")},
    reported=REPORTED,
)


def metrics(*evaluations, on=METERED):
    return row_of(*evaluations, on=on).metrics


def test_means_are_over_episodes_and_ratios_are_sum_over_sum():
    success = np.array([[0, 0], [0, 1], [1, 1]])  # (K, N)
    km = np.array([1, 2, 3, 14])[:, None, None]  # (B, 1, 1)
    hits = np.array([0, 1, 0, 4])[:, None, None]
    scenario_scores = score(run("a", measured(RANDOM, success, hits, km)), on=METERED)
    found = row(scenario_scores, "a").metrics
    assert values(found["success rate"]) == pytest.approx([0, 0.5, 1])
    assert values(found["hits per km"]) == pytest.approx([5 / 20] * 3)  # the mean of four ratios is 0.196
    assert values(row(scenario_scores, "random").metrics["hits per km"]) == pytest.approx([1.5] * 3)


def test_metrics_of_reference_agents_are_of_the_seeds_that_count():
    returns = RANDOM + np.array([[4.0], [5.0], [3.0]])
    hits = np.array([[3.0], [6.0], [9.0]])
    measured = {name: {"hits": hits, "km": 2, "success": 1} for name in ("random", "blind", "oracle")}
    on = references(returns - 4, returns, returns + 5, measured=measured, reported=REPORTED)
    scenario_scores = score(crash("a"), on=on)
    found = {
        name: row(scenario_scores, name).metrics["hits per km"][0].value
        for name in ("random", "blind", "oracle")
    }
    assert found == {"random": 3.0, "blind": 3.0, "oracle": 3.0}  # the mean of all; the second; the second


def test_intervals_are_over_whole_seeds():
    seeds = [run("a", measured(RANDOM, 1, hits, 1), seed) for seed, hits in enumerate((3, 4, 5))]
    (hits, *_) = metrics(*seeds)["hits per km"]
    half = 4.303 * np.std([3, 4, 5], ddof=1) / math.sqrt(3)  # Student's, with 2 degrees of freedom
    assert hits.value == pytest.approx(4)
    assert (hits.low, hits.high) == pytest.approx((4 - half, 4 + half), rel=0.15)
    assert math.isnan(metrics(*seeds[:2])["success rate"][0].low)


def test_intervals_stay_within_what_the_family_declares_possible():
    seeds = [
        run("a", measured(RANDOM, success, hits, 1), seed)
        for seed, (success, hits) in enumerate([(1, 0), (1, 0), (0, 3)])
    ]
    found = metrics(*seeds)
    success, hits = found["success rate"][0], found["hits per km"][0]
    assert (success.low, success.high) == (0, 1)
    assert hits.low == 0
    assert hits.high > 3


def test_what_failed_counts_as_random():
    good = measured(RANDOM, 1, 0, 2)
    found = metrics(run("a", good), crash("a", seed=1))
    assert values(found["success rate"]) == pytest.approx([(1 + 0.25) / 2] * 3)
    assert values(found["hits per km"]) == pytest.approx([3 / 4] * 3)
    failed = np.zeros((4, 3), int)
    failed[0, 2] = 1  # one of four tasks, at the last point
    found = metrics(run("a", dataclasses.replace(good, failed=failed)))
    assert values(found["success rate"]) == pytest.approx([1, 1, (3 + 0.25) / 4])


def test_online_metrics_are_over_all_adaptation_episodes():
    shape = (4, 3)
    hits = np.broadcast_to([0.0, 1.0, 5.0], shape)
    failed = np.zeros(shape, np.int64)
    failed[:, 2] = 1  # counts as random, with 3 hits in 2 km
    episodes = Online(
        np.zeros(shape), failed, {"success": np.zeros(shape), "hits": hits, "km": np.ones(shape)}
    )
    curve = dataclasses.replace(measured(RANDOM, 1, 0, 2), online=episodes)
    found = row_of(run("a", curve), on=METERED).online.metrics
    assert found["hits per km"].value == pytest.approx((0 + 1 + 3) / (1 + 1 + 2))
    assert found["success rate"].value == pytest.approx(0.25 / 3)


def test_per_nothing_there_is_no_number():
    found = metrics(run("a", measured(RANDOM, 1, 1, 0)))
    assert all(math.isnan(value) for value in values(found["hits per km"]))


def test_what_was_measured_otherwise_does_not_belong_together():
    with pytest.raises(ValueError, match="or in what is reported"):
        score(run("a", RANDOM), on=METERED)


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

"""The statistics against hand-worked and published numbers, and in simulations whose truth is known."""

import math

import numpy as np
import pytest
import scipy.stats

from mrl_bench.report.stats import (
    Error,
    area,
    cvar,
    error_of_best,
    error_of_mean,
    first_crossing,
    holm,
    interval,
    iqm,
    resample,
    same_mean,
    seed_error,
)


def pooled_iqm(rows):
    return iqm(rows.reshape(len(rows), -1))


def mean(rows):
    return rows.reshape(len(rows), -1).mean(-1)


RAGGED_TAILS = [[0.1, 0.9, 0.5, -0.2, 1.1], [0.3, 0.7, 0.4, 0.0, 2.5], [0.2, 0.8, 0.45, -3.0, 1.0]]
TWO_SEEDS = [[0.12, 0.55, 0.31, 0.94, -0.4, 1.7, 0.08], [0.2, 0.61, 0.33, 0.9, -0.1, 1.2, 0.05]]


# The first two matrices and values are published in rliable's tests/rliable/metrics_test.py. The others are
# what metrics.aggregate_iqm of rliable 1.2.0 gave (scipy 1.17.1, numpy 2.4.6); the first of them is the
# matrix of its tests/rliable/library_test.py.
@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([[1, 2], [2, 2], [1, 1], [2, 1]], 1.5),
        ([[1, 1], [2, 2], [3, 3]], 2.0),
        (np.arange(80).reshape(5, 16), 39.5),
        (RAGGED_TAILS, 0.4833333333333334),
        (TWO_SEEDS, 0.3875),
    ],
)
def test_iqm_is_that_of_rliable(scores, expected):
    assert iqm(np.ravel(scores).astype(float)) == pytest.approx(expected, abs=1e-14)


@pytest.mark.parametrize("n", range(1, 14))
def test_iqm_trims_as_scipy_does_for_every_number_of_values(n):
    values = np.random.default_rng(n).normal(size=(3, n))
    assert iqm(values) == pytest.approx(scipy.stats.trim_mean(values, 0.25, axis=1), abs=1e-14)


@pytest.mark.parametrize(
    ("values", "alpha", "expected"),
    [
        ([3.0, 1.0, 2.0, 4.0], 0.25, 1.0),  # exactly the worst value
        ([3.0, 1.0, 2.0, 4.0], 0.5, 1.5),  # (1 + 2) / 2
        ([3.0, 1.0, 2.0, 4.0], 0.375, 4 / 3),  # the share is 1.5 values: (1 + 2 / 2) / 1.5
        ([3.0, 1.0, 2.0, 4.0], 1.0, 2.5),  # the mean
        ([3.0, 1.0, 2.0, 4.0], 0.05, 1.0),  # less than one value: the worst
        ([5.0], 0.05, 5.0),
    ],
)
def test_cvar_is_the_mean_of_exactly_the_worst_share(values, alpha, expected):
    assert cvar(np.array(values), alpha) == pytest.approx(expected)


def test_cvar_is_by_row_and_of_the_worst_twentieth():
    rows = np.stack([np.arange(40.0), np.full(40, 7.0)])
    assert cvar(rows) == pytest.approx([0.5, 7.0])


def test_area_is_the_mean_height_over_an_uneven_axis():
    # Trapezoids 0.5 * 1 and 1 * 3 over a length of 4.
    curves = np.array([[0.0, 1.0, 1.0], [2.0, 2.0, 2.0]])
    assert area(curves, np.array([0.0, 1.0, 4.0])) == pytest.approx([0.875, 2.0])


def test_area_of_one_point_is_its_height():
    assert area(np.array([[3.0], [4.0]]), np.array([0.0])) == pytest.approx([3.0, 4.0])


def test_resample_is_linear_over_logarithms_and_keeps_the_ends():
    x, y = np.array([0.0, 100.0, 10_000.0]), np.array([[0.0, 2.0, 4.0], [1.0, 1.0, 0.0]])
    at = np.array([1.0, 10.0, 1000.0, 1e6])
    np.testing.assert_allclose(resample(at, x, y), [[0, 1, 3, 4], [1, 1, 0.5, 0]])


@pytest.mark.parametrize(
    ("x", "y", "expected"),
    [
        ([10, 1000], [0.2, 1.0], 100),
        ([10, 1000, 10_000], [0.5, 0.7, 0.1], 100),  # it need not stay there
        ([10, 1000], [0.6, 0.1], 10),
        ([10, 1000], [0.1, 0.6], 1000),
        ([10, 1000], [0.1, 0.59], None),
        ([0, 100], [0.2, 1.0], 10),  # no steps count as one
        ([0], [0.8], 0),
    ],
)
def test_first_crossing_by_hand(x, y, expected):
    crossing = first_crossing(np.array(x, dtype=float), np.array(y), 0.6)
    assert crossing is None if expected is None else crossing == pytest.approx(expected)


def seed_interval(scores, statistic, rng, reps=500):
    return interval(float(statistic(scores[None])[0]), [seed_error(scores, statistic, rng, reps)])


def test_seed_error_of_a_mean_is_the_usual_one():
    scores = np.array([1.0, 2.0, 3.0, 4.0, 5.0])
    error = seed_error(scores, mean, np.random.default_rng(0), reps=200_000)
    assert error.size == pytest.approx(math.sqrt(2.5 / 5), rel=0.01)
    assert error.degrees == 4
    assert error_of_mean(scores) == pytest.approx((math.sqrt(2.5 / 5), 4))


def test_seed_error_resamples_whole_seeds():
    # All tasks of a seed score its luck alone, so sixteen of them must not reduce the error.
    luck = np.array([0.0, 1.0, 2.0, 3.0])
    of_one_task = seed_error(luck, mean, np.random.default_rng(3))
    of_many = seed_error(np.repeat(luck[:, None], 16, axis=1), mean, np.random.default_rng(3))
    assert of_many == pytest.approx(of_one_task)


@pytest.mark.parametrize("seeds", [1, 2])
def test_errors_of_fewer_than_three_seeds_are_unknown(seeds):
    values = np.arange(8.0)[:seeds]
    errors = (
        seed_error(values, mean, np.random.default_rng(0)),
        error_of_mean(values),
        error_of_best(values),
    )
    assert all(math.isnan(error.size) for error in errors)


def test_seed_error_of_constant_seeds_is_zero():
    assert seed_error(np.full((4, 8), 0.3), pooled_iqm, np.random.default_rng(0)).size == pytest.approx(0)


def test_seed_error_is_a_function_of_the_generator():
    scores = np.random.default_rng(1).normal(size=(6, 9))
    errors = [seed_error(scores, pooled_iqm, np.random.default_rng(seed)) for seed in (0, 0, 1)]
    assert errors[0] == errors[1] != errors[2]


@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_students_interval_of_the_best_contains_the_expected_largest_normal_value(seeds):
    rng, sets = np.random.default_rng(7), 4000
    values = 5 + 2 * rng.standard_normal((sets, seeds))
    expected = 5 + 2 * rng.standard_normal((100_000, seeds)).max(1).mean()
    bounds = [interval(each.max(), [error_of_best(each)]) for each in values]
    share = np.mean([low <= expected <= high for low, high in bounds])
    assert share == pytest.approx(0.95, abs=0.015)
    assert error_of_best(values[0]).degrees == seeds - 1


def test_an_interval_of_one_error_is_students():
    # t(.975, 4) = 2.776445, t(.75, 4) = 0.740697
    assert interval(3.0, [Error(0.5, 4)]) == pytest.approx((3 - 0.5 * 2.776445, 3 + 0.5 * 2.776445))
    assert interval(3.0, [Error(0.5, 4)], level=0.5) == pytest.approx(
        (3 - 0.5 * 0.740697, 3 + 0.5 * 0.740697)
    )


def test_an_interval_of_two_errors_has_welchs_degrees_of_freedom():
    # Variances 1/3 and 4/3 with 2 degrees each: those of test_welch_by_hand.
    low, high = interval(0.0, [Error(math.sqrt(1 / 3), 2), Error(math.sqrt(4 / 3), 2)])
    assert high == -low == pytest.approx(scipy.stats.t.ppf(0.975, 2.9411765) * math.sqrt(5 / 3))


def test_an_interval_without_error_has_no_width_and_one_of_an_unknown_error_is_unknown():
    assert interval(0.3, []) == interval(0.3, [Error(0.0, 4)]) == (0.3, 0.3)
    assert all(map(math.isnan, interval(0.3, [Error(0.1, 4), Error(math.nan, 1)])))


def test_intervals_cover_where_tasks_share_the_seeds_luck():
    rng = np.random.default_rng(0)
    S, B, experiments, reps = 10, 20, 300, 200
    task = rng.normal(0.5, 0.3, B)

    def draw(seeds):
        return rng.normal(0.0, 0.1, (seeds, 1)) + task + rng.normal(0.0, 0.1, (seeds, B))

    def stratified_interval(scores):  # rliable's default: every task's seeds are resampled on their own
        rows = rng.integers(S, size=(reps, S, B))
        return np.quantile(pooled_iqm(np.take_along_axis(scores[None], rows, 1)), [0.025, 0.975])

    truth = float(iqm(draw(20_000).ravel()))
    covered = np.zeros(2)
    for _ in range(experiments):
        scores = draw(S)
        bounds = np.array([seed_interval(scores, pooled_iqm, rng, reps), stratified_interval(scores)])
        covered += (bounds[:, 0] <= truth) & (truth <= bounds[:, 1])
    whole_seeds, stratified = covered / experiments
    assert 0.90 <= whole_seeds <= 0.99
    assert stratified < 0.75


def welch(a, b):
    return same_mean(a, b, paired=False)


def test_welch_by_hand():
    # Means 2 and 4, variances 1 and 4: t = -2 / sqrt(1/3 + 4/3) = -1.549193, with (5/3)^2 / (1/18 + 16/18)
    # = 2.941176 degrees of freedom.
    p = welch(np.array([1.0, 2.0, 3.0]), np.array([2.0, 4.0, 6.0]))
    assert p == pytest.approx(2 * scipy.stats.t.cdf(-1.5491933, 2.9411765))


def test_welch_is_scipys_for_unequal_groups():
    rng = np.random.default_rng(0)
    for seeds in (3, 5, 30):
        a, b = rng.normal(0, 1, seeds), rng.normal(1, 3, 10)
        assert welch(a, b) == pytest.approx(scipy.stats.ttest_ind(a, b, equal_var=False).pvalue, abs=1e-12)


def test_welch_of_a_constant_group_warns_of_nothing():
    # `ttest_ind` warns of lost precision here, and warnings are errors.
    assert welch(np.full(3, 0.3), np.array([0.1, 0.5, 0.2])) > 0.5


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ([0.5, 0.6], [9.0, 9.1], 1.0),  # too few seeds to know the spread
        ([0.1] * 10, [0.1] * 10, 1.0),
        ([0.1 + 0.2] * 10, [0.3] * 10, 1.0),  # differ by rounding alone
        ([0.0] * 3, [1.0] * 3, 0.0),
    ],
)
@pytest.mark.parametrize("paired", [False, True])
def test_a_comparison_without_spread(a, b, expected, paired):
    assert same_mean(np.array(a), np.array(b), paired) == expected


def test_a_comparison_of_pairs_is_of_their_differences():
    # Differences 1, 2, 3: t = 2 / sqrt(1 / 3), 2 degrees. The luck that seeds share does not count.
    a, luck = np.array([1.0, 2.0, 3.0]), np.array([0.0, 50.0, -20.0])
    assert same_mean(a + luck, luck, paired=True) == pytest.approx(2 * scipy.stats.t.sf(2 * math.sqrt(3), 2))
    assert welch(a + luck, luck) > 0.9


def test_welch_with_one_constant_group():
    # The other group alone gives error and degrees of freedom: t = 2 / sqrt(1/3), 2 degrees.
    p = welch(np.array([0.0, 0.0, 0.0]), np.array([1.0, 2.0, 3.0]))
    assert p == pytest.approx(2 * scipy.stats.t.sf(2 * math.sqrt(3), 2))


def test_holm_steps_down_and_keeps_the_order():
    # Sorted .005 .01 .03 .04 become .02 .03 .06 and .04, raised to .06.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_holm_stops_at_one():
    assert holm([0.6, 0.7]) == pytest.approx([1.0, 1.0])
    assert len(holm([])) == 0

"""Every rule from returns to scores, on evaluations small enough to work out by hand.

Unless a test says otherwise a split has four tasks, on which random reaches 0, 10, 20, 30 and the oracle 10
more, so that a return of random + 10 x is a score of x.
"""

import dataclasses
import math

import numpy as np
import pytest
from bench_kit import online

from mrl_bench.errors import UsageError
from mrl_bench.report.scores import score_scenario
from mrl_bench.report.stats import iqm, seed_interval
from mrl_bench.results import Curve, Evaluation, LearningCurve, TrainingResult

RANDOM = np.array([0.0, 10.0, 20.0, 30.0])  # (B,)
K_SCORED = (0, 1, 3)


def curve(returns, failed=None, k=K_SCORED):
    """A curve of returns (B,), (B, K) or (B, K, N); the axes that are not given repeat."""
    returns = np.asarray(returns, dtype=float)
    if returns.ndim == 1:
        returns = np.repeat(returns[:, None], len(k), axis=1)
    if returns.ndim == 2:
        returns = np.repeat(returns[..., None], 2, axis=2)
    B, K, _ = returns.shape
    return Curve(
        k=k,
        returns=returns,
        env_steps=np.outer(np.ones(B), 100.0 * np.array(k)),
        failed=np.zeros((B, K), dtype=np.int64) if failed is None else np.asarray(failed, dtype=np.int64),
        online=online(B, k[-1]),
    )


def run(agent, curves, seed=0, **changes):
    """One evaluation; `curves` is a curve, or the returns of one, on the test split, or splits by name."""
    if not isinstance(curves, dict):
        curves = {"test": curves if isinstance(curves, Curve) else curve(curves)}
    is_reference = agent in ("random", "blind", "oracle")
    evaluation = Evaluation("cartpole-test-v1", "d1", agent, is_reference, seed, TrainingResult(1000), curves)
    return dataclasses.replace(evaluation, **changes)


def crash(agent, seed=0):
    return run(agent, {}, seed, training=TrainingResult(0), error="timed out")


def references(random=RANDOM, blind=RANDOM + 5, oracle=RANDOM + 10):
    return [run("random", random), run("blind", blind), run("oracle", oracle)]


def scored(scores, failed=None, **changes):
    """A curve on the usual tasks with these scores, (B,) or (B, K)."""
    scores = np.asarray(scores, dtype=float)
    return curve(RANDOM.reshape(-1, *[1] * (scores.ndim - 1)) + 10 * scores, failed, **changes)


def row(scenario_scores, agent, split="test"):
    return next(row for row in scenario_scores.splits[split].rows if row.agent == agent)


def values(estimates):
    return [estimate.value for estimate in estimates]


# Normalising


def test_scores_are_normalised_by_the_task():
    spans = np.array([10.0, 20.0, 30.0, 40.0])
    runs = [*references(oracle=RANDOM + spans), run("a", RANDOM + spans * [0.1, 0.2, 0.3, 0.4])]
    result = row(score_scenario(runs), "a")
    assert result.task_scores == pytest.approx(np.outer([0.1, 0.2, 0.3, 0.4], np.ones(3)))
    assert values(result.scores) == pytest.approx([0.25] * 3)


def test_a_return_is_the_mean_of_the_scored_episodes():
    returns = RANDOM[:, None, None] + np.array([[0.0, 8.0], [2.0, 8.0], [10.0, 8.0]])
    result = row(score_scenario([*references(), run("a", curve(returns))]), "a")
    assert values(result.scores) == pytest.approx([0.4, 0.5, 0.9])
    assert values(result.returns) == pytest.approx([19.0, 20.0, 24.0])


def test_a_reference_agent_is_the_mean_over_its_seeds_points_and_episodes():
    noise = np.array([[-3.0, 3.0], [-6.0, 0.0], [6.0, 0.0]])  # (K, N)
    returns = RANDOM[:, None, None] + noise
    random = [run("random", curve(returns + 1)), run("random", curve(returns - 1), seed=1)]
    scenario_scores = score_scenario([*random, *references()[1:], run("a", scored([0.5] * 4))])
    assert scenario_scores.splits["test"].random == pytest.approx(15.0)
    assert values(row(scenario_scores, "a").scores) == pytest.approx([0.5] * 3)


def test_reference_agents_have_rows_too_from_0_to_1_and_are_not_ranked():
    scenario_scores = score_scenario([*references(), run("a", scored([0.7] * 4))])
    for agent, score in {"random": 0.0, "blind": 0.5, "oracle": 1.0}.items():
        result = row(scenario_scores, agent)
        assert result.is_reference
        assert result.rank is None
        assert values(result.scores) == pytest.approx([score] * 3)
    assert row(scenario_scores, "a").rank == (1, 1)


def test_a_task_with_hardly_any_span_is_scored_over_a_tenth_of_the_mean_span():
    oracle = RANDOM + np.array([20.0, 20.0, 0.001, -0.001])  # mean span 10, so the floor is 1
    result = row(score_scenario([*references(oracle=oracle), run("a", RANDOM + 0.5)]), "a")
    assert result.task_scores[:, 0] == pytest.approx([0.025, 0.025, 0.5, 0.5])


@pytest.mark.parametrize("oracle", [RANDOM, RANDOM - np.array([50.0, 0.0, 0.0, -1.0])])
def test_where_the_oracle_gains_nothing_every_score_is_zero_and_the_split_is_flagged(oracle):
    scenario_scores = score_scenario([*references(oracle=oracle), run("a", RANDOM + 100)])
    assert not row(scenario_scores, "a").task_scores.any()
    assert math.isnan(scenario_scores.splits["test"].headroom)
    assert scenario_scores.splits["test"].flagged


def test_headroom_is_the_share_of_the_span_that_the_blind_agent_leaves():
    # Means 15, 15 + 9 and 15 + 10 leave 0.1; means 15, 15 + 6 and 15 + 10 leave 0.4.
    low, high = (score_scenario(references(blind=RANDOM + gain)).splits["test"] for gain in (9, 6))
    assert (low.random, low.blind, low.oracle) == (15.0, 24.0, 25.0)
    assert low.headroom == pytest.approx(0.1)
    assert low.flagged
    assert high.headroom == pytest.approx(0.4)
    assert not high.flagged


# What the numbers of a row are


def test_the_headline_pools_seeds_and_tasks():
    # Pooled and sorted: -1 0 .1 .2 .3 .4 .5 9. The middle four have mean .25; the seeds' own are .15 and .35.
    runs = [run("a", scored([-1.0, 0.1, 0.2, 0.5])), run("a", scored([0.0, 0.3, 0.4, 9.0]), seed=1)]
    result = row(score_scenario([*references(), *runs]), "a")
    assert result.seeds == 2
    assert result.scores[-1].value == pytest.approx(0.25)
    assert result.task_scores[:, -1] == pytest.approx([-0.5, 0.2, 0.3, 4.75])


def test_gain_is_the_iqm_of_each_tasks_own_gain():
    # Gains .8, .4, 0, .2: .3. The difference of the IQMs, .7 - .5, would be .2.
    points = np.array([[0.8, 0.0, 1.6], [0.6, 0.0, 1.0], [0.4, 0.0, 0.4], [-0.2, 0.0, 0.0]])
    result = row(score_scenario([*references(), run("a", scored(points))]), "a")
    assert result.gain.value == pytest.approx(0.3)


def test_area_is_over_episodes():
    # Heights 0, 1, 1 at rounds 0, 1, 3: (0.5 + 2) / 3, whatever the number of episodes in a round.
    scores = {"random": [0, 0, 0], "blind": [0.5, 0.5, 0.5], "oracle": [1, 1, 1], "a": [0, 1, 1]}
    curves = {agent: scored(np.outer(np.ones(4), points), k=(0, 4, 12)) for agent, points in scores.items()}
    result = row(score_scenario([run(agent, curve) for agent, curve in curves.items()]), "a")
    assert result.area.value == pytest.approx(2.5 / 3)
    assert result.k == (0, 4, 12)


def test_cvar_is_of_each_seeds_worst_tasks_at_the_last_point():
    # The seeds' worst tasks are different ones: (.1 + .2) / 2, where the tasks' means would give .5.
    first = [[0, 0, 0.1], [0, 0, 0.9], [0, 0, 0.8], [0, 0, 0.9]]
    second = [[0, 0, 0.9], [0, 0, 0.2], [0, 0, 0.7], [0, 0, 0.9]]
    runs = [run("a", scored(first)), run("a", scored(second), seed=1)]
    assert row(score_scenario([*references(), *runs]), "a").cvar.value == pytest.approx(0.15)


@pytest.mark.parametrize(
    ("points", "expected"),
    [([0.0, 0.91, 0.5], 1), ([0.9001, 1.0, 1.0], 0), ([0.5, 0.89, 0.95], 3), ([0.5, 0.6, 0.89], None)],
)
def test_k_to_90_is_the_first_point_near_the_oracle(points, expected):
    result = row(score_scenario([*references(), run("a", scored(np.outer(np.ones(4), points)))]), "a")
    assert result.k_to_90 == expected


def test_env_steps_are_means_over_tasks_and_the_seeds_that_gave_a_curve():
    double = scored([0.5] * 4)
    double.env_steps[:] *= [[2.0], [2.0], [4.0], [4.0]]
    runs = [
        run("a", scored([0.5] * 4)),
        run("a", double, seed=1, training=TrainingResult(3000)),
        crash("a", seed=2),
    ]
    result = row(score_scenario([*references(), *runs]), "a")
    assert result.env_steps == (0.0, 200.0, 600.0)
    assert result.train_env_steps == pytest.approx(4000 / 3)


def test_ranks_are_by_the_seeds_own_iqm_at_the_last_point():
    # The odd one out leads at the first points; its one splendid task is not in the interquartile mean.
    late = np.array([[0.0, 0.0, 0.9]] * 4)
    early = np.array([[1.0, 1.0, 0.1]] * 3 + [[1.0, 1.0, 99.0]])
    luck = np.linspace(-0.05, 0.05, 10)
    runs = [run("late", scored(late + luck[seed]), seed) for seed in range(10)]
    runs += [run("twin", scored(late - luck[seed]), seed) for seed in range(10)]
    runs += [run("early", scored(early + luck[seed]), seed) for seed in range(10)]
    scenario_scores = score_scenario([*references(), *runs])
    ranks = {agent: row(scenario_scores, agent).rank for agent in ("late", "twin", "early")}
    assert ranks == {"late": (1, 2), "twin": (1, 2), "early": (3, 3)}


@pytest.mark.parametrize(("seeds", "preliminary"), [(1, True), (9, True), (10, False)])
def test_a_row_of_fewer_than_ten_seeds_is_preliminary(seeds, preliminary):
    runs = [run("a", scored([0.5] * 4), seed) for seed in range(seeds)]
    assert row(score_scenario([*references(), *runs]), "a").preliminary is preliminary


def test_rows_are_in_the_order_of_their_last_score():
    scenario_scores = score_scenario(
        [*references(), run("b", scored([0.7] * 4)), run("a", scored([1.2] * 4))]
    )
    assert [row.agent for row in scenario_scores.splits["test"].rows] == [
        "a",
        "oracle",
        "b",
        "blind",
        "random",
    ]


# Sample efficiency


def learner(env_steps, scores, seed=0, failed=None):
    """An evaluation whose learning curve has these scores, (M,) on every task or (B, M)."""
    scores = np.broadcast_to(np.asarray(scores, dtype=float), (4, len(env_steps)))
    failed = np.zeros(scores.shape, dtype=np.int64) if failed is None else np.asarray(failed)
    found = LearningCurve(2, np.asarray(env_steps), RANDOM[:, None] + 10 * scores, failed)
    return run("a", scored([0.5] * 4), seed, training=TrainingResult(int(env_steps[-1]), found))


def on_train_too(evaluation):
    """The evaluation with the curve of the test split on the train split as well, if it has one."""
    curves = dict(evaluation.curves)
    return dataclasses.replace(evaluation, curves=curves | {"train": curves["test"]} if curves else {})


def learning(*runs):
    return row(score_scenario([on_train_too(each) for each in (*references(), *runs)]), "a").learning


def test_steps_to_60_lie_between_two_periodic_evaluations_on_a_logarithmic_axis():
    result = learning(learner([100, 1000, 10_000, 100_000], [0.0, 0.2, 1.0, 0.1]))
    assert result.env_steps == (100, 1000, 10_000, 100_000)
    assert values(result.scores) == pytest.approx([0.0, 0.2, 1.0, 0.1])
    assert result.steps_to_60 == pytest.approx(10**3.5)
    assert result.k == 2


def test_learning_curves_of_seeds_are_pooled_at_the_steps_of_the_one_with_most_points():
    # The second is at 0, .4 and .8 at 100, 1000 and 10,000; before 100 it is not known, after 10,000 it stays.
    one = learner([10, 100, 1000, 10_000, 100_000], [0.0, 0.0, 0.2, 0.4, 0.6])
    other = learner([100, 10_000], [0.0, 0.8], seed=1)
    result = learning(one, other)
    assert result.env_steps == (100, 1000, 10_000, 100_000)
    assert values(result.scores) == pytest.approx([0.0, 0.3, 0.6, 0.7])
    assert result.steps_to_60 == pytest.approx(10_000)
    assert result.scores[1].low < 0.3 < result.scores[1].high


def test_seeds_that_were_never_evaluated_at_the_same_time_meet_at_the_latest_step():
    result = learning(learner([100], [0.2]), learner([120], [0.8], seed=1))
    assert result.env_steps == (120,)
    assert values(result.scores) == pytest.approx([0.5])


def test_the_score_of_a_learning_curve_is_the_iqm_over_tasks():
    result = learning(learner([100, 200], [[0.0, 0.2], [0.1, 0.5], [0.3, 0.7], [9.0, 9.0]]))
    assert values(result.scores) == pytest.approx([0.2, 0.6])


def test_a_broken_periodic_evaluation_and_a_failed_seed_score_no_better_than_random():
    result = learning(learner([100, 200], [0.5, 0.9], failed=[[0, 1]] * 4))
    assert values(result.scores) == pytest.approx([0.5, 0.0])
    result = learning(learner([100, 200], [0.5, 0.9]), crash("a", seed=1))
    assert values(result.scores) == pytest.approx([0.25, 0.45])  # of the middle half: two of either seed
    assert result.steps_to_60 is None


def test_there_is_no_learning_curve_where_nothing_was_recorded():
    learned = dataclasses.replace(learner([100], [0.5]), curves=two_splits([0.5] * 4, [0.5] * 4))
    scenario_scores = score_scenario([on_train_too(each) for each in (*with_ood(), learned)])
    assert row(scenario_scores, "a").learning is not None
    assert row(scenario_scores, "a", "ood").learning is None
    assert row(scenario_scores, "oracle").learning is None
    assert learning(crash("a")) is None


def test_model_errors_are_means_over_the_seeds_that_logged_them():
    errors = ({"x": 1.0, "y": 5.0}, {"x": 2.0})
    runs = [
        run("a", scored([0.5] * 4), seed, training=TrainingResult(1, None, each))
        for seed, each in enumerate(errors)
    ]
    result = row(score_scenario([*references(), *runs]), "a")
    assert result.model_errors == {"x": 1.5, "y": 5.0}


# Failures


def test_a_failed_run_scores_as_random_everywhere():
    scenario_scores = score_scenario([*references(), run("a", scored([0.8] * 4)), crash("a", seed=1)])
    result = row(scenario_scores, "a")
    assert (result.seeds, result.failed_runs) == (2, 1)
    assert result.task_scores == pytest.approx(np.full((4, 3), 0.4))
    assert values(result.scores) == pytest.approx([0.4] * 3)
    assert values(result.returns) == pytest.approx([19.0] * 3)  # of random + 8 and random


def test_an_agent_that_failed_with_every_seed_has_a_row_of_zeros():
    result = row(score_scenario([*references(), crash("a"), crash("a", seed=1), run("b", RANDOM)]), "a")
    assert values(result.scores) == [0.0] * 3
    assert values([result.gain, result.area, result.cvar]) == [0.0] * 3
    assert result.env_steps == (0.0, 0.0, 0.0)
    assert result.failed_runs == 2
    assert result.rank == (1, 2)


def test_a_broken_cell_scores_no_better_than_random():
    failed = np.array([[0, 1, 2], [0, 0, 0], [0, 0, 0], [1, 1, 1]])
    scores = np.array([[0.9, 0.9, 0.9], [0.9, 0.9, 0.9], [-0.5, -0.5, -0.5], [-0.5, -0.5, -0.5]])
    result = row(score_scenario([*references(), run("a", scored(scores, failed))]), "a")
    assert result.task_scores == pytest.approx(
        np.array([[0.9, 0.0, 0.0], [0.9, 0.9, 0.9], [-0.5, -0.5, -0.5], [-0.5, -0.5, -0.5]])
    )
    assert values(result.returns) == pytest.approx([17.0, 14.75, 14.75])  # the first task counts 9, then 0
    assert result.failed_episodes == 6


@pytest.mark.parametrize(
    ("episodes", "score"),  # random's return on this task is 10; what is not finite counts 0
    [
        ([math.nan, 1e9], 0.0),
        ([math.inf, 1e9], 0.0),
        ([math.inf, -math.inf], -1.0),
        ([-math.inf, 10.0], -0.5),
    ],
)
def test_a_return_that_is_not_finite_counts_as_broken(episodes, score):
    returns = scored([0.9] * 4).returns
    returns[1, 2] = episodes
    result = row(score_scenario([*references(), run("a", curve(returns))]), "a")
    assert result.task_scores[1] == pytest.approx([0.9, 0.9, score])
    assert all(math.isfinite(value) for value in values(result.scores))


def test_broken_cells_of_a_reference_agent_are_left_out():
    returns, failed = np.repeat(RANDOM[:, None], 3, axis=1), np.zeros((4, 3))
    returns[0, 1], failed[0, 1] = 1000.0, 1
    scenario_scores = score_scenario([run("random", curve(returns, failed)), *references()[1:]])
    assert scenario_scores.splits["test"].random == pytest.approx(15.0)
    assert row(scenario_scores, "random").failed_episodes == 1


def test_a_task_on_which_a_reference_agent_always_broke_counts_with_what_it_got():
    failed = np.zeros((4, 3))
    failed[0] = 1
    scenario_scores = score_scenario(
        [run("random", curve([4.0, 10.0, 20.0, 30.0], failed)), *references()[1:]]
    )
    assert scenario_scores.splits["test"].random == pytest.approx(16.0)


def test_a_failed_seed_of_a_reference_agent_is_left_out():
    scenario_scores = score_scenario([*references(), crash("oracle", seed=1)])
    assert scenario_scores.splits["test"].oracle == pytest.approx(25.0)


# Splits


def two_splits(test, ood):
    return {"test": scored(test), "ood": scored(ood)}


def with_ood():
    flat = {"random": [0.0] * 4, "blind": [0.5] * 4, "oracle": [1.0] * 4}
    return [run(agent, two_splits(scores, scores)) for agent, scores in flat.items()]


def test_the_gap_is_test_minus_ood_at_the_last_point_and_a_seeds_luck_cancels_in_it():
    luck = np.array([0.0, 0.1, 0.2, 0.4])
    runs = [run("a", two_splits([0.6 + x] * 4, [0.3 + x] * 4), seed) for seed, x in enumerate(luck)]
    scenario_scores = score_scenario([*with_ood(), *runs])
    assert list(scenario_scores.splits) == ["test", "ood"]
    gap = scenario_scores.split_gap["a"]
    assert (gap.value, gap.low, gap.high) == pytest.approx((0.3, 0.3, 0.3))
    assert (
        row(scenario_scores, "a", "ood").scores[-1].high - row(scenario_scores, "a", "ood").scores[-1].low
        > 0.1
    )


def test_there_is_no_gap_without_ood_tasks():
    assert score_scenario(references()).split_gap == {}


# Intervals


def noisy(agent, shift, seeds=5):
    rng = np.random.default_rng(7)
    return [run(agent, scored(rng.normal(shift, 0.2, (4, 3))), seed) for seed in range(seeds)]


def test_intervals_are_over_whole_seeds():
    runs = noisy("a", 0.5)
    result = row(score_scenario([*references(), *runs], seed=3), "a")
    cells = np.stack([(u.curves["test"].returns.mean(-1) - RANDOM[:, None]) / 10 for u in runs])  # (S, B, K)

    def pooled_iqm(rows):
        return iqm(rows.reshape(len(rows), -1))

    for k, estimate in enumerate(result.scores):
        expected = seed_interval(cells[..., k], pooled_iqm, np.random.default_rng(3))
        assert (estimate.low, estimate.high) == pytest.approx(expected)
    means = 15 + 10 * cells[..., 0].mean(1)  # (S,)
    expected = seed_interval(means, lambda rows: rows.mean(1), np.random.default_rng(3))
    assert (result.returns[0].low, result.returns[0].high) == pytest.approx(expected)


def test_scores_are_a_function_of_the_runs_and_the_seed_alone():
    runs = [*references(), *noisy("a", 0.5), *noisy("b", 0.4)]
    first = score_scenario(runs, seed=3)
    assert repr(first) == repr(score_scenario(runs[::-1], seed=3))
    assert repr(first) != repr(score_scenario(runs, seed=4))
    assert first.seed == 3


def test_a_rows_numbers_do_not_depend_on_the_other_rows():
    alone = row(score_scenario([*references(), *noisy("b", 0.4)]), "b")
    together = row(score_scenario([*references(), *noisy("a", 0.5), *noisy("b", 0.4)]), "b")
    assert repr(alone) == repr(dataclasses.replace(together, rank=alone.rank))


def test_one_seed_has_no_interval():
    result = row(score_scenario([*references(), run("a", scored([0.5] * 4))]), "a")
    for estimate in (*result.returns, *result.scores, result.gain, result.area, result.cvar):
        assert math.isfinite(estimate.value)
        assert math.isnan(estimate.low)
        assert math.isnan(estimate.high)


# What is refused


@pytest.mark.parametrize("missing", ["random", "blind", "oracle"])
def test_without_a_reference_agent_there_are_no_scores(missing):
    runs = [u for u in references() if u.agent != missing]
    with pytest.raises(UsageError, match=f"'{missing}'.*missing"):
        score_scenario(runs)
    with pytest.raises(UsageError, match=f"'{missing}'.*failed"):
        score_scenario([*runs, crash(missing)])


@pytest.mark.parametrize(
    ("stranger", "message"),
    [
        (run("a", RANDOM, scenario="cartpole-other-v1"), "one scenario"),
        (run("a", RANDOM, digest="d2"), "one scenario"),
        (run("random", RANDOM), "same seed"),
        (run("oracle", RANDOM, seed=1, is_reference=False), "is_reference=False"),
        (run("a", RANDOM, is_reference=True), "is_reference=True"),
        (run("a", {"test": curve(RANDOM), "ood": curve(RANDOM)}), "same splits"),
        (run("a", curve(RANDOM, k=(0, 1, 2))), "points or tasks"),
        (run("a", curve(RANDOM, k=(0, 2, 6))), "points or tasks"),
        (run("a", curve(RANDOM[:3])), "points or tasks"),
    ],
)
def test_evaluations_that_do_not_belong_together_are_refused(stranger, message):
    with pytest.raises(ValueError, match=message):
        score_scenario([*references(), stranger])


def test_no_evaluations_are_refused():
    with pytest.raises(ValueError, match="one scenario"):
        score_scenario([])

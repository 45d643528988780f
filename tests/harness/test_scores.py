"""Every rule from returns to scores, on the small evaluations of score_kit."""

import dataclasses
import math

import numpy as np
import pytest
from score_kit import (
    K_SCORED,
    RANDOM,
    crash,
    curve,
    references,
    row,
    row_of,
    run,
    score,
    scored,
    values,
)

from mrl_bench.errors import UsageError
from mrl_bench.report.scores import NEEDLESS_OR_WEAK, NO_ADAPTATION_NEEDED, UNCERTAIN, WEAK_REFERENCES
from mrl_bench.report.stats import interval, iqm, seed_error
from mrl_bench.results import LearningCurve, Online, TrainingResult

# Normalising


def test_scores_are_normalised_by_the_task():
    spans = np.array([10.0, 20.0, 30.0, 40.0])
    result = row_of(run("a", RANDOM + spans * [0.1, 0.2, 0.3, 0.4]), on=references(oracle=RANDOM + spans))
    assert result.task_scores == pytest.approx(np.outer([0.1, 0.2, 0.3, 0.4], np.ones(3)))
    assert values(result.scores) == pytest.approx([0.25] * 3)


def test_a_return_is_the_mean_of_the_scored_episodes():
    returns = RANDOM[:, None, None] + np.array([[0.0, 8.0], [2.0, 8.0], [10.0, 8.0]])
    result = row_of(run("a", curve(returns)))
    assert values(result.scores) == pytest.approx([0.4, 0.5, 0.9])
    assert values(result.returns) == pytest.approx([19.0, 20.0, 24.0])


def test_random_is_the_mean_of_its_seeds_and_the_best_seed_of_blind_and_oracle_counts():
    # The best seed is best over all tasks, not on each.
    seeds = np.array([[1.0], [-1.0]]) * [1, 1, 1, -2]
    on = references(random=RANDOM + seeds, blind=RANDOM + 5 + seeds, oracle=RANDOM + 10 + seeds)
    scenario_scores = score(run("a", scored([0.5] * 4)), on=on)
    split = scenario_scores.splits["test"]
    assert (split.random, split.blind, split.oracle) == (15.0, 20.25, 25.25)
    assert row(scenario_scores, "oracle").task_scores[:, 0] == pytest.approx([1.0] * 4)
    assert row(scenario_scores, "a").task_scores[:, 0] == pytest.approx([5 / 11, 5 / 11, 5 / 11, 5 / 8])


def test_reference_agents_have_rows_too_from_0_to_1_flat_and_not_ranked():
    scenario_scores = score(run("a", scored([0.7] * 4)))
    for agent, level in {"random": 0.0, "blind": 0.5, "oracle": 1.0}.items():
        result = row(scenario_scores, agent)
        assert result.is_reference
        assert result.rank is None
        assert result.k == (0, 1, 3)
        assert values(result.scores) == values(result.means) == pytest.approx([level] * 3)
        assert result.task_scores == pytest.approx(np.full((4, 3), level))
        assert result.gain.value == 0
        assert result.zero_shot.value == pytest.approx(level - 0.5)
        assert result.train_env_steps == 5000
    assert row(scenario_scores, "a").rank == (1, 1)


def test_a_task_with_hardly_any_span_is_scored_over_a_tenth_of_the_mean_span():
    oracle = RANDOM + np.array([20.0, 20.0, 0.001, -0.001])  # mean span 10, so the floor is 1
    result = row_of(run("a", RANDOM + 0.5), on=references(oracle=oracle))
    assert result.task_scores[:, 0] == pytest.approx([0.025, 0.025, 0.5, 0.5])


@pytest.mark.parametrize("oracle", [RANDOM, RANDOM - np.array([50.0, 0.0, 0.0, -1.0])])
def test_where_the_oracle_gains_nothing_every_score_is_zero_and_the_split_is_flagged(oracle):
    scenario_scores = score(run("a", RANDOM + 100), on=references(oracle=oracle))
    split = scenario_scores.splits["test"]
    assert not row(scenario_scores, "a").task_scores.any()
    assert math.isnan(split.headroom.value)
    assert split.flagged
    assert split.diagnosis == WEAK_REFERENCES


def test_headroom_is_the_share_of_the_span_that_the_blind_agent_leaves():
    # Means 15, 15 + 6 and 15 + 10 leave 0.4.
    split = score(run("a", RANDOM), on=references(blind=RANDOM + 6)).splits["test"]
    assert (split.random, split.blind, split.oracle) == (15.0, 21.0, 25.0)
    assert split.headroom.value == pytest.approx(0.4)


SEEDS = np.array([[-1.0], [0.0], [1.0]])  # luck of three reference seeds, (S, 1)


@pytest.mark.parametrize(
    ("blind", "oracle", "agent", "flagged", "diagnosis"),
    [
        (5, 10, 0.9, False, None),
        (9, 10, 0.9, True, NO_ADAPTATION_NEEDED),
        (5, 10, 1.1, False, WEAK_REFERENCES),  # an agent is above the oracle
        (9, 10, 1.1, True, WEAK_REFERENCES),  # and so nothing is known of the need to adapt
        (10.4, 10, 0.9, True, NO_ADAPTATION_NEEDED),  # blind may well be as good as an oracle
        (11, 10, 0.9, True, WEAK_REFERENCES),  # but not better
        (6 + 0.2 * SEEDS, 10, 0.9, False, None),
        (7.5 + SEEDS, 10 + SEEDS, 0.9, False, UNCERTAIN),
        (8.5 + SEEDS, 10 + SEEDS, 0.9, True, UNCERTAIN),
    ],
)
def test_weak_references_are_told_from_tasks_that_need_no_adaptation(
    blind, oracle, agent, flagged, diagnosis
):
    on = references(RANDOM + 0 * SEEDS, RANDOM + blind, RANDOM + oracle)
    split = score(run("a", scored([agent] * 4)), on=on).splits["test"]
    assert (split.flagged, split.diagnosis) == (flagged, diagnosis)


def test_without_a_certificate_a_small_headroom_may_be_that_of_weak_references():
    (split,) = score(run("a", RANDOM + 9), on=references(blind=RANDOM + 9, provisional=True)).splits.values()
    assert split.diagnosis == NO_ADAPTATION_NEEDED
    weak = dataclasses.replace(split, certified=False)
    assert weak.diagnosis == NEEDLESS_OR_WEAK


def test_scores_on_provisional_references_say_so():
    (doubt,) = score(run("a", RANDOM), on=references(provisional=True)).doubts
    assert doubt.startswith("provisional references")


# What the numbers of a row are


def test_the_headline_pools_seeds_and_tasks():
    # Pooled and sorted: -1 0 .1 .2 .3 .4 .5 9. The middle four have mean .25; the seeds' own are .15 and .35.
    runs = [run("a", scored([-1.0, 0.1, 0.2, 0.5])), run("a", scored([0.0, 0.3, 0.4, 9.0]), seed=1)]
    result = row_of(*runs)
    assert result.seeds == 2
    assert result.scores[-1].value == pytest.approx(0.25)
    assert result.task_scores[:, -1] == pytest.approx([-0.5, 0.2, 0.3, 4.75])


def test_gain_is_the_iqm_of_each_tasks_own_gain():
    # Gains .8, .4, 0, .2: .3. The difference of the IQMs, .7 - .5, would be .2.
    points = np.array([[0.8, 0.0, 1.6], [0.6, 0.0, 1.0], [0.4, 0.0, 0.4], [-0.2, 0.0, 0.0]])
    result = row_of(run("a", scored(points)))
    assert result.gain.value == pytest.approx(0.3)


def test_area_is_over_episodes():
    # Heights 0, 1, 1 at rounds 0, 1, 3: (0.5 + 2) / 3, whatever the number of episodes in a round.
    result = row_of(run("a", scored(np.outer(np.ones(4), [0, 1, 1]), k=(0, 4, 12))))
    assert result.area.value == pytest.approx(2.5 / 3)
    assert result.k == (0, 4, 12)


def test_cvar_is_of_each_seeds_worst_tasks_at_the_last_point():
    # The seeds' worst tasks are different ones: (.1 + .2) / 2, where the tasks' means would give .5.
    first = [[0, 0, 0.1], [0, 0, 0.9], [0, 0, 0.8], [0, 0, 0.9]]
    second = [[0, 0, 0.9], [0, 0, 0.2], [0, 0, 0.7], [0, 0, 0.9]]
    runs = [run("a", scored(first)), run("a", scored(second), seed=1)]
    assert row_of(*runs).cvar.value == pytest.approx(0.15)


@pytest.mark.parametrize(
    ("points", "expected"),
    [([0.0, 0.91, 0.5], 1), ([0.9001, 1.0, 1.0], 0), ([0.5, 0.89, 0.95], 3), ([0.5, 0.6, 0.89], None)],
)
def test_k_to_90_is_the_first_point_near_the_oracle(points, expected):
    result = row_of(run("a", scored(np.outer(np.ones(4), points))))
    assert result.k_to_90 == expected


def test_env_steps_are_means_over_tasks_and_the_seeds_that_gave_a_curve():
    double = scored([0.5] * 4)
    double.env_steps[:] *= [[2.0], [2.0], [4.0], [4.0]]
    runs = [
        run("a", scored([0.5] * 4)),
        run("a", double, seed=1, training=TrainingResult(3000)),
        crash("a", seed=2),
    ]
    result = row_of(*runs)
    assert result.env_steps == (0.0, 200.0, 600.0)
    assert result.train_env_steps == 2000


def test_ranks_are_by_the_seeds_own_iqm_at_the_last_point():
    # The odd one out leads at the first points; its one splendid task is not in the interquartile mean.
    late = np.array([[0.0, 0.0, 0.9]] * 4)
    early = np.array([[1.0, 1.0, 0.1]] * 3 + [[1.0, 1.0, 99.0]])
    luck = np.linspace(-0.05, 0.05, 10)
    runs = [run("late", scored(late + luck[seed]), seed) for seed in range(10)]
    runs += [run("twin", scored(late - luck[seed]), seed) for seed in range(10)]
    runs += [run("early", scored(early + luck[seed]), seed) for seed in range(10)]
    scenario_scores = score(*runs)
    ranks = {agent: row(scenario_scores, agent).rank for agent in ("late", "twin", "early")}
    assert ranks == {"late": (1, 2), "twin": (1, 2), "early": (3, 3)}


@pytest.mark.parametrize(("seeds", "preliminary"), [(1, True), (9, True), (10, False)])
def test_a_row_of_fewer_than_ten_seeds_is_preliminary(seeds, preliminary):
    runs = [run("a", scored([0.5] * 4), seed) for seed in range(seeds)]
    assert row_of(*runs).preliminary is preliminary


def test_rows_are_in_the_order_of_their_last_score_before_the_reference_agents():
    rows = score(run("b", scored([0.7] * 4)), run("a", scored([1.2] * 4))).splits["test"].rows
    assert [row.agent for row in rows] == ["a", "b", "oracle", "blind", "random"]


def test_the_mean_shows_tasks_that_the_interquartile_mean_drops():
    # 12 of 50 tasks fail badly.
    scores = [-5.0] * 12 + [0.9] * 38
    on = references(random=np.zeros(50), blind=np.full(50, 5.0), oracle=np.full(50, 10.0))
    result = row_of(run("a", curve(10 * np.array(scores))), on=on)
    assert result.scores[-1].value == pytest.approx(0.9)
    assert result.means[-1].value == pytest.approx((12 * -5 + 38 * 0.9) / 50)


def test_the_mean_and_the_failed_share_show_seeds_that_the_interquartile_mean_drops():
    runs = [run("a", scored([0.9] * 4), seed) for seed in range(8)]
    result = row_of(*runs, crash("a", seed=8), crash("a", seed=9))
    assert result.scores[-1].value == pytest.approx(0.9)
    assert result.means[-1].value == pytest.approx(0.8 * 0.9)
    assert result.failed_share == 0.2


def test_zero_shot_is_the_lead_over_blind_before_adaptation():
    # Leads .1, .2, .3 and 9, of which the middle two count: .25.
    points = np.array([[0.6, 0, 0], [0.7, 0, 0], [0.8, 0, 0], [9.5, 0, 0]])
    assert row_of(run("a", scored(points))).zero_shot.value == pytest.approx(0.25)


@pytest.mark.parametrize(("points", "above"), [([1.04] * 3, False), ([0.5, 1.06, 0.9], True)])
def test_a_row_is_above_the_oracle_where_its_mean_exceeds_the_scale_at_any_k(points, above):
    assert row_of(run("a", scored(np.outer(np.ones(4), points)))).above_oracle is above


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
    on = references(splits=("train", "test"))
    return row_of(*(on_train_too(each) for each in runs), on=on).learning


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
    scenario_scores = score(on_train_too(learned), on=references(splits=("train", "test", "ood")))
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
    result = row_of(*runs)
    assert result.model_errors == {"x": 1.5, "y": 5.0}


# Failures


def test_a_failed_run_scores_no_better_than_random():
    scenario_scores = score(run("a", scored([0.8] * 4)), crash("a", seed=1))
    result = row(scenario_scores, "a")
    assert (result.seeds, result.failed_runs) == (2, 1)
    assert result.task_scores == pytest.approx(np.full((4, 3), 0.4))
    assert values(result.scores) == pytest.approx([0.4] * 3)
    assert values(result.returns) == pytest.approx([19.0] * 3)  # of random + 8 and random


def test_a_failed_run_scores_no_better_than_the_worst_finished_run_on_each_task_at_each_k():
    one = np.array([[-0.5, 0.1, 0.2], [0.5, 0.5, 0.5], [0.5, 0.5, 0.5], [0.5, 0.5, 0.5]])
    other = np.array([[-0.2, -0.3, 0.4], [0.5, 0.5, 0.5], [0.5, 0.5, 0.5], [0.5, 0.5, 0.5]])
    result = row_of(run("a", scored(one)), run("a", scored(other), seed=1), crash("a", seed=2))
    assert result.task_scores[0] == pytest.approx([(-0.7 - 0.5) / 3, (-0.2 - 0.3) / 3, 0.2])


def test_an_agent_that_failed_with_every_seed_has_a_row_of_zeros():
    scenario_scores = score(crash("a"), crash("a", seed=1), run("b", RANDOM - 5))
    result = row(scenario_scores, "a")
    assert values(result.scores) == [0.0] * 3
    assert values([result.gain, result.area, result.cvar]) == [0.0] * 3
    assert result.env_steps == (0.0, 0.0, 0.0)
    assert result.train_env_steps == 0
    assert result.failed_runs == 2
    assert result.rank == (2, 2)
    assert scenario_scores.splits["test"].rows[0].agent == "b"


def test_where_no_run_finished_there_is_a_score_at_k_0():
    result = row_of(crash("a"))
    assert result.k == (0,)
    assert values(result.scores) == [0.0]
    assert result.online is None


def crash_one(rng, runs):
    """An agent, and the scores before and after the crash of one of its finished runs."""
    lost = rng.choice([i for i, each in enumerate(runs) if each.error is None])
    crashed = [crash(each.agent, each.seed) if i == lost else each for i, each in enumerate(runs)]
    agent = runs[lost].agent
    return row(score(*runs), agent), row(score(*crashed), agent)


def random_runs(rng, draw):
    """Three agents with four seeds each, some of which crashed."""
    runs = []
    for agent in "abc":
        level = rng.uniform(-0.5, 0.5)
        runs += [run(agent, scored(draw(level)), seed) for seed in range(4)]
    return [crash(each.agent, each.seed) if rng.random() < 0.15 else each for each in runs]


@pytest.mark.parametrize("case", range(20))
def test_no_agent_ranks_better_by_a_crash(case):
    rng = np.random.default_rng(case)
    before, after = crash_one(rng, random_runs(rng, lambda level: level + rng.normal(0, 0.4, (4, 3))))
    assert after.rank[0] >= before.rank[0]
    assert after.rank[1] >= before.rank[1]


@pytest.mark.parametrize("case", range(20))
def test_no_agent_scores_better_by_a_crash_of_a_run_that_was_better_than_random(case):
    rng = np.random.default_rng(case)
    before, after = crash_one(rng, random_runs(rng, lambda level: rng.uniform(0, 1.5 + level, (4, 3))))
    for name in ("scores", "means", "returns"):
        assert (
            np.array(values(getattr(after, name))) <= np.array(values(getattr(before, name))) + 1e-9
        ).all()
    assert after.cvar.value <= before.cvar.value + 1e-9
    assert after.area.value <= before.area.value + 1e-9
    assert (after.task_scores <= before.task_scores + 1e-9).all()


def test_agents_with_failed_runs_stand_last_those_with_more_of_them_behind():
    good, bad = scored([0.9] * 4), scored([-0.5] * 4)
    runs = [run(agent, curve, seed) for agent, curve in (("good", good), ("bad", bad)) for seed in range(3)]
    runs += [run("once", good), run("once", good, seed=1), crash("once", seed=2)]
    runs += [run("twice", good), crash("twice", seed=1), crash("twice", seed=2)]
    rows = score(*runs).splits["test"].rows
    assert [row.agent for row in rows][:4] == ["good", "bad", "once", "twice"]
    assert [row.rank for row in rows[:4]] == [(1, 1), (2, 2), (3, 3), (4, 4)]


def test_a_broken_cell_scores_no_better_than_random():
    failed = np.array([[0, 1, 2], [0, 0, 0], [0, 0, 0], [1, 1, 1]])
    scores = np.array([[0.9, 0.9, 0.9], [0.9, 0.9, 0.9], [-0.5, -0.5, -0.5], [-0.5, -0.5, -0.5]])
    result = row_of(run("a", scored(scores, failed)))
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
    result = row_of(run("a", curve(returns)))
    assert result.task_scores[1] == pytest.approx([0.9, 0.9, score])
    assert all(math.isfinite(value) for value in values(result.scores))


# Splits


def two_splits(test, ood):
    return {"test": scored(test), "ood": scored(ood)}


def test_the_gap_is_test_minus_ood_at_the_last_point_and_a_seeds_luck_cancels_in_it():
    luck = np.array([0.0, 0.1, 0.2, 0.4])
    runs = [run("a", two_splits([0.6 + x] * 4, [0.3 + x] * 4), seed) for seed, x in enumerate(luck)]
    scenario_scores = score(*runs, on=references(splits=("test", "ood")))
    assert list(scenario_scores.splits) == ["test", "ood"]
    gap = scenario_scores.split_gap["a"]
    assert (gap.value, gap.low, gap.high) == pytest.approx((0.3, 0.3, 0.3))
    assert (
        row(scenario_scores, "a", "ood").scores[-1].high - row(scenario_scores, "a", "ood").scores[-1].low
        > 0.1
    )


def test_there_is_no_gap_without_ood_tasks():
    assert score(run("a", RANDOM)).split_gap == {}


# Intervals


def bounds(estimate):
    return estimate.low, estimate.high


def noisy(agent, shift, seeds=5):
    rng = np.random.default_rng(7)
    return [run(agent, scored(rng.normal(shift, 0.2, (4, 3))), seed) for seed in range(seeds)]


def test_intervals_are_over_whole_seeds():
    runs = noisy("a", 0.5)
    result = row_of(*runs, seed=3)
    cells = np.stack([(u.curves["test"].returns.mean(-1) - RANDOM[:, None]) / 10 for u in runs])  # (S, B, K)

    def pooled_iqm(rows):
        return iqm(rows.reshape(len(rows), -1))

    for k, estimate in enumerate(result.scores):
        error = seed_error(cells[..., k], pooled_iqm, np.random.default_rng(3))
        expected = interval(estimate.value, [error])
        assert bounds(estimate) == pytest.approx(expected)
    means = 15 + 10 * cells[..., 0].mean(1)  # (S,)
    error = seed_error(means, lambda rows: rows.mean(1), np.random.default_rng(3))
    assert bounds(result.returns[0]) == pytest.approx(interval(means.mean(), [error]))


def test_the_spread_of_the_references_widens_intervals_and_moves_them_as_the_scale_moves():
    # Agents without spread: all the error is the oracle's, of which a score of x moves by x / span.
    runs = [run("a", scored([0.8] * 4), seed) for seed in range(5)]
    on = references(oracle=RANDOM + 9 + SEEDS)  # the best has a span of 10
    result = row_of(*runs, on=on)
    # The error of the best of three seeds is 0.825 times their spread; t(.975, 2) = 4.3027.
    half = 0.8 * 0.825 * 1.0 / 10 * 4.3027
    assert bounds(result.scores[0]) == pytest.approx((0.8 - half, 0.8 + half), rel=5e-3)
    assert bounds(result.means[0]) == pytest.approx(bounds(result.scores[0]))
    assert bounds(result.gain) == pytest.approx((0.0, 0.0), abs=1e-9)
    assert result.returns[0].low == result.returns[0].high  # a return does not depend on the scale


def test_the_spread_of_the_reference_agents_is_in_their_rows_and_in_the_headroom():
    on = references(random=RANDOM + 0.1 * SEEDS, blind=RANDOM + 4 + SEEDS, oracle=RANDOM + 9 + 0.5 * SEEDS)
    scenario_scores = score(run("a", RANDOM), on=on)
    random, blind, oracle = (row(scenario_scores, agent) for agent in ("random", "blind", "oracle"))
    for result, level in ((random, 0.0), (oracle, 1.0)):  # by definition
        assert bounds(result.scores[0]) == pytest.approx((level, level), abs=1e-9)
    for result, spread in ((random, 0.1 / math.sqrt(3)), (blind, 0.825), (oracle, 0.5 * 0.825)):
        estimate = result.returns[0]
        assert (estimate.high - estimate.low) / 2 == pytest.approx(4.3027 * spread, rel=5e-3)
    assert blind.scores[0].low < blind.scores[0].value < blind.scores[0].high
    headroom = scenario_scores.splits["test"].headroom
    assert headroom.value == pytest.approx(4.5 / 9.5)
    assert headroom.low < headroom.value < headroom.high


def test_below_three_reference_seeds_intervals_hold_for_these_references_and_the_headroom_has_none():
    on = references(oracle=RANDOM + 9 + SEEDS[:2])
    scenario_scores = score(*noisy("a", 0.5), on=on)
    assert math.isfinite(row(scenario_scores, "a").scores[0].low)
    assert math.isnan(scenario_scores.splits["test"].headroom.low)


def test_intervals_are_cut_at_what_is_possible():
    # Returns of at most 32: scores of at most 3.2, 2.2, 1.2 and .2, whose interquartile mean is 1.7.
    runs = [run("a", scored([score] * 4), seed) for seed, score in enumerate((0.0, 0.1, 0.2))]
    free, bounded = row_of(*runs), row_of(*runs, return_range=(0.0, 32.0))
    assert free.scores[0].high < 1.7
    assert bounded.scores[0].high == free.scores[0].high
    assert bounded.returns[0].low == free.returns[0].low > 0
    wide = [run("a", scored([score] * 4), seed) for seed, score in enumerate((0.0, 0.1, 1.2))]
    bounded = row_of(*wide, return_range=(0.0, 32.0))
    # At least 0, so scores of at least 0, -1, -2 and -3.
    assert bounds(bounded.scores[0]) == pytest.approx((-1.5, 1.7))
    assert bounded.means[0].high == pytest.approx(1.7)
    assert bounded.returns[0].high <= 32


def test_intervals_of_the_reference_agents_and_of_the_headroom_are_cut_at_what_is_possible():
    on = references(RANDOM + 0 * SEEDS, blind=RANDOM + 1 + 12 * SEEDS, oracle=RANDOM + 6 + 12 * SEEDS)
    possible = (0.0, 50.0)
    free, bounded = (score(run("a", RANDOM), on=on, **known) for known in ({}, {"return_range": possible}))
    least, most = (
        float(iqm((bound - RANDOM) / 18)) for bound in possible
    )  # the best oracle has a span of 18
    blind, wide = row(bounded, "blind"), row(free, "blind")
    for cut, uncut in ((blind.scores[0], wide.scores[0]), (blind.means[0], wide.means[0])):
        assert uncut.low < least < most < uncut.high
        assert bounds(cut) == pytest.approx((least, most))
    lead, uncut = (row(scores, "oracle").zero_shot for scores in (bounded, free))
    assert uncut.low < least - 13 / 18 < most - 13 / 18 < uncut.high
    assert bounds(lead) == pytest.approx((least - 13 / 18, most - 13 / 18))
    headroom, uncut = (scores.splits["test"].headroom for scores in (bounded, free))
    # (33 - blind) / 18, where blind's mean return is from 0 to 50.
    assert uncut.low < -17 / 18 < 33 / 18 < uncut.high
    assert bounds(headroom) == pytest.approx((-17 / 18, 33 / 18))


def test_scores_are_a_function_of_the_runs_and_the_seed_alone():
    runs = [*noisy("a", 0.5), *noisy("b", 0.4)]
    first = score(*runs, seed=3)
    assert repr(first) == repr(score(*runs[::-1], seed=3))
    assert repr(first) != repr(score(*runs, seed=4))
    assert first.seed == 3


def test_a_rows_numbers_do_not_depend_on_the_other_rows():
    alone = row(score(*noisy("b", 0.4)), "b")
    together = row(score(*noisy("a", 0.5), *noisy("b", 0.4)), "b")
    assert repr(alone) == repr(dataclasses.replace(together, rank=alone.rank))


@pytest.mark.parametrize("seeds", [1, 2])
def test_below_three_seeds_there_is_no_interval(seeds):
    result = row_of(*noisy("a", 0.5, seeds))
    for estimate in (*result.returns, *result.scores, *result.means, result.gain, result.area, result.cvar):
        assert math.isfinite(estimate.value)
        assert math.isnan(estimate.low)
        assert math.isnan(estimate.high)


# Adaptation episodes


def adapting(agent, scores, seed=0, failed=0, k=K_SCORED):
    """A run whose adaptation episodes have these scores, (M,) on every task or (B, M)."""
    scores = np.broadcast_to(np.asarray(scores, dtype=float), (4, k[-1]))
    episodes = Online(RANDOM[:, None] + 10 * scores, np.broadcast_to(failed, scores.shape).astype(np.int64))
    return run(agent, dataclasses.replace(scored([0.5] * 4, k=k), online=episodes), seed)


def test_online_scores_are_means_of_the_adaptation_episodes():
    online = row_of(adapting("a", [-0.5, 0.1, 0.6]), adapting("a", [-0.1, 0.3, 0.8], seed=1)).online
    assert online.k == (1, 2, 3)
    assert values(online.scores) == pytest.approx([-0.3, 0.2, 0.7])
    assert online.worst == pytest.approx(-0.5)
    assert online.metrics == {}


def test_online_scores_are_binned_by_whole_rounds():
    online = row_of(adapting("a", [0.0, 0.2, 0.4, 0.6, 0.8, 1.0], k=(0, 2, 6))).online
    assert online.k == (2, 4, 6)
    assert values(online.scores) == pytest.approx([0.1, 0.5, 0.9])


def test_a_failed_adaptation_episode_scores_no_better_than_random():
    online = row_of(adapting("a", [0.9, 0.9, 0.9], failed=[0, 1, 0]), crash("a", seed=1)).online
    assert values(online.scores) == pytest.approx([0.45, 0.0, 0.45])
    assert online.worst == 0.0
    assert math.isnan(row_of(crash("a"), run("b", RANDOM)).online.worst)


def test_an_agent_that_is_only_scored_before_adaptation_has_no_online_scores():
    assert row_of(run("a", scored([0.5] * 4, k=(0,)))).online is None


# What is refused


@pytest.mark.parametrize("missing", ["random", "blind", "oracle"])
def test_without_a_reference_agent_there_are_no_scores(missing):
    on = references()
    others = {name: agent for name, agent in on.agents.items() if name != missing}
    with pytest.raises(UsageError, match=f"'{missing}' on test"):
        score(run("a", RANDOM), on=dataclasses.replace(on, agents=others))


def test_without_references_on_a_split_there_are_no_scores():
    with pytest.raises(UsageError, match="'random' on ood"):
        score(run("a", {"test": curve(RANDOM), "ood": curve(RANDOM)}))


@pytest.mark.parametrize(
    ("stranger", "message"),
    [
        (run("b", RANDOM, scenario="cartpole-other-v1"), "one scenario"),
        (run("b", RANDOM, digest="d2"), "one scenario"),
        (run("a", RANDOM), "same seed"),
        (run("oracle", RANDOM, is_reference=True), "'oracle' is a reference agent"),
        (run("oracle", RANDOM), "'oracle' is a reference agent"),
        (run("b", {"test": curve(RANDOM), "ood": curve(RANDOM)}), "same splits"),
        (run("b", curve(RANDOM, k=(0, 1, 2))), "points or tasks"),
        (run("b", curve(RANDOM, k=(0, 2, 6))), "points or tasks"),
        (run("b", curve(RANDOM[:3])), "points or tasks"),
    ],
)
def test_evaluations_that_do_not_belong_together_are_refused(stranger, message):
    with pytest.raises(ValueError, match=message):
        score(run("a", RANDOM), stranger)


def test_references_of_another_scenario_or_of_other_tasks_are_refused():
    with pytest.raises(ValueError, match="references of cartpole-other-v1"):
        score(run("a", RANDOM), on=references(scenario="cartpole-other-v1"))
    with pytest.raises(ValueError, match="points or tasks"):
        score(run("a", curve(RANDOM[:3])))


def test_without_evaluations_there_are_no_scores():
    with pytest.raises(UsageError, match="cartpole-test-v1: no agent has been evaluated"):
        score()

"""Evaluations and references that are small enough to work out scores by hand.

A split has four tasks, on which random returns 0, 10, 20, 30 and the oracle 10 more, so that a return of random + 10 x
is a score of x. Blind scores 0.5.
"""

import dataclasses

import numpy as np
from bench_kit import online

from mrl_bench.report.scoring import score_scenario
from mrl_bench.results import Curve, Evaluation, TrainingResult
from mrl_bench.scenario.references import ReferenceAgent, ReferenceReturns, References

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
    evaluation = Evaluation("cartpole-test-v1", "d1", agent, False, seed, TrainingResult(1000), curves)
    return dataclasses.replace(evaluation, **changes)


def crash(agent, seed=0):
    return run(agent, {}, seed, training=TrainingResult(0), error="timed out")


def scored(scores, failed=None, **changes):
    """A curve on the usual tasks with these scores, (B,) or (B, K)."""
    scores = np.asarray(scores, dtype=float)
    return curve(RANDOM.reshape(-1, *[1] * (scores.ndim - 1)) + 10 * scores, failed, **changes)


def references(
    random=RANDOM, blind=RANDOM + 5, oracle=RANDOM + 10, splits=("test",), measured=None, **changes
):
    """References with these returns on every split, (B,) or (S, B), and measurements, agent -> name -> likewise."""
    agents = {}
    for name, returns in {"random": random, "blind": blind, "oracle": oracle}.items():
        by_seed = np.atleast_2d(np.asarray(returns, dtype=float))
        metrics = {
            metric: np.broadcast_to(np.asarray(values, float), by_seed.shape)
            for metric, values in (measured or {}).get(name, {}).items()
        }
        half = np.zeros(0) if name == "random" else by_seed.mean(1)  # doubling the budget moves nothing
        found = ReferenceReturns(by_seed, metrics, half)
        agents[name] = ReferenceAgent(5000, tuple(range(len(by_seed))), {}, dict.fromkeys(splits, found))
    return References(
        **{"scenario": "cartpole-test-v1", "digest": "t1", "agents": agents, "reported": {}} | changes
    )


def score(*evaluations, on=None, **changes):
    """The scores of these evaluations on the usual references, or on others."""
    return score_scenario(evaluations, on or references(), **changes)


def row(scenario_scores, agent, split="test"):
    return next(row for row in scenario_scores.splits[split].rows if row.agent == agent)


def row_of(*evaluations, on=None, **changes):
    """The row of the first evaluation's agent on test tasks."""
    return row(score(*evaluations, on=on, **changes), evaluations[0].agent)


def values(estimates):
    return [estimate.value for estimate in estimates]

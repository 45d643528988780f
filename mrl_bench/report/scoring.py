"""From evaluations to scores. docs/evaluation.md defines every number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import inf

import numpy as np

from mrl_bench.errors import UsageError
from mrl_bench.report.estimates import estimate, pooled_iqm
from mrl_bench.report.ranks import Contender, rank_ranges
from mrl_bench.report.rows import AgentRuns, reference_row
from mrl_bench.report.scale import Scale, of_score
from mrl_bench.report.scores import Estimate, Learning, ScenarioScores, SplitScores
from mrl_bench.report.stats import Array, iqm, seed_error
from mrl_bench.results import REFERENCE_AGENTS, Evaluation
from mrl_bench.scenario.references import References

SPLITS = ("train", "test", "ood")  # in the order of the report


def score_scenario(
    evaluations: Sequence[Evaluation],
    references: References,
    seed: int = 0,
    return_range: tuple[float, float] = (-inf, inf),
) -> ScenarioScores:
    """The scores of one scenario.

    Args:
        evaluations: of one scenario and digest, in any order; not of reference agents.
        references: of the same scenario.
        seed: of the intervals' generator. Each interval has a new generator with this seed, so that it does not
            depend on the other rows.
        return_range: least and greatest possible return; intervals are cut there.

    Raises:
        UsageError: there are no evaluations, or a reference agent is missing: returns cannot be normalised.
        ValueError: the evaluations are not comparable.
    """
    agents = _by_agent(evaluations, references)
    points = _points(evaluations, references)
    scales = {split: Scale.of(references, split, return_range, seed) for split in SPLITS if split in points}
    runs = {
        split: {agent: AgentRuns(scale, split, points[split], each) for agent, each in agents.items()}
        for split, scale in scales.items()
    }
    for split_runs in runs.values():
        for each in split_runs.values():
            _require_alike(each)
    learning = {}  # is measured on training tasks, and shown with the test scores
    if "train" in runs:
        learning = {agent: each.learning() for agent, each in runs["train"].items()}
    gaps = {}
    if "test" in runs and "ood" in runs:
        gaps = {agent: _split_gap(runs["test"][agent], runs["ood"][agent]) for agent in agents}
    return ScenarioScores(
        scenario=references.scenario,
        digest=evaluations[0].digest,
        splits={
            split: _split_scores(split, runs[split], scale, learning if split == "test" else {}, references)
            for split, scale in scales.items()
        },
        split_gap=gaps,
        doubts=tuple(references.doubts(max(each.training.env_steps for each in evaluations))),
        seed=seed,
    )


def _by_agent(evaluations: Sequence[Evaluation], references: References) -> dict[str, list[Evaluation]]:
    """The evaluations of each agent, ordered by seed; raises as `score_scenario` does."""
    if not evaluations:
        raise UsageError(f"{references.scenario}: no agent has been evaluated")
    if len({(evaluation.scenario, evaluation.digest) for evaluation in evaluations}) != 1:
        raise ValueError("scores need evaluations of exactly one scenario and digest")
    if references.scenario != evaluations[0].scenario:
        raise ValueError(f"references of {references.scenario} do not fit {evaluations[0].scenario}")
    agents: dict[str, list[Evaluation]] = {}
    for evaluation in sorted(evaluations, key=lambda evaluation: (evaluation.agent, evaluation.seed)):
        agents.setdefault(evaluation.agent, []).append(evaluation)
        if evaluation.is_reference or evaluation.agent in REFERENCE_AGENTS:
            raise ValueError(f"{evaluation.agent!r} is a reference agent, and is not scored")
    for agent, runs in agents.items():
        if len({run.seed for run in runs}) < len(runs):
            raise ValueError(f"{agent!r} has two evaluations of the same seed")
    return agents


def _points(evaluations: Sequence[Evaluation], references: References) -> dict[str, tuple[int, ...]]:
    """The k of the curves of each split; 0 alone where no run finished."""
    finished = [evaluation.curves for evaluation in evaluations if evaluation.error is None]
    if not finished:
        return {split: (0,) for agent in references.agents.values() for split in agent.splits}
    if any(set(curves) != set(finished[0]) for curves in finished):
        raise ValueError(f"evaluations of one scenario must have the same splits, from {', '.join(SPLITS)}")
    return {split: curve.k for split, curve in finished[0].items()}


def _require_alike(runs: AgentRuns) -> None:
    """Raises ValueError unless all curves have the same points, and the tasks and metrics of the references."""
    reported = {name: metric.ratio for name, metric in runs.scale.metrics.items()}
    for run in runs.finished:
        curve = run.curves[runs.split]
        if (curve.k, len(curve.returns), curve.reported) != (runs.k, runs.scale.tasks, reported):
            raise ValueError(
                f"curves of split {runs.split!r} differ in their points or tasks, or in what is reported"
            )


def _split_scores(
    split: str,
    runs: Mapping[str, AgentRuns],
    scale: Scale,
    learning: Mapping[str, Learning | None],
    references: References,
) -> SplitScores:
    ranks = rank_ranges({agent: contender(each) for agent, each in runs.items()})
    rows = [each.row(learning.get(agent), ranks[agent]) for agent, each in runs.items()]
    rows.sort(key=lambda row: (row.failed_share, -row.scores[-1].value))
    agents = {
        name: reference_row(scale, name, references.agents[name], rows[0].k) for name in REFERENCE_AGENTS
    }
    return SplitScores(
        split=split,
        tasks=scale.tasks,
        random=agents["random"].returns[0].value,
        blind=agents["blind"].returns[0].value,
        oracle=agents["oracle"].returns[0].value,
        headroom=scale.headroom,
        rows=(*rows, *(agents[name] for name in ("oracle", "blind", "random"))),
        certified=references.certified,
    )


def contender(runs: AgentRuns) -> Contender:
    """An agent on one split, for comparison with others: the IQM over tasks of each seed at the last k."""
    finished = runs.finished
    return Contender(
        seeds=tuple(run.seed for run in runs.runs),
        scores=iqm(runs.scores[..., -1]),
        failed_share=1 - len(finished) / len(runs.runs),
        env_steps=float(np.mean([run.training.env_steps for run in finished] or [0])),
    )


def _split_gap(test: AgentRuns, ood: AgentRuns) -> Estimate:
    """IQM at the last k on test tasks minus that on ood tasks; both splits of a seed are resampled together."""
    B = test.scale.tasks
    last = np.concatenate([test.scores[..., -1], ood.scores[..., -1]], axis=1)  # (S, B + B')

    def gap(rows: Array) -> Array:
        return pooled_iqm(rows[..., :B]) - pooled_iqm(rows[..., B:])

    test_score, ood_score = (float(iqm(runs.scores[..., -1].ravel())) for runs in (test, ood))
    known = test.scale.known_errors(of_score(test_score)) + ood.scale.known_errors(of_score(ood_score))
    return estimate(test_score - ood_score, [seed_error(last, gap, test.scale.generator()), *known])

"""Verification of a submission, level by level. A level that does not hold raises `Refused`.

    0 intact        the files are those that were submitted, and the claimed scores follow from the returns
    1 replayed      the recorded actions earn the recorded rewards, and these add up to the returns
    2 re-evaluated  the weights earn the returns, adapting to the published tasks in an isolated process
    3 fresh         they earn as much on tasks that were drawn after the submission
    4 retrained     meta-trained again, the agent earns what the submitted seeds let expect

Levels 0 and 1 run none of the submitter's code.
"""

from __future__ import annotations

import secrets
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from math import isclose
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mrl_bench.errors import ContractError
from mrl_bench.leaderboard import DIVISIONS, USUAL_LEVEL
from mrl_bench.leaderboard.entry import Entry
from mrl_bench.leaderboard.fresh import fresh_tasks, overfitted
from mrl_bench.leaderboard.submission import Refused, Submission, SubmittedRun, claims_of
from mrl_bench.report.ranks import EQUAL_STEPS
from mrl_bench.report.stats import LEAST_SEEDS
from mrl_bench.results import REFERENCE_AGENTS, Curve, Evaluation
from mrl_bench.runs.provenance import machine, package_versions
from mrl_bench.scenario import Scenario

if TYPE_CHECKING:
    from mrl_bench.runs.isolation.remote import Isolation, RemoteAgent

Array = NDArray[np.float64]
_CLOSE = 0.05  # of the way from random to oracle


def verify(
    folder: Path,
    level: int = USUAL_LEVEL,
    suite: str | Path | None = None,
    report: Callable[[int, str], None] = lambda level, text: None,
    seed: int | None = None,
) -> Entry:
    """Verifies the levels 0 to `level`.

    Args:
        folder: of the submission.
        level: the highest one.
        suite: id or file of its suite; by default the id that it names.
        report: is told of every level that holds, and what was checked.
        seed: of the tasks that are played alone, the fresh tasks and the runs that are trained again; by default one
            that nobody knows.

    Raises:
        Refused: a level does not hold.
    """
    entry = Entry.load(folder, suite)
    _require_intact(entry)
    submission = entry.submission
    report(0, f"{len(submission.files)} files, scores of {len(submission.runs)} runs recomputed")
    if level >= 1:
        report(1, f"{_replay(entry)} episodes played again from their actions")
    if level >= 2:
        _verify_in_isolation(entry, level, report, secrets.randbits(62) if seed is None else seed)
    return entry


def _verify_in_isolation(entry: Entry, level: int, report: Callable[[int, str], None], seed: int) -> None:
    from mrl_bench.runs.isolation.remote import isolation

    try:
        report(2, _reevaluate(entry, isolation(), seed))
        if level >= 3:
            report(3, _play_fresh_tasks(entry, isolation(), seed))
        if level >= 4:
            report(4, _retrain(entry, isolation(), seed))
    except ContractError as error:
        raise Refused(f"it cannot be evaluated again: {error}") from None


def _require_intact(entry: Entry) -> None:
    submission, agent = entry.submission, entry.submission.agent
    if agent.name in REFERENCE_AGENTS:
        raise Refused(f"{agent.name} is the name of a reference agent")
    if agent.division not in DIVISIONS:
        raise Refused(f"{agent.division!r} is no division: {', '.join(DIVISIONS)}")
    if submission.claims.keys() != entry.scenarios.keys():
        raise Refused("it claims scores on other scenarios than those of its suite")
    for name, scores in entry.scores.items():
        if not _same(submission.claims[name], claims_of(scores, agent.name)):
            raise Refused(f"the claimed scores on {name} do not follow from its returns")


def _replay(entry: Entry) -> int:
    """Plays the recorded actions. Returns the number of episodes."""
    import torch

    from mrl_bench.protocol.recorded import from_bytes, replay

    count = 0
    for run in entry.submission.runs:
        curves = entry.evaluations[run.name].curves
        if run.error is not None:
            continue
        try:
            episodes = from_bytes(entry.file(run.path("episodes")))
        except ValueError as error:
            raise Refused(f"the episodes of {run.name} cannot be read: {error}") from None
        if missing := sorted(curves.keys() - episodes.keys()):
            raise Refused(f"{run.name} has no recorded episodes on {missing[0]}")
        for split, curve in curves.items():
            scenario = entry.scenarios[run.scenario]
            if wrong := replay(scenario, split, curve, episodes[split], torch.device("cpu")):
                raise Refused(f"{run.name}: {wrong[0]}")
            count += episodes[split].length.size
    return count


def _reevaluate(entry: Entry, isolation: Isolation, seed: int) -> str:
    """Plays the weights of every run; says how many earn exactly the returns that were submitted.

    On the platform of the submission all must. On another one rounding may differ, and with it an episode; then the
    mean score must lie within the claimed interval, or within `_CLOSE` where seeds are too few for one.
    """
    submission, played = entry.submission, dict[str, Evaluation]()
    exact = runs = 0
    for run, agent in _agents(entry, isolation):
        claimed, scenario = entry.evaluations[run.name], entry.scenarios[run.scenario]
        curves = {split: _evaluated(agent, scenario, split, run.seed) for split in claimed.curves}
        if run.seed == 0:
            _require_as_much_alone(entry, agent, run, curves["test"], seed)
        runs += 1
        same = _same_returns(claimed, curves)
        if not same and _is_our_platform(submission):
            raise Refused(f"{run.name} earns other returns than were submitted")
        exact += same
        played[run.name] = replace(claimed, curves=curves)
    if exact < runs:
        _require_near(entry, entry.evaluations | played)
    return f"{runs} runs evaluated again in isolation, {exact} of them with the same returns"


def _play_fresh_tasks(entry: Entry, isolation: Isolation, seed: int) -> str:
    """Refuses an agent that earns less on tasks drawn with this seed than on the published ones."""
    claimed, fresh = defaultdict[str, list[Array]](list), defaultdict[str, list[Array]](list)
    for run, agent in _agents(entry, isolation):
        scenario = fresh_tasks(entry.scenarios[run.scenario], seed)
        for split, curve in entry.evaluations[run.name].curves.items():
            found = _evaluated(agent, scenario, split, run.seed)
            for returns, each in ((curve.returns, claimed), (found.returns, fresh)):
                each[f"{run.scenario} {split}"].append(returns[:, -1].mean(-1))  # (B,) at the last k
    means = [{name: np.mean(seeds, 0) for name, seeds in each.items()} for each in (claimed, fresh)]
    for name, less in overfitted(*means).items():
        raise Refused(f"on fresh tasks it earns {less:.4g} less than it claims on {name}")
    return f"as much on fresh tasks, drawn with seed {seed}"


def _retrain(entry: Entry, isolation: Isolation, seed: int) -> str:
    """Meta-trains one finished run of each scenario again, which the seed chooses."""
    from mrl_bench.leaderboard.retrain import short_of_claims, train_again

    rng, exact = np.random.default_rng(seed), list[str]()
    claimed, again = dict[str, Array](), dict[str, float]()
    finished = defaultdict[str, list[SubmittedRun]](list)
    for run in entry.submission.runs:
        if run.error is None:
            finished[run.scenario].append(run)
    chosen = [runs[rng.integers(len(runs))] for runs in finished.values()]
    for run in chosen:
        scenario, submitted = entry.scenarios[run.scenario], entry.evaluations[run.name]
        budget = scenario.budget.planned(
            entry.submission.agent.name, entry.submission.agent.settings[run.scenario]
        )
        with _agent(entry, isolation, run) as trained, _agent(entry, isolation, run) as agent:
            steps = train_again(trained, scenario, budget, run.seed)
            if steps > EQUAL_STEPS * run.env_steps:
                raise Refused(
                    f"{run.name} used {steps:,} env steps when trained again, not {run.env_steps:,}"
                )
            agent.load_state_dict(trained.state_dict())
            curves = {split: _evaluated(agent, scenario, split, run.seed) for split in submitted.curves}
        if _same_returns(submitted, curves):
            exact.append(run.name)
            continue
        if len(finished[run.scenario]) < LEAST_SEEDS:
            raise Refused(
                f"trained again, {run.name} earns other returns; with less than {LEAST_SEEDS} seeds nothing says "
                "whether by chance"
            )
        for split in curves:
            name = f"{run.scenario} {split}"
            claimed[name] = entry.contender(run.scenario, split).scores
            again[name] = entry.contender(run.scenario, split, [replace(submitted, curves=curves)]).mean
    for name, less in short_of_claims(claimed, again).items():
        raise Refused(f"trained again, it scores {less:.2f} less than it claims on {name}")
    return f"{len(chosen)} runs trained again, {len(exact)} of them with the same returns"


def _agents(entry: Entry, isolation: Isolation) -> Iterator[tuple[SubmittedRun, RemoteAgent]]:
    """Each run that did not fail, and its agent in a process of its own.

    Raises:
        ContractError: an agent cannot be made.
    """
    for run in entry.submission.runs:
        if run.error is None:
            with _agent(entry, isolation, run) as agent:
                agent.load(entry.file(run.path("weights")))
                yield run, agent


def _agent(entry: Entry, isolation: Isolation, run: SubmittedRun) -> AbstractContextManager[RemoteAgent]:
    """A new agent of a run, without weights."""
    submitter, path = entry.submission.agent, [entry.folder / "agent"]
    spec, settings = entry.scenarios[run.scenario].spec, submitter.settings[run.scenario]
    return isolation.agent(submitter.target, spec, settings, run.seed, path)


def _same_returns(submitted: Evaluation, curves: Mapping[str, Curve]) -> bool:
    return all(np.array_equal(c.returns, submitted.curves[split].returns) for split, c in curves.items())


def _is_our_platform(submission: Submission) -> bool:
    ours = package_versions()
    same = (
        submission.versions.get(name) == ours.get(name) for name in ("python", "torch", "numpy", "mujoco")
    )
    return submission.machine == machine() and all(same)


def _evaluated(agent: Any, scenario: Scenario, split: str, seed: int) -> Curve:
    import torch

    from mrl_bench.protocol.adaptation import evaluate

    return evaluate(agent, scenario, split, seed=seed, device=torch.device("cpu"))


def _require_as_much_alone(
    entry: Entry, agent: RemoteAgent, run: SubmittedRun, together: Curve, seed: int
) -> None:
    """Refuses an agent that earns more where it adapts to many tasks at the same time."""
    from mrl_bench.leaderboard.alone import OneTask, chosen, earns_less_alone

    scenario, references = entry.scenarios[run.scenario], entry.references(run.scenario)
    span = references.mean_return("oracle") - references.mean_return("random")
    alone = {
        task: _evaluated(OneTask(agent, task), scenario, "test", run.seed).returns[task]
        for task in chosen(len(together.returns), seed)
    }
    if less := earns_less_alone(together, alone, span):
        raise Refused(
            f"{run.name} scores {less:.2f} less on a task alone than among others: tasks are not independent"
        )


def _require_near(entry: Entry, played: dict[str, Evaluation]) -> None:
    """Refuses scores that the returns of another evaluation do not confirm."""
    agent = entry.submission.agent.name
    for name in entry.scenarios:
        found = claims_of(entry.score(name, played.values()), agent)
        for split, claims in entry.submission.claims[name].items():
            for (value, low, high), (again, _, _) in zip(claims["score"], found[split]["score"], strict=True):
                assert value is not None
                assert again is not None
                low, high = (value if x is None else x for x in (low, high))
                if not min(low, value - _CLOSE) <= again <= max(high, value + _CLOSE):
                    raise Refused(
                        f"evaluated again, the score on {name} {split} is {again:.3f}, not {value:.3f}"
                    )


def _same(one: Any, other: Any) -> bool:
    """Whether two trees of numbers are equal, up to the rounding of another machine."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, Sequence) and isinstance(other, Sequence) and not isinstance(one, str):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, float) and isinstance(other, float):
        return isclose(one, other, rel_tol=1e-9, abs_tol=1e-9)
    return bool(one == other)

"""Makes a submission from the results folder of a bench."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from mrl_bench import registry
from mrl_bench.errors import UsageError
from mrl_bench.leaderboard.arrays import pack
from mrl_bench.leaderboard.submission import (
    SPLITS,
    File,
    Submission,
    SubmittedRun,
    SubmittedScenario,
    Submitter,
    claims_of,
    returns_path,
)
from mrl_bench.report.scoring import score_scenario
from mrl_bench.results import Evaluation
from mrl_bench.runs.code import sources_of
from mrl_bench.runs.files import write_atomically
from mrl_bench.runs.manifest import read_manifest
from mrl_bench.runs.seal import fingerprint
from mrl_bench.runs.store import Store
from mrl_bench.runs.terms import Terms
from mrl_bench.scenario.references import References


def build(folder: Path, agent: str, out: Path, author: str = "", division: str = "standard") -> Path:
    """Writes the submission of one agent of a bench into a new folder in `out`, and returns that folder.

    Args:
        folder: the results folder.
        agent: its name in the suite.
        out: where submissions are written.
        author: who submits it.
        division: one of `DIVISIONS`.

    Raises:
        UsageError: the agent has no runs there, some are not finished, or references are missing.
        MrlBenchError: the results folder is damaged.
    """
    manifest = read_manifest(folder)
    planned = sorted(
        (run for run in manifest["runs"] if run["agent"]["name"] == agent),
        key=lambda run: (run["terms"]["scenario"], run["seed"]),
    )
    if not planned:
        raise UsageError(f"{folder} has no runs of {agent!r}")
    store, files = Store(folder), dict[str, bytes]()
    runs, evaluations = list[SubmittedRun](), dict[str, list[Evaluation]]()
    for run in planned:
        one, evaluation = _run(store, run, files)
        runs.append(one)
        evaluations.setdefault(one.scenario, []).append(evaluation)
    target = registry.target("agent", planned[0]["agent"]["agent"])
    files |= {f"agent/{name}": data for name, data in sources_of(target.partition(":")[0]).items()}
    scenarios, claims = dict[str, SubmittedScenario](), dict[str, Any]()
    for run in planned:
        terms = Terms.from_json(run["terms"])
        if terms.scenario in scenarios:
            continue
        if terms.digest not in manifest["references"]:
            raise UsageError(f"no references of {terms.scenario} ship: its scores cannot be compared")
        references = References.from_json(manifest["references"][terms.digest])
        scores = score_scenario(evaluations[terms.scenario], references, return_range=terms.returns)
        scenarios[terms.scenario] = SubmittedScenario(
            digest=terms.digest,
            tasks_digest=references.digest,
            references=sha256(references.to_bytes()).hexdigest(),
            k=terms.k,
            reported=references.to_json()["reported"],
        )
        claims[terms.scenario] = claims_of(scores, agent)
        if finished := [each.curves for each in evaluations[terms.scenario] if each.error is None]:
            files[returns_path(terms.scenario)] = pack(finished)
    submission = Submission(
        agent=Submitter(
            name=agent,
            target=target,
            author=author,
            division=division,
            settings={run["terms"]["scenario"]: run["config"] for run in planned},
        ),
        suite=manifest["suite"],
        scenarios=scenarios,
        runs=runs,
        claims=claims,
        versions=manifest["versions"],
        machine=manifest["machine"],
        commit=manifest["commit"],
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        files={name: File(**fingerprint(data)) for name, data in files.items()},
    )
    made = out / submission.folder_name
    for name, data in files.items():
        write_atomically(made / name, data)
    write_atomically(made / "submission.json", submission.to_bytes())  # last: without it there is none
    return made


def _run(store: Store, run: Mapping[str, Any], files: dict[str, bytes]) -> tuple[SubmittedRun, Evaluation]:
    """One run, whose files are added to `files`, and its evaluation on the splits that are submitted."""
    terms = Terms.from_json(run["terms"])
    evaluation = store.evaluation(run["evaluate"], terms)
    if evaluation is None:
        raise UsageError(f"{terms.label} is not finished: run the same command again")
    seconds = [store.seconds(run[stage]) for stage in ("train", "evaluate")]
    one = SubmittedRun(
        scenario=terms.scenario,
        seed=terms.seed,
        env_steps=evaluation.training.env_steps,
        seconds=None if None in seconds else round(sum(filter(None, seconds)), 3),
        error=evaluation.error and evaluation.error[:200],
    )
    curves = {split: curve for split, curve in evaluation.curves.items() if split in SPLITS}
    if evaluation.error is None:
        episodes = store.episodes(run["evaluate"])
        if episodes is None:
            raise UsageError(f"{terms.label} has no recorded episodes: it was run by an earlier version")
        files[one.path("episodes")] = episodes
        files[one.path("weights")] = store.weights_path(run["train"]).read_bytes()
    return one, replace(evaluation, curves=curves, error=one.error)

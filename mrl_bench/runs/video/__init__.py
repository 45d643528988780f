"""Videos of a trained agent on one test task: a scored episode before adaptation and one after.

`find` finds the trained run, `episodes` plays and records it, `frames` composes the frames, `encoding` writes files.
"""

from __future__ import annotations

from pathlib import Path

from mrl_bench.agent import MetaAgent
from mrl_bench.errors import UsageError
from mrl_bench.results import Video
from mrl_bench.runs.run import Run
from mrl_bench.runs.video.encoding import check_format, webp, write_video
from mrl_bench.runs.video.episodes import Camera, Episode, describe_task, load_agent, record_episodes
from mrl_bench.runs.video.find import find_trained_run
from mrl_bench.runs.video.frames import captioned_frames, plain_frames

__all__ = ["FILE_CAMERA", "REPORT_CAMERA", "find_trained_run", "load_agent", "play", "record"]

FILE_CAMERA, REPORT_CAMERA = Camera(400, 300, 25), Camera(200, 150, 10)
REST = 1.5  # seconds for which a report's video shows its last frame in addition


def play(run: Run, agent: MetaAgent, *, task: int, k: int | None, out: Path) -> list[Episode]:
    """Writes a captioned video of one test task, before adaptation and after k adaptation episodes, to `out`.

    Args:
        run: what the agent was trained for.
        agent: the trained agent.
        task: index of a test task.
        k: a positive multiple of the protocol's episodes per round; None for one round.
        out: an .mp4 or .gif file.

    Raises:
        UsageError: there is no such task, k is no such multiple, the family cannot render, or `out` has another suffix.
        MissingPart: a package for encoding or for rendering is not installed.
    """
    check_format(out)
    tasks, per_round = run.scenario.tasks("test"), run.scenario.protocol.episodes_per_round
    if task >= len(tasks):
        raise UsageError(f"task {task}: the test tasks of {run.scenario.id} are 0 to {len(tasks) - 1}")
    k = per_round if k is None else k
    if k % per_round or k < 1:
        raise UsageError(f"k = {k}: adaptation rounds of {run.scenario.id} have {per_round} episodes, so k is "
                         f"a multiple of {per_round}")  # fmt: skip
    episodes = record_episodes(run, agent, task, k, FILE_CAMERA)
    who = f"{run.agent.name}, seed {run.seed}"
    title = f"{who}: {run.scenario.id}, test task {task}. {describe_task(tasks, task)}"
    write_video(out, captioned_frames(episodes, title), FILE_CAMERA.seconds(run.scenario.family.spec))
    return episodes


def record(run: Run, agent: MetaAgent) -> Video:
    """Records the first test task for a report, before adaptation and at the last k of the protocol.

    Raises: see `episodes.record_episodes`.
    """
    scenario = run.scenario
    k, spec = scenario.protocol.k[-1], scenario.family.spec
    before, after = episodes = record_episodes(run, agent, 0, k, REPORT_CAMERA)
    frames = list(plain_frames(episodes))
    shown = [round(1000 * REPORT_CAMERA.seconds(spec))] * len(frames)  # [ms]
    shown[-1] += round(1000 * REST)
    return Video(
        agent=run.agent.name,
        seed=run.seed,
        task=describe_task(scenario.tasks("test"), 0),
        episodes=k,
        returns=(before.total, after.total),
        seconds=(before.steps * spec.dt, after.steps * spec.dt),
        width=frames[0].width,
        height=frames[0].height,
        moving=webp(frames, shown),
        still=webp(frames[-1:], shown[-1:]),
    )

"""Plays one test task before and after adaptation, and records what the scored episodes look like.

The agent adapts as in an evaluation (`protocol.adaptation`). One task is played alone, so its episodes start as those
of task 0 do there.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from PIL import Image

from mrl_bench.agent import MetaAgent
from mrl_bench.errors import UsageError
from mrl_bench.family import Renderable
from mrl_bench.protocol.adaptation import Adaptation
from mrl_bench.runs.run import Run, make_agent
from mrl_bench.runs.video.find import Weights
from mrl_bench.scenario import Scenario
from mrl_bench.types import EnvSpec, Step, TaskBatch

if TYPE_CHECKING:
    from torch import Tensor


class Camera(NamedTuple):
    """Size and rate of the frames."""

    width: int  # [px]
    height: int
    fps: int  # frames a second at most; with shorter control steps, some of them have no frame

    def stride(self, spec: EnvSpec) -> int:
        """Control steps from one frame to the next."""
        return max(1, round(1 / (self.fps * spec.dt)))

    def seconds(self, spec: EnvSpec) -> float:
        """For which a frame is shown, so that the video runs at the speed of the simulation."""
        return spec.dt * self.stride(spec)


@dataclass
class Episode:
    """A recorded episode."""

    k: int  # adaptation episodes before it
    camera: Camera
    total: float = 0.0  # its undiscounted return so far
    steps: int = 0
    ended: bool = False  # before the horizon
    # (compressed RGB frame, steps, return so far)
    frames: list[tuple[bytes, int, float]] = field(default_factory=list)

    def record(self, env: Renderable) -> None:
        frame = env.render(0, 0, self.camera.width, self.camera.height)
        self.frames.append((zlib.compress(frame.tobytes(), 1), self.steps, self.total))

    def image(self, index: int) -> Image.Image:
        """A frame; after the end of the episode, its last one."""
        packed, _, _ = self.frames[min(index, len(self.frames) - 1)]
        return Image.frombytes("RGB", self.camera[:2], zlib.decompress(packed))

    def caption(self, index: int) -> str:
        _, steps, total = self.frames[min(index, len(self.frames) - 1)]
        when = "before adaptation" if self.k == 0 else "after adaptation"
        over = ", ended" if self.ended and index >= len(self.frames) - 1 else ""
        return f"k = {self.k}, {when}: return {total:.1f}, step {steps}{over}"


def record_episodes(run: Run, agent: MetaAgent, task: int, k: int, camera: Camera) -> list[Episode]:
    """Records a scored episode before adaptation and one after k adaptation episodes, on one test task.

    Raises:
        UsageError: the family cannot render.
        MissingPart: a package that the family renders with is not installed.
    """
    device, protocol = torch.device("cpu"), run.scenario.protocol
    tasks = run.scenario.tasks("test")
    tasks = TaskBatch(tasks.names, tasks.values[task : task + 1])
    recorder = _recorder(run.played, tasks, device)
    adaptation = Adaptation(agent, run.played, "test", run.seed, device)
    adapt_env = adaptation.make_adapt_env(tasks)
    episodes = []
    for checkpoint in adaptation.checkpoints(adapt_env, 1, (0, k // protocol.episodes_per_round)):
        recorder.episode = Episode(checkpoint.round * protocol.episodes_per_round, camera)
        adaptation.score(recorder, checkpoint)
        episodes.append(recorder.episode)
    recorder.close()
    adapt_env.close()
    return episodes


def load_agent(run: Run, weights: Weights) -> MetaAgent:
    """The trained agent of a run, on the CPU.

    Raises:
        UsageError: the weights do not fit.
    """
    agent = make_agent(run, "cpu")
    try:
        agent.load_state_dict(dict(weights))
    except (RuntimeError, KeyError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UsageError(f"the weights of {run.agent.name} do not fit its current code: {reason}") from error
    return agent


def describe_task(tasks: TaskBatch, task: int) -> str:
    """The parameters in which the tasks of a batch differ, with the values of one of them."""
    differ = np.ptp(tasks.values, axis=0) > 0
    named = zip(tasks.names, tasks.values[task].tolist(), differ.tolist(), strict=True)
    return ", ".join(f"{name} {value:.3g}" for name, value, varies in named if varies)


def _recorder(scenario: Scenario, tasks: TaskBatch, device: torch.device) -> _Recorder:
    """One environment instance of a task, whose episodes can be recorded."""
    env = scenario.family.make(tasks, 1, device)
    if not isinstance(env, Renderable):
        name = scenario.family_name
        raise UsageError(f"family {name} cannot render: see Renderable in mrl_bench/family.py")
    return _Recorder(env, scenario.spec)


class _Recorder:
    """An environment with one instance. While its episode continues, every few steps a frame is recorded."""

    def __init__(self, env: Renderable, spec: EnvSpec) -> None:
        self._env, self._spec = env, spec
        self.episode: Episode | None = None  # the one to record

    def reset(self, seed: int) -> Tensor:
        obs = self._env.reset(seed)
        if self.episode:
            self.episode.record(self._env)
        return obs

    def step(self, action: Tensor) -> Step:
        step = self._env.step(action)
        episode = self.episode
        if episode and not episode.ended:
            reward = step.reward.item()
            broken = bool(step.failed) or not np.isfinite(reward) or not bool(step.obs.isfinite().all())
            episode.ended = broken or bool(step.terminated)
            if not broken:  # as in `collect`: a step in which the simulation failed earns nothing
                episode.steps, episode.total = episode.steps + 1, episode.total + reward
                if episode.ended or episode.steps % episode.camera.stride(self._spec) == 0:
                    episode.record(self._env)
        return step

    def close(self) -> None:
        self._env.close()

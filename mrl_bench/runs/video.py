"""Films an agent on one held-out task: a scored episode before it has adapted, and one after.

`play` makes a file with words in it, `film` the pictures alone for a report. The numbers of a board come from
`evaluate`; this only shows what they look like. One task is played by itself, so its episodes start as those of task 0
do there.
"""

from __future__ import annotations

import textwrap
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch.utils._pytree import tree_map

from mrl_bench import registry
from mrl_bench.agent import MetaAgent
from mrl_bench.errors import MissingPart, UsageError, nearest
from mrl_bench.family import Param, Renderable, TaskFamily
from mrl_bench.keyed_random import seed_of
from mrl_bench.protocol.privileged import agent_spec, make_env
from mrl_bench.protocol.rollout import collect
from mrl_bench.results import Video
from mrl_bench.runs.files import write_atomically
from mrl_bench.runs.manifest import read_manifest
from mrl_bench.runs.run import Run
from mrl_bench.runs.store import Store
from mrl_bench.scenario import find_scenario
from mrl_bench.scenario.suite import REFERENCE_AGENTS, AgentSpec
from mrl_bench.types import EnvSpec, State, Step, TaskBatch

if TYPE_CHECKING:
    from torch import Tensor

FOLDERS = (
    Path("runs/quick"),
    Path("runs/single"),
)  # where weights are looked for if no results folder is given
HEADER, CAPTION, GAP = 44, 24, 4  # [px] heights of the text over both pictures and over each; between them
REST = 1.5  # seconds that a report's film stays at its end

Weights = Mapping[str, "Tensor"]


class Camera(NamedTuple):
    """How an episode is filmed."""

    width: int  # [px] of its picture
    height: int
    fps: int  # pictures a second at most; those of shorter control steps are left out

    def stride(self, spec: EnvSpec) -> int:
        """Control steps between two pictures."""
        return max(1, round(1 / (self.fps * spec.dt)))


LARGE, SMALL = Camera(400, 300, 25), Camera(200, 150, 10)


def find_player(scenario: str, agent: str, seed: int, results: Path | None) -> tuple[Run, Weights]:
    """The run of an agent on a scenario, and what it meta-learned.

    Args:
        scenario: id or YAML file.
        agent: its name on the board, or as `evaluate` was told.
        seed: the training seed.
        results: folder of a bench, or of `train` and `evaluate`; by default the first of `FOLDERS` with weights.

    Raises:
        UsageError: there is no such scenario or agent, or no such weights.
    """
    found = find_scenario(scenario)
    name = agent.rpartition(":")[2].lower()  # as `train` and `evaluate` name it
    if name in REFERENCE_AGENTS and name != agent:
        name += "-agent"
    run = Run(found, AgentSpec(name, agent, {}), seed, "cpu")
    if agent == "random":
        return run, {}
    folders = FOLDERS if results is None else (results,)
    known, boards = agent in registry.names("agent") or ":" in agent, set(registry.names("agent"))
    for store in map(Store, folders):
        for entry in _planned(store.folder):
            boards.add(entry["agent"]["name"])
            fits = (Path(entry["scenario"]).stem, entry["seed"]) == (found.id, seed)
            fits = fits and agent in (entry["agent"]["name"], entry["agent"]["agent"])
            if fits and store.trained(entry["train"]) is not None:
                planned = Run.from_json({**entry, "scenario": str(found.path)})
                return replace(planned, device="cpu"), store.weights(entry["train"], "cpu")
        if known and store.folder.is_dir():  # `train` and `evaluate` write no plan
            key = run.key("train")
            if store.trained(key) is not None:
                return run, store.weights(key, "cpu")
    if not known and agent not in boards:
        raise UsageError(f"no agent {agent!r}: {nearest(agent, boards)} (or give 'module:Class')")
    raise UsageError(
        f"no weights of {agent!r} with seed {seed} on {found.id} in {' or '.join(map(str, folders))}: "
        "train it, or give another --run"
    )


def _planned(folder: Path) -> list[dict[str, Any]]:
    """The runs of a bench, as its manifest lists them; none where there is no manifest."""
    if not (folder / "manifest.json").is_file():
        return []
    runs: list[dict[str, Any]] = read_manifest(folder)["runs"]
    return runs


@dataclass
class Episode:
    """What was filmed of one episode."""

    rounds: int  # of adaptation before it
    camera: Camera
    total: float = 0.0  # its return so far
    steps: int = 0
    ended: bool = False  # before the horizon
    # Packed picture, steps, return so far.
    frames: list[tuple[bytes, int, float]] = field(default_factory=list)

    def shoot(self, env: Renderable) -> None:
        picture = env.render(0, 0, self.camera.width, self.camera.height)
        self.frames.append((zlib.compress(picture.tobytes(), 1), self.steps, self.total))

    def render(self, index: int) -> Image.Image:
        """The last one if the episode was over by then."""
        packed, _, _ = self.frames[min(index, len(self.frames) - 1)]
        return Image.frombytes("RGB", self.camera[:2], zlib.decompress(packed))

    def caption(self, index: int) -> str:
        _, steps, total = self.frames[min(index, len(self.frames) - 1)]
        when = "before adaptation" if self.rounds == 0 else f"after {_count(self.rounds, 'round')}"
        over = ", ended" if self.ended and index >= len(self.frames) - 1 else ""
        return f"k = {self.rounds}, {when}: return {total:.1f}, step {steps}{over}"


class _Filmed:
    """An environment of one slot, of which every so many steps a picture is taken while its episode lives."""

    def __init__(self, env: Renderable, spec: EnvSpec) -> None:
        self._env, self._spec = env, spec
        self.episode: Episode | None = None  # set while there is to be filmed

    def reset(self, seed: int) -> Tensor:
        obs = self._env.reset(seed)
        if self.episode:
            self.episode.shoot(self._env)
        return obs

    def step(self, action: Tensor) -> Step:
        step = self._env.step(action)
        episode = self.episode
        if episode and not episode.ended:
            reward = step.reward.item()
            broken = bool(step.failed) or not np.isfinite(reward) or not bool(step.obs.isfinite().all())
            episode.ended = broken or bool(step.terminated)
            if not broken:  # as `collect` counts: a step that broke down gives nothing
                episode.steps, episode.total = episode.steps + 1, episode.total + reward
                if episode.ended or episode.steps % episode.camera.stride(self._spec) == 0:
                    episode.shoot(self._env)
        return step

    def close(self) -> None:
        self._env.close()


@dataclass(frozen=True)
class _FilmedFamily:
    """A family whose environments are filmed, so that `make_env` reveals to the oracle what it always does."""

    family: TaskFamily
    made: list[_Filmed] = field(default_factory=list)

    @property
    def params(self) -> Mapping[str, Param]:
        return self.family.params

    @property
    def spec(self) -> EnvSpec:
        return self.family.spec

    @property
    def simulator(self) -> str:
        return self.family.simulator

    def make(
        self, tasks: TaskBatch, episodes: int, device: torch.device, dtype: torch.dtype | None = None
    ) -> _Filmed:
        env = self.family.make(tasks, episodes, device, dtype)
        if not isinstance(env, Renderable):
            name = type(self.family).__name__
            raise UsageError(f"family {name} draws no pictures: see Renderable in mrl_bench/family.py")
        self.made.append(_Filmed(env, self.spec))
        return self.made[-1]


def play(run: Run, weights: Weights, *, task: int, rounds: int, out: Path) -> list[Episode]:
    """Films one scored episode before adaptation and one after `rounds` rounds, side by side, into `out`.

    Raises:
        UsageError: there is no such task, the family draws no pictures, or `out` is no .mp4 and no .gif.
        MissingPart: what encodes the film, or what draws the pictures, is not installed.
    """
    _check_out(out)
    tasks = run.scenario.tasks("test")
    if task >= len(tasks):
        raise UsageError(f"task {task}: the test tasks of {run.scenario.id} are 0 to {len(tasks) - 1}")
    episodes = _episodes(run, weights, task, rounds, LARGE)
    who = f"{run.agent.name}, seed {run.seed}"
    title = f"{who}: {run.scenario.id}, test task {task}. {_varying(tasks, task)}"
    _write(out, _pages(episodes, title), _seconds(run, LARGE))
    return episodes


def film(run: Run, weights: Weights) -> Video:
    """Films the first test task before adaptation and after all rounds of the protocol.

    Raises: as `play` does.
    """
    protocol, tasks = run.scenario.protocol, run.scenario.tasks("test")
    before, after = episodes = _episodes(run, weights, 0, protocol.rounds[-1], SMALL)
    dt = run.scenario.family.spec.dt
    pages = list(_strip(episodes))
    shown = [round(1000 * _seconds(run, SMALL))] * len(pages)  # [ms]
    shown[-1] += round(1000 * REST)
    return Video(
        agent=run.agent.name,
        seed=run.seed,
        task=_varying(tasks, 0),
        episodes=protocol.rounds[-1] * protocol.episodes_per_round,
        returns=(before.total, after.total),
        seconds=(before.steps * dt, after.steps * dt),
        width=pages[0].width,
        height=pages[0].height,
        moving=_webp(pages, shown),
        still=_webp(pages[-1:], shown[-1:]),
    )


def _webp(pages: list[Image.Image], shown: list[int]) -> bytes:
    """Pictures that follow each other, each shown for so many milliseconds; flat ones are kept without loss."""
    memory = BytesIO()
    more: dict[str, Any] = {"save_all": True, "append_images": pages[1:], "duration": shown, "loop": 0}
    pages[0].save(memory, "WEBP", allow_mixed=True, quality=40, **more)
    return memory.getvalue()


def _seconds(run: Run, camera: Camera) -> float:
    """For which a picture is shown."""
    spec = run.scenario.family.spec
    return spec.dt * camera.stride(spec)


def _agent(run: Run, weights: Weights) -> MetaAgent:
    spec = agent_spec(run.scenario, run.privileged)
    agent: MetaAgent = registry.find("agent", run.agent.agent)(
        spec, run.config, run.seed, torch.device("cpu")
    )
    try:
        agent.load_state_dict(dict(weights))
    except (RuntimeError, KeyError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UsageError(f"the weights of {run.agent.name} do not fit its present code: {reason}") from error
    return agent


def _episodes(run: Run, weights: Weights, task: int, rounds: int, camera: Camera) -> list[Episode]:
    """Adapts as `evaluate` does, to one test task, and films the scored episodes."""
    torch.manual_seed(run.seed)  # for agents of others: ours draw from generators of their own
    agent, tasks = _agent(run, weights), run.scenario.tasks("test")
    tasks = TaskBatch(tasks.names, tasks.values[task : task + 1])
    scenario, protocol, device = run.scenario, run.scenario.protocol, torch.device("cpu")
    spec, studio = agent_spec(scenario, run.privileged), _FilmedFamily(scenario.family)
    scored_env = make_env(replace(scenario, family=studio), tasks, 1, device, run.privileged)
    adapt_env = make_env(scenario, tasks, protocol.episodes_per_round, device, run.privileged)
    (filmed,) = studio.made

    def seeds(purpose: str, k: int) -> dict[str, int]:
        start = seed_of(purpose, scenario.id, "test", 0 if purpose == "scored" else k)
        return {"seed": start, "noise_seed": seed_of(purpose, "noise", scenario.id, "test", k, run.seed)}

    def film(k: int, state: State) -> Episode:
        filmed.episode = Episode(k, camera)
        collect(scored_env, spec, agent.act, tree_map(_copy, state), explore=False, **seeds("scored", k))
        return filmed.episode

    state = agent.initial_state(1)
    episodes = [film(0, state)]
    for k in range(rounds):
        rollout, state = collect(adapt_env, spec, agent.act, state, explore=True, **seeds("adapt", k))
        update = torch.Generator(device).manual_seed(seed_of("update", scenario.id, "test", k, run.seed))
        state = agent.adapt(state, rollout, update)
    episodes.append(film(rounds, state))
    scored_env.close()
    adapt_env.close()
    return episodes


def _copy(leaf: Any) -> Any:
    return leaf.detach().clone() if isinstance(leaf, torch.Tensor) else leaf


def _varying(tasks: TaskBatch, task: int) -> str:
    """The parameters in which the test tasks differ, and this task's values."""
    differ = np.ptp(tasks.values, axis=0) > 0
    named = zip(tasks.names, tasks.values[task].tolist(), differ.tolist(), strict=True)
    return ", ".join(f"{name} {value:.3g}" for name, value, varies in named if varies)


def _pages(episodes: list[Episode], title: str) -> Iterator[Image.Image]:
    """The film: the title, and under it the episodes side by side with a caption each."""
    font = ImageFont.load_default(13)
    for index, pictures in enumerate(_strip(episodes)):
        page = Image.new("RGB", (pictures.width, HEADER + CAPTION + pictures.height), "white")
        page.paste(pictures, (0, HEADER + CAPTION))
        pen = ImageDraw.Draw(page)
        lines = textwrap.wrap(title, page.width // 7, max_lines=2, placeholder=" ...")
        pen.multiline_text((8, 5), "\n".join(lines), fill="black", font=font)
        for column, episode in enumerate(episodes):
            left = column * (episode.camera.width + GAP)
            pen.text((left + 8, HEADER + 3), episode.caption(index), fill="black", font=font)
        yield page


def _strip(episodes: list[Episode]) -> Iterator[Image.Image]:
    """The pictures of episodes side by side, as long as one of them lives."""
    camera = episodes[0].camera
    for index in range(max(len(episode.frames) for episode in episodes)):
        strip = Image.new("RGB", ((camera.width + GAP) * len(episodes) - GAP, camera.height), "white")
        for column, episode in enumerate(episodes):
            strip.paste(episode.render(index), (column * (camera.width + GAP), 0))
        yield strip


def _check_out(out: Path) -> None:
    """Refuses what could not be written once all is played."""
    if out.suffix not in (".mp4", ".gif"):
        raise UsageError(f"--out {out}: a film is an .mp4 or a .gif")
    if out.suffix == ".mp4" and not (find_spec("imageio") and find_spec("imageio_ffmpeg")):
        raise MissingPart("an .mp4 needs imageio and ffmpeg: pip install 'mrl-bench[video]', or give a .gif")


def _write(out: Path, pages: Iterator[Image.Image], seconds: float) -> None:
    """Encodes the film, each page shown for so many seconds."""
    if out.suffix == ".gif":
        memory = BytesIO()
        first = next(pages)
        duration = max(20, round(100 * seconds) * 10)  # [ms] a GIF knows hundredths of a second
        first.save(memory, "GIF", save_all=True, append_images=pages, duration=duration, loop=0)
        write_atomically(out, memory.getvalue())
        return
    import imageio.v2 as imageio

    with TemporaryDirectory() as folder:
        path = Path(folder) / "film.mp4"
        writer: Any = imageio.get_writer(path, format="FFMPEG", fps=1 / seconds, macro_block_size=2)
        with writer:
            for page in pages:
                writer.append_data(np.asarray(page))
        write_atomically(out, path.read_bytes())


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"

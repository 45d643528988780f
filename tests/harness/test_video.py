"""Videos of episodes: what they show, whose weights play, and one line where something is missing."""

from __future__ import annotations

import os
import re
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from bench_kit import make_scenario, make_suite, planned_run, toy
from mrl_tasks.cartpole.family import CartPole
from mrl_tasks.locomotion import rendering
from mrl_tasks.locomotion.family import Locomotion
from PIL import Image

from mrl_bench.cli.main import main
from mrl_bench.errors import MissingPart
from mrl_bench.family import Renderable
from mrl_bench.protocol.adaptation import evaluate
from mrl_bench.runs.manifest import write_manifest
from mrl_bench.runs.run import train
from mrl_bench.runs.store import Store
from mrl_bench.runs.video import FILE_CAMERA, REPORT_CAMERA, encoding, find_trained_run, play, record
from mrl_bench.runs.video.episodes import Episode, load_agent
from mrl_bench.runs.video.frames import GAP
from mrl_bench.scenario import find_scenario
from mrl_bench.scenario.suite import find_suite
from mrl_bench.types import TaskBatch


def run_play(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    """The exit code of `play`, and what it printed: one line."""
    code = main(["play", *map(str, arguments)])
    out, err = capsys.readouterr()
    assert (out + err).count("\n") == 1, out + err
    assert err == "" or err.startswith("mrl-bench: ")
    return code, out + err


def test_a_video_shows_both_episodes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scenario, out = make_scenario(tmp_path), tmp_path / "videos" / "episode.gif"
    code, said = run_play(capsys, scenario.path, "--task", 2, "--k", 4, "--out", out)
    assert (code, "at k = 0" in said, "at k = 4" in said) == (0, True, True), said
    with Image.open(out) as image:
        assert image.n_frames > 3  # of 12 steps every other
        assert (image.width, image.info["duration"]) == (2 * FILE_CAMERA.width + GAP, 40)
        first = np.asarray(image.convert("RGB"))
    left, right = first[70:, : FILE_CAMERA.width], first[70:, -FILE_CAMERA.width :]
    assert (left == right).all()  # both start alike
    assert len(np.unique(left.reshape(-1, 3), axis=0)) > 4  # there is something to be seen


def test_one_round_is_played_by_default_and_k_counts_episodes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, said = run_play(capsys, make_scenario(tmp_path).path, "--out", tmp_path / "a.gif")
    assert (code, "at k = 2;" in said) == (0, True), said
    episode = Episode(k=4, camera=FILE_CAMERA, frames=[(b"", 7, 1.25)])
    assert episode.caption(0) == "k = 4, after adaptation: return 1.2, step 7"


def test_an_mp4_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("imageio_ffmpeg", reason="needs mrl-bench[video]")
    out = tmp_path / "episode.mp4"
    assert run_play(capsys, make_scenario(tmp_path).path, "--out", out)[0] == 0
    assert b"ftyp" in out.read_bytes()[:16]


def test_the_first_task_scores_what_an_evaluation_says(tmp_path: Path) -> None:
    """Of an agent without noise, since noise is drawn for all tasks at once."""
    protocol = {"k": [0, 2], "episodes_per_round": 1, "scored_episodes": 1}
    splits = {"test": {"count": 1, "seed": 1}}
    suite = make_suite(tmp_path, {"learner": toy("Learner")}, splits=splits, protocol=protocol)
    run = planned_run(suite, "learner")
    store = Store(tmp_path / "run")
    train(run, store, lambda *_: None)
    weights = store.weights(run.key("train"), "cpu")
    agent = load_agent(run, weights)
    curve = evaluate(agent, run.scenario, "test", seed=0, device=torch.device("cpu"))
    episodes = play(run, agent, task=0, k=2, out=tmp_path / "a.gif")
    assert [episode.k for episode in episodes] == [0, 2]
    assert [episode.total for episode in episodes] == pytest.approx(curve.returns[0, :, 0].tolist())


def test_a_report_is_given_frames_without_text(tmp_path: Path) -> None:
    run = planned_run(make_suite(tmp_path, {"learner": toy("Learner")}), "learner")
    store = Store(tmp_path / "run")
    train(run, store, lambda *_: None)
    agent = load_agent(run, store.weights(run.key("train"), "cpu"))
    made = record(run, agent)
    episodes = play(run, agent, task=0, k=6, out=tmp_path / "a.gif")
    assert made.returns == (episodes[0].total, episodes[1].total)
    assert made.seconds == pytest.approx([0.02 * episode.steps for episode in episodes])
    assert (made.agent, made.seed, made.episodes) == ("learner", 0, 3 * 2)
    assert re.fullmatch(r"force_magnitude \d\d(\.\d)?, wiring -?1", made.task)
    with Image.open(BytesIO(made.moving)) as image:
        assert (image.format, image.size) == ("WEBP", (made.width, made.height))
        assert made.width == 2 * REPORT_CAMERA.width + GAP
        assert image.n_frames >= 3  # of 12 steps every fifth, and where an episode ended
        image.seek(image.n_frames - 1)
        last = np.asarray(image.convert("RGB"))
    with Image.open(BytesIO(made.still)) as image:
        assert np.abs(np.asarray(image.convert("RGB")).astype(int) - last).mean() < 3  # compressed otherwise
    store.put_video("key", made)
    assert store.video("key") == made == record(run, agent)


@pytest.mark.parametrize("agent", ["oracle", "learner", "toy_agents:Learner"])
def test_weights_come_from_the_run(tmp_path: Path, capsys: pytest.CaptureFixture[str], agent: str) -> None:
    path = make_suite(tmp_path, {"learner": toy("Learner")}, references=False)
    store = Store(tmp_path / "run")
    runs = [planned_run(path, "oracle"), planned_run(path, "learner")]
    write_manifest(store, find_suite(path), runs)
    run = runs[agent != "oracle"]
    scenario, out = tmp_path / "tiny-v1.yaml", tmp_path / "a.gif"
    arguments = (scenario, "--agent", agent, "--results", store.folder, "--out", out)
    code, said = run_play(capsys, *arguments)
    assert (code, f"no weights of '{agent}' with seed 0 on tiny-v1" in said) == (2, True), said
    train(run, store, lambda *_: None)
    found, weights = find_trained_run(str(tmp_path / "tiny-v1.yaml"), agent, 0, store.folder)
    assert found == run
    assert weights.keys() == store.weights(run.key("train"), "cpu").keys()
    assert run_play(capsys, *arguments)[0] == 0


def test_weights_of_single_runs_are_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, run = make_scenario(tmp_path).path, tmp_path / "single"
    assert main(["train", str(path), "toy_agents:Learner", "--out", str(run)]) == 0
    capsys.readouterr()
    out = tmp_path / "a.gif"
    assert run_play(capsys, path, "--agent", "toy_agents:Learner", "--results", run, "--out", out)[0] == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--task", "3"], "the test tasks of tiny-v1 are 0 to 2"),
        (["--out", "video.avi"], "a video is an .mp4 or a .gif"),
        (["--k", "3"], "k = 3: adaptation rounds of tiny-v1 have 2 episodes, so k is a multiple of 2"),
        (["--agent", "mamel"], "did you mean 'maml'?"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    code, said = run_play(
        capsys, make_scenario(tmp_path).path, "--results", tmp_path, "--out", tmp_path / "a.gif", *arguments
    )
    assert code == 2
    assert words in said


def test_a_family_that_cannot_render_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CartPole, "make", lambda *_: SimpleNamespace())
    code, said = run_play(capsys, make_scenario(tmp_path).path, "--out", tmp_path / "a.gif")
    assert (code, "family cartpole cannot render" in said) == (2, True), said


def test_without_ffmpeg_a_gif_is_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoding, "find_spec", lambda name: None)
    code, said = run_play(capsys, make_scenario(tmp_path).path, "--out", tmp_path / "a.mp4")
    assert (code, "pip install 'mrl-bench[video]'" in said) == (3, True), said


def test_no_graphics_is_a_missing_part(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[str] = []
    monkeypatch.setattr(rendering, "_draws", tried.append)
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    with pytest.raises(MissingPart, match=r"neither EGL nor OSMesa can render .*libegl1.* libosmesa6"):
        rendering.start_graphics.__wrapped__()
    monkeypatch.setenv("MUJOCO_GL", "glfw")
    with pytest.raises(MissingPart, match="MUJOCO_GL=glfw"):
        rendering.start_graphics.__wrapped__()
    assert tried == ["egl", "osmesa", "glfw"]


@pytest.fixture(scope="module")
def graphics() -> None:
    before = os.environ.get("MUJOCO_GL")
    try:
        rendering.start_graphics()
    except MissingPart as error:
        pytest.skip(str(error))
    finally:
        if before is None:
            os.environ.pop("MUJOCO_GL", None)


@pytest.mark.usefixtures("graphics")
@pytest.mark.parametrize("robot", ["half_cheetah", "ant", "walker2d", "hopper", "humanoid", "swimmer"])
def test_robots_are_drawn(robot: Any) -> None:
    family = Locomotion(robot=robot)
    names = tuple(family.params)
    values = np.array([[param.default for param in family.params.values()]] * 2)
    limb = next(i for i, name in enumerate(names) if name.startswith("limb_length["))
    values[1, limb] = family.params[names[limb]].high
    env = family.make(TaskBatch(names, values), 1, torch.device("cpu"))
    assert isinstance(env, Renderable)
    env.reset(0)
    before = env.simulation.state.clone()
    as_built, changed = (env.render(task, 0, 160, 120) for task in (0, 1))
    assert as_built.shape == (120, 160, 3)
    assert as_built.dtype == np.uint8
    assert as_built.std() > 10
    assert (as_built != changed).any()
    assert (env.render(0, 0, 160, 120) == as_built).all()
    assert (env.simulation.state == before).all()
    env.close()


@pytest.mark.usefixtures("graphics")
def test_locomotion_is_recorded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scenario = find_scenario("cheetah-dir-v1")
    text = scenario.path.read_text().replace("cheetah-dir-v1", "short-v1")
    path = tmp_path / "short-v1.yaml"
    path.write_text(text.replace(f"horizon: {scenario.horizon}", "horizon: 5"))
    assert run_play(capsys, path, "--out", tmp_path / "a.gif")[0] == 0
    with Image.open(tmp_path / "a.gif") as image:
        assert image.n_frames == 6

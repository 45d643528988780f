"""The wheel, without the checkout: it holds all that the commands read, and works in an empty folder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, unpacked."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [
        "-m",
        "pip",
        "wheel",
        "-q",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
        "-w",
        str(folder),
        str(ROOT),
    ]
    ran = subprocess.run([sys.executable, *build], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    (wheel,) = folder.glob("*.whl")
    with ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def run(site: Path, cwd: Path, *arguments: str) -> str:
    ran = subprocess.run(
        [sys.executable, "-P", *arguments],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_it_is_the_wheel_that_runs(site: Path, tmp_path: Path) -> None:
    code = "import mrl_agents, mrl_bench, mrl_tasks; print(mrl_bench.__file__, mrl_agents.__file__, mrl_tasks.__file__)"
    assert all(path.startswith(str(site)) for path in run(site, tmp_path, "-c", code).split())


def test_it_lists_what_the_checkout_lists(site: Path, tmp_path: Path) -> None:
    there = subprocess.run(
        [sys.executable, "-m", "mrl_bench", "list"], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert run(site, tmp_path, "-m", "mrl_bench", "list") == there.stdout


def test_it_plays_every_family_and_reports(site: Path, tmp_path: Path) -> None:
    code = """
import mrl_bench
for name in ("cartpole-wiring-v1", "cheetah-dir-v1", "drive-steering-v3"):
    print(*mrl_bench.make(name, tasks=[0]).reset(seed=0).shape)
"""
    assert run(site, tmp_path, "-c", code).splitlines() == ["1 1 4", "1 1 17", "1 1 17"]
    run(site, tmp_path, "-m", "mrl_bench", "evaluate", "cartpole-wiring-v1", "random")
    assert "return" in run(site, tmp_path, "-m", "mrl_bench", "report", "runs/single")


def test_it_writes_templates(site: Path, tmp_path: Path) -> None:
    for kind in ("agent", "scenario", "family"):
        run(site, tmp_path, "-m", "mrl_bench", f"new-{kind}", f"my_{kind}")
    assert (tmp_path / "my_agent" / "agent.py").is_file()


def test_it_holds_no_tests_and_no_results(site: Path) -> None:
    assert {path.name for path in site.iterdir() if not path.name.endswith(".dist-info")} == {
        "mrl_agents",
        "mrl_bench",
        "mrl_tasks",
    }

"""`mrl-bench new-agent`, `new-scenario`, `new-family`: what they write works as it is."""

from __future__ import annotations

from contextlib import chdir
from pathlib import Path

import pytest
from forked_code import execute

from mrl_bench.cli.main import main
from mrl_bench.cli.scaffold import names


def run_module(folder: Path, module: str, *arguments: str) -> str:
    """`python -m MODULE` in a folder, with this checkout on its path."""
    code = f"""
import runpy, sys
sys.path.insert(0, "")
sys.argv[1:] = {arguments!r}
runpy.run_module({module!r}, run_name="__main__", alter_sys=True)
"""
    with chdir(folder):
        ran = execute(code)
    assert ran.returncode == 0, ran.stdout[-3000:] + ran.stderr[-3000:]
    return ran.stdout


@pytest.mark.parametrize(
    ("kind", "name", "files"),
    [
        ("agent", "my-agent", {"__init__.py", "agent.py", "my-agent.yaml", "test_agent.py"}),
        ("scenario", "my_wiring", {"my-wiring-v1.yaml", "test_my_wiring_v1.py"}),
        ("family", "sled", {"__init__.py", "environment.py", "family.py", "sled-v1.yaml", "test_family.py"}),
    ],
)
def test_what_is_written_passes_its_own_test_and_the_next_commands(
    kind: str, name: str, files: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([f"new-{kind}", name]) == 0
    out = capsys.readouterr().out
    (folder,) = tmp_path.iterdir()
    assert {path.name for path in folder.iterdir()} == files
    assert all(f"wrote {folder.name}/{file}\n" in out for file in files)
    run_module(tmp_path, "pytest", "-q", "-p", "no:cacheprovider", "-W", "error", folder.name)
    commands = [line.split() for line in out.partition("next:\n")[2].splitlines()]
    assert len(commands) == (4 if kind == "agent" else 3)
    for command in commands[1:]:
        if command[:2] == ["mrl-bench", "bench"]:
            command = ["mrl-bench", "check", command[-1]]  # a bench takes minutes
        if command[:2] == ["mrl-bench", "score"]:
            continue
        run_module(tmp_path, "mrl_bench", *command[1:])


def test_a_new_agent_is_evaluated_by_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["new-agent", "first-try"]) == 0
    assert main(["new-scenario", "short"]) == 0
    path = tmp_path / "short_v1" / "short-v1.yaml"
    path.write_text(path.read_text().replace("meta_train: 5e5", "meta_train: 1e4"))
    out = run_module(tmp_path, "mrl_bench", "evaluate", str(path), "first_try.agent:FirstTry")
    assert out.startswith("short-v1 firsttry seed 0: return ")


def test_nothing_is_overwritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_agent").mkdir()
    assert main(["new-agent", "my-agent"]) == 2
    assert "my_agent is there already: nothing was written" in capsys.readouterr().err
    assert not list((tmp_path / "my_agent").iterdir())


@pytest.mark.parametrize(
    "name", ["My-Agent", "1st", "../up", "a b", "", "-", "class", "torch", "mrl_bench", "x" * 41]
)
def test_wrong_names_are_refused(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["new-agent", "--", name]) == 2
    assert capsys.readouterr().err.startswith("mrl-bench: ")
    assert not list(tmp_path.iterdir())


def test_forms_of_a_name() -> None:
    assert names("agent", "my_first-agent") == {
        "name": "my-first-agent",
        "module": "my_first_agent",
        "Class": "MyFirstAgent",
    }
    assert names("scenario", "slope-v2")["name"] == "slope-v2"
    assert names("scenario", "slope")["name"] == "slope-v1"

"""What the README shows works as it stands there."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from bench_kit import Cli

from mrl_bench.cli.main import main
from mrl_bench.scenario import find_scenario, list_scenarios

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    """The README's code blocks in a language."""
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_the_scenario_is_a_scenario(tmp_path):
    path = tmp_path / "my-wiring-v1.yaml"
    (text,) = blocks("yaml")
    path.write_text(text)
    assert find_scenario(path).id == "my-wiring-v1"


def test_the_front_door_works_as_shown(capsys):
    code, _ = blocks("python")
    assert len([line for line in code.splitlines() if line]) <= 10
    exec(code, {})
    assert capsys.readouterr().out.startswith("(0, 1, 2, 3, 5, 10) [")


def test_the_agent_scores_what_is_printed(tmp_path, monkeypatch, capsys):
    _, agent = blocks("python")
    (tmp_path / "lean.py").write_text(agent)
    monkeypatch.chdir(tmp_path)
    (command, printed) = re.search(r"\$ mrl-bench (evaluate .*)\n +(.*)\n", README).groups()
    assert main(command.split()) == 0
    assert capsys.readouterr().out.splitlines()[0] == printed.strip()


def test_numbers_of_things_are_right():
    assert f"{len(list_scenarios())} scenarios" in README


def test_every_column_of_the_table_is_explained_under_it():
    table, _, explained = README.partition("**score**")
    cells = re.findall(r"^\| (.*?) \|", explained, re.MULTILINE)
    columns = {name.strip() for cell in cells for name in cell.split(",")}
    for column in ("rank", "gain", "ood k=3", "seeds", "train steps", "train time", "k=0", "k=1", "k=3"):
        assert column in table
        assert column in columns
    assert "env steps to score 0.6" in columns  # the table breaks it into three lines


@pytest.mark.parametrize("path", sorted(set(re.findall(r"\]\((docs/[^)]+|[A-Z]+\.md)\)", README))))
def test_links_lead_to_files(path):
    assert (Path(__file__).parents[2] / path).is_file()


@pytest.mark.slow
def test_the_leaderboard_commands_do_what_is_printed(tmp_path):
    """All commands of the transcript, as a new user types them; the submission is the one that was made."""
    shutil.copytree(ROOT / "leaderboard", tmp_path / "leaderboard")
    section = README.partition("## The leaderboard\n")[2].partition("\n## ")[0]
    commands = re.findall(r"^    \$ (.+?)(?: +#.*)?$", section, re.MULTILINE)
    assert len(commands) == 7
    for command in commands:
        command = "mrl-bench leaderboard site" if command == "make leaderboard" else command
        for path in tmp_path.glob("submissions/*"):
            command = re.sub(r"submissions/\S+", f"submissions/{path.name}", command)
        code, out, err = Cli(*command.split()[1:], cwd=tmp_path).end(timeout=600)
        assert code == 0, (command, err)
        for printed in ("references and 3 baselines: shipped results used", "overall, test"):
            assert printed in out or "--smoke" in command or " score " not in command
    assert (tmp_path / "site" / "index.html").is_file()

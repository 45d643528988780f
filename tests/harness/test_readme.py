"""What the README shows works as it stands there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mrl_bench.cli.main import main
from mrl_bench.scenario import load_scenario

README = (Path(__file__).parents[2] / "README.md").read_text()


def block(language: str) -> str:
    """The README's one code block in a language."""
    (found,) = re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)
    return str(found)


def test_the_scenario_is_a_scenario(tmp_path):
    path = tmp_path / "my-wiring-v1.yaml"
    path.write_text(block("yaml"))
    assert load_scenario(path).id == "my-wiring-v1"


def test_the_agent_scores_what_is_printed(tmp_path, monkeypatch, capsys):
    (tmp_path / "my_agent.py").write_text(block("python"))
    monkeypatch.chdir(tmp_path)
    (command, printed) = re.search(r"\$ \.venv/bin/mrl-bench (evaluate .*)\n +(.*)\n", README).groups()
    assert main(command.split()) == 0
    assert capsys.readouterr().out.strip() == printed.strip()


@pytest.mark.parametrize("path", sorted(set(re.findall(r"\]\((docs/[^)]+|[A-Z]+\.md)\)", README))))
def test_links_lead_to_files(path):
    assert (Path(__file__).parents[2] / path).is_file()

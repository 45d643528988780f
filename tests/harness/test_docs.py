"""Documentation works as it stands: code blocks run, and every command line can be parsed."""

from __future__ import annotations

import re
import shlex
import textwrap
from pathlib import Path

import pytest

from mrl_bench.cli import main as cli
from mrl_bench.cli.main import main
from mrl_bench.scenario.suite import load_suite

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
EXTENDING = (ROOT / "docs" / "extending.md").read_text()

# Words in capitals stand for what the reader fills in.
STAND_INS = {
    "I": "0",
    "N": "1",
    "K": "1",
    "SCENARIO": "cartpole-wiring-v1",
    "NAME": "maml",
    "RUN": "runs/quick",
}


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def commands(text: str) -> list[str]:
    """Command lines that start with mrl-bench: in inline code, or on indented or fenced lines."""
    inline = re.findall(r"`(mrl-bench [^`\n]+)`", text)
    lines = re.findall(r"^ *(?:\$ )?(?:\.venv/bin/)?(mrl-bench .*)$", text, re.MULTILINE)
    return inline + lines


def cleaned(command: str) -> list[str]:
    """The arguments of a command line, without comments and with stand-ins; optional parts are kept."""
    bare = re.sub(r"\s(#|\||>|&&).*", "", command).replace("[", "").replace("]", "").replace("...", "")
    return [STAND_INS.get(word, word) for word in shlex.split(bare)[1:]]


def all_commands() -> list[object]:
    found = {(page.name, command) for page in PAGES for command in commands(page.read_text())}
    return [pytest.param(command, id=f"{page}: {command}") for page, command in sorted(found)]


@pytest.mark.parametrize("command", all_commands())
def test_every_command_line_parses(command: str, capsys) -> None:
    arguments = cleaned(command)
    if len(arguments) == 1:  # a command that is mentioned by name
        arguments = [*arguments, "--help"]
    try:
        code = 0 if callable(cli._parser().parse_args(arguments).command) else 2
    except SystemExit as ended:
        code = ended.code
    assert code == 0, f"{command}\n{capsys.readouterr().err}"


def test_commands_are_found() -> None:
    names = {cleaned(command)[0] for page in PAGES for command in commands(page.read_text())}
    assert {
        "bench",
        "check",
        "info",
        "list",
        "evaluate",
        "play",
        "new-agent",
        "new-scenario",
        "new-family",
    } <= names
    assert commands("    $ mrl-bench list\ntext `mrl-bench check FILE`\n") == [
        "mrl-bench check FILE",
        "mrl-bench list",
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files_and_headings(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if not re.match(r"[a-z]+:", target):
            assert (page.parent / target.partition("#")[0]).exists(), target


def test_the_worked_example_of_a_score_is_right() -> None:
    (code,) = blocks((ROOT / "docs" / "concepts.md").read_text(), "python")
    exec(code, {})


# -- docs/extending.md -------------------------------------------------------------------------------------------


@pytest.fixture
def extended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with every file of the page, under the name that the page gives it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    for code, name in zip(blocks(EXTENDING, "python"), ("bias_agent.py", "thermostat.py"), strict=True):
        assert f"`{name}`" in EXTENDING
        (tmp_path / name).write_text(code)
    for text in blocks(EXTENDING, "yaml"):
        (tmp_path / f"{text.split()[1]}.yaml").write_text(text)
    assert {path.stem for path in tmp_path.glob("*.yaml")} == {"windy-cart-v1", "my-suite", "thermostat-v1"}
    return tmp_path


def test_the_scenario_is_sound_and_can_be_scored(extended: Path, capsys) -> None:
    for command in ("check", "info"):
        assert main([command, "windy-cart-v1.yaml"]) == 0
    assert main(["evaluate", "windy-cart-v1.yaml", "random"]) == 0
    assert "return " in capsys.readouterr().out


def test_the_agent_keeps_the_contract_and_improves(extended: Path, capsys) -> None:
    assert main(["check", "bias_agent:BiasAgent"]) == 0
    assert main(["evaluate", "windy-cart-v1.yaml", "bias_agent:BiasAgent", "--set", "candidates=9"]) == 0
    printed = re.search(r"return ([\d. ]+) at k", capsys.readouterr().out)
    assert printed
    returns = [float(number) for number in printed[1].split()]
    assert returns[-1] > returns[0]


def test_the_suite_is_sound(extended: Path) -> None:
    suite = load_suite("my-suite.yaml")
    assert [agent.name for agent in suite.entries[0].agents] == ["bias", "maml"]


def test_the_family_keeps_the_contract_and_can_be_scored(extended: Path, capsys) -> None:
    assert main(["check", "thermostat:Thermostat", "thermostat-v1.yaml"]) == 0
    assert main(["evaluate", "thermostat-v1.yaml", "random"]) == 0
    assert "FAILED" not in capsys.readouterr().out


def test_the_list_of_broken_promises_is_what_check_prints(extended: Path, capsys) -> None:
    code = (extended / "thermostat.py").read_text()
    (extended / "linear_thermostat.py").write_text(code.replace(".clamp(-1.0, 1.0)", ""))
    assert main(["check", "linear_thermostat:Thermostat"]) == 1
    printed = capsys.readouterr().err.replace("linear_thermostat", "thermostat")
    assert textwrap.indent(printed, "    ") in EXTENDING
    arguments = ["--waive", "actions_are_clamped=a linear heater"]
    assert main(["check", "linear_thermostat:Thermostat", *arguments]) == 0

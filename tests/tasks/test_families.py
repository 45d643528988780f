"""Every family passes every check with every set of options, and each check finds the error that it is for."""

from __future__ import annotations

from typing import Any

import broken_families
import pytest
from broken_families import Sliders, SlidersWithExtras
from refusal import refused

import mrl_bench
from mrl_bench import registry
from mrl_bench.checks import declaration, new_process
from mrl_bench.checks import family as family_checks
from mrl_bench.checks.check import Check
from mrl_bench.cli.main import main
from mrl_bench.errors import ContractError, UsageError
from mrl_bench.family import TaskFamily

# Option sets that change which parameters a family has, or their effect. Other families use their defaults.
OPTIONS: dict[str, list[dict[str, Any]]] = {
    "cartpole": [{}, {"control": "bang_bang", "reward": "target"}],
    "driving": [{}, {"road": "highway", "traffic": 6}, {"road": "crossing", "traffic": 2, "events": True}],
}
VARIANTS = [
    pytest.param(name, options, id="-".join(map(str, (name, *options.values()))))
    for name in registry.names("family")
    for options in OPTIONS.get(name, [{}])
]


@pytest.mark.parametrize("check", family_checks.CHECKS, ids=lambda check: check.name)
@pytest.mark.parametrize(("name", "options"), VARIANTS)
def test_every_family_passes_every_check(
    name: str, options: dict[str, Any], check: Check[TaskFamily], request: pytest.FixtureRequest
) -> None:
    if check.function is not declaration.imports_no_simulator:  # to which it matters what is imported already
        request.getfixturevalue("forked_checks")
    assert not check.findings(registry.find("family", name)(**options), "mrl_tasks")


@pytest.mark.parametrize("family", [Sliders, SlidersWithExtras])
def test_a_sound_family_passes(family: type) -> None:
    mrl_bench.check_family(family)


@pytest.fixture
def one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plays here what a check plays in a new process, which takes seconds."""

    def run(family: TaskFamily, *statements: str) -> list[str]:
        return family_checks.odd_then_default(family) if "odd_then_default" in statements[0] else []

    monkeypatch.setattr(new_process, "run", run)


SEEN_IN_A_NEW_PROCESS = ("KeepsTheFirstStride", "ImportsTorch")


@pytest.mark.parametrize(
    "name", [name for name in broken_families.BROKEN if name not in SEEN_IN_A_NEW_PROCESS]
)
@pytest.mark.usefixtures("one_process")
def test_a_broken_family_is_refused_by_the_name_of_its_promise(name: str, capsys) -> None:
    refused(broken_families, name, capsys)


@pytest.mark.parametrize("name", SEEN_IN_A_NEW_PROCESS)
def test_what_a_new_process_sees(name: str, capsys, request: pytest.FixtureRequest) -> None:
    if name != "ImportsTorch":  # which a forked process has imported
        request.getfixturevalue("forked_checks")
    refused(broken_families, name, capsys)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("CannotBeMade", "RuntimeError: the simulator does not start (sliders.py:"),
        ("CrashesLater", "ZeroDivisionError (sliders.py:"),
        ("FailsToDeclare", "KeyError: 'road' (broken_families.py:"),
        ("NeedsAnArgument", "TypeError: NeedsAnArgument.__init__() missing 1 required positional argument"),
        ("GivesDoubles", "reward is torch.float64, not torch.float32"),
        ("GivesColumns", "reward has shape (2, 3, 1), not (2, 3)"),
        ("GivesATuple", "step returned a tuple, not a Step"),
        ("HasNoClose", "make returned a HasNoClose, which has no close"),
        ("IgnoresWind", "parameter 'wind' has no effect"),
        ("RejectsItsBounds", "with speed = 3.0, a legal value, make raises ValueError: too fast"),
        ("TakesAnyAction", "between actions up to 3 and the same ones clamped"),
        ("WritesIntoTheAction", "the environment changes the action of step "),
        ("MeasuresOn", "changes the metric 'steps' of instance"),
        ("ReportsWhatItDoesNotMeasure", "'crashes per m' is reported from 'crashes', which is not among"),
        ("RendersFloats", "an image is float64"),
        ("DefaultsOutside", "parameter 'speed': 5.0 is outside [0.1, 3.0]"),
    ],
)
@pytest.mark.usefixtures("one_process")
def test_what_was_found_is_clear(name: str, found: str) -> None:
    with pytest.raises(ContractError) as refusal:
        mrl_bench.check_family(f"broken_families:{name}")
    assert found in str(refusal.value)


# -- waivers ---------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("one_process")
def test_a_promise_can_be_waived_with_a_reason(capsys) -> None:
    mrl_bench.check_family(
        "broken_families:TakesAnyAction", waive={"actions_are_clamped": "its motor is linear"}
    )
    argument = "actions_are_clamped=its motor = linear"
    assert main(["check", "broken_families:TakesAnyAction", "--waive", argument]) == 0
    assert (
        "keeps its contract, except actions_are_clamped (waived: its motor = linear)"
        in capsys.readouterr().out
    )


@pytest.mark.parametrize(
    ("waive", "message"),
    [
        (
            {"actions_are_clampd": "why not"},
            "no check 'actions_are_clampd' to waive: did you mean 'actions_are_clamped'",
        ),
        ({"actions_are_clamped": " "}, "a waiver of 'actions_are_clamped' must say why"),
        ({"actions_are_clamped": None}, "a waiver of 'actions_are_clamped' must say why"),
        (
            {"actions_are_clamped": "x"},
            "waived without need: Sliders keeps the promise of actions_are_clamped",
        ),
    ],
)
@pytest.mark.usefixtures("one_process")
def test_a_waiver_must_be_right(waive: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        mrl_bench.check_family(Sliders, waive=waive)


@pytest.mark.usefixtures("one_process")
def test_other_failures_are_listed_beside_a_waiver() -> None:
    class Worse(broken_families.HasNoUnit):
        env = "TakesAnyAction"

    with pytest.raises(ContractError) as refusal:
        mrl_bench.check_family(
            Worse, waive={"actions_are_clamped": "a linear motor", "memory_is_not_shared": "not needed"}
        )
    lines = str(refusal.value).splitlines()
    assert lines[0] == "Worse breaks 2 promises of a family:"
    assert [line for line in lines if line.startswith("- ")] == [
        "- documents_its_parameters",
        "- imports_no_simulator",
    ]
    assert "    found: parameter 'speed' has no unit" in lines
    assert lines[-1] == "waived without need: memory_is_not_shared"

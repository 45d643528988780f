"""What a report says of how its rows were made, and that the commands in it make them again."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import yaml
from bench_kit import SCENARIO, make_scenario, make_suite, run_here, toy

from mrl_bench.cli.main import main
from mrl_bench.errors import UsageError
from mrl_bench.report.setup import read_setups
from mrl_bench.runs.executor import plan_runs
from mrl_bench.runs.manifest import add_to_manifest, read_manifest, write_manifest
from mrl_bench.runs.run import Run, execute
from mrl_bench.runs.store import Store
from mrl_bench.scenario.suite import AgentSpec, find_suite


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A suite that changes the scenario's budget and protocol and an agent's settings."""
    path = make_suite(tmp_path_factory.mktemp("suite"), {"bold": toy("Learner", gain=0.25)}, seeds=2)
    data = yaml.safe_load(path.read_text())
    data["scenarios"][0] |= {"budget": {"meta_train": 200}, "protocol": {"k": [0, 4], "scored_episodes": 2}}
    path.write_text(yaml.safe_dump(data))
    return path


@pytest.fixture(scope="module")
def bench(suite: Path) -> Store:
    """The runs of its agent, in the manifest of the whole."""
    loaded = find_suite(suite)
    runs = plan_runs(loaded, "cpu")
    store = Store(suite.parent / "run")
    write_manifest(store, loaded, runs)
    for run in runs:
        if run.agent.name == "bold":
            execute(run, store, lambda *_: None)
    return store


def shell(command: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs a command in the folder: a shell reads it, and `mrl-bench` runs in this process."""
    echo = "mrl-bench() { printf '%s\\0' \"$@\"; printf '\\n'; }"
    ran = subprocess.run(["bash", "-ec", f"{echo}\n{command}"], capture_output=True, text=True, check=True)
    monkeypatch.chdir(folder)
    for line in ran.stdout.splitlines():
        code, _, err = run_here(*line.split("\0")[:-1])
        assert code == 0, err


def results(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / "results").iterdir()}


def test_the_command_of_a_row_makes_its_results_again_byte_for_byte(
    bench: Store, suite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (setup,) = read_setups(read_manifest(bench.folder)).values()
    agent = setup.agents["bold"]
    assert agent.settings == ("gain=0.25",)
    assert agent.command == (
        f'for seed in 0 1; do mrl-bench evaluate tiny-v1 bold --suite {suite} --device cpu --seed "$seed"; done'
    )
    shell(agent.command, tmp_path, monkeypatch)
    assert results(tmp_path / "runs" / "single") == results(bench.folder)


def test_the_command_of_a_single_run_makes_its_result_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scenario = make_scenario(tmp_path, budget={"meta_train": 150, "blind": 150, "oracle": 150})
    agent = AgentSpec.outside_suite("toy_agents:Learner", {"gain": 0.25, "file": "a b"})
    store, run = Store(tmp_path / "run"), Run(scenario, agent, 3, "cpu")
    add_to_manifest(store, run)
    execute(run, store, lambda *_: None)
    (setup,) = read_setups(read_manifest(store.folder)).values()
    command = setup.agents["learner"].command
    assert command == (
        "mrl-bench evaluate tiny-v1.yaml toy_agents:Learner --set 'file=a b' --set gain=0.25 "
        "--budget 150 --device cpu --seed 3"
    )
    make_scenario(tmp_path)  # with its own budget
    shell(command, tmp_path, monkeypatch)
    assert results(tmp_path / "runs" / "single") == results(store.folder)


def test_a_setup_describes_parameters_and_tasks(bench: Store) -> None:
    (setup,) = read_setups(read_manifest(bench.folder)).values()
    description = setup.description
    force, wiring = description.params
    assert {wiring.name, force.name} == set(SCENARIO["params"])
    assert wiring.draws == dict.fromkeys(("train", "test", "ood"), "choice of -1, 1")
    assert (force.draws["test"], force.draws["ood"]) == ("uniform 20 to 60", "uniform 70 to 90")
    assert force.unit == "N"
    assert {split: len(tasks) for split, tasks in description.tasks.items()} == {
        "train": 3,
        "test": 3,
        "ood": 2,
    }
    assert all(70 <= value <= 90 for value, _ in description.tasks["ood"])
    assert setup.protocol == "k = 0, 4 adaptation episodes; 2 a round, 2 scored at each k"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tiny-v2", "bold"], "suite tiny has no scenario 'tiny-v2': did you mean 'tiny-v1'?"),
        (["tiny-v1", "bald"], "suite tiny has no agent 'bald' on tiny-v1: did you mean 'bold'?"),
    ],
)
def test_names_that_a_suite_lacks_are_one_line(
    suite: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", *arguments, "--suite", str(suite)]) == UsageError.exit_code
    assert capsys.readouterr().err == f"mrl-bench: {message}\n"

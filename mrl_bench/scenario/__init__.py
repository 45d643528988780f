"""From YAML to task batches: reader, validation, distributions, scenario, suite, settings."""

from mrl_bench.scenario.privileged import played_by, privileged
from mrl_bench.scenario.scenario import (
    Scenario,
    find_scenario,
    list_scenarios,
    load_scenario,
    scenarios_dir,
)
from mrl_bench.scenario.schema import Budget, Protocol
from mrl_bench.scenario.splits import Split

__all__ = [
    "Budget",
    "Protocol",
    "Scenario",
    "Split",
    "find_scenario",
    "list_scenarios",
    "load_scenario",
    "played_by",
    "privileged",
    "scenarios_dir",
]

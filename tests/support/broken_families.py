"""Families that break one promise each. `BROKEN` says which: class -> the check that refuses it.

The simulations are in `sliders`, so that this module imports no torch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from mrl_bench.family import Param
from mrl_bench.types import EnvSpec, TaskBatch

if TYPE_CHECKING:
    import torch

SPEED = Param(1.0, 0.1, 3.0, "m/s", "at a full action")
WIND = Param(0.0, -1.0, 1.0, "m/s", "added to it")


@dataclass(frozen=True)
class Sliders:
    """Keeps every promise. A broken family names another simulation, or declares something wrong."""

    horizon: int = 60

    env: ClassVar[str] = "Sound"
    simulator: ClassVar[str] = "sliders 1"
    reward_range: ClassVar[tuple[float, float]] = (-math.inf, 1.0)
    params: ClassVar[dict[str, Any]] = {"speed": SPEED, "wind": WIND}

    @property
    def spec(self) -> EnvSpec:
        return EnvSpec(obs_dim=1, act_dim=1, horizon=self.horizon, dt=0.1)

    def make(
        self, tasks: TaskBatch, episodes: int, device: torch.device, dtype: torch.dtype | None = None
    ) -> Any:
        import sliders
        import torch

        return getattr(sliders, self.env)(tasks, episodes, dtype or torch.float32)


class SlidersWithExtras(Sliders):
    """Keeps every promise too, and has metrics and images."""

    env = "SoundWithExtras"


# Simulation -> the promise that it breaks.
SIMULATIONS = {
    "GivesDoubles": "shapes_and_dtypes_are_right",
    "GivesColumns": "shapes_and_dtypes_are_right",
    "ObservesTwice": "shapes_and_dtypes_are_right",
    "FlagsWithFloats": "shapes_and_dtypes_are_right",
    "StartsInNumpy": "shapes_and_dtypes_are_right",
    "GivesATuple": "shapes_and_dtypes_are_right",
    "IgnoresDtype": "shapes_and_dtypes_are_right",
    "CannotBeMade": "shapes_and_dtypes_are_right",
    "HasNoClose": "shapes_and_dtypes_are_right",
    "StartsWithNan": "default_tasks_do_not_fail",
    "ObservesNan": "default_tasks_do_not_fail",
    "CrashesLater": "default_tasks_do_not_fail",
    "IsSilentAboutNan": "broken_simulations_are_flagged",
    "PlaysOnWithNan": "broken_simulations_are_flagged",
    "RejectsItsBounds": "broken_simulations_are_flagged",
    "PaysMore": "rewards_are_in_their_range",
    "IgnoresWind": "every_parameter_has_an_effect",
    "KeepsTheFirstStride": "no_state_leaks_between_tasks",
    "SharesTheLastStride": "no_state_leaks_between_tasks",
    "CompoundsOverTasks": "no_state_leaks_between_tasks",
    "CompoundsOverResets": "same_seed_same_trajectory",
    "GoesOnWithItsGenerator": "same_seed_same_trajectory",
    "DrawsWithoutASeed": "same_seed_same_trajectory",
    "IgnoresTheSeed": "another_seed_another_start",
    "DrawsForTheWholeBatch": "instances_are_independent",
    "StartsByItsNeighbours": "instances_are_independent",
    "LooksAtItsNeighbours": "instances_are_independent",
    "CountsTheBatch": "instances_are_independent",
    "Autoresets": "ended_instances_do_not_change",
    "SlidesOnAfterTheEnd": "ended_instances_do_not_change",
    "MeasuresOn": "ended_instances_do_not_change",
    "TakesAnyAction": "actions_are_clamped",
    "RejectsLargeActions": "actions_are_clamped",
    "GivesItsState": "memory_is_not_shared",
    "ReusesItsBuffer": "memory_is_not_shared",
    "WritesIntoTheAction": "memory_is_not_shared",
    "MovesWhenMeasured": "metrics_are_measured",
    "MeasuresInfinity": "metrics_are_measured",
    "MeasuresNumbers": "metrics_are_measured",
    "ReportsWhatItDoesNotMeasure": "metrics_are_measured",
    "MovesWhenRendered": "rendering_changes_nothing",
    "RendersFloats": "rendering_changes_nothing",
    "RendersOnItsSide": "rendering_changes_nothing",
}
for _name in SIMULATIONS:
    globals()[_name] = type(_name, (Sliders,), {"env": _name, "__module__": __name__})


@dataclass
class Thawed:
    horizon: int = 60

    params: ClassVar[dict[str, Any]] = Sliders.params
    simulator: ClassVar[str] = Sliders.simulator
    env: ClassVar[str] = Sliders.env
    spec, make = Sliders.spec, Sliders.make


class Plain:
    horizon = 60
    params, simulator, env, spec, make = (
        Sliders.params,
        Sliders.simulator,
        Sliders.env,
        Sliders.spec,
        Sliders.make,
    )


class IgnoresHorizon(Sliders):
    @property
    def spec(self) -> EnvSpec:
        return EnvSpec(obs_dim=1, act_dim=1, horizon=60, dt=0.1)


class HasNoSize(Sliders):
    @property
    def spec(self) -> EnvSpec:
        return replace(super().spec, act_dim=0)


class ScalesTooMuch(Sliders):
    @property
    def spec(self) -> EnvSpec:
        return replace(super().spec, obs_scale=(1.0, 2.0))


class FailsToDeclare(Sliders):
    @property
    def spec(self) -> EnvSpec:
        raise KeyError("road")


class HasNoSimulator(Sliders):
    simulator = ""


@dataclass(frozen=True)
class NeedsAnArgument:
    road: str
    horizon: int = 60

    params: ClassVar[dict[str, Any]] = Sliders.params
    simulator: ClassVar[str] = Sliders.simulator
    spec, make = Sliders.spec, Sliders.make


@dataclass(frozen=True)
class HasNoMake:
    horizon: int = 60

    params: ClassVar[dict[str, Any]] = Sliders.params
    simulator: ClassVar[str] = Sliders.simulator
    spec = Sliders.spec


class RangesFromHighToLow(Sliders):
    reward_range = (1.0, -1.0)


class NamesAFileThatIsNotThere(Sliders):
    data_files = (Path("no/such/map.xodr"),)


class ImportsTorch(Sliders):
    @property
    def simulator(self) -> str:  # type: ignore[override]
        import torch

        return f"torch {torch.__version__}"


class HasNoUnit(Sliders):
    params: ClassVar = {"speed": replace(SPEED, unit=""), "wind": WIND}


class HasNoDoc(Sliders):
    params: ClassVar = {"speed": replace(SPEED, doc=""), "wind": WIND}


class DefaultsOutside(Sliders):
    params: ClassVar = {"speed": replace(SPEED, default=5.0), "wind": WIND}


class TurnsItsBounds(Sliders):
    params: ClassVar = {"speed": replace(SPEED, low=3.0, high=0.1), "wind": WIND}


class KnowsNoBound(Sliders):
    params: ClassVar = {"speed": replace(SPEED, high=float("inf")), "wind": WIND}


class DefaultsToNoValue(Sliders):
    params: ClassVar = {"speed": replace(SPEED, values=(0.5, 2.0)), "wind": WIND}


class TakesNumbersForParams(Sliders):
    params: ClassVar = {"speed": 1.0, "wind": WIND}


class HasNoParams(Sliders):
    params: ClassVar = {}


DECLARATIONS = {
    "Thawed": "declares_its_options",
    "Plain": "declares_its_options",
    "IgnoresHorizon": "declares_its_options",
    "HasNoSize": "declares_its_sizes",
    "ScalesTooMuch": "declares_its_sizes",
    "FailsToDeclare": "declares_its_sizes",
    "HasNoSimulator": "declares_its_sizes",
    "NeedsAnArgument": "options_have_defaults",
    "HasNoMake": "has_every_part",
    "RangesFromHighToLow": "rewards_are_in_their_range",
    "NamesAFileThatIsNotThere": "names_its_files",
    "ImportsTorch": "imports_no_simulator",
    "HasNoUnit": "documents_its_parameters",
    "HasNoDoc": "documents_its_parameters",
    "DefaultsOutside": "declares_its_parameters",
    "TurnsItsBounds": "declares_its_parameters",
    "KnowsNoBound": "declares_its_parameters",
    "DefaultsToNoValue": "declares_its_parameters",
    "TakesNumbersForParams": "declares_its_parameters",
    "HasNoParams": "declares_its_parameters",
}

BROKEN = SIMULATIONS | DECLARATIONS

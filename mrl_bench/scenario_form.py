"""What a scenario's YAML file looks like. What it means is in `scenario.py`."""

from __future__ import annotations

import re
from dataclasses import field
from typing import Annotated, Any

from pydantic import AfterValidator
from pydantic.dataclasses import dataclass

from mrl_bench.distributions import Distribution
from mrl_bench.forms import Flag, Form, Text, between, wrong

ID_PATTERN = r"[a-z0-9]+(-[a-z0-9]+)*-v[0-9]+"
MAX_ID = 80  # characters
MAX_STEPS = 10**12  # env steps of one meta-training run
MAX_TASKS = 10_000  # tasks in a list
MAX_EPISODES = 1_000  # rounds, and episodes of a task in one round
MAX_HORIZON = 100_000  # control steps


def _check_id(text: str) -> str:
    if not re.fullmatch(ID_PATTERN, text) or len(text) > MAX_ID:
        raise wrong("an id is words in lower case that end in a version, as 'cartpole-wiring-v1'")
    return text


def one_line(text: str) -> str:
    """A text without line breaks; refuses an empty one."""
    if not text.strip():
        raise wrong("'doc' must say something: one sentence")
    return " ".join(text.split())


Doc = Annotated[Text, AfterValidator(one_line)]
Steps = Annotated[int, *between(1, MAX_STEPS)]
Horizon = Annotated[int, *between(1, MAX_HORIZON)]
Seed = Annotated[int, *between(0, 2**53)]
Count = Annotated[int, *between(1, MAX_TASKS)]
Episodes = Annotated[int, *between(1, MAX_EPISODES)]
Round = Annotated[int, *between(0, MAX_EPISODES)]


@dataclass(frozen=True)
class Budget(Form):
    """Env steps that meta-training may use: of each agent, and of the anchors that are trained too."""

    meta_train: Steps
    blind: Steps
    oracle: Steps


@dataclass(frozen=True)
class Protocol(Form):
    """How adaptation is scored: on every task, after so many rounds of so many episodes."""

    rounds: tuple[Round, ...] = (0, 1, 2, 3, 5, 10)
    episodes_per_round: Episodes = 1
    scored_episodes: Episodes = 10

    def __post_init__(self) -> None:
        if self.rounds[:1] != (0,) or list(self.rounds) != sorted(set(self.rounds)):
            raise wrong("'rounds' begins with 0 and ascends, as [0, 1, 3, 10]", ("rounds",))


@dataclass(frozen=True)
class TrainForm(Form):
    """Training tasks: an endless stream of fresh draws, or with `count` a list that is drawn once."""

    count: Count | None = None
    seed: Seed = 0


@dataclass(frozen=True)
class TestForm(Form):
    """Held-out tasks: a list that is drawn once, from the scenario's distribution."""

    count: Count
    seed: Seed = 0
    # Published task sets such as cheetah-dir have only two tasks, and test on the ones that they train on.
    may_repeat_train: Flag = False


@dataclass(frozen=True)
class OodForm(Form):
    """Held-out tasks out of the training distribution: `params` replaces the scenario's, name by name."""

    count: Count
    params: dict[str, Distribution] = field(default_factory=dict)
    seed: Seed = 0


@dataclass(frozen=True)
class SplitsForm(Form):
    test: TestForm
    train: TrainForm = field(default_factory=TrainForm)
    ood: OodForm | None = None


@dataclass(frozen=True)
class ScenarioForm(Form):
    """A task family, how its parameters are distributed, and the terms under which agents are compared."""

    id: Annotated[Text, AfterValidator(_check_id)]
    doc: Doc
    family: Text
    horizon: Horizon
    params: dict[str, Distribution]
    splits: SplitsForm
    budget: Budget
    options: dict[str, Any] = field(default_factory=dict)
    protocol: Protocol = field(default_factory=Protocol)

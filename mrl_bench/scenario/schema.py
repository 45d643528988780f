"""What a scenario's YAML file agent_styles like. What it means is in `scenario.py`."""

from __future__ import annotations

import re
from dataclasses import field
from typing import Annotated, Any

from pydantic import AfterValidator
from pydantic.dataclasses import dataclass

from mrl_bench.scenario.distributions import Distribution
from mrl_bench.scenario.validation import Flag, Form, Text, between, wrong

ID_PATTERN = r"[a-z0-9]+(-[a-z0-9]+)*-v[0-9]+"
MAX_ID = 80  # characters
MAX_STEPS = 10**12  # env steps of one meta-training run
MAX_TASKS = 10_000  # tasks in a list
MAX_EPISODES = 1_000  # of a task, in one round
MAX_K = 10_000  # adaptation episodes of a task
DEFAULT_ROUNDS = (0, 1, 2, 3, 5, 10)  # after which agents are scored unless `k` says otherwise
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
AdaptationEpisodes = Annotated[int, *between(0, MAX_K)]


@dataclass(frozen=True)
class Budget(Form):
    """Env steps that meta-training may use: of each agent, and of the anchors that are trained too."""

    meta_train: Steps
    blind: Steps
    oracle: Steps


@dataclass(frozen=True)
class Protocol(Form):
    """How adaptation is scored: on every task, after each of `k` adaptation episodes.

    The agent adapts after each round of `episodes_per_round` episodes, so every entry of `k` is a multiple of it.
    """

    k: tuple[AdaptationEpisodes, ...] = ()  # by default 0, 1, 2, 3, 5 and 10 rounds
    episodes_per_round: Episodes = 1
    scored_episodes: Episodes = 10

    def __post_init__(self) -> None:
        if not self.k:
            object.__setattr__(self, "k", tuple(n * self.episodes_per_round for n in DEFAULT_ROUNDS))
        if self.k[0] != 0 or list(self.k) != sorted(set(self.k)):
            raise wrong("'k' begins with 0 and ascends, as [0, 1, 3, 10]", ("k",))
        for i, k in enumerate(self.k):
            if k % self.episodes_per_round:
                raise wrong(
                    f"{k} is not a multiple of 'episodes_per_round', which is {self.episodes_per_round}",
                    ("k", i),
                )

    @property
    def rounds(self) -> tuple[int, ...]:
        """Adaptation rounds played before each entry of `k`."""
        return tuple(k // self.episodes_per_round for k in self.k)


@dataclass(frozen=True)
class TrainSchema(Form):
    """Training tasks: an endless stream of fresh draws, or with `count` a list that is drawn once."""

    count: Count | None = None
    seed: Seed = 0


@dataclass(frozen=True)
class TestSchema(Form):
    """Held-out tasks: a list that is drawn once, from the scenario's distribution."""

    count: Count
    seed: Seed = 0
    # Published task sets such as cheetah-dir have only two tasks, and test on the ones that they train on.
    may_repeat_train: Flag = False


@dataclass(frozen=True)
class OodSchema(Form):
    """Held-out tasks out of the training distribution: `params` replaces the scenario's, name by name."""

    count: Count
    params: dict[str, Distribution] = field(default_factory=dict)
    seed: Seed = 0


@dataclass(frozen=True)
class SplitsSchema(Form):
    test: TestSchema
    train: TrainSchema = field(default_factory=TrainSchema)
    ood: OodSchema | None = None


@dataclass(frozen=True)
class ScenarioSchema(Form):
    """A task family, how its parameters are distributed, and the terms under which agents are compared."""

    id: Annotated[Text, AfterValidator(_check_id)]
    doc: Doc
    family: Text
    horizon: Horizon
    params: dict[str, Distribution]
    splits: SplitsSchema
    budget: Budget
    options: dict[str, Any] = field(default_factory=dict)
    protocol: Protocol = field(default_factory=Protocol)

"""The schema of a scenario's YAML file. `scenario.py` turns it into a `Scenario`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import field
from typing import Annotated, Any

from annotated_types import MinLen
from pydantic import AfterValidator
from pydantic.dataclasses import dataclass

from mrl_bench.results import REFERENCE_AGENTS
from mrl_bench.scenario.distributions import Distribution
from mrl_bench.scenario.validation import Flag, Schema, Text, between, invalid

SCENARIO_ID_PATTERN = r"[a-z0-9]+(-[a-z0-9]+)*-v[0-9]+"
MAX_ID = 80  # characters
MAX_STEPS = 10**12  # env steps of one meta-training run
MAX_TASKS = 10_000  # tasks in a list
MAX_EPISODES = 1_000  # of a task, in one round
MAX_K = 10_000  # adaptation episodes of a task
DEFAULT_ROUNDS = (0, 1, 2, 3, 5, 10)  # adaptation rounds after which agents are scored, unless `k` is set
MAX_HORIZON = 100_000  # control steps


def _check_id(text: str) -> str:
    if not re.fullmatch(SCENARIO_ID_PATTERN, text) or len(text) > MAX_ID:
        raise invalid(
            "an id is lower-case words joined by '-' that end in a version, as 'cartpole-wiring-v1'"
        )
    return text


def one_line(text: str) -> str:
    """The text with each run of whitespace, line breaks included, made one space. Refuses an empty text."""
    if not text.strip():
        raise invalid("'doc' must not be empty: describe the file in one sentence")
    return " ".join(text.split())


Doc = Annotated[Text, AfterValidator(one_line)]
Steps = Annotated[int, *between(1, MAX_STEPS)]
Horizon = Annotated[int, *between(1, MAX_HORIZON)]
Seed = Annotated[int, *between(0, 2**53)]
Count = Annotated[int, *between(1, MAX_TASKS)]
Episodes = Annotated[int, *between(1, MAX_EPISODES)]
AdaptationEpisodes = Annotated[int, *between(0, MAX_K)]


@dataclass(frozen=True)
class Budget(Schema):
    """Env steps of meta-training: for each agent, and for the two reference agents that are trained.

    The oracle gets at least as many as any agent, because it is to be the upper end of the scale.
    """

    meta_train: Steps
    blind: Steps = 0  # by default as many as `meta_train`
    oracle: Steps = 0  # by default as many as `meta_train`

    def __post_init__(self) -> None:
        for name in ("blind", "oracle"):
            object.__setattr__(self, name, getattr(self, name) or self.meta_train)
        if self.oracle < self.meta_train:
            raise invalid(
                f"the oracle needs at least the {self.meta_train:,} env steps of 'meta_train'", ("oracle",)
            )

    def of(self, agent: str) -> int:
        """The budget of an agent: a reference agent's (0 for random, which does not train), or that of all others."""
        return int({**vars(self), "random": 0}.get(agent, self.meta_train))

    def planned(self, agent: str, settings: Mapping[str, Any]) -> int:
        """Env steps that an agent plans to use: its budget, or its setting `env_steps` if that is less."""
        budget = self.of(agent)
        return min(budget, int(settings.get("env_steps", budget)))


@dataclass(frozen=True)
class Protocol(Schema):
    """How adaptation is scored.

    An agent plays adaptation episodes on a task and adapts after each round of `episodes_per_round` of them. It is
    scored, over `scored_episodes` further episodes, after each number of adaptation episodes in `k`. So every entry
    of `k` is a multiple of `episodes_per_round`.
    """

    k: Annotated[
        tuple[AdaptationEpisodes, ...], MinLen(1)
    ] = ()  # by default those of 0, 1, 2, 3, 5 and 10 rounds
    episodes_per_round: Episodes = 1
    scored_episodes: Episodes = 10

    def __post_init__(self) -> None:
        if not self.k:
            object.__setattr__(self, "k", tuple(n * self.episodes_per_round for n in DEFAULT_ROUNDS))
        if self.k[0] != 0 or list(self.k) != sorted(set(self.k)):
            raise invalid("'k' must begin with 0 and ascend, as [0, 1, 3, 10]", ("k",))
        for i, k in enumerate(self.k):
            if k % self.episodes_per_round:
                raise invalid(
                    f"{k} is not a multiple of 'episodes_per_round', which is {self.episodes_per_round}",
                    ("k", i),
                )

    def scored_at(self, agent: str) -> tuple[int, ...]:
        """The entries of `k` at which an agent is scored: 0 for reference agents, which do not adapt, or else all."""
        return self.k[:1] if agent in REFERENCE_AGENTS else self.k

    @property
    def rounds(self) -> tuple[int, ...]:
        """The number of adaptation rounds for each entry of `k`."""
        return tuple(k // self.episodes_per_round for k in self.k)


@dataclass(frozen=True)
class TrainSchema(Schema):
    """Training tasks: an endless stream of new draws or, with `count`, a list that is drawn once."""

    count: Count | None = None
    seed: Seed = 0


@dataclass(frozen=True)
class TestSchema(Schema):
    """Held-out tasks: a list that is drawn once from the training distribution."""

    count: Count
    seed: Seed = 0
    # For published task sets, such as the two tasks of cheetah-dir, that test on their training tasks.
    may_repeat_train: Flag = False


@dataclass(frozen=True)
class OodSchema(Schema):
    """Held-out tasks out of distribution (ood): `params` overrides the scenario's distributions, name by name."""

    count: Count
    params: dict[str, Distribution] = field(default_factory=dict)
    seed: Seed = 0


@dataclass(frozen=True)
class SplitsSchema(Schema):
    test: TestSchema
    train: TrainSchema = field(default_factory=TrainSchema)
    ood: OodSchema | None = None


@dataclass(frozen=True)
class ScenarioSchema(Schema):
    """A task family, the distributions of its parameters, the splits, the budget and the protocol."""

    id: Annotated[Text, AfterValidator(_check_id)]
    doc: Doc
    family: Text
    horizon: Horizon
    params: dict[str, Distribution]
    splits: SplitsSchema
    budget: Budget
    options: dict[str, Any] = field(default_factory=dict)
    protocol: Protocol = field(default_factory=Protocol)

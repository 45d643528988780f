"""Meta-training of an agent in another process: it sees `RemoteTraining`, and `conduct` plays its episodes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import finalize

import torch

from mrl_bench.agent import Act, Tasks, Training
from mrl_bench.errors import BudgetSpent, ContractError, printable
from mrl_bench.protocol.training import require_counts
from mrl_bench.runs.isolation.acting import Acting
from mrl_bench.runs.isolation.channel import Answer, Channel, Request
from mrl_bench.types import Memory, Rollout, State

if TYPE_CHECKING:
    from torch import Tensor

_ERRORS = {error.__name__: error for error in (BudgetSpent, ContractError)}


class RemoteTraining:
    """The harness as the agent sees it; see `mrl_bench.agent.Training`. Environments and budget are on the other side.

    Args:
        channel: to the harness.
        header: of the request: budget, steps, left.
        state: the agent's weights, a safetensors file; the harness asks for them between collections.
    """

    def __init__(self, channel: Channel, header: Mapping[str, Any], state: Callable[[], bytes]) -> None:
        self._channel, self._state = channel, state
        self._header = dict(header)
        self._released: list[int] = []  # meta-batches that the agent has dropped

    @property
    def budget(self) -> int:
        return int(self._header["budget"])

    @property
    def steps(self) -> int:
        return int(self._header["steps"])

    @property
    def left(self) -> int:
        return int(self._header["left"])

    def tasks(self, count: int, episodes: int) -> RemoteTasks:
        require_counts(count, episodes)
        while self._released:
            self._channel.call(Answer.RELEASE, self._released.pop())
        self._channel.call(Answer.TASKS, int(count), int(episodes))
        _, header, _ = self.next_request()
        made = RemoteTasks(self, self._channel, header["number"])
        finalize(made, self._released.append, header["number"])
        return made

    def log(self, values: Mapping[str, float | Tensor]) -> None:
        self._channel.log({tag: float(value) for tag, value in values.items()})

    def next_request(self) -> tuple[Request, dict[str, Any], list[Tensor]]:
        """The next request that is not for weights, which are sent.

        Raises:
            BudgetSpent, ContractError: the harness refuses what the agent asked for.
        """
        while True:
            kind, header, arrays, _ = self._channel.receive()
            if kind == Request.STATE:
                self._channel.reply(self._state())
                continue
            self._header |= {name: header[name] for name in ("steps", "left") if name in header}
            if kind == Request.REFUSE:
                raise _ERRORS[header["error"]](header["text"])
            return kind, header, [torch.from_numpy(array) for array in arrays]


class RemoteTasks:
    """A meta-batch of training tasks; see `mrl_bench.agent.Tasks`."""

    def __init__(self, training: RemoteTraining, channel: Channel, number: int) -> None:
        self._training, self._channel, self._number = training, channel, number

    def collect(
        self, act: Act, state: State, memory: Memory = (), explore: bool = True
    ) -> tuple[Rollout, Memory]:
        acting = Acting()
        self._channel.call(Answer.COLLECT, self._number, bool(explore))
        while True:
            kind, header, arrays = self._training.next_request()
            if kind == Request.ROLLOUT:
                return rollout_of(arrays), acting.memory
            if header["t"] == 0:
                acting.start(memory, arrays)
            self._channel.reply(acting.act(act, state, header, arrays))


def rollout_of(arrays: list[Tensor]) -> Rollout:
    """The rollout whose parts these are, in the order of its fields."""
    return Rollout(**dict(zip([field.name for field in fields(Rollout)], arrays, strict=True)))


def conduct(channel: Channel, training: Training, act: Callable[..., Any], seconds: float) -> None:
    """Serves an agent that has been asked to train, until it has ended.

    Args:
        channel: to its process.
        training: supplies tasks and counts env steps.
        act: chooses actions by asking that process.
        seconds: that the agent may compute between two calls.

    Raises:
        BudgetSpent: the agent's `meta_train` raised it.
        ContractError: it asked for something that does not exist.
        Ended, Failed: see `Channel`.
    """
    made: dict[int, Tasks] = {}
    count = 0
    while True:
        kind, arguments = channel.called(seconds)
        if kind == Answer.OK:
            if arguments[0]:
                raise BudgetSpent("the budget is used up")
            return
        if kind == Answer.LOG:
            training.log({printable(tag): value for tag, value in arguments[0].items()})
        elif kind == Answer.RELEASE:
            made.pop(arguments[0], None)
        elif kind == Answer.TASKS:
            try:
                made[count] = _tasks(training, *arguments)
            except ContractError as error:
                _refuse(channel, training, error)
                continue
            channel.ask(Request.GO, {"number": count, **_counts(training)})
            count += 1
        else:
            _collect(channel, training, made, act, *arguments)


def _tasks(training: Training, count: int, episodes: int) -> Tasks:
    # More instances than steps could not be played, but would fill the memory of the harness.
    if min(count, episodes) > 0 and count * episodes > training.budget:
        raise ContractError(
            f"training.tasks: {count} tasks with {episodes} episodes are more than the budget has steps"
        )
    return training.tasks(count, episodes)


def _collect(
    channel: Channel,
    training: Training,
    made: Mapping[int, Tasks],
    act: Callable[..., Any],
    number: int,
    explore: int,
) -> None:
    if number not in made:
        raise ContractError("the agent collects episodes on tasks that it was not given")
    try:
        rollout, _ = made[number].collect(partial(act, channel), {}, explore=bool(explore))
    except BudgetSpent as error:
        _refuse(channel, training, error)
        return
    parts = [getattr(rollout, part.name).cpu().numpy() for part in fields(Rollout)]
    channel.ask(Request.ROLLOUT, _counts(training), parts)


def _refuse(channel: Channel, training: Training, error: Exception) -> None:
    header = {"error": type(error).__name__, "text": str(error), **_counts(training)}
    channel.ask(Request.REFUSE, header)


def _counts(training: Training) -> dict[str, int]:
    return {"steps": training.steps, "left": training.left}

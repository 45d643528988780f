"""One attempt at a stage of a run: what is asked for, how it ended, and the files that it reads and writes.

All of it is plain data, so that an attempt can be executed on another machine.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from mrl_bench.runs.files import inside, write_atomically
from mrl_bench.runs.run import Run
from mrl_bench.runs.store import Store


@dataclass(frozen=True)
class Attempt:
    """What a worker is asked for."""

    stage: str  # "train", "evaluate" (which trains first) or "record"
    run: dict[str, Any]  # `Run.to_json`
    modules: list[str]
    code: dict[str, Any]  # `Code` as it was when the run was planned
    train: str  # the keys of the run's stages
    key: str  # of "evaluate"
    tensorboard: str  # `Run.tensorboard_name`
    time_limit: float  # seconds
    appends: bool  # whether the log goes on after that of an earlier attempt

    @staticmethod
    def of(run: Run, stage: str, time_limit: float, appends: bool) -> Attempt:
        return Attempt(
            stage=stage,
            run=run.to_json(),
            modules=[*run.modules],
            code=asdict(run.code),
            train=run.key("train"),
            key=run.key("evaluate"),
            tensorboard=run.tensorboard_name,
            time_limit=time_limit,
            appends=appends,
        )

    def to_bytes(self) -> bytes:
        return json.dumps(asdict(self)).encode()

    @staticmethod
    def from_bytes(data: bytes) -> Attempt:
        return Attempt(**json.loads(data))


@dataclass(frozen=True)
class End:
    """How an attempt ended, for the case that it left no result."""

    reason: str
    excused: bool = False  # whether the run is not to blame
    final: bool = False  # whether a second attempt would end in the same way
    blames_store: bool = False  # whether the worker says that the results folder cannot be used

    def to_bytes(self) -> bytes:
        return json.dumps(asdict(self)).encode()

    @staticmethod
    def from_bytes(data: bytes) -> End:
        return End(**json.loads(data))


class Backend(Protocol):
    """Where attempts are executed."""

    @property
    def cores(self) -> int:
        """Attempts that it can execute at a time."""

    def execute(self, attempt: Attempt, store: Store, report: Callable[[bytes], None]) -> End:
        """Executes an attempt; its files are in the results folder when this returns.

        Args:
            report: is called with every line of progress, as `worker` writes them, from any thread.

        Raises:
            MrlBenchError: it was stopped.
        """

    def stop(self) -> None:
        """Ends all attempts, and refuses further ones."""


def read_files(store: Store, attempt: Attempt) -> dict[str, bytes]:
    """The files of the attempt's run in a results folder: path within it -> contents."""
    keys = attempt.train, attempt.key
    paths = [path for key in keys for path in store.folder.glob(f"*/{key}*")]
    paths += inside(store.folder, f"tensorboard/{attempt.tensorboard}").glob("events.*")
    names = {path.relative_to(store.folder).as_posix(): path for path in paths if path.is_file()}
    return {name: path.read_bytes() for name, path in names.items() if _belongs(name, attempt)}


def write_files(store: Store, attempt: Attempt, files: Mapping[str, bytes]) -> None:
    """Makes these the files of the attempt's run in a results folder. Files of other runs are left out.

    A result is written after the files that belong to it, as the worker does.
    """
    for name in read_files(store, attempt).keys() - files.keys():
        inside(store.folder, name).unlink()  # such as scalars of an attempt that was interrupted
    results = [f"results/{attempt.train}.json", f"results/{attempt.key}.json"]
    for name in sorted(
        files, key=lambda name: (name in results, name == results[-1], name.endswith(".json"))
    ):
        if _belongs(name, attempt):
            write_atomically(inside(store.folder, name), files[name])


def _belongs(name: str, attempt: Attempt) -> bool:
    key = f"(?:{attempt.train}|{attempt.key})"
    own = rf"(?:weights|episodes|logs|videos|timings|results)/{key}(?:-still)?\.\w+"
    scalars = rf"tensorboard/{re.escape(attempt.tensorboard)}/events\.[\w.-]+"
    return re.fullmatch(f"{own}|{scalars}", name) is not None

"""The progress of runs: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from threading import Lock
from types import TracebackType
from typing import IO, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, TaskID, TextColumn
from rich.table import Column

from mrl_bench.errors import printable
from mrl_bench.results import Evaluation
from mrl_bench.runs.cost import Cost, TimeLeft, duration
from mrl_bench.runs.run import Run

_HEARTBEAT = 30.0  # seconds between plain lines about one run
# Columns; a narrower terminal gets percentages without bars, on as many lines as they need.
_ROOM_FOR_BARS = 110


def summary(evaluation: Evaluation, splits: Sequence[str] = ("test",)) -> str:
    """An evaluation in one line: the mean return on each split after k adaptation episodes."""
    if evaluation.error:
        return f"FAILED: {printable(evaluation.error)}"
    return "; ".join(
        _returns(evaluation, split, named=len(splits) > 1) for split in splits if split in evaluation.curves
    )


def _returns(evaluation: Evaluation, split: str, named: bool) -> str:
    curve = evaluation.curves[split]
    points = " ".join(f"{value:.1f}" for value in curve.returns.mean((0, 2)))
    failed = int(curve.failed.max(1).sum())  # a return of 0 may mean that no action was finite
    return f"{f'{split} ' if named else ''}return {points} at k = {', '.join(map(str, curve.k))}" + (
        f", {failed} failed episodes" if failed else ""
    )


class _RunClock:
    """What both displays know of the running runs: when each began, and its training return so far."""

    def __init__(self, cost: Cost) -> None:
        self.left = TimeLeft(cost)
        self._begun: dict[str, float] = {}

    def started(self, run: Run) -> None:
        self._begun[run.label] = time.monotonic()

    def seconds(self, run: Run) -> float:
        return time.monotonic() - self._begun[run.label]

    def advanced(self, run: Run, stage: str, done: int, total: int) -> None:
        if stage == "train":
            self.left.advanced(run.label, done / max(total, 1))

    def note(self, run: Run, stage: str, done: int, total: int, mean_return: float | None) -> list[str]:
        """The training return so far, the run's time left and steps per second; nothing outside training."""
        if stage != "train":
            return []
        rate = done / max(self.seconds(run), 1e-9)
        parts = [f"{duration((total - done) / max(rate, 1))} left", f"{rate:,.0f} steps/s"]
        return parts if mean_return is None else [f"return {mean_return:.1f}", *parts]


class PlainProgress:
    """A line when a run starts, when it ends, and every 30 seconds."""

    def __init__(self, cost: Cost, file: IO[str] | None = None) -> None:
        self.total, self.count = cost.runs, 0
        self.file = file
        self.clock = _RunClock(cost)
        self.last: dict[str, float] = {}
        self.lock = Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        pass

    def started(self, run: Run) -> None:
        self.clock.started(run)
        self.last[run.label] = time.monotonic()
        self._line(f"start  {run.label}")

    def advanced(self, run: Run, stage: str, done: int, total: int, mean_return: float | None = None) -> None:
        self.clock.advanced(run, stage, done, total)
        now = time.monotonic()
        if now - self.last[run.label] < _HEARTBEAT:
            return
        self.last[run.label] = now
        facts = self.clock.note(run, stage, done, total, mean_return) + self._total_left()
        self._line(f"       {run.label}: " + ", ".join([f"{stage} {done / max(total, 1):.0%}", *facts]))

    def finished(self, run: Run, evaluation: Evaluation, fresh: bool) -> None:
        took = f" in {self.clock.seconds(run):.0f} s" if fresh else " (finished before)"
        self.clock.left.advanced(run.label, 1.0)
        with self.lock:
            self.count += 1
            count = self.count
        line = f"[{count}/{self.total}]  {run.label}{took}: {summary(evaluation)}"
        unfinished = fresh and count < self.total
        self._line("; ".join([line, *(self._total_left() if unfinished else [])]))

    def unfinished(self, run: Run, reason: str) -> None:
        self.clock.left.advanced(run.label, 1.0)
        self._line(f"       {run.label} is not finished: {printable(reason)}")

    def _total_left(self) -> list[str]:
        left = str(self.clock.left)
        return [left] if left and self.total > 1 else []

    def _line(self, text: str) -> None:
        with self.lock:  # `print` writes a line and its end one after the other
            print(text, file=self.file, flush=True)


class BarProgress:
    """A bar for each running run; finished runs scroll up as lines."""

    def __init__(self, cost: Cost, console: Console) -> None:
        columns: list[ProgressColumn] = [
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.percentage:>3.0f} %"),
            TextColumn("{task.fields[note]}", markup=False),
        ]
        if console.width < _ROOM_FOR_BARS:
            line = "{task.percentage:>3.0f} % {task.description}: {task.fields[note]}"
            columns = [TextColumn(line, markup=False, table_column=Column(overflow="fold"))]
        self.progress = Progress(*columns, console=console)
        self.clock = _RunClock(cost)
        self.all = self.progress.add_task("all runs", total=cost.runs, note="")
        self.bars: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        self.progress.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.progress.stop()

    def started(self, run: Run) -> None:
        self.clock.started(run)
        self.bars[run.label] = self.progress.add_task(run.label, total=run.planned_env_steps, note="starting")

    def advanced(self, run: Run, stage: str, done: int, total: int, mean_return: float | None = None) -> None:
        self.clock.advanced(run, stage, done, total)
        facts = self.clock.note(run, stage, done, total, mean_return) or [stage]
        self.progress.update(self.bars[run.label], completed=done, total=total, note=", ".join(facts))
        self.progress.update(self.all, note=str(self.clock.left))

    def finished(self, run: Run, evaluation: Evaluation, fresh: bool) -> None:
        self.clock.left.advanced(run.label, 1.0)
        if fresh:
            self.progress.remove_task(self.bars.pop(run.label))
        self.progress.console.print(f"{run.label}: {summary(evaluation)}", highlight=False, markup=False)
        self.progress.update(self.all, advance=1, note=str(self.clock.left))

    def unfinished(self, run: Run, reason: str) -> None:
        self.clock.left.advanced(run.label, 1.0)
        self.progress.remove_task(self.bars.pop(run.label))
        text = f"{run.label} is not finished: {printable(reason)}"
        self.progress.console.print(text, highlight=False, markup=False)


def make_progress(cost: Cost, *, errors: bool = False) -> PlainProgress | BarProgress:
    """Bars if the output is a terminal, else lines. It goes to standard output, or to standard error."""
    file = sys.stderr if errors else sys.stdout
    console = Console(file=file)
    return BarProgress(cost, console) if console.is_terminal and file.isatty() else PlainProgress(cost, file)

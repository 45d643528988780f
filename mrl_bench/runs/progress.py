"""How far a bench is: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from threading import Lock
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from mrl_bench.results import Evaluation
from mrl_bench.runs.run import Run

_HEARTBEAT = 30.0  # seconds between plain lines about one run


def summary(evaluation: Evaluation) -> str:
    """One evaluation in a line: the mean return on the test tasks at each scored round."""
    if evaluation.error:
        return f"FAILED: {evaluation.error}"
    curve = evaluation.curves["test"]
    points = [f"{value:.1f}" for value in curve.returns.mean((0, 2))]
    return f"return {' '.join(points)} at k = {', '.join(map(str, curve.k))}"


class PlainProgress:
    """A line when a run starts, ends, and now and then between."""

    def __init__(self, total: int) -> None:
        self.total, self.count = total, 0
        self.begun: dict[str, float] = {}
        self.last: dict[str, float] = {}
        self.lock = Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        pass

    def started(self, run: Run) -> None:
        self.begun[run.label] = self.last[run.label] = time.monotonic()
        self._line(f"start  {run.label}")

    def advanced(self, run: Run, stage: str, done: int, total: int) -> None:
        now = time.monotonic()
        if now - self.last[run.label] < _HEARTBEAT:
            return
        self.last[run.label] = now
        rate = done / (now - self.begun[run.label])
        left = (
            f", {rate:,.0f} steps/s, {(total - done) / max(rate, 1):.0f} s left" if stage == "train" else ""
        )
        self._line(f"       {run.label}: {stage} {done / total:.0%}{left}")

    def finished(self, run: Run, evaluation: Evaluation, fresh: bool) -> None:
        took = f" in {time.monotonic() - self.begun[run.label]:.0f} s" if fresh else " (was there)"
        with self.lock:
            self.count += 1
            count = self.count
        self._line(f"[{count}/{self.total}]  {run.label}{took}: {summary(evaluation)}")

    def _line(self, text: str) -> None:
        with self.lock:  # `print` writes a line and its end one after the other
            print(text, flush=True)


class BarProgress:
    """A bar for each running run, with steps/s and the time left; finished runs scroll up as lines."""

    def __init__(self, total: int, console: Console) -> None:
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.percentage:>3.0f} %"),
            TextColumn("{task.fields[note]}"),
            TimeRemainingColumn(),
            console=console,
        )
        self.all = self.progress.add_task("all runs", total=total, note="")
        self.bars: dict[str, TaskID] = {}
        self.begun: dict[str, float] = {}

    def __enter__(self) -> Self:
        self.progress.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.progress.stop()

    def started(self, run: Run) -> None:
        self.bars[run.label] = self.progress.add_task(run.label, total=run.planned_env_steps, note="starting")
        self.begun[run.label] = time.monotonic()

    def advanced(self, run: Run, stage: str, done: int, total: int) -> None:
        rate = done / (time.monotonic() - self.begun[run.label])
        note = f"{rate:,.0f} steps/s" if stage == "train" else stage
        self.progress.update(self.bars[run.label], completed=done, total=total, note=note)

    def finished(self, run: Run, evaluation: Evaluation, fresh: bool) -> None:
        if fresh:
            self.progress.remove_task(self.bars.pop(run.label))
        self.progress.console.print(f"{run.label}: {summary(evaluation)}", highlight=False, markup=False)
        self.progress.advance(self.all)


def make_progress(total: int) -> PlainProgress | BarProgress:
    """Bars if standard output is a terminal, else lines."""
    console = Console()
    return (
        BarProgress(total, console) if console.is_terminal and sys.stdout.isatty() else PlainProgress(total)
    )

"""What a measurement was taken on, and whether it had the machine to itself."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any


def describe(packages: Iterable[str]) -> dict[str, Any]:
    """Processor, cores, load, and the versions of Python and of those packages (None: not installed)."""
    return {
        "taken": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "load": os.getloadavg()[0],
        "system": platform.platform(),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in packages},
    }


class Bystanders:
    """Measures the cores that others took: other processes, and other guests of the same hardware."""

    def __init__(self) -> None:
        self.busy, self.own, self.total = _ticks()

    def share(self) -> float:
        """The share of all cores' time, 0 to 1, that others took since this was last asked."""
        busy, own, total = _ticks()
        share = (busy - self.busy - (own - self.own)) / max(total - self.total, 1)
        self.busy, self.own, self.total = busy, own, total
        return max(share, 0.0)


def _ticks() -> tuple[float, float, float]:
    """Clock ticks of all cores that were busy, that this process took, and that there were."""
    user, nice, system, idle, iowait, irq, softirq, steal, *_ = map(
        int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
    )
    busy = user + nice + system + irq + softirq + steal
    times = os.times()
    return busy, (times.user + times.system) * os.sysconf("SC_CLK_TCK"), busy + idle + iowait


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None

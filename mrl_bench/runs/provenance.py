"""What a result was produced with: package versions, machine, commit."""

from __future__ import annotations

import os
import platform
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

# Packages that results can depend on; optional ones may be missing.
PACKAGES = ("mrl-bench", "torch", "numpy", "scipy", "mujoco", "gymnasium", "mujoco-warp", "carla")


def package_versions() -> dict[str, str]:
    """Version of each installed package of `PACKAGES`, read without importing it."""
    return dict(_package_versions())


@cache
def _package_versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine() -> str:
    """Processor model, cores and system, in one line."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [
            line.partition(":")[2].strip()
            for line in cpuinfo.read_text().splitlines()
            if "model name" in line
        ]
        model = names[0] if names else model
    return f"{model}, {os.cpu_count()} cores, {platform.system()}"


def git_commit() -> str:
    """Commit of the checkout that this code runs from, with "+" if files were changed; empty outside a checkout."""
    folder = Path(__file__).parent
    # Without optional locks git writes nothing: killed or on a full disk, it would leave a lock in the checkout.
    ask = ["git", "-C", str(folder), "--no-optional-locks", "status", "--porcelain=v2", "--branch", "-uno"]
    try:
        answer = subprocess.run(ask, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    lines = answer.stdout.splitlines()
    commits = [line.split()[2] for line in lines if line.startswith("# branch.oid ")]
    changed = any(not line.startswith("#") for line in lines)
    return f"{commits[0][:12]}{'+' * changed}" if commits else ""

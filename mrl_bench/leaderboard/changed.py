"""What a pull request adds to a leaderboard that is in a git repository."""

from __future__ import annotations

import subprocess
from pathlib import Path

from mrl_bench.errors import UsageError
from mrl_bench.leaderboard.folder import Leaderboard
from mrl_bench.leaderboard.submission import Refused


def added_since(leaderboard: Leaderboard, base: str) -> list[str]:
    """The ids of the submissions that were added since the present branch left another one.

    Args:
        leaderboard: its folder, with the present branch checked out.
        base: the other branch, or any commit.

    Raises:
        Refused: more was changed than submissions were added.
        UsageError: there is no such commit, or the folder is not in a git repository.
    """
    folder = leaderboard.folder
    fork = _git(folder, "merge-base", base, "HEAD").strip()
    before = _git(folder, "show", f"{fork}:./log.jsonl", missing="").encode()
    log = folder / "log.jsonl"
    if not (log.read_bytes() if log.exists() else b"").startswith(before):
        raise Refused("log.jsonl does not go on from the log that was there")
    new = leaderboard.events()[before.count(b"\n") :]
    for event in new:
        if event.event != "add":
            raise Refused(
                f"{event.submission[:12]}: a {event.event} event; a pull request adds submissions, and maintainers "
                "verify and withdraw them"
            )
    added = [event.submission for event in new]
    for path in _git(
        folder, "diff", "--name-only", "--no-renames", "--relative", fork, "HEAD", "."
    ).splitlines():
        parts = Path(path).parts
        if path != "log.jsonl" and not (parts[0] == "submissions" and parts[1] in added):
            raise Refused(f"{path} was changed, which belongs to no submission that was added")
    return added


def _git(folder: Path, *arguments: str, missing: str | None = None) -> str:
    """The output of a git command in a folder; `missing` if it fails."""
    ran = subprocess.run(["git", "-C", folder, *arguments], capture_output=True, text=True, check=False)
    if ran.returncode == 0:
        return ran.stdout
    if missing is not None:
        return missing
    raise UsageError(f"git {arguments[0]} in {folder}: {' '.join(ran.stderr.split())[:200]}")

"""The commit that a result was made with."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from mrl_bench.runs import provenance


def test_the_commit_is_read_without_a_write_to_the_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A git that is killed, or out of disk, while it holds the lock of the index would leave it there."""
    git = ["git", "-C", str(tmp_path), "-c", "user.name=me", "-c", "user.email=me@here"]
    (tmp_path / "code.py").write_text("")
    for command in (["init", "-q"], ["add", "code.py"], ["commit", "-q", "-m", "first"]):
        subprocess.run([*git, *command], check=True)
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "code.py"))
    clean = provenance.git_commit()
    assert re.fullmatch("[0-9a-f]{12}", clean)
    index = tmp_path / ".git" / "index"
    before = index.stat().st_mtime_ns
    (tmp_path / "code.py").touch()
    assert provenance.git_commit() == clean
    assert index.stat().st_mtime_ns == before
    (tmp_path / "code.py").write_text("changed")
    assert provenance.git_commit() == f"{clean}+"
    shutil.rmtree(tmp_path / ".git")
    assert provenance.git_commit() == ""

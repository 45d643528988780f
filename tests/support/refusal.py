"""Shared by the tests of `mrl-bench check`."""

from __future__ import annotations

from types import ModuleType

from mrl_bench.cli.main import main


def refused(classes: ModuleType, name: str, capsys) -> None:
    """Asserts that `check` refuses a class by the promise in `classes.BROKEN`, and says what was found."""
    label = f"{classes.__name__}:{name}"
    assert main(["check", label]) == 1
    out, err = capsys.readouterr()
    assert not out
    assert err.startswith(f"mrl-bench: {label}: {name} breaks ")
    _, _, rest = err.partition(f"\n- {classes.BROKEN[name]}\n    promised: ")
    assert rest, err
    assert rest.splitlines()[1].startswith("    found: ")
    assert "Traceback" not in err
    assert "mrl_bench" not in err  # never a line of the harness

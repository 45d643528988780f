"""A light server and its clients in separate processes, because CARLA's client ends its process on some errors."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from forked_code import execute

needs_carla = pytest.mark.skipif(
    find_spec("carla") is None or find_spec("msgpack") is None,
    reason="the carla extra is not installed: pip install 'mrl-bench[carla]'",
)

# A road of 400 m along x with a lane to the left and two to the right, each 3.5 m wide, and a light at 200 m.
STRAIGHT = """<?xml version="1.0"?>
<OpenDRIVE>
  <header revMajor="1" revMinor="5" name="straight" north="0" south="0" east="0" west="0"/>
  <road id="1" junction="-1" length="400" rule="RHT">
    <planView><geometry s="0" x="0" y="0" hdg="0" length="400"><line/></geometry></planView>
    <lanes><laneSection s="0">
      <left><lane id="1" type="driving"><width sOffset="0" a="3.5" b="0" c="0" d="0"/>
        <roadMark sOffset="0" type="solid" width="0.2"/></lane></left>
      <center><lane id="0" type="none"><roadMark sOffset="0" type="solid" width="0.2"/></lane></center>
      <right>
        <lane id="-1" type="driving"><width sOffset="0" a="3.5" b="0" c="0" d="0"/>
          <roadMark sOffset="0" type="broken" width="0.2"/></lane>
        <lane id="-2" type="driving"><width sOffset="0" a="3.5" b="0" c="0" d="0"/>
          <roadMark sOffset="0" type="solid" width="0.2"/></lane>
      </right>
    </laneSection></lanes>
    <signals><signal id="7" name="light" s="200" t="-8" zOffset="4" hOffset="0" roll="0" pitch="0" type="1000001"
      subtype="-1" dynamic="yes" orientation="+" country="OpenDRIVE"/></signals>
  </road>
</OpenDRIVE>
"""

# Now and then CARLA's client aborts in its own threads, as they end or as one closes a socket that another has closed.
# No Python code can catch that. It happens to one process in hundreds, under load; twice in a row is a failure.
CLIENT_ABORTS = ("terminate called without an active exception", "close: Bad file descriptor")


@contextmanager
def light_server(folder: Path, **towns: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A server with the map `STRAIGHT`, and with other maps by their names: its process, and its port."""
    maps = []
    for name, xodr in {"straight": STRAIGHT, **towns}.items():
        maps.append(folder / f"{name}.xodr")
        maps[-1].write_text(xodr)
    command = [sys.executable, "-m", "mrl_bench", "carla-serve", *map(str, maps), "--port", "0"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=_environment()
    ) as server:
        try:
            assert server.stdout is not None
            line = server.stdout.readline()
            assert "127.0.0.1:" in line, "the server did not start"
            yield server, int(line.partition("127.0.0.1:")[2].partition(",")[0])
        finally:
            server.kill()


def run_in_another_process(
    module: str, function: str, *arguments: Any, timeout: float = 100, before: Sequence[str] = ()
) -> Any:
    """What a function of a module of the tests returns. `before`: the command's beginning, as ("unshare", "-n").

    Raises:
        AssertionError: it failed; TimeoutExpired: it hangs.
    """
    code = f"import json, {module} as m; print('>', json.dumps(m.{function}(*{arguments!r})), flush=True)"
    for _ in range(2):
        if before or module != "carla_drives":  # which alone imports torch
            command = [*before, sys.executable, "-c", code]
            run = subprocess.run(command, capture_output=True, text=True, timeout=timeout, env=_environment())
        else:
            run = execute(code, timeout)
        found = [line[2:] for line in run.stdout.splitlines() if line.startswith("> ")]
        if found or not any(words in run.stderr for words in CLIENT_ABORTS):
            break  # else again: each attempt loads the world again
    assert found, f"{function} ended with {run.returncode}: {run.stderr[-2000:]}"
    return json.loads(found[-1])


def _environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": "1"}

"""Worker processes are forked from one that has imported torch."""

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from forked_code import execute

from mrl_bench.errors import MrlBenchError
from mrl_bench.runs import fork_server
from mrl_bench.runs.fork_server import Worker


def test_a_forked_process_has_what_a_new_one_would_have(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("OF_THE_ONE_THAT_ASKS", "yes")
    monkeypatch.chdir(tmp_path)
    code = (
        "import os, sys; print(os.environ['OF_THE_ONE_THAT_ASKS'], os.getcwd(), os.getpgid(0) == os.getpid())"
    )
    assert execute(code).stdout.split() == ["yes", str(tmp_path), "True"]
    assert execute("import sys; print(sys.path)").stdout.strip() == str(
        [p or str(tmp_path) for p in sys.path]
    )


def test_it_has_imported_torch_and_no_agent_or_family() -> None:
    loaded = execute("import sys; print(*sys.modules)").stdout.split()
    assert "torch" in loaded
    assert not [name for name in loaded if name.startswith(("mrl_agents", "mrl_tasks"))]


def test_text_hashes_alike_in_every_worker() -> None:
    new = [sys.executable, "-c", "print(hash('x'))"]
    env = os.environ | {"PYTHONHASHSEED": "0"}
    assert execute("print(hash('x'))").stdout == subprocess.check_output(new, env=env, text=True)


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("pass", 0),
        ("raise SystemExit(7)", 7),
        ("raise SystemExit('why')", 1),
        ("1 / 0", 1),
        ("import os; os._exit(9)", 9),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", -9),
    ],
)
def test_how_a_process_ended_is_told(code: str, status: int) -> None:
    assert execute(code).returncode == status


def test_output_is_in_the_order_in_which_it_was_written_and_handlers_run_at_exit() -> None:
    lines = (
        "import atexit, os, sys",
        "os.dup2(1, 2)",
        "atexit.register(print, 'bye')",
        "print('one')",
        "print('two', file=sys.stderr)",
        "print('three')",
    )
    assert execute("\n".join(lines)).stdout.split() == ["one", "two", "three", "bye"]


def test_requests_at_the_same_time_do_not_swallow_each_other() -> None:
    with ThreadPoolExecutor(24) as pool:
        answers = list(pool.map(lambda number: execute(f"print({number})").stdout, range(48)))
    assert answers == [f"{number}\n" for number in range(48)]


def test_after_the_process_that_forks_was_killed_there_is_another() -> None:
    assert execute("print(1)").stdout == "1\n"
    killed = fork_server._server().process
    killed.kill()
    killed.wait()
    assert execute("print(2)").stdout == "2\n"
    assert fork_server._server().process.pid != killed.pid


def test_a_worker_whose_end_nobody_saw_counts_as_killed() -> None:
    process = Worker("import time; time.sleep(60)")
    process.stdin.close()
    waiting = int(Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(waiting, signal.SIGKILL)
    assert process.wait(10) == -signal.SIGKILL
    os.killpg(process.pid, signal.SIGKILL)
    process.stdout.close()
    process.stderr.close()


def test_no_worker_without_the_process_that_forks(monkeypatch) -> None:
    server = fork_server._server()
    monkeypatch.setattr(server, "fork", lambda *_: None)
    with pytest.raises(MrlBenchError, match="the process that starts workers has ended"):
        Worker()


def test_a_worker_that_does_not_end_in_time() -> None:
    with pytest.raises(subprocess.TimeoutExpired):
        execute("import time; time.sleep(60)", timeout=0.2)

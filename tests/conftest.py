"""What holds for all tests."""

import sys
from collections.abc import Iterator
from types import ModuleType

import pytest
import torch
from browser import Browser, chromium, find_browser
from forked_code import execute_lines
from no_pickle import refuse_unpickling

from mrl_bench.checks import new_process
from mrl_bench.runs.code import code_of

# As in a worker: on small tensors threads wait for each other more than they compute.
torch.set_num_threads(1)

refuse_unpickling()  # here and, by sitecustomize.py, in all processes that tests start


# Modules that no test wrote: there are thousands, and to look at all of them after each test takes long.
_KEPT: dict[str, ModuleType] = {}


@pytest.fixture(autouse=True)
def _imports_of_one_test(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Forgets the folders and modules in which a test wrote its own agents and families."""
    path, folder = sys.path.copy(), f"{tmp_path_factory.getbasetemp()}/"
    yield
    sys.path[:] = path
    code_of.cache_clear()
    for name, module in list(sys.modules.items()):
        if _KEPT.get(name) is module:
            continue
        file = getattr(module, "__file__", None)
        if file and str(file).startswith(folder):
            del sys.modules[name]
        else:
            _KEPT[name] = module


@pytest.fixture
def forked_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a check plays in a new process is played in a forked one."""
    monkeypatch.setattr(new_process, "execute", execute_lines)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    program = find_browser()
    if program is None:
        pytest.skip("there is no Chromium")
    with chromium(program) as running:
        yield running


@pytest.fixture
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """They take seconds, and have tests of their own."""
    monkeypatch.setattr("mrl_bench.report.figures.write_figures", lambda *_: None)

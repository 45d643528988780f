"""What holds for all tests."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from mrl_bench.runs.code import code_of

# As in a worker: on small tensors threads wait for each other more than they compute.
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _imports_of_one_test(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Forgets the folders and modules in which a test wrote its own agents and families."""
    path, folder = sys.path.copy(), tmp_path_factory.getbasetemp()
    yield
    sys.path[:] = path
    code_of.cache_clear()
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if file and Path(file).is_relative_to(folder):
            del sys.modules[name]

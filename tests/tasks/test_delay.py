"""The delay line, for arrays of numpy and tensors of torch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from mrl_tasks.delay import DelayLine

every_array = pytest.mark.parametrize("array", [np.array, torch.tensor], ids=["numpy", "torch"])


def arriving(line: DelayLine, commands: Any) -> list[Any]:
    return [line.send(command).tolist() for command in commands]


@every_array
def test_each_row_has_its_own_delay(array: Any) -> None:
    line = DelayLine(np.array([0.0, 2.0, 1.0]), array(np.zeros((3, 1))))
    commands = array(np.arange(1.0, 6.0).repeat(3).reshape(5, 3, 1))
    expected = [[1, 0, 0], [2, 0, 1], [3, 1, 2], [4, 2, 3], [5, 3, 4]]
    assert arriving(line, commands) == [[[value] for value in row] for row in expected]


@every_array
def test_a_reset_drops_the_commands_that_have_not_arrived(array: Any) -> None:
    line = DelayLine(np.array([3]), array(np.zeros(1)))
    first = arriving(line, array(np.ones((2, 1))))
    line.reset()
    assert first == [[0], [0]]
    assert arriving(line, array(np.full((4, 1), 2.0))) == [[0], [0], [0], [2]]


@every_array
def test_what_arrives_shares_no_memory_with_the_line(array: Any) -> None:
    line = DelayLine(np.array([1]), array(np.zeros(1)))
    command = array(np.ones(1))
    line.send(command)[:] = 7.0
    command[:] = 7.0
    assert line.send(command).tolist() == [1.0]

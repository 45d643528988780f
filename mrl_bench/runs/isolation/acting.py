"""How an agent acts in its own process: the episodes' memory and noise stay there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from mrl_bench.agent import Act
from mrl_bench.protocol.promises import CheckedAct, keep_ended, require_memory
from mrl_bench.types import Memory, State, TimeStep


class Acting:
    """The running episodes, as `mrl_bench.protocol.rollout.play` has them."""

    def __init__(self) -> None:
        self.memory: Memory = ()
        self._remembers = False
        self._rng = torch.Generator()

    def start(self, memory: Memory, arrays: Sequence[Tensor]) -> None:
        """New episodes begin with this memory, and the generator that comes with the first step's arrays."""
        self.memory = require_memory(memory, *arrays[0].shape[:2])
        self._remembers = bool(tree_leaves(memory))
        self._rng.set_state(arrays[4])

    @torch.no_grad()
    def act(
        self, act: Act, state: State, header: Mapping[str, Any], arrays: Sequence[Tensor]
    ) -> NDArray[np.float32]:
        """The actions (B, E, A) in one step; see `Request.ACT`."""
        obs, previous, reward, alive = arrays[:4]
        before = tree_map(torch.clone, self.memory) if self._remembers else self.memory
        step = TimeStep(obs, previous, reward, alive, header["t"])
        shape = (previous.shape[0], previous.shape[1], previous.shape[2])
        alive = alive > 0  # a copy, before the agent can write into it
        action, after = CheckedAct(act, shape, strict=False)(
            state, before, step, header["explore"], self._rng
        )
        if self._remembers or after is not self.memory:
            self.memory = keep_ended(alive, self.memory, after)
        numbers: NDArray[np.float32] = action.to(torch.float32).numpy()
        return numbers

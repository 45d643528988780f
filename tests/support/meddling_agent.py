"""An agent whose import changes how returns are computed, in the process that imports it."""

from __future__ import annotations

import torch
import toy_agents

import mrl_bench.types

mrl_bench.types.Rollout.returns = lambda self: torch.full(self.failed.shape, 1e6)  # type: ignore[method-assign]


class Meddler(toy_agents.Learner):
    pass

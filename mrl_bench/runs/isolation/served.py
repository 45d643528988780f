"""An agent behind a Unix socket: `mrl-bench serve-agent` serves one, and so may a program in another language."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any
from weakref import finalize

import torch

from mrl_bench.errors import ContractError
from mrl_bench.runs.isolation.channel import Channel
from mrl_bench.runs.isolation.remote import Patience, RemoteAgent, Session
from mrl_bench.types import EnvSpec


class ServedAgent(RemoteAgent):
    """Talks to the agent on the socket; its process is whatever listens there."""

    @dataclass(frozen=True)
    class Config:
        socket: str = "agent.sock"  # path of the Unix socket
        version: str = ""  # of the agent behind it; results of another version are not used
        settings: Mapping[str, Any] = field(default_factory=dict)  # its hyperparameters

    def __init__(self, spec: EnvSpec, config: Config, seed: int, device: torch.device) -> None:
        end = socket.socket(socket.AF_UNIX)
        try:
            end.connect(config.socket)
        except OSError as error:
            end.close()
            raise ContractError(f"no agent is served on {config.socket}: {error.strerror}") from None
        session = Session(Channel(end), Patience())
        finalize(self, session.close)
        super().__init__(session)
        self.make({"settings": dict(config.settings), "spec": asdict(spec), "seed": seed})

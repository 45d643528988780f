"""RPC connections: msgpack-rpc requests and their responses."""

from __future__ import annotations

import asyncio
import sys
import traceback
from collections.abc import Callable
from functools import cache
from typing import Any

from mrl_tasks.carla_light import protocol
from mrl_tasks.carla_light.errors import Refused
from mrl_tasks.carla_light.streaming import without_delay

_REQUEST, _RESPONSE = 0, 1

# How the names of calls begin that give an answer; the others give none. The client reads the two kinds of response
# differently, so this matters even where all we say is that a call is not served.
_ANSWERING = (
    *(
        "add_traffic_",
        "apply_batch",
        "cast_",
        "destroy_",
        "get_",
        "is_",
        "project_",
        "query_",
        "replay_",
        "request_",
    ),
    *("set_episode_", "show_recorder_", "spawn_", "start_recorder", "tick_cue", "version"),
)


def gives_answer(name: str) -> bool:
    """Whether a call's response is a `Response<T>` rather than a `Response<void>`."""
    return name.startswith(_ANSWERING)


class Connection(asyncio.Protocol):
    """A client's connection. `calls` is the object whose public methods are the RPC calls."""

    def __init__(self, calls: object) -> None:
        self._calls = calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._unpacker = protocol.unpacker()
        without_delay(transport)

    def data_received(self, data: bytes) -> None:
        try:
            self._unpacker.feed(data)
            for kind, number, name, arguments in self._unpacker:
                if kind != _REQUEST:
                    raise ValueError(f"message of kind {kind}")
                response = respond(self._calls, name, arguments[1:])  # the first one is metadata
                self._transport.write(protocol.pack([_RESPONSE, number, None, response]))
        except (ValueError, TypeError) as error:
            print(f"light server: not msgpack-rpc, so the connection is closed: {error}", file=sys.stderr)
            self._transport.abort()


@cache
def _not_served(name: str) -> str:
    """Prints a refusal once, because the client does not wait for the response of every call."""
    message = f"light server: {name} is not served; see docs/carla.md for what is"
    print(message, file=sys.stderr)
    return message


def respond(calls: object, name: str, arguments: list[Any]) -> Any:
    """The response to one call: an answer, or a refusal that says why in one line."""
    answers = gives_answer(name)
    handler: Callable[..., Any] | None = None if name.startswith("_") else getattr(calls, name, None)
    if handler is None:
        return protocol.refusal(_not_served(name), answers)
    try:
        value = handler(*arguments)
    except Refused as error:
        return protocol.refusal(str(error), answers)
    except Exception as error:  # no request may stop the server
        traceback.print_exc()
        return protocol.refusal(f"light server: {name}: {type(error).__name__}: {error}", answers)
    if name == "apply_batch":
        return value  # a list with a response for each of its commands
    return protocol.answer(value) if answers else protocol.done()

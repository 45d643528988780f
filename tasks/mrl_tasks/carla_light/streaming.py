"""Streams: messages that the server pushes to subscribed clients."""

from __future__ import annotations

import asyncio
import socket
import struct

_LENGTH = struct.Struct("<I")
_STREAM = struct.Struct("<I")  # a client's only message: the stream that it subscribes to


class Streams:
    """The subscribers of each stream."""

    def __init__(self) -> None:
        self._listeners: dict[int, set[asyncio.Transport]] = {}
        self._kept: dict[int, bytes] = {}

    def send(self, stream: int, *parts: bytes, keep: bool = False) -> None:
        """Sends a message to a stream's subscribers; with `keep`, also to those that join before the next message."""
        message = b"".join((_LENGTH.pack(sum(map(len, parts))), *parts))
        if keep:
            self._kept[stream] = message
        for transport in self._listeners.get(stream, ()):
            transport.write(message)

    def join(self, stream: int, transport: asyncio.Transport) -> None:
        self._listeners.setdefault(stream, set()).add(transport)
        if stream in self._kept:
            transport.write(self._kept[stream])

    def leave(self, transport: asyncio.Transport) -> None:
        for listeners in self._listeners.values():
            listeners.discard(transport)


class StreamConnection(asyncio.Protocol):
    """A subscriber's connection."""

    def __init__(self, streams: Streams) -> None:
        self._streams = streams
        self._received = b""
        self._joined = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        without_delay(transport)

    def data_received(self, data: bytes) -> None:
        self._received += data
        if not self._joined and len(self._received) >= _STREAM.size:
            self._joined = True
            self._streams.join(_STREAM.unpack_from(self._received)[0], self._transport)

    def connection_lost(self, error: Exception | None) -> None:
        self._streams.leave(self._transport)


def without_delay(transport: asyncio.Transport) -> None:
    """Sends small messages at once (no Nagle), because a client waits for each."""
    transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

"""Messages over a socket. What the agent's process answers is numbers of a size that is known before.

    request   kind (1 byte), length of the header (4 bytes), header (JSON), arrays (raw, as the header says)
    answer    OK (1 byte) and one byte, or ARRAY and as many float32 as were asked for, or ERROR and a short text

The header of a request is written by the harness and read by the agent's process, never the other way round.
"""

from __future__ import annotations

import json
import socket
import struct
import time
from collections.abc import Mapping, Sequence
from enum import IntEnum
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

MAX_ERROR = 500  # bytes
_HEAD = struct.Struct("<BI")


class Request(IntEnum):
    SPLIT = 0  # fork, and go on in the fork on the socket that comes with this message
    MAKE = 1  # make the agent
    LOAD = 2  # load its weights
    BEGIN = 3  # initial_state
    ACT = 4  # start_episode where t is 0, and act
    ADAPT = 5


class Answer(IntEnum):
    OK = 0
    ARRAY = 1
    ERROR = 2


class Ended(Exception):
    """The other side is gone, or did not answer in time. The message says which."""


class Failed(Exception):
    """The other side reports an error, in one line."""


class Channel:
    """One end of a socket pair."""

    def __init__(self, end: socket.socket) -> None:
        self._socket = end

    def close(self) -> None:
        self._socket.close()

    # -- the harness ----------------------------------------------------------------------------------------------

    def ask(
        self, kind: Request, header: Mapping[str, Any], arrays: Sequence[NDArray[Any]] = (), fd: int = -1
    ) -> None:
        """Sends a request. Raises: Ended."""
        shapes = [[array.dtype.str, list(array.shape)] for array in arrays]
        text = json.dumps({**header, "arrays": shapes}).encode()
        try:
            head = _HEAD.pack(kind, len(text))
            if fd >= 0:
                socket.send_fds(self._socket, [head], [fd])
            else:
                self._socket.sendall(head)
            self._socket.sendall(
                b"".join([text, *(np.ascontiguousarray(array).tobytes() for array in arrays)])
            )
        except OSError:
            raise Ended("the agent's process has ended") from None

    def answered(self, seconds: float) -> int:
        """The byte of an OK. Raises: Ended, Failed."""
        deadline = time.monotonic() + seconds
        self._kind(Answer.OK, deadline)
        return self._exactly(1, deadline)[0]

    def answered_array(self, shape: tuple[int, ...], seconds: float) -> NDArray[np.float32]:
        """float32 of this shape. Raises: Ended, Failed."""
        deadline = time.monotonic() + seconds
        self._kind(Answer.ARRAY, deadline)
        return np.frombuffer(self._exactly(4 * prod(shape), deadline), np.float32).reshape(shape).copy()

    def _kind(self, expected: Answer, deadline: float) -> None:
        found = self._exactly(1, deadline)[0]
        if found == Answer.ERROR:
            (length,) = struct.unpack("<H", self._exactly(2, deadline))
            raise Failed(self._exactly(min(length, MAX_ERROR), deadline).decode(errors="replace"))
        if found != expected:
            raise Ended("the agent's process gave an answer that was not asked for")

    def _exactly(self, count: int, deadline: float) -> bytes:
        try:
            return self._all(count, deadline)
        except TimeoutError:
            raise Ended("the agent did not answer in time") from None
        except (EOFError, OSError):
            raise Ended("the agent's process has ended") from None

    # -- the agent's process --------------------------------------------------------------------------------------

    def receive(self) -> tuple[Request, dict[str, Any], list[NDArray[Any]], int]:
        """The next request: kind, header, arrays, and a file descriptor or -1. Raises: EOFError."""
        head, fds, _, _ = socket.recv_fds(self._socket, _HEAD.size, 1)
        while 0 < len(head) < _HEAD.size:
            head += self._socket.recv(_HEAD.size - len(head)) or b""
        if len(head) < _HEAD.size:
            raise EOFError
        kind, length = _HEAD.unpack(head)
        header: dict[str, Any] = json.loads(self._all(length))
        arrays = [
            np.frombuffer(bytearray(self._all(np.dtype(dtype).itemsize * prod(shape))), dtype).reshape(shape)
            for dtype, shape in header.pop("arrays")
        ]
        return Request(kind), header, arrays, fds[0] if fds else -1

    def _all(self, count: int, deadline: float | None = None) -> bytes:
        data = bytearray(count)
        view, done = memoryview(data), 0
        while done < count:
            if deadline is not None:
                self._socket.settimeout(max(deadline - time.monotonic(), 1e-3))
            got = self._socket.recv_into(view[done:])
            if not got:
                raise EOFError
            done += got
        return bytes(data)

    def reply(self, found: NDArray[np.float32] | int | str) -> None:
        """Answers with numbers, with the byte of an OK, or with an error. Raises: OSError."""
        if isinstance(found, str):
            data = " ".join(found.split()).encode(errors="replace")[:MAX_ERROR]
            self._socket.sendall(bytes([Answer.ERROR]) + struct.pack("<H", len(data)) + data)
        elif isinstance(found, int):
            self._socket.sendall(bytes([Answer.OK, found]))
        else:
            self._socket.sendall(bytes([Answer.ARRAY]) + np.ascontiguousarray(found, np.float32).tobytes())

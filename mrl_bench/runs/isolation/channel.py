"""Messages over a Unix socket between the harness and an agent's process.

    request   kind (1 byte), length of the header (4 bytes), length of the arrays (8 bytes), header (JSON), arrays
    answer    kind (1 byte), and what `Answer` says of it

All numbers are little-endian. The harness writes the headers and the agent's process reads them, never the other way
round: what an answer holds has a size that is known before or is bounded, and none of it is executed.
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

MAX_TEXT = 500  # bytes of an error
MAX_BYTES = 2**28  # of weights
MAX_TAG, MAX_SCALARS = 200, 1000  # bytes of a logged scalar's tag; scalars in one message
_HEAD = struct.Struct("<BIQ")


class Request(IntEnum):
    """What the harness asks. Arrays have the axes of `mrl_bench.types`; a generator is torch's state, uint8."""

    # A copy of this process serves the socket that comes with the message; no answer. Header: forks_agents, if the copy
    # is to be one that forks agents' processes, too.
    SPLIT = 0
    MAKE = 1  # header: target, spec, settings, seed, path, core; answer: OK, 1 if the agent is sequential
    LOAD = 2  # array: a safetensors file, uint8; answer: OK
    BEGIN = 3  # `initial_state`; header: tasks; answer: OK
    # `act`, where t is 0 also `start_episode`; header: t, explore; arrays: obs, action, reward, alive, and where t is 0
    # the generator; answer: ARRAY, the actions (B, E, A)
    ACT = 4
    ADAPT = 5  # `adapt`; arrays: the rollout's, and the generator; answer: OK
    DESCRIBE = 6  # header: target, settings, path; answer: BYTES, all settings of the agent as JSON
    TRAIN = 7  # `meta_train`; header: budget, steps, left; answers: TASKS, COLLECT, LOG and RELEASE until OK
    STATE = 8  # `state_dict`, also while the agent waits for GO; answer: BYTES, a safetensors file
    GO = 9  # to TASKS; header: number of the meta-batch, steps, left
    ROLLOUT = 10  # to COLLECT, after its ACTs; header: steps, left; arrays: the rollout's
    REFUSE = 11  # to TASKS or COLLECT; header: error ("BudgetSpent" or "ContractError"), text, steps, left


class Answer(IntEnum):
    """What the agent's process answers."""

    OK = 0  # one byte
    ARRAY = 1  # as many float32 as were asked for
    ERROR = 2  # length (2 bytes), text
    BYTES = 3  # length (8 bytes), bytes
    TASKS = 4  # `training.tasks`: count, episodes (8 bytes each)
    COLLECT = 5  # `tasks.collect`: number of the meta-batch (8 bytes), explore (1 byte)
    LOG = 6  # how many (2 bytes), then for each: length of the tag (2 bytes), tag, value (float64)
    RELEASE = 7  # a meta-batch is not used any more: its number (8 bytes)


FORMATS = {
    Answer.TASKS: struct.Struct("<qq"),
    Answer.COLLECT: struct.Struct("<qB"),
    Answer.RELEASE: struct.Struct("<q"),
}
_ALIGNED = 8  # bytes: headers are padded with spaces
_PIECE = 2**16  # bytes that are read at once
_SHORT, _LONG, _DOUBLE = struct.Struct("<H"), struct.Struct("<Q"), struct.Struct("<d")


class Ended(Exception):
    """The other side is gone, or did not answer in time. The message says which."""


class Failed(Exception):
    """The other side reports an error, in one line."""


class Channel:
    """One end of a Unix socket."""

    def __init__(self, end: socket.socket) -> None:
        self._socket = end
        self._read = b""  # by the harness, of answers that it has not used yet

    def close(self) -> None:
        self._socket.close()

    # -- the harness ----------------------------------------------------------------------------------------------

    def ask(
        self, kind: Request, header: Mapping[str, Any], arrays: Sequence[NDArray[Any]] = (), fd: int = -1
    ) -> None:
        """Sends a request. Raises: Ended."""
        shapes = [[array.dtype.str, list(array.shape)] for array in arrays]
        text = json.dumps({**header, "arrays": shapes}).encode()
        text += b" " * (-len(text) % _ALIGNED)
        data = b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)
        head = _HEAD.pack(kind, len(text), len(data))
        try:
            if fd >= 0:
                socket.send_fds(self._socket, [head], [fd])
                head = b""
            self._socket.sendall(head + text + data)
        except OSError:
            raise Ended("the agent's process has ended") from None

    def answered(self, seconds: float) -> int:
        """The byte of an OK. Raises: Ended, Failed."""
        deadline = time.monotonic() + seconds
        self._expect(Answer.OK, deadline)
        return self._exactly(1, deadline)[0]

    def answered_array(self, shape: tuple[int, ...], seconds: float) -> NDArray[np.float32]:
        """float32 of this shape. Raises: Ended, Failed."""
        deadline = time.monotonic() + seconds
        self._expect(Answer.ARRAY, deadline)
        return np.frombuffer(self._exactly(4 * prod(shape), deadline), np.float32).reshape(shape).copy()

    def answered_bytes(self, most: int, seconds: float) -> bytes:
        """At most so many bytes. Raises: Ended, Failed."""
        deadline = time.monotonic() + seconds
        self._expect(Answer.BYTES, deadline)
        (length,) = _LONG.unpack(self._exactly(_LONG.size, deadline))
        if length > most:
            raise Ended(f"the agent's process answered with {length:,} bytes, more than {most:,}")
        return self._exactly(length, deadline)

    def called(self, seconds: float) -> tuple[Answer, tuple[Any, ...]]:
        """The next call of an agent that trains, and its arguments; at the end OK and its byte.

        Raises: Ended, Failed.
        """
        deadline = time.monotonic() + seconds
        kind = self._kind(deadline)
        if kind == Answer.OK:
            return kind, (self._exactly(1, deadline)[0],)
        if kind == Answer.LOG:
            return kind, (self._scalars(deadline),)
        if kind not in FORMATS:
            raise Ended(_UNASKED)
        return kind, FORMATS[kind].unpack(self._exactly(FORMATS[kind].size, deadline))

    def _scalars(self, deadline: float) -> dict[str, float]:
        (count,) = _SHORT.unpack(self._exactly(_SHORT.size, deadline))
        found = {}
        for _ in range(min(count, MAX_SCALARS)):
            (length,) = _SHORT.unpack(self._exactly(_SHORT.size, deadline))
            tag = self._exactly(min(length, MAX_TAG), deadline).decode(errors="replace")
            (found[tag],) = _DOUBLE.unpack(self._exactly(_DOUBLE.size, deadline))
        return found

    def _expect(self, expected: Answer, deadline: float) -> None:
        if self._kind(deadline) != expected:
            raise Ended(_UNASKED)

    def _kind(self, deadline: float) -> Answer:
        found = self._exactly(1, deadline)[0]
        if found == Answer.ERROR:
            (length,) = _SHORT.unpack(self._exactly(_SHORT.size, deadline))
            raise Failed(self._exactly(min(length, MAX_TEXT), deadline).decode(errors="replace"))
        try:
            return Answer(found)
        except ValueError:
            raise Ended(_UNASKED) from None

    def _exactly(self, count: int, deadline: float) -> bytes:
        pieces, have = [self._read], len(self._read)
        try:
            while have < count:
                self._socket.settimeout(max(deadline - time.monotonic(), 1e-3))
                pieces.append(self._socket.recv(max(count - have, _PIECE)))
                if not pieces[-1]:
                    raise Ended("the agent's process has ended")
                have += len(pieces[-1])
        except TimeoutError:
            raise Ended("the agent did not answer in time") from None
        except OSError:
            raise Ended("the agent's process has ended") from None
        data = b"".join(pieces)
        self._read = data[count:]
        return data[:count]

    # -- the agent's process --------------------------------------------------------------------------------------

    def receive(self) -> tuple[Request, dict[str, Any], list[NDArray[Any]], int]:
        """The next request: kind, header, arrays, and a file descriptor or -1. Raises: EOFError."""
        head, fds, _, _ = socket.recv_fds(self._socket, _HEAD.size, 1)
        while 0 < len(head) < _HEAD.size:
            head += self._socket.recv(_HEAD.size - len(head)) or b""
        if len(head) < _HEAD.size:
            raise EOFError
        kind, length, rest = _HEAD.unpack(head)
        body = bytearray(length + rest)
        view, done = memoryview(body), 0
        while done < len(body):
            got = self._socket.recv_into(view[done:])
            if not got:
                raise EOFError
            done += got
        header: dict[str, Any] = json.loads(body[:length])
        arrays, start = list[NDArray[Any]](), length
        for dtype, shape in header.pop("arrays"):
            array = np.frombuffer(body, dtype, prod(shape), start).reshape(shape)
            arrays.append(array if array.flags.aligned else array.copy())
            start += array.nbytes
        return Request(kind), header, arrays, fds[0] if fds else -1

    def reply(self, found: NDArray[np.float32] | int | bytes | str) -> None:
        """Answers with numbers, with the byte of an OK, with bytes, or with an error. Raises: OSError."""
        if isinstance(found, str):
            data = " ".join(found.split()).encode(errors="replace")[:MAX_TEXT]
            self._answer(Answer.ERROR, _SHORT.pack(len(data)) + data)
        elif isinstance(found, int):
            self._answer(Answer.OK, bytes([found]))
        elif isinstance(found, bytes):
            self._answer(Answer.BYTES, _LONG.pack(len(found)) + found)
        else:
            self._answer(Answer.ARRAY, np.ascontiguousarray(found, np.float32).tobytes())

    def call(self, kind: Answer, *arguments: int) -> None:
        """Calls the harness from within `meta_train`. Raises: OSError."""
        self._answer(kind, FORMATS[kind].pack(*arguments))

    def log(self, values: Mapping[str, float]) -> None:
        """Logs scalars from within `meta_train`. Raises: OSError."""
        entries = [(tag.encode(errors="replace")[:MAX_TAG], value) for tag, value in values.items()][
            :MAX_SCALARS
        ]
        data = b"".join(_SHORT.pack(len(tag)) + tag + _DOUBLE.pack(value) for tag, value in entries)
        self._answer(Answer.LOG, _SHORT.pack(len(entries)) + data)

    def _answer(self, kind: Answer, data: bytes) -> None:
        self._socket.sendall(bytes([kind]) + data)


_UNASKED = "the agent's process gave an answer that was not asked for"

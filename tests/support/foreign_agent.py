"""Serves an agent on a Unix socket without mrl-bench, torch or numpy, from what docs/extending.md says of the messages.

`python foreign_agent.py SOCKET`. It pushes as hard as the mean action of its training and adaptation was, plus 0.1.
"""

from __future__ import annotations

import array
import contextlib
import json
import os
import socket
import struct
import sys
from math import prod

SPLIT, MAKE, LOAD, BEGIN, ACT, ADAPT, DESCRIBE, TRAIN, STATE, GO, ROLLOUT, REFUSE = range(12)
OK, ARRAY, ERROR, BYTES, TASKS, COLLECT, LOG, RELEASE = range(8)


def exactly(end: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = end.recv(count - len(data))
        if not more:
            sys.exit()
        data += more
    return data


def receive(end: socket.socket):
    head, fds, _, _ = socket.recv_fds(end, 13, 1)
    if not head:
        sys.exit()
    kind, length, _ = struct.unpack("<BIQ", head + exactly(end, 13 - len(head)))
    header = json.loads(exactly(end, length))
    sizes = [(int(dtype[2:]) * prod(shape), shape) for dtype, shape in header["arrays"]]
    return kind, header, [(exactly(end, size), shape) for size, shape in sizes], fds


def floats(part) -> array.array:
    return array.array("f", part[0])


def mean(part) -> float:
    values = floats(part)
    return sum(values) / max(len(values), 1)


def safetensors(push: float) -> bytes:
    header = json.dumps({"push": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    return struct.pack("<Q", len(header)) + header + struct.pack("<f", push)


def serve(end: socket.socket) -> None:
    weight, pushes = 0.0, []
    while True:
        kind, header, arrays, fds = receive(end)
        if kind == SPLIT:
            if os.fork():
                os.close(fds[0])
            else:
                end.close()
                end = socket.socket(fileno=fds[0])
        elif kind == MAKE:
            end.sendall(bytes([OK, 0]))
        elif kind == LOAD:
            (weight,) = struct.unpack("<f", arrays[0][0][-4:])
            end.sendall(bytes([OK, 0]))
        elif kind == STATE:
            data = safetensors(weight)
            end.sendall(bytes([BYTES]) + struct.pack("<Q", len(data)) + data)
        elif kind == BEGIN:
            pushes = [weight + 0.1] * header["tasks"]
            end.sendall(bytes([OK, 0]))
        elif kind == ACT:
            _, episodes, size = arrays[1][1]
            actions = array.array("f", [push for push in pushes for _ in range(episodes * size)])
            end.sendall(bytes([ARRAY]) + actions.tobytes())
        elif kind == ADAPT:
            share = len(floats(arrays[1])) // len(pushes)
            played = floats(arrays[1])
            for task in range(len(pushes)):
                own = played[task * share : (task + 1) * share]
                pushes[task] += sum(own) / len(own)
            end.sendall(bytes([OK, 0]))
        elif kind == TRAIN:
            weight = train(end, header["left"])
            end.sendall(bytes([OK, 0]))


def train(end: socket.socket, left: int) -> float:
    found = 0.0
    for turn in range(3):
        end.sendall(bytes([TASKS]) + struct.pack("<qq", 2, 1))
        kind, header, arrays, _ = request(end, found)
        assert kind == GO
        end.sendall(bytes([COLLECT]) + struct.pack("<qB", header["number"], 1))
        while True:
            kind, header, arrays, _ = request(end, found)
            if kind == REFUSE:
                return found
            if kind == ROLLOUT:
                break
            count = prod(arrays[1][1])
            end.sendall(bytes([ARRAY]) + array.array("f", [0.1 * (turn + 1)] * count).tobytes())
        found = mean(arrays[1])
        assert header["left"] < left
        tag = b"losses/push"
        end.sendall(bytes([LOG]) + struct.pack("<HH", 1, len(tag)) + tag + struct.pack("<d", found))
        end.sendall(bytes([RELEASE]) + struct.pack("<q", turn))
    return found


def request(end: socket.socket, weight: float):
    """The next request that is not for weights, which are sent."""
    while True:
        found = receive(end)
        if found[0] != STATE:
            return found
        data = safetensors(weight)
        end.sendall(bytes([BYTES]) + struct.pack("<Q", len(data)) + data)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt), socket.socket(socket.AF_UNIX) as listener:
        listener.bind(sys.argv[1])
        listener.listen()
        while True:
            connection, _ = listener.accept()
            if not os.fork():
                serve(connection)
            connection.close()

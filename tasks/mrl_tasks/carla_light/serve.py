"""Runs the light server: an RPC port, a streaming port, and a clock when no client drives the world."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from mrl_bench.errors import MrlBenchError, UsageError
from mrl_tasks.carla_light import protocol
from mrl_tasks.carla_light.maps import RoadMap, read_maps
from mrl_tasks.carla_light.rpc import Connection
from mrl_tasks.carla_light.rpc_handlers import RpcHandlers
from mrl_tasks.carla_light.streaming import StreamConnection, Streams
from mrl_tasks.carla_light.world import DEFAULT_DELTA, World


def serve(files: Sequence[Path], port: int) -> None:
    """Serves on 127.0.0.1 alone until it is interrupted or terminated. Prints the port in one line.

    Args:
        files: OpenDRIVE maps; the first one is loaded.
        port: for RPC; 0 picks a free port. Streams always get a free port.

    Raises:
        UsageError: a file is no map, or the port no port.
        MrlBenchError: the port is taken.
    """
    if not 0 <= port < 65536:
        raise UsageError(f"{port} is no port: a number from 0 to 65535")
    maps = read_maps(files)
    try:
        asyncio.run(_serve(maps, port))
    except OSError as error:
        raise MrlBenchError(f"cannot serve on {protocol.HOST}:{port}: {error.strerror or error}") from None


async def _serve(maps: dict[str, RoadMap], port: int) -> None:
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    with suppress(NotImplementedError):  # Windows ends the process instead
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
    streams = Streams()
    stream_server = await loop.create_server(lambda: StreamConnection(streams), protocol.HOST, 0)
    stream_port = stream_server.sockets[0].getsockname()[1]
    world = World(next(iter(maps.values())), streams.send, stream_port)
    handlers = RpcHandlers(world, maps, stream_port)
    call_server = await loop.create_server(lambda: Connection(handlers), protocol.HOST, port)
    port = call_server.sockets[0].getsockname()[1]
    print(
        f"light CARLA server {protocol.VERSION} on {protocol.HOST}:{port}, map {world.map.name}", flush=True
    )
    clock = asyncio.create_task(_run_freely(world))
    await stop.wait()
    clock.cancel()
    call_server.close()
    stream_server.close()


async def _run_freely(world: World) -> None:
    """Ticks in real time, unless a client in synchronous mode does."""
    while True:
        due = time.monotonic() + (protocol.fixed_delta(world.settings) or DEFAULT_DELTA)
        if not protocol.is_synchronous(world.settings):
            world.tick()
        await asyncio.sleep(max(0.0, due - time.monotonic()))

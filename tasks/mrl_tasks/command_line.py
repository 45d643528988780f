"""What families add to the command line. Simulators are imported only when one of their commands runs."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from mrl_tasks.driving.carla.server import HOST_VARIABLE, PORT_VARIABLE


def extend(commands: Any, bench: argparse.ArgumentParser) -> None:
    """Adds to the sub-commands of `mrl-bench`, and to the options of `mrl-bench bench`."""
    _add_server(bench)

    serve = commands.add_parser(
        "carla-serve", help="serve maps to CARLA clients, on this machine alone, without CARLA"
    )
    serve.add_argument("maps", nargs="+", type=Path, metavar="MAP.xodr", help="the first one is loaded")
    serve.add_argument("--port", type=int, default=2000, help="0 for any that is free (default: 2000)")
    serve.set_defaults(command=_serve)

    calibrate = commands.add_parser(
        "carla-calibrate", help="measure how a CARLA server's car differs from the embedded one"
    )
    _add_server(calibrate)
    calibrate.set_defaults(command=_calibrate)


def _add_server(parser: argparse.ArgumentParser) -> None:
    for name, variable, text in (
        ("host", HOST_VARIABLE, "CARLA server (default: 127.0.0.1)"),
        ("port", PORT_VARIABLE, "its port (default: 2000)"),
    ):
        parser.add_argument(
            f"--carla-{name}", dest=variable, action=_Environment, metavar=name.upper(), help=text
        )


class _Environment(argparse.Action):
    """Stores an option in an environment variable, which worker processes inherit."""

    def __call__(self, parser: Any, namespace: Any, value: Any, option: str | None = None) -> None:
        os.environ[self.dest] = str(value)


def _serve(options: argparse.Namespace) -> int:
    from mrl_tasks.carla_light.serve import serve

    serve(options.maps, options.port)
    return 0


def _calibrate(options: argparse.Namespace) -> int:
    from mrl_tasks.driving.carla.calibrate import calibrate, report

    print(report(calibrate()))
    return 0

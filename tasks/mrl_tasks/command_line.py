"""What families add to the command line. Nothing of a family is imported before one of its commands runs."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def extend(commands: Any, bench: argparse.ArgumentParser) -> None:
    """Adds to the sub-commands of `mrl-bench`, and to the options of `mrl-bench bench`."""
    _add_server(bench, "driving.")

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


def _add_server(parser: argparse.ArgumentParser, family: str = "") -> None:
    parser.add_argument(
        "--carla-host",
        dest=f"{family}carla_host",
        metavar="HOST",
        help="host of the CARLA server (default: 127.0.0.1)",
    )
    parser.add_argument(
        "--carla-port",
        dest=f"{family}carla_port",
        metavar="PORT",
        type=_port,
        help="its port (default: 2000)",
    )


def _port(text: str) -> int:
    if not (text.isdecimal() and 0 < int(text) < 65536):
        raise argparse.ArgumentTypeError(f"{text!r} is no port: a number from 1 to 65535")
    return int(text)


def _serve(options: argparse.Namespace) -> int:
    from mrl_tasks.carla_light.serve import serve

    serve(options.maps, options.port)
    return 0


def _calibrate(options: argparse.Namespace) -> int:
    from mrl_tasks.driving.carla.calibrate import calibrate, report
    from mrl_tasks.driving.carla.server import Address
    from mrl_tasks.driving.family import Driving

    server = Address(options.carla_host or Driving.carla_host, options.carla_port or Driving.carla_port)
    print(report(calibrate(server)))
    return 0

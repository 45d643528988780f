"""Arguments that several commands have in common."""

from __future__ import annotations

import argparse
from contextlib import suppress

from mrl_bench.runs.shard import Shard


def add_device(parser: argparse.ArgumentParser) -> None:
    text = "where to compute (default: auto, the GPU if there is one)"
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help=text)


def add_time_limit(parser: argparse.ArgumentParser, default: int = 7200) -> None:
    text = f"seconds for one run (default: {default})"
    parser.add_argument("--time-limit", type=positive, default=default, help=text)


def add_retry_failed(parser: argparse.ArgumentParser) -> None:
    text = "run failed runs again (default: keep them)"
    parser.add_argument("--retry-failed", action="store_true", help=text)


def add_executor(parser: argparse.ArgumentParser) -> None:
    """Where runs are executed: `workers`, `executor`, `address` and `shard`."""
    parser.add_argument("--workers", type=positive, help="runs in parallel (default: one per core)")
    text = "processes on this machine, or tasks on a Ray cluster (default: processes)"
    parser.add_argument("--executor", choices=("processes", "ray"), default="processes", help=text)
    text = "of the Ray cluster, as 'auto' or HOST:PORT (default: start Ray on this machine)"
    parser.add_argument("--address", help=text)
    text = "execute the I-th of N parts, which may run at the same time over a shared results folder"
    parser.add_argument("--shard", type=shard, metavar="I/N", help=text)


def shard(text: str) -> Shard:
    number, _, count = text.partition("/")
    with suppress(argparse.ArgumentTypeError):
        found = Shard(positive(number), positive(count))
        if found.number <= found.count:
            return found
    raise argparse.ArgumentTypeError(f"{text!r} is not a part as 2/8, from 1/8 to 8/8")


def positive(text: str) -> int:
    return _whole(text, 1)


def seed(text: str) -> int:
    return _whole(text, 0)


def steps(text: str) -> int:
    with suppress(ValueError):
        number = float(text)
        text = f"{number:.0f}" if number.is_integer() else text
    return _whole(text, 1)


def _whole(text: str, low: int) -> int:
    if not (text.isdecimal() and len(text) < 10 and int(text) >= low):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {low} to 999999999")
    return int(text)

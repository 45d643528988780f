"""Arguments that several commands have in common."""

from __future__ import annotations

import argparse
from contextlib import suppress


def add_device(parser: argparse.ArgumentParser) -> None:
    text = "where to compute (default: auto, the GPU if there is one)"
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help=text)


def add_time_limit(parser: argparse.ArgumentParser, default: int = 7200) -> None:
    text = f"seconds for one run (default: {default})"
    parser.add_argument("--time-limit", type=positive, default=default, help=text)


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

"""Helpers for tests of YAML files: texts with a marked position, and random mutations."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from typing import Any

MARK = "^^"


def marked(text: str) -> tuple[str, tuple[int, int]]:
    """The text without its mark, and the line and column of the mark, from 1."""
    before, mark, after = text.partition(MARK)
    assert mark, "no position is marked"
    assert MARK not in after, "two positions are marked"
    return before + after, (before.count("\n") + 1, len(before.rpartition("\n")[2]) + 1)


def edited(text: str, edits: dict[str, str]) -> str:
    """A valid text with replacements, old -> new. Each old text must occur exactly once."""
    for old, new in edits.items():
        assert text.count(old) == 1, f"{old!r} does not occur exactly once"
        text = text.replace(old, new)
    return text


PIECES = [
    *"[]{}:,#-?&*!|>'\"%@`~<=. \n\t\r\0\x07\x85é\u2028\ufeff0179eE+x_",
    *(": ", "- ", "\n  ", "{}", "[]", "null", "true", "no", "1e3", "-1e400", ".nan", ".inf", "9" * 30),
    *("<<: ", "&a ", "*a", "!!int ", "---\n", "...\n", "? ", "[" * 30, "\\", "\ud800", "family", "count"),
]


def mutant(text: str, rng: random.Random) -> bytes:
    """A text with one to four random changes: of characters, words or lines."""
    for _ in range(rng.randint(1, 4)):
        at, length = rng.randrange(len(text) + 1), rng.choice([0, 1, 1, 3, 10])
        change = rng.randrange(5)
        if change == 0:
            text = text[:at] + text[at + length :]
        elif change == 1:
            text = text[:at] + rng.choice(PIECES) + text[at + length :]
        elif change == 2:
            lines = text.split("\n")
            i, j = rng.randrange(len(lines)), rng.randrange(len(lines))
            lines[i], lines[j] = lines[j], rng.choice([lines[i], lines[i] + "  ", "  " + lines[i], ""])
            text = "\n".join(lines)
        elif change == 3:
            words = text.split(" ")
            i, j = rng.randrange(len(words)), rng.randrange(len(words))
            words[i] = words[j]
            text = " ".join(words)
        else:
            begin = rng.randrange(len(text) + 1)
            text = text[:at] + text[begin : begin + rng.randrange(40)] + text[at:]
    data = text.encode("utf-8", "surrogatepass")
    return data if rng.random() < 0.9 else data[: rng.randrange(len(data) + 1)] + rng.randbytes(2)


_VALUES: list[Any] = [
    *(
        None,
        [],
        {},
        "",
        "x",
        "1_000",
        "yes",
        -1,
        0,
        1,
        2.5,
        1e9,
        True,
        [1],
        [2, 1],
        [[1, 2]],
        {"a": 1},
        ["a"],
    ),
    *(
        {"uniform": [1, 2]},
        {"fixed": 3},
        {"choice": [1, 1]},
        {"normal": {"mean": 1}},
        "toy_agents:Learner",
        "os:path",
    ),
]


def reshaped(data: Any, rng: random.Random) -> Any:
    """Data with one to four random changes: an entry is left out, renamed or given another value."""
    data = copy.deepcopy(data)
    for _ in range(rng.randint(1, 4)):
        parent, key = rng.choice(list(_entries(data)))
        change = rng.randrange(3)
        if change == 0:
            del parent[key]
        elif change == 1 and isinstance(parent, dict):
            parent[key[:-1] + rng.choice("xyz")] = parent.pop(key)
        else:
            parent[key] = copy.deepcopy(rng.choice(_VALUES))
    return data


def _entries(data: Any) -> Iterator[tuple[Any, Any]]:
    """The containers within data, each with every one of its keys or indices."""
    for key in list(data) if isinstance(data, dict) else range(len(data)) if isinstance(data, list) else ():
        yield data, key
        yield from _entries(data[key])

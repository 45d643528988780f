"""Helpers for tests of YAML files: texts with a marked position, and random mutations."""

from __future__ import annotations

import random

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


_PIECES = [
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
            text = text[:at] + rng.choice(_PIECES) + text[at + length :]
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

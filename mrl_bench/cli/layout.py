"""Text and tables of `list` and `info`: wrapped at words on a terminal, whole lines elsewhere, as for grep."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from io import StringIO

from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

_GAP = 2  # columns between cells
_INDENT = 2  # columns left of a table
_PROSE = 24  # columns that the last cell of a row needs to be read with ease
_WHOLE = 100_000  # columns where there is no terminal


def print_text(text: str) -> None:
    """Prints text; on a terminal, lines of one paragraph are joined and wrapped again, indented lines one by one."""
    console = _console()
    if console.is_terminal:
        text = re.sub(r"(?<=\S)\n(?=[^\s*-])", " ", text)
    for line in text.split("\n"):
        indent = min(len(line) - len(line.lstrip()), console.width // 4)
        _print(console, Padding(Text(line.lstrip()), (0, 0, 0, indent)))


def print_facts(facts: Iterable[tuple[str, str]]) -> None:
    """Prints a line for each (name, value), and an empty one."""
    console = _console()
    rows = list(facts)
    _print(console, _table(("", ""), rows, console.width))
    print()


def print_table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Prints left-aligned columns under a title, and an empty line. The last column is for prose."""
    console = _console()
    _print(console, Text(f"{title}:"))
    table = _table(head, rows, console.width - _INDENT)
    _print(console, Padding(table, (0, 0, 0, _INDENT)))
    print()


def _console() -> Console:
    """Renders for standard output into a buffer."""
    output = Console()
    width = output.width if output.is_terminal else _WHOLE
    return Console(file=StringIO(), width=width, force_terminal=output.is_terminal, highlight=False)


def _print(console: Console, content: RenderableType) -> None:
    with console.capture() as captured:
        console.print(content)
    for line in captured.get().splitlines():
        print(line.rstrip())  # cells are padded


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> RenderableType:
    widths = _widths(list(zip(head, *rows, strict=True)), width)
    if widths is None:
        return _stack(head, rows)
    table = Table(box=None, padding=(0, _GAP, 0, 0), pad_edge=False, show_header=any(head))
    for name, columns in zip(head, widths, strict=True):
        table.add_column(Text(name), width=columns)
    for row in rows:
        table.add_row(*map(Text, row))
    return table


def _widths(columns: Sequence[Sequence[str]], width: int) -> list[int] | None:
    """Widths that break no word; a narrow column is not wrapped before a wide one. None if there are none."""
    wanted = [max(map(cell_len, column)) for column in columns]
    least = [max(cell_len(word) for cell in column for word in cell.split() or [""]) for column in columns]
    least[-1] = min(max(least[-1], _PROSE), wanted[-1])
    spare = width - _GAP * (len(columns) - 1) - sum(least)
    if spare < 0:
        return None
    widths = list(least)
    narrowest_first = sorted(range(len(columns)), key=lambda column: wanted[column])
    for place, column in enumerate(narrowest_first):
        share = spare // (len(columns) - place)
        widths[column] = min(wanted[column], least[column] + share)
        spare -= widths[column] - least[column]
    return widths


def _stack(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Group:
    """The rows of a table that is too wide: the first cell, and the others indented below it."""
    lines: list[RenderableType] = []
    for first, *others in rows:
        lines.append(Text(first or head[0]))
        for name, cell in zip(head[1:], others, strict=True):
            if cell:
                lines.append(Padding(Text(f"{name}: {cell}" if name else cell), (0, 0, 0, _INDENT)))
    return Group(*lines)

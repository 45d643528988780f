"""Boards in the terminal: scores, raw returns and cost of every scenario, then all of them in a few lines."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from io import StringIO
from typing import IO

from rich import box
from rich.console import Console, Group, RenderableType
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from mrl_bench.report import RunInfo
from mrl_bench.report.formatting import (
    DASH,
    count,
    duration,
    end_points,
    failed,
    headline_points,
    headroom,
    leaders,
    metric_names,
    model_errors,
    number,
    ordered,
    plus_minus,
    points,
    printable,
    rank,
    score,
    steps_to_60,
    why_flagged,
)
from mrl_bench.report.scores import Row, ScenarioScores, SplitScores

LOG_WIDTH = 100  # columns where there is no terminal to ask
RETURN_COLUMNS = 6  # points of a return curve that fit beside its cost in LOG_WIDTH

ANCHOR, FLAG, BROKEN, HEADING = "dim", "bold yellow", "red", "bold"


def print_boards(
    boards: Sequence[ScenarioScores],
    info: RunInfo,
    splits: Sequence[str] = ("test",),
    file: IO[str] | None = None,
) -> None:
    """Prints the boards: in colour and as wide as the terminal, or plain where `file` (stdout) is none.

    A terminal that is too narrow for the tables wraps their lines, so that no number is lost.
    """
    file = file or sys.stdout
    console = Console(file=file)
    if console.is_terminal:
        parts = list(_parts(boards, info, splits))
        tables = [part for part in parts if isinstance(part, Table)]
        console.width = max([console.width, *(_least_width(console, table) for table in tables)])
        console.print(Group(*parts))
    else:
        file.write(plain_text(boards, info, splits))


def _least_width(console: Console, table: Table) -> int:
    """Columns that a table needs if only its names are folded."""
    unlimited = console.options.update(max_width=10_000)
    for column in table.columns:
        if column.no_wrap:
            cells = (
                Measurement.get(console, unlimited, cell).maximum for cell in (column.header, *column.cells)
            )
            column.min_width = max(cells)
    return Measurement.get(console, unlimited, table).minimum


def plain_text(
    boards: Sequence[ScenarioScores], info: RunInfo, splits: Sequence[str] = ("test",), width: int = LOG_WIDTH
) -> str:
    """The same for a log: at most `width` columns, no colours, no escape sequences."""
    buffer = StringIO()
    console = Console(file=buffer, width=width, color_system=None, force_terminal=False, force_jupyter=False)
    console.print(_report(boards, info, splits))
    return "".join(f"{line.rstrip()}\n" for line in buffer.getvalue().splitlines())


def _report(boards: Sequence[ScenarioScores], info: RunInfo, splits: Sequence[str]) -> Group:
    return Group(*_parts(boards, info, splits))


def _parts(
    boards: Sequence[ScenarioScores], info: RunInfo, splits: Sequence[str]
) -> Iterator[RenderableType]:
    commit = f"commit {info.commit[:12]}" if info.commit else ""
    facts = (info.suite, info.created, info.device, info.machine, commit)
    yield Text(" · ".join(printable(fact) for fact in facts if fact), style=ANCHOR)
    shown = [(board, board.splits[split]) for board in boards for split in splits if split in board.splits]
    for board, split in shown:
        yield Text()
        yield _headline(board, split)
        yield _scores(board, split)
        yield Text()
        yield _returns(board, split, info)
        if metric_names(split):
            yield Text()
            yield _metrics(split)
        if split.split == "test" and model_errors(split.rows):
            yield Text()
            yield _model_errors(split)
        for row in split.rows:
            if failed([row]):
                line = f"failed, and scored as random: {printable(row.agent)}, {failed([row])}"
                yield Text(line, style=BROKEN)
    if any(row.preliminary and not row.is_reference for _, split in shown for row in split.rows):
        yield Text("\n* preliminary: fewer than ten seeds", style=ANCHOR)
    if any(row.learning for _, split in shown for row in split.rows):
        yield Text(
            "steps to 0.6: of meta-training, to a score of 0.6 after one adaptation round", style=ANCHOR
        )
    if len(shown) > 1:
        yield Text()
        yield _summary(shown)


def _headline(board: ScenarioScores, split: SplitScores) -> Text:
    name = (printable(board.scenario), HEADING)
    line = Text.assemble(name, f" · {split.split}, {split.tasks} tasks")
    if not split.flagged:
        return line.append(f" · {headroom(split)}")
    return line.append(f"\n! {headroom(split)}", style=FLAG)


def _scores(board: ScenarioScores, split: SplitScores) -> Table:
    """Rank and scores with their intervals: the numbers to compare agents by."""
    episodes = points(split)
    ood = _ood_scores(board) if split.split == "test" else {}
    table = _table("score: IQM ± 95 %, where random is 0 and oracle is 1")
    table.add_column("rank")
    _add_name_column(table)
    for point in headline_points(split):
        _add_numbers(table, f"k={episodes[point]}")
    _add_numbers(table, "gain")
    if ood:
        _add_numbers(table, f"ood k={episodes[-1]}")
    probed = any(row.learning for row in split.rows)
    if probed:
        _add_numbers(table, "steps\nto 0.6")  # leaves room for the names of ablations
    for row in ordered(split.rows):
        if row.agent in ("random", "oracle"):
            continue  # 0 and 1 by definition
        star = "*" if row.preliminary and not row.is_reference else ""
        cells = [plus_minus(row.scores[point]) for point in headline_points(split)]
        cells.append(plus_minus(row.gain))
        if ood:
            cells.append(ood.get(row.agent, DASH))
        if probed:
            cells.append(steps_to_60(row))
        _add_row(table, row, rank(row) + star, _name(row), *cells)
    return table


def _ood_scores(board: ScenarioScores) -> dict[str, str]:
    ood = board.splits.get("ood")
    return {row.agent: plus_minus(row.scores[-1]) for row in ood.rows} if ood else {}


def _returns(board: ScenarioScores, split: SplitScores, info: RunInfo) -> Table:
    """Returns in the scenario's own run, and what it cost to train for them."""
    episodes = points(split)
    shown = _spread_out(len(episodes), RETURN_COLUMNS)
    table = _table("return after k adaptation episodes, mean over tasks and seeds")
    _add_name_column(table)
    for point in shown:
        _add_numbers(table, f"k={episodes[point]}")
    for header in ("seeds", "train steps", "train time"):
        _add_numbers(table, header)
    for row in ordered(split.rows):
        returns = [number(row.returns[point].value) for point in shown]
        cost = count(row.train_env_steps), duration(info.seconds.get((board.scenario, row.agent)))
        _add_row(table, row, _name(row), *returns, str(row.seeds), *cost)
    return table


def _metrics(split: SplitScores) -> Table:
    """What the family measures beside the return, before adapting and after all."""
    episodes, ends = points(split), end_points(split)
    table = _table("beside the return: " + " → ".join(f"k={episodes[point]}" for point in ends))
    _add_name_column(table)
    for name in metric_names(split):
        _add_numbers(table, printable(name))
    for row in ordered(split.rows):
        curves = [row.metrics[name] for name in metric_names(split)]
        cells = [" → ".join(number(curve[point].value) for point in ends) for curve in curves]
        _add_row(table, row, _name(row), *cells)
    return table


def _model_errors(split: SplitScores) -> Table:
    """What agents that learn a model of the tasks said of its errors last."""
    table = _table("model error on held-out tasks")
    _add_name_column(table)
    table.add_column("error", overflow="fold")
    _add_numbers(table, "value")
    for agent, error, value in model_errors(split.rows):
        table.add_row(Text(agent), Text(error), value)
    return table


def _spread_out(length: int, most: int) -> list[int]:
    """At most so many of the indices, the first and the last among them."""
    if length <= most:
        return list(range(length))
    return [round(i * (length - 1) / (most - 1)) for i in range(most)]


def _summary(shown: Sequence[tuple[ScenarioScores, SplitScores]]) -> Table:
    """One line for each scenario and split: who leads at the last k, if the scenario can tell at all."""
    table = _table("summary: the agents that no other is known to beat, score at the last k")
    table.add_column("scenario", overflow="fold")
    table.add_column("split")
    _add_numbers(table, "headroom")
    table.add_column("rank 1", overflow="fold", ratio=1)
    _add_numbers(table, "failed")
    for board, split in shown:
        flag, flag_style = ("!", FLAG) if split.flagged else (" ", "")
        table.add_row(
            Text(printable(board.scenario)),
            split.split,
            Text(score(split.headroom) + flag, style=flag_style),
            Text("\n").join(_leaders(split)) or DASH,
            Text(failed(split.rows) or DASH, style=BROKEN if failed(split.rows) else ""),
        )
    return table


def _leaders(split: SplitScores) -> list[Text]:
    if split.flagged:
        return [Text(why_flagged(split), style=FLAG)]
    return [Text(f"{printable(row.agent)} {plus_minus(row.scores[-1])}") for row in leaders(split)]


def _table(title: str) -> Table:
    return Table(
        title=title,
        title_justify="left",
        title_style=ANCHOR,
        box=box.HORIZONTALS,
        show_edge=False,
        padding=(0, 1, 0, 0),
        pad_edge=False,
        header_style=HEADING,
        border_style=ANCHOR,
    )


def _add_name_column(table: Table) -> None:
    table.add_column("agent", overflow="fold", min_width=8)


def _add_numbers(table: Table, header: str) -> None:
    table.add_column(Text(header), justify="right", no_wrap=True)


def _add_row(table: Table, row: Row, *cells: str | Text) -> None:
    """A rule parts the anchors, which come last, from the agents."""
    if row.is_reference and table.rows and table.rows[-1].style != ANCHOR:
        table.add_section()
    table.add_row(*cells, style=ANCHOR if row.is_reference else None)


def _name(row: Row) -> Text:
    return Text(printable(row.agent))

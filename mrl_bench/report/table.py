"""Results in the terminal: scores, returns and cost of every scenario, a summary, and a legend."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from io import StringIO
from textwrap import wrap
from typing import IO

from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.table import Table
from rich.text import Text

from mrl_bench.report import BenchInfo
from mrl_bench.report.formatting import (
    DASH,
    count,
    end_points,
    failed,
    headline_points,
    headroom,
    leaders,
    learning_k,
    metric_names,
    model_errors,
    number,
    ordered,
    plus_minus,
    points,
    printable,
    rank,
    score,
    seeds,
    steps_to_60,
    train_time,
    warnings,
)
from mrl_bench.report.scores import Row, ScenarioScores, SplitScores

LOG_WIDTH = 100  # columns if the output is not a terminal
RETURN_COLUMNS = 6  # at most so many points of a return curve

REFERENCE, FLAG, BROKEN, HEADING = "dim", "bold yellow", "red", "bold"

LEGEND = """\
k: adaptation episodes on a task so far
score: (return - random) / (oracle - random), so 0 is the random agent and 1 the oracle, which sees the task's \
parameters; interquartile mean (IQM) over seeds and tasks, and from three seeds on how far its 95 % interval reaches \
(\N{PLUS-MINUS SIGN}, or - and +)
mean: mean of the same scores, in which every failure counts
rank: range of places at the last k that the seeds do not rule out
gain: score at the last k minus score at k=0, in each task
zero-shot: score at k=0 minus that of blind, in each task
adaptation episodes: those that the agent learns from, which the scores do not include
ood: tasks outside of the training distribution
headroom: (oracle - blind) / (oracle - random), where blind cannot adapt; below 0.2 the tasks need no adaptation, \
or the references are too weak to tell
seeds: training runs of an agent; train steps: env steps of meta-training of one run
env steps to score 0.6: env steps of meta-training until the score after the first adaptation round reaches 0.6
* preliminary: fewer than ten seeds"""


def print_tables(
    all_scores: Sequence[ScenarioScores],
    info: BenchInfo,
    splits: Sequence[str] = ("test",),
    file: IO[str] | None = None,
) -> None:
    """Prints the tables to `file` (default: stdout): coloured, at a terminal's width, or as `plain_text`."""
    file = file or sys.stdout
    console = Console(file=file)
    if console.is_terminal:
        console.print(_report(all_scores, info, splits))
    else:
        file.write(plain_text(all_scores, info, splits))


def plain_text(
    all_scores: Sequence[ScenarioScores],
    info: BenchInfo,
    splits: Sequence[str] = ("test",),
    width: int = LOG_WIDTH,
) -> str:
    """The tables for a log: at most `width` columns, no colours, no escape sequences."""
    buffer = StringIO()
    console = Console(file=buffer, width=width, color_system=None, force_terminal=False, force_jupyter=False)
    console.print(_report(all_scores, info, splits))
    return "".join(f"{line.rstrip()}\n" for line in buffer.getvalue().splitlines())


def _report(all_scores: Sequence[ScenarioScores], info: BenchInfo, splits: Sequence[str]) -> Group:
    return Group(*_parts(all_scores, info, splits))


def _parts(
    all_scores: Sequence[ScenarioScores], info: BenchInfo, splits: Sequence[str]
) -> Iterator[RenderableType]:
    commit = f"commit {info.commit[:12]}" if info.commit else ""
    facts = (info.suite, info.created, info.device, info.machine, commit)
    yield Text(" · ".join(printable(fact) for fact in facts if fact), style=REFERENCE)
    shown = [
        (scores, scores.splits[split]) for scores in all_scores for split in splits if split in scores.splits
    ]
    for scenario_scores, split in shown:
        yield Text()
        yield _headline(scenario_scores, split)
        yield _scores(scenario_scores, split)
        yield Text()
        if any(row.online for row in split.rows):
            yield _online(split)
            yield Text()
        yield _returns(scenario_scores, split, info)
        if metric_names(split):
            yield Text()
            yield _metrics(split)
        if split.split == "test" and model_errors(split.rows):
            yield Text()
            yield _model_errors(split)
    if len(shown) > 1:
        yield Text()
        yield _summary(shown)
    yield Text(f"\n{LEGEND}", style=REFERENCE)


def _headline(scenario_scores: ScenarioScores, split: SplitScores) -> Text:
    name = (printable(scenario_scores.scenario), HEADING)
    line = Text.assemble(name, f" · {split.split}, {split.tasks} tasks")
    if split.diagnosis is None:
        line.append(f" · {headroom(split)}")
    for warning in warnings(scenario_scores, split):
        line.append(f"\n! {warning}", style=FLAG)
    return line


def _scores(scenario_scores: ScenarioScores, split: SplitScores) -> WrappedTable:
    """Rank and scores with their intervals: the numbers to compare agents by."""
    k, shown = points(split), headline_points(split)
    ood = _ood_scores(scenario_scores) if split.split == "test" else {}
    learned_k = learning_k(split)
    headers = ["rank", *(f"k={k[point]}" for point in shown), f"mean k={k[-1]}", "gain", "zero-shot"]
    headers += [f"ood k={k[-1]}"] if ood else []
    headers += [] if learned_k is None else [f"env steps\nto score 0.6\nat k={learned_k}"]
    table = WrappedTable(
        "score: IQM with its 95 % interval, where random is 0 and oracle is 1", "agent", headers
    )
    for row in ordered(split.rows):
        if row.agent in ("random", "oracle"):
            continue  # 0 and 1 by definition
        star = "*" if row.preliminary and not row.is_reference else ""
        estimates = [*(row.scores[point] for point in shown), row.means[-1], row.gain, row.zero_shot]
        cells = [rank(row) + star, *map(plus_minus, estimates)]
        cells += [ood.get(row.agent, DASH)] if ood else []
        cells += [] if learned_k is None else [steps_to_60(row)]
        table.add_agent(row, cells)
    return table


def _ood_scores(scenario_scores: ScenarioScores) -> dict[str, str]:
    ood = scenario_scores.splits.get("ood")
    return {row.agent: plus_minus(row.scores[-1]) for row in ood.rows} if ood else {}


def _returns(scenario_scores: ScenarioScores, split: SplitScores, info: BenchInfo) -> WrappedTable:
    """Returns in the scenario's own unit, and the cost of training."""
    k = points(split)
    shown = _spread_out(len(k), RETURN_COLUMNS)
    headers = [*(f"k={k[point]}" for point in shown), "seeds", "train steps", "train time"]
    table = WrappedTable("return after k adaptation episodes, mean over tasks and seeds", "agent", headers)
    for row in ordered(split.rows):
        returns = [number(row.returns[point].value) for point in shown]
        seconds = info.seconds.get((scenario_scores.scenario, row.agent))
        table.add_agent(row, [*returns, seeds(row), count(row.train_env_steps), train_time(seconds)])
    return table


def _online(split: SplitScores) -> WrappedTable:
    """What the adaptation episodes themselves score: the price of adaptation."""
    names = metric_names(split)
    headers = ["mean score", "worst", *(printable(name) for name in names)]
    table = WrappedTable("adaptation episodes: first → last bin of episodes", "agent", headers)
    for row in ordered(split.rows):
        if online := row.online:
            first, last = online.scores[0].value, online.scores[-1].value
            metrics = [number(online.metrics[name].value) for name in names]
            table.add_agent(row, [f"{score(first)} → {score(last)}", score(online.worst), *metrics])
    return table


def _metrics(split: SplitScores) -> WrappedTable:
    """The family's metrics before and after adaptation."""
    k, ends = points(split), end_points(split)
    title = "metrics: " + " → ".join(f"k={k[point]}" for point in ends)
    table = WrappedTable(title, "agent", [printable(name) for name in metric_names(split)])
    for row in ordered(split.rows):
        curves = [row.metrics[name] for name in metric_names(split)]
        table.add_agent(row, [" → ".join(number(curve[point].value) for point in ends) for curve in curves])
    return table


def _model_errors(split: SplitScores) -> WrappedTable:
    """The last errors that agents with a model of the tasks logged."""
    table = WrappedTable(
        "model error on held-out tasks", "agent", ["error", "value"], text_columns=("error",)
    )
    for agent, error, value in model_errors(split.rows):
        table.add(agent, [error, value])
    return table


def _spread_out(length: int, most: int) -> list[int]:
    """At most `most` of the indices, evenly spread, with the first and the last."""
    if length <= most:
        return list(range(length))
    return [round(i * (length - 1) / (most - 1)) for i in range(most)]


def _summary(shown: Sequence[tuple[ScenarioScores, SplitScores]]) -> WrappedTable:
    """One line for each scenario and split: the leading agents, if the headroom allows to name any."""
    table = WrappedTable(
        "summary: agents that no other agent significantly beats, score at the last k",
        "scenario",
        ["split", "headroom", "rank 1", "failed"],
        text_columns=("split", "rank 1", "failed"),
    )
    for scenario_scores, split in shown:
        flag, flag_style = ("!", FLAG) if split.flagged else (" ", "")
        cells = (
            split.split,
            Text(score(split.headroom.value) + flag, style=flag_style),
            Text("\n").join(_leaders(split)) or DASH,
            Text(failed(split.rows) or DASH, style=BROKEN if failed(split.rows) else ""),
        )
        table.add(printable(scenario_scores.scenario), cells)
    return table


def _leaders(split: SplitScores) -> list[Text]:
    if split.flagged:
        return [Text(split.diagnosis or "", style=FLAG)]
    return [Text(f"{printable(row.agent)} {plus_minus(row.scores[-1])}") for row in leaders(split)]


class WrappedTable:
    """A table that continues below itself if it is too wide: each part repeats the first column, as in pandas."""

    GAP = 2  # columns between cells
    LEAST_NAME = 5  # columns to fold a name into

    def __init__(
        self, title: str, key: str, headers: Sequence[str], text_columns: Sequence[str] = ()
    ) -> None:
        self.title, self.key, self.headers, self.text_columns = title, key, list(headers), text_columns
        self.rows: list[tuple[Text, list[Text], str]] = []  # name, cells, style

    def add(self, name: str, cells: Sequence[str | Text], style: str = "") -> None:
        self.rows.append((Text(name), [Text(c) if isinstance(c, str) else c for c in cells], style))

    def add_agent(self, row: Row, cells: Sequence[str]) -> None:
        self.add(printable(row.agent), cells, REFERENCE if row.is_reference else "")

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        width = options.max_width
        yield Text(self.title, style=REFERENCE)
        headers = [self._header(i, width) for i in range(len(self.headers))]
        widths = [self._width(i, headers[i], width) for i in range(len(headers))]
        names = max(cell_len(text) for text in (self.key, *(name.plain for name, _, _ in self.rows)))
        wanted = min(names, max(width // 4, 8))  # a longer name is folded
        name_width = max(min(wanted, width - self.GAP - max(widths)), self.LEAST_NAME)
        for i, part in enumerate(self._parts(widths, width - name_width)):
            if i:
                yield Text()
            yield self._table(part, headers, widths, name_width)

    def _cells(self, column: int) -> list[str]:
        return [line for _, cells, _ in self.rows for line in cells[column].plain.split("\n")]

    def _header(self, column: int, width: int) -> str:
        """The header, wrapped if it is wider than its cells and than a quarter of the width."""
        limit = max(width // 4, *map(cell_len, self._cells(column) or [""]))
        lines = [part for line in self.headers[column].split("\n") for part in wrap(line, max(limit, 1))]
        return "\n".join(lines)

    def _width(self, column: int, header: str, width: int) -> int:
        widest = max(map(cell_len, [*header.split("\n"), *self._cells(column)]))
        is_text = self.headers[column] in self.text_columns
        return min(widest, width // 2) if is_text else widest

    def _parts(self, widths: Sequence[int], room: int) -> list[list[int]]:
        """The columns of each part: as many as fit, at least one."""
        parts: list[list[int]] = []
        left = 0
        for column, width in enumerate(widths):
            if not parts or width + self.GAP > left:
                parts.append([])
                left = room
            parts[-1].append(column)
            left -= width + self.GAP
        return parts

    def _table(
        self, part: Sequence[int], headers: Sequence[str], widths: Sequence[int], name_width: int
    ) -> Table:
        table = Table(
            box=box.HORIZONTALS, show_edge=False, padding=(0, 1, 0, 0), pad_edge=False,
            header_style=HEADING, border_style=REFERENCE,
        )  # fmt: skip
        table.add_column(Text(self.key), overflow="fold", width=name_width)
        for column in part:
            is_text = self.headers[column] in self.text_columns
            table.add_column(
                Text(headers[column]),
                justify="left" if is_text else "right",
                overflow="fold",
                width=widths[column],
                vertical="top",
            )
        for i, (name, cells, style) in enumerate(self.rows):
            if i and style and not self.rows[i - 1][2]:
                table.add_section()  # a rule between agents and reference agents
            table.add_row(name, *(cells[column] for column in part), style=style or None)
        return table

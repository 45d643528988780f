"""`mrl-bench verify` and `mrl-bench leaderboard`. What they need is imported when they run."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mrl_bench.errors import UsageError, printable
from mrl_bench.leaderboard import LEVELS, USUAL_LEVEL

if TYPE_CHECKING:
    from mrl_bench.leaderboard.entry import Entry

_CHANGED = "all that a pull request to this branch (default: origin/main) adds, without recording it"
_LADDER = "the ids that all others are compared with (default: those in ladder.txt)"


def add_commands(commands: Any) -> None:
    """Adds `verify` and `leaderboard` to the command line."""
    verify = commands.add_parser("verify", help="verify a submission, level by level")
    verify.add_argument("submission", type=Path, help="its folder")
    _add_level(verify)
    verify.add_argument("--suite", help="id or YAML file (default: the id that the submission names)")
    verify.set_defaults(command=_verify)

    leaderboard = commands.add_parser(
        "leaderboard", help="the folder of a leaderboard: add, list, show, withdraw"
    )
    actions = leaderboard.add_subparsers(title="actions", required=True, dest="action", metavar="ACTION")
    for name, command, text in (
        ("add", _add, "add a submission, verified at level 0"),
        ("verify", _verify_listed, "verify a submission of the leaderboard, and record it"),
        ("withdraw", _withdraw, "remove a submission; its line in the log stays"),
        ("show", _show, "what a submission earned"),
        ("list", _list, "all submissions"),
        ("rank", _rank, "where the submissions on a suite stand"),
        ("check", _check, "check the log and every file"),
        ("site", _site, "write a static site of it"),
    ):
        one = actions.add_parser(name, help=text)
        if name == "add":
            one.add_argument("submission", type=Path, help="its folder")
        elif name in ("verify", "withdraw", "show"):
            optional = "?" if name == "verify" else None
            one.add_argument("id", nargs=optional, help="the first digits of its id")
        if name == "withdraw":
            one.add_argument("--why", required=True, help="the reason, which the log keeps")
        if name == "verify":
            _add_level(one)
            one.add_argument("--changed", nargs="?", const="origin/main", metavar="BRANCH", help=_CHANGED)
        if name == "rank":
            one.add_argument("--split", choices=("test", "ood"), default="test", help="(default: test)")
            one.add_argument("--ladder", nargs="*", metavar="ID", help=_LADDER)
        if name == "site":
            one.add_argument("--suite", nargs="*", default=[], help="ids or YAML files (default: all)")
            one.add_argument("--ladder", nargs="*", metavar="ID", help=_LADDER)
            one.add_argument("--out", type=Path, default=Path("site"), help="its folder (default: site)")
            one.add_argument(
                "--videos", action="store_true", help="record the agents, those of strangers too"
            )
        if name in ("add", "verify", "show"):
            one.add_argument("--suite", help="id or YAML file (default: the id that the submission names)")
        elif name == "rank":
            one.add_argument("--suite", default="core", help="id or YAML file (default: core)")
        one.add_argument("--folder", type=Path, default=Path("leaderboard"), help="(default: leaderboard)")
        one.set_defaults(command=command)


def _add_level(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--level",
        type=int,
        choices=range(len(LEVELS)),
        default=USUAL_LEVEL,
        help=f"the highest (default: {USUAL_LEVEL}; {len(LEVELS) - 1} trains one run of each scenario again)",
    )


def _verify(options: argparse.Namespace) -> int:
    from mrl_bench.leaderboard.verify import verify

    def report(level: int, text: str) -> None:
        print(f"level {level}  {LEVELS[level]:<12} {text}", flush=True)

    entry = verify(options.submission, options.level, options.suite, report)
    print(f"{entry.submission.folder_name} holds up to level {options.level}")
    return 0


def _add(options: argparse.Namespace) -> int:
    from mrl_bench.leaderboard.folder import Leaderboard

    submission = Leaderboard(options.folder).add(options.submission, options.suite)
    print(f"{submission.folder_name} is on {options.folder}, id {submission.id}")
    return 0


def _verify_listed(options: argparse.Namespace) -> int:
    from mrl_bench.leaderboard.changed import added_since
    from mrl_bench.leaderboard.folder import Leaderboard

    leaderboard = Leaderboard(options.folder)
    if (options.id is None) == (options.changed is None):
        raise UsageError("give the first digits of an id, or --changed")
    if options.id:
        print(leaderboard.verify(options.id, options.level, options.suite))
        return 0
    print(f"{leaderboard.check()} submissions are as they were added")
    for id in added_since(leaderboard, options.changed):
        options.submission = leaderboard.submission_folder(id)
        _verify(options)
    return 0


def _withdraw(options: argparse.Namespace) -> int:
    from mrl_bench.leaderboard.folder import Leaderboard

    Leaderboard(options.folder).withdraw(options.id, options.why)
    return 0


def _list(options: argparse.Namespace) -> int:
    from mrl_bench.leaderboard.folder import Leaderboard
    from mrl_bench.leaderboard.submission import read_submission
    from mrl_bench.report.formatting import counted

    leaderboard = Leaderboard(options.folder)
    for each in leaderboard.listed():
        if each.withdrawn is not None:
            print(f"{each.id[:12]}  withdrawn: {printable(each.withdrawn)}")
            continue
        found = read_submission(leaderboard.submission_folder(each.id))
        run = f"{found.agent.name} on {found.suite}, {counted(found.seeds, 'seed')}"
        print(f"{each.id[:12]}  {run}, verified at level {each.level}, {each.added}")
    return 0


def _rank(options: argparse.Namespace) -> int:
    """A table for each scenario, and one over all."""
    from mrl_bench.cli.standings import print_standings
    from mrl_bench.leaderboard.folder import Leaderboard
    from mrl_bench.leaderboard.standing import entries_on
    from mrl_bench.scenario.suite import find_suite

    leaderboard, suite = Leaderboard(options.folder), find_suite(options.suite)
    entries, left_out = entries_on(leaderboard, suite)
    if options.ladder is None:
        ladder = [id for id in leaderboard.ladder() if id in entries]
    else:
        ladder = [leaderboard.find(start) for start in options.ladder]
    if strangers := [id[:12] for id in ladder if id not in entries]:
        raise UsageError(f"{strangers[0]} is no submission on suite {suite.id}")
    print_standings(entries, ladder, options.split)
    for id, why in left_out.items():
        print(f"{id[:12]} is not ranked: {printable(why)}")
    return 0


def _show(options: argparse.Namespace) -> int:
    from mrl_bench.leaderboard.entry import Entry
    from mrl_bench.leaderboard.folder import Leaderboard
    from mrl_bench.report.formatting import counted

    leaderboard = Leaderboard(options.folder)
    entry = Entry.load(leaderboard.submission_folder(leaderboard.find(options.id)), options.suite)
    submission, agent = entry.submission, entry.submission.agent
    by = f" by {printable(agent.author)}" if agent.author else ""
    seeds = counted(submission.seeds, "seed")
    print(f"{agent.name}{by}: {printable(agent.target)}, suite {submission.suite}, {seeds}")
    for line in _score_lines(entry):
        print(line)
    return 0


def _score_lines(entry: Entry) -> list[str]:
    """The score at the last k on each scenario and split."""
    from mrl_bench.report.formatting import interval, score

    lines = []
    for name, scores in entry.scores.items():
        for split, each in scores.splits.items():
            row = next(row for row in each.rows if not row.is_reference)
            last = row.scores[-1]
            shown = f"{score(last.value):>6} {interval(last)}".rstrip()
            lines.append(f"  {name:<22} {split:<5} {shown}  at k = {row.k[-1]}")
    return lines


def _check(options: argparse.Namespace) -> int:
    from mrl_bench.leaderboard.folder import Leaderboard

    leaderboard = Leaderboard(options.folder)
    print(
        f"{leaderboard.check()} submissions are as they were added; {len(leaderboard.events())} lines in the log"
    )
    return 0


def _site(options: argparse.Namespace) -> int:
    from mrl_bench.leaderboard.folder import Leaderboard
    from mrl_bench.leaderboard.site.pages import write_site
    from mrl_bench.leaderboard.site.reading import read_contents

    leaderboard = Leaderboard(options.folder)
    contents = read_contents(leaderboard, options.suite, options.ladder)
    if options.videos:
        from mrl_bench.leaderboard.site.videos import record_videos

        for line in record_videos(contents, leaderboard, options.out):
            print(printable(line))
    pages = write_site(contents, options.out)
    for id, why in contents.left_out.items():
        print(f"{id[:12]} is not shown: {printable(why)}")
    print(f"{options.out / 'index.html'}: {pages} pages")
    return 0

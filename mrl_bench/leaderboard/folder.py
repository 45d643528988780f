"""The folder of a leaderboard, which is usually a git repository's.

    submissions/ID/             submissions, as they were submitted
    verifications/ID/LEVEL.json who verified a level, when, and with what
    ladder.txt                  the ids of the submissions that all others are compared with, one a line
    log.jsonl                   what happened: a line for each event, with the hash of the line before it

Whoever adds holds a lock. A submission is on disk, in a hidden folder, before its line is written, and gets its place
after that. So a kill leaves at most a hidden folder or half a line, and whoever holds the lock next completes or
removes it.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from mrl_bench.errors import UsageError
from mrl_bench.leaderboard import LEVELS
from mrl_bench.leaderboard.entry import Entry
from mrl_bench.leaderboard.submission import Refused, Sha, Submission, Text, read_submission
from mrl_bench.leaderboard.verify import verify
from mrl_bench.results import canonical_json
from mrl_bench.runs.files import read_file, remove_unfinished, write_atomically
from mrl_bench.runs.provenance import machine
from mrl_bench.runs.terms import Count

FIRST = "0" * 64  # what the first line has for the hash of the line before it
_MAX_LOG = 2**30
_INCOMING = ".incoming-"  # followed by the id


@dataclass(frozen=True)
class Event:
    """A line of the log."""

    number: Count
    previous: Sha  # hash of the line before
    event: Literal["add", "verify", "withdraw"]
    submission: Sha
    time: Text
    # Of an addition, its author; of a verification, its level; of a withdrawal, why.
    note: Annotated[str, Field(max_length=1000)] = ""

    def to_bytes(self) -> bytes:
        return canonical_json(asdict(self))


@dataclass(frozen=True)
class Verification:
    """The contents of verifications/ID/LEVEL.json: a verification that held."""

    submission: Sha
    level: Count
    name: Text  # of the level
    found: list[Text]  # what each level up to this one found
    time: Text
    machine: Text


@dataclass(frozen=True)
class Listed:
    """What the log says of a submission."""

    id: str
    added: str  # time
    level: int = 0  # the highest one that was verified; all are at level 0 when they are added
    author: str = ""  # who submitted it
    withdrawn: str | None = None  # why


@dataclass(frozen=True)
class Leaderboard:
    """A leaderboard's folder. Its methods trust the submissions in it, except for `check` and `verify`."""

    folder: Path

    def add(self, source: Path, suite: str | Path | None = None) -> Submission:
        """Adds a submission, verified at level 0. Adding it again changes nothing.

        Raises:
            Refused: it does not hold, or it was withdrawn.
        """
        entry = verify(source, 0, suite)
        id = entry.submission.id
        with self._held() as events:
            known = {each.id: each for each in _listed(events)}.get(id)
            if known and known.withdrawn is not None:
                raise Refused(f"{id[:12]} was withdrawn: {known.withdrawn}")
            if not known:
                incoming = self._copy(entry)
                self._write(events, "add", id, entry.submission.agent.author)
                self._place(incoming)
        return entry.submission

    def verify(self, id: str, level: int, suite: str | Path | None = None) -> Path:
        """Verifies a submission of the leaderboard up to a level, and records it.

        Raises:
            Refused: a level does not hold.
        """
        id = self.find(id)
        said = dict[int, str]()
        verify(self.submission_folder(id), level, suite, said.__setitem__)
        found = [said[each] for each in sorted(said)]
        verification = Verification(id, level, LEVELS[level], found, _now(), machine())
        path = self.folder / "verifications" / id / f"{level}.json"
        with self._held() as events:
            write_atomically(path, canonical_json(asdict(verification)))
            self._write(events, "verify", id, str(level))
        return path

    def verifications(self, id: str) -> list[Verification]:
        """Those of a submission that were recorded, from the lowest level on.

        Raises:
            Refused: a file is none.
        """
        found = []
        for path in (self.folder / "verifications" / id).glob("*.json"):
            try:
                found.append(_verification().validate_json(path.read_bytes(), strict=True))
            except (ValueError, OSError):
                raise Refused(f"{path} is no record of a verification") from None
        return sorted(found, key=lambda each: each.level)

    def withdraw(self, id: str, why: str) -> None:
        """Removes a submission's files. Its lines in the log stay, with the reason.

        Raises:
            UsageError: there is no such submission.
        """
        id = self.find(id)
        with self._held() as events:
            self._write(events, "withdraw", id, why)
            shutil.rmtree(self.submission_folder(id))

    def listed(self) -> list[Listed]:
        """All submissions, withdrawn ones included, in the order in which they were added."""
        return _listed(self.events())

    def kept(self) -> list[Listed]:
        """The submissions that were not withdrawn, in the order in which they were added."""
        return _kept(self.events())

    def ladder(self) -> list[str]:
        """The ids in ladder.txt, without those that were withdrawn. Maintainers write it."""
        path = self.folder / "ladder.txt"
        words = (line.split() for line in path.read_text().splitlines()) if path.is_file() else ()
        named = [first for first, *_ in filter(None, words)]
        return [each.id for each in self.kept() if each.id in named]

    def find(self, start: str) -> str:
        """The id of the submission on the leaderboard whose id starts like this.

        Raises:
            UsageError: there is none, or more than one.
        """
        found = [each.id for each in self.kept() if each.id.startswith(start)]
        if len(found) != 1:
            raise UsageError(f"{len(found) or 'no'} submissions on {self.folder} begin with {start!r}")
        return found[0]

    def submission_folder(self, id: str) -> Path:
        return self.folder / "submissions" / id

    def events(self) -> list[Event]:
        """The lines of the log, whose hashes make a chain.

        Raises:
            Refused: they do not.
        """
        path = self.folder / "log.jsonl"
        try:
            data = read_file(path, _MAX_LOG) or b""
        except OSError as error:
            raise Refused(f"{path} cannot be read: {error.strerror}") from None
        events, previous = list[Event](), FIRST
        for number, line in enumerate(data.splitlines(keepends=True)):
            if not line.endswith(b"\n"):
                break  # was being written when its writer was killed, and acknowledged to nobody
            try:
                event = _reader().validate_json(line, strict=True)
            except ValueError:
                raise Refused(f"line {number + 1} of {path} is not one of a log") from None
            if (event.number, event.previous, event.to_bytes()) != (number, previous, line):
                raise Refused(f"line {number + 1} of {path} does not follow from the one before it")
            events.append(event)
            previous = sha256(line).hexdigest()
        return events

    def check(self) -> int:
        """Checks the whole folder: the log, and that submissions are those of the log, with the bytes of their ids.

        Returns:
            The number of submissions, without those that were withdrawn.

        Raises:
            Refused: something is missing, too much, or changed.
        """
        with self._held() as events:
            return self._check(events)

    def _check(self, events: Sequence[Event]) -> int:
        kept = {each.id for each in _kept(events)}
        folder = self.folder / "submissions"
        there = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
        for id in sorted(kept ^ there):
            how = (
                "is in the log and not in the folder" if id in kept else "is in the folder and not in the log"
            )
            raise Refused(f"submission {id[:12]} {how}")
        for id in sorted(kept):
            if read_submission(folder / id).id != id:
                raise Refused(f"submission {id[:12]} is another one than its folder's name says")
        return len(kept)

    @contextmanager
    def _held(self) -> Iterator[list[Event]]:
        """Locks the folder, completes or removes what a writer that was killed left, and reads the log."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            remove_unfinished(self.folder / "verifications")  # submissions came whole, and are many
            self._cut_half_line()
            events = self.events()
            known = {each.id for each in _kept(events)}
            for incoming in self.folder.glob(f"{_INCOMING}*"):
                if incoming.name.removeprefix(_INCOMING) in known:
                    self._place(incoming)
                else:
                    shutil.rmtree(incoming)
            yield events

    def _cut_half_line(self) -> None:
        path = self.folder / "log.jsonl"
        data = path.read_bytes() if path.exists() else b""
        whole = data.rfind(b"\n") + 1
        if whole < len(data):
            with path.open("r+b") as file:
                file.truncate(whole)

    def _copy(self, entry: Entry) -> Path:
        """Copies the files that the submission lists, and no others, into a hidden folder."""
        incoming = self.folder / f"{_INCOMING}{entry.submission.id}"
        for name in entry.submission.files:
            write_atomically(incoming / name, entry.file(name))
        write_atomically(incoming / "submission.json", entry.submission.to_bytes())
        return incoming

    def _place(self, incoming: Path) -> None:
        place = self.submission_folder(incoming.name.removeprefix(_INCOMING))
        place.parent.mkdir(exist_ok=True)
        incoming.rename(place)

    def _write(
        self, events: Sequence[Event], event: Literal["add", "verify", "withdraw"], id: str, note: str = ""
    ) -> None:
        """Adds a line to the log, which has these."""
        previous = sha256(events[-1].to_bytes()).hexdigest() if events else FIRST
        line = Event(len(events), previous, event, id, _now(), note).to_bytes()
        with (self.folder / "log.jsonl").open("ab") as file:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())


def _listed(events: Iterable[Event]) -> list[Listed]:
    found: dict[str, Listed] = {}
    for event in events:
        known = found.get(event.submission)
        if event.event == "add":
            found[event.submission] = Listed(event.submission, event.time, author=event.note)
        elif known and event.event == "verify":
            found[event.submission] = replace(known, level=max(known.level, int(event.note)))
        elif known:
            found[event.submission] = replace(known, withdrawn=event.note)
    return list(found.values())


def _kept(events: Iterable[Event]) -> list[Listed]:
    return [each for each in _listed(events) if each.withdrawn is None]


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


@cache
def _reader() -> TypeAdapter[Event]:
    return TypeAdapter(Event)


@cache
def _verification() -> TypeAdapter[Verification]:
    return TypeAdapter(Verification)

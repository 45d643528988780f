"""Videos of submitted agents before and after adaptation. They are recorded once, and stay in the site's folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from mrl_bench.errors import MrlBenchError
from mrl_bench.leaderboard.folder import Leaderboard
from mrl_bench.leaderboard.site.reading import Contents
from mrl_bench.runs.files import write_atomically


class VideoFiles(NamedTuple):
    """Of one agent on one scenario, relative to the site's folder; named after the submission, so they never change."""

    moving: str
    still: str

    @staticmethod
    def of(id: str, scenario: str) -> VideoFiles:
        return VideoFiles(*(f"videos/{id[:12]}-{scenario}{end}.webp" for end in ("", "-still")))


def record_videos(contents: Contents, leaderboard: Leaderboard, out: Path) -> Iterator[str]:
    """Records the videos that are not in the site's folder yet: the first test task, played by the first seed.

    The agents are played in isolation.

    Yields:
        A line for each video that cannot be recorded.
    """
    # A site without new videos needs no torch, which takes seconds to import.
    from mrl_bench.leaderboard.submitted import submitted_agent
    from mrl_bench.runs.video import record

    for suite, entries in contents.shown.items():
        for one in entries:
            for scenario in contents.suites[suite].scenarios:
                files = VideoFiles.of(one.id, scenario)
                if (out / files.moving).is_file():
                    continue
                try:
                    path = contents.suites[suite].suite.path
                    video = record(*submitted_agent(leaderboard, scenario, one.id, 0, path))
                except MrlBenchError as error:
                    yield f"no video of {one.submission.folder_name} on {scenario}: {error}"
                    continue
                write_atomically(out / files.still, video.still)
                write_atomically(out / files.moving, video.moving)  # last: it says that both are there

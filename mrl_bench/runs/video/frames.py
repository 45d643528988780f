"""Composes the frames of a video: the episodes next to each other, with or without text."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from PIL import Image, ImageDraw, ImageFont

from mrl_bench.runs.video.episodes import Episode

HEADER, CAPTION, GAP = 44, 24, 4  # [px] height of the title and of the captions; width between the episodes


def plain_frames(episodes: Sequence[Episode]) -> Iterator[Image.Image]:
    """The episodes next to each other, until the longest one has ended."""
    camera = episodes[0].camera
    for index in range(max(len(episode.frames) for episode in episodes)):
        frame = Image.new("RGB", ((camera.width + GAP) * len(episodes) - GAP, camera.height), "white")
        for column, episode in enumerate(episodes):
            frame.paste(episode.image(index), (column * (camera.width + GAP), 0))
        yield frame


def captioned_frames(episodes: Sequence[Episode], title: str) -> Iterator[Image.Image]:
    """The frames of `plain_frames` under a title and a caption for each episode."""
    font = ImageFont.load_default(13)
    for index, plain in enumerate(plain_frames(episodes)):
        frame = Image.new("RGB", (plain.width, HEADER + CAPTION + plain.height), "white")
        frame.paste(plain, (0, HEADER + CAPTION))
        pen = ImageDraw.Draw(frame)
        lines = textwrap.wrap(title, frame.width // 7, max_lines=2, placeholder=" ...")
        pen.multiline_text((8, 5), "\n".join(lines), fill="black", font=font)
        for column, episode in enumerate(episodes):
            left = column * (episode.camera.width + GAP)
            pen.text((left + 8, HEADER + 3), episode.caption(index), fill="black", font=font)
        yield frame

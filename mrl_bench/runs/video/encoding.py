"""Encodes frames: .mp4 and .gif files, and WebP for a report."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from PIL import Image

from mrl_bench.errors import MissingPart, UsageError
from mrl_bench.runs.files import write_atomically


def check_format(out: Path) -> None:
    """Refuses a file that `write_video` could not write, before anything is played.

    Raises:
        UsageError: `out` is no .mp4 and no .gif.
        MissingPart: the encoder is not installed.
    """
    if out.suffix not in (".mp4", ".gif"):
        raise UsageError(f"--out {out}: a video is an .mp4 or a .gif")
    if out.suffix == ".mp4" and not (find_spec("imageio") and find_spec("imageio_ffmpeg")):
        raise MissingPart("an .mp4 needs imageio and ffmpeg: pip install 'mrl-bench[video]', or give a .gif")


def write_video(out: Path, frames: Iterator[Image.Image], seconds: float) -> None:
    """Writes an .mp4 or a .gif that shows each frame for some seconds."""
    write_atomically(out, _gif(frames, seconds) if out.suffix == ".gif" else _mp4(frames, seconds))


def webp(frames: Sequence[Image.Image], milliseconds: Sequence[int]) -> bytes:
    """An animated WebP that shows each frame for some milliseconds; frames with few colours are lossless."""
    memory = BytesIO()
    more: dict[str, Any] = {
        "save_all": True,
        "append_images": frames[1:],
        "duration": list(milliseconds),
        "loop": 0,
    }
    frames[0].save(memory, "WEBP", allow_mixed=True, quality=40, **more)
    return memory.getvalue()


def _gif(frames: Iterator[Image.Image], seconds: float) -> bytes:
    memory = BytesIO()
    duration = max(20, round(100 * seconds) * 10)  # [ms] GIF counts hundredths of a second
    next(frames).save(memory, "GIF", save_all=True, append_images=frames, duration=duration, loop=0)
    return memory.getvalue()


def _mp4(frames: Iterator[Image.Image], seconds: float) -> bytes:
    import imageio.v2 as imageio

    with TemporaryDirectory() as folder:
        path = Path(folder) / "video.mp4"
        writer: Any = imageio.get_writer(path, format="FFMPEG", fps=1 / seconds, macro_block_size=2)
        with writer:
            for frame in frames:
                writer.append_data(np.asarray(frame))
        return path.read_bytes()

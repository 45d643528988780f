"""Files that are there whole or not at all, and within the folder that they belong to."""

from __future__ import annotations

import errno
import os
import platform
import stat
from pathlib import Path

# Several machines may write to a shared folder, with process ids that are alike.
_HOST = platform.node()


def write_atomically(path: Path, data: bytes, durable: bool = True) -> None:
    """Writes next to `path` and renames: a full disk or a kill leaves what was there before.

    Args:
        path: of the file.
        data: its new contents.
        durable: whether the same holds of a power failure, which takes a few milliseconds.

    Raises:
        OSError: names `path`, whatever went wrong.
    """
    unfinished = path.with_name(f".{path.name}.{_HOST}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with unfinished.open("wb") as file:
                file.write(data)
                if durable:
                    file.flush()
                    os.fsync(file.fileno())
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def inside(folder: Path, name: Path | str) -> Path:
    """`folder / name`, wherever `folder` is.

    Raises:
        OSError: a link, a ".." or an absolute `name` leads out of the folder.
    """
    path = folder / name
    try:
        within = path.resolve().is_relative_to(folder.resolve())
    except RuntimeError as error:  # links in a circle
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path)) from error
    if not within:
        raise OSError(errno.EPERM, "a link or name leads out of the results folder", str(path))
    return path


def read_file(path: Path, limit: int) -> bytes | None:
    """The contents of a file; None if there is none.

    Raises:
        OSError: it cannot be read, is larger than `limit` [bytes], or is something else than a file.
    """
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):  # to read a pipe could wait for ever
            raise OSError(errno.EINVAL, "it is not a file", str(path))
        if found.st_size > limit:
            raise OSError(errno.EFBIG, f"it has more than {limit:,} bytes", str(path))
        return path.read_bytes()
    except FileNotFoundError:
        return None


def remove_unfinished(folder: Path) -> None:
    """Removes what writers of this machine that were killed left in a folder and its subfolders."""
    for path in folder.rglob(".*"):
        written, pid = path.stem, path.suffix[1:]
        if written.endswith(f".{_HOST}") and pid.isdecimal() and not _runs(int(pid)):
            path.unlink(missing_ok=True)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        pass
    return True

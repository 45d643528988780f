"""Makes it an error to unpickle an object by its name, which could execute anything."""

from __future__ import annotations

import sys


def refuse_unpickling() -> None:
    """From now on in this process. Ray pickles its own messages, so its processes are left alone."""

    def refuse(event: str, arguments: tuple[object, ...]) -> None:
        if event == "pickle.find_class" and "ray" not in sys.modules:
            raise RuntimeError(f"unpickled {arguments[0]}.{arguments[1]}")

    sys.addaudithook(refuse)

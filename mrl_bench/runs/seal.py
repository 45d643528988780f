"""The envelope of a result file: what it is, under which key, and a hash of everything before the hash.

    {"body":{...},"files":{"KEY.webp":{"bytes":1234,"sha256":"..."}},"key":"KEY","kind":"video","sha256":"..."}

`files` are other files that belong to the result. The same contents give the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from mrl_bench.results import canonical_json

Fingerprint = Mapping[str, Any]  # "bytes": size, "sha256": hash in hexadecimal


class Damaged(Exception):
    """A file is not what was written. The message says why, as a sentence about the file ("it")."""


def fingerprint(data: bytes) -> Fingerprint:
    return {"bytes": len(data), "sha256": sha256(data).hexdigest()}


def seal(kind: str, key: str, body: Any, files: Mapping[str, Fingerprint]) -> bytes:
    """The bytes of a result file."""
    return _closed(canonical_json({"body": body, "files": files, "key": key, "kind": kind})[:-2])


def unseal(data: bytes, kind: str, key: str) -> tuple[Any, Mapping[str, Fingerprint]]:
    """The body, and the fingerprints of the files.

    Raises:
        Damaged: the hash is not that of the contents, or the file holds something else.
        ValueError, KeyError, TypeError, RecursionError: the contents are no envelope.
    """
    contents = data[: -len(_closed(b""))]
    if data != _closed(contents):
        raise Damaged("its sha256 is not that of its contents")
    envelope = json.loads(contents + b"}")
    found = envelope["kind"], envelope["key"]
    if found != (kind, key):
        raise Damaged("it holds the {} {}, not the {} {}".format(*found, kind, key))
    return envelope["body"], envelope["files"]


def _closed(contents: bytes) -> bytes:
    """Contents with their hash, which is the last entry because keys are sorted."""
    return contents + b',"sha256":"%s"}\n' % sha256(contents).hexdigest().encode()

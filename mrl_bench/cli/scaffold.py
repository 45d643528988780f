"""`mrl-bench new-agent`, `new-scenario` and `new-family`: working templates, each with a test.

A template is a folder of text files in `templates/`. In their text, $name is the name with dashes, $module the name
with underscores, and $Class the name in camel case; in their file names NAME and MODULE stand for the first two.
"""

from __future__ import annotations

import keyword
import re
from importlib.util import find_spec
from pathlib import Path
from string import Template

from mrl_bench.errors import UsageError

_TEMPLATES = Path(__file__).parent / "templates"
_NEXT = {
    "agent": (
        "python -m pytest {folder}",
        "mrl-bench check {module}.agent:{Class}",
        "mrl-bench score {module}.agent:{Class} --smoke",
        "mrl-bench bench --suite {folder}/{name}.yaml",
    ),
    "scenario": (
        "python -m pytest {folder}",
        "mrl-bench info {folder}/{name}.yaml",
        "mrl-bench evaluate {folder}/{name}.yaml random",
    ),
    "family": (
        "python -m pytest {folder}",
        "mrl-bench check {module}.family:{Class} {folder}/{name}-v1.yaml",
        "mrl-bench evaluate {folder}/{name}-v1.yaml random",
    ),
}


def create(kind: str, name: str) -> int:
    """Writes the template of an "agent", "scenario" or "family" into a new folder of the present one.

    Raises:
        UsageError: the name does not fit, is that of a module that is installed, or the folder is there already.
    """
    words = names(kind, name)
    folder = Path(words["module"])
    if folder.exists():
        raise UsageError(f"{folder} is there already: nothing was written")
    if find_spec(words["module"]):
        raise UsageError(f"a Python module is called {words['module']!r} already: take another name")
    for source in sorted((_TEMPLATES / kind).glob("*.template")):
        target = source.name.removesuffix(".template").replace("NAME", words["name"])
        path = folder / target.replace("MODULE", words["module"])
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(Template(source.read_text(encoding="utf-8")).substitute(words), encoding="utf-8")
        print(f"wrote {path}")
    print("next:")
    for line in _NEXT[kind]:
        print("  " + line.format(folder=folder, **words))
    return 0


def names(kind: str, name: str) -> dict[str, str]:
    """The forms of a name that templates use. A scenario's id ends in a version; -v1 is added if it does not."""
    dashed = name.replace("_", "-")
    if kind == "scenario" and not re.search(r"-v[0-9]+$", dashed):
        dashed += "-v1"
    module = dashed.replace("-", "_")
    if (
        not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", dashed)
        or len(dashed) > 40
        or keyword.iskeyword(module)
    ):
        raise UsageError(
            f"{name!r} is no name for a new {kind}: words in lower case, as 'my-{kind}', up to 40 letters"
        )
    return {"name": dashed, "module": module, "Class": "".join(map(str.capitalize, dashed.split("-")))}

"""The source code that a run's results depend on, found by reading import statements. Nothing is executed.

It is the harness (a fixed list), the modules of the agent and of the family, and what these import, in functions too.
A package that is installed in site-packages counts by its version; the standard library does not count.
"""

from __future__ import annotations

import ast
import os
import sys
import sysconfig
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from importlib.machinery import ModuleSpec
from importlib.metadata import packages_distributions, version
from importlib.util import resolve_name
from pathlib import Path
from pkgutil import get_importer
from types import ModuleType

from mrl_bench.errors import MrlBenchError

# The parts of the harness that decide a result. The rest only schedules or shows.
_HARNESS = (
    "agent.py",
    "errors.py",
    "family.py",
    "keyed_random.py",
    "protocol",
    "registry.py",
    "results.py",
    "runs/run.py",
    "runs/terms.py",
    "scenario",
    "types.py",
)
# Covered by source wherever they are installed. Their `__init__` does not count: it is a table of names, and a run's
# key has the class that the table gives.
_OURS = {"mrl_agents", "mrl_bench", "mrl_tasks"}

_INSTALLED = {"site-packages", "dist-packages"}
_STDLIB = tuple({os.path.join(sysconfig.get_path(kind), "") for kind in ("stdlib", "platstdlib")})


class CodeChanged(MrlBenchError):
    """The code of a run is not the code that it was planned with."""


@dataclass(frozen=True)
class Code:
    """What a run's code was when it was planned."""

    sources: Mapping[str, str]  # module -> SHA-256 of its file
    packages: Mapping[str, str]  # installed distribution -> version

    def require(self, planned: Code) -> None:
        """Raises CodeChanged if this is not the planned code."""
        changed = _differences(self.sources, planned.sources) + _differences(self.packages, planned.packages)
        if changed:
            raise _changed(changed)


def _differences(one: Mapping[str, str], other: Mapping[str, str]) -> list[str]:
    return sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))


def _changed(names: Sequence[str]) -> CodeChanged:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return CodeChanged(f"{', '.join(names[:3])}{more} changed after the run was planned")


@cache
def code_of(*modules: str) -> Code:
    """The code of the harness, of these modules, and of everything that they import. Read once per process."""
    own = {name.partition(".")[0] for name in modules} | _OURS
    sources, packages = _harness(), dict[str, str]()
    seen, left = set[str](), list(modules)
    while left:
        for name in _with_parents(left.pop()):
            if name in seen:
                continue
            seen.add(name)
            spec = _find(name)
            if spec is None or not _has_own_code(spec, own):
                if spec and _is_installed(spec):
                    packages |= _distributions(name.partition(".")[0])
                break  # its submodules do not count either
            if spec.origin:
                source = Path(spec.origin).read_bytes()
                if name not in _OURS:
                    sources[name] = sha256(source).hexdigest()
                package = name if spec.submodule_search_locations is not None else name.rpartition(".")[0]
                left += _imported(source, package)
    return Code(sources, packages)


def _harness() -> dict[str, str]:
    root = Path(__file__).parents[1]
    parts = (root / part for part in _HARNESS)
    paths = (path for part in parts for path in (part.rglob("*.py") if part.is_dir() else [part]))
    return {_module_name(root, path): _hash(path) for path in paths}


def _module_name(root: Path, path: Path) -> str:
    return ".".join((root.name, *path.relative_to(root).with_suffix("").parts)).removesuffix(".__init__")


def _hash(path: Path) -> str:
    return sha256(path.read_bytes()).hexdigest()


def _with_parents(name: str) -> Iterator[str]:
    """a, a.b and a.b.c of a.b.c: all of them are executed by its import.

    Without `mrl_bench` itself: its functions import the whole harness when they are called.
    """
    parts = name.split(".")
    if all(map(str.isidentifier, parts)):  # else nothing can import it
        prefixes = (".".join(parts[: count + 1]) for count in range(len(parts)))
        yield from (prefix for prefix in prefixes if prefix != "mrl_bench")


@cache
def _imported(source: bytes, package: str) -> frozenset[str]:
    """The modules that a source may import when it runs; some of the names are attributes of modules instead."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):  # it cannot be imported; or it is no Python source
        return frozenset()
    return frozenset(name for node in _import_statements(tree) for name in _names(node, package))


def _import_statements(tree: ast.Module) -> Iterator[ast.Import | ast.ImportFrom]:
    left: list[ast.AST] = [tree]
    while left:
        node = left.pop()
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        if not (isinstance(node, ast.If) and _is_for_types(node.test)):
            left += getattr(node, "body", ())
        for blocks in ("orelse", "finalbody", "handlers", "cases"):
            left += getattr(node, blocks, ())


def _is_for_types(test: ast.expr) -> bool:
    """Whether a condition is TYPE_CHECKING or typing.TYPE_CHECKING."""
    return "TYPE_CHECKING" in (getattr(test, "id", ""), getattr(test, "attr", ""))


def _names(node: ast.Import | ast.ImportFrom, package: str) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
        return
    base = node.module or ""
    if node.level:
        try:
            base = resolve_name("." * node.level + base, package)
        except ImportError:  # beyond the top-level package: it fails when it runs
            return
    yield base
    yield from (f"{base}.{alias.name}" for alias in node.names)


def _find(name: str) -> ModuleSpec | None:
    """Where a module would be imported from. No parent package is imported, as importlib would."""
    parent, _, _ = name.rpartition(".")
    if not parent:
        found = (finder.find_spec(name, None) for finder in sys.meta_path)
        return next((spec for spec in found if spec), None)
    package = _find(parent)
    if package is None or package.submodule_search_locations is None:
        return None
    portions: list[str] = []  # of a namespace package
    for entry in package.submodule_search_locations:
        finder = get_importer(entry)
        spec = finder.find_spec(name) if finder else None
        if spec and spec.loader:
            return spec
        portions += (spec and spec.submodule_search_locations) or ()
    if not portions:
        return None
    namespace = ModuleSpec(name, None, is_package=True)
    namespace.submodule_search_locations = portions
    return namespace


def _has_own_code(spec: ModuleSpec, own: set[str]) -> bool:
    """Whether a module counts by its source. A namespace package does, so that its modules are looked at."""
    if spec.origin is None:
        return spec.submodule_search_locations is not None
    if not os.path.isfile(spec.origin):  # built in or frozen
        return False
    top = spec.name.partition(".")[0]
    if _is_installed(spec):
        return top in own or not _distributions(top)
    return not spec.origin.startswith(_STDLIB)


def _is_installed(spec: ModuleSpec) -> bool:
    return bool(spec.origin and _INSTALLED & {*Path(spec.origin).parts})


@cache
def _distributions(top: str) -> dict[str, str]:
    """The installed distributions of a top-level module, and their versions."""
    return {name: version(name) for name in installed_packages().get(top, ())}


@cache
def installed_packages() -> Mapping[str, list[str]]:
    """The installed distributions of each top-level module. To read them takes long."""
    return packages_distributions()


def import_root(module: str) -> Path:
    """The folder from which a module's top-level package is imported."""
    spec = _find(module.partition(".")[0])
    places = (spec and spec.submodule_search_locations) or ()
    return Path(next(iter(places), (spec and spec.origin) or "")).parent


def sources_of(module: str) -> dict[str, bytes]:
    """The source files of a module's top-level package that it needs: path within the import root -> contents.

    None of the harness itself, which whoever reads them has.
    """
    if module.partition(".")[0] == "mrl_bench":
        return {}
    root, top, files = import_root(module), module.partition(".")[0], {}
    for name in (top, *code_of(module).sources):
        spec = _find(name) if name.partition(".")[0] == top else None
        if spec and spec.origin and os.path.isfile(spec.origin):
            path = Path(spec.origin)
            files[path.relative_to(root).as_posix()] = path.read_bytes()
    return files


class Imports:
    """What this process imports from now on, compared with the code that its run was planned with."""

    def __init__(self) -> None:
        self._seen = {*sys.modules}
        self._unplanned: dict[str, str] = {}

    def unplanned(self, planned: Code, root: Path) -> dict[str, str]:
        """Files of modules that no import statement names -> SHA-256. Paths are relative to `root`.

        Raises:
            CodeChanged: a module that was imported since the last call had been edited.
        """
        new = {name: module for name, module in [*sys.modules.items()] if name not in self._seen}
        self._seen |= new.keys()
        own = {name.partition(".")[0] for name in planned.sources}
        specs = [spec for module in new.values() if (spec := _own_spec(module, own))]
        found = {spec.name: Path(str(spec.origin)) for spec in specs}
        hashes = {name: _hash(path) for name, path in found.items()}
        edited = [name for name in found.keys() & planned.sources if hashes[name] != planned.sources[name]]
        if edited:
            raise _changed(sorted(edited))
        for name in found.keys() - planned.sources - _OURS:
            if not name.startswith("mrl_bench."):
                self._unplanned[Path(os.path.relpath(found[name], root)).as_posix()] = hashes[name]
        return dict(self._unplanned)


def _own_spec(module: ModuleType, own: set[str]) -> ModuleSpec | None:
    """Where an imported module comes from, if it has a file and counts by its source."""
    spec = vars(module).get("__spec__") if isinstance(module, ModuleType) else None
    known = isinstance(spec, ModuleSpec) and spec.origin and _has_own_code(spec, own)
    return spec if known else None


def are_unchanged(files: Mapping[str, str], root: Path) -> bool:
    """Whether what `Imports.unplanned` recorded is still the same."""
    return all((root / name).is_file() and _hash(root / name) == digest for name, digest in files.items())

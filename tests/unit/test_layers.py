"""The house's storeys: imports point one way, as CONTRIBUTING.md draws them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

_PLUGIN = Path(__file__).parents[2] / "plugin"
CONTRIBUTING = _PLUGIN.parent / "CONTRIBUTING.md"

# Lowest first: a folder may import those before it. What shares a line knows nothing of each other.
_STOREYS = (
    ("errors", "clock", "backoff", "environment"),
    ("wording", "sql", "files", "extras"),
    ("task",),
    ("validation", "cost", "images"),
    ("endpoints",),
    ("config", "workspace"),
    ("buckets",),
    ("services", "state"),
    ("warehouse", "console"),
    ("pipeline.request",),
    ("pipeline.stage",),
    ("pipeline.run",),
    ("pipeline.export",),
    ("pipeline.load", "pipeline.planning", "pipeline.recovery"),
    ("pipeline.publish",),
    ("pipeline",),
    ("pipeline.partitions",),
    ("invocation",),
    ("plugin", "report"),
    ("python_models", "spark", "cli"),
    ("__init__",),
)
_LEVEL = {room: level for level, storey in enumerate(_STOREYS) for room in storey}


def _modules(path: Path) -> Iterator[str]:
    """Yield the modules that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: imports are absolute"
            yield node.module
            folder = _PLUGIN / node.module.replace(".", "/")
            names = (alias.name for alias in node.names)
            yield from (
                f"{node.module}.{name}"
                for name in names
                if (folder / f"{name}.py").exists() or (folder / name).is_dir()
            )


def _room(module: str) -> str | None:
    """Return the folder of dbt_enrich that a module lies in, or None where it lies elsewhere."""
    parts = module.split(".")
    if parts[0] != "dbt_enrich":
        return None
    if len(parts) == 1:
        return "__init__"
    for depth in (2, 1):
        room = ".".join(parts[1 : 1 + depth])
        if room in _LEVEL and (depth == 1 or room != parts[1]):
            return room
    return parts[1]


def _sources(package: str) -> list[Path]:
    return sorted((_PLUGIN / package).rglob("*.py"))


def _module(path: Path) -> str:
    return ".".join(path.relative_to(_PLUGIN).with_suffix("").parts).removesuffix(".__init__")


@pytest.mark.parametrize("path", _sources("dbt_enrich"), ids=_module)
def test_imports_point_down(path: Path) -> None:
    """From a storey to a lower one, or within a room."""
    own = _room(_module(path))
    assert own in _LEVEL, f"{own} has no storey in {Path(__file__).name}"
    for module in _modules(path):
        room = _room(module)
        # The package itself is imported for a name that is loaded when it is used.
        if room is None or room == own or module == "dbt_enrich":
            continue
        assert _LEVEL[room] < _LEVEL[own], f"{_module(path)} imports {module}"


def test_contributors_read_the_same() -> None:
    """Of the storeys, and of what each folder is for."""
    blocks = re.findall(r"```text\n(.*?)```", CONTRIBUTING.read_text(encoding="utf-8"), re.DOTALL)
    tree, storeys = blocks
    drawn = [tuple(line.replace("/", ".").split(", ")) for line in storeys.splitlines()]
    assert drawn == [storey for storey in _STOREYS[::-1] if storey != ("__init__",)]
    for package in ("dbt_enrich", "batch_server"):
        folders = {path.parent.name for path in _sources(package)}
        assert [name for name in folders if f" {name}/ " not in tree.replace("plugin/", " ")] == []
    for name in re.findall(r"^ +(\w+)/ ", tree, re.MULTILINE):
        assert any(_PLUGIN.rglob(f"{name}/__init__.py")), f"{name}/ is gone"


def test_every_storey_is_there() -> None:
    """A folder that was renamed leaves no line behind."""
    there = {_room(_module(path)) for path in _sources("dbt_enrich")}
    assert there == set(_LEVEL)


@pytest.mark.parametrize("path", _sources("batch_server"), ids=_module)
def test_the_batch_server_stands_alone(path: Path) -> None:
    """It imports nothing of dbt_enrich, so that it can be taken out whole."""
    assert [module for module in _modules(path) if module.split(".")[0] == "dbt_enrich"] == []


def test_no_two_folders_of_the_batch_server_import_each_other() -> None:
    """Nor do modules of the one above them; dbt_enrich's storeys hold the same for its folders."""
    imported: dict[str, set[str]] = {}
    for path in _sources("batch_server"):
        own = _server_room(_module(path))
        found = {_server_room(m) for m in _modules(path) if m.startswith("batch_server.")}
        imported[own] = imported.get(own, set()) | (found - {own})
    assert len(list(TopologicalSorter(imported).static_order())) == len(imported)


def _server_room(module: str) -> str:
    """Return the folder of a module of the batch server, or the module itself if it is in none."""
    return ".".join(module.split(".")[:2])

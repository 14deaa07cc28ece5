"""The enrichments of a dbt project, out of the manifest that dbt leaves in its target directory."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from dbt_enrich.cli.project import yaml_document
from dbt_enrich.errors import ConfigurationError, EnrichmentError
from dbt_enrich.pipeline.hosted import HostedModel, HostedUpstream
from dbt_enrich.pipeline.planning.constraints import parse_constraints
from dbt_enrich.pipeline.stage.input_checks import parse_unique_key
from dbt_enrich.task.command_options import commanded
from dbt_enrich.task.from_yaml import options_from_yaml, task_from_yaml
from dbt_enrich.task.model_names import labels
from dbt_enrich.task.version_lists import blocks_in, separated
from dbt_enrich.warehouse.host import Host, HostTable, ModelTables

_MATERIALIZED = "enrichment"
# dbt's own word on a model that is built, of its versions.
_BUILT = ("success", "pass")
_VERSION_MACRO = "macro.dbt_enrich._package_version"
_VERSION = re.compile(r"return\(\s*'([^']+)'\s*\)")
_Node = Mapping[str, Any]


def target_path(root: Path) -> Path:
    """Return the directory in which dbt leaves what it has parsed and done.

    Args:
        root: The project's directory.
    """
    given = (os.environ.get(name) for name in ("DBT_ENGINE_TARGET_PATH", "DBT_TARGET_PATH"))
    written = yaml_document(root / "dbt_project.yml").get("target-path")
    return root / (next(filter(None, given), None) or str(written or "target"))


class RunResults:
    """What dbt leaves of a run that comes next.

    Args:
        root: The project's directory.
    """

    def __init__(self, root: Path) -> None:
        self._path = target_path(root) / "run_results.json"
        self._before = _written(self._path)

    def built(self) -> set[str]:
        """Return the unique ids of the models that the run has built.

        Raises:
            EnrichmentError: dbt has written what cannot be read.
        """
        return self._of(*_BUILT)

    def reused(self) -> set[str]:
        """Return the unique ids of the models that the run has left as they were (dbt State).

        Raises:
            EnrichmentError: dbt has written what cannot be read.
        """
        return self._of("reused")

    def _of(self, *statuses: str) -> set[str]:
        # Where it selects nothing, dbt leaves the word of an earlier run.
        if _written(self._path) == self._before:
            return set()
        results = _document(self._path).get("results") or ()
        return {str(one["unique_id"]) for one in results if one["status"] in statuses}


@contextmanager
def alone_in(root: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Let no other command work on a project for as long as the block runs.

    What dbt leaves in its target directory is of its last run, whoever started it. A killed
    command holds nothing up.

    Args:
        root: The project's directory.
        say: Takes a line for the user where another command has to end its step first.

    Raises:
        ConfigurationError: dbt's target directory cannot be written.
    """
    directory = target_path(root)
    lock = FileLock(directory / "dbt-enrich.lock", mode=0o600)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout:
        say("another dbt-enrich works on this project; waiting for the end of its step")
        lock.acquire()
    except OSError as error:
        raise ConfigurationError(
            f"dbt's target directory {directory} cannot be written ({error.strerror or error})",
            fix="make it writable, or name another by DBT_TARGET_PATH",
        ) from None
    try:
        yield
    finally:
        lock.release()


@dataclass(frozen=True)
class Manifest:
    """What dbt has parsed.

    Attributes:
        root: The project's directory.
        nodes: Models and others by unique id.
        names: What each model is called, by unique id.
        written: When dbt wrote it, in nanoseconds.
        version: The version of the dbt package, or None where dbt does not say.
    """

    root: Path
    nodes: Mapping[str, _Node]
    names: Mapping[str, str]
    written: int = 0
    version: str | None = None

    @staticmethod
    def is_there(root: Path) -> bool:
        """Whether dbt has left one of a project."""
        return (target_path(root) / "manifest.json").exists()

    @staticmethod
    def read(root: Path) -> Manifest:
        """Read what dbt has left of a project.

        Args:
            root: The project's directory.

        Raises:
            EnrichmentError: It has left none.
        """
        path = target_path(root) / "manifest.json"
        written = _written(path)
        document = _document(path)
        nodes, macros = document.get("nodes") or {}, document.get("macros") or {}
        models = {i for i, node in nodes.items() if node.get("resource_type") == "model"}
        text = str((macros.get(_VERSION_MACRO) or {}).get("macro_sql") or "")
        version = _VERSION.search(text)
        return Manifest(root, nodes, labels(models), written or 0, version[1] if version else None)

    def is_last(self) -> bool:
        """Whether dbt has parsed nothing since."""
        return _written(target_path(self.root) / "manifest.json") == self.written

    def enrichments(self, among: Collection[str]) -> list[str]:
        """Return the unique ids of enrichments, each after those that it reads.

        Args:
            among: The unique ids of the models that are meant.
        """
        graph = {i: _parents(node) for i, node in sorted(self.nodes.items())}
        order = TopologicalSorter(graph).static_order()
        return [i for i in order if i in among and _is_enrichment(self.nodes.get(i, {}))]

    def reads(self, unique_id: str) -> Iterator[str]:
        """Yield the unique ids of all that a model reads, directly or through others."""
        seen: set[str] = set()
        wanted = list(_parents(self.nodes[unique_id]))
        while wanted:
            one = wanted.pop()
            if one in seen:
                continue
            seen.add(one)
            yield one
            wanted += _parents(self.nodes.get(one, {}))

    def missing(self, unique_id: str, host: Host) -> list[str]:
        """Return the names of models, seeds and snapshots that a model reads and no table is of.

        Args:
            unique_id: The model.
            host: Where the tables are.
        """
        found = []
        for parent in _parents(self.nodes[unique_id]):
            node = self.nodes.get(parent)
            if node is None or node.get("defer_relation"):
                continue
            if not node.get("relation_name"):
                # An ephemeral model is part of the SELECT.
                found += self.missing(parent, host)
            elif host.columns(_table(node)) is None:
                found.append(self.names.get(parent) or str(node["name"]))
        return list(dict.fromkeys(found))

    def model(self, unique_id: str) -> HostedModel:
        """Return an enrichment.

        Raises:
            ConfigurationError: Something in its YAML is wrong.
        """
        name, node = self.names[unique_id], self.nodes[unique_id]
        config = node["config"]
        meta = (config.get("meta") or {}).get("enrichment")
        if not isinstance(meta, Mapping) or not meta:
            raise ConfigurationError(
                f"model '{name}': the YAML has no config.meta.enrichment",
                fix="add it with model, user and output",
            )
        meta = self._of_version(name, node, meta)
        enforced = (config.get("contract") or {}).get("enforced")
        docs = config.get("persist_docs") or {}
        key = parse_unique_key(name, config.get("unique_key"))
        return HostedModel(
            name=name,
            enrichment=unique_id,
            tables=ModelTables.of(_table(node), key),
            task=task_from_yaml(name, meta, node["columns"]),
            options=commanded(options_from_yaml(name, meta)),
            target=node.get("relation_name"),
            upstream=tuple(self._upstream(_parents(node))),
            constraints=parse_constraints(name, node["columns"], node.get("constraints") or ())
            if enforced
            else (),
            indexes=bool(config.get("indexes")),
            comments=bool(docs.get("relation") or docs.get("columns")),
            declared=_types(node["columns"]) if enforced else {},
        )

    def _of_version(self, name: str, node: _Node, meta: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the block of a versioned model without lists that dbt has joined."""
        _, _, file = str(node.get("patch_path") or "").partition("://")
        if node.get("version") is None or not file:
            return meta
        blocks = blocks_in(
            self._package(node["package_name"]) / file, node["name"], node["version"]
        )
        return separated(meta, blocks, model=name) if blocks else meta

    def _package(self, package: str) -> Path:
        document = yaml_document(self.root / "dbt_project.yml")
        if document.get("name") == package:
            return self.root
        return self.root / str(document.get("packages-install-path") or "dbt_packages") / package

    def _upstream(
        self, parents: Collection[str], *, is_alone: bool = True, seen: set[str] | None = None
    ) -> Iterator[HostedUpstream]:
        """Yield the enrichments that are read, directly or through models between them."""
        seen = set() if seen is None else seen
        is_alone = is_alone and len(parents) == 1
        for unique_id in parents:
            node = self.nodes.get(unique_id)
            if node is None or unique_id in seen:
                continue
            seen.add(unique_id)
            # What a Python model is, its table says.
            if _is_enrichment(node) or node.get("language") == "python":
                yield HostedUpstream(
                    name=self.names.get(unique_id, str(node["name"])),
                    enrichment=unique_id,
                    tables=tuple(map(_table, filter(None, (node, node.get("defer_relation"))))),
                    unique_key=_names(node["config"].get("unique_key")),
                    is_alone=is_alone,
                )
            if not _is_enrichment(node):
                yield from self._upstream(_parents(node), is_alone=is_alone, seen=seen)


def _written(path: Path) -> int | None:
    return path.stat().st_mtime_ns if path.exists() else None


def _is_enrichment(node: _Node) -> bool:
    return (node.get("config") or {}).get("materialized") == _MATERIALIZED


def _types(columns: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    return {str(c["name"]): str(c["data_type"]) for c in columns.values() if c.get("data_type")}


def _parents(node: _Node) -> list[str]:
    return list(dict.fromkeys((node.get("depends_on") or {}).get("nodes") or ()))


def _table(node: _Node) -> HostTable:
    return HostTable(node.get("database"), str(node["schema"]), str(node["alias"]))


def _names(value: str | Iterable[object] | None) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(map(str, value or ()))


def _document(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise EnrichmentError(
            f"{path}, which dbt writes, cannot be read ({error})",
            fix="let dbt write it (write_json), and name its directory as target-path in "
            "dbt_project.yml or by DBT_TARGET_PATH",
        ) from None
    return dict(found)

"""What the fork server imports: dbt, having run a project twice.

dbt makes the code that validates, reads and writes its manifest when it is first needed, and parses
the text of each macro and compiles it, in every process anew, which takes longer than the run of a
small project. A fork has it all: what dbt keeps of texts for its own tests is kept here, and what
it parsed of the package is taken for what a new project's last run left.
"""

from __future__ import annotations

import gc
import os
import sys
from contextlib import redirect_stdout, suppress
from functools import cache
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory

import dbt.task.build  # noqa: F401
import dbt_common.exceptions
import dbt_enrich.pipeline.engine
import dbt_enrich.plugin
import dbt_enrich.services.openai  # noqa: F401
import pandas as pd  # noqa: F401
from dbt.adapters.duckdb.connections import DuckDBConnectionManager
from dbt.cli.main import cli
from dbt.contracts.graph.manifest import Manifest
from dbt.flags import get_flags
from dbt.parser.manifest import ManifestLoader, extended_mashumuro_decoder
from dbt_common.tests import enable_test_caching

from support.dbt_project import DbtProject, azure


def warm() -> Manifest:
    """Run a project of no rows, and run it again from what the first time left.

    Returns:
        What dbt keeps of a project that has no more than the package.
    """
    here = Path.cwd()
    with TemporaryDirectory() as directory:
        project = DbtProject(Path(directory), azure("http://127.0.0.1:1", "none"))
        in_this_process(project, "parse")
        kept = (project.directory / "target" / "partial_parse.msgpack").read_bytes()
        project.enrichment("warm", "select 1 as id, 'note' as note limit 0")
        for _ in range(2):
            in_this_process(project, "run")
        # A fork has no thread of an open database either.
        DuckDBConnectionManager.close_all_connections()
    os.chdir(here)
    manifest: Manifest = Manifest.from_msgpack(kept, decoder=extended_mashumuro_decoder)
    del manifest.state_check.project_hashes[manifest.metadata.project_name]
    return manifest


def in_this_process(project: DbtProject, command: str) -> None:
    """Run dbt on a project."""
    places = ["--project-dir", str(project.directory), "--profiles-dir", str(project.directory)]
    with (
        Path(os.devnull).open("w") as nowhere,
        redirect_stdout(nowhere),
        suppress(SystemExit),
    ):
        # The static parser has threads of its own, which no fork would have.
        cli(["--no-static-parser", command, *places], prog_name="dbt")


def begin_with(manifest: Manifest) -> None:
    """Have dbt parse no more of a new project than is its own.

    As after a run of the same packages, from which it would read the manifest. A project with
    macros or hooks of its own is parsed whole, as they may stand in for the package's, and so is
    one whose warnings are errors, as what is not parsed warns of nothing.

    Args:
        manifest: What it keeps of a project that has no more than the package.
    """
    read = ManifestLoader.read_manifest_for_partial_parse
    unused = [manifest]

    def reading(loader: ManifestLoader) -> Manifest | None:
        found: Manifest | None = read(loader)
        if found is not None or not unused or not _fits(manifest, loader):
            return found
        fresh = loader.manifest
        manifest.metadata, manifest.state_check = fresh.metadata, fresh.state_check
        return unused.pop()

    ManifestLoader.read_manifest_for_partial_parse = reading


def _fits(manifest: Manifest, loader: ManifestLoader) -> bool:
    """Say whether a project has the same packages, and nothing that changes how they are parsed."""
    root, flags = loader.root_project, get_flags()
    packages = dict(loader.manifest.state_check.project_hashes)
    del packages[root.project_name]
    own = [Path(root.project_root) / path for path in (*root.macro_paths, *root.test_paths)]
    return (
        flags.PARTIAL_PARSE
        and not flags.WARN_ERROR
        and packages == manifest.state_check.project_hashes
        and not (root.dispatch or root.on_run_start or root.on_run_end)
        # The package's first hook looks for one as it is parsed.
        and not getattr(root.credentials, "remote", None)
        and not any(path.exists() for path in own)
    )


def know_secrets() -> None:
    """Have dbt look for secrets among a process's variables once, and not for each line it logs."""
    each_time = dbt_common.exceptions.env_secrets
    once = cache(each_time)
    for module in [*sys.modules.values()]:
        if getattr(module, "env_secrets", None) is each_time:
            setattr(module, "env_secrets", once)  # noqa: B010


enable_test_caching()
with suppress(ImportError):
    import_module("dbt.adapters.postgres")
begin_with(warm())
know_secrets()
# No fork looks through what is here for garbage.
gc.collect()
gc.freeze()

"""What the fork server imports: dbt, having run a project twice.

dbt makes the code that validates, reads and writes its manifest when it is first needed, and parses
the text of each macro and compiles it, in every process anew, which takes longer than the run of a
small project. A fork has it all: what dbt keeps of texts for its own tests is kept here.
"""

from __future__ import annotations

import gc
import os
from contextlib import redirect_stdout, suppress
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory

import dbt.task.build  # noqa: F401
import dbt_enrich.pipeline.engine
import dbt_enrich.plugin
import dbt_enrich.services.openai  # noqa: F401
import pandas as pd  # noqa: F401
from dbt.adapters.duckdb.connections import DuckDBConnectionManager
from dbt.cli.main import cli
from dbt_common.tests import enable_test_caching

from support.dbt_project import DbtProject, azure


def warm() -> None:
    """Run a project of no rows, and run it again from what the first time left."""
    here = Path.cwd()
    with TemporaryDirectory() as directory, Path(os.devnull).open("w") as nowhere:
        project = DbtProject(Path(directory), azure("http://127.0.0.1:1", "none"))
        project.enrichment("warm", "select 1 as id, 'note' as note limit 0")
        places = ["--project-dir", str(project.directory), "--profiles-dir", str(project.directory)]
        for _ in range(2):
            with redirect_stdout(nowhere), suppress(SystemExit):
                # The static parser has threads of its own, which no fork would have.
                cli(["--no-static-parser", "run", *places], prog_name="dbt")
        # A fork has no thread of an open database either.
        DuckDBConnectionManager.close_all_connections()
    os.chdir(here)


enable_test_caching()
with suppress(ImportError):
    import_module("dbt.adapters.postgres")
warm()
# No fork looks through what is here for garbage.
gc.collect()
gc.freeze()

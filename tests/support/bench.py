"""A project and an emulator that the tests of a process share: dbt parses the project once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree
from typing import Any

from batch_server.server import RunningEmulator, running_emulator

from support.dbt_project import DbtProject, azure
from support.endpoints import SINGLY, provider_for
from support.vectors import MODEL, SIZE

ROWS = 7
# Files of four requests and of three.
FILES = 2
_ROWS = f"select i as id, 'note ' || i as note from range({ROWS}) as numbers(i)"
_PYTHON_MODEL = f"""
def model(dbt, session):
    import os

    from dbt_enrich import EnrichmentTask, OutputColumn, enrich

    dbt.config(materialized="table")
    task = EnrichmentTask(
        model="gpt-4o-mini",
        system="Summarise the note.",
        user="{{note}}",
        endpoint=os.environ.get("NOTES_ENDPOINT", "chat"),
        outputs=[OutputColumn(name="summary", data_type="varchar")],
    )
    return enrich(dbt, session, session.sql("{_ROWS}"), task, unique_key="id")
"""
_MODE = "{{ env_var('NOTES_MODE', 'run') }}"
_VECTOR_TYPE = f"float[{SIZE}]"
_PYTHON_VECTORS = f"""
def model(dbt, session):
    from dbt_enrich import EnrichmentOptions, EnrichmentTask, OutputColumn, enrich

    dbt.config(materialized="table")
    task = EnrichmentTask(
        model="{MODEL}",
        user="{{note}}",
        endpoint="embeddings",
        outputs=[OutputColumn(name="vector", data_type="{_VECTOR_TYPE}")],
    )
    options = EnrichmentOptions({", ".join(f"{key}={value}" for key, value in SINGLY.items())})
    rows = session.sql("{_ROWS}")
    return enrich(dbt, session, rows, task, unique_key="id", options=options)
"""


@dataclass(frozen=True)
class Bench:
    """A project whose models `from_sql` and `from_python` enrich seven rows in two files.

    The environment variable NOTES_MODE says the mode of `from_sql`, and NOTES_ENDPOINT what both
    ask. `vectors_from_sql` and `vectors_from_python` ask for embeddings, of a service that offers
    them.

    Attributes:
        project: The project.
        emulator: The service.
        plugin: The plugin's `config:`.
    """

    project: DbtProject
    emulator: RunningEmulator
    plugin: dict[str, Any]

    @contextmanager
    def configured(self, **changes: Any) -> Iterator[None]:
        """Change the plugin's `config:` while the block runs; None takes a key out."""
        changed = {**self.plugin, **changes}
        self.project.configure({k: v for k, v in changed.items() if v is not None})
        try:
            yield
        finally:
            self.project.configure(self.plugin)

    def offering(self, endpoint: str) -> AbstractContextManager[None]:
        """Have the service be one that offers an endpoint while the block runs."""
        provider = provider_for(endpoint, self.emulator.url, self.emulator.api_key)
        return self.configured(**{"endpoint": None, **provider})

    def clear(self) -> None:
        """Take everything back but dbt's parsed project."""
        self.emulator.rules([])
        self.emulator._act("reset", None)
        self.emulator.resume()
        rmtree(self.project.state_dir, ignore_errors=True)
        for path in self.project.warehouse.parent.glob(f"{self.project.warehouse.name}*"):
            path.unlink()

    def assert_whole(self, table: str = "from_sql") -> None:
        """Every row has its own answer, and every request was answered and paid for once."""
        found = self.project.rows(f"select id, summary, enrichment_status from {table} order by id")
        assert found == [(i, f"summary: note {i}", "done") for i in range(ROWS)]
        account = self.emulator.account()
        assert len(account["paid"]) == ROWS
        assert set(account["paid"].values()) == {1}
        assert set(account["request_keys"].values()) == {1}

    def creations(self) -> int:
        """Return how often the service was asked to create a batch."""
        calls = self.emulator.account()["calls"]
        return sum(call["method"] == "POST" and call["path"] == "/batches" for call in calls)


@contextmanager
def running_bench(directory: Path) -> Iterator[Bench]:
    """Write the project and run the emulator while the block runs."""
    with running_emulator(directory / "emulator") as emulator:
        plugin = azure(emulator.url, emulator.api_key, max_requests_per_file=4, timeout=3)
        project = DbtProject(directory, plugin)
        project.enrichment(
            "from_sql",
            _ROWS,
            meta={"mode": _MODE, "endpoint": "{{ env_var('NOTES_ENDPOINT', 'chat') }}"},
        )
        project.enrichment(
            "vectors_from_sql",
            _ROWS,
            meta={
                "mode": _MODE,
                "endpoint": "embeddings",
                "model": MODEL,
                "system": "",
                "output": ["vector"],
                **SINGLY,
            },
            columns=[{"name": "vector", "data_type": _VECTOR_TYPE}],
        )
        project.write("models/from_python.py", _PYTHON_MODEL)
        project.write("models/vectors_from_python.py", _PYTHON_VECTORS)
        yield Bench(project, emulator, plugin)

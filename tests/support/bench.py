"""A project and an emulator that the tests of a process share: dbt parses the project once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree
from typing import Any

from batch_server.server import RunningEmulator, running_emulator

from support.dbt_project import DbtProject, azure

ROWS = 7
# Files of four requests and of three.
FILES = 2
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
    rows = session.sql("select i as id, 'note ' || i as note from range({ROWS}) as numbers(i)")
    return enrich(dbt, session, rows, task, unique_key="id")
"""


@dataclass(frozen=True)
class Bench:
    """A project whose models `from_sql` and `from_python` enrich seven rows in two files.

    The environment variable NOTES_MODE says the mode of `from_sql`, and NOTES_ENDPOINT what both
    ask.

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
        """Change the plugin's `config:` while the block runs."""
        self.project.configure({**self.plugin, **changes})
        try:
            yield
        finally:
            self.project.configure(self.plugin)

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
            f"select i as id, 'note ' || i as note from range({ROWS}) as numbers(i)",
            meta={
                "mode": "{{ env_var('NOTES_MODE', 'run') }}",
                "endpoint": "{{ env_var('NOTES_ENDPOINT', 'chat') }}",
            },
        )
        project.write("models/from_python.py", _PYTHON_MODEL)
        yield Bench(project, emulator, plugin)

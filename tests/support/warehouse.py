"""A warehouse that is enriched without dbt: the engine as the materialization drives it."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import duckdb
from dbt_enrich.clock import MACHINE_CLOCK, Clock
from dbt_enrich.config import PluginConfig, parse_config
from dbt_enrich.console.console import Console
from dbt_enrich.pipeline.checks import empty_tables
from dbt_enrich.pipeline.engine import Engine
from dbt_enrich.pipeline.request import EnrichmentRequest, Outcome
from dbt_enrich.task.enrichment_task import EnrichmentTask
from dbt_enrich.task.options import EnrichmentOptions
from dbt_enrich.task.schema import OutputColumn
from dbt_enrich.warehouse.enriched_table import ExistingTable
from dbt_enrich.warehouse.placement import Placement
from dbt_enrich.warehouse.relation import StagedRelation
from dbt_enrich.warehouse.stays import Stays, is_ordered

from support.publishing import publish

SUMMARY = OutputColumn(name="summary", data_type="varchar", description="What it says")


def summary_task(**changes: Any) -> EnrichmentTask:
    """A task with one text output over the column `note`."""
    values: dict[str, Any] = {
        "model": "gpt-4o-mini",
        "system": "Summarise the note.",
        "user": "{note}",
        "outputs": (SUMMARY,),
    }
    return EnrichmentTask(**{**values, **changes})


def config_for(url: str, api_key: str, state_dir: Path, **changes: Any) -> PluginConfig:
    """The configuration of an Azure resource that is the emulator, with short waits."""
    values: Mapping[str, Any] = {
        "provider": "azure",
        "endpoint": url,
        "api_key": api_key,
        "state_dir": str(state_dir),
        "poll_interval": 0.05,
        "adoption_grace": 0.0,
        "max_retries": 1,
        # So little that what takes more is seen.
        "memory_limit": "160MB",
        **changes,
    }
    return parse_config(values, duckdb_settings={})


class Warehouse:
    """A DuckDB database with an engine on it.

    Args:
        config: The plugin's configuration.
        path: The database file; in memory by default.
        clock: The engine's time.
    """

    def __init__(
        self, config: PluginConfig, path: Path | None = None, *, clock: Clock = MACHINE_CLOCK
    ) -> None:
        self.clock = clock
        self.connection = duckdb.connect(str(path) if path else ":memory:")
        self._publishing = threading.Lock()
        self.log: list[str] = []
        # How much of a table stays, where it is made as it would be now.
        self.stays = Stays.NOTHING
        self.config = config
        self.restart()

    def restart(self, config: PluginConfig | None = None, console: Console | None = None) -> None:
        """Begin again with a new engine, as a new `dbt run` does."""
        self.config = config or self.config
        self.engine = Engine(
            self.config,
            project="tests",
            console=console or Console(self.log.append, clock=self.clock),
            clock=self.clock,
        )

    def enrich(
        self,
        select: str,
        task: EnrichmentTask | None = None,
        *,
        table: str = "enriched",
        unique_key: tuple[str, ...] = ("id",),
        **options: Any,
    ) -> Outcome:
        """Stage a SELECT, enrich it, and publish it as `table` and `<table>__errors`."""
        outcome = self.engine.enrich(self.request(select, task, table, unique_key, **options))
        staged = f"{table}__staged"
        # Threads share the connection, which has one transaction at a time.
        with self._publishing:
            held = publish(self.connection, table, outcome, staged=staged, unique_key=unique_key)
            statuses = self.statuses(table) if outcome.replaces else None
        if statuses is not None:
            self.engine.finish(outcome.run_id, statuses, held)
        else:
            self.engine.finish(outcome.run_id)
        self.log.append(outcome.summary)
        return outcome

    def request(
        self,
        select: str,
        task: EnrichmentTask | None,
        table: str,
        unique_key: tuple[str, ...],
        **options: Any,
    ) -> EnrichmentRequest:
        """Stage a SELECT, and return what the engine is asked."""
        self.connection.execute(f"create or replace table {table}__staged as {select}")
        relation = StagedRelation(
            connection=self.connection.cursor(),
            name=f'"{table}__staged"',
            unique_key=unique_key,
            model=table,
        )
        task = task or summary_task()
        existing = self._existing(table)
        made = empty_tables(relation, task, Placement())
        shapes = {
            name: (self.described(name), self.described(f"({sql})"))
            for name, sql in ((table, made.enriched_sql), (f"{table}__errors", made.errors_sql))
            if existing and (name == table or existing.errors)
        }
        alike = {name for name, (there, new) in shapes.items() if there == new}
        return EnrichmentRequest(
            relation=relation,
            task=task,
            options=EnrichmentOptions(**options),
            enrichment=f"model.tests.{table}",
            existing=existing,
            target=f'"{table}"',
            stays=self.stays if table in alike else Stays.NOTHING,
            is_ordered=is_ordered(self.connection, select),
            errors_may_stay=f"{table}__errors" in alike,
        )

    def described(self, table: str) -> list[tuple[str, str]]:
        """Return the columns of a table, or of a SELECT in brackets, with their types."""
        return [(row[0], row[1]) for row in self.rows(f"describe {table}")]

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """Return the rows of a query."""
        return self.connection.execute(sql).fetchall()

    def statuses(self, table: str = "enriched") -> dict[str, int]:
        """Return the rows by status."""
        return dict(
            self.rows(f"select enrichment_status, count(*) from {table} group by 1 order by 1")
        )

    def _existing(self, table: str) -> ExistingTable | None:
        tables = {row[0] for row in self.rows("show tables")}
        if table not in tables:
            return None
        columns = {row[0]: row[1] for row in self.rows(f"describe {table}")}
        errors = f"{table}__errors" if f"{table}__errors" in tables else None
        return ExistingTable(name=f'"{table}"', columns=columns, errors=errors)

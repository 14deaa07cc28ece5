"""Parts of rows in this process, which may be worked on twice, and once in vain."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow as pa
from dbt_enrich.config import PluginConfig
from dbt_enrich.console.console import Console
from dbt_enrich.pipeline.partitions.engine import PartedEngine, PartedModel, PartedOutcome
from dbt_enrich.task.enrichment_task import EnrichmentTask
from dbt_enrich.task.options import EnrichmentOptions
from dbt_enrich.task.result_columns import KEY
from dbt_enrich.warehouse.parted_rows import PART, PartedCounts

from support.warehouse import summary_task

if TYPE_CHECKING:
    from dbt_enrich.pipeline.request import Outcome
    from dbt_enrich.warehouse.parted_rows import PartedRows, Work

BATCH_ROWS = 32


@dataclass
class LocalRows:
    """Rows of an Arrow table, for `PartedRows`.

    Attributes:
        table: The rows.
        parts: How many parts there are.
        attempts: How often each part is worked on; what the last one yields counts. The one before
            it is left in the middle, as that of a killed machine is.
        by_key: Whether rows that ask the same lie together.
        threads: The threads that asked for a batch of a part.
    """

    table: pa.Table
    parts: int = 2
    attempts: int = 1
    by_key: bool = True
    at_once: int = 2
    jobs: list[str] = field(default_factory=list)
    threads: set[int] = field(default_factory=set)

    @property
    def columns(self) -> dict[str, str]:
        """The types of the columns, by name."""
        return described(self.table)

    def held(self, kind: str) -> str | None:
        """Return the type that values of a type are held as: an Arrow table has no enum."""
        return "VARCHAR" if kind.startswith("ENUM") or kind == "UUID" else kind

    def first(self, rows: int) -> LocalRows:
        """Return so many of the rows, in one part."""
        return LocalRows(self.table.slice(0, rows), parts=1, jobs=self.jobs)

    def answers(self, keyed: Work, table: PartedRows) -> LocalRows:
        """Return those rows of a table that answer a request of these rows."""
        assert isinstance(table, LocalRows)
        batches = keyed(self.table.to_batches(max_chunksize=BATCH_ROWS))
        keys = [key for batch in batches for key in batch.column(KEY).to_pylist()]
        among = [key in set(keys) for key in table.table.column(KEY).to_pylist()]
        return LocalRows(table.table.filter(pa.array(among, pa.bool_())), self.parts, self.attempts)

    def results(
        self, keyed: Work, work: Work, columns: Mapping[str, str]
    ) -> list[Mapping[str, Any]]:
        """Do a piece of work in each part."""
        return list(self.frame(keyed, work, columns).to_pylist())

    def frame(self, keyed: Work, work: Work, columns: Mapping[str, str]) -> pa.Table:
        """Do a piece of work in each part; return what it yields as a table."""
        rows = list(keyed(self.table.to_batches(max_chunksize=BATCH_ROWS)))
        parted: list[list[pa.RecordBatch]] = [[] for _ in range(self.parts)]
        for place, batch in enumerate(rows):
            digits = batch.column(PART).to_pylist()
            for part in range(self.parts):
                among = [self._part(text, place) == part for text in digits]
                parted[part].append(batch.filter(pa.array(among)))
        return self._done([batches for batches in parted if batches], work, columns)

    def each(
        self, names: Sequence[str], work: Work, columns: Mapping[str, str]
    ) -> list[Mapping[str, Any]]:
        """Do a piece of work for each of some names."""
        parts = [[pa.RecordBatch.from_pydict({"name": [name]})] for name in names]
        return list(self._done(parts, work, columns).to_pylist())

    def _pulled(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            self.threads.add(threading.get_ident())
            yield batch

    def _part(self, digits: str, place: int) -> int:
        return int(digits, 16) % self.parts if self.by_key else place % self.parts

    def _done(
        self, parts: Iterable[list[pa.RecordBatch]], work: Work, columns: Mapping[str, str]
    ) -> pa.Table:
        self.jobs.append(", ".join(columns))
        found: list[pa.RecordBatch] = []
        for batches in parts:
            for attempt in range(self.attempts):
                made = work(self._pulled(batches))
                if attempt == self.attempts - 1:
                    found += made
                else:
                    _leave_in_the_middle(made)
        if not found:
            return pa.table({name: pa.array([], pa.string()) for name in columns})
        return pa.concat_tables(
            [pa.Table.from_batches([batch]) for batch in found], promote_options="permissive"
        )


def _leave_in_the_middle(made: Iterator[pa.RecordBatch]) -> None:
    """Have an attempt do its work, and lose what it yields."""
    next(made, None)
    close = getattr(made, "close", None)
    if close:
        close()


def described(table: pa.Table) -> dict[str, str]:
    """Return the DuckDB types of an Arrow table's columns, by name."""
    connection = duckdb.connect()
    connection.register("described", table)
    rows = connection.execute("describe described").fetchall()
    return {row[0]: row[1] for row in rows}


class PartedWarehouse:
    """Rows in parts, with an engine on them.

    Args:
        config: The plugin's configuration.
    """

    def __init__(self, config: PluginConfig) -> None:
        self.config = config
        self.log: list[str] = []
        self.engine = PartedEngine(config, project="tests", console=Console(self.log.append))
        self.connection = duckdb.connect()
        self.settled: Outcome | None = None

    def rows_of(self, select: str, **settings: Any) -> LocalRows:
        """Return the rows of a SELECT in parts."""
        return LocalRows(self.connection.execute(select).to_arrow_table(), **settings)

    def enrich(
        self,
        rows: Any,
        task: EnrichmentTask | None = None,
        *,
        unique_key: tuple[str, ...] = ("id",),
        known: tuple[Any, Any] = (None, None),
        **options: Any,
    ) -> PartedOutcome:
        """Enrich rows, and make the tables `enriched` and `enriched__errors` of what came.

        What is said of the rows is added to the log.
        """
        outcome = self.engine.enrich_parted(self.model(task, unique_key, **options), rows, known)
        if outcome.enriched is None:
            self.log.append(outcome.summary)
        for name, table in (("enriched", outcome.enriched), ("enriched__errors", outcome.errors)):
            if table is not None:
                self.connection.register("made", table)
                self.connection.execute(f"create or replace table {name} as select * from made")
                self.connection.unregister("made")
        if outcome.enriched is not None:
            self.settled = self.engine.settled(outcome, self.counts(), done=0)
            self.log.append(self.settled.summary)
        self.engine.finish(outcome.run_id)
        return outcome

    def counts(self) -> PartedCounts:
        """Count what the tables hold, as a host does."""
        finals = (
            "select retry_with, count(distinct id) from enriched__errors "
            "where retry_with is not null group by 1"
        )
        kinds = (
            "select split_part(enrichment_error, ':', 1), count(*) from enriched "
            "where enrichment_status = 'failed' group by 1"
        )
        return PartedCounts(
            statuses={str(status): rows for status, rows in self.statuses().items()},
            errors=dict(self.found(kinds)),
            commands=dict(self.found(finals)),
            changed=0,
        )

    def model(
        self,
        task: EnrichmentTask | None = None,
        unique_key: tuple[str, ...] = ("id",),
        **options: Any,
    ) -> PartedModel:
        """Return what is asked of rows."""
        return PartedModel(
            "enriched",
            "model.tests.enriched",
            unique_key,
            task or summary_task(),
            EnrichmentOptions(**options),
        )

    def found(self, sql: str) -> list[tuple[Any, ...]]:
        """Return the rows of a query."""
        return self.connection.execute(sql).fetchall()

    def statuses(self) -> dict[str, int]:
        """Return the rows by status."""
        return dict(
            self.found("select enrichment_status, count(*) from enriched group by 1 order by 1")
        )

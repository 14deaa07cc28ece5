"""A job: what a worker is told that works on a part of the rows, on whichever machine."""

from __future__ import annotations

import gzip
import secrets
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb

from dbt_enrich.buckets.bucket import Bucket
from dbt_enrich.clock import Clock
from dbt_enrich.config.bucket_address import BucketAddress
from dbt_enrich.config.file_limits import ServiceLimits
from dbt_enrich.cost.prices import Price
from dbt_enrich.errors import LostOwnershipError
from dbt_enrich.pipeline.export.destination import Destination
from dbt_enrich.pipeline.export.new_requests import Selection
from dbt_enrich.pipeline.request import EnrichmentRequest
from dbt_enrich.pipeline.run.deployments import Spread
from dbt_enrich.pipeline.run.token_quota import TokenRoom
from dbt_enrich.sql import identifier, literal
from dbt_enrich.state.answer_store import AnswerStore
from dbt_enrich.state.directory import StateDirectory
from dbt_enrich.state.file_store import FileKind, StateFile
from dbt_enrich.state.ledger import Ledger
from dbt_enrich.state.run import Run
from dbt_enrich.state.shards import Shard
from dbt_enrich.state.shared_files import SharedFiles
from dbt_enrich.task.options import EnrichmentOptions
from dbt_enrich.task.result_columns import STATUS
from dbt_enrich.warehouse.awaited_texts import Upstream
from dbt_enrich.warehouse.enriched_table import ExistingTable
from dbt_enrich.warehouse.host import DUE
from dbt_enrich.warehouse.parted_rows import PART
from dbt_enrich.warehouse.relation import StagedRelation
from dbt_enrich.workspace.database import Workspace

if TYPE_CHECKING:
    import pyarrow as pa

# What a worker needs nothing of: it takes no step of a shard, and publishes no table.
_UNUSED = ("events", "statuses", "publications")
_ROWS_MEMORY = "512MB"
_ROW_GROUP = 4_096


@dataclass(frozen=True)
class Addressee:
    """Where requests go; a worker never sends them.

    Attributes:
        deployments: The deployments that serve the model, the preferred one first.
        token_limits: Their configured limits on enqueued tokens, where there are some.
        service: The service's id.
        limits: What one file may hold.
        line_url: The `url` of every line.
        namespace: The mark of our own batches.
    """

    deployments: tuple[str, ...]
    token_limits: Mapping[str, int | None]
    service: str
    limits: ServiceLimits
    line_url: str
    namespace: str


@dataclass(frozen=True)
class Job:
    """What every worker of a job is told. It holds no secret: a worker reaches the bucket alone.

    Attributes:
        began: When the job began, by the driver's clock.
        id: The job's name, the folder of the request files that its workers write.
        ledger: The ledger as it was when the job began: a SQLite file, compressed.
        bucket: Where manifests, requests and answers are.
        alive: The runs that were alive then.
        selection: What is asked, and what decides which requests are new.
        options: The model's options.
        enrichment: The dbt model's unique id.
        model: Its name.
        unique_key: The columns that tell rows apart.
        addressee: Where requests go.
        price: What tokens cost, or None if unknown.
        memory_limit: Memory of a worker's private DuckDB, as DuckDB spells it, or None for a share.
        mask: What must not be stored of an error's texts.
        counts_tokens: Whether the tokens of requests are counted.
        most: How many requests each part may write at most, or None for all.
        owing: The names of other enrichments that still owe texts: rows without one wait.
    """

    began: datetime
    id: str
    ledger: bytes
    bucket: BucketAddress
    alive: frozenset[str]
    selection: Selection
    options: EnrichmentOptions
    enrichment: str
    model: str
    unique_key: tuple[str, ...]
    addressee: Addressee
    price: Price | None
    memory_limit: str | None
    mask: str
    counts_tokens: bool = False
    most: int | None = None
    owing: tuple[str, ...] = ()


def requests_file(job: str, shard: str) -> StateFile:
    """Return the file of a shard's requests that a worker of a job writes."""
    return StateFile(FileKind.REQUESTS, f"{job}/{shard}")


def copied(ledger: Ledger, directory: Path) -> bytes:
    """Return a copy of what a ledger says, for workers that have no way to it.

    Args:
        ledger: The ledger.
        directory: Scratch directory.
    """
    path = directory / f"copy-{secrets.token_hex(4)}.sqlite"
    with Ledger(path) as copy:
        ledger.copy_to(copy, {}, but_not=_UNUSED)
    content = path.read_bytes()
    for file in directory.glob(f"{path.name}*"):
        file.unlink()
    return gzip.compress(content, compresslevel=1)


class _DriversClock(Clock):
    """The time as the driver has it: a worker's may be wrong, and it decides what is asked again.

    Args:
        began: When the job began.
    """

    def __init__(self, began: datetime) -> None:
        self._began = began
        self._opened = self.monotonic()

    def now(self) -> datetime:
        """Return the driver's time, or one a little before it, but not before the job began."""
        return self._began + timedelta(seconds=self.monotonic() - self._opened)


class _AsItWas:
    """Who owned shards as a job began; a worker owns none."""

    def __init__(self, alive: frozenset[str]) -> None:
        self._alive = alive

    def is_alive(self, run_id: str) -> bool:
        """Whether a run was alive."""
        return run_id in self._alive

    def is_driven(self, shard: Shard) -> bool:
        """Whether a run that was alive owned a shard."""
        return shard.owner in self._alive

    def adoption_lock(self) -> AbstractContextManager[object]:
        """Guard nothing: a worker adopts no batch."""
        return nullcontext()

    def term(self) -> int:
        """Return the only term there is."""
        return 0

    def confirm(self, term: int) -> None:
        """Refuse: a worker pays for nothing.

        Raises:
            LostOwnershipError: Always.
        """
        raise LostOwnershipError(f"a worker sends nothing, in term {term} or any other")

    def release(self) -> None:
        """Do nothing."""


@dataclass(frozen=True)
class Desk:
    """Where a worker works: a run of its own on a copy of the ledger, gone when the work ends.

    Attributes:
        run: The run, whose files are those of all runs.
        directory: Scratch directory.
        job: What is to be done.
    """

    run: Run
    directory: Path
    job: Job

    def staged(self, batches: Iterable[pa.RecordBatch]) -> StagedRelation | None:
        """Put a part of the rows into a private database; None where there is no row."""
        import pyarrow.parquet as pq

        incoming = iter(batches)
        first = next((batch for batch in incoming if batch.num_rows), None)
        if first is None:
            return None
        # Through a file: DuckDB asks a stream for its batches in a thread of Arrow's pool of eight.
        # Where eight parts of a process wait there, nobody is left to scan the rows that they wait
        # for, and all of them wait for ever.
        path = self.directory / "rows.parquet"
        with pq.ParquetWriter(path, first.schema, compression="lz4") as writer:
            for batch in chain([first], incoming):
                writer.write_batch(batch, row_group_size=_ROW_GROUP)
        connection = rows_database(self.directory / "rows.duckdb", self.job.memory_limit)
        left_out = f"exclude ({identifier(PART)})" if PART in first.schema.names else ""
        connection.execute(
            f"create table staged as select * {left_out} from read_parquet({literal(path)})"
        )
        path.unlink()
        return StagedRelation(connection, "staged", self.job.unique_key, self.job.model)

    def request(
        self, relation: StagedRelation, existing: ExistingTable | None = None
    ) -> EnrichmentRequest:
        """Return what is asked of the rows.

        Args:
            relation: The rows.
            existing: A table that holds answers to them, or None.
        """
        job = self.job
        return EnrichmentRequest(
            relation, job.selection.task, job.options, job.enrichment, existing
        )

    def upstream(self, relation: StagedRelation) -> list[Upstream]:
        """Return the enrichments that still owe texts; which rows wait, a worker cannot see.

        Args:
            relation: The rows, beside which a table stands for those enrichments.
        """
        if self.job.owing:
            relation.connection.execute(
                f"create or replace table owing as select {literal(DUE[0])} as {STATUS}"
            )
        return [Upstream(name, name, ("owing",)) for name in self.job.owing]

    def destination(self) -> Destination:
        """Return where requests go."""
        job, to = self.job, self.job.addressee
        room = TokenRoom(self.run.ledger, lambda name: to.token_limits.get(name))
        return Destination(
            enrichment=job.enrichment,
            spread=Spread(to.deployments, to.service, room, self.run.ledger),
            service=to.service,
            limits=to.limits,
            line_url=to.line_url,
            namespace=to.namespace,
            owner=self.run.id,
            sent_with=job.selection.sent_with,
            tolerance=job.selection.tolerance,
        )


def rows_database(path: Path | None, memory_limit: str | None) -> duckdb.DuckDBPyConnection:
    """Open a private database for rows, in a file or in memory; its times are in UTC."""
    return duckdb.connect(
        str(path) if path else ":memory:",
        config={
            "threads": 1,
            "memory_limit": memory_limit or _ROWS_MEMORY,
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
        },
    )


@contextmanager
def at_desk(job: Job) -> Iterator[Desk]:
    """Open what a worker works with, and leave nothing of it on the machine."""
    with ExitStack() as opened:
        scratch = tempfile.TemporaryDirectory(prefix="dbt-enrich-", ignore_cleanup_errors=True)
        directory = Path(opened.enter_context(scratch))
        store = StateDirectory(directory / "state").made()
        store.ledger.write_bytes(gzip.decompress(job.ledger))
        store.ledger.chmod(0o600)
        run_id = f"worker-{secrets.token_hex(8)}"
        lock = store.begin_run(run_id)
        opened.callback(lock.release)
        workspace = Workspace(lock.path, threads=1, memory_limit=job.memory_limit)
        opened.callback(workspace.close)
        ledger = opened.enter_context(Ledger(store.ledger))
        files = SharedFiles(store, Bucket(job.bucket))
        answers = AnswerStore(files, ledger, workspace)
        owners, clock = _AsItWas(job.alive), _DriversClock(job.began)
        run = Run(run_id, workspace, ledger, owners, store, files, answers, clock)
        yield Desk(run, directory, job)

"""What workers do with a part of the rows: the engine's own steps, on a copy of the ledger.

A worker calls no service and claims nothing. What it writes into the bucket has a name that no
other attempt at the same part has; what it yields are a few rows that say what it wrote. An attempt
whose rows do not come home has written files that nobody names.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from dbt_enrich.console.timings import Timings
from dbt_enrich.cost.estimate import Estimate
from dbt_enrich.pipeline.export.claim import claim, size_to_send
from dbt_enrich.pipeline.export.final_failures import find_finals
from dbt_enrich.pipeline.export.in_flight import seen_now
from dbt_enrich.pipeline.export.new_requests import (
    Chosen,
    NewRequests,
    Undone,
    choose,
    find_undone,
    new_requests,
)
from dbt_enrich.pipeline.export.outgoing import Outgoing
from dbt_enrich.pipeline.export.request_file import ClaimedFiles
from dbt_enrich.pipeline.load.load_shard import load, outputs_of
from dbt_enrich.pipeline.partitions.job import Desk, Job, at_desk, requests_file, rows_database
from dbt_enrich.pipeline.planning.plan import estimate_requests
from dbt_enrich.pipeline.publish.results import publish
from dbt_enrich.pipeline.recovery.table_answers import recover_answers
from dbt_enrich.pipeline.run.token_quota import estimated_tokens
from dbt_enrich.pipeline.stage.staged_rows import StagedRows, stage
from dbt_enrich.sql import identifier, literal
from dbt_enrich.state.file_store import FileKind, StateFile
from dbt_enrich.task.enrichment_task import KEY_DIGITS
from dbt_enrich.task.result_columns import KEY
from dbt_enrich.task.template import message_sql
from dbt_enrich.warehouse.enriched_table import ExistingTable
from dbt_enrich.warehouse.parted_rows import PART
from dbt_enrich.warehouse.placement import PlacedColumns
from dbt_enrich.workspace.key_ranges import ALL_KEYS

if TYPE_CHECKING:
    import pyarrow as pa

WRITTEN: Final[Mapping[str, str]] = {
    "file": "VARCHAR",
    "manifest": "VARCHAR",
    "rows": "BIGINT",
    "bytes": "BIGINT",
    "tokens": "BIGINT",
    "document": "VARCHAR",
}
"""What a worker yields of each file that it wrote; in its last row, without a file, of its part.

`document` is the shard as JSON, or what the part holds."""
LOADED: Final[Mapping[str, str]] = {"shard": "VARCHAR", "document": "VARCHAR"}
"""What a worker yields of each shard that it has read."""
RECOVERED: Final[Mapping[str, str]] = {
    "file": "VARCHAR",
    "answers": "BIGINT",
    "settings": "VARCHAR",
}
"""What a worker yields of each file of answers that it has written out of a table."""
# Digits of a key that say in which part it lies.
_PART_DIGITS = 8
# The digest of a row's message, beside the user's columns.
_DIGEST = '"enrichment digest"'
_BATCH_ROWS = 8_192


@dataclass(frozen=True)
class PartCounts:
    """What a part of the rows holds.

    Attributes:
        rows: All of its rows.
        skipped: Those without a message.
        done: Those that have an answer.
        asking: Those that ask the requests to send.
        fresh: What an export would send, and what not.
        alone: How many of those requests are asked alone where others are packed.
        estimate: What the requests are expected to take, or None where it is not counted.
        owed: Rows whose text another enrichment still owes.
        files: How many files the requests fill, where nothing is written.
        bytes: The bytes of those files.
        finals: Rows that failed for good, by kind of failure, where nothing is written.
    """

    rows: int
    skipped: int
    done: int
    asking: int
    fresh: NewRequests
    alone: int = 0
    estimate: Estimate | None = None
    owed: int = 0
    files: int = 0
    bytes: int = 0
    finals: Mapping[str, int] = field(default_factory=dict)

    def text(self) -> str:
        """Return it as JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def of_text(cls, text: str) -> PartCounts:
        """Return what `text` made JSON of."""
        values = json.loads(text)
        values["fresh"] = NewRequests(**values["fresh"])
        if values["estimate"]:
            values["estimate"] = Estimate(**values["estimate"])
        return cls(**values)


def keyed(job: Job, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Yield the rows with the first digits of their request key, by which they are parted.

    A row without a message has those of its unique key, so that such rows do not all lie together.
    """
    import pyarrow as pa

    names = ", ".join(f"cast({identifier(key)} as varchar)" for key in job.unique_key)
    # What stands in for a message's key is no key of a message.
    parts = f"left(coalesce({_DIGEST}, sha256(concat_ws(chr(31), {names}))), {_PART_DIGITS})"
    for batch, found in _with_keys(job, batches, f"{parts} as {PART}"):
        column = found.column(PART).combine_chunks().cast(pa.string())
        yield pa.RecordBatch.from_arrays(
            [*batch.columns, column], schema=batch.schema.append(pa.field(PART, pa.string()))
        )


def request_keys(job: Job, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Yield the request keys of the rows that have a message, in digits."""
    import pyarrow as pa

    schema = pa.schema([(KEY, pa.string())])
    for _, found in _with_keys(job, batches, f"left({_DIGEST}, {KEY_DIGITS}) as {KEY}"):
        yield from found.filter(found.column(KEY).is_valid()).cast(schema).to_batches()


def _with_keys(
    job: Job, batches: Iterable[pa.RecordBatch], values: str
) -> Iterator[tuple[pa.RecordBatch, pa.Table]]:
    """Yield batches with what a list of SQL expressions makes of their rows and `_DIGEST`."""
    import pyarrow as pa

    task, connection = job.selection.task, rows_database(None, job.memory_limit)
    for batch in batches:
        connection.register("incoming", pa.Table.from_batches([batch]))
        described = connection.execute("describe incoming").fetchall()
        columns = {row[0]: row[1] for row in described}
        message = message_sql(task.template, columns, task.optional, model=job.model)
        key = f"sha256({literal(job.selection.task_key)} || {message})"
        found = connection.execute(
            f"select {values} from (select *, {key} as {_DIGEST} from incoming) as keyed"
        ).to_arrow_table()
        connection.unregister("incoming")
        yield batch, found


def parted(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Yield rows that have a request key with its first digits."""
    import pyarrow as pa
    import pyarrow.compute as pc

    for batch in batches:
        digits = pc.utf8_slice_codeunits(batch.column(KEY).cast(pa.string()), 0, _PART_DIGITS)
        yield pa.RecordBatch.from_arrays(
            [*batch.columns, digits], schema=batch.schema.append(pa.field(PART, pa.string()))
        )


def recovered(
    job: Job, placed: PlacedColumns, batches: Iterable[pa.RecordBatch], *, errors: bool
) -> Iterator[pa.RecordBatch]:
    """Write answers that a part of a table holds, and the state does not, to the bucket.

    Args:
        job: The job.
        placed: The columns of the tables that are made of the rows.
        batches: Rows of the table.
        errors: Whether they are failed attempts.
    """
    with at_desk(job) as desk:
        relation = desk.staged(batches)
        if relation is None:
            return
        run, selection, keys = desk.run, job.selection, desk.directory / "keys.parquet"
        relation.connection.execute(
            f"copy (select distinct try_cast({KEY} as uuid) as request_key from {relation.name}) "
            f"to {literal(keys)} (format parquet)"
        )
        held = relation.columns()
        existing = ExistingTable(relation.name, {} if errors else held, None)
        existing = placed.read(replace(existing, errors=relation.name if errors else None))
        before = run.ledger.answers.live(selection.task_key)
        undone = Undone({ALL_KEYS: keys}, rows=1, seen=seen_now(run, selection.answer_keys))
        recover_answers(run, undone, desk.request(relation, existing), selection)
        written = [
            {"file": file.name, "answers": file.answers, "settings": file.settings}
            for file in run.ledger.answers.files(selection.task_key)
            if file.name not in before
        ]
        if written:
            yield _batch(written, RECOVERED)


def exported(job: Job, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Write the request files and manifests of what is new in a part of the rows."""
    with at_desk(job) as desk:
        found = _chosen(desk, batches)
        if found is None:
            return
        outgoing, counts = found
        written = _write_files(job, outgoing, counts.estimate)
        yield _batch([*written, {"document": counts.text()}], WRITTEN)


def counted(job: Job, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Count what is new in a part of the rows, and write nothing."""
    with at_desk(job) as desk:
        found = _chosen(desk, batches)
        if found is None:
            return
        outgoing, counts = found
        size = size_to_send(outgoing)
        finals = find_finals(desk.run, outgoing.undone, job.selection).kinds
        counts = replace(counts, files=size.files, bytes=size.bytes, finals=dict(finals))
        yield _batch([{"document": counts.text()}], WRITTEN)


def loaded(job: Job, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Read and validate the response files of shards, and write their answers to the bucket."""
    names = [name for batch in batches for name in batch.column("name").to_pylist()]
    if not names:
        return
    with at_desk(job) as desk:
        yield _batch([{"shard": name, "document": _load(desk, name)} for name in names], LOADED)


def published(
    job: Job,
    placed: PlacedColumns,
    columns: Mapping[str, str],
    batches: Iterable[pa.RecordBatch],
    *,
    errors: bool,
) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a part with what became of each, or their failed attempts.

    Args:
        job: The job.
        placed: The columns of the tables that are made of the rows.
        columns: The types of what is yielded, as the rows' engine holds them.
        batches: The rows.
        errors: Whether the failed attempts are wanted.
    """
    with at_desk(job) as desk:
        relation = desk.staged(batches)
        if relation is None:
            return
        rows = _staged(desk, relation)
        made = publish(desk.run, rows, desk.request(relation), job.selection)
        held = ", ".join(
            f"cast({identifier(name)} as {kind}) as {identifier(name)}"
            for name, kind in columns.items()
        )
        select = placed.written(made.enriched_sql, made.errors_sql)[errors]
        relation.connection.execute("set timezone = 'UTC'")
        found = relation.connection.execute(f"select {held} from ({select})")
        yield from found.to_arrow_reader(_BATCH_ROWS)


def _staged(desk: Desk, relation: Any) -> StagedRows:
    selection = desk.job.selection
    return stage(
        relation,
        selection.task,
        selection.task_key,
        desk.run.workspace,
        desk.upstream(relation),
    )


def _chosen(desk: Desk, batches: Iterable[pa.RecordBatch]) -> tuple[Outgoing, PartCounts] | None:
    """Find what is new in a part; None where it has no row."""
    relation = desk.staged(batches)
    if relation is None:
        return None
    job, run, selection = desk.job, desk.run, desk.job.selection
    rows = _staged(desk, relation)
    undone = find_undone(run, rows, selection.answer_keys)
    chosen = choose(run, undone, selection)
    outgoing = Outgoing(
        run=run,
        rows=rows,
        undone=undone,
        chosen=chosen,
        request=desk.request(relation),
        selection=selection,
        destination=desk.destination(),
        price=job.price,
    )
    counts = PartCounts(
        rows=rows.rows,
        skipped=rows.skipped,
        done=rows.keyed - undone.rows,
        asking=chosen.rows,
        fresh=new_requests(run, rows, chosen, selection),
        alone=chosen.alone,
        estimate=estimate_requests(outgoing) if job.counts_tokens else None,
        owed=rows.owed,
    )
    return outgoing, counts


def _write_files(job: Job, outgoing: Outgoing, estimate: Estimate | None) -> list[dict[str, Any]]:
    """Cut requests into files and write them, with their manifests, into the bucket."""
    run = outgoing.run

    def allow(_: Chosen) -> int | None:
        return job.most

    made = claim(outgoing, expected=estimate, allow=None if job.most is None else allow)
    lines = outgoing.selection.lines(outgoing.destination.line_url)
    files = ClaimedFiles(run, outgoing.rows, lines, Timings())
    files.expect(made.new)
    written = []
    for shard in run.ledger.shards.named(made.new):
        done = files.write(shard)
        assert done is not None  # noqa: S101 - it was claimed above
        file = requests_file(job.id, done.shard)
        # One at a time, so that the disk holds one.
        run.files.put([file])
        run.store.requests(done.shard).unlink()
        tokens = done.estimated_prompt_tokens
        written.append(
            {
                "file": file.key,
                "manifest": StateFile(FileKind.MANIFEST, done.shard).key,
                "rows": done.row_count,
                "bytes": done.bytes,
                "tokens": estimated_tokens(done.bytes) if tokens is None else tokens,
                "document": json.dumps(asdict(done)),
            }
        )
    return written


def _load(desk: Desk, name: str) -> str:
    """Read a shard's response files; return what they held as JSON."""
    run, job = desk.run, desk.job
    shard = run.ledger.shards.get(name)
    outputs = outputs_of(run.ledger, shard.task_key)
    assert outputs is not None  # noqa: S101 - the driver looked
    for kind in ("output", "error"):
        run.files.has(StateFile(FileKind.RESPONSES, f"{name}.{kind}"))
    before = run.ledger.answers.live(shard.task_key)
    found = load(run, shard, outputs, keep_files=False, mask=job.mask)
    after = run.ledger.answers.live(shard.task_key)
    return json.dumps(
        {
            **asdict(found),
            "files": {file: count for file, count in after.items() if file not in before},
        }
    )


def _batch(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str]) -> pa.RecordBatch:
    import pyarrow as pa

    values = {name: [row.get(name) for row in rows] for name in columns}
    return pa.RecordBatch.from_pydict(values)

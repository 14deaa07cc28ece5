"""The ledger's schema, as numbered steps that are never edited once released.

They are written as SQLite takes them; `Connection.define` of another database reads its own types
out of them. A step adds what is not there, in the types text, integer and real.
"""

from __future__ import annotations

import secrets
from datetime import UTC, datetime

from dbt_enrich.errors import LedgerError
from dbt_enrich.state.connection import Connection

MIGRATIONS: tuple[tuple[str, tuple[str, ...]], ...] = (
    (
        "m001_create_tables",
        (
            """
            create table tasks (
                task_key text primary key,
                enrichment text not null,
                document text not null,
                outputs text not null,
                first_seen_at text not null
            ) strict
            """,
            """
            create table batches (
                shard text primary key,
                step text not null,
                owner text,
                namespace text not null,
                service text not null,
                enrichment text,
                task_key text not null,
                model text,
                deployment text,
                requests integer not null default 0,
                bytes integer not null default 0,
                input_file_id text,
                batch_id text,
                output_file_id text,
                error_file_id text,
                status text,
                completed integer not null default 0,
                failed integer not null default 0,
                prompt_tokens integer,
                cached_tokens integer,
                completion_tokens integer,
                error text,
                created_at text not null,
                updated_at text not null
            ) strict
            """,
            "create index batches_by_step on batches (step)",
            """
            create table answers (
                name text primary key,
                task_key text not null,
                shard text,
                answers integer not null,
                created_at text not null
            ) strict
            """,
            "create index answers_by_task on answers (task_key)",
            """
            create table events (
                id integer primary key autoincrement,
                at text not null,
                shard text not null,
                step text not null,
                owner text,
                detail text
            ) strict
            """,
        ),
    ),
    (
        "m002_add_token_limits",
        (
            "alter table batches add column cancel_requested_at text",
            """
            create table token_limits (
                service text not null,
                deployment text not null,
                max_enqueued_tokens integer not null,
                source text not null,
                learned_at text not null,
                primary key (service, deployment)
            ) strict
            """,
        ),
    ),
    (
        "m003_add_cost",
        (
            "alter table batches add column estimated_prompt_tokens integer",
            "alter table batches add column estimated_completion_tokens integer",
            """
            create table publications (
                enrichment text primary key,
                name text not null,
                model text not null,
                task_key text not null,
                counts text not null,
                published_at text not null
            ) strict
            """,
            """
            create table retries (
                id integer primary key autoincrement,
                enrichment text not null,
                kind text not null,
                at text not null
            ) strict
            """,
            "create table forgotten (task_key text primary key, at text not null) strict",
        ),
    ),
    (
        "m004_add_what_reports_show",
        (
            "alter table publications add column relation text",
            "alter table publications add column max_attempts integer",
            "alter table publications add column ask_again text not null default '[]'",
            """
            create table statuses (
                shard text not null,
                status text not null,
                at text not null,
                primary key (shard, status)
            ) strict
            """,
        ),
    ),
    ("m005_add_rows", ("alter table batches add column rows integer",)),
    (
        "m006_add_synchronous_shards",
        ("alter table batches add column synchronous integer not null default 0",),
    ),
    (
        "m007_add_uploads_sought",
        ("alter table batches add column uploads_sought integer not null default 0",),
    ),
    (
        "m008_add_settings",
        (
            "alter table batches add column settings text",
            "alter table answers add column settings text",
        ),
    ),
    ("m009_add_target", ("alter table publications add column target text",)),
    (
        "m010_add_stops",
        (
            "alter table batches add column max_failed_share real",
            "alter table batches add column least_answers integer",
            """
            create table stops (
                id integer primary key autoincrement,
                task_key text not null,
                enrichment text,
                settings text not null,
                kind text not null,
                status integer,
                said text not null,
                failed integer not null,
                answers integer not null,
                message text not null,
                began_at text not null,
                at text not null,
                lifted_at text
            ) strict
            """,
            "create index stops_by_task on stops (task_key)",
        ),
    ),
    (
        "m011_add_contents",
        (
            """
            create table contents (
                relation text primary key,
                basis text not null,
                files text not null,
                rows text not null
            ) strict
            """,
        ),
    ),
    (
        "m012_add_endpoint",
        (
            "alter table batches add column endpoint text not null default 'chat'",
            "alter table batches add column reasoning_tokens integer",
        ),
    ),
    (
        "m013_add_leases",
        (
            "create table identity (id text primary key) strict",
            """
            create table leases (
                run text primary key,
                term integer not null,
                host text not null,
                began_at text not null,
                expires_at real not null
            ) strict
            """,
            "create table locks (name text primary key, run text not null) strict",
        ),
    ),
)


def migrate(connection: Connection) -> None:
    """Bring the ledger to the newest schema, all steps that it lacks or none.

    Args:
        connection: A connection without an open transaction.

    Raises:
        LedgerError: The ledger was written by a newer version of dbt-enrich.
    """
    if len(_applied(connection)) == len(MIGRATIONS):
        return
    with connection.critical_section():
        connection.define(
            "create table if not exists migrations "
            "(number integer primary key, name text not null, applied_at text not null) strict"
        )
        applied = _applied(connection)
        for number, (name, statements) in enumerate(MIGRATIONS, start=1):
            if number in applied:
                continue
            for statement in statements:
                connection.define(statement)
            connection.write(
                "insert into migrations values (?, ?, ?)",
                (number, name, datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S")),
            )
        if connection.first("select id from identity") is None:
            # Not derived from anything: a database that was made anew is another ledger.
            connection.write("insert into identity values (?)", (secrets.token_hex(16),))


def _applied(connection: Connection) -> set[int]:
    """Return the numbers of the steps that were taken.

    Raises:
        LedgerError: One of them is unknown.
    """
    if not connection.has_table("migrations"):
        return set()
    applied = {row["number"] for row in connection.read("select number from migrations")}
    newest = max(applied, default=0)
    if newest > len(MIGRATIONS):
        raise LedgerError(
            f"the ledger was written by a newer dbt-enrich (its schema is {newest}, this version "
            f"knows {len(MIGRATIONS)})",
            fix="upgrade with: pip install -U dbt-enrich",
        )
    return applied

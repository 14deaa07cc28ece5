"""The ledger's schema, as numbered steps that are never edited once released."""

from __future__ import annotations

import sqlite3

from dbt_enrich.errors import LedgerError

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
)


def migrate(connection: sqlite3.Connection) -> None:
    """Bring the ledger to the newest schema, each step whole or not at all.

    Args:
        connection: A connection in autocommit mode.

    Raises:
        LedgerError: The ledger was written by a newer version of dbt-enrich.
    """
    connection.execute("begin immediate")
    try:
        connection.execute(
            "create table if not exists migrations "
            "(number integer primary key, name text not null, applied_at text not null) strict"
        )
        applied = dict(connection.execute("select number, name from migrations"))
        _refuse_newer(max(applied, default=0))
        for number, (name, statements) in enumerate(MIGRATIONS, start=1):
            if number in applied:
                continue
            for statement in statements:
                connection.execute(statement)
            connection.execute(
                "insert into migrations values (?, ?, datetime('now'))", (number, name)
            )
        connection.execute("commit")
    except BaseException:
        # On a full disk SQLite has rolled back by itself.
        if connection.in_transaction:
            connection.execute("rollback")
        raise


def _refuse_newer(newest: int) -> None:
    if newest > len(MIGRATIONS):
        raise LedgerError(
            f"the ledger was written by a newer dbt-enrich (its schema is {newest}, this version "
            f"knows {len(MIGRATIONS)})",
            fix="upgrade with: pip install -U dbt-enrich",
        )

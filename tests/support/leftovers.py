"""What a run leaves on disk, as whoever finds it would read it: raw, and decoded."""

from __future__ import annotations

import base64
import json
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from urllib.parse import quote, quote_plus

import duckdb
from dbt_enrich.sql import identifier, literal


def files_below(*roots: Path) -> list[Path]:
    """Return every file below the directories, not following links."""
    return [
        Path(directory) / name
        for root in roots
        for directory, _, names in os.walk(root, followlinks=False)
        for name in names
    ]


def forms(secret: str) -> list[bytes]:
    """Return the secret as it may be written: plain, in URLs, in JSON, in base64, in hex."""
    data = secret.encode()
    plain = [secret, quote(secret), quote(secret, safe=""), quote_plus(secret), data.hex()]
    plain.append(json.dumps(secret)[1:-1])
    found = [text.encode() for text in plain]
    for shift in range(3):
        # The letters that do not depend on what stands before and behind.
        whole = base64.b64encode(b"\0" * shift + data)
        inner = whole[(0, 2, 3)[shift] : len(whole.rstrip(b"=")) - 1]
        found += [inner, inner.replace(b"+", b"-").replace(b"/", b"_")]
    return found


def places_of(secrets: Iterable[str], roots: Iterable[Path]) -> set[Path]:
    """Return the files below the directories that hold one of the secrets in any form."""
    sought = [form for secret in secrets for form in forms(secret)]
    return {
        path
        for path in files_below(*roots)
        if any(form in content for content in contents(path) for form in sought)
    }


def contents(path: Path) -> Iterator[bytes]:
    """Yield a file's bytes, and what they stand for: Parquet, SQLite and DuckDB decoded."""
    data = path.read_bytes()
    yield data
    if data[:4] == b"PAR1" and data[-4:] == b"PAR1":
        yield _decoded(f"read_parquet({literal(path)})")
    elif data.startswith(b"SQLite format 3"):
        yield from _of_copy(path, _sqlite_text)
    elif data[8:12] == b"DUCK":
        yield from _of_copy(path, _duckdb_text)


def _of_copy(path: Path, read: object) -> Iterator[bytes]:
    """Read a copy of a database with its log, as reading changes it."""
    assert callable(read)
    with tempfile.TemporaryDirectory() as directory:
        for source in path.parent.glob(f"{path.name}*"):
            if not source.name.endswith("-shm"):
                shutil.copy(source, directory)
        yield from read(Path(directory) / path.name)


def _sqlite_text(path: Path) -> Iterator[bytes]:
    connection = sqlite3.connect(path)
    try:
        yield "\n".join(connection.iterdump()).encode()
    finally:
        connection.close()


def _duckdb_text(path: Path) -> Iterator[bytes]:
    with duckdb.connect(str(path)) as connection:
        tables = connection.execute(
            "select schema_name, table_name, sql from duckdb_tables() union all "
            "select schema_name, view_name, sql from duckdb_views() where not internal"
        ).fetchall()
        for schema, table, sql in tables:
            yield str(sql).encode()
            yield _decoded(f"{identifier(schema)}.{identifier(table)}", connection)


def _decoded(table: str, connection: duckdb.DuckDBPyConnection | None = None) -> bytes:
    query = f"select cast(found as varchar) from (select found from {table} as found)"
    rows = (connection or duckdb).sql(query).fetchall()
    return "\n".join(str(row) for (row,) in rows).encode()

"""What `catalogs` says of each database is what the database does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import duckdb
import pytest
from dbt_enrich.warehouse.catalogs import Catalog, is_stored, stored
from dbt_enrich.warehouse.databases import find_catalog

# Types of output columns, and of columns that a user's SELECT may have, each with values.
VALUES = {
    "varchar": ["'it''s \"x\" \\ {é} 名'", "''"],
    "boolean": ["true", "false"],
    **{
        kind: ["7", "0"]
        for kind in (
            "tinyint", "smallint", "integer", "bigint", "utinyint", "usmallint", "uinteger",
            "ubigint",
        )
    },
    "hugeint": ["99999999999999999999999999999999999999", "-5"],
    "float": ["1.5"],
    "double": ["0.1", "-1e300"],
    "decimal(10,2)": ["1.25", "-0.05"],
    "decimal(38,10)": ["1234567890123456789012345678.0123456789"],
    "date": ["'2024-02-29'"],
    "time": ["'12:34:56.789'"],
    "timestamp": ["'2024-02-29 12:34:56.789123'"],
    "timestamp with time zone": ["'2024-02-29 12:34:56.789123+02'"],
    "timestamp_ns": ["'2024-02-29 12:34:56.789123456'"],
    "timestamp_s": ["'2024-02-29 12:34:56'"],
    "interval": ["interval 1 month", "interval 90 second"],
    "uuid": ["'6ba7b810-9dad-11d1-80b4-00c04fd430c8'"],
    "blob": ["'\\xAA\\x00'::blob"],
    "json": ["'{\"a\": [1]}'"],
    "enum('a','b c')": ["'b c'"],
    "varchar[]": ["['a, b', '\"', null, '', 'NULL', '{x}']", "[]"],
    "integer[]": ["[1, null]"],
    "date[]": ["['2024-02-29']"],
    "varchar[][]": ["[['a'], ['b', 'c'], []]"],
    "enum('a','b')[]": ["['a', 'b', 'a']"],
    "struct(a integer, \"b c\" varchar, d date[])": [
        "{'a': 1, 'b c': 'x''y\"', 'd': ['2024-02-29']}"
    ],
    "struct(e enum('a','b'), s struct(t varchar))[]": ["[{'e': 'a', 's': {'t': null}}]"],
    "map(varchar, integer)": ["map {'a, b': 1}"],
    "double[2]": ["[1, 2.5]"],
    "float[3]": ["[1, 2.5, -0.5]"],
}  # fmt: skip
# What cannot be held without losing something.
REFUSED = {
    Catalog.DUCKLAKE: ["bit", "bignum", "union(a integer, b varchar)", "hugeint[]"],
    Catalog.POSTGRES: ["union(a integer)", "geometry", "struct(a blob)", "map(integer, integer)"],
    Catalog.SQLITE: ["union(a integer)", "struct(a interval)"],
}


@pytest.fixture
def host(
    extensions: Path, new_database: Callable[[str], str], tmp_path: Path
) -> Iterator[duckdb.DuckDBPyConnection]:
    """One connection with a database of each kind."""
    with duckdb.connect(config={"extension_directory": str(extensions)}) as connection:
        lake = f"ducklake:{tmp_path / 'lake.ducklake'}"
        connection.execute(
            f"attach '{lake}' as lake (data_path '{tmp_path / 'data'}', data_inlining_row_limit 0)"
        )
        connection.execute(f"attach '{tmp_path / 'host.sqlite'}' as lite (type sqlite)")
        name = f"types_{tmp_path.name}"
        connection.execute(f"attach '{new_database(name)}' as post (type postgres)")
        on_postgres = f"ducklake:postgres:{new_database(f'{name}_lake')}"
        connection.execute(
            f"attach '{on_postgres}' as pond "
            f"(data_path '{tmp_path / 'both'}', data_inlining_row_limit 0)"
        )
        yield connection


def test_every_type_is_stored_and_read_as_it_is_said(host: duckdb.DuckDBPyConnection) -> None:
    """Where a type is refused, the database loses something of it or fails."""
    problems: list[object] = []
    for name in ("memory", "lake", "pond", "post", "lite"):
        catalog = find_catalog(host, name)
        table = f"{name}.{'public' if name == 'post' else 'main'}.t"
        for kind, values in VALUES.items():
            rows = " union all ".join(
                f"select {number} as id, cast({value} as {kind}) as x"
                for number, value in enumerate(["null", *values])
            )
            host.execute(f"create or replace temp table rows as {rows}")
            described = str(host.execute("describe rows").fetchall()[1][1])
            held = stored(catalog, described)
            assert held is not None, (catalog, kind)
            written = held.written("x", described, holds_nul=catalog.holds_nul)
            try:
                host.execute(
                    f"create or replace table {table} as select id, {written} as x from rows"
                )
                # As another process finds it.
                host.execute("call pg_clear_cache()")
                there = host.execute(f"describe {table}").fetchall()[1][1]
                different = host.execute(
                    f"select rows.x, {held.read('t.x', described)} from rows join {table} as t "
                    f"using (id) where rows.x is distinct from {held.read('t.x', described)}"
                ).fetchall()
            except duckdb.Error as error:
                problems.append((catalog.value, kind, str(error)[:200]))
                continue
            if different or not is_stored(there, held):
                problems.append((catalog.value, kind, there, held.type, different))
    assert problems == []


def test_texts_with_nul_become_what_postgres_takes(host: duckdb.DuckDBPyConnection) -> None:
    """Also within lists and structs, and beside backslashes."""
    values = {
        "varchar": "'a' || chr(0) || 'b'",
        "varchar[]": "['x' || chr(0) || chr(0) || '\\' || chr(0) || '\\u0000', null]",
        "struct(a varchar)": "{'a': chr(0)}",
    }
    for name, schema in (("post", "public"), ("pond", "main")):
        catalog = find_catalog(host, name)
        for kind, value in values.items():
            described = host.execute(f"select typeof(cast({value} as {kind}))").fetchall()[0][0]
            held = stored(catalog, described)
            assert held is not None
            written = held.written("x", described, holds_nul=catalog.holds_nul)
            host.execute(
                f"create or replace table {name}.{schema}.nul as select {written} as x "
                f"from (select cast({value} as {kind}) as x)"
            )
            (found,) = host.execute(
                f"select cast(x as varchar) from {name}.{schema}.nul"
            ).fetchall()
            assert "\x00" not in found[0]
            if kind == "varchar[]":
                assert "x\ufffd\ufffd" in found[0]
                assert "u0000" in found[0]


@pytest.mark.parametrize("catalog", REFUSED)
def test_what_would_lose_something_is_refused(catalog: Catalog) -> None:
    """Whoever asks is told so before anything is sent."""
    for kind in REFUSED[catalog]:
        assert stored(catalog, kind) is None, kind

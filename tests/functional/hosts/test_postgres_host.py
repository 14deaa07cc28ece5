"""What the host Postgres reads and writes is what a real server holds."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import duckdb
import pytest
from dbt_enrich.errors import ConfigurationError, EnrichmentError, InputError
from dbt_enrich.task.type_names import SCALARS
from dbt_enrich.task.types import parse_type
from dbt_enrich.warehouse.catalogs import Catalog, stored
from dbt_enrich.warehouse.host import HostTable, ModelTables, Written
from dbt_enrich.warehouse.postgres_host import PostgresHost, conninfo
from jinja2 import Environment
from support.dbt_project import REPOSITORY
from support.pooler import transaction_pool
from support.shared_ledger import LedgerServer

for _module in ("adbc_driver_manager", "adbc_driver_postgresql", "pyarrow"):
    pytest.importorskip(_module)

# Types of outputs with a value, and how Postgres calls what holds it.
_OUTPUTS = {
    "varchar": ("'it''s \"x\" \\ {é} 名'", "text"),
    "boolean": ("true", "boolean"),
    "tinyint": ("7", "smallint"),
    "smallint": ("-7", "smallint"),
    "integer": ("7", "integer"),
    "bigint": ("9223372036854775807", "bigint"),
    "utinyint": ("255", "smallint"),
    "uinteger": ("4294967295", "bigint"),
    "ubigint": ("18446744073709551615", "numeric(20,0)"),
    "hugeint": ("99999999999999999999999999999999999999", "numeric(38,0)"),
    "float": ("1.5", "real"),
    "double": ("-1e300", "double precision"),
    "decimal(10,2)": ("-0.05", "numeric(10,2)"),
    "decimal(38,10)": ("1234567890123456789012345678.0123456789", "numeric(38,10)"),
    "date": ("'2024-02-29'", "date"),
    "time": ("'12:34:56.789'", "time without time zone"),
    "timestamp": ("'2024-02-29 12:34:56.789123'", "timestamp without time zone"),
    "timestamp with time zone": (
        "'2024-02-29 12:34:56.789123+02'", "timestamp with time zone"
    ),
    "uuid": ("'6ba7b810-9dad-11d1-80b4-00c04fd430c8'", "uuid"),
    "enum('a','b c')": ("'b c'", "text"),
    "varchar[]": ("['a, b', '\"', null, '', 'NULL', '{x}']", "text[]"),
    "integer[]": ("[1, null]", "integer[]"),
    "boolean[]": ("[true, false]", "boolean[]"),
    "double[]": ("[0.1, -1e300]", "double precision[]"),
    "decimal(10,2)[]": ("[1.25, null]", "numeric(10,2)[]"),
    "date[]": ("['2024-02-29']", "date[]"),
    "timestamp[]": ("['2024-02-29 12:34:56.789123']", "timestamp without time zone[]"),
    "enum('a','b')[]": ("['a', 'b', 'a']", "text[]"),
    "varchar[][]": ("[['a'], ['b', 'c'], []]", "jsonb"),
    "struct(a integer, \"b c\" varchar)": ("{'a': 1, 'b c': 'x''y\"'}", "jsonb"),
    "struct(e enum('a','b'), s struct(t varchar[]))[]": (
        "[{'e': 'a', 's': {'t': [null, 'x']}}]", "jsonb"
    ),
    "float[3]": ("[1, 2.5, -0.5]", "real[]"),
}  # fmt: skip
# Types of a user's columns in Postgres with a value, what the host says of them, and the value.
_STAGED: dict[str, tuple[str, str, object]] = {
    "boolean": ("true", "BOOLEAN", "true"),
    "smallint": ("-3", "SMALLINT", "-3"),
    "bigint": ("9223372036854775807", "BIGINT", "9223372036854775807"),
    "real": ("1.5", "FLOAT", "1.5"),
    "double precision": ("'NaN'", "DOUBLE", "nan"),
    "numeric(12,3)": ("-1.25", "DECIMAL(12,3)", "-1.250"),
    "numeric": ("123456789012345678901234567890123456789012.5", "VARCHAR",
                "123456789012345678901234567890123456789012.5"),
    "numeric(50,2)": ("1.5", "VARCHAR", "1.50"),
    "text": ("'a''b \"c\" \\ é 名'", "VARCHAR", "a'b \"c\" \\ é 名"),
    "varchar(20)": ("'x'", "VARCHAR", "x"),
    "char(5)": ("'x'", "VARCHAR", "x"),
    "name": ("'x'", "VARCHAR", "x"),
    "date": ("'0044-03-15 BC'", "DATE", "0044-03-15 (BC)"),
    "time(3)": ("'12:34:56.789'", "TIME", "12:34:56.789"),
    "timetz": ("'12:34:56.789+02'", "TIME WITH TIME ZONE", "12:34:56.789+02"),
    "timestamp(3)": ("'2024-02-29 12:34:56.789'", "TIMESTAMP", "2024-02-29 12:34:56.789"),
    "timestamptz": ("'2024-02-29 12:34:56.789+02'", "TIMESTAMP WITH TIME ZONE",
                    "2024-02-29 10:34:56.789+00"),
    "interval": ("'1 year 2 days 03:04:05.000006'", "INTERVAL", "1 year 2 days 03:04:05.000006"),
    "uuid": ("'6ba7b810-9dad-11d1-80b4-00c04fd430c8'", "UUID",
             "6ba7b810-9dad-11d1-80b4-00c04fd430c8"),
    "bytea": (r"'\x00ff'", "BLOB", r"\x00\xFF"),
    "json": ("'{\"a\": [1]}'", "JSON", '{"a": [1]}'),
    "jsonb": ("'{\"a\": [1]}'", "JSON", '{"a": [1]}'),
    "mood": ("'so ''so'''", "VARCHAR", "so 'so'"),
    "positive": ("3", "INTEGER", "3"),
    "pair": ("row(1, 'x')", "VARCHAR", "(1,x)"),
    "int4range": ("'[1,3)'", "VARCHAR", "[1,3)"),
    "inet": ("'10.0.0.1'", "VARCHAR", "10.0.0.1/32"),
    "oid": ("4294967295", "BIGINT", "4294967295"),
    "bit(3)": ("B'101'", "VARCHAR", "101"),
    "xml": ("'<a/>'", "VARCHAR", "<a/>"),
    "text[]": ("array['a, b', null, '']", "VARCHAR[]", "['a, b', NULL, '']"),
    "integer[]": ("'{1,2}'", "INTEGER[]", "[1, 2]"),
    "numeric(12,3)[]": ("'{1.25}'", "DECIMAL(12,3)[]", "[1.250]"),
    "uuid[]": ("array['6ba7b810-9dad-11d1-80b4-00c04fd430c8'::uuid]", "UUID[]",
               "[6ba7b810-9dad-11d1-80b4-00c04fd430c8]"),
    "mood[]": ("array['so ''so''']::mood[]", "VARCHAR[]", "['so \\'so\\'']"),
    "jsonb[]": ("array['{\"a\": 1}']::jsonb[]", "JSON[]", '[{"a": 1}]'),
}  # fmt: skip


# Of no row.
_FAILURE = "select 0 as id, 'a' as \"Part\", 0 as attempt, 'boom' as message where false"


class Server:
    """A schema of a server, and the tables of a model in it.

    Args:
        ledgers: The server.
        directory: For Parquet files.
    """

    def __init__(self, ledgers: LedgerServer, directory: Path) -> None:
        self.execute = ledgers.execute
        self.schema = f"h_{secrets.token_hex(6)}"
        self.target: dict[str, Any] = {
            "type": "postgres",
            "host": str(ledgers.server.root),
            "user": "postgres",
            "pass": "secret-word",
            "port": 5432,
            "dbname": "postgres",
            "schema": self.schema,
        }
        self.host = PostgresHost(self.target)
        self.tables = ModelTables(
            rows=self.table("rows of notes"),
            results=self.table("results"),
            failures=self.table("failures"),
            enriched=self.table("notes"),
            unique_key=("id", "Part"),
        )
        self._directory = directory
        self._files = 0
        self.execute(f"create schema {self.schema}")

    def table(self, name: str) -> HostTable:
        """Return a table of the schema."""
        return HostTable("postgres", self.schema, name)

    def directory(self) -> Path:
        """Return a new directory."""
        self._files += 1
        made = self._directory / str(self._files)
        made.mkdir()
        return made

    def stage(self, values: str, columns: str = 'id, "Part", note') -> None:
        """Put rows into the table of staged rows, as dbt does."""
        name = self.host.relation(self.tables.rows)
        self.execute(f"drop table if exists {name}")
        self.execute(
            f"create table {name} as select *, md5(note) as enrichment_row "
            f"from (values {values}) as given ({columns})"
        )

    def staged(self, task: str | None = "t1", select: str = "id, note") -> list[tuple[Any, ...]]:
        """Return the rows that are not done."""
        files = self.host.copy_rows(self.tables, self.directory(), task=task).files
        return read(files, select)

    def write(self, select: str, failures: str = _FAILURE, task: str = "t1") -> None:
        """Write the results and failures that SELECTs of DuckDB make."""
        self.host.write_results(
            self.tables, self.written(select, task), self.written(failures, task)
        )

    def written(self, select: str, task: str = "t1") -> Written:
        """Write what a SELECT of DuckDB makes to a file."""
        target = self.directory() / "0.parquet"
        with duckdb.connect() as connection:
            connection.execute("set TimeZone = 'UTC'")
            rows = f"select *, '{task}' as enrichment_task from ({select})"
            connection.execute(f"copy ({rows}) to '{target}'")
            described = connection.execute(f"describe {rows}").fetchall()
        return Written((target,), {str(name): str(kind) for name, kind, *_ in described})

    def results(self, select: str) -> list[tuple[Any, ...]]:
        """Return results as the host reads them."""
        return read(self.host.copy(self.tables.results, self.directory()), select)


def read(files: Sequence[Path], select: str = "*") -> list[tuple[Any, ...]]:
    """Return what Parquet files hold, in order."""
    names = ", ".join(f"'{file}'" for file in files)
    with duckdb.connect() as connection:
        connection.execute("set TimeZone = 'UTC'")
        return connection.execute(f"select {select} from read_parquet([{names}])").fetchall()


@pytest.fixture
def server(ledgers: LedgerServer, tmp_path: Path) -> Iterator[Server]:
    """A schema of its own."""
    made = Server(ledgers, tmp_path)
    yield made
    made.host.close()


def _result(id_: int, part: str, note: str, **outputs: str) -> str:
    """Build the SELECT of a result of one row."""
    values = "".join(f", {value} as {name}" for name, value in outputs.items())
    return (
        f"select {id_} as id, '{part}' as \"Part\", md5('{note}') as enrichment_row, "
        f"'done' as enrichment_status, 'v1' as enrichment_version{values}"
    )


def test_every_output_type_is_held_without_loss(server: Server) -> None:
    """Written, looked at in the server, and read again."""
    held = {f"c{n}": _held(kind) for n, kind in enumerate(_OUTPUTS)}
    values = {
        f"c{n}": f"cast(cast({value} as {kind}) as {held[f'c{n}']})"
        for n, (kind, (value, _)) in enumerate(_OUTPUTS.items())
    }
    server.write(_result(1, "a", "x", **values))
    described: dict[Any, Any] = dict(
        server.execute(
            "select attname, format_type(atttypid, atttypmod) from pg_attribute "
            f"where attrelid = '{server.schema}.results'::regclass and attnum > 0"
        )
    )
    there = {kind: described[f"c{n}"] for n, kind in enumerate(_OUTPUTS)}
    assert there == {kind: name for kind, (_, name) in _OUTPUTS.items()}
    back = ", ".join(
        f"cast(c{n} as {kind}) is not distinct from cast({value} as {kind})"
        for n, (kind, (value, _)) in enumerate(_OUTPUTS.items())
    )
    (found,) = server.results(back)
    assert [kind for kind, same in zip(_OUTPUTS, found, strict=True) if not same] == []


def _held(kind: str) -> str:
    found = stored(Catalog.POSTGRES_SERVER, kind)
    assert found, kind
    return found.type


def test_columns_of_every_type_are_read(server: Server) -> None:
    """Those that DuckDB has as they are, all others as their text."""
    in_schema = f"set search_path to {server.schema}, public; "
    server.execute(
        f"{in_schema} create type mood as enum ('so ''so'''); create type pair as (a integer, b "
        "text); create domain natural_number as integer check (value >= 0); "
        "create domain positive as natural_number check (value > 0)"
    )
    listed = ", ".join(f"c{n} {kind}" for n, kind in enumerate(_STAGED))
    values = ", ".join(value for value, _, _ in _STAGED.values())
    nulls = ", ".join("null" for _ in _STAGED)
    server.execute(
        f'{in_schema} create table "rows of notes" (id integer, "Part" text, enrichment_row text, '
        f"{listed}); insert into \"rows of notes\" values (1, 'a', 'f', {values}), "
        f"(2, 'a', 'f', {nulls})"
    )
    columns = server.host.columns(server.tables.rows)
    assert columns is not None
    assert {kind: columns[f"c{n}"] for n, kind in enumerate(_STAGED)} == {
        kind: expected for kind, (_, expected, _) in _STAGED.items()
    }
    shown = ", ".join(f"cast(c{n} as varchar)" for n in range(len(_STAGED)))
    first, second = server.staged(select=shown)
    assert dict(zip(_STAGED, first, strict=True)) == {
        kind: text for kind, (_, _, text) in _STAGED.items()
    }
    assert set(second) == {None}


def test_odd_values_are_read_as_what_they_are(server: Server) -> None:
    """Or refused; none is read as something else."""
    server.stage(
        "(1, 'a', 'x', timestamp 'infinity', date '-infinity', timestamptz 'infinity', "
        "array[['a', null], ['c', 'd']], cast('[5:6]={1,2}' as integer[]), "
        "array[timestamp 'infinity'])",
        'id, "Part", note, a, b, c, d, e, f',
    )
    shown = ", ".join(f"cast({name} as varchar)" for name in "abcdef")
    assert server.staged(select=shown) == [
        ("infinity", "-infinity", "infinity", "['[\"a\",null]', '[\"c\",\"d\"]']", "[1, 2]",
         "[infinity]")
    ]  # fmt: skip
    for value in ("cast('NaN' as numeric(5,2))", "array[[1, 2], [3, 4]]"):
        server.stage(f"(1, 'a', 'x', {value})", 'id, "Part", note, odd')
        with pytest.raises(InputError, match=r"'odd' of .*rows of notes") as caught:
            server.staged()
        assert "SELECT" in caught.value.fix


def test_rows_without_a_result_alone_are_copied(server: Server) -> None:
    """A result counts for its task, its unique key and its fingerprint together."""
    assert server.host.columns(server.tables.rows) is None
    with pytest.raises(EnrichmentError, match="there is no table"):
        server.staged()
    server.stage("(1, 'a', 'x'), (1, 'b', 'x'), (2, 'a', 'y')")
    assert len(server.staged()) == 3
    server.write(_result(1, "a", "x", summary="'s'"))
    assert sorted(server.staged()) == [(1, "x"), (2, "y")]
    assert len(server.staged(task="t2")) == len(server.staged(task=None)) == 3
    for version, kept in (("v1", 0), ("v2", 1)):
        copied = server.host.copy_rows(
            server.tables, server.directory(), task="t1", version=version
        )
        assert (copied.done, copied.kept) == (1, kept)
    assert server.host.copy(
        server.tables.results, folder := server.directory(), columns=["id"], statuses=["done"]
    ) == (folder / "0.parquet",)
    assert read([folder / "0.parquet"]) == [(1,)]
    assert (
        read(
            server.host.copy(
                server.tables.results, server.directory(), statuses=["failed", "stale"]
            )
        )
        == []
    )
    server.stage("(1, 'a', 'changed')")
    assert server.staged() == [(1, "changed")]
    server.stage("(1, 'a', 'x')")
    assert server.staged(select="id, note, enrichment_row") == []


def test_what_is_known_of_due_rows_alone_is_copied(server: Server) -> None:
    """By their unique keys, and by their texts, under whatever key they were answered before."""
    server.stage("(1, 'a', 'x'), (2, 'a', 'changed'), (3, 'a', 'y'), (4, 'a', 'new')")
    results = " union all ".join(
        _result(key, "a", note) for key, note in ((1, "x"), (2, "old"), (8, "z"), (9, "y"))
    )
    failures = " union all ".join(
        f"select {key} as id, 'a' as \"Part\", md5('{note}') as enrichment_row, 1 as attempt"
        for key, note in ((2, "old"), (8, "z"), (9, "y"))
    )
    server.write(results, failures)
    for table, task, wanted in (
        (server.tables.results, "t1", [2, 9]),
        (server.tables.results, "t2", [1, 2, 9]),
        (server.tables.results, None, [1, 2, 8, 9]),
        (server.tables.failures, "t1", [2, 9]),
    ):
        files = server.host.copy_known(server.tables, table, server.directory(), task=task)
        assert [key for (key,) in sorted(read(files, "id"))] == wanted


def test_results_of_a_few_keys_are_found_by_an_index(server: Server) -> None:
    """Whose texts may be longer than an index holds; a table from before is given one."""
    server.write(_result(1, "a", "x"))
    tables = f"where schemaname = '{server.schema}' and tablename in ('results', 'failures')"
    indexed = f"select indexdef from pg_indexes {tables}"
    assert [row[0].endswith('(id, md5("Part"))') for row in server.execute(indexed)] == [True] * 2
    server.execute(f"drop index {server.schema}.results_id_md5_idx")
    long = "x" * 10_000
    server.write(_result(2, long, "x", summary="'first'"))
    server.write(_result(2, long, "y", summary="'second'"))
    server.write(_result(3, long, "y", summary="'third'"))
    assert sorted(server.results("id, summary")) == [(2, "second"), (3, "third")]
    assert len(server.execute(indexed)) == 2


def test_a_unique_key_of_a_type_of_ones_own(server: Server) -> None:
    """Is compared as what it is in the staged rows."""
    server.execute(f"create type {server.schema}.mood as enum ('a', 'b')")
    rows = server.host.relation(server.tables.rows)
    server.execute(
        f"create table {rows} as select 1 as id, cast('a' as {server.schema}.mood) as \"Part\", "
        "'x' as note, md5('x') as enrichment_row"
    )
    assert server.staged() == [(1, "x")]
    for _ in range(2):
        server.write(_result(1, "a", "x", summary="'s'"))
    assert server.staged() == []
    assert server.results("summary") == [("s",)]


def test_a_result_takes_the_place_of_its_keys_own(server: Server) -> None:
    """With its failures; other keys keep theirs."""
    failure = "select {} as id, 'a' as \"Part\", {} as attempt, 'boom' as message"
    both = " union all ".join(_result(key, "a", "x", summary=f"'{key}'") for key in (1, 2))
    failed = " union all ".join(failure.format(key, n) for key in (1, 2) for n in (1, 2))
    server.write(both, failed)
    server.write(_result(1, "a", "y", summary="'new'"))
    assert sorted(server.results("id, summary")) == [(1, "new"), (2, "2")]
    left = f"select id, attempt from {server.schema}.failures order by all_ids"
    left = left.replace("all_ids", "id, attempt")
    assert server.execute(left) == [(2, 1), (2, 2)]
    server.write(_result(2, "a", "x", summary="'2'"), failure.format(2, 3))
    assert server.execute(left) == [(2, 3)]
    # Other columns: the table is another one.
    server.write(_result(3, "a", "x", summary="['a']"))
    assert server.results("id, summary") == [(3, ["a"])]


def test_nul_is_replaced(server: Server) -> None:
    """Which Postgres holds in no text; a backslash before `u0000` is none."""
    texts = {
        "plain": "'a' || chr(0) || 'b'",
        "listed": "['a' || chr(0), null, 'b']",
        "nested": "cast({'t': 'a' || chr(0) || chr(0) || '\\u0000'} as json)",
    }
    server.write(_result(1, "a", "x", **texts))
    (found,) = server.execute(f"select plain, listed, nested ->> 't' from {server.schema}.results")
    assert found == ("a\ufffdb", ["a\ufffd", None, "b"], "a\ufffd\ufffd\\u0000")


def test_many_rows_and_long_ones(server: Server) -> None:
    """More than a batch of Arrow holds, and texts of megabytes; then none."""
    name = server.host.relation(server.tables.rows)
    server.execute(
        f"create table {name} as select id, 'a' as \"Part\", md5(id::text) as enrichment_row, "
        "repeat('é', case when id % 5000 = 0 then 2000000 else 10 end) as note "
        "from generate_series(1, 20000) as numbers (id)"
    )
    server.write(_result(0, "a", "x"))
    (found,) = server.staged(select="count(*), sum(length(note)), count(distinct id)")
    assert found == (20000, 4 * 2000000 + 19996 * 10, 20000)
    server.write(
        "select i::integer as id, 'a' as \"Part\", md5(i::varchar) as enrichment_row, "
        "'done' as enrichment_status, 'v1' as enrichment_version, "
        "repeat('é', if(i % 5000 = 0, 2000000, 10)) as note from range(1, 20001) as numbers(i)"
    )
    assert server.staged(select="count(*)") == [(0,)]
    assert server.results("count(*), sum(length(note))") == [(20000, 4 * 2000000 + 19996 * 10)]


def test_what_fails_in_the_middle_changes_nothing(server: Server) -> None:
    """Results and failures are one transaction, and the next one works."""
    server.write(_result(1, "a", "x", summary="'first'"))
    server.execute(f"drop table {server.schema}.failures")
    server.execute(
        f"create view {server.schema}.failures as select 1 as id, 'a' as \"Part\", 1 as attempt"
    )
    failure = "select 1 as id, 'a' as \"Part\", 1 as attempt"
    with pytest.raises(EnrichmentError, match="cannot be written"):
        server.write(_result(1, "a", "x", summary="'second'"), failure)
    assert server.results("summary") == [("first",)]
    server.execute(f"drop view {server.schema}.failures")
    server.write(_result(1, "a", "x", summary="'second'"), failure)
    assert server.results("summary") == [("second",)]


def test_writers_take_turns_behind_a_pooler(server: Server, ledgers: LedgerServer) -> None:
    """Also those that both make the tables; each transaction may have another session."""
    server.stage("(1, 'a', 'x')")
    with transaction_pool(ledgers.server.root, sessions=2) as pool:
        place = dict(part.split("=") for part in pool.split())
        target = {**server.target, "host": place["host"], "port": int(place["port"])}
        hosts = [PostgresHost(target) for _ in range(3)]
        select = _result(1, "a", "x", summary="'s'")
        rows = [(server.written(select), server.written(_FAILURE)) for _ in hosts]
        with ThreadPoolExecutor() as pooled:
            calls = [
                pooled.submit(host.write_results, server.tables, *written)
                for host, written in zip(hosts, rows, strict=True)
            ]
        assert [call.result() for call in calls] == [None] * 3
        for host in hosts:
            assert host.copy_rows(server.tables, server.directory(), task="t1").done == 1
            host.close()
    assert server.results("id, summary") == [(1, "s")]


def test_a_statement_that_may_not_take_so_long(server: Server, ledgers: LedgerServer) -> None:
    """Is named as that."""
    server.stage("(1, 'a', 'x')")
    user = f"hurried_{server.schema}"
    ledgers.execute(
        f"create role {user} login superuser", f"alter role {user} set statement_timeout = 1"
    )
    rows = server.host.relation(server.tables.rows)
    ledgers.execute(
        f"insert into {rows} select i, 'a', md5(i::text) from generate_series(1, 50000) as n (i)"
    )
    host = PostgresHost({**server.target, "user": user})
    with pytest.raises(ConfigurationError, match="canceling statement due to") as caught:
        host.copy_rows(server.tables, server.directory(), task="t1")
    assert "statement_timeout" in caught.value.fix


def test_a_lost_connection_is_opened_again(server: Server, ledgers: LedgerServer) -> None:
    """As after hours in which a firewall has forgotten it."""
    server.stage("(1, 'a', 'x')")
    assert server.staged() == [(1, "x")]
    ledgers.end_connections()
    with pytest.raises(ConfigurationError, match="server"):
        server.staged()
    assert server.staged() == [(1, "x")]


@pytest.mark.parametrize(
    ("changes", "said", "fix"),
    [
        ({"host": "/nowhere"}, "No such file", "that the server runs"),
        ({"host": "127.0.0.1", "port": 1}, "refused", "that the server runs"),
        ({"dbname": "absent"}, 'database "absent" does not exist', "`dbname`"),
        ({"user": "absent"}, 'role "absent" does not exist', "`role`"),
        ({"role": "absent"}, 'role "absent" does not exist', "`role`"),
        ({"user": "stranger"}, "password authentication failed", "`pass`"),
        ({"role": "guest"}, "permission denied", "make tables"),
    ],
    ids=["no socket", "no port", "no database", "no user", "no role", "password", "permission"],
)
def test_a_target_that_is_wrong(
    server: Server, ledgers: LedgerServer, changes: Mapping[str, Any], said: str, fix: str
) -> None:
    """One sentence that says what, and what to do; the password is in none."""
    _made_users(ledgers)
    server.stage("(1, 'a', 'x')")
    host = PostgresHost({**server.target, **changes})
    with pytest.raises(ConfigurationError) as caught:
        host.copy_rows(server.tables, server.directory(), task="t1")
    assert said in caught.value.problem
    assert "cannot be read" in caught.value.problem
    assert fix in caught.value.fix
    assert "secret-word" not in f"{caught.value} {caught.value.__cause__} {vars(caught.value)}"


def _made_users(ledgers: LedgerServer) -> None:
    """Make a user who needs a password, which is another one, and a role that may do nothing."""
    if ledgers.execute("select 1 from pg_roles where rolname = 'stranger'"):
        return
    ledgers.execute("create role stranger login password 'another'; create role guest")
    rules = ledgers.server.root / "data" / "pg_hba.conf"
    rules.write_text("local all stranger scram-sha-256\n" + rules.read_text())
    ledgers.execute("select pg_reload_conf()")


def test_a_role_does_the_work(server: Server, ledgers: LedgerServer) -> None:
    """And owns what is made."""
    ledgers.execute(f"create role maker_{server.schema}")
    ledgers.execute(f"grant all on schema {server.schema} to maker_{server.schema}")
    server.host = PostgresHost({**server.target, "role": f"maker_{server.schema}"})
    server.write(_result(1, "a", "x", summary="'s'"))
    owners = ledgers.execute(
        f"select tableowner from pg_tables where schemaname = '{server.schema}'"
    )
    assert set(owners) == {(f"maker_{server.schema}",)}


def test_a_connection_says_what_the_target_says() -> None:
    """Quoted as libpq reads it; what is left out is libpq's to find."""
    said = conninfo({"host": "h", "port": 1, "user": "u", "pass": "it's \\", "sslmode": "require"})
    assert "password='it\\'s \\\\'" in said
    assert "sslmode='require'" in said
    assert "dbname" not in said
    assert "password" not in conninfo({"host": "h", "pass": ""})


# As users may spell them, beside the types of `_OUTPUTS`.
_SPELLINGS = (
    "  VARCHAR(20) ", "decimal", "decimal(9)", "NUMERIC(9, 2)", "dec(4,1)[]", "timestamp(6)",
    "timestamp_us[]", "row(a integer)", "STRUCT (a integer)", "enum('a', 'B')", "double precision",
    "character varying", "time", "varchar(3)[]", "integer[][]", "float[12]", "uhugeint",
)  # fmt: skip


@pytest.mark.parametrize("kind", sorted({*_OUTPUTS, *SCALARS, *_SPELLINGS} - {"uuid"}))
def test_macro_and_package_call_a_type_the_same(kind: str) -> None:
    """An empty table and one of results have the same columns."""
    held = stored(Catalog.POSTGRES_SERVER, parse_type(kind).sql)
    assert held
    assert _host_type(kind) == PostgresHost({})._type(held.type)


class _ReturnedError(Exception):
    """What a macro of dbt returns."""


def _return(value: object) -> None:
    raise _ReturnedError(value)


def _host_type(kind: str) -> str:
    """Call the macro as dbt does."""
    text = (REPOSITORY / "macros" / "hosts" / "postgres.sql").read_text()
    environment = Environment(extensions=["jinja2.ext.do"], autoescape=False)  # noqa: S701
    own = SimpleNamespace(postgres__host_type=_host_type)
    environment.globals.update({"return": _return, "dbt_enrich": own})
    module: Any = environment.from_string(text).module
    with pytest.raises(_ReturnedError) as caught:
        module.postgres__host_type(kind)
    return str(caught.value)

"""What the macros and the Python package must agree on, and Parquet between the two databases."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import duckdb
import pytest
from dbt_enrich.errors import ConfigurationError
from dbt_enrich.sql import literal
from dbt_enrich.task.result_columns import ERROR_TYPES, STATUS_TYPES
from dbt_enrich.warehouse.host import HostTable, ModelTables
from dbt_enrich.warehouse.parquet import from_parquet_sql, to_parquet_sql
from jinja2 import Environment
from support.macros import INTERNAL

_PAIR = re.compile(r"\['(\w+)', (?:'(.*)'|\"(.*)\")\]")
VALUES = {
    "enum('b', 'a')": "'a'",
    "enum('b', 'a')[]": "['a', null, 'b']",
    "hugeint": "170141183460469231731687303715884105727",
    "hugeint[]": "[170141183460469231731687303715884105727]",
    "uhugeint": "340282366920938463463374607431768211455",
    "decimal(38,3)": "12345678901234567890123456789012345.678",
    "struct(a hugeint, \"b c\" enum('x'))": "{'a': -170141183460469231731687303715884105727, "
    "'b c': 'x'}",
    "map(varchar, uhugeint)": "map {'a': 340282366920938463463374607431768211455}",
    "interval": "interval '1 month 2 days 3.000004 seconds'",
    "time with time zone": "'12:34:56.000001+05:30'",
    "timestamp with time zone": "'2024-02-29 12:34:56.000001+05'",
    "timestamp_ns": "'2024-02-29 12:34:56.123456789'",
    "timestamp_s": "'2024-02-29 12:34:56'",
    "bit": "'0101'",
    "blob": "'\\x00\\xFF'",
    "uuid": "'00112233-4455-6677-8899-aabbccddeeff'",
    "json": """'{"a": [1, null]}'""",
    "float[3]": "[1.5, null, 3]",
    "struct(a varchar[], b date)[]": "[{'a': ['x, \"y'], 'b': '2024-02-29'}, null]",
    "varchar": "'it''s ' || chr(0) || ' NUL'",
    "utinyint": "255",
    "double": "0.1",
}


@dataclass(frozen=True)
class Relation:
    """A relation, as the macros see it."""

    database: str
    schema: str
    identifier: str
    type: str = "view"

    def incorporate(self, path: dict[str, str], type: str) -> Relation:  # noqa: A002 - dbt's name
        """Return another one, with some parts of its name."""
        return replace(self, type=type, **path)


def _pairs(macro: str) -> dict[str, str]:
    text = (INTERNAL / f"{macro}.sql").read_text(encoding="utf-8")
    return {name: one or other for name, one, other in _PAIR.findall(text)}


def test_the_macros_know_the_columns_that_results_bring() -> None:
    """Before there are any, tables have columns of the same names and types."""
    assert _pairs("_status_columns") == STATUS_TYPES
    assert _pairs("_error_columns") == ERROR_TYPES


@pytest.mark.parametrize("kind", ["rows", "results", "failures"])
def test_the_macros_name_work_tables_as_the_command_does(kind: str) -> None:
    """By one rule, which says where a user finds them."""
    returned: list[Any] = []
    environment = Environment(autoescape=False)  # noqa: S701 - names
    environment.globals["return"] = returned.append
    text = (INTERNAL / "_work_relation.sql").read_text(encoding="utf-8")
    call = "{{ work(relation, kind) }}"
    environment.from_string(text.replace("_work_relation(", "work(") + call).render(
        relation=Relation("shop", "marts", "notes"), kind=kind
    )
    tables = ModelTables.of(HostTable("shop", "marts", "notes"), ["id"])
    expected = getattr(tables, kind)
    assert expected == HostTable("shop", "marts_enrichment", f"notes__{kind}")
    assert returned == [
        Relation(expected.database, expected.schema, expected.identifier, type="table")
    ]


@pytest.mark.parametrize("kind", VALUES)
def test_parquet_brings_every_value_back(kind: str, tmp_path: Path) -> None:
    """So that a row has the same key, whichever door it has come through."""
    connection = duckdb.connect()
    connection.execute(
        f"create table rows as select cast({VALUES[kind]} as {kind}) as v union all select null"
    )
    ((_, described, *_),) = connection.execute("describe rows").fetchall()
    columns = {"v": described}
    path = tmp_path / "rows.parquet"
    selected = to_parquet_sql(columns, what="rows")
    connection.execute(f"copy (select {selected} from rows) to {literal(path)} (format parquet)")
    connection.execute(f"create table copied as {from_parquet_sql([path], columns)}")
    ((_, copied, *_),) = connection.execute("describe copied").fetchall()
    assert copied == described
    different = "select v from copied except all select v from rows"
    assert connection.execute(different).fetchall() == []
    assert connection.execute("select count(*), count(v) from copied").fetchall() == [(2, 1)]


def test_what_parquet_cannot_carry_is_refused() -> None:
    """With the column's name and the way out."""
    with pytest.raises(ConfigurationError, match=r"'u' is UNION\(.*\), which cannot be copied"):
        to_parquet_sql({"u": "UNION(a INTEGER, b VARCHAR)"}, what="notes")

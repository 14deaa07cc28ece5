"""What macros and package call a type alike: every one that an output may have.

Postgres's are held in `tests/functional/hosts/test_postgres_host.py`.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
from dbt_enrich.task.type_names import SCALARS
from dbt_enrich.task.types import parse_type
from dbt_enrich.warehouse.catalogs import Catalog, same_types, stored
from dbt_enrich.warehouse.spark_types import held_type, spark_type
from support.dbt_project import REPOSITORY
from support.minijinja_dbt import Dbt, macros_in

# As users may spell them.
SPELLINGS = (
    "  VARCHAR(20) ", "decimal(9)", "NUMERIC(9, 2)", "dec(4,1)[]", "timestamp(6)",
    "double  precision", "Character Varying (10)", "timestamp with  time zone",
    "timestamp with time zone(6)[]",
    "enum('a, (b)', 'it''s', '[]')", "enum('x')[][]", "float[12]", "hugeint[]",
    "row(a integer)", "STRUCT (A integer, b\n  varchar )[]",
    "struct(from date, to date, \"select\" varchar)",
    ("struct(\"a b\" enum('x, y', ')')[], "
    "\"it's, (so)\" row(\"c \"\"d\"\"\" timestamptz, e hugeint[]))[]"),
    "struct(\"a.b\" decimal, \"`c`\" float, \"née\" struct(\"\"\"\" time)[][])",
)  # fmt: skip
KINDS = sorted({*SCALARS, *(f"{name}[]" for name in SCALARS), *SPELLINGS})


@cache
def dbt(host: str) -> Dbt:
    """The macros as dbt 2 reads them."""
    return Dbt(macros_in(REPOSITORY / "macros"), host)


def in_spark(kind: Any) -> str:
    """Spell a type of Spark in its SQL."""
    match kind.typeName():
        case "array":
            return f"array<{in_spark(kind.elementType)}>"
        case "struct":
            fields = [
                f"`{field.name.replace('`', '``')}`: {in_spark(field.dataType)}"
                for field in kind.fields
            ]
            return f"struct<{', '.join(fields)}>"
        case "decimal":
            return f"decimal({kind.precision}, {kind.scale})"
    return str(kind.simpleString())


@pytest.mark.parametrize("kind", KINDS)
def test_spark_holds_as_the_macro_says(kind: str) -> None:
    """A table that dbt makes before there are results has the columns that these bring."""
    pytest.importorskip("pyspark", reason="needs the extra spark (pyspark-client)")
    held = held_type(parse_type(kind).sql)
    assert held
    made = dbt("spark").macro("host_type")(kind)
    assert made.replace(", ", ",") == in_spark(spark_type(held)).replace(", ", ",")


@pytest.mark.parametrize("kind", KINDS)
def test_duckdb_holds_as_the_macro_says(kind: str) -> None:
    """Without the plugin as with it, also where a field's name is a word of DuckDB's."""
    held = stored(Catalog.DUCKDB, parse_type(kind).sql)
    assert held
    assert same_types(dbt("duckdb").macro("host_type")(kind), held.type)

"""Names and texts in Spark SQL."""

from __future__ import annotations

from dbt_enrich.warehouse.host import HostTable


def quoted(name: str) -> str:
    """Quote a name as an identifier of Spark SQL.

    >>> quoted("a `b`")
    '`a ``b```'
    """
    return "`" + name.replace("`", "``") + "`"


def qualified(table: HostTable) -> str:
    """Return a table's name in Spark SQL."""
    parts = (table.database, table.schema, table.identifier)
    return ".".join(quoted(part) for part in parts if part)


def text_literal(value: str) -> str:
    r"""Quote a text as a string of Spark SQL, in which a backslash escapes.

    >>> text_literal("it's \\n")
    "'it\\'s \\\\n'"
    """
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"

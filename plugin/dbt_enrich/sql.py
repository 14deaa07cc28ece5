"""Small pieces of generated SQL: identifiers, literals, keys as text, the preferred of rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path


def identifier(name: str) -> str:
    """Quote `name` as a DuckDB identifier.

    >>> identifier('a "b" c')
    '"a ""b"" c"'
    """
    return '"' + name.replace('"', '""') + '"'


def literal(value: str | Path) -> str:
    """Quote `value` as a DuckDB string literal. NUL, which the parser ends at, is refused.

    >>> literal("it's")
    "'it''s'"
    """
    text = str(value)
    if "\x00" in text:
        raise ValueError("a SQL literal cannot hold a NUL character")
    return "'" + text.replace("'", "''") + "'"


def text_sql(value: str) -> str:
    """Build the expression of a text in which NUL may stand.

    Values are written out, never bound: for any bound one DuckDB's client imports pandas, where it
    is installed, which takes a second and 80 MB.

    >>> text_sql("it's")
    "'it''s'"
    """
    return " || chr(0) || ".join(literal(part) for part in value.split("\x00"))


def literals(values: Iterable[str | Path]) -> str:
    """Quote `values` as a DuckDB list of string literals, typed also where it is empty."""
    return "[" + ", ".join(literal(value) for value in values) + "]::varchar[]"


class Names:
    """Names for the parameters of nested lambdas, each another one."""

    def __init__(self) -> None:
        self._count = 0

    def __call__(self, stem: str) -> str:
        """Return the next name, which begins with `stem`."""
        self._count += 1
        return f"{stem}_{self._count}"


def let_sql(name: str, value: str, body: Callable[[str], str]) -> str:
    """Compute `value` once and name it in `body`: SQL's only way is a lambda over one."""
    return f"list_transform([{value}], lambda {name}: {body(name)})[1]"


def key_text_sql(column: str) -> str:
    """Build the expression of a request's key, a uuid, as its 32 hexadecimal digits.

    Args:
        column: SQL expression of the key.
    """
    return f"replace(cast({column} as varchar), '-', '')"


def preferred_sql(placed: str, key: str, place: str, order: str, texts: Sequence[str]) -> str:
    """Build the SELECT of the place of the preferred row of each key, whatever order they are in.

    Repeats of one row are found by a digest, since an aggregate of numbers can be spilled to the
    disk; texts are compared only where the rows of a key differ.

    Args:
        placed: Table expression of the rows.
        key: The column that several rows may share.
        place: The column that numbers the rows.
        order: What is preferred, as `order by` takes it.
        texts: The columns that tell the rows of a key apart.
    """
    return f"""
        with variants as (
            select {key}, min({place}) as {place}
            from {placed} as placed
            group by {key}, hash({", ".join(texts)})
        ),
        contested as (select {key} from variants group by {key} having count(*) > 1),
        ranked as (
            select {place}, row_number() over (partition by {key} order by {order}) as rank
            from {placed} as placed
            semi join (select {place} from variants semi join contested using ({key})) as rivals
                using ({place})
        )
        select {place} from variants anti join contested using ({key})
        union all
        select {place} from ranked where rank = 1
    """

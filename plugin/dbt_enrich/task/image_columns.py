"""The columns that a task's pictures come from, and what each value of them refers to, in SQL.

A reference is a text: a letter for its kind, and behind it an address, a path, or the digest of a
value that holds the picture itself.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from dbt_enrich.errors import ConfigurationError, InputError
from dbt_enrich.sql import identifier, literal
from dbt_enrich.task.template import NOT_BLANK
from dbt_enrich.wording import columns_text, near_match

ADDRESS: Final = "u"
"""An http(s) address, which the service fetches."""
PATH: Final = "p"
"""The path of a local file."""
DATA: Final = "d"
"""A `data:` address, by the digest of its text."""
BLOB: Final = "b"
"""The bytes of a picture, by their digest."""
HELD: Final = (DATA, BLOB)
"""Kinds whose bytes are in the warehouse."""

_TYPES = re.compile(r"^(varchar|blob)(\[\d*\])?$", re.IGNORECASE)
# No file's path is longer, and what is (base64 without its head, say) is no path.
_LONGEST_PATH = 4_096
_WHITE = r"e' \t\r\n'"


@dataclass(frozen=True)
class ImageColumn:
    """A staged column with pictures.

    Attributes:
        name: As the task has it.
        staged: As the SELECT has it.
        is_blob: Whether its values are bytes, not texts.
        is_list: Whether a row may have several.
        is_optional: Whether a row may have none.
    """

    name: str
    staged: str
    is_blob: bool
    is_list: bool
    is_optional: bool

    @property
    def values_sql(self) -> str:
        """The SQL expression of a row's values, as a list."""
        name = identifier(self.staged)
        return name if self.is_list else f"[{name}]"

    @property
    def bytes_sql(self) -> str:
        """The SQL expression of how many bytes a row's values have."""
        size = "octet_length" if self.is_blob else "strlen"
        sizes = f"list_transform({self.values_sql}, lambda v: {size}(v))"
        return f"coalesce(list_sum({sizes}), 0)"

    def references_sql(self, number: int) -> str:
        """Build the list of what a row's values refer to: column, position, ref and size.

        Args:
            number: Which of the task's columns it is, from 0 on.
        """
        if self.is_blob:
            present, ref = "v is not null", f"'{BLOB}' || sha256(v)"
        else:
            present = f"regexp_matches(v, {literal(NOT_BLANK)})"
            ref = (
                rf"case when regexp_matches(v, '^\s*data:', 'i') then '{DATA}' || sha256(v) "
                rf"when regexp_matches(v, '^\s*https?://', 'i') "
                f"then '{ADDRESS}' || trim(v, {_WHITE}) "
                f"else '{PATH}' || left(v, {_LONGEST_PATH}) end"
            )
        size = "octet_length(v)" if self.is_blob else "strlen(v)"
        found = (
            f"case when {present} then {{'column': {number}, 'position': i, 'ref': {ref}, "
            f"'size': {size}}} end"
        )
        listed = f"list_transform({self.values_sql}, lambda v, i: {found})"
        return f"coalesce(list_filter({listed}, lambda r: r is not null), [])"


def image_columns(
    names: Sequence[str],
    column_types: Mapping[str, str],
    optional: Collection[str],
    *,
    model: str,
) -> tuple[ImageColumn, ...]:
    """Return the columns with pictures that a task names.

    Args:
        names: As the task has them.
        column_types: DuckDB type of each staged column, by name.
        optional: Columns that may be NULL.
        model: The dbt model, for messages.

    Raises:
        ConfigurationError: One of them is not staged.
        InputError: One has a type that holds no pictures.
    """
    staged = {name.lower(): name for name in column_types}
    tolerated = {name.lower() for name in optional}
    found = []
    for name in names:
        column = staged.get(name.lower())
        if column is None:
            raise ConfigurationError(
                f"model '{model}': enrichment.images names the column '{name}', which the SELECT "
                f"does not return ({columns_text(column_types)})",
                fix=near_match(name, staged) or "name one of the SELECT's columns",
            )
        kind = _TYPES.match(column_types[column].strip())
        if kind is None:
            raise InputError(
                f"model '{model}': the column '{column}' of enrichment.images has the type "
                f"{column_types[column]}, which holds no pictures",
                fix="make it a varchar (an address or the path of a file), a blob, or a list of "
                "one of them",
            )
        found.append(
            ImageColumn(
                name=name,
                staged=column,
                is_blob=kind[1].lower() == "blob",
                is_list=kind[2] is not None,
                is_optional=name.lower() in tolerated,
            )
        )
    return tuple(found)


def references_sql(columns: Sequence[ImageColumn]) -> str:
    """Build the list of what the pictures of a row refer to, in the order of the columns."""
    lists = ", ".join(column.references_sql(number) for number, column in enumerate(columns))
    return f"flatten([{lists}])"


def without_images_sql(columns: Sequence[ImageColumn], references: str) -> str:
    """Build the names of the columns that must have a picture and have none, else an empty text.

    Args:
        columns: The columns.
        references: SQL expression of the row's references.
    """
    needed = [
        f"case when len(list_filter({references}, lambda r: r['column'] = {number})) = 0 "
        f"then {literal(column.name)} end"
        for number, column in enumerate(columns)
        if not column.is_optional
    ]
    return f"concat_ws(', ', {', '.join(needed)})" if needed else "''"

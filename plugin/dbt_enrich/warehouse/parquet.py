"""Parquet between a host and the scratch database: what it does not hold goes as something else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from dbt_enrich.errors import ConfigurationError
from dbt_enrich.sql import identifier, literals
from dbt_enrich.warehouse.catalogs import in_parquet, same_types


def to_parquet_sql(columns: Mapping[str, str], *, what: str) -> str:
    """Build the columns of a SELECT whose rows are written to Parquet.

    Args:
        columns: Their types, by name.
        what: What the rows are of, for a message.

    Raises:
        ConfigurationError: Parquet has no type for one.
    """
    return ", ".join(_written(name, kind, what) for name, kind in columns.items())


def from_parquet_sql(files: Sequence[Path], columns: Mapping[str, str]) -> str:
    """Build the SELECT of the rows of Parquet files.

    Args:
        files: The files, in the order of their rows.
        columns: The types that the columns had, by name.
    """
    listed = ", ".join(
        f"cast({identifier(name)} as {kind}) as {identifier(name)}"
        for name, kind in columns.items()
    )
    if not files:
        nulls = ", ".join(f"null::{kind} as {identifier(name)}" for name, kind in columns.items())
        return f"select {nulls} where false"
    return f"select {listed} from read_parquet({literals(files)})"


def _written(name: str, kind: str, what: str) -> str:
    held, column = in_parquet(kind), identifier(name)
    if held is None:
        raise ConfigurationError(
            f"{what}: the column '{name}' is {kind}, which cannot be copied out of the warehouse",
            fix=f"cast it in the SELECT: cast({column} as varchar)",
        )
    return column if same_types(held, kind) else f"cast({column} as {held}) as {column}"

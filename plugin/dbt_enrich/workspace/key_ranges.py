"""Parts of rows, by keys or in order: so few that memory holds what is made of them."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass

# Rows whose keys are joined and grouped at once.
ROWS_OF_PART = 500_000
_KEYS = 1 << 128
_HASHES = 1 << 64


@dataclass(frozen=True)
class KeyPart:
    """A range of request keys; these are digests, so that equal ranges hold about as many.

    Attributes:
        number: Which of the parts it is, from 0 on.
        condition: The SQL condition that a request_key lies in it.
    """

    number: int
    condition: str

    def of(self, table: str) -> str:
        """Return a table expression of the rows of another one whose request_key lies in it."""
        return f"(select * from {table} as whole where {self.condition})"


ALL_KEYS = KeyPart(0, "true")


def key_parts(rows: int) -> Sequence[KeyPart]:
    """Return the parts in which the keys of so many rows are worked on; together, all keys."""
    parts = max(1, -(-rows // ROWS_OF_PART))
    bounds = [
        f"cast('{uuid.UUID(int=_KEYS * number // parts)}' as uuid)" for number in range(1, parts)
    ]
    conditions = _between("request_key", bounds)
    return [KeyPart(number, condition) for number, condition in enumerate(conditions)]


def row_parts(rows: int) -> Sequence[str]:
    """Return the conditions on row_id that cut so many rows into parts, in order."""
    return _between("row_id", [str(bound) for bound in range(ROWS_OF_PART, rows, ROWS_OF_PART)])


def hash_parts(column: str, rows: int) -> Sequence[str]:
    """Return the conditions on a 64-bit hash that cut so many rows into parts."""
    parts = max(1, -(-rows // ROWS_OF_PART))
    bounds = [f"cast({_HASHES * number // parts} as ubigint)" for number in range(1, parts)]
    return _between(column, bounds)


def _between(column: str, bounds: Sequence[str]) -> list[str]:
    """Return the conditions that a column lies below the first bound, between two, above the last.

    Together they leave no value out.
    """
    lower = ["true", *(f"{column} >= {bound}" for bound in bounds)]
    upper = [*(f"{column} < {bound}" for bound in bounds), "true"]
    return [f"{low} and {high}" for low, high in zip(lower, upper, strict=True)]

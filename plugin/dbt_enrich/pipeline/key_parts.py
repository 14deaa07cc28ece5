"""Parts of the keys: so few that a set of them is held in memory, however many rows there are."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass

# Rows whose keys are joined and grouped at once.
ROWS_OF_PART = 1_000_000
_KEYS = 1 << 128


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


def key_parts(rows: int) -> Sequence[KeyPart]:
    """Return the parts in which the keys of so many rows are worked on; together, all keys."""
    parts = max(1, -(-rows // ROWS_OF_PART))
    bounds = [_KEYS * number // parts for number in range(1, parts)]
    return [
        KeyPart(number, " and ".join([*_from(low), *_below(high)]) or "true")
        for number, (low, high) in enumerate(zip([None, *bounds], [*bounds, None], strict=True))
    ]


def _from(bound: int | None) -> list[str]:
    return [] if bound is None else [f"request_key >= cast('{uuid.UUID(int=bound)}' as uuid)"]


def _below(bound: int | None) -> list[str]:
    return [] if bound is None else [f"request_key < cast('{uuid.UUID(int=bound)}' as uuid)"]

"""The table `contents`: what published tables hold, and of which answers that was made."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from dbt_enrich.state.connection import Table

# Of the rows of one status: how many there are, and two sums over what they hold.
RowSums = tuple[int, str, str]


def add_rows(one: Mapping[str, RowSums], other: Mapping[str, RowSums]) -> dict[str, RowSums]:
    """Return what the rows of each status hold together, of two tables or parts of one."""
    added = dict(one)
    for status, (count, first, second) in other.items():
        before = added.get(status, (0, "0", "0"))
        added[status] = (
            before[0] + count,
            str(int(before[1]) + int(first)),
            str(int(before[2]) + int(second)),
        )
    return added


@dataclass(frozen=True)
class Content:
    """A row of `contents`: what a table held when it was published.

    Attributes:
        relation: The table, quoted and qualified.
        basis: A digest of all that decides what a row becomes, but for the row and the answers.
        files: The files of the answer store that were read.
        rows: What the rows of each status hold.
    """

    relation: str
    basis: str
    files: frozenset[str]
    rows: Mapping[str, RowSums] = field(default_factory=dict)


class Contents(Table):
    """What published tables hold, one row a table."""

    def put(self, content: Content) -> None:
        """Record what a table holds, once that is committed."""
        row = {
            "relation": content.relation,
            "basis": content.basis,
            "files": json.dumps(sorted(content.files)),
            "rows": json.dumps(dict(content.rows)),
        }
        self._connection.put("contents", row, key=["relation"])

    def get(self, relation: str) -> Content | None:
        """Return what a table held when it was last published, or None if nothing says so."""
        row = self._connection.first("select * from contents where relation = ?", (relation,))
        if row is None:
            return None
        rows = {
            status: (int(count), str(first), str(second))
            for status, (count, first, second) in json.loads(row["rows"]).items()
        }
        return Content(row["relation"], row["basis"], frozenset(json.loads(row["files"])), rows)

"""Which of several rows of a key is preferred, as SQL that fits into little memory."""

from __future__ import annotations

from collections.abc import Sequence


def preferred_sql(placed: str, key: str, place: str, order: str, texts: Sequence[str]) -> str:
    """Build the SELECT of the place of the preferred row of each key, whatever order they are in.

    Repeats of one row are told by a digest, since an aggregate of numbers can be spilled to the
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

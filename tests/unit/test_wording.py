"""Numbers in sentences."""

from __future__ import annotations

import pytest
from dbt_enrich.wording import columns_text, counted


@pytest.mark.parametrize(
    ("number", "said"), [(0, "0 rows"), (1, "1 row"), (2, "2 rows"), (18_210, "18,210 rows")]
)
def test_a_noun_follows_its_number(number: int, said: str) -> None:
    """One is singular, nothing and more are plural."""
    assert counted(number, "row") == said


def test_a_plural_may_be_of_its_own() -> None:
    """Where an s is not all."""
    assert counted(1, "batch", "batches") == "1 batch"
    assert counted(2, "batch", "batches") == "2 batches"


def test_columns_of_ours_are_none_of_the_select() -> None:
    """A fingerprint is staged beside them where dbt has no plugin."""
    assert columns_text(["id", "note", "enrichment_row"]) == "columns: id, note"

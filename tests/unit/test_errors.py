"""Errors: what is wrong, what to do, and of which model, shard and batch they speak."""

from __future__ import annotations

import pytest
from dbt_enrich.errors import LedgerError, ServiceError, concerning


def test_an_error_says_what_it_is_about() -> None:
    """The block that is nearest to the fault knows best; what is said stays as it was."""
    with (
        pytest.raises(ServiceError) as caught,
        concerning(model="films", batch="another"),
        concerning(shard="s-1", batch="batch-1"),
    ):
        raise ServiceError("the service refused", fix="ask again", status=400)
    error = caught.value
    assert (error.model, error.shard, error.batch) == ("films", "s-1", "batch-1")
    assert str(error) == "the service refused; ask again"
    assert (error.problem, error.fix, error.status) == ("the service refused", "ask again", 400)


def test_an_error_of_no_model_says_none() -> None:
    """Nothing is left of an error before it."""
    with pytest.raises(LedgerError), concerning(model="films"):
        raise LedgerError("the ledger is damaged")
    assert LedgerError("the ledger is damaged").model is None

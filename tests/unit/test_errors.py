"""Errors: what is wrong, what to do, and of which model, shard and batch they speak."""

from __future__ import annotations

import inspect

import pytest
from dbt_enrich import errors
from dbt_enrich.errors import SITE, EnrichmentError, LedgerError, ServiceError, concerning
from dbt_enrich.task.types import TypeSyntaxError
from support.dbt_project import REPOSITORY


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


def test_every_error_has_its_page() -> None:
    """One for each class; a class of another module has that of the one it derives from."""
    kinds = [kind for _, kind in inspect.getmembers(errors, inspect.isclass)]
    named = [kind for kind in kinds if issubclass(kind, EnrichmentError)]
    pages = {kind: kind("it is wrong").page for kind in named}
    assert len({*pages.values()}) == len(named) > 15
    for kind, page in pages.items():
        assert page.startswith(f"{SITE}errors/")
        path = REPOSITORY / "docs" / page.removeprefix(SITE).replace(".html", ".md")
        heading = "When something is wrong" if kind is EnrichmentError else kind.__name__
        assert path.read_text(encoding="utf-8").startswith(f"# {heading}\n")
    assert TypeSyntaxError("no type").page == f"{SITE}errors/configuration.html"
    shown = LedgerError("it is damaged", fix="restore it").with_page
    assert shown == f"it is damaged; restore it\nsee {SITE}errors/ledger.html"

"""Names of dbt models: as dbt spells them, and refused where they fit two."""

from __future__ import annotations

import pytest
from dbt_enrich.errors import ConfigurationError
from dbt_enrich.task.model_names import chosen, label, labels

VERSIONS = ["model.shop.a.v1", "model.shop.a.v2", "model.shop.b.v1"]
PACKAGES = ["model.shop.a", "model.crm.a", "model.crm.c"]


def test_a_model_is_called_as_dbt_calls_it() -> None:
    """With its version, and with its package only where two models have the name."""
    assert list(labels(VERSIONS).values()) == ["a.v1", "a.v2", "b.v1"]
    assert list(labels(PACKAGES).values()) == ["shop.a", "crm.a", "c"]
    assert label("model.shop.a", ["model.shop.a", "model.shop.a.v1"]) == "a"
    assert label("model.shop.with.dots") == "with.dots"
    assert label("odd") == "odd"
    assert label(None) == "?"


@pytest.mark.parametrize(
    ("name", "known", "found"),
    [
        ("b", VERSIONS, "model.shop.b.v1"),
        ("b.v1", VERSIONS, "model.shop.b.v1"),
        ("b_v1", VERSIONS, "model.shop.b.v1"),
        ("a.v2", VERSIONS, "model.shop.a.v2"),
        ("shop.a.v2", VERSIONS, "model.shop.a.v2"),
        ("model.shop.a.v1", VERSIONS, "model.shop.a.v1"),
        ("crm.a", PACKAGES, "model.crm.a"),
        ("c", PACKAGES, "model.crm.c"),
    ],
)
def test_a_name_is_found_however_it_is_spelled(name: str, known: list[str], found: str) -> None:
    """Short, with version, with package, or the whole unique id."""
    assert chosen([name], known) == {found}


@pytest.mark.parametrize(
    ("name", "known", "candidates"),
    [
        ("a", VERSIONS, "a.v1, a.v2"),
        ("a", PACKAGES, "crm.a, shop.a"),
        ("a", ["model.shop.a", "model.shop.a.v1"], "model.shop.a, a.v1"),
        ("a.v1", ["model.crm.a.v1", "model.shop.a.v1"], "crm.a.v1, shop.a.v1"),
    ],
)
def test_a_name_of_two_models_is_refused(name: str, known: list[str], candidates: str) -> None:
    """With the candidates, each by a name that fits it alone."""
    with pytest.raises(ConfigurationError) as refused:
        chosen([name], known)
    assert refused.value.problem == f"the name '{name}' fits 2 models: {candidates}"
    for candidate in candidates.split(", "):
        assert len(chosen([candidate], known)) == 1


def test_a_name_that_fits_none_is_refused() -> None:
    """A version's number alone is no name of a model."""
    for name in ("v1", "shop", "a.v3"):
        with pytest.raises(ConfigurationError, match=r"was never run.*: a\.v1, a\.v2, b\.v1"):
            chosen([name], VERSIONS)
    assert chosen([], VERSIONS) == set()

"""What Python models and profiles name stays where they name it."""

from __future__ import annotations

import dbt_enrich
import pytest


@pytest.mark.parametrize("name", dbt_enrich.__all__)
def test_every_public_name_loads(name: str) -> None:
    """On first use, from wherever it lies now, under its own name."""
    found = getattr(dbt_enrich, name)
    assert name == "__version__" or found.__name__ == name

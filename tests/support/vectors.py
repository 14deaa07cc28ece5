"""Tasks that ask for vectors, and the vectors that the scripted responder makes."""

from __future__ import annotations

from array import array
from typing import Any, Final

from batch_server.responders.scripted_vectors import scripted_vector
from dbt_enrich.task.enrichment_task import EnrichmentTask
from dbt_enrich.task.schema import OutputColumn

MODEL: Final = "text-embedding-3-small"
SIZE: Final = 12


def vector_task(size: int = SIZE, **changes: Any) -> EnrichmentTask:
    """A task with one vector over the column `note`."""
    outputs = (OutputColumn(name="vector", data_type=f"float[{size}]"),)
    values = {"model": MODEL, "endpoint": "embeddings", "user": "{note}", "outputs": outputs}
    return EnrichmentTask(**{**values, **changes})


def expected_vector(text: str, size: int = SIZE) -> tuple[float, ...]:
    """The vector that the scripted responder makes of a text."""
    return tuple(array("f", scripted_vector(text, size)))

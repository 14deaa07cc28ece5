"""The endpoints that the same tests are run for: who offers each, what is asked and answered."""

from __future__ import annotations

from typing import Any, Final

from dbt_enrich.task.endpoint_names import EndpointName
from dbt_enrich.task.enrichment_task import EnrichmentTask

from support.vectors import expected_vector, vector_task
from support.warehouse import summary_task

TEXT_ENDPOINTS: Final = (str(EndpointName.CHAT), str(EndpointName.RESPONSES))
"""Those that answer in words."""
EMBEDDINGS: Final = str(EndpointName.EMBEDDINGS)
ENDPOINTS: Final = (*TEXT_ENDPOINTS, EMBEDDINGS)
SINGLY: Final = {"tokens_per_request": 1}
"""Options by which each text is asked in a request of its own, also where they go in lists."""


def provider_for(endpoint: str, url: str, api_key: str) -> dict[str, Any]:
    """Return a profile's keys of a service that offers an endpoint, played by the emulator.

    Args:
        endpoint: The endpoint. Azure's batches take no embeddings.
        url: The emulator's address.
        api_key: Its key.
    """
    if endpoint == EMBEDDINGS:
        return {"provider": "openai", "base_url": f"{url}/v1", "api_key": api_key}
    return {"provider": "azure", "endpoint": url, "api_key": api_key}


def task_for(endpoint: str, **changes: Any) -> EnrichmentTask:
    """Return a task that asks an endpoint about the column `note`, with one output."""
    if endpoint == EMBEDDINGS:
        return vector_task(**changes)
    return summary_task(endpoint=endpoint, **changes)


def options_for(endpoint: str) -> dict[str, Any]:
    """Return the options by which an endpoint is asked about each row by itself."""
    return SINGLY if endpoint == EMBEDDINGS else {}


def scripted_answer(endpoint: str, text: str) -> Any:
    """Return what the scripted responder has the output hold for a text."""
    return expected_vector(text) if endpoint == EMBEDDINGS else f"summary: {text}"


def paid_rows(account: dict[str, Any], counted: str = "paid") -> dict[str, int]:
    """Return how often each row was paid for, or answered, by its request_key.

    Args:
        account: The emulator's.
        counted: `paid` or `request_keys`.
    """
    found: dict[str, int] = {}
    for name, times in account[counted].items():
        key = name.removeprefix("pack-")
        found[key] = found.get(key, 0) + times
    return found

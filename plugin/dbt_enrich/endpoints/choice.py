"""Which endpoint a name, a path or a line means: the only place that lists them all."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from dbt_enrich.endpoints.base import Endpoint
from dbt_enrich.endpoints.chat_completions import CHAT_COMPLETIONS
from dbt_enrich.endpoints.embeddings import EMBEDDINGS
from dbt_enrich.endpoints.responses import RESPONSES

ENDPOINTS: Final[Mapping[str, Endpoint]] = {
    endpoint.name: endpoint for endpoint in (CHAT_COMPLETIONS, RESPONSES, EMBEDDINGS)
}
USUAL: Final[Endpoint] = CHAT_COMPLETIONS
"""What was asked where nothing says it: by every version that had no other."""


def endpoint_of(name: str) -> Endpoint:
    """Return the endpoint of a name, as a task or the ledger has it."""
    return ENDPOINTS[name]


def endpoint_at(path: str) -> Endpoint | None:
    """Return the endpoint that a path leads to, whatever stands before its own, or None."""
    return next((one for one in ENDPOINTS.values() if path.endswith(one.path)), None)


def endpoint_asked(requests: Path, batch_endpoint: str | None) -> Endpoint:
    """Return the endpoint that a batch asks which the ledger does not know.

    Its lines say it. The batch itself may not: Azure shows `null`, and reads the lines whatever
    the batch names (https://learn.microsoft.com/azure/ai-foundry/openai/how-to/batch, "Create batch
    job").

    Args:
        requests: Its input file, which may not be there.
        batch_endpoint: The batch's own `endpoint`, or None.
    """
    return endpoint_at(_first_url(requests)) or endpoint_at(batch_endpoint or "") or USUAL


def _first_url(requests: Path) -> str:
    """Return the `url` of the first line of an input file, or an empty text."""
    with suppress(OSError, ValueError), requests.open("rb") as file:
        line = json.loads(file.readline())
        return str(line.get("url", "")) if isinstance(line, dict) else ""
    return ""

"""The endpoints of a service that a task may name."""

from __future__ import annotations

from enum import StrEnum


class EndpointName(StrEnum):
    """An endpoint of the service, as a task, the profile's facts and the ledger name it.

    Attributes:
        CHAT: Chat completions, which every service offers.
        RESPONSES: The Responses API, the only one that some language models answer at.
        EMBEDDINGS: A vector of a text, by an embedding model.
    """

    CHAT = "chat"
    RESPONSES = "responses"
    EMBEDDINGS = "embeddings"

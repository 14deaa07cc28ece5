"""The endpoints of a language model: their paths, and how their bodies and replies are treated."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from batch_server.bodies import BatchLine
from batch_server.body_rules import body_problem
from batch_server.embedding_bodies import EmbeddingsLine
from batch_server.embedding_rules import embedding_problem
from batch_server.errors import Flavour, WireError
from batch_server.responders.base import CHAT, EMBEDDINGS, RESPONSES
from batch_server.responses_bodies import ResponsesLine
from batch_server.responses_rules import responses_problem

_VERSION = "/v1"
Line: TypeAlias = BatchLine | ResponsesLine | EmbeddingsLine
"""What a line of an input file holds, by the endpoint that it asks."""


@dataclass(frozen=True)
class ModelEndpoint:
    """One endpoint.

    Attributes:
        path: The end of its address.
        line: What a line that asks it must hold before a batch of it is begun.
        problem: Returns the reply to a body that the service refuses, or None.
        operation: What Azure calls it where a deployment does not offer it.
    """

    path: str
    line: type[Line]
    problem: Callable[..., WireError | None]
    operation: str


_ENDPOINTS: Final = (
    ModelEndpoint(CHAT, BatchLine, body_problem, "chatCompletion"),
    ModelEndpoint(RESPONSES, ResponsesLine, responses_problem, "responses"),
    # Azure's own batches take none; those of the provider `local`, which speaks as Azure does, do.
    ModelEndpoint(EMBEDDINGS, EmbeddingsLine, embedding_problem, "embeddings"),
)
BY_PATH: Final[Mapping[str, ModelEndpoint]] = {one.path: one for one in _ENDPOINTS}


def plain(url: str) -> str:
    """Return the url of a line, or the endpoint of a batch, without its version."""
    return url.removeprefix(_VERSION)


def is_offered(url: object, flavour: Flavour) -> bool:
    """Whether a flavour has a batch, or a line, ask this url; Azure's version may be left out."""
    if not isinstance(url, str) or plain(url) not in BY_PATH:
        return False
    return flavour.is_azure or url.startswith(_VERSION)


def problem_of(
    path: str, body: Mapping[str, Any], *, flavour: Flavour, batch: bool
) -> WireError | None:
    """Return the reply to a body that the service refuses, or None if a model may answer it."""
    return BY_PATH[path].problem(body, azure=flavour.is_azure, batch=batch)

"""What the service refuses of an embeddings request's body before a model sees it.

Sources: OpenAI's openapi.yaml (`CreateEmbeddingRequest`: 2,048 inputs, 8,192 tokens of each and
300,000 of all), its reference of the models' dimensions, and errors that users reported
(langchain-ai/langchain#31227, openai/tiktoken#85, R2R#768).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from batch_server.embedding_bodies import EmbeddingBody
from batch_server.errors import WireError, refused
from batch_server.refusals import Refusal, read_body
from batch_server.responders.embedding_reply import inputs_of

MAX_INPUT_TOKENS = 8_192
MAX_REQUEST_TOKENS = 300_000
# Characters of a token, about: without the model's own tokenizer a text near a limit may pass.
_CHARACTERS = 4
_LARGEST = {"text-embedding-3-small": 1_536, "text-embedding-3-large": 3_072}
_FIXED = "text-embedding-ada-002"


def embedding_problem(
    body: Mapping[str, Any],
    *,
    azure: bool,  # noqa: ARG001 - what both refuse is the same
    batch: bool,  # noqa: ARG001
) -> WireError | None:
    """Return the reply to a body that the service refuses, or None if a model may answer it."""
    read = read_body(EmbeddingBody, body)
    if isinstance(read, Refusal):
        return refused(read, of_a_model=True)
    problem = _dimensions_problem(read) or _length_problem(body)
    return refused(problem, of_a_model=True) if problem else None


def _dimensions_problem(body: EmbeddingBody) -> Refusal | None:
    if body.dimensions is None:
        return None
    if body.model == _FIXED:
        return Refusal("This model does not support specifying dimensions.")
    most = _LARGEST.get(body.model)
    if most is None or body.dimensions <= most:
        return None
    return Refusal(
        f"Invalid value for 'dimensions' = {body.dimensions}. Must be less than or equal to {most}."
    )


def _length_problem(body: Mapping[str, Any]) -> Refusal | None:
    counts = [_tokens(given) for given in inputs_of(body)]
    longest = max(counts)
    if longest > MAX_INPUT_TOKENS:
        return Refusal(
            f"This model's maximum context length is {MAX_INPUT_TOKENS} tokens, however you "
            f"requested {longest} tokens ({longest} in your prompt; 0 for the completion). Please "
            "reduce your prompt; or completion length."
        )
    if sum(counts) > MAX_REQUEST_TOKENS:
        return Refusal(
            f"Requested {sum(counts)} tokens, max {MAX_REQUEST_TOKENS} tokens per request",
            code="max_tokens_per_request",
        )
    return None


def _tokens(given: Any) -> int:
    return -(-len(given) // _CHARACTERS) if isinstance(given, str) else len(given)

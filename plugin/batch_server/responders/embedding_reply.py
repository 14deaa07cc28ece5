"""Requests for embeddings and their replies, whoever makes the vectors.

A vector is 32-bit floats, little-endian, as `encoding_format: base64` has it; the usual format
writes each of them as a number (OpenAI's openapi.yaml, `CreateEmbeddingRequest` and
`CreateEmbeddingResponse`).
"""

from __future__ import annotations

import base64
import sys
from array import array
from collections.abc import Mapping, Sequence
from typing import Any


def inputs_of(body: Mapping[str, Any]) -> list[Any]:
    """Return what a request wants vectors of, in its order: texts, or lists of tokens."""
    given = body["input"]
    if isinstance(given, str) or (given and isinstance(given[0], int)):
        return [given]
    return list(given)


def input_text(given: Any) -> str:
    """Return an input as a text; one of tokens as their numbers."""
    return given if isinstance(given, str) else " ".join(map(str, given))


def embedding_reply(
    body: Mapping[str, Any], vectors: Sequence[bytes], *, model: str, tokens: int
) -> dict[str, Any]:
    """Return the body that answers a request.

    Args:
        body: The request's.
        vectors: One for each of its inputs, in their order, as little-endian 32-bit floats.
        model: Who made them.
        tokens: How many tokens the inputs have together.
    """
    write = _base64 if body.get("encoding_format") == "base64" else _numbers
    return {
        "object": "list",
        "data": [
            {"object": "embedding", "index": index, "embedding": write(vector)}
            for index, vector in enumerate(vectors)
        ],
        "model": model,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }


def _base64(vector: bytes) -> str:
    return base64.b64encode(vector).decode("ascii")


def _numbers(vector: bytes) -> list[float]:
    numbers = array("f", vector)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers.tolist()

"""The documented body of `embeddings`, and what a line of a batch that asks it must hold.

Source: OpenAI's openapi.yaml, `CreateEmbeddingRequest`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from batch_server.bodies import Body, is_listed

_MOST_INPUTS = 2_048
_Tokens = Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]


def _input_form(value: object) -> str | None:
    """Say which of its forms an input has: a text, texts, tokens, or lists of tokens."""
    if isinstance(value, str):
        return "text"
    if not isinstance(value, list):
        return None
    if value and isinstance(value[0], list):
        return "token_lists"
    return "tokens" if value and isinstance(value[0], int) else "texts"


class EmbeddingBody(Body):
    """The body of `embeddings`."""

    model: Annotated[str, Field(min_length=1)]
    input: Annotated[
        Annotated[str, Tag("text"), Field(min_length=1)]
        | Annotated[
            list[Annotated[str, Field(min_length=1)]],
            Tag("texts"),
            Field(min_length=1, max_length=_MOST_INPUTS),
        ]
        | Annotated[_Tokens, Tag("tokens")]
        | Annotated[
            list[_Tokens], Tag("token_lists"), Field(min_length=1, max_length=_MOST_INPUTS)
        ],
        Discriminator(_input_form),
    ]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Field(ge=1)] | None = None
    user: str | None = None


class EmbeddingsLineBody(Body):
    """What must be known of a line's body before a batch of it is begun."""

    model: Annotated[str, Field(min_length=1)]
    input: Annotated[
        Annotated[str, Tag("text")] | Annotated[list[Any], Tag("list"), Field(min_length=1)],
        Discriminator(is_listed),
    ]


class EmbeddingsLine(Body):
    """A line of an input file. What its body holds further is that request's own affair."""

    custom_id: Annotated[str, Field(min_length=1, max_length=512)]
    method: Literal["POST"]
    url: str
    body: EmbeddingsLineBody

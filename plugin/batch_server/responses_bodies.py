"""The documented body of `/responses`, as a model that a request's body is held to whole.

Sources: OpenAI's openapi.yaml (`CreateResponse`), and the errors that users reported.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from batch_server.bodies import (
    Body,
    JsonForm,
    Metadata,
    RefusalPart,
    SchemaHolder,
    TextForm,
    is_listed,
)

_LEAST_OUTPUT_TOKENS = 16
_WIDEST = 2**63 - 1


class InputText(Body):
    """A text within a message."""

    type: Literal["input_text"]
    text: str


class OutputText(Body):
    """A text within an earlier answer."""

    type: Literal["output_text"]
    text: str


class InputImage(Body):
    """An image within a message: its address, or the id of a file."""

    type: Literal["input_image"]
    image_url: str | None = None
    file_id: str | None = None
    detail: Literal["low", "high", "auto", "original"] | None = None


class InputFile(Body):
    """A file within a message."""

    type: Literal["input_file"]


_Part = Annotated[
    InputText | OutputText | RefusalPart | InputImage | InputFile, Field(discriminator="type")
]


_Content = Annotated[
    Annotated[str, Tag("text")] | Annotated[list[_Part], Tag("list")],
    Discriminator(is_listed),
]


class MessageItem(Body):
    """A message of the conversation."""

    type: Literal["message"] | None = None
    role: Literal["user", "assistant", "system", "developer"]
    content: _Content


class OtherItem(Body):
    """An item that is no message: reasoning, a call of a tool, what the tool gave back."""

    type: str


def _kind_of_item(value: object) -> str:
    kind = value.get("type", "message") if isinstance(value, dict) else "message"
    return "message" if kind == "message" else "other"


_Item = Annotated[
    Annotated[MessageItem, Tag("message")] | Annotated[OtherItem, Tag("other")],
    Discriminator(_kind_of_item),
]
_Input = Annotated[
    Annotated[str, Tag("text")] | Annotated[list[_Item], Tag("list"), Field(min_length=1)],
    Discriminator(is_listed),
]


class SchemaFormat(SchemaHolder):
    """JSON by a schema."""

    type: Literal["json_schema"]


_Format = Annotated[TextForm | JsonForm | SchemaFormat, Field(discriminator="type")]


class TextOptions(Body):
    """The form of the answer."""

    format: _Format | None = None
    verbosity: Literal["low", "medium", "high"] | None = None


class Reasoning(Body):
    """How much the model thinks first."""

    effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = None
    summary: Literal["auto", "concise", "detailed"] | None = None


class ResponsesBody(Body):
    """The body of `/responses`."""

    model: Annotated[str, Field(min_length=1)]
    input: _Input
    instructions: str | None = None
    text: TextOptions | None = None
    reasoning: Reasoning | None = None
    max_output_tokens: Annotated[int, Field(ge=_LEAST_OUTPUT_TOKENS, le=_WIDEST)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    include: list[str] | None = None
    truncation: Literal["auto", "disabled"] | None = None
    store: bool | None = None
    background: bool | None = None
    stream: bool | None = None
    previous_response_id: str | None = None
    service_tier: str | None = None
    metadata: Metadata | None = None
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None


class ResponsesLineBody(Body):
    """What must be known of a line's body before a batch of it is begun."""

    model: Annotated[str, Field(min_length=1)]
    input: Annotated[
        Annotated[str, Tag("text")] | Annotated[list[Any], Tag("list"), Field(min_length=1)],
        Discriminator(is_listed),
    ]


class ResponsesLine(Body):
    """A line of an input file. What its body holds further is that request's own affair."""

    custom_id: Annotated[str, Field(min_length=1, max_length=512)]
    method: Literal["POST"]
    url: str
    body: ResponsesLineBody

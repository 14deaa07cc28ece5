"""The documented bodies of the service's calls, as models that a call's body is held to whole.

What the documents do not name is let through: servers behind the responder `upstream` have
parameters of their own. Types are strict, as the service's are: "5" is no number, 1 no boolean.

Sources: OpenAI's openapi.yaml (chat completions, batches, files) and Azure's
azureopenai.json of 2025-04-01-preview (batches, files, import).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag

ROLES = ("system", "assistant", "user", "function", "tool", "developer")
_NAME = r"^[a-zA-Z0-9_-]+$"
_MOST_TOOLS = 128
_MOST_CHOICES = 128
_WIDEST = 2**63 - 1


class Body(BaseModel):
    """A body or a part of one."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)


def is_listed(value: object) -> str | None:
    """Say whether a value that may be a text or a list is one, or the other."""
    if isinstance(value, str):
        return "text"
    return "list" if isinstance(value, list) else None


Metadata = Annotated[
    dict[
        Annotated[str, Field(max_length=64)],
        Annotated[str, Field(max_length=512)],
    ],
    Field(max_length=16),
]


# Messages


class TextPart(Body):
    """A text within a message."""

    type: Literal["text"]
    text: str


class RefusalPart(Body):
    """A refusal within a message of the assistant."""

    type: Literal["refusal"]
    refusal: str


class ImageUrl(Body):
    """Where an image is."""

    url: str
    detail: Literal["low", "high", "auto", "original"] | None = None


class ImagePart(Body):
    """An image within a message."""

    type: Literal["image_url"]
    image_url: ImageUrl


class InputAudio(Body):
    """A recording."""

    data: str
    format: Literal["wav", "mp3"]


class AudioPart(Body):
    """A recording within a message."""

    type: Literal["input_audio"]
    input_audio: InputAudio


class FilePart(Body):
    """A file within a message."""

    type: Literal["file"]
    file: dict[str, Any]


_UserPart = Annotated[TextPart | ImagePart | AudioPart | FilePart, Field(discriminator="type")]
_AssistantPart = Annotated[TextPart | RefusalPart, Field(discriminator="type")]
Texts = Annotated[
    Annotated[str, Tag("text")] | Annotated[list[TextPart], Tag("list"), Field(min_length=1)],
    Discriminator(is_listed),
]
UserContent = Annotated[
    Annotated[str, Tag("text")] | Annotated[list[_UserPart], Tag("list"), Field(min_length=1)],
    Discriminator(is_listed),
]
AssistantContent = Annotated[
    Annotated[str, Tag("text")] | Annotated[list[_AssistantPart], Tag("list"), Field(min_length=1)],
    Discriminator(is_listed),
]


class SystemMessage(Body):
    """What the model is to do."""

    role: Literal["system", "developer"]
    content: Texts
    name: str | None = None


class UserMessage(Body):
    """What the user says."""

    role: Literal["user"]
    content: UserContent
    name: str | None = None


class CalledFunction(Body):
    """Which function the model called, and with what."""

    name: str
    arguments: str


class FunctionCall(Body):
    """A call of a function."""

    id: str
    type: Literal["function"]
    function: CalledFunction


class CalledCustom(Body):
    """Which free-form tool the model called, and with what."""

    name: str
    input: str


class CustomCall(Body):
    """A call of a free-form tool."""

    id: str
    type: Literal["custom"]
    custom: CalledCustom


_Call = Annotated[FunctionCall | CustomCall, Field(discriminator="type")]


class AssistantMessage(Body):
    """The model's earlier answer."""

    role: Literal["assistant"]
    content: AssistantContent | None = None
    refusal: str | None = None
    name: str | None = None
    audio: dict[str, Any] | None = None
    tool_calls: Annotated[list[_Call], Field(min_length=1)] | None = None
    function_call: CalledFunction | None = None


class ToolMessage(Body):
    """What a tool gave back."""

    role: Literal["tool"]
    content: Texts
    tool_call_id: str


class FunctionMessage(Body):
    """What a function gave back, in the older form."""

    role: Literal["function"]
    content: str | None
    name: str


Message = Annotated[
    SystemMessage | UserMessage | AssistantMessage | ToolMessage | FunctionMessage,
    Field(discriminator="role"),
]


# Tools and the form of the answer


class Function(Body):
    """A function that the model may call."""

    name: Annotated[str, Field(pattern=_NAME, max_length=64)]
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class FunctionTool(Body):
    """A function as a tool."""

    type: Literal["function"]
    function: Function


class Custom(Body):
    """A tool that takes free text."""

    name: str
    description: str | None = None
    format: dict[str, Any] | None = None


class CustomTool(Body):
    """A free-form tool."""

    type: Literal["custom"]
    custom: Custom


_Tool = Annotated[FunctionTool | CustomTool, Field(discriminator="type")]


class TextForm(Body):
    """Free text."""

    type: Literal["text"]


class JsonForm(Body):
    """Any JSON object."""

    type: Literal["json_object"]


class SchemaHolder(Body):
    """A JSON Schema with its name."""

    name: Annotated[str, Field(pattern=_NAME, max_length=64)]
    description: str | None = None
    schema_: dict[str, Any] | None = Field(default=None, alias="schema")
    strict: bool | None = None


class SchemaForm(Body):
    """JSON by a schema."""

    type: Literal["json_schema"]
    json_schema: SchemaHolder


_Form = Annotated[TextForm | JsonForm | SchemaForm, Field(discriminator="type")]


class StreamOptions(Body):
    """What a stream holds besides the answer."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


_Count = Annotated[int, Field(ge=1, le=_WIDEST)]


class ChatBody(Body):
    """The body of `chat/completions`."""

    model: Annotated[str, Field(min_length=1)]
    messages: Annotated[list[Message], Field(min_length=1)]
    response_format: _Form | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    max_tokens: _Count | None = None
    max_completion_tokens: _Count | None = None
    n: Annotated[int, Field(ge=1, le=_MOST_CHOICES)] | None = None
    seed: Annotated[int, Field(ge=-_WIDEST, le=_WIDEST)] | None = None
    stop: Annotated[
        Annotated[str, Tag("text")]
        | Annotated[list[str], Tag("list"), Field(min_length=1, max_length=4)],
        Discriminator(is_listed),
    ] | None = None  # fmt: skip
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    logit_bias: dict[str, Annotated[float, Field(ge=-100, le=100)]] | None = None
    tools: Annotated[list[_Tool], Field(min_length=1, max_length=_MOST_TOOLS)] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    modalities: list[str] | None = None
    reasoning_effort: str | None = None
    verbosity: str | None = None
    service_tier: str | None = None
    prediction: dict[str, Any] | None = None
    store: bool | None = None
    metadata: Metadata | None = None
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None


# Files and batches


class Expiry(Body):
    """When a file is to be deleted."""

    anchor: Literal["created_at"]
    seconds: int


class UploadForm(Body):
    """The parts of an upload beside the file, of which a form makes texts."""

    purpose: str
    expires_after: Expiry | None = None


class ImportBody(Body):
    """The body of Azure's `files/import`."""

    purpose: str
    filename: Annotated[str, Field(min_length=1)]
    content_url: Annotated[str, Field(min_length=1)]
    expires_after: Expiry | None = None


class BatchBody(Body):
    """The body that creates a batch."""

    input_file_id: Annotated[str, Field(min_length=1)]
    endpoint: Annotated[str, Field(min_length=1)]
    completion_window: Annotated[str, Field(min_length=1)]
    metadata: Metadata | None = None
    output_expires_after: Expiry | None = None


class BlobFolder(Body):
    """Where a batch writes its blobs."""

    url: Annotated[str, Field(min_length=1)]
    delimiter: str | None = None


class BlobBatchBody(Body):
    """The body that creates a batch on a blob, of Azure."""

    input_file_id: None = None
    input_blob: Annotated[str, Field(min_length=1)]
    output_folder: BlobFolder
    endpoint: Annotated[str, Field(min_length=1)]
    completion_window: Annotated[str, Field(min_length=1)]
    metadata: None = None


class AnyBody(Body):
    """What must be known of a line's body where another service judges it."""

    model: Annotated[str, Field(min_length=1)]


class AnyLine(Body):
    """A line of an input file that asks whatever endpoint."""

    custom_id: Annotated[str, Field(min_length=1, max_length=512)]
    method: Literal["POST"]
    url: str
    body: AnyBody


class LineBody(Body):
    """What must be known of a line's body before a batch of it is begun."""

    model: Annotated[str, Field(min_length=1)]
    messages: Annotated[list[Any], Field(min_length=1)]


class BatchLine(Body):
    """A line of an input file. What its body holds further is that request's own affair."""

    custom_id: Annotated[str, Field(min_length=1, max_length=512)]
    method: Literal["POST"]
    url: str
    body: LineBody

"""What to ask and what comes back: the task, its identity, and how a model's YAML becomes one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Annotated, Any, Literal, Self, cast

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from dbt_enrich.errors import ConfigurationError, WrongValueError
from dbt_enrich.task.endpoint_names import EndpointName
from dbt_enrich.task.parameters import NEUTRAL_PARAMETERS, TOKEN_LIMITS, checked_parameters
from dbt_enrich.task.result_columns import STATUS_TYPES
from dbt_enrich.task.schema import OutputColumn, canonical_outputs
from dbt_enrich.task.template import Template, parse_template
from dbt_enrich.task.vectors import (
    DIMENSIONS,
    check_length,
    check_outputs,
    check_rest,
    vector_of,
)
from dbt_enrich.wording import first_problem, near_match

KEY_VERSION = 1
KEY_DIGITS = 32
RESERVED_PREFIX = "enrichment_"


class Example(BaseModel):
    """One few-shot pair: a user message and the answer to it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    user: str
    answer: dict[str, Any]


class EnrichmentTask(BaseModel):
    r"""What is asked of the language model for each row, and the columns that come back.

    Attributes:
        model: Logical model name; the profile's `deployments` maps it to deployments.
        user: The row's user message, a template such as `"{overview}"` over the columns of the
            SELECT. `{column}` is a placeholder, other braces are text, and `\{` is one before what
            would be a placeholder. dbt renders double braces itself before they are read here, so
            write single ones.
        outputs: The output columns; their types and descriptions are the answer's schema.
        system: Constant text, sent first.
        examples: Few-shot pairs of `user` and `answer` that go before each row.
        endpoint: The endpoint of the service that is asked: `chat` or `responses`, or `embeddings`
            for a vector, an output column of type `float[N]`. Not part of the identity, so that a
            task that moves from chat to responses asks nothing again.
        parameters: Body parameters of the request, such as `temperature` or `max_tokens`, passed on
            as they are; none has a default. `responses` takes the names of both endpoints:
            `max_tokens` is its `max_output_tokens`, `reasoning_effort` its `reasoning.effort`, and
            `verbosity` its `text.verbosity`.
        response: `json_schema` for structured output, `json_object` for language models without
            it.
        optional: Columns of the template that may be NULL or blank without the row being skipped.
        variant: A name for another sample of the same rows; part of the identity.
        literal_braces: Columns whose names may stand in braces as text. Otherwise a column in
            braces that are no placeholder is refused: `{Ticket Body}` in `user`, and any in
            `system` and `examples`, which are the same for every row. Not part of the identity.
        images: Columns of the SELECT with pictures, which go behind the message in this order: an
            http(s) or `data:` address, the path of a local file, a BLOB, or a list of them. With
            them `user` may name no column. A picture's identity is its address or its bytes, never
            its path or its column.
        image_detail: How closely the language model looks at the pictures: `low`, `high`, `auto`
            or `original` (default: the service's, `auto`).
        image_max_pixels: Pixels that a local picture may have, width times height; larger ones are
            scaled down (default: they are sent as they are).
    """

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)

    model: str = Field(min_length=1)
    user: str = Field(min_length=1)
    outputs: Annotated[tuple[OutputColumn, ...], Field(min_length=1)]
    system: str | None = None
    examples: tuple[Example, ...] = ()
    # Before the parameters, which depend on it.
    endpoint: EndpointName = EndpointName.CHAT
    parameters: dict[str, Any] = Field(default_factory=dict)
    response: Literal["json_schema", "json_object"] = "json_schema"
    optional: tuple[str, ...] = ()
    variant: str | None = None
    literal_braces: tuple[str, ...] = ()
    images: tuple[str, ...] = ()
    image_detail: Literal["low", "high", "auto", "original"] | None = None
    image_max_pixels: int | None = Field(default=None, ge=1)

    @field_validator("images", mode="before")
    @classmethod
    def _one_or_several(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value

    @field_validator("system", "user")
    @classmethod
    def _without_last_line_break(cls, text: str | None) -> str | None:
        """Drop the line break that a YAML block scalar ends with; refuse what SQL cannot hold."""
        if text is not None and "\x00" in text:
            raise WrongValueError(
                "a NUL character cannot be sent",
                fix="remove it",
            )
        return None if text is None else text.removesuffix("\n")

    @field_validator("endpoint", mode="before")
    @classmethod
    def _known_endpoint(cls, value: object) -> object:
        known = [*EndpointName]
        if value not in known:
            raise WrongValueError(
                "the service has no such endpoint",
                fix=near_match(str(value), known) or f"write {' or '.join(known)}",
            )
        return value

    @field_validator("parameters")
    @classmethod
    def _of_the_endpoint(cls, parameters: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        return checked_parameters(parameters, info.data.get("endpoint", EndpointName.CHAT))

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        names = [output.name.lower() for output in self.outputs]
        for name in names:
            if names.count(name) > 1:
                raise WrongValueError(
                    f"the output column '{name}' is given twice",
                    fix="remove one",
                )
            if name in STATUS_TYPES or name.startswith(RESERVED_PREFIX):
                raise WrongValueError(
                    f"the output column '{name}' has a name that dbt-enrich adds itself",
                    fix="rename it",
                )
        self._check_images()
        check_outputs(self.endpoint, self.outputs)
        vector = vector_of(self.outputs)
        if vector:
            check_rest(
                {
                    "system": self.system,
                    "examples": self.examples,
                    "images": self.images,
                    "response": self.response == "json_object",
                }
            )
            check_length(self.model, vector, self.parameters)
        if self.response == "json_object" and not self._mentions_json():
            raise WrongValueError(
                "response is json_object, but neither system, user nor an example says JSON, "
                "which the service demands",
                fix="name it, such as 'Answer with a JSON object'",
            )
        return self

    def _check_images(self) -> None:
        names = [name.lower() for name in self.images]
        for name in names:
            if names.count(name) > 1:
                raise WrongValueError(
                    f"images names the column '{name}' twice",
                    fix="remove one; a list column has several pictures",
                )
        for key in ("image_detail", "image_max_pixels"):
            if getattr(self, key) is not None and not self.images:
                raise WrongValueError(
                    f"{key} is set, but images names no column",
                    fix=f"name the columns with pictures, or take {key} out",
                )

    def _mentions_json(self) -> bool:
        texts = [self.system or "", self.user, *(example.user for example in self.examples)]
        return any("json" in text.lower() for text in texts)

    @cached_property
    def template(self) -> Template:
        """The parsed user template."""
        return parse_template(self.user)

    def task_key(self, answered_by: str) -> str:
        """Return the identity of the task as 32 hexadecimal digits.

        Args:
            answered_by: Who answers: the task's model for Azure and OpenAI, for the local service
                the weights' own identity.
        """
        document = self.document(answered_by)
        if "images" in document:
            # What is sent are the pictures, whatever their columns are called.
            document["images"] = {k: v for k, v in document["images"].items() if k != "columns"}
        return _digest(canonical_json(document))

    def document(self, answered_by: str) -> dict[str, Any]:
        """Return the canonical document that identifies the task. Its form never changes.

        The names in `images.columns` are there for readers alone.
        """
        document: dict[str, Any] = {
            "key_version": KEY_VERSION,
            "answered_by": answered_by,
            "model": self.model,
            "system": self.system,
            "user": self.user,
            "optional": sorted(self.optional_texts),
            "outputs": canonical_outputs(self.outputs),
            "examples": [{"user": e.user, "answer": e.answer} for e in self.examples],
            "response": self.response,
            "parameters": {
                key: value
                for key, value in self.parameters.items()
                if key not in NEUTRAL_PARAMETERS and key not in self._said_by_type
            },
            "variant": self.variant,
        }
        if self.images:
            settings = {"detail": self.image_detail, "max_pixels": self.image_max_pixels}
            document["images"] = {
                "columns": [name.lower() for name in self.images],
                **{key: value for key, value in settings.items() if value is not None},
            }
        return cast("dict[str, Any]", _plain_numbers(document))

    @property
    def optional_texts(self) -> set[str]:
        """The optional columns that the template may name: a row says itself which pictures go."""
        images = {name.lower() for name in self.images}
        template = {name.lower() for name in self.template.columns}
        return {name.lower() for name in self.optional} - (images - template)

    @property
    def _said_by_type(self) -> tuple[str, ...]:
        """The parameters that say what the type of the output column says."""
        return (DIMENSIONS,) if vector_of(self.outputs) else ()

    @property
    def neutral_parameters(self) -> dict[str, Any]:
        """The body parameters that are no part of the identity."""
        chosen = {k: v for k, v in self.parameters.items() if k in NEUTRAL_PARAMETERS}
        return cast("dict[str, Any]", _plain_numbers(chosen))

    @property
    def has_token_limit(self) -> bool:
        """Whether the task limits the tokens of an answer, so that the limit can be enlarged."""
        return any(name in self.parameters for name in TOKEN_LIMITS)

    def enlarged_parameters(self, factor: int) -> dict[str, Any]:
        """Return the parameters of a request, the limits of tokens times a factor."""
        return {
            name: value * factor if name in TOKEN_LIMITS else value
            for name, value in self.parameters.items()
        }

    def example_text(self, example: Example) -> str:
        """Return an example's answer as JSON, its keys in the order of the outputs."""
        order = {output.name: position for position, output in enumerate(self.outputs)}
        answer = sorted(example.answer.items(), key=lambda item: order.get(item[0], len(order)))
        return json.dumps(dict(answer), ensure_ascii=False)


def _wrong(where: str, error: ValidationError) -> ConfigurationError:
    found = first_problem(error)
    place = f"enrichment.{found.path}" if found.path else "enrichment"
    return ConfigurationError(f"{where}: {place}: {found.text}", fix=found.fix)


def image_row_key(task_key: str, user_message: str, identities: Sequence[str]) -> str:
    """Return the request key of a row with pictures, as `image_row_key_sql` makes it.

    Args:
        task_key: The task's identity.
        user_message: The row's rendered message.
        identities: The pictures': each a SHA-256 in hexadecimal digits, of a picture's bytes or of
            `url:` and its address.
    """
    message = hashlib.sha256(user_message.encode()).hexdigest()
    return _digest("".join((task_key, message, *identities)))


def canonical_json(document: object) -> str:
    """Serialise `document` so that equal documents have equal texts, on any machine."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def _plain_numbers(value: object) -> object:
    """Write a whole number as an integer, so that 0 and 0.0 are one identity."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, Mapping):
        return {str(key): _plain_numbers(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain_numbers(item) for item in value]
    return value


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:KEY_DIGITS]

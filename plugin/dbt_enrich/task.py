"""What to ask and what comes back: the task, its identity, and how a model's YAML becomes one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from enum import StrEnum
from functools import cached_property
from typing import Annotated, Any, Literal, Self, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from dbt_enrich.columns import STATUS_TYPES
from dbt_enrich.errors import ConfigurationError, EnrichmentError, WrongValueError
from dbt_enrich.failures import FailureKind
from dbt_enrich.schema import OutputColumn, canonical_outputs, json_schema
from dbt_enrich.template import Template, parse_template
from dbt_enrich.wording import first_problem, near_match, unknown_key

KEY_VERSION = 1
KEY_DIGITS = 32
RESERVED_PREFIX = "enrichment_"
TOKEN_LIMITS = ("max_tokens", "max_completion_tokens", "max_output_tokens")
# Body parameters that leave the answer as it is, so that changing one asks nothing again.
_NEUTRAL_PARAMETERS = frozenset(
    {*TOKEN_LIMITS, "user", "metadata", "store", "service_tier", "prompt_cache_key"}
    | {"safety_identifier", "prompt_cache_retention"}
)
# Body keys that the engine writes; `stream` and `n` would change the shape of the reply.
_ENGINE_PARAMETERS = {
    "model": "set enrichment.model and the profile's deployments",
    "messages": "set enrichment.system, examples and user",
    "response_format": "set enrichment.response; the columns are the schema",
    "stream": "a batch cannot stream",
    "n": "a row has one answer; use enrichment.variant for a second sample",
}


class Mode(StrEnum):
    """How far a run goes."""

    RUN = "run"
    SUBMIT = "submit"
    COLLECT = "collect"
    PLAN = "plan"
    PREVIEW = "preview"


class Example(BaseModel):
    """One few-shot pair: a user message and the answer to it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    user: str
    answer: dict[str, Any]


class EnrichmentTask(BaseModel):
    """What is asked of the language model for each row, and the columns that come back.

    Attributes:
        model: Logical model name; the profile's `deployments` maps it to deployments.
        user: The row's user message, a template such as `"{overview}"` over the staged columns.
        outputs: The output columns; their types and descriptions are the answer's schema.
        system: Constant system text, sent first, or None.
        examples: Few-shot pairs that go before each row.
        parameters: Body parameters of the request, passed on as they are; none has a default.
        response: `json_schema` for structured output, `json_object` for JSON mode.
        optional: Template columns that may be NULL or blank without the row being skipped.
        variant: A name for another sample of the same rows; part of the identity.
        literal_braces: Columns whose names may stand in braces as text; not part of the identity.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)

    model: str = Field(min_length=1)
    user: str = Field(min_length=1)
    outputs: Annotated[tuple[OutputColumn, ...], Field(min_length=1)]
    system: str | None = None
    examples: tuple[Example, ...] = ()
    parameters: dict[str, Any] = Field(default_factory=dict)
    response: Literal["json_schema", "json_object"] = "json_schema"
    optional: tuple[str, ...] = ()
    variant: str | None = None
    literal_braces: tuple[str, ...] = ()

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

    @field_validator("parameters")
    @classmethod
    def _without_engine_keys(cls, parameters: dict[str, Any]) -> dict[str, Any]:
        for key, mend in _ENGINE_PARAMETERS.items():
            if key in parameters:
                raise WrongValueError(
                    f"'{key}' cannot be set here",
                    fix=mend,
                )
        return parameters

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
        if self.response == "json_object" and not self._mentions_json():
            raise WrongValueError(
                "response is json_object, but neither system, user nor an example says JSON, "
                "which the service demands",
                fix="name it, such as 'Answer with a JSON object'",
            )
        return self

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
        return _digest(canonical_json(self.document(answered_by)))

    def document(self, answered_by: str) -> dict[str, Any]:
        """Return the canonical document that identifies the task. Its form never changes."""
        document = {
            "key_version": KEY_VERSION,
            "answered_by": answered_by,
            "model": self.model,
            "system": self.system,
            "user": self.user,
            "optional": sorted(name.lower() for name in self.optional),
            "outputs": canonical_outputs(self.outputs),
            "examples": [{"user": e.user, "answer": e.answer} for e in self.examples],
            "response": self.response,
            "parameters": {
                key: value
                for key, value in self.parameters.items()
                if key not in _NEUTRAL_PARAMETERS
            },
            "variant": self.variant,
        }
        return cast("dict[str, Any]", _plain_numbers(document))

    @property
    def neutral_parameters(self) -> dict[str, Any]:
        """The body parameters that are no part of the identity."""
        chosen = {k: v for k, v in self.parameters.items() if k in _NEUTRAL_PARAMETERS}
        return cast("dict[str, Any]", _plain_numbers(chosen))

    def constant_messages(self) -> list[dict[str, str]]:
        """Return the messages that go before every row's own: system text and examples."""
        messages = [{"role": "system", "content": self.system}] if self.system else []
        for example in self.examples:
            messages.append({"role": "user", "content": example.user})
            messages.append({"role": "assistant", "content": self.example_text(example)})
        return messages

    def example_text(self, example: Example) -> str:
        """Return an example's answer as JSON, its keys in the order of the outputs."""
        order = {output.name: position for position, output in enumerate(self.outputs)}
        answer = sorted(example.answer.items(), key=lambda item: order.get(item[0], len(order)))
        return json.dumps(dict(answer), ensure_ascii=False)

    def response_format(self) -> dict[str, Any]:
        """Return the body's `response_format`."""
        if self.response == "json_object":
            return {"type": "json_object"}
        return {
            "type": "json_schema",
            "json_schema": {"name": "row", "strict": True, "schema": json_schema(self.outputs)},
        }


class EnrichmentOptions(BaseModel):
    """How a task is run. None of this is part of an answer's identity.

    Attributes:
        mode: How far the run goes.
        max_attempts: How often one row is sent in all, the first time included.
        fail_on: Kinds of failure that fail the model, or `any`; none by default.
        warn_failed_share: The share of answered rows that may fail without a dbt warning.
        on_pending: Whether a row whose task changed keeps its former outputs (`keep`) until the
            new answer is there, or shows none (`null`).
        ask_again: Kinds of failure that are asked again although they usually are not:
            `content_filter` and `refusal`.
        on_task_change: What happens to rows that were answered before the task changed: `all` are
            asked again, `new_rows` keeps the former answers of rows whose text is unchanged, and
            `error` sends nothing and says what changed.
        max_failed_share: The share of the answers that may fail in the same way; where more do,
            of at least 20, the run is stopped. 1 never stops it.
        canary: How many requests of a task without answers are sent before the others are, or None
            for all at once.
        max_cost: What one run of the model may cost, at batch price.
        max_requests: How many requests one run of the model may send.
        max_tokens: How many tokens one run of the model may take.
        await_timeout: Seconds after which a waiting run gives up and leaves rows pending, or None.
        on_await_timeout: Whether the model then succeeds with pending rows (`pending`), or fails
            and leaves its former table (`error`).
        publish: Whether the table is rebuilt from the SELECT's rows (`rebuild`), or they are put
            into it by unique key (`merge`), for a SELECT that yields only new or changed rows.
        rows_per_request: How many rows go into one request, or None for one.
        tokens_per_request: About how many tokens of rows go into one request, or None.
        pack_shares_answers: Whether rows asked in packs and alone share their answers.
        sync_below: A round with fewer requests than this goes through the synchronous endpoint
            instead of a batch, at its price; None for never.
        preview_rows: How many rows `preview` asks.
        preview_model: Deployment that answers single requests, those of `preview` and of
            `sync_below`, where the batch one cannot.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    mode: Mode = Mode.RUN
    max_attempts: int = Field(default=3, ge=1, le=20)
    fail_on: tuple[str, ...] = ()
    warn_failed_share: float = Field(default=0.05, ge=0, le=1)
    on_pending: Literal["keep", "null"] = "keep"
    ask_again: tuple[Literal["content_filter", "refusal"], ...] = ()
    on_task_change: Literal["all", "new_rows", "error"] = "all"
    max_failed_share: float = Field(default=0.5, ge=0, le=1)
    canary: int | None = Field(default=None, ge=1)
    max_cost: float | None = Field(default=None, ge=0)
    max_requests: int | None = Field(default=None, ge=0)
    max_tokens: int | None = Field(default=None, ge=0)
    await_timeout: float | None = Field(default=None, gt=0)
    on_await_timeout: Literal["pending", "error"] = "pending"
    publish: Literal["rebuild", "merge"] = "rebuild"
    rows_per_request: int | None = Field(default=None, ge=2, le=1000)
    tokens_per_request: int | None = Field(default=None, ge=1)
    pack_shares_answers: bool = True
    sync_below: int | None = Field(default=None, ge=1, le=10_000)
    preview_rows: int = Field(default=5, ge=1, le=100)
    preview_model: str | None = None

    @field_validator("on_pending", mode="before")
    @classmethod
    def _null_as_yaml_has_it(cls, value: object) -> object:
        return "null" if value is None else value

    @field_validator("ask_again", mode="before")
    @classmethod
    def _one_or_several(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _one_packing(self) -> Self:
        if self.rows_per_request and self.tokens_per_request:
            raise WrongValueError(
                "rows_per_request and tokens_per_request are both given",
                fix="remove one",
            )
        if self.packs and self.max_attempts < 2:
            raise WrongValueError(
                "max_attempts is 1, but a row that its pack does not answer is asked again alone",
                fix="write 2 or more",
            )
        return self

    @property
    def packs(self) -> bool:
        """Whether several rows go into one request."""
        return bool(self.rows_per_request or self.tokens_per_request)

    @field_validator("fail_on", mode="before")
    @classmethod
    def _known_kinds(cls, value: object) -> object:
        kinds = [value] if isinstance(value, str) else value
        known = [*FailureKind, "any"]
        for kind in kinds if isinstance(kinds, (list, tuple)) else []:
            if kind not in known:
                raise WrongValueError(
                    f"'{kind}' is no kind of failure",
                    fix=near_match(str(kind), known) or f"use one of {', '.join(known)}",
                )
        return kinds


_TASK_KEYS = set(EnrichmentTask.model_fields) - {"outputs"} | {"output"}
_RULE_KEYS = {field.name for field in fields(OutputColumn)} - {"name", "data_type", "description"}


def task_from_yaml(
    model: str, meta: Mapping[str, Any], columns: Mapping[str, Mapping[str, Any]]
) -> EnrichmentTask:
    """Build the task from a dbt model's `meta.enrichment` and its documented columns.

    Args:
        model: The dbt model's name, for messages.
        meta: The block `config.meta.enrichment`.
        columns: dbt's `model.columns`: name to `data_type`, `description` and `meta`.

    Raises:
        ConfigurationError: A key is unknown, or a value is missing or wrong.
    """
    unknown = unknown_key(meta, _TASK_KEYS | set(EnrichmentOptions.model_fields))
    if unknown:
        raise ConfigurationError(
            f"model '{model}': meta.enrichment has the {unknown.text}", fix=unknown.fix
        )
    for key in ("model", "user", "output"):
        if not meta.get(key):
            raise ConfigurationError(
                f"model '{model}': meta.enrichment has no '{key}'",
                fix="add it to the model's YAML",
            )
    names = meta["output"]
    if not isinstance(names, Sequence) or isinstance(names, str):
        raise ConfigurationError(
            f"model '{model}': enrichment.output must be a list of column names",
            fix="write it as "
            f"[{', '.join(map(str, names)) if isinstance(names, Mapping) else names}]; their types "
            "are those below columns:",
        )
    values = {key: value for key, value in meta.items() if key in _TASK_KEYS - {"output"}}
    values["outputs"] = tuple(_output_column(model, str(name), columns) for name in names)
    return build_task(f"model '{model}'", values)


def build_task(where: str, values: Mapping[str, Any]) -> EnrichmentTask:
    """Build a task, with each error as one sentence that begins with `where`."""
    try:
        return EnrichmentTask(**values)
    except ValidationError as error:
        raise _wrong(where, error) from None


def options_from_yaml(
    model: str,
    meta: Mapping[str, Any],
    *,
    mode: str | None = None,
    preview_rows: int | None = None,
) -> EnrichmentOptions:
    """Build the run options from `meta.enrichment`; what is given here wins over the YAML's.

    Raises:
        ConfigurationError: A value is wrong.
    """
    values = {key: meta[key] for key in EnrichmentOptions.model_fields if key in meta}
    told = {"mode": mode, "preview_rows": preview_rows}
    values |= {key: value for key, value in told.items() if value is not None}
    try:
        return EnrichmentOptions(**values)
    except ValidationError as error:
        raise _wrong(f"model '{model}'", error) from None


def _wrong(where: str, error: ValidationError) -> ConfigurationError:
    found = first_problem(error)
    place = f"enrichment.{found.path}" if found.path else "enrichment"
    return ConfigurationError(f"{where}: {place}: {found.text}", fix=found.fix)


def canonical_json(document: object) -> str:
    """Serialise `document` so that equal documents have equal texts, on any machine."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def _output_column(model: str, name: str, columns: Mapping[str, Mapping[str, Any]]) -> OutputColumn:
    by_name = {key.lower(): value for key, value in columns.items()}
    column = by_name.get(name.lower())
    if column is None:
        raise ConfigurationError(
            f"model '{model}': enrichment.output names the column '{name}', which the YAML does "
            "not describe",
            fix=near_match(name, by_name) or "add it under columns with a data_type",
        )
    if not column.get("data_type"):
        raise ConfigurationError(
            f"model '{model}': the output column '{name}' has no data_type in the YAML",
            fix="add one, such as data_type: varchar",
        )
    meta = column.get("meta") or (column.get("config") or {}).get("meta") or {}
    rules = dict(meta.get("enrichment") or {})
    unknown = unknown_key(rules, _RULE_KEYS)
    if unknown:
        raise ConfigurationError(
            f"model '{model}': meta.enrichment of the column '{name}' has the {unknown.text}",
            fix=unknown.fix,
        )
    try:
        return OutputColumn(
            name=name,
            data_type=str(column["data_type"]),
            description=(column.get("description") or "").strip() or None,
            **rules,
        )
    except EnrichmentError as error:
        raise ConfigurationError(f"model '{model}': {error.problem}", fix=error.fix) from None


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

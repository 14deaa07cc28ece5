"""What a model says of its runs beside the task: mode, packing, limits, what may fail."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from dbt_enrich.errors import WrongValueError
from dbt_enrich.task.failures import FailureKind
from dbt_enrich.wording import near_match


class Mode(StrEnum):
    """How far a run goes.

    Attributes:
        RUN: Send what is new, wait for the answers, publish them.
        SUBMIT: Send what is new and end; the rows stay `pending`, downstream models build.
        COLLECT: Take in what has finished and publish it; send nothing.
        PLAN: Send nothing; say what a run would send and cost.
        PREVIEW: Ask the first rows at the synchronous price and print the answers; store nothing.
    """

    RUN = "run"
    SUBMIT = "submit"
    COLLECT = "collect"
    PLAN = "plan"
    PREVIEW = "preview"


class Via(StrEnum):
    """How the requests of a model reach the service.

    Attributes:
        BATCH: In batches, at half the price, within 24 hours.
        SYNCHRONOUS: One by one through the synchronous endpoint, at its price, as fast as the
            service takes them.
        FLEX: The same with `service_tier: flex`: at about the price of a batch, when the service
            has room. What it has no room for is waited for.
    """

    BATCH = "batch"
    SYNCHRONOUS = "synchronous"
    FLEX = "flex"


class EnrichmentOptions(BaseModel):
    """How a task is run. None of this is part of an answer's identity.

    Attributes:
        mode: How far the run goes. The variable `enrichment_mode` (`--vars`) wins over it.
        max_attempts: How often one row is sent in all, the first time included.
        fail_on: Kinds of failure that fail the model, or `any`.
        warn_failed_share: The share of answered rows that may fail without a dbt warning.
        on_pending: Whether a row whose task changed keeps its previous outputs (`keep`) until the
            new answer is there, or shows none (`null`).
        ask_again: Kinds of failure that are asked again although they usually are not:
            `content_filter` and `refusal`.
        on_task_change: What happens to rows that were answered before the task changed: `all` are
            asked again, `new_rows` keeps the previous answers of rows whose text is unchanged, and
            `error` sends nothing and says what changed.
        max_failed_share: The share of the answers that may fail in the same way; where more do,
            of at least 20, the run is stopped. 1 never stops it.
        canary: How many requests of a task without answers are sent before the others are, or None
            for all at once.
        max_cost: What one run of the model may cost, at batch price; more is refused before
            anything is sent.
        max_requests: How many requests one run of the model may send.
        max_tokens: How many tokens one run of the model may take.
        await_timeout: Seconds after which a waiting run gives up and leaves rows pending, or None.
        on_await_timeout: Whether the model then succeeds with pending rows (`pending`), or fails
            and leaves its previous table (`error`).
        publish: Whether the table is rebuilt from the SELECT's rows (`rebuild`), or they are put
            into it by unique key (`merge`), for a SELECT that yields only new or changed rows.
        rows_per_request: How many rows go into one request, a pack, or None for one; at most 1,000,
            and 2,048 texts for embeddings, of which up to 128 go together by default.
        tokens_per_request: About how many tokens of rows go into one request, or None; in place of
            `rows_per_request`.
        pack_shares_answers: Whether rows asked in packs and alone share their answers. With `false`
            they are asked apart.
        via: How all requests reach the service: in batches (`batch`), or one by one through the
            synchronous endpoint (`synchronous`, or `flex` at the price of its flex tier). What is
            answered one by one needs the extra `emulator`, and is a batch like any other all the
            same. With `local` it makes no difference.
        sync_below: A round with fewer requests than this goes through the synchronous endpoint
            instead of a batch, at its price; None for never.
        preview_rows: How many rows `preview` asks.
        preview_model: Deployment that answers single requests, those of `preview`, `sync_below`
            and `via`, where the batch one cannot.
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
    rows_per_request: int | None = Field(default=None, ge=2, le=2_048)
    tokens_per_request: int | None = Field(default=None, ge=1)
    pack_shares_answers: bool = True
    via: Via = Via.BATCH
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

"""Preview: the first rows through the synchronous endpoint, shown and stored nowhere."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dbt_enrich.config import PluginConfig
from dbt_enrich.cost.money import money_text
from dbt_enrich.cost.tokens import count_tokens
from dbt_enrich.endpoints.embeddings import numbers_of, slim_reply
from dbt_enrich.endpoints.request_lines import request_body
from dbt_enrich.endpoints.response_lines import message_sql, named_lines_sql, reply_line
from dbt_enrich.errors import CancelledError, EnrichmentError
from dbt_enrich.pipeline.export.new_requests import Selection
from dbt_enrich.pipeline.export.relayed_rounds import route_of
from dbt_enrich.pipeline.planning.plan import row_overheads
from dbt_enrich.pipeline.request import EnrichmentRequest
from dbt_enrich.pipeline.stage.pictures import described, shown
from dbt_enrich.pipeline.stage.staged_rows import StagedRows
from dbt_enrich.services.base import BatchService
from dbt_enrich.sql import literal
from dbt_enrich.state.run import Run
from dbt_enrich.task.enrichment_task import EnrichmentTask
from dbt_enrich.task.vectors import vector_of
from dbt_enrich.validation.answers import validated_answers_sql
from dbt_enrich.validation.vectors import validated_vectors_sql
from dbt_enrich.wording import counted
from dbt_enrich.workspace.database import Workspace

_SHOWN_NUMBERS = 4


@dataclass(frozen=True)
class PreviewedRow:
    """One row, what was asked of it and what came back.

    Attributes:
        row: The row's unique key, as text.
        user_message: What was sent; of pictures, what they are.
        answer: The model's text.
        problem: Why the answer would not be taken, or None.
        seconds: How long the answer took.
        prompt_tokens: Tokens of the prompt, as the service counted them.
        completion_tokens: Tokens of the answer.
    """

    row: str
    user_message: str
    answer: str
    problem: str | None
    seconds: float = 0.0
    prompt_tokens: int = 0
    completion_tokens: int = 0

    def __str__(self) -> str:
        verdict = f"\n  would fail: {self.problem}" if self.problem else ""
        return f"{self.row}\n  asked:    {self.user_message}\n  answered: {self.answer}{verdict}"


@dataclass(frozen=True)
class Preview:
    """The first rows of a model, asked.

    Attributes:
        name: The dbt model's name.
        deployment: Who answered.
        rows: The rows.
        sentence: What came of them, and what the whole table would cost.
    """

    name: str
    deployment: str
    rows: list[PreviewedRow]
    sentence: str


def preview(
    run: Run,
    rows: StagedRows,
    request: EnrichmentRequest,
    selection: Selection,
    config: PluginConfig,
    service: BatchService,
) -> Preview:
    """Ask the first rows one by one, and validate the answers as a batch's would be."""
    options = request.options
    deployment = route_of(selection.task.model, options, config)
    asked = run.workspace.rows(
        f"select row_id, user_message, {'pictures' if rows.pictures else '[]'} from {rows.all_sql} "
        f"where user_message is not null order by row_id limit {options.preview_rows}"
    )
    store = rows.pictures
    previewed = [
        _ask(
            request.relation.row_label(row_id),
            message,
            selection,
            deployment,
            service,
            run,
            [(described(one), shown(one, store)) for one in pictures or () if store],
        )
        for row_id, message, pictures in asked
    ]
    (different,) = run.workspace.row(
        f"select count(distinct request_key) from {rows.keys_sql} as keys"
    )
    sentence = _sentence(previewed, rows, different, selection, deployment, config)
    return Preview(request.model, deployment, previewed, sentence)


def _ask(
    row: str,
    message: str,
    selection: Selection,
    deployment: str,
    service: BatchService,
    run: Run,
    images: Sequence[tuple[str, str]] = (),
) -> PreviewedRow:
    urls = [url for _, url in images]
    body = request_body(selection.endpoint, selection.task, deployment, message, images=urls)
    asked = "".join((message, *(f"\n            [{text}]" for text, _ in images)))
    began = run.clock.monotonic()
    try:
        reply = service.ask(selection.endpoint.path, body)
    except CancelledError:
        raise
    except EnrichmentError as error:
        return PreviewedRow(row, asked, "", str(error), run.clock.monotonic() - began)
    seconds = run.clock.monotonic() - began
    read, shown = _read_sql(selection, reply_line(None, 200, reply))
    text, problem, prompt_tokens, completion_tokens = run.workspace.row(
        f"""
        select
            {shown},
            case
                when outcome <> 'answered' then outcome || ': ' || {message_sql("null")}
                when mismatch_kind is not null
                    then mismatch_kind || ': ' || {message_sql("mismatch")}
            end,
            coalesce(try_cast(prompt_tokens as bigint), 0),
            coalesce(try_cast(completion_tokens as bigint), 0)
        from ({read})
        """
    )
    return PreviewedRow(row, asked, text, problem, seconds, prompt_tokens, completion_tokens)


def _read_sql(selection: Selection, line: dict[str, Any]) -> tuple[str, str]:
    """Build the SELECT of a reply, validated, and the expression of the text that it is shown as.

    Args:
        selection: What was asked.
        line: The reply, as a line of an output file.
    """
    outputs = list(selection.task.outputs)
    vector = vector_of(outputs)
    found = dict(slim_reply(line, "0")) if vector else {}
    text = json.dumps(line, ensure_ascii=True)
    named = named_lines_sql(selection.endpoint, f"select {literal(text)} as line")
    if vector is None:
        return validated_answers_sql(f"({named})", outputs), "coalesce(raw, refusal, body, '')"
    numbers = numbers_of(found[0]) if 0 in found else None
    value = "null" if numbers is None else f"[{', '.join(literal(repr(n)) for n in numbers)}]"
    named = f"select *, cast({value} as float[]) as vector from ({named})"
    shown = "coalesce(refusal, body, '')" if numbers is None else literal(_shortened(numbers))
    return validated_vectors_sql(f"({named})", vector), shown


def _shortened(numbers: Sequence[float]) -> str:
    """Return a vector as it is shown: its first numbers, and how many there are."""
    first = ", ".join(f"{number:.4f}" for number in numbers[:_SHOWN_NUMBERS])
    rest = ", …" if len(numbers) > _SHOWN_NUMBERS else ""
    return f"[{first}{rest}] ({len(numbers):,} numbers)"


def _sentence(
    previewed: Sequence[PreviewedRow],
    rows: StagedRows,
    different: int,
    selection: Selection,
    deployment: str,
    config: PluginConfig,
) -> str:
    """Say what was previewed, and what the whole table would cost in a batch at this rate.

    Equal rows are asked once: so many as are `different`.
    """
    problems = sum(row.problem is not None for row in previewed)
    if not previewed:
        return "no row to preview: the SELECT yields none that has a text to send"
    text = (
        f"previewed {counted(len(previewed), 'row')} by {deployment}, {problems} would fail; "
        "nothing was stored"
    )
    with_usage = [row for row in previewed if row.prompt_tokens]
    price = config.task_price(selection.task)
    if not with_usage or price is None:
        return text
    prompt = sum(row.prompt_tokens for row in with_usage) / len(with_usage) * different
    prompt *= _packed_share(with_usage, selection)
    completion = sum(row.completion_tokens for row in with_usage) / len(with_usage) * different
    currency = config.price_table.currency
    differ = f" ({different:,} of them differ)" if different < rows.keyed else ""
    packed = ", packed," if selection.packing else ""
    return (
        f"{text}. At this rate {counted(rows.keyed, 'row')}{differ} would take{packed} "
        f"{prompt:,.0f} input and {completion:,.0f} output tokens, "
        f"{money_text(price.batch_cost(prompt, completion), currency)} in a batch"
    )


def _packed_share(previewed: Sequence[PreviewedRow], selection: Selection) -> float:
    """Return how much of the prompt tokens that rows took alone they take as they are packed."""
    if selection.packing is None:
        return 1.0
    texts = count_tokens((row.user_message for row in previewed), selection.task.model)
    mean = sum(texts) / len(texts)
    alone, packed = row_overheads(selection, mean)
    return (mean + packed) / (mean + alone)


def answer_problem(text: str, task: EnrichmentTask, workspace: Workspace) -> str | None:
    """Return why `text` is no valid answer to the task, or None if it is one."""
    verdict = validated_answers_sql(f"(select {literal(text)} as content)", list(task.outputs))
    kind, problem = workspace.row(f"select mismatch_kind, mismatch from ({verdict})")
    return f"{kind}: {problem}" if kind else None

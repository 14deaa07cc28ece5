"""Preview: the first rows through the synchronous endpoint, shown and stored nowhere."""

from __future__ import annotations

from dataclasses import dataclass

from dbt_enrich.errors import EnrichmentError
from dbt_enrich.pipeline.stage import StagedRelation, StagedRows
from dbt_enrich.request_lines import request_body
from dbt_enrich.services.base import BatchService
from dbt_enrich.task import EnrichmentTask
from dbt_enrich.validation import validated_answers_sql
from dbt_enrich.workspace import Workspace


@dataclass(frozen=True)
class PreviewedRow:
    """One row, what was asked of it and what came back.

    Attributes:
        row: The row's unique key, as text.
        user_message: What was sent.
        answer: The model's text.
        problem: Why the answer would not be taken, or None.
    """

    row: str
    user_message: str
    answer: str
    problem: str | None

    def __str__(self) -> str:
        verdict = f"\n  would fail: {self.problem}" if self.problem else ""
        return f"{self.row}\n  asked:    {self.user_message}\n  answered: {self.answer}{verdict}"


def preview(
    rows: StagedRows,
    relation: StagedRelation,
    task: EnrichmentTask,
    *,
    deployment: str,
    limit: int,
    service: BatchService,
    workspace: Workspace,
) -> list[PreviewedRow]:
    """Ask the first `limit` rows one by one, and validate the answers as a batch's would be."""
    asked = workspace.rows(
        f"select row_id, user_message from {rows.all_sql} "
        f"where user_message is not null order by row_id limit {limit}"
    )
    return [
        _ask(relation.row_label(row_id), message, task, deployment, service, workspace)
        for row_id, message in asked
    ]


def _ask(
    row: str,
    message: str,
    task: EnrichmentTask,
    deployment: str,
    service: BatchService,
    workspace: Workspace,
) -> PreviewedRow:
    body = request_body(task, deployment=deployment, user_message=message)
    try:
        reply = service.chat(body)
    except EnrichmentError as error:
        return PreviewedRow(row, message, "", str(error))
    choice = (reply.get("choices") or [{}])[0]
    text = (choice.get("message") or {}).get("content") or ""
    if choice.get("finish_reason") == "length":
        return PreviewedRow(row, message, text, "truncated: the answer was cut at the token limit")
    return PreviewedRow(row, message, text, answer_problem(text, task, workspace))


def answer_problem(text: str, task: EnrichmentTask, workspace: Workspace) -> str | None:
    """Return why `text` is no valid answer to the task, or None if it is one."""
    verdict = validated_answers_sql("(select cast(? as varchar) as content)", list(task.outputs))
    kind, problem = workspace.row(f"select mismatch_kind, mismatch from ({verdict})", [text])
    return f"{kind}: {problem}" if kind else None

"""Outcomes: what the engine asks of a session before it sends, and says of it afterwards."""

from __future__ import annotations

import json

from dbt_enrich.errors import ConfigurationError, FailedRowsError
from dbt_enrich.pipeline.answers import answers_sql, done_sql
from dbt_enrich.pipeline.budget import spending
from dbt_enrich.pipeline.errors_table import empty_errors_sql
from dbt_enrich.pipeline.finals import Finals, find_finals
from dbt_enrich.pipeline.inputs import inputs_may_be_left
from dbt_enrich.pipeline.key_parts import key_parts
from dbt_enrich.pipeline.preview import answer_problem
from dbt_enrich.pipeline.publish import Published, empty_table_sql
from dbt_enrich.pipeline.selection import (
    Chosen,
    NewRequests,
    Undone,
    choose,
    find_undone,
    new_requests,
)
from dbt_enrich.pipeline.session import Outcome, Session
from dbt_enrich.pipeline.stage import StagedRows


def rows_undone(session: Session, rows: StagedRows) -> Undone:
    """Find the rows that have no answer that is `done`."""
    return find_undone(
        rows,
        session.selection.answer_keys,
        workspace=session.workspace,
        ledger=session.ledger,
        store=session.store,
    )


def choose_new(session: Session, undone: Undone) -> Chosen:
    """Choose what a run would send of the rows that are not done, without claiming it."""
    return choose(
        undone,
        session.selection,
        workspace=session.workspace,
        ledger=session.ledger,
        store=session.store,
    )


def finals_of(session: Session, undone: Undone) -> Finals:
    """Find the requests of the rows that are not done that failed for good."""
    return find_finals(
        undone,
        session.selection,
        workspace=session.workspace,
        ledger=session.ledger,
        store=session.store,
    )


def count_new(session: Session, rows: StagedRows, chosen: Chosen) -> NewRequests:
    """Count what a run would send, and what it would not."""
    return new_requests(
        rows,
        chosen,
        session.selection,
        workspace=session.workspace,
        ledger=session.ledger,
        store=session.store,
    )


def rows_kept(session: Session, rows: StagedRows) -> int:
    """Count the rows that keep an answer to a previous version of the task."""
    selection = session.selection
    if not selection.keeps_former:
        return 0
    own, former = (answers_sql(session.ledger, session.store, key) for key in selection.answer_keys)
    kept = 0
    for part in key_parts(rows.rows):
        keys = part.of(rows.keys_sql)
        (found,) = session.workspace.row(
            f"select count(*) from {keys} as keys "
            f"semi join ({done_sql(former, keys, part=part)}) as former using (request_key) "
            f"anti join ({done_sql(own, keys, part=part)}) as own using (request_key)"
        )
        kept += found
    return kept


def inputs_to_forget(session: Session) -> bool:
    """Whether a former run left input files at the service that may not stay there."""
    if session.config.store_inputs:
        return False
    service = session.config.service_settings().service_id
    return inputs_may_be_left(service, session.ledger)


def check_examples(session: Session) -> None:
    """Refuse examples whose answers do not fit the output columns.

    Raises:
        ConfigurationError: One of them does not.
    """
    task = session.request.task
    for number, example in enumerate(task.examples, start=1):
        problem = answer_problem(json.dumps(example.answer), task, session.workspace)
        if problem:
            raise ConfigurationError(
                f"model '{session.model}': the answer of enrichment.examples number {number} does "
                f"not fit the output columns ({problem}); mend it, as the language model copies "
                "what the examples show"
            )


def table_comment(session: Session) -> str:
    """Say of a table who enriched it, by which version of the task, and what it cost so far."""
    enrichment = session.request.enrichment
    spent = spending(session.ledger.all_shards(enrichment=enrichment), session.config)
    cost = "cost unknown" if spent.cost is None else f"cost so far {spent.said()}"
    return f"Enriched by {session.request.task.model}, task version {session.task_key[:8]}; {cost}"


def unpublished(session: Session, sentence: str) -> Outcome:
    """Return the outcome of a run that stores nothing: empty, typed tables where there are none."""
    request = session.request
    return Outcome(
        session.run_id,
        enriched_sql=empty_table_sql(request.relation, request.task.outputs),
        errors_sql=empty_errors_sql(request.relation),
        summary=sentence,
        replaces=False,
    )


def refuse_failures(session: Session, published: Published) -> None:
    """Fail the model for failures that `fail_on` names.

    Raises:
        FailedRowsError: There are some.
    """
    named = session.request.options.fail_on
    failed = [
        f"{count} {kind}"
        for kind, count in published.errors.items()
        if kind in named or "any" in named
    ]
    if failed:
        raise FailedRowsError(
            f"model '{session.model}': rows failed that fail_on names ({', '.join(failed)}); the "
            "former table stays and all answers are kept. Mend the rows or the prompt, or take the "
            "kind out of fail_on to publish the table with them"
        )

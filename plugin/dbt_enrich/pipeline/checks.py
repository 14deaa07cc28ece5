"""Outcomes: what the engine asks of a session before it sends, and says of it afterwards."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from dbt_enrich import __version__, extras
from dbt_enrich.buckets.blob_address import BlobAddresses
from dbt_enrich.config import PluginConfig
from dbt_enrich.errors import ConfigurationError, FailedRowsError
from dbt_enrich.pipeline.export.new_requests import (
    Chosen,
    NewRequests,
    Undone,
)
from dbt_enrich.pipeline.planning.budget import spending
from dbt_enrich.pipeline.planning.constraints import (
    asked_ids,
    of_answers,
    refuse_blank_rows,
    refuse_published_rows,
    unsent_ids,
    without_previous,
)
from dbt_enrich.pipeline.planning.preview import answer_problem
from dbt_enrich.pipeline.publish.errors_table import empty_errors_sql
from dbt_enrich.pipeline.publish.results import Published
from dbt_enrich.pipeline.request import Figures, Outcome
from dbt_enrich.pipeline.run.alike_failures import Watch
from dbt_enrich.pipeline.run.remote_inputs import inputs_may_be_left
from dbt_enrich.pipeline.session import Session
from dbt_enrich.pipeline.stage.input_checks import check_columns
from dbt_enrich.pipeline.stage.picture_reader import ImageReading
from dbt_enrich.pipeline.stage.staged_rows import StagedRows
from dbt_enrich.sql import literal
from dbt_enrich.state.tables.publications import KEPT, Publication
from dbt_enrich.task.enrichment_task import EnrichmentTask
from dbt_enrich.task.options import Mode, Via
from dbt_enrich.task.result_columns import STATUS_COLUMNS, Column
from dbt_enrich.task.version import short_version
from dbt_enrich.warehouse.enriched_table import empty_table_sql
from dbt_enrich.warehouse.placement import Placement
from dbt_enrich.warehouse.relation import StagedRelation
from dbt_enrich.wording import counted


def check_version(macros: str) -> None:
    """Refuse a dbt package of another version than this package.

    Args:
        macros: The dbt package's version.

    Raises:
        ConfigurationError: It is another one.
    """
    if macros != __version__:
        raise ConfigurationError(
            f"the dbt package dbt_enrich is version {macros}, the Python package dbt-enrich is "
            f"{__version__}",
            fix="install the same version of both (packages.yml with dbt deps, and pip install "
            f"dbt-enrich=={macros})",
        )


def watch_of(session: Session, rows: StagedRows) -> Watch:
    """Return what watches the answers of a run's task as they come home."""

    def label(key: str) -> str:
        (row_id,) = session.run.workspace.row(
            f"select min(row_id) from {rows.keys_sql} as keys "
            f"where request_key = cast({literal(key)} as uuid)"
        )
        # Another model may have asked it, or an earlier run.
        return key[:8] if row_id is None else session.request.relation.row_label(row_id)

    return Watch(
        model=session.model,
        enrichment=session.request.enrichment,
        task_key=session.task_key,
        tolerance=session.tolerance,
        settings=session.sent_with,
        label=label,
        run=session.run,
    )


def inputs_to_forget(session: Session) -> bool:
    """Whether a previous run left files at the service, or in the container, that are to go."""
    return inputs_may_be_left(session.config, session.run.ledger)


def check_container(config: PluginConfig) -> None:
    """Refuse blobs as the input of batches where their addresses are not known.

    Raises:
        ConfigurationError: The environment does not name the storage account, or not by https.
    """
    if config.sends_blobs and config.container:
        BlobAddresses(config.container)


def check_examples(session: Session) -> None:
    """Refuse examples whose answers do not fit the output columns.

    Raises:
        ConfigurationError: One of them does not.
    """
    task = session.request.task
    for number, example in enumerate(task.examples, start=1):
        problem = answer_problem(json.dumps(example.answer), task, session.run.workspace)
        if problem:
            raise ConfigurationError(
                f"model '{session.model}': the answer of enrichment.examples number {number} does "
                f"not fit the output columns ({problem})",
                fix="correct it, as the language model copies what the examples show",
            )


def check_images(session: Session) -> None:
    """Refuse pictures where they cannot be sent, before a row is staged.

    Raises:
        ConfigurationError: What answers reads none, rows are packed, or an extra is missing.
    """
    task, options = session.request.task, session.request.options
    if not task.images:
        return
    if options.packs:
        key = "rows_per_request" if options.rows_per_request else "tokens_per_request"
        raise ConfigurationError(
            f"model '{session.model}': enrichment.{key} packs rows, but a row with images is asked "
            "alone",
            fix=f"take {key} out",
        )
    if not session.select().endpoint.takes_images:
        raise ConfigurationError(
            f"model '{session.model}': enrichment.images has pictures sent, which "
            f"{session.select().endpoint.path} does not take",
            fix="take images out, or ask another endpoint",
        )
    session.config.check_images()
    if task.image_max_pixels:
        extras.require(
            extras.IMAGES,
            f"enrichment.image_max_pixels of the model '{session.model}'",
            otherwise="take image_max_pixels out",
        )


def reading_of(session: Session) -> ImageReading | None:
    """Return how a run reads pictures, or None for a task without them."""
    task, config = session.request.task, session.config
    if not task.images:
        return None
    # A file may be larger as a blob; a request may not.
    most = min(config.limits.max_bytes, config.facts.limits.max_bytes)
    limits = replace(config.facts.images, request_bytes=most * 99 // 100)
    return ImageReading(config.image_dir.expanduser().resolve(), limits, task.image_max_pixels)


def unusable_warning(rows: StagedRows) -> str:
    """Say which rows are skipped for their pictures, or nothing."""
    if not rows.unusable:
        return ""
    some = "; ".join(rows.problems)
    return (
        f"{counted(rows.unusable, 'row is', 'rows are')} skipped for pictures that are not there "
        f"or cannot be sent ({some}); enrichment_error has the reason of each"
    )


def table_comment(session: Session) -> str:
    """Say of a table who enriched it, by which version of the task, and what it cost so far."""
    enrichment = session.request.enrichment
    spent = spending(session.run.ledger.shards.all(enrichment=enrichment), session.config)
    cost = "cost unknown" if spent.cost is None else f"cost so far {spent.sentence()}"
    version = short_version(session.task_key)
    return f"Enriched by {session.request.task.model}, task version {version}; {cost}"


@dataclass(frozen=True)
class EmptyTables:
    """What the tables of an enrichment are before anything is asked.

    Attributes:
        enriched_sql: SELECT of the enriched table without a row.
        errors_sql: SELECT of its errors table without a row.
        status_columns: The columns that the enriched table gets beside the outputs, as dbt has them
            in `model.columns`.
    """

    enriched_sql: str
    errors_sql: str
    status_columns: Mapping[str, Mapping[str, Any]]


def empty_tables(
    relation: StagedRelation, task: EnrichmentTask, placement: Placement
) -> EmptyTables:
    """Return the empty, typed tables of a task.

    Raises:
        ConfigurationError: A column that the task names is not staged, or clashes.
    """
    check_columns(relation, task)
    return EmptyTables(
        enriched_sql=empty_table_sql(relation, task.outputs),
        errors_sql=empty_errors_sql(relation),
        status_columns={
            column.name: {
                "name": column.name,
                "data_type": _stored_type(column, placement),
                "description": column.description,
                "constraints": [],
                "meta": {},
            }
            for column in STATUS_COLUMNS
        },
    )


def _stored_type(column: Column, placement: Placement) -> str:
    held = placement.stored(column.name, column.data_type)
    return held.type.lower() if held else column.data_type


def unpublished(session: Session, sentence: str, *, status: str) -> Outcome:
    """Return the outcome of a run that stores nothing: empty, typed tables where there are none."""
    request = session.request
    return Outcome(
        session.run.id,
        enriched_sql=empty_table_sql(request.relation, request.task.outputs),
        errors_sql=empty_errors_sql(request.relation),
        summary=f"{session.model}: {sentence}",
        figures=Figures(request.options.mode.value),
        status=status,
        replaces=False,
    )


def without_rows(session: Session) -> Outcome:
    """Return the outcome of `--empty`: tables without rows, and nothing sent or waited for."""
    return replace(
        unpublished(session, "built without rows, as --empty says", status=""),
        replaces=True,
        merges=session.request.merged_into is not None,
    )


def publication(session: Session, kept: int) -> Publication:
    """Return what the ledger is to note of a table once it is committed.

    Args:
        session: The run.
        kept: Done rows that were answered by another version. The other counts are to come.
    """
    request = session.request
    return Publication(
        enrichment=request.enrichment,
        name=session.model,
        model=request.task.model,
        task_key=session.task_key,
        counts={KEPT: kept} if kept else {},
        relation=request.target,
        max_attempts=request.options.max_attempts,
        ask_again=tuple(request.options.ask_again),
    )


def figures(session: Session) -> Figures:
    """Count what a run sent and took in, and what that cost."""
    tally = session.tally
    spent = spending(tally.stored, session.config)
    return Figures(
        mode=session.request.options.mode.value,
        requests=tally.requests,
        prompt_tokens=tally.prompt_tokens,
        cached_tokens=tally.cached_tokens,
        completion_tokens=tally.completion_tokens,
        cost=spent.cost,
        saved=spent.saved,
        currency=spent.currency,
    )


class BlankRows:
    """Rows that end without an answer, held against the constraints of the model's contract."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._relation = session.request.relation
        self._constraints = of_answers(self._relation, session.request.constraints)

    def refuse_before_sending(
        self, rows: StagedRows, undone: Undone, chosen: Chosen, fresh: NewRequests
    ) -> None:
        """Refuse a constraint that rows break which will surely have no answer.

        Raises:
            ConfigurationError: There is one.
        """
        if not self._constraints:
            return
        blank = []
        if rows.skipped:
            blank.append(("skipped", unsent_ids(rows, owed=False)))
        if rows.owed:
            blank.append(("pending", unsent_ids(rows, owed=True)))
        if undone.rows and not fresh.in_flight:
            blank.append(("failed", asked_ids(undone, chosen, asked=False)))
        if chosen.requests and self._leaves_pending(chosen):
            blank.append(("pending", self._pending_ids(undone, chosen)))
        refuse_blank_rows(
            self._relation, self._session.request.task.outputs, self._constraints, blank
        )

    def refuse_before_publishing(self, published: Published) -> None:
        """Refuse to publish rows without an answer that break a constraint.

        Raises:
            ConfigurationError: There are some.
        """
        if self._constraints and published.counts.keys() - {"done"}:
            refuse_published_rows(self._relation, published.enriched_sql, self._constraints)

    def _leaves_pending(self, chosen: Chosen) -> bool:
        options = self._session.request.options
        answers_at_once = options.via != Via.BATCH or chosen.requests < (options.sync_below or 0)
        return options.mode == Mode.SUBMIT and not answers_at_once

    def _pending_ids(self, undone: Undone, chosen: Chosen) -> str:
        ids = asked_ids(undone, chosen, asked=True)
        request = self._session.request
        existing = request.existing if request.options.on_pending == "keep" else None
        if existing is None or not existing.has_outputs(request.task.outputs):
            return ids
        return without_previous(ids, self._relation, existing.name, self._relation.unique_key)


def failure_warning(session: Session, published: Published) -> str:
    """Say that more rows failed than `warn_failed_share` allows, or nothing."""
    failed = sum(published.errors.values())
    answered = published.counts.get("done", 0) + failed
    limit = session.request.options.warn_failed_share
    if not failed or failed / answered <= limit:
        return ""
    kinds = ", ".join(f"{kind} {count:,}" for kind, count in published.errors.items())
    return (
        f"model '{session.model}': {failed:,} of {answered:,} answered rows failed, a larger share "
        f"than warn_failed_share = {limit:g} ({kinds}); look at the errors table of the model, "
        "then change the prompt or the rows, or set warn_failed_share in meta.enrichment"
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
            "previous table stays and all answers are kept",
            fix="correct the rows or the prompt, or take the kind out of fail_on to publish the "
            "table with them",
        )

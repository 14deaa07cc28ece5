"""Collect what a report says from the ledger and the warehouse: aggregates and samples, by SQL."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import replace
from datetime import UTC, datetime

import duckdb

from dbt_enrich.config import PluginConfig
from dbt_enrich.cost.changes import task_changes, task_diff
from dbt_enrich.errors import InputError
from dbt_enrich.pipeline.load.load_shard import outputs_of
from dbt_enrich.pipeline.planning.task_versions import answers_by_task, tasks_of
from dbt_enrich.report import rows
from dbt_enrich.report.attention import sentences
from dbt_enrich.report.batches import (
    MOST_BATCHES,
    batch_report,
    day_reports,
    money,
    was_sent,
    ways,
)
from dbt_enrich.report.contents import (
    Asked,
    AskedColumn,
    ColumnReport,
    ModelReport,
    Report,
    VersionReport,
)
from dbt_enrich.report.distributions import column_reports, crossings
from dbt_enrich.report.thumbnails import Thumbnails
from dbt_enrich.state.ledger import Ledger
from dbt_enrich.state.open_ledger import has_ledger
from dbt_enrich.state.run import Run, open_run
from dbt_enrich.state.tables.publications import Publication
from dbt_enrich.state.tables.tasks import Task
from dbt_enrich.task.image_columns import ImageColumn, image_columns
from dbt_enrich.task.model_names import chosen, labels
from dbt_enrich.task.schema import OutputColumn
from dbt_enrich.task.template import parse_template
from dbt_enrich.task.version import short_version
from dbt_enrich.warehouse.attached import EnrichedTable, Tables

_MOST_INPUTS = 8
SETTINGS = {"memory_limit": "1GB"}
"""Of the DuckDB that a report is read with: a look at the warehouse leaves the machine to runs."""


def collect(
    config: PluginConfig,
    *,
    project: str,
    tables: AbstractContextManager[Tables],
    models: Collection[str] = (),
    now: datetime | None = None,
) -> Report:
    """Read what came of the runs until now. Changes nothing and asks no service.

    Args:
        config: The plugin's configuration.
        project: The dbt project's name.
        tables: The target's tables, which are opened if there is something to look at.
        models: Names or unique ids of the models that are wanted; all if there are none.
        now: The current time, in UTC.

    Raises:
        ConfigurationError: There is no warehouse, it is held by another process, or a model that
            is named was never run.
    """
    now = now or datetime.now(UTC)
    if not has_ledger(config):
        chosen(models, [])
        return _report(project, now, (), config)
    with open_run(config) as run:
        names = labels(run.ledger.enrichments())
        asked_for = chosen(models, names)
        published = run.ledger.publications.all()
        wanted = [p for p in published if not asked_for or p.enrichment in asked_for]
        if not wanted:
            return _report(project, now, (), config)
        with tables as there:
            return _collected(run, config, project, there, wanted, now)


def _collected(
    run: Run,
    config: PluginConfig,
    project: str,
    there: Tables,
    publications: Sequence[Publication],
    now: datetime,
) -> Report:
    names = labels(run.ledger.enrichments())
    connection = there.connection
    tables = {
        p.enrichment: there.find(p, outputs_of(run.ledger, p.task_key) or []) for p in publications
    }
    retries: Counter[str] = Counter()
    for table in tables.values():
        retries.update(rows.failed_attempts(connection, table) if table else {})
    models = tuple(
        replace(
            _model_report(run, config, connection, p, tables[p.enrichment]),
            name=names[p.enrichment],
        )
        for p in publications
    )
    shards = [s for p in publications for s in run.ledger.shards.all(enrichment=p.enrichment)]
    sent = sorted(filter(was_sent, shards), key=lambda shard: (shard.created_at, shard.shard))
    still_out = [shard.created_at for shard in sent if not shard.is_closed]
    oldest = datetime.fromisoformat(min(still_out)) if still_out else None
    statuses: Counter[str] = Counter()
    for model in models:
        statuses.update(model.statuses)
    return Report(
        project=project,
        made=now,
        sentences=sentences(models, oldest, now),
        statuses=dict(statuses),
        money=money(shards, config),
        oldest_pending=oldest,
        models=models,
        batches=tuple(
            batch_report(shard, names, run.ledger, now) for shard in sent[-MOST_BATCHES:]
        ),
        batches_of=len(sent),
        days=day_reports(sent, retries, config),
    )


def _report(
    project: str, now: datetime, models: tuple[ModelReport, ...], config: PluginConfig
) -> Report:
    return Report(
        project=project,
        made=now,
        sentences=sentences(models, None, now),
        statuses={},
        money=money([], config),
        oldest_pending=None,
        models=models,
    )


def _model_report(
    run: Run,
    config: PluginConfig,
    connection: duckdb.DuckDBPyConnection,
    publication: Publication,
    table: EnrichedTable | None,
) -> ModelReport:
    tasks = tasks_of(run.ledger, publication.enrichment)
    task = next((t for t in tasks if t.task_key == publication.task_key), None)
    shards = run.ledger.shards.all(enrichment=publication.enrichment)
    found = {
        "name": publication.name,
        "enrichment": publication.enrichment,
        "published": datetime.fromisoformat(publication.published_at),
        "money": money(shards, config),
        "asked": _asked(publication, task) if task else None,
        "ways": ways(shards),
    }
    if table is None:
        return ModelReport(
            **found,  # type: ignore[arg-type]
            relation=publication.relation,
            note="its table is not in the warehouse of this target; the figures are of the ledger",
            statuses=dict(publication.counts),
            versions=_versions(run, tasks, {}),
        )
    statuses = rows.statuses(connection, table)
    outputs = _outputs(run.ledger, publication, table)
    template = parse_template(str(task.document.get("user") or "")) if task else None
    return ModelReport(
        **found,  # type: ignore[arg-type]
        relation=table.label,
        note=None,
        statuses=statuses,
        versions=_versions(run, tasks, rows.versions(connection, table)),
        columns=_columns(connection, table, outputs),
        failures=rows.failures(connection, table, publication),
        sample=rows.sample(
            connection,
            table,
            inputs=_inputs(table, template.columns if template else ()),
            outputs=[output.name for output in outputs],
            thumbnails=Thumbnails(
                connection, table.whole or table.name, _image_columns(table, task), config.image_dir
            ),
        ),
        sampled_of=sum(statuses.values()),
        copied=table.copied,
    )


def _asked(publication: Publication, task: Task) -> Asked:
    document = task.document
    return Asked(
        model=publication.model,
        version=short_version(task.task_key),
        system=document.get("system"),
        user=str(document.get("user") or ""),
        columns=tuple(
            AskedColumn(str(o["name"]), str(o["data_type"]), o.get("description"))
            for o in task.outputs
        ),
        examples=tuple(
            (str(example.get("user")), json.dumps(example.get("answer"), ensure_ascii=False))
            for example in document.get("examples") or []
        ),
        images=tuple(_image_names(task)),
    )


def _versions(
    run: Run, tasks: Sequence[Task], in_table: dict[str, int]
) -> tuple[VersionReport, ...]:
    answers = answers_by_task(run, [task.task_key for task in tasks])
    previous: list[Task | None] = [*tasks[1:], *([None] if tasks else [])]
    return tuple(
        VersionReport(
            version=short_version(task.task_key),
            first_seen=datetime.fromisoformat(task.first_seen_at),
            rows=in_table.get(short_version(task.task_key), 0),
            answers=answers.get(task.task_key, 0),
            changes=tuple(task_changes(before.document, task.document)) if before else None,
            diff=_diff(before, task) if before else "",
        )
        for task, before in zip(tasks, previous, strict=True)
    )


def _diff(before: Task, task: Task) -> str:
    names = (short_version(before.task_key), short_version(task.task_key))
    return task_diff(before.document, task.document, names=names)


def _outputs(ledger: Ledger, publication: Publication, table: EnrichedTable) -> list[OutputColumn]:
    """Return the task's output columns that the table has."""
    there = {name.lower() for name in table.columns}
    outputs = outputs_of(ledger, publication.task_key) or []
    return [output for output in outputs if output.name.lower() in there]


def _columns(
    connection: duckdb.DuckDBPyConnection, table: EnrichedTable, outputs: Sequence[OutputColumn]
) -> tuple[ColumnReport, ...]:
    answered = f"(select * from {table.name} where enrichment_status in ('done', 'stale'))"
    found = (column_reports(connection, answered, output) for output in outputs)
    crossed = list(crossings(connection, answered, outputs))
    return tuple(
        replace(column, crossings=tuple(with_ for one, with_ in crossed if one == column.name))
        for column in itertools.chain.from_iterable(found)
    )


def _image_names(task: Task | None) -> list[str]:
    return list((task.document.get("images") or {}).get("columns") or []) if task else []


def _image_columns(table: EnrichedTable, task: Task | None) -> tuple[ImageColumn, ...]:
    """Return the columns with pictures that the table still has as such."""
    found: list[ImageColumn] = []
    there = {name.lower() for name in table.columns}
    for name in _image_names(task):
        with suppress(InputError):
            if name in there:
                found.extend(image_columns([name], table.columns, (), model=table.label))
    return tuple(found)


def _inputs(table: EnrichedTable, asked_about: Sequence[str]) -> list[str]:
    """Return the first column, which mostly is the key, and those that the template names."""
    names = {name.lower(): name for name in table.columns}
    first = next(iter(table.columns))
    wanted = [first, *(names[c.lower()] for c in asked_about if c.lower() in names)]
    return list(dict.fromkeys(wanted))[:_MOST_INPUTS]

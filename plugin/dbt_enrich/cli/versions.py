"""`dbt-enrich versions`: the versions of a model's prompt, their rows, and what changed."""

from __future__ import annotations

import itertools
import json

import click

from dbt_enrich.cli.project import Location, load_project, project_options
from dbt_enrich.cli.tables import plain_table
from dbt_enrich.cost.changes import task_changes, task_diff
from dbt_enrich.pipeline.planning.task_versions import answers_by_task, tasks_of
from dbt_enrich.state.tables.publications import KEPT
from dbt_enrich.task.model_names import chosen, label
from dbt_enrich.task.version import short_version


@click.command()
@click.argument("model")
@click.option("--diff/--no-diff", default=True, show_default=True, help="Show the prompts' diffs.")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
@project_options
def versions(
    model: str,
    diff: bool,
    as_json: bool,
    location: Location,
) -> None:
    """List the versions of MODEL's task with their answers, and what changed between them."""
    project = load_project(location)
    with project.opened_run() as run:
        ledger = run.ledger
        known = ledger.enrichments()
        (enrichment,) = chosen([model], known)
        tasks = tasks_of(ledger, enrichment)
        counts = answers_by_task(run, [task.task_key for task in tasks])
        tables = {
            table.task_key: table
            for table in ledger.publications.all()
            if table.enrichment == enrichment
        }
    changes = [
        task_changes(previous.document, task.document)
        for task, previous in itertools.pairwise(tasks)
    ]
    rows = [
        (
            short_version(task.task_key),
            task.first_seen_at[:19].replace("T", " "),
            counts.get(task.task_key, 0),
            "published" if task.task_key in tables else "",
            tables[task.task_key].counts.get(KEPT, 0) if task.task_key in tables else None,
            ", ".join(changed) if changed else ("first" if place == len(tasks) - 1 else ""),
        )
        for place, (task, changed) in enumerate(zip(tasks, [*changes, []], strict=True))
    ]
    headers = ("version", "first seen", "answers", "table", KEPT, "changed")
    if as_json:
        listed = [dict(zip(headers, row, strict=True)) for row in rows]
        click.echo(json.dumps(listed, indent=2, ensure_ascii=False))
        return
    click.echo(plain_table(headers, rows))
    for table in tables.values():
        if kept := table.counts.get(KEPT):
            click.echo(
                f"{label(enrichment, known)}: {kept:,} of {table.counts.get('done', 0):,} done "
                "rows keep the answers to previous versions (on_task_change: new_rows)"
            )
    if diff:
        for task, previous in itertools.pairwise(tasks):
            names = (short_version(previous.task_key), short_version(task.task_key))
            click.echo("\n" + task_diff(previous.document, task.document, names=names))

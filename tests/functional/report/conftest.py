"""An enriched project with every status, whose texts are out to steer whoever looks at them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from batch_server.server import running_emulator
from dbt_enrich.cli.project import Location, load_databases, load_project
from dbt_enrich.report.collect import SETTINGS, collect
from dbt_enrich.report.contents import Report
from dbt_enrich.warehouse.attached import attached_tables
from support.dbt_project import DbtProject, azure

HOSTILE = (
    '</script><script>window.hacked=1</script><img src=x onerror="window.hacked=1">\'"&amp;'
    "[click](http://evil.example) | `x` \u202egpj.exe\u2066 \x07\u200b"
)
# What a template would evaluate; dbt does so itself in the YAML.
TEXT = HOSTILE + "{{ 7 * 7 }}"
ROWS = 60
TOPICS = ("billing", "bug", "question")
COLUMNS: list[dict[str, Any]] = [
    {"name": "topic", "data_type": "enum('billing', 'bug', 'question', 'other')",
     "description": f"What it is about {HOSTILE}"},
    {"name": "tags", "data_type": "varchar[]", "description": "Tags"},
    {"name": "urgency", "data_type": "integer", "description": "From 1 to 10"},
    {"name": "due", "data_type": "date", "description": "When"},
    {"name": "who", "data_type": "struct(name varchar, vip boolean)", "description": "Who wrote"},
    {"name": "late", "data_type": "boolean", "description": "Whether it is late"},
    {"name": "reply", "data_type": "varchar", "description": "An answer"},
]  # fmt: skip
META: dict[str, Any] = {
    "system": f"Sort the tickets. {HOSTILE}",
    "user": "{subject}: {body}",
    "output": [column["name"] for column in COLUMNS],
    "examples": [
        {
            "user": f"A ticket: {HOSTILE}",
            "answer": {
                "topic": "bug",
                "tags": [HOSTILE],
                "urgency": 1,
                "due": "2026-01-31",
                "who": {"name": "Ann", "vip": False},
                "late": False,
                "reply": "We look at it.",
            },
        }
    ],
    "max_attempts": 2,
}
# A column that is called like one of the report's own, and one that needs quoting.
SELECT = f"""
    select i as ticket_id, 'ticket ' || i || ' ' as subject, i as place, 1 as "kind of",
        case when i % 20 = 7 then null when i % 20 = 3 then 'decline this' when i % 20 = 4
            then 'break this' else $hostile${{% raw %}}{TEXT}{{% endraw %}}$hostile$ end as body
    from range({ROWS}) as numbers(i)
"""


def answer_of(row: int) -> dict[str, Any]:
    """What the language model says of a row."""
    return {
        "topic": TOPICS[row % 3],
        "tags": [TEXT, "login", "slow"][: row % 4],
        "urgency": row % 10 + 1,
        "due": f"2026-{row % 12 + 1:02d}-01",
        "who": {"name": f"Ann {TEXT}" if row % 2 else "Bob", "vip": row % 5 == 0},
        "late": row % 3 == 0 or row % 2 == 0,
        "reply": TEXT + " thanks" * row,
    }


def answered_rows() -> list[int]:
    """The rows that get an answer."""
    return [row for row in range(ROWS) if row % 20 not in (3, 4, 7)]


@dataclass(frozen=True)
class Reported:
    """A project, and the report of it."""

    project: DbtProject
    report: Report


@pytest.fixture(scope="session")
def reported(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reported]:
    """The project after a run, a change of the prompt, and a submission that is still out."""
    directory = tmp_path_factory.mktemp("reported")
    with running_emulator(directory / "emulator") as emulator:
        emulator.rules(
            [
                {"match": "decline this", "fault": "refusal"},
                {"match": "break this", "fault": "broken_json"},
                *({"match": f"ticket {row} ", "answer": answer_of(row)} for row in range(ROWS)),
            ]
        )
        plugin = azure(emulator.url, emulator.api_key, max_requests_per_file=20)
        project = DbtProject(directory, plugin)
        written: dict[str, Any] = {"columns": COLUMNS, "config": "unique_key = 'ticket_id'"}
        project.enrichment("tickets_enriched", SELECT, meta=META, **written)
        project.enrichment("notes_enriched", "select 1 as id, 'one' as note")
        project.dbt("run")
        # With the same task: the ledger has noted it for the other model.
        project.enrichment("twin_enriched", "select 1 as id, 'one' as note")
        project.dbt("run", "--select", "twin_enriched")
        emulator.pause()
        meta = {**META, "system": f"Sort the notes, kindly. {HOSTILE}"}
        project.enrichment("notes_enriched", "select 1 as id, 'one' as note", meta={
            "system": meta["system"]})  # fmt: skip
        project.dbt("run", "--select", "notes_enriched", "--vars", "{enrichment_mode: submit}")
        yield Reported(project, report_of(project))


def report_of(project: DbtProject, *models: str) -> Report:
    """Collect the report of a project as the command does."""
    here = Path.cwd()
    try:
        location = Location(project.directory, project.directory)
        found, tables = load_project(location), attached_tables(load_databases(location), SETTINGS)
        return collect(found.config, project=found.name, tables=tables, models=models)
    finally:
        os.chdir(here)

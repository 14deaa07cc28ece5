"""`endpoint:` in a model's YAML, from `dbt run` to the relations and back again."""

from __future__ import annotations

from pathlib import Path

from batch_server.server import RunningEmulator
from support.dbt_project import PLUGIN, DbtProject, azure

NOTES = "select i as id, 'note ' || i as note from range(4) as numbers(i)"


def test_a_model_is_asked_through_the_responses_api(
    emulator: RunningEmulator, tmp_path: Path, door: str
) -> None:
    """In packs, with what was cut asked again; its answers are forgotten by the command."""
    config = azure(emulator.url, emulator.api_key)
    project = DbtProject(tmp_path, config, door=door, stands_in=True)
    task = {
        "endpoint": "responses",
        "rows_per_request": 2,
        "parameters": {"reasoning": {"effort": "low"}},
    }
    project.enrichment("notes_enriched", NOTES, meta=task)
    emulator.rules([{"match": "note 2", "times": 1, "fault": "truncated"}])
    project.dbt("run")
    assert project.rows(
        "select id, summary, enrichment_status from notes_enriched order by id"
    ) == [(i, f"summary: note {i}", "done") for i in range(4)]
    assert {batch["endpoint"] for batch in emulator.jobs.batches()} == {"/v1/responses"}
    thought = "reasoning_tokens > 0 and reasoning_tokens < completion_tokens"
    for relation in ("batches", "attempts", "usage") if door == PLUGIN else ():
        found = project.rows(f"select distinct {thought} from enrichment.{relation}")
        assert found == [(True,)], relation
    project.command("forget", "--model", "notes_enriched", "--yes")
    sent = len(emulator.jobs.batches())
    project.dbt("run")
    assert len(emulator.jobs.batches()) == sent + 1
    assert project.rows("select distinct enrichment_status from notes_enriched") == [("done",)]

"""`dbt_enrich.yml` beside dbt_project.yml serves the plugin that has no block in the profile."""

from __future__ import annotations

from pathlib import Path

import yaml
from support.dbt_project import DbtProject


def test_the_file_serves_the_plugin(tmp_path: Path) -> None:
    """Commands and dbt read the same, by target; a mistake in it ends a run of dbt."""
    project = DbtProject(tmp_path, {})
    profile = yaml.safe_load((project.directory / "profiles.yml").read_text())
    for output in profile["notes"]["outputs"].values():
        output["plugins"] = [{"module": "dbt_enrich.plugin", "alias": "enrich"}]
    project.write("profiles.yml", profile)
    local = {"provider": "local", "responder": "scripted", "state_dir": "kept"}
    project.write("dbt_enrich.yml", {"provider": "openai", "targets": {"dev": local, "prod": {}}})
    project.enrichment("notes_enriched", "select 1 as id, 'late' as note")
    project.dbt("run")
    assert project.rows("select enrichment_status, summary from notes_enriched") == [
        ("done", "summary: late")
    ]
    assert (project.directory / "kept" / "ledger.sqlite").exists()
    assert "notes_enriched" in project.command("status")
    project.write("dbt_enrich.yml", {**local, "threds": 2})
    refused = project.dbt("run", succeeds=False)
    assert "dbt_enrich.yml has the unknown key 'threds'; did you mean 'threads'?" in refused

"""The doc blocks of the dbt package, in the descriptions of a user's own models."""

from __future__ import annotations

import json
import re
from pathlib import Path

from dbt_enrich.cli.scaffold import EXAMPLE_SQL, EXAMPLE_YAML, SOURCES_YAML
from dbt_enrich.task.result_columns import STATUSES
from support.dbt_project import REPOSITORY, DbtProject

_BLOCKS = re.compile(r"{% docs (\w+) %}\n(.*?)\n{% enddocs %}", re.DOTALL)


def test_a_model_of_the_user_is_described_by_them(tmp_path: Path) -> None:
    """Each block is found in the package by its name, and the statuses in it are all there are."""
    text = (REPOSITORY / "macros" / "docs" / "enrichment.md").read_text(encoding="utf-8")
    blocks = dict(_BLOCKS.findall(text))
    assert {"enrichment", "enrichment_versions", "enrichment_costs"} <= set(blocks)
    statuses = blocks["enrichment"].split("| status | meaning |", 1)[1]
    assert re.findall(r"^\| `(\w+)` \|", statuses, re.MULTILINE) == list(STATUSES)

    project = DbtProject(tmp_path, {"provider": "local", "responder": "scripted"})
    for name in blocks:
        project.write(f"models/{name}.sql", "select 1 as one")
    project.write(
        "models/models.yml",
        {
            "models": [
                {"name": name, "description": f"{{{{ doc('dbt_enrich', '{name}') }}}}"}
                for name in blocks
            ]
        },
    )
    listed = project.dbt("list", "--quiet", "--output=json", "--output-keys=name description")
    nodes = [json.loads(line) for line in listed.splitlines() if line.startswith("{")]
    described = {node["name"]: node["description"] for node in nodes if node["name"] in blocks}
    assert described == {name: block.strip() for name, block in blocks.items()}


def test_dbt_docs_shows_the_package_and_what_init_wrote(tmp_path: Path) -> None:
    """Macros, the generic test with its arguments, and the texts that describe the example."""
    project = DbtProject(tmp_path, {"provider": "local", "responder": "scripted"})
    project.write("models/example_enriched.sql", EXAMPLE_SQL)
    project.write("models/example_enriched.yml", EXAMPLE_YAML)
    project.write("models/sources.yml", SOURCES_YAML)
    project.dbt("docs", "generate", DBT_WRITE_JSON="true")

    target = project.directory / "target"
    manifest = json.loads((target / "manifest.json").read_text(encoding="utf-8"))
    text = (target / "index.html").read_text(encoding="utf-8")
    assert "dbt Docs" in text
    model = manifest["nodes"]["model.notes.example_enriched"]
    assert model["description"].startswith("Three tickets")
    assert "The columns are the schema." in model["description"]
    assert "which task" in model["columns"]["enrichment_version"]["description"]
    source = manifest["sources"]["source.notes.enrichment.usage"]
    assert "`dbt-enrich plan` says" in source["source_description"]
    assert all(column["description"] for column in source["columns"].values())

    shown = {
        macro["name"]: macro
        for macro in manifest["macros"].values()
        if macro["package_name"] == "dbt_enrich" and macro["docs"]["show"]
    }
    assert {"enrichment_errors", "is_incremental", "test_enrichment_complete"} <= {*shown}
    assert all(macro["description"] for macro in shown.values())
    arguments = [given["name"] for given in shown["test_enrichment_complete"]["arguments"]]
    assert arguments == ["model", "min_done"]

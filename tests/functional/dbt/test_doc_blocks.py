"""The doc blocks of the dbt package, in the descriptions of a user's own models."""

from __future__ import annotations

import json
import re
from pathlib import Path

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

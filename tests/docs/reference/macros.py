"""The page of the macros, the materialization and the generic tests."""

from __future__ import annotations

import yaml
from docs.reference.markdown import REPOSITORY, page, table


def macros() -> str:
    """Write the page of the macros, the materialization and the generic tests."""
    text = (REPOSITORY / "macros" / "_macros.yml").read_text(encoding="utf-8")
    parts = []
    for macro in yaml.safe_load(text)["macros"]:
        if (macro.get("config") or {}).get("docs", {}).get("show") is False:
            continue
        kind, name = _macro_name(macro["name"])
        parts.append(f"## {kind} `{name}`\n" if kind else f"## `{name}`\n")
        parts.append(macro["description"])
        if macro.get("arguments"):
            rows = [
                [f"`{a['name']}`", f"`{a['type']}`", a["description"]] for a in macro["arguments"]
            ]
            parts.append(table(["argument", "type", "what it is"], rows))
    return page(
        "Macros and tests",
        "What the dbt package `dbt_enrich` offers to your models. Call a macro as "
        "`dbt_enrich.enrichment_errors(…)`.",
        *parts,
    )


def _macro_name(name: str) -> tuple[str, str]:
    """Return what a macro is, where it is not just called, and how users write it."""
    if name.startswith("materialization_"):
        return "Materialization", name.split("_")[1]
    if name.startswith("test_"):
        return "Test", "dbt_enrich." + name.removeprefix("test_")
    return "", name

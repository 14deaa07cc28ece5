"""The page of what goes with what."""

from __future__ import annotations

import re
import tomllib

from dbt_enrich.config.profile import CONFIGS
from dbt_enrich.config.providers import Provider
from dbt_enrich.warehouse.catalogs import Catalog, changed_columns
from docs.reference.markdown import REPOSITORY, page, table

_TYPES = {
    "enum": "ENUM('a', 'b')",
    "list": "VARCHAR[]",
    "struct": "STRUCT(a VARCHAR, b INTEGER)",
    "list of structs": "STRUCT(a VARCHAR)[]",
    "decimal": "DECIMAL(18, 2)",
    "hugeint": "HUGEINT",
    "boolean": "BOOLEAN",
    "date": "DATE",
    "timestamp": "TIMESTAMP",
}
_LOCKS = {
    "the lock": "constraints.txt",
    "DuckDB 2": "constraints-duckdb2.txt",
    "extensions": "constraints-extensions.txt",
}


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _catalog_row(catalog: Catalog) -> list[str]:
    changed = changed_columns(catalog, dict(_TYPES.items()))
    kept = ", ".join(f"{name} as `{kind.lower()}`" for name, kind in changed.items())
    return [
        catalog.label,
        "**untried**" if catalog == Catalog.MOTHERDUCK else "tried",
        "in place" if catalog.merges else "by delete and insert",
        _yes(catalog.has_indexes),
        _yes(catalog.has_comments),
        kept or "as they are",
    ]


def _locked(package: str) -> list[str]:
    found = []
    for file in _LOCKS.values():
        # One that pins some packages stands before the lock.
        pins = (REPOSITORY / one for one in (file, _LOCKS["the lock"]))
        text = "\n".join(path.read_text(encoding="utf-8") for path in pins)
        match = re.search(rf"^{package}==(.*)$", text, re.MULTILINE)
        found.append(match[1] if match else "")
    return found


def _extra(facts: Provider) -> str:
    if facts.extra is None:
        return "none"
    return f"`{facts.extra}` {facts.extra_purpose.rpartition('; ')[2]}".strip()


def matrix() -> str:
    """Write the page of what goes with what."""
    with (REPOSITORY / "pyproject.toml").open("rb") as file:
        project = tomllib.load(file)["project"]
    wanted = {
        re.split(r"[<>=]", line)[0]: line.removeprefix(re.split(r"[<>=]", line)[0])
        for line in project["dependencies"]
    }
    providers = [config.facts for config in CONFIGS.values()]
    return page(
        "Sources and targets",
        "What is tried, what works and what is refused. A SELECT may read everything that dbt and "
        "DuckDB read: the rows are staged before they are sent.",
        "## Where enriched tables can live\n",
        "A refusal comes before anything is sent and says what to change. "
        "[Databases](../guides/databases.md) has the details.\n",
        table(
            [
                "tables live in",
                "",
                "`publish: merge`",
                "indexes",
                "`persist_docs`",
                "columns of other types",
            ],
            [
                *(_catalog_row(one) for one in Catalog if one != Catalog.SPARK),
                ["a server reached through Quack", "refused", "", "", "", ""],
                ["a Buena Vista server (`remote:` in the profile)", "refused", "", "", "", ""],
                ["any other type that DuckDB attaches", "refused", "", "", "", ""],
            ],
        ),
        "## Providers\n",
        table(
            ["provider", "endpoints", "requests in a file", "files expire after", "extra"],
            (
                [
                    f"`{facts.name}`",
                    ", ".join(f"`{name}`" for name in sorted(facts.endpoints)),
                    f"{facts.limits.max_requests:,}",
                    f"{facts.expiry_days[0]} to {facts.expiry_days[-1]} days",
                    _extra(facts),
                ]
                for facts in providers
            ),
        ),
        "## Versions\n",
        f"Python {project['requires-python'].removeprefix('>=')} or later.\n",
        table(
            ["package", "allowed", *(f"tested: {name}" for name in _LOCKS)],
            (
                [f"`{name}`", f"`{wanted[name]}`", *_locked(name)]
                for name in ("dbt-core", "dbt-duckdb", "duckdb", "openai", "pydantic", "click")
            ),
        ),
    )

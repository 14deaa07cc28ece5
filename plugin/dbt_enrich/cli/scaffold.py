"""What `dbt-enrich init` writes: pure changes of YAML texts that keep comments and order."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from dbt_enrich.errors import ConfigurationError
from dbt_enrich.pipeline.relations import ATTEMPT_COLUMNS, BATCH_COLUMNS, USAGE_COLUMNS

_MODULE = "dbt_enrich.plugin"
_BLOCKS: dict[str, dict[str, Any]] = {
    "azure": {
        "provider": "azure",
        "endpoint": "{{ env_var('AZURE_OPENAI_ENDPOINT') }}",
        "api_key": "{{ env_var('AZURE_OPENAI_API_KEY') }}",
        "deployments": {"gpt-4o-mini": ["gpt-4o-mini-batch"]},
    },
    "openai": {"provider": "openai", "api_key": "{{ env_var('OPENAI_API_KEY') }}"},
    "local": {"provider": "local"},
}

EXAMPLE_SQL = """{{ config(materialized = 'enrichment', unique_key = 'ticket_id') }}
select *
from (
    values
        (1, 'I was charged twice this month.'),
        (2, 'The export button does nothing since the update.'),
        (3, 'How do I add a colleague to my team?')
) as tickets (ticket_id, body)
"""

EXAMPLE_YAML = """models:
  - name: example_enriched
    description: Three tickets, and what a language model makes of them
    config:
      meta:
        enrichment:
          model: gpt-4o-mini
          system: You sort support tickets for a software company.
          user: "{body}"
          output: [topic, is_urgent]
          parameters: {temperature: 0}
    columns:
      - name: topic
        data_type: enum('billing', 'bug', 'question', 'other')
        description: What the ticket is about
      - name: is_urgent
        data_type: boolean
        description: Whether somebody cannot work
"""

_DESCRIPTIONS = {
    "batches": "What was sent in each batch, what became of it and what it cost",
    "attempts": "Each time that a request was answered or failed",
    "usage": "Requests, tokens and cost by day, model and version of the task",
}
_NOT_NULL = {
    "batches": ("shard", "task_key", "step", "requests"),
    "attempts": ("enrichment_key", "attempt", "kind"),
    "usage": ("day", "requests"),
}


def _sources() -> str:
    lines = [
        "sources:",
        "  - name: enrichment",
        "    description: What dbt-enrich sent, and what it cost; replaced after each run",
        "    schema: \"{{ var('enrichment_schema', 'enrichment') }}\"",
        "    tables:",
    ]
    columns = {"batches": BATCH_COLUMNS, "attempts": ATTEMPT_COLUMNS, "usage": USAGE_COLUMNS}
    for name, described in columns.items():
        lines += [f"      - name: {name}", f"        description: {_DESCRIPTIONS[name]}"]
        lines.append("        columns:")
        for column, data_type in described.items():
            lines.append(f"          - name: {column}")
            lines.append(f"            data_type: {data_type}")
            tests = ["not_null"] if column in _NOT_NULL[name] else []
            if (name, column) == ("batches", "shard"):
                tests.append("unique")
            if tests:
                lines.append(f"            data_tests: [{', '.join(tests)}]")
    return "\n".join(lines) + "\n"


SOURCES_YAML = _sources()


def with_package(path: Path, package: str) -> str | None:
    """Return packages.yml with the dbt package in it, or None if it names it already.

    Args:
        path: The file, which need not be there.
        package: A path of this repository, or its git address.

    Raises:
        ConfigurationError: The file is no YAML that dbt reads.
    """
    yaml = _yaml()
    document = _load(yaml, path) or {}
    listed = document.setdefault("packages", [])
    if not isinstance(listed, list):
        raise ConfigurationError(f"{path}: packages is no list; mend it, then try again")
    for entry in listed:
        named = " ".join(str(value) for value in entry.values()) if hasattr(entry, "values") else ""
        if package in named or "dbt-enrich" in named or "dbt_enrich" in named:
            return None
    is_git = "://" in package or package.endswith(".git") or package.startswith("git@")
    listed.append({"git" if is_git else "local": package})
    return _dump(yaml, document)


def with_plugin(root: Path, path: Path, target: str | None, provider: str) -> str | None:
    """Return profiles.yml with the plugin's block in the target, or None if it has one.

    Args:
        root: The dbt project's directory.
        path: The file.
        target: The target, or None for the profile's own.
        provider: The service that the block names.

    Raises:
        ConfigurationError: The profile or the target is not there, or is not DuckDB's.
    """
    yaml = _yaml()
    project = _load(_yaml(), root / "dbt_project.yml") or {}
    name = project.get("profile") or project.get("name")
    document = _load(yaml, path)
    if document is None or name not in document:
        raise ConfigurationError(
            f"{path} has no profile '{name}', which the project names; add it with a duckdb "
            "target, or name the directory by --profiles-dir"
        )
    chosen = target or document[name].get("target", "default")
    outputs = document[name].get("outputs") or {}
    if chosen not in outputs:
        raise ConfigurationError(
            f"{path}: the profile '{name}' has no target '{chosen}'; its targets are "
            f"{', '.join(map(str, outputs))}"
        )
    output = outputs[chosen]
    if output.get("type") != "duckdb":
        raise ConfigurationError(
            f"{path}: the target '{chosen}' is of the type {output.get('type')}; dbt-enrich works "
            "on duckdb targets: name another by --target"
        )
    plugins = output.setdefault("plugins", [])
    if any(plugin.get("module") == _MODULE for plugin in plugins):
        return None
    plugins.append({"module": _MODULE, "alias": "enrich", "config": _BLOCKS[provider]})
    return _dump(yaml, document)


def _yaml() -> YAML:
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 10_000
    yaml.indent(mapping=2, sequence=4, offset=2)
    return yaml


def _load(yaml: YAML, path: Path) -> Any:
    if not path.exists():
        return None
    try:
        return yaml.load(path.read_text(encoding="utf-8"))
    except (YAMLError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"{path} is no YAML that can be read ({' '.join(str(error).split())}); mend it, then "
            "try again. Nothing was written"
        ) from None


def _dump(yaml: YAML, document: Any) -> str:
    text = io.StringIO()
    yaml.dump(document, text)
    return text.getvalue()

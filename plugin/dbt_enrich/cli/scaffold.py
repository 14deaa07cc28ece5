"""What `dbt-enrich init` writes, as texts: additions to files, and files of its own."""

from __future__ import annotations

import json
import re
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from dbt_enrich.cli.hosts import ADAPTERS, refused_adapter
from dbt_enrich.cli.yaml_insert import NoPlaceError, with_item
from dbt_enrich.config.local import LOCAL
from dbt_enrich.config.place import FILE
from dbt_enrich.config.profile import CONFIGS, parse_config
from dbt_enrich.config.project_file import TARGETS
from dbt_enrich.config.state import holds_password
from dbt_enrich.errors import ConfigurationError
from dbt_enrich.pipeline.publish.usage_relations import (
    ATTEMPT_COLUMNS,
    BATCH_COLUMNS,
    DESCRIPTIONS,
    RELATIONS,
    USAGE_COLUMNS,
)

_MODULE = "dbt_enrich.plugin"
_ENV_VAR = re.compile(r"\"{{ env_var\('(\w+)'[^}]*}}\"")
_OUR_NAME = re.compile(r"dbt[-_]enrich(\.git)?/?", re.IGNORECASE)
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
    description: |
      Three tickets, and what a language model makes of them.

      {{ doc('dbt_enrich', 'enrichment') }}
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
      - name: enrichment_version
        description: "{{ doc('dbt_enrich', 'enrichment_versions') }}"
"""

_NOT_NULL = {
    "batches": ("shard", "task_key", "step", "requests"),
    "attempts": ("enrichment_key", "attempt", "kind"),
    "usage": ("day", "requests"),
}


def _sources() -> str:
    lines = [
        "sources:",
        "  - name: enrichment",
        "    description: \"{{ doc('dbt_enrich', 'enrichment_costs') }}\"",
        "    schema: \"{{ var('enrichment_schema', 'enrichment') }}\"",
        "    tables:",
    ]
    columns = {"batches": BATCH_COLUMNS, "attempts": ATTEMPT_COLUMNS, "usage": USAGE_COLUMNS}
    for name, described in columns.items():
        lines += [f"      - name: {name}", f"        description: {RELATIONS[name]}"]
        lines.append("        columns:")
        for column, data_type in described.items():
            lines.append(f"          - name: {column}")
            lines.append(f"            data_type: {data_type}")
            lines.append(f'            description: "{DESCRIPTIONS[column]}"')
            tests = ["not_null"] if column in _NOT_NULL[name] else []
            if (name, column) == ("batches", "shard"):
                tests.append("unique")
            if tests:
                lines.append(f"            data_tests: [{', '.join(tests)}]")
    return "\n".join(lines) + "\n"


SOURCES_YAML = _sources()


@dataclass(frozen=True)
class Target:
    """A target of a profile.

    Attributes:
        profile: The profile's name.
        name: The target's.
        output: What it holds.
        file: What the project's dbt_enrich.yml holds, or None where there is none.
    """

    profile: str
    name: str
    output: dict[str, Any]
    file: dict[Any, Any] | None = None

    @property
    def has_block(self) -> bool:
        """Whether the configuration is, or is to be, the plugin's block in the profile."""
        if self.plugin is None:
            return self.takes_plugin and self.file is None
        return bool(self.plugin.get("config"))

    @property
    def takes_plugin(self) -> bool:
        """Whether its adapter knows plugins."""
        return self.output.get("type") == "duckdb"

    @property
    def plugin(self) -> dict[str, Any] | None:
        """Our plugin's block, if it has one."""
        for plugin in self.output.get("plugins") or []:
            if isinstance(plugin, dict) and plugin.get("module") == _MODULE:
                return plugin
        return None

    @property
    def provider(self) -> str | None:
        """The provider that the configuration names already."""
        name = self._config.get("provider")
        return None if name is None else str(name)

    @property
    def state_dir(self) -> str:
        """Where the state is kept."""
        return str(self._config.get("state_dir", ".enrichment"))

    @property
    def _config(self) -> dict[Any, Any]:
        config = (self.plugin or {}).get("config")
        if isinstance(config, dict) and config:
            return config
        file = self.file or {}
        targets = file.get(TARGETS)
        own = targets.get(self.name) if isinstance(targets, dict) else None
        return {**file, **(own if isinstance(own, dict) else {})}


def provider_needs(provider: str) -> str:
    """Say which extra of the package a provider needs, and whether it is installed."""
    config = CONFIGS.get(provider)
    extra = config.facts.extra if config else None
    if config is None or extra is None:
        return f"the provider {provider} needs no extra"
    if config.facts.extra_purpose:
        return (
            f"the provider {provider} needs no extra {config.facts.extra_purpose}, {extra.install}"
        )
    state = "it is not installed yet" if extra.missing() else "it is installed"
    return f"the provider {provider} needs the extra '{extra}': {extra.install} ({state})"


def with_package(path: Path, text: str, entry: str, root: Path) -> str | None:
    """Return packages.yml with the dbt package in it, or None if it names it already.

    Args:
        path: The file, packages.yml or dependencies.yml.
        text: What it holds.
        entry: The package's entry.
        root: The dbt project's directory.

    Raises:
        ConfigurationError: The file is no YAML, or nothing can be added to it.
    """
    document = parsed(path, text)
    listed = (document or {}).get("packages") or []
    if not isinstance(listed, list):
        raise ConfigurationError(
            f"{path}: packages is no list",
            fix="correct it, then try again. Nothing was written",
        )
    if any(isinstance(found, dict) and _is_ours(found, root) for found in listed):
        return None
    return _added(path, text, ("packages",), entry)


def find_target(
    path: Path, text: str, *, profile: object, target: str | None, chosen_by: str
) -> Target:
    """Return the target of a profile that is to have the plugin.

    Args:
        path: profiles.yml.
        text: What it holds.
        profile: The profile's name.
        target: The target's name, or None for the profile's own.
        chosen_by: What named the profile, for the message.

    Raises:
        ConfigurationError: The profile or the target is not there, or has no host.
    """
    if profile is None:
        raise ConfigurationError(
            f"{chosen_by} names no profile", fix="add a profile to it, or name one by --profile"
        )
    found = (parsed(path, text) or {}).get(profile)
    if not isinstance(found, dict):
        raise ConfigurationError(
            f"{path} has no profile '{profile}', which {chosen_by} names",
            fix="add it with a target, or name the directory by --profiles-dir",
        )
    name = target or str(found.get("target", "default"))
    outputs = found.get("outputs")
    outputs = outputs if isinstance(outputs, dict) else {}
    if not isinstance(outputs.get(name), dict):
        raise ConfigurationError(
            f"{path}: the profile '{profile}' has no target '{name}'",
            fix=f"name one by --target: {', '.join(map(str, outputs)) or 'it has none'}",
        )
    adapter = outputs[name].get("type")
    if adapter not in ADAPTERS:
        raise refused_adapter(str(adapter), name)
    return Target(str(profile), name, outputs[name])


def shared_state(ledger: str | None, files: str | None) -> str:
    """Return the key `state` of the plugin's block, or an empty text where none is wanted.

    Args:
        ledger: The Postgres of the ledger, or None.
        files: The bucket of the answers, or None.

    Raises:
        ConfigurationError: One is given without the other, cannot be one, or holds a password.
    """
    if not ledger and not files:
        return ""
    if not (ledger and files):
        raise ConfigurationError(
            "a shared state needs both a ledger and files", fix="give --ledger and --files"
        )
    if holds_password(ledger):
        raise ConfigurationError(
            "the ledger's address holds a password, and would be written to a file",
            fix="leave it out: PGPASSWORD, a password file or a service names it",
        )
    block = {"ledger": ledger, "files": files}
    parse_config({"provider": LOCAL.name, "state": block}, duckdb_settings={})
    return "".join(
        ("  state:\n", *(f"    {key}: {json.dumps(value)}\n" for key, value in block.items()))
    )


def project_file_text(provider: str, state: str) -> str:
    """Return dbt_enrich.yml, where a secret is the name of an environment's variable.

    Args:
        provider: The provider.
        state: The key `state` as `shared_state` returns it.
    """
    _, _, keys = (CONFIGS[provider].facts.block + state).partition("config:\n")
    return _ENV_VAR.sub(lambda found: FILE.variable(found[1]), textwrap.dedent(keys))


def with_plugin(path: Path, text: str, target: Target, provider: str, state: str) -> str | None:
    """Return profiles.yml with the plugin's block in the target, or None if it has one.

    Args:
        path: The file.
        text: What it holds.
        target: The target.
        provider: The service that the block names.
        state: The block's key `state`, as `shared_state` returns it.

    Raises:
        ConfigurationError: Nothing can be added to the file.
    """
    if target.plugin is not None:
        return None
    place = (target.profile, "outputs", target.name, "plugins")
    return _added(path, text, place, CONFIGS[provider].facts.block + state)


def parsed(path: Path, text: str) -> dict[Any, Any] | None:
    """Return what a YAML file holds, as dbt reads it, or None if it is empty.

    Raises:
        ConfigurationError: It is no YAML, or not one with keys.
    """
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigurationError(
            f"{path} is no YAML that can be read ({' '.join(str(error).split())})",
            fix="correct it, then try again. Nothing was written",
        ) from None
    if document is not None and not isinstance(document, dict):
        raise ConfigurationError(
            f"{path} holds no keys, so dbt cannot read it",
            fix="correct it, then try again. Nothing was written",
        )
    return document


def _is_ours(entry: dict[str, Any], root: Path) -> bool:
    """Whether an entry of packages.yml is this package."""
    local = entry.get("local")
    if isinstance(local, str):
        return is_package(root / Path(local).expanduser())
    names = (str(entry[key]) for key in ("git", "package", "tarball") if key in entry)
    return any(_OUR_NAME.fullmatch(re.split(r"[/:]", name.rstrip("/"))[-1]) for name in names)


def is_package(directory: Path) -> bool:
    """Whether a directory holds the dbt package."""
    try:
        document = yaml.safe_load((directory / "dbt_project.yml").read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return False
    return isinstance(document, dict) and document.get("name") == "dbt_enrich"


def _added(path: Path, text: str, place: tuple[str, ...], item: str) -> str:
    try:
        return with_item(text, place, item)
    except NoPlaceError as error:
        shown = "\n".join(f"  {line}" for line in item.splitlines())
        raise ConfigurationError(
            f"{path}: nothing can be added to {'.'.join(place)} ({error})",
            fix=f"add it by hand, then try again. Nothing was written\n{shown}",
        ) from None

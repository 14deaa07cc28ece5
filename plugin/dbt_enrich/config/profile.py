"""The profile's plugin block: which service answers, where the state lies, what the limits are.

A block is read by the class of its provider, in which each key is declared and described once.
When it is read, keys and types are checked; `check` looks whether the service can be called, as
dbt reads the block also for what sends nothing, where a key may not be set.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from pydantic import ValidationError

from dbt_enrich.config.azure import AzureConfig
from dbt_enrich.config.common import PluginConfig
from dbt_enrich.config.local import LocalConfig
from dbt_enrich.config.openai import OpenAIConfig
from dbt_enrich.config.providers import Provider
from dbt_enrich.errors import ConfigurationError
from dbt_enrich.wording import first_problem, near_match

CONFIGS: Final[Mapping[str, type[PluginConfig]]] = {
    config.facts.name: config for config in (AzureConfig, OpenAIConfig, LocalConfig)
}
"""The keys of each provider, with what is known of it in advance, by the provider's name."""


def provider_of(service_id: str) -> Provider | None:
    """Return the provider of a service, or None if this version knows none of that name.

    Args:
        service_id: `azure:HOST`, `openai:HOST` or `local`, as the ledger has it.
    """
    config = CONFIGS.get(service_id.partition(":")[0])
    return config.facts if config else None


def parse_config(values: Mapping[str, Any], *, duckdb_settings: Mapping[str, Any]) -> PluginConfig:
    """Read the plugin's configuration out of what dbt-duckdb hands over.

    Args:
        values: The profile's `settings` merged with the plugin's own `config`.
        duckdb_settings: The profile's `settings`, whose keys are DuckDB's unless they are ours.

    Raises:
        ConfigurationError: A key of ours is unknown, missing or wrong.
    """
    known = {key for config in CONFIGS.values() for key in config.model_fields} - {"foreign"}
    own = {
        key: value
        for key, value in values.items()
        if key not in duckdb_settings or (key in known and value != duckdb_settings[key])
    }
    unknown = next((key for key in own if key not in known), None)
    if unknown is not None:
        fix = near_match(unknown, known) or f"use one of the keys {', '.join(sorted(known))}"
        raise _refusal(f"has the unknown key '{unknown}'", fix)
    if "provider" not in own:
        raise _refusal("has no 'provider'", f"set it to {_either(CONFIGS)}")
    kind = CONFIGS.get(str(own["provider"]))
    if kind is None:
        names = _either([f"'{name}'" for name in CONFIGS])
        raise _refusal(f"is wrong: 'provider': Input should be {names}")
    taken = {key: value for key, value in own.items() if key in kind.model_fields}
    foreign = tuple(key for key in own if key not in taken and str(own[key] or "").strip())
    try:
        return kind(**taken, foreign=foreign)
    except ValidationError as error:
        found = first_problem(error, is_secret=True)
        place = f"'{found.path}': " if found.path else ""
        raise _refusal(f"is wrong: {place}{found.text}", found.fix) from None


def _refusal(problem: str, fix: str = "") -> ConfigurationError:
    return ConfigurationError(
        f"profiles.yml: the config of the plugin dbt_enrich.plugin {problem}",
        fix=fix or "correct it in profiles.yml",
    )


def _either(names: Iterable[str]) -> str:
    return " or ".join(", ".join(names).rsplit(", ", 1))

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
from dbt_enrich.config.place import PROFILE, Place
from dbt_enrich.config.providers import Provider
from dbt_enrich.errors import ConfigurationError
from dbt_enrich.wording import first_problem, near_match

CONFIGS: Final[Mapping[str, type[PluginConfig]]] = {
    config.facts.name: config for config in (AzureConfig, OpenAIConfig, LocalConfig)
}
"""The keys of each provider, with what is known of it in advance, by the provider's name."""


INTERNAL: Final = frozenset({"foreign", "place", "unset"})
"""What a configuration holds beside the keys that a user may write."""

KEYS: Final = (
    frozenset(key for config in CONFIGS.values() for key in config.model_fields) - INTERNAL
)
"""The keys that a user may write."""


def provider_of(service_id: str) -> Provider | None:
    """Return the provider of a service, or None if this version knows none of that name.

    Args:
        service_id: `azure:HOST`, `openai:HOST` or `local`, as the ledger has it.
    """
    config = CONFIGS.get(service_id.partition(":")[0])
    return config.facts if config else None


def parse_config(
    values: Mapping[str, Any],
    *,
    duckdb_settings: Mapping[str, Any],
    place: Place = PROFILE,
    unset: Mapping[str, str] | None = None,
) -> PluginConfig:
    """Read the plugin's configuration out of what dbt-duckdb hands over, or another file says.

    Args:
        values: The profile's `settings` merged with the plugin's own `config`.
        duckdb_settings: The profile's `settings`, whose keys are DuckDB's unless they are ours.
        place: Where it is written.
        unset: Keys left out of `values`, as the variable that they name is not set: which.

    Raises:
        ConfigurationError: A key of ours is unknown, missing or wrong.
    """
    own = own_values(values, duckdb_settings)
    unknown = next((key for key in own if key not in KEYS), None)
    if unknown is not None:
        fix = near_match(unknown, KEYS) or f"use one of the keys {', '.join(sorted(KEYS))}"
        raise refusal(place, f"has the unknown key '{unknown}'", fix)
    if "provider" not in own:
        raise refusal(place, "has no 'provider'", f"set it to {_either(CONFIGS)}")
    kind = CONFIGS.get(str(own["provider"]))
    if kind is None:
        names = _either([f"'{name}'" for name in CONFIGS])
        raise refusal(place, f"is wrong: 'provider': Input should be {names}")
    taken = {key: value for key, value in own.items() if key in kind.model_fields}
    foreign = tuple(key for key in own if key not in taken and str(own[key] or "").strip())
    try:
        return kind(**taken, foreign=foreign, place=place, unset=unset or {})
    except ValidationError as error:
        found = first_problem(error, is_secret=True)
        key = f"'{found.path}': " if found.path else ""
        raise refusal(place, f"is wrong: {key}{found.text}", found.fix) from None


def own_values(values: Mapping[str, Any], duckdb_settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is the plugin's own of what dbt-duckdb hands over."""
    return {
        key: value
        for key, value in values.items()
        if key not in duckdb_settings or (key in KEYS and value != duckdb_settings[key])
    }


def refusal(place: Place, problem: str, fix: str = "") -> ConfigurationError:
    """Return the error of a configuration.

    Args:
        place: Where it is written.
        problem: What is wrong with it, as the rest of a sentence.
        fix: What to do about it.
    """
    return ConfigurationError(f"{place.block} {problem}", fix=fix or f"correct it in {place.file}")


def _either(names: Iterable[str]) -> str:
    return " or ".join(", ".join(names).rsplit(", ", 1))

"""The profile's plugin block: which keys are ours, and what each mistake says."""

from __future__ import annotations

from pathlib import Path

import pytest
from dbt_enrich.config import parse_config
from dbt_enrich.errors import ConfigurationError

AZURE = {"provider": "azure", "endpoint": "https://r.openai.azure.com", "api_key": "k"}


def test_duckdb_settings_are_left_alone() -> None:
    """dbt-duckdb merges the profile's settings in; they are not ours to judge."""
    config = parse_config(
        {**AZURE, "search_path": "a", "threads": 7}, duckdb_settings={"search_path": "a"}
    )
    assert config.threads == 7


def test_an_unknown_key_is_named_with_its_near_match() -> None:
    """A typo is an error before anything runs."""
    with pytest.raises(ConfigurationError, match=r"'api_kee'; did you mean 'api_key'\?"):
        parse_config({**AZURE, "api_kee": "x"}, duckdb_settings={})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "no 'provider'"),
        ({"provider": "aws"}, "'provider'"),
        ({**AZURE, "deployments": {"m": []}}, "'m' has no deployment"),
        ({**AZURE, "namespace": "a/b"}, "'namespace'"),
        ({**AZURE, "threads": 0}, "'threads'"),
        ({**AZURE, "memory_limit": "much"}, "'memory_limit'"),
    ],
)
def test_a_wrong_value_is_named(values: dict[str, object], message: str) -> None:
    """The sentence names the key and says where it stands."""
    with pytest.raises(ConfigurationError, match=rf"profiles\.yml.*{message}"):
        parse_config(values, duckdb_settings={})


@pytest.mark.parametrize("provider", ["azure", "openai"])
@pytest.mark.parametrize("key", [None, "", "  "])
def test_a_provider_without_a_key_is_an_error(provider: str, key: str | None) -> None:
    """A key that is not there never makes another provider of it."""
    values = {"provider": provider, "api_key": key}
    if provider == "azure":
        values["endpoint"] = AZURE["endpoint"]
    with pytest.raises(ConfigurationError, match="api_key"):
        parse_config(values, duckdb_settings={}).check()


def test_the_key_shows_nowhere() -> None:
    """Neither as a text nor as a repr."""
    config = parse_config({**AZURE, "api_key": "sk-planted"}, duckdb_settings={})
    assert "sk-planted" not in f"{config!r} {config} {vars(config)}"


def test_a_model_without_a_deployment_is_its_own() -> None:
    """`deployments` maps a logical model; the default is the same name."""
    config = parse_config(
        {**AZURE, "deployments": {"gpt-4o-mini": "mini-batch", "o3": ["a", "b"]}},
        duckdb_settings={},
    )
    assert config.deployment("gpt-4o-mini") == "mini-batch"
    assert config.deployment("o3") == "a"
    assert config.deployment("gpt-4.1") == "gpt-4.1"


def test_local_needs_no_credentials(tmp_path: Path) -> None:
    """The emulator of `local` makes a key of its own."""
    config = parse_config(
        {"provider": "local", "responder": "scripted", "state_dir": str(tmp_path)},
        duckdb_settings={},
    )
    assert config.service_id == "local"

"""`dbt_enrich.yml`: whose keys hold, how secrets are written, and what each mistake says."""

from __future__ import annotations

from pathlib import Path

import pytest
from dbt_enrich.config import PluginConfig, read_project_file
from dbt_enrich.config.azure import AzureConfig
from dbt_enrich.config.openai import OpenAIConfig
from dbt_enrich.errors import ConfigurationError

AZURE = """provider: azure
endpoint: https://r.openai.azure.com
api_key: ${SERVICE_KEY}
deployments: {gpt-4o-mini: [mini-batch]}
"""


def read(root: Path, text: str, target: str = "dev") -> PluginConfig:
    """Read a file with this text."""
    (root / "dbt_enrich.yml").write_text(text)
    config = read_project_file(root, target)
    assert config is not None
    return config


def refusal(root: Path, text: str, target: str = "dev") -> str:
    """What the file's mistake is called."""
    with pytest.raises(ConfigurationError) as caught:
        read(root, text, target)
    return str(caught.value)


def test_no_file_is_no_configuration(tmp_path: Path) -> None:
    """Then the profile has one, or nobody."""
    assert read_project_file(tmp_path, "dev") is None


def test_a_target_has_the_shared_keys_and_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own win; a secret comes from the environment, and shows nowhere."""
    monkeypatch.setenv("SERVICE_KEY", "sk-planted")
    text = f"{AZURE}threads: 3\ntargets:\n  dev: {{threads: 5}}\n  prod: {{}}\n"
    dev, prod = read(tmp_path, text), read(tmp_path, text, "prod")
    assert isinstance(dev, AzureConfig)
    assert (dev.threads, prod.threads) == (5, 3)
    assert dev.key == "sk-planted"
    assert dev.deployment("gpt-4o-mini") == "mini-batch"
    assert "sk-planted" not in f"{dev!r} {dev}"
    dev.check()


def test_another_provider_takes_no_address_and_no_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shared key of Azure's is never sent to OpenAI, and none is asked for on this machine."""
    monkeypatch.setenv("SERVICE_KEY", "sk-planted")
    text = f"{AZURE}targets:\n  dev: {{provider: local}}\n  prod: {{provider: openai}}\n"
    dev, prod = read(tmp_path, text), read(tmp_path, text, "prod")
    assert (dev.provider, dev.foreign) == ("local", ())
    assert isinstance(prod, OpenAIConfig)
    assert prod.api_key is None
    assert prod.deployment("gpt-4o-mini") == "mini-batch"


def test_a_variable_within_a_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lists and mappings as well."""
    monkeypatch.setenv("RESOURCE", "ours")
    text = (
        "provider: azure\nendpoint: https://${RESOURCE}.openai.azure.com\n"
        "deployments: {m: ['${RESOURCE}-batch']}\n"
    )
    config = read(tmp_path, text)
    assert isinstance(config, AzureConfig)
    assert (config.url, config.deployment("m")) == (
        "https://ours.openai.azure.com",
        "ours-batch",
    )


def test_an_unset_variable_is_named_when_its_key_is_needed(tmp_path: Path) -> None:
    """As a key that is missing in the profile: dbt parses without it, nothing is sent."""
    config = read(tmp_path, AZURE)
    with pytest.raises(ConfigurationError) as caught:
        config.check()
    assert str(caught.value) == (
        "dbt_enrich.yml: `api_key` is ${SERVICE_KEY}, and SERVICE_KEY is not set; set SERVICE_KEY "
        "in the environment, or correct `api_key`"
    )
    address = read(tmp_path, "provider: azure\nendpoint: ${SERVICE_URL}\n")
    with pytest.raises(ConfigurationError, match="SERVICE_URL is not set"):
        _ = address.service_id


@pytest.mark.parametrize(
    ("key", "line"),
    [
        ("state_dir", "state_dir: ${MISSING}/state"),
        ("state.ledger", "state: {ledger: '${MISSING}', files: 's3://b/p'}"),
        ("caps.day.max_cost", "caps: {day: {max_cost: '${MISSING}'}}"),
        ("provider", "provider: ${MISSING}"),
    ],
)
def test_where_the_state_is_and_what_may_be_spent_is_never_left_out(
    tmp_path: Path, key: str, line: str
) -> None:
    """Another state would pay again for what is answered."""
    provider = "" if key == "provider" else "provider: local\n"
    said = refusal(tmp_path, f"{provider}{line}\n")
    assert f"dbt_enrich.yml: `{key}` is ${{MISSING}}, and MISSING is not set" in said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "dbt_enrich.yml holds no keys"),
        ("provider: [", "dbt_enrich.yml cannot be read at line 1 (ParserError)"),
        ("provider: aws", "dbt_enrich.yml is wrong: 'provider': Input should be 'azure'"),
        ("threads: 2", "dbt_enrich.yml has no 'provider'; set it to azure, openai or local"),
        ("provider: local\nthreds: 2", "has the unknown key 'threds'; did you mean 'threads'?"),
        ("provider: local\nplace: here", "has the unknown key 'place'"),
        ("provider: local\ntarget: {}", "has the unknown key 'target'; did you mean 'targets'?"),
        ("provider: local\nthreads: 0", "dbt_enrich.yml is wrong: 'threads'"),
        ("provider: local\ntargets: []", "'targets' must have keys and values"),
        ("provider: local\ntargets: {dev: }", "'targets.dev' must have keys and values"),
        (
            "provider: local\ntargets: {dev: {}, prod: {pace: 1}}",
            "has the unknown key 'targets.prod.pace'",
        ),
        (
            "provider: local\ntargets: {dve: {}}",
            "has no target 'dev'; did you mean 'dve'? Else write 'dev: {}' below targets",
        ),
        ("provider: openai\napi_key: \"{{ env_var('K') }}\"", "is an expression of dbt's"),
        ("provider: openai\napi_key: ${A-B}", "'api_key' has no name of an environment's variable"),
    ],
)
def test_a_mistake_names_the_file_and_the_key(tmp_path: Path, text: str, said: str) -> None:
    """Never the profile, which has nothing of it."""
    problem = refusal(tmp_path, text)
    assert said in problem
    assert problem.startswith("dbt_enrich.yml")
    assert "profile" not in problem


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("api_key", "provider: openai\napi_key: hunter2"),
        ("api_key", "provider: openai\napi_key: hunter2${SERVICE_KEY}"),
        ("api_key", "provider: local\ntargets: {dev: {provider: openai, api_key: hunter2}}"),
        ("client_secret", "provider: azure\nclient_secret: hunter2"),
        (
            "state.ledger",
            "provider: local\nstate: {ledger: 'postgresql://u:hunter2@h/d', files: 's3://b/p'}",
        ),
    ],
)
def test_a_secret_is_refused_by_its_key(tmp_path: Path, key: str, text: str) -> None:
    """The file is committed; what is refused is not repeated."""
    problem = refusal(tmp_path, text)
    assert f"dbt_enrich.yml is wrong: '{key}' is a secret" in problem
    assert f"such as ${{{key.rsplit('.')[-1].upper()}}}" in problem
    assert "hunter2" not in problem


def test_what_cannot_be_read_is_not_repeated(tmp_path: Path) -> None:
    """A line with a mistake may hold a key."""
    assert "hunter2" not in refusal(tmp_path, "provider: openai\napi_key: [hunter2: : }")


def test_an_address_without_a_password_may_stand_there(tmp_path: Path) -> None:
    """Where the ledger is, is no secret."""
    text = "provider: local\nstate: {ledger: 'postgresql://u@h/d', files: 's3://b/p'}\n"
    assert read(tmp_path, text).state is not None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("provider: openai", "write ${OPENAI_API_KEY} in dbt_enrich.yml"),
        ("provider: azure", "in dbt_enrich.yml"),
        (
            "provider: azure\nendpoint: https://r.openai.azure.com",
            "write `api_key: ${AZURE_OPENAI_API_KEY}` in dbt_enrich.yml",
        ),
    ],
)
def test_what_is_missing_belongs_into_the_file(tmp_path: Path, text: str, said: str) -> None:
    """A fix never leads to a profile that has no such block."""
    with pytest.raises(ConfigurationError) as caught:
        read(tmp_path, text).check()
    assert said in str(caught.value)
    assert "profile" not in str(caught.value)

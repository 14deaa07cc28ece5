"""A profile's block: what follows from it, and what is refused with the key and the fix."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from batch_server.loopback import is_loopback
from dbt_enrich.config import PluginConfig, parse_config
from dbt_enrich.config.azure import AzureConfig
from dbt_enrich.config.credential import COGNITIVE_SERVICES_SCOPE, CredentialKind, EntraKeys
from dbt_enrich.config.file_limits import ServiceLimits
from dbt_enrich.config.openai import OpenAIConfig
from dbt_enrich.config.place import CALL
from dbt_enrich.errors import ConfigurationError
from support.phrases import assert_two_phrases

KEY = "k1"
AZURE = "https://res.openai.azure.com"


def checked(**values: Any) -> PluginConfig:
    """A profile's block, read and checked."""
    config = parse_config(values, duckdb_settings={})
    config.check()
    return config


def azure(**changes: Any) -> AzureConfig:
    """Settings for Azure."""
    config = checked(**{"provider": "azure", "endpoint": AZURE, "api_key": KEY} | changes)
    assert isinstance(config, AzureConfig)
    return config


def openai(**changes: Any) -> OpenAIConfig:
    """Settings for OpenAI."""
    config = checked(**{"provider": "openai", "api_key": KEY} | changes)
    assert isinstance(config, OpenAIConfig)
    return config


def test_azure_has_its_own_defaults() -> None:
    """100,000 requests and 200 MB less a margin, paths without a version."""
    given = azure()
    assert given.limits == ServiceLimits(100_000, 196_000_000)
    assert given.url_of("/x") == given.batch_endpoint_of("/x") == "/x"
    assert given.service_id == "azure:res.openai.azure.com"
    assert given.dated_version is None
    assert given.sends_expiry


def shared(files: str) -> dict[str, str]:
    """A state that machines share."""
    return {"ledger": "postgresql://enrich@db/enrich", "files": files}


def test_a_blob_may_be_larger_than_an_upload() -> None:
    """1 GB less a margin, as many requests; an own limit may be up to that."""
    given = azure(batch_input="blob", state=shared("az://rows/x"))
    assert given.limits == ServiceLimits(100_000, 980_000_000)
    assert (given.sends_blobs, given.clears_container) == (True, True)
    lowered = azure(batch_input="blob", state=shared("az://rows/x"), max_bytes_per_file=500_000_000)
    assert lowered.limits.max_bytes == 500_000_000
    kept = azure(state=shared("az://rows/x"), keep_files=True)
    assert (kept.sends_blobs, kept.clears_container) == (False, False)
    assert kept.limits.max_bytes == 196_000_000
    assert azure(state=shared("s3://rows/x")).container is None


@pytest.mark.parametrize(
    ("changes", "problem", "fix"),
    [
        ({}, "`state.files` is not given", "az://CONTAINER/PREFIX"),
        ({"state": shared("s3://rows/x")}, "is s3://rows/x", "az://CONTAINER/PREFIX"),
        (
            {"state": shared("az://rows/x"), "api_version": "2024-10-21"},
            "`api_version` 2024-10-21 has no batches that read blobs",
            "2025-04-01-preview or later",
        ),
    ],
)
def test_blobs_are_refused_where_they_cannot_be(
    changes: dict[str, Any], problem: str, fix: str
) -> None:
    """By name, with what to write."""
    with pytest.raises(ConfigurationError, match=problem) as refused:
        azure(batch_input="blob", **changes)
    assert fix in refused.value.fix


@pytest.mark.parametrize("values", [{"provider": "openai", "api_key": KEY}, {"provider": "local"}])
def test_other_providers_read_no_blobs(values: dict[str, Any]) -> None:
    """Whatever the key says."""
    with pytest.raises(ConfigurationError, match="`batch_input` .*belong"):
        checked(batch_input="blob", **values)


def test_openai_has_its_own_defaults() -> None:
    """50,000 requests, and paths with a version."""
    given = openai()
    assert given.limits.max_requests == 50_000
    assert given.url_of("/x") == given.batch_endpoint_of("/x") == "/v1/x"
    assert given.url == "https://api.openai.com/v1"
    assert given.service_id == "openai:api.openai.com"


@pytest.mark.parametrize(
    ("given", "url", "service_id"),
    [
        (AZURE, AZURE, "azure:res.openai.azure.com"),
        (f" {AZURE}/ ", AZURE, "azure:res.openai.azure.com"),
        (f"{AZURE}/openai", AZURE, "azure:res.openai.azure.com"),
        (f"{AZURE}/openai/v1/", AZURE, "azure:res.openai.azure.com"),
        (
            "https://GW.example:8443/azure/",
            "https://GW.example:8443/azure",
            "azure:gw.example:8443",
        ),
        ("https://gw.example:443", "https://gw.example:443", "azure:gw.example"),
        ("http://localhost:8080", "http://localhost:8080", "azure:localhost:8080"),
        ("http://[::1]:8080", "http://[::1]:8080", "azure:::1:8080"),
    ],
)
def test_an_endpoint_is_taken_as_the_portal_shows_it(given: str, url: str, service_id: str) -> None:
    """With and without the API's path; a gateway's own path stays."""
    known = azure(endpoint=given)
    assert (known.url, known.service_id) == (url, service_id)


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("https://api.openai.com", "https://api.openai.com/v1"),
        ("https://api.openai.com/v1/", "https://api.openai.com/v1"),
        ("http://vllm.internal:8000/v1", "http://vllm.internal:8000/v1"),
    ],
)
def test_a_base_url_is_taken_up_to_its_version(given: str, url: str) -> None:
    """Servers of one's own may be without TLS: that network is the user's."""
    assert openai(base_url=given).url == url


@pytest.mark.parametrize(
    ("version", "classic", "expiry"),
    [
        (None, False, True),
        ("", False, True),
        ("v1", False, True),
        ("preview", False, True),
        ("2024-10-21", True, False),
        ("2024-07-01-preview", True, False),
        ("2025-03-01-preview", True, True),
        (dt.date(2024, 10, 21), True, False),
    ],
)
def test_the_version_decides_the_paths(version: Any, classic: bool, expiry: bool) -> None:
    """A dated version means the classic paths; YAML reads an unquoted one as a date."""
    given = azure(api_version=version)
    assert (given.dated_version is not None, given.sends_expiry) == (classic, expiry)


def test_the_batch_endpoint_follows_the_lines() -> None:
    """The service demands that they agree, so one setting moves both."""
    given = azure(line_url="/v1/chat/completions")
    assert given.batch_endpoint_of("/x") == given.url_of("/x") == "/v1/chat/completions"
    assert azure(line_url="/a", batch_endpoint="/b").batch_endpoint_of("/x") == "/b"


def test_each_endpoint_has_its_own_url() -> None:
    """Azure documents another prefix for one of them; what is configured is moved to the other."""
    chat, responses = "/chat/completions", "/responses"
    assert (azure().url_of(chat), azure().url_of(responses)) == (chat, f"/v1{responses}")
    assert (openai().url_of(chat), openai().url_of(responses)) == (f"/v1{chat}", f"/v1{responses}")
    given = azure(line_url=f"/v1{chat}", batch_endpoint=chat)
    assert (given.url_of(responses), given.batch_endpoint_of(responses)) == (
        f"/v1{responses}",
        responses,
    )
    assert azure(line_url="/a").url_of(responses) == "/a"


def test_limits_can_be_lowered() -> None:
    """For a quota or a line that allows less."""
    given = azure(max_requests_per_file=10, max_bytes_per_file=1000)
    assert given.limits == ServiceLimits(10, 1000)


def test_a_key_is_trimmed() -> None:
    """A key that was read from a file ends in a line break."""
    assert azure(api_key=" abc\n").key == "abc"


@pytest.mark.parametrize(
    ("make", "changes", "words"),
    [
        (azure, {"endpoint": None}, ["`endpoint`", "https://NAME.openai.azure.com"]),
        (azure, {"endpoint": ""}, ["`endpoint`", "missing or empty"]),
        (azure, {"endpoint": "res.openai.azure.com"}, ["`endpoint`", "https://"]),
        (azure, {"endpoint": "ftp://res"}, ["`endpoint`", "https://"]),
        (azure, {"endpoint": "https://"}, ["`endpoint`", "https://"]),
        (azure, {"endpoint": "https://res:port"}, ["`endpoint`", "https://"]),
        (azure, {"endpoint": "https://a b"}, ["`endpoint`", "https://"]),
        (azure, {"endpoint": "http://res.openai.azure.com"}, ["`endpoint`", "https://"]),
        (azure, {"endpoint": f"{AZURE}/?api-version=1"}, ["`endpoint`", "`api_version`"]),
        (
            azure,
            {"endpoint": f"{AZURE}/openai/deployments/gpt/chat/completions"},
            ["`endpoint`", f"write {AZURE} "],
        ),
        (azure, {"endpoint": "https://me:pw@res.azure.com"}, ["`endpoint`", "`api_key`"]),
        (azure, {"base_url": AZURE}, ["`base_url`", "`endpoint`"]),
        (azure, {"api_key": None}, ["`api_key`", "AZURE_OPENAI_API_KEY"]),
        (azure, {"api_key": "  "}, ["`api_key`", "AZURE_OPENAI_API_KEY"]),
        (azure, {"api_key": "two words"}, ["`api_key`", "copy the key again"]),
        (azure, {"api_key": "clé"}, ["`api_key`", "copy the key again"]),
        (azure, {"api_version": "latest"}, ["`api_version`", "2024-10-21"]),
        (azure, {"api_version": "2023-05-15"}, ["`api_version`", "older than the Batch API"]),
        (azure, {"completion_window": "1h"}, ["`completion_window`", "24h"]),
        (azure, {"file_expiry_days": 7}, ["`file_expiry_days`", "14 to 30"]),
        (azure, {"max_requests_per_file": 100_001}, ["`max_requests_per_file`", "1 to 100000"]),
        (azure, {"max_requests_per_file": 0}, ["`max_requests_per_file`", "1 to 100000"]),
        (azure, {"max_bytes_per_file": 10**9}, ["`max_bytes_per_file`", "1 to 196000000"]),
        (azure, {"line_url": "chat/completions"}, ["`line_url`", "slash"]),
        (azure, {"batch_endpoint": "x"}, ["`batch_endpoint`", "slash"]),
        (azure, {"timeout": 0}, ["`timeout`", "above 0"]),
        (azure, {"timeout": float("inf")}, ["`timeout`", "seconds"]),
        (azure, {"max_retries": -1}, ["`max_retries`", "0 to 20"]),
        (azure, {"api_key": None}, ["`credential: default`", "Microsoft Entra ID"]),
        (
            azure,
            {"credential": "default"},
            ["`api_key` and `credential`", "take one of them out"],
        ),
        (openai, {"api_key": None}, ["`api_key`", "set OPENAI_API_KEY"]),
        (
            openai,
            {"api_key": None, "credential": "default"},
            ["`credential`", "`azure`", "`api_key`"],
        ),
        (openai, {"endpoint": AZURE}, ["`endpoint`", "`base_url`"]),
        (openai, {"api_version": "2024-10-21"}, ["`api_version`", "`azure`"]),
        (openai, {"base_url": "api.openai.com"}, ["`base_url`", "https://"]),
        (openai, {"max_requests_per_file": 50_001}, ["`max_requests_per_file`", "50000"]),
        (openai, {"file_expiry_days": 31}, ["`file_expiry_days`", "1 to 30"]),
    ],
)
def test_what_cannot_work_is_refused(make: Any, changes: dict[str, Any], words: list[str]) -> None:
    """Each text names the key of the profile and the fix, and can be put into a longer one."""
    with pytest.raises(ConfigurationError) as caught:
        make(**changes)
    for word in words:
        assert word in str(caught.value)
    assert not str(caught.value).endswith(".")
    assert_two_phrases(caught.value.problem, caught.value.fix)


def test_an_unknown_provider_is_refused() -> None:
    """The known ones are named."""
    with pytest.raises(ConfigurationError, match="'azure', 'openai' or 'local'"):
        checked(provider="bedrock")


@pytest.mark.parametrize(
    "changes",
    [
        {"endpoint": AZURE},
        {"api_key": KEY},
        {"base_url": "x"},
        {"api_version": "v1"},
        {"credential": "default"},
    ],
)
def test_local_takes_no_address_and_no_key(changes: dict[str, Any]) -> None:
    """A key in the profile must not look as if it were used."""
    with pytest.raises(ConfigurationError, match="does not belong to the provider `local`"):
        checked(provider="local", **changes)


def test_settings_with_a_password_in_the_address_do_not_show_it() -> None:
    """The refusal names the key of the profile, not the address."""
    with pytest.raises(ConfigurationError) as caught:
        azure(endpoint="https://me:hunter2@res.azure.com")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("localhost", True),
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("127.0.0.1.example.com", False),
        ("10.0.0.1", False),
        (None, False),
    ],
)
def test_this_machine_is_known_by_its_names(host: str | None, expected: bool) -> None:
    """Only this machine may be called without TLS."""
    assert is_loopback(host) is expected


def credential(**keys: Any) -> EntraKeys | None:
    """The credential of an Azure profile with these keys."""
    return azure(**{"api_key": None} | keys).sign_in


PRINCIPAL = {
    "credential": "service_principal",
    "tenant_id": "tenant",
    "client_id": "client",
    "client_secret": "hush",
}


@pytest.mark.parametrize("kind", list(CredentialKind))
def test_each_credential_is_named_in_the_profile(kind: CredentialKind) -> None:
    """A key that an unset variable left empty does not count as one, nor do the others."""
    needed = PRINCIPAL if kind is CredentialKind.SERVICE_PRINCIPAL else {}
    empty = {"tenant_id": "", "client_id": " ", "client_secret": "", "authority_host": ""}
    given = credential(**empty | needed | {"credential": str(kind), "api_key": "", "scope": ""})
    assert given is not None
    assert given.kind is kind
    assert given.token_scope == COGNITIVE_SERVICES_SCOPE


def test_a_service_principal_is_taken_as_it_is_written() -> None:
    """Trimmed, as values that were read from files end in a line break."""
    given = credential(
        **PRINCIPAL | {"client_secret": " hush\n", "tenant_id": " tenant "},
        authority_host="login.microsoftonline.us",
        scope="https://cognitiveservices.azure.us/.default",
    )
    assert given is not None
    assert given.kind is CredentialKind.SERVICE_PRINCIPAL
    assert (given.tenant_id, given.client_id) == ("tenant", "client")
    assert given.client_secret is not None
    assert given.client_secret.get_secret_value() == "hush"
    assert given.authority == "https://login.microsoftonline.us"
    assert given.token_scope == "https://cognitiveservices.azure.us/.default"


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({}, ["`api_key`", "`credential: default`"]),
        ({"credential": "defualt"}, ["'defualt'", "did you mean 'default'?", "azure_cli"]),
        ({"credential": "default", "api_key": "k"}, ["`api_key` and `credential`"]),
        ({"credentials": "default"}, ["'credentials'", "did you mean 'credential'?"]),
        ({"client_secert": "x"}, ["'client_secert'", "did you mean 'client_secret'?"]),
        ({"tenant_id": "t", "api_key": "k"}, ["`tenant_id`", "without `credential`"]),
        ({"client_secret": "hush", "api_key": "k"}, ["`client_secret`", "without `credential`"]),
        ({"scope": "s", "api_key": "k"}, ["`scope`", "without `credential`"]),
        (PRINCIPAL | {"tenant_id": ""}, ["`tenant_id`", "AZURE_TENANT_ID"]),
        (PRINCIPAL | {"client_id": None}, ["`client_id`", "AZURE_CLIENT_ID"]),
        (PRINCIPAL | {"client_secret": " "}, ["`client_secret`", "AZURE_CLIENT_SECRET"]),
        (PRINCIPAL | {"credential": "azure_cli"}, ["`client_id`", "`credential: azure_cli`"]),
        (
            {"credential": "environment", "client_secret": "hush"},
            ["`client_secret`", "`authority_host`"],
        ),
        (
            {"credential": "managed_identity", "authority_host": "login.microsoftonline.us"},
            ["`authority_host`", "takes `client_id`"],
        ),
        ({"credential": "default", "scope": "cognitive"}, ["`scope`", "/.default"]),
        (PRINCIPAL | {"authority_host": "http://login.example"}, ["`authority_host`"]),
        (PRINCIPAL | {"authority_host": "https://me:hush@login.example"}, ["`authority_host`"]),
        (PRINCIPAL | {"authority_host": "login.example/tenant"}, ["`tenant_id`"]),
        (PRINCIPAL | {"authority_host": "login.example:port"}, ["`authority_host`"]),
    ],
)
def test_a_credential_that_cannot_work_is_refused(keys: dict[str, Any], words: list[str]) -> None:
    """Each text names the key and the fix, and shows no secret."""
    with pytest.raises(ConfigurationError) as caught:
        credential(**keys)
    for word in words:
        assert word in str(caught.value)
    assert "hush" not in str(caught.value)
    assert not str(caught.value).endswith(".")


def test_a_credential_does_not_show_its_secret() -> None:
    """Neither as a text nor as a repr."""
    given = azure(api_key=None, **PRINCIPAL)
    assert "hush" not in f"{given!r} {given} {given.sign_in!r} {vars(given)}"


def test_keys_of_a_call_are_named_as_such() -> None:
    """There is no profile where `enrich` of Spark is given them."""
    with pytest.raises(ConfigurationError) as refused:
        parse_config({"provider": "azure"}, duckdb_settings={}, place=CALL).check()
    assert "in the config of enrich" in str(refused.value)
    with pytest.raises(ConfigurationError, match="the config of enrich has the unknown key"):
        parse_config({"provder": "azure"}, duckdb_settings={}, place=CALL)

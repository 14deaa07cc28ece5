"""Signing in with Microsoft Entra ID: real credentials, a real token endpoint, real HTTP."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import trustme
from dbt_enrich.config.credential import CredentialKind, EntraKeys
from dbt_enrich.errors import (
    AuthenticationError,
    ConfigurationError,
    EnrichmentError,
    TransientError,
)
from dbt_enrich.services.entra import SignIn
from dbt_enrich.services.openai import OpenAIBatchService
from functional.services.conftest import Connect
from functional.services.entra_wire import (
    CLIENT_SECRET,
    Token,
    TokenServer,
    lasting,
    refusing,
    token_text,
)
from functional.services.wire import (
    Reply,
    Request,
    Respond,
    WireServer,
    batch_body,
    error_body,
    file_body,
    in_turn,
    serving,
)

AZURE_STYLES = ("classic", "v1")
REFUSED = Reply(401, {"statusCode": 401, "message": "Unauthorized. Access token is invalid."})
CONTENT = b'{"custom_id":"1"}\n' * 50_000


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """The authority that signs the token endpoint's certificate."""
    return trustme.CA()


@pytest.fixture(autouse=True)
def environment(
    authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> pytest.MonkeyPatch:
    """An environment that trusts the authority and holds no identity and no `az`."""
    for name in os.environ:
        if name.startswith(("AZURE_", "IDENTITY_", "MSI_")) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    file = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(str(file))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(file))
    monkeypatch.setenv("HOME", str(tmp_path))
    commands = tmp_path / "bin"
    commands.mkdir()
    monkeypatch.setenv("PATH", str(commands))
    return monkeypatch


GiveTokens = Callable[[Token], TokenServer]


@pytest.fixture
def give_tokens(authority: trustme.CA) -> Iterator[GiveTokens]:
    """Start token endpoints."""
    with ExitStack() as stack:

        def start(give: Token) -> TokenServer:
            server = TokenServer(authority, give)
            stack.callback(server.close)
            return server

        yield start


SignedIn = Callable[..., tuple[OpenAIBatchService, WireServer, TokenServer]]


@pytest.fixture
def signed_in(connect: Connect, give_tokens: GiveTokens) -> SignedIn:
    """Start a token endpoint and a batch service, and give a service that signs in and calls."""

    def start(
        respond: Respond, give: Token, style: str = "v1", **changes: Any
    ) -> tuple[OpenAIBatchService, WireServer, TokenServer]:
        tokens = give_tokens(give)
        service, server = connect(
            respond, style, api_key=None, **principal_keys(tokens.host), **changes
        )
        return service, server, tokens

    return start


def principal_keys(host: str) -> dict[str, Any]:
    """The profile's keys of a service principal that signs in at `host`."""
    return {
        "credential": "service_principal",
        "tenant_id": "tenant",
        "client_id": "client",
        "client_secret": CLIENT_SECRET,
        "authority_host": host,
    }


def principal(host: str, **changes: Any) -> EntraKeys:
    """A service principal that signs in at `host`."""
    return EntraKeys(**principal_keys(host) | changes)


def sent(server: WireServer) -> list[str]:
    """The `Authorization` of each request, in order; no request has a key."""
    assert not [request for request in server.requests if "api-key" in request.headers]
    return [request.headers["authorization"] for request in server.requests]


def bearer(*numbers: int) -> list[str]:
    """The `Authorization` with each of these tokens."""
    return [f"Bearer {token_text(number)}" for number in numbers]


def only(number: int, reply: Callable[[Request], Reply]) -> Respond:
    """Answer requests with the `number`th token, and refuse all others."""

    def respond(request: Request) -> Reply:
        good = request.headers["authorization"] == bearer(number)[0]
        return reply(request) if good else REFUSED

    return respond


def usual(request: Request) -> Reply:
    """What a service answers to each call."""
    if request.path.endswith("/content"):
        return Reply(200, CONTENT)
    if request.call in ("GET /batches", "GET /files"):
        return Reply(200, {"object": "list", "data": [], "has_more": False})
    if request.path.startswith("/batches"):
        return Reply(200, batch_body())
    return Reply(200, file_body())


def every_call(service: OpenAIBatchService, directory: Path) -> list[Callable[[], Any]]:
    """Every call of the service, in the order of a run."""
    path = directory / "s.jsonl"
    path.write_bytes(CONTENT)
    return [
        lambda: service.check("gpt"),
        lambda: service.upload(path, filename="s.jsonl"),
        lambda: service.file("file-1"),
        lambda: list(service.files()),
        lambda: service.create("file-1", {"a": "b"}, "/chat/completions"),
        lambda: service.batch("batch_1"),
        lambda: list(service.batches()),
        lambda: service.cancel("batch_1"),
        lambda: service.download("file-1", directory / "out.jsonl"),
        lambda: service.delete_file("file-1"),
        lambda: service.ask("/chat/completions", {"model": "gpt", "messages": []}),
    ]


@pytest.mark.parametrize("style", AZURE_STYLES)
def test_every_call_carries_one_token_and_no_key(
    signed_in: SignedIn, environment: pytest.MonkeyPatch, tmp_path: Path, style: str
) -> None:
    """While it is good it is asked for once, also beside a key that the environment holds."""
    environment.setenv("AZURE_OPENAI_API_KEY", "stray-key")
    service, server, tokens = signed_in(usual, lasting(3600), style)
    for call in every_call(service, tmp_path):
        call()
    assert set(sent(server)) == set(bearer(1))
    (asked,) = tokens.asked
    assert asked["scope"] == ["https://cognitiveservices.azure.com/.default"]
    assert asked["client_secret"] == [CLIENT_SECRET]


def test_the_scope_can_be_another(give_tokens: GiveTokens) -> None:
    """Other clouds have other names for the same service."""
    tokens = give_tokens(lasting(3600))
    scope = "https://cognitiveservices.azure.us/.default"
    assert SignIn(principal(tokens.host, scope=scope)).token() == token_text(1)
    assert tokens.asked[0]["scope"] == [scope]


@pytest.mark.parametrize("style", AZURE_STYLES)
def test_a_token_that_ends_is_replaced_during_a_wait(signed_in: SignedIn, style: str) -> None:
    """Each look at the batch carries a token that is good then, not the one of the start."""
    service, server, _ = signed_in(usual, lasting(3), style)
    for _ in range(4):
        service.batch("batch_1")
    looks = sent(server)
    assert looks == sorted(set(looks))


def test_the_clients_own_repetitions_carry_a_good_token(signed_in: SignedIn) -> None:
    """A long `Retry-After` must not outlive the token."""
    busy = Reply(503, b"", {"retry-after-ms": "1"})
    service, server, _ = signed_in(in_turn(busy, busy, Reply(200, batch_body())), lasting(3))
    service.batch("batch_1")
    assert len(server.requests) == len(set(sent(server))) == 3


def test_a_resumed_download_carries_a_fresh_token(signed_in: SignedIn, tmp_path: Path) -> None:
    """The rest of a large file may come long after its beginning."""

    def respond(request: Request) -> Reply:
        asked = request.headers.get("range")
        if asked is None:
            return Reply(200, CONTENT, cut=400_000)
        start = int(asked.removeprefix("bytes=").removesuffix("-"))
        headers = {"content-range": f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}"}
        return Reply(206, CONTENT[start:], headers)

    service, server, _ = signed_in(respond, lasting(3))
    assert service.download("file-1", tmp_path / "out.jsonl") == len(CONTENT)
    assert (tmp_path / "out.jsonl").read_bytes() == CONTENT
    assert "range" in server.requests[1].headers
    assert len(set(sent(server))) == 2


def test_a_download_whose_token_ends_between_its_parts_goes_on(
    signed_in: SignedIn, tmp_path: Path
) -> None:
    """The resumed request is refused, repeated with another token, and still resumes."""

    def respond(request: Request) -> Reply:
        asked = request.headers.get("range")
        if asked is None:
            return Reply(200, CONTENT, cut=400_000)
        if request.headers["authorization"] != bearer(2)[0]:
            return REFUSED
        start = int(asked.removeprefix("bytes=").removesuffix("-"))
        headers = {"content-range": f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}"}
        return Reply(206, CONTENT[start:], headers)

    service, server, _ = signed_in(respond, lasting(3600))
    assert service.download("file-1", tmp_path / "out.jsonl") == len(CONTENT)
    assert (tmp_path / "out.jsonl").read_bytes() == CONTENT
    assert sent(server) == bearer(1, 1, 2)
    assert [("range" in request.headers) for request in server.requests] == [False, True, True]


@pytest.mark.parametrize("style", AZURE_STYLES)
@pytest.mark.parametrize("number", range(11))
def test_a_refused_token_is_replaced_once(
    signed_in: SignedIn, tmp_path: Path, style: str, number: int
) -> None:
    """Though azure-identity still holds it for an hour; each call then does what it was to do."""
    service, server, tokens = signed_in(only(2, usual), lasting(3600), style)
    every_call(service, tmp_path)[number]()
    assert sent(server)[:2] == bearer(1, 2)
    assert set(sent(server)[1:]) == set(bearer(2))
    assert server.requests[0].call == server.requests[1].call
    assert len(server.requests[0].body) == len(server.requests[1].body)
    assert len(tokens.asked) == 2


def test_a_token_that_is_always_refused_is_an_error(signed_in: SignedIn) -> None:
    """After one repetition; the next call tries once more, and no call tries forever."""
    service, server, tokens = signed_in(lambda _: REFUSED, lasting(3600))
    with pytest.raises(AuthenticationError) as caught:
        service.batch("batch_1")
    for words in ("HTTP 401", "`credential: service_principal`", "tenant", "role", "`scope`"):
        assert words in str(caught.value)
    assert "api_key" not in str(caught.value)
    assert sent(server) == bearer(1, 2)
    with pytest.raises(AuthenticationError):
        service.create("file-1", {}, "/chat/completions")
    assert sent(server) == bearer(1, 2, 2, 3)
    assert len(tokens.asked) == 3


def test_threads_share_one_replacement(signed_in: SignedIn) -> None:
    """Many calls that are refused at once ask for one token, not for one each."""
    service, server, tokens = signed_in(only(2, usual), lasting(3600))
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(service.batch, ["batch_1"] * 24))
    assert {batch.id for batch in found} == {"batch_1"}
    assert set(sent(server)) <= set(bearer(1, 2))
    assert len(tokens.asked) == 2


@pytest.mark.parametrize(
    "reply",
    [
        Reply(401, error_body("PermissionDenied", "Principal does not have access to API.")),
        Reply(403, error_body("Forbidden", "Not allowed.")),
    ],
)
def test_an_identity_without_the_role_is_told_of_it(signed_in: SignedIn, reply: Reply) -> None:
    """Azure says 401 where 403 is meant."""
    service, _, _ = signed_in(lambda _: reply, lasting(3600))
    with pytest.raises(AuthenticationError, match="role Cognitive Services OpenAI Contributor"):
        service.upload(Path(__file__), filename="s.jsonl")


def test_an_identity_that_cannot_sign_in_is_named(signed_in: SignedIn) -> None:
    """With the first line of the reason and the fix, asked once, and nothing is sent."""
    service, server, tokens = signed_in(usual, refusing(401))
    with pytest.raises(AuthenticationError) as caught:
        service.batch("batch_1")
    for words in ("`credential: service_principal`", "AADSTS7000215", "`client_secret`"):
        assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert server.requests == []
    assert len(tokens.asked) == 1


@pytest.mark.parametrize("status", [500, 503, 504])
def test_trouble_of_the_token_endpoint_is_ridden_out(signed_in: SignedIn, status: int) -> None:
    """It is transient for every call, a creation too, and the same service works afterwards."""
    service, server, tokens = signed_in(usual, lasting(3), max_retries=0)
    service.batch("batch_1")
    good, tokens.give = tokens.give, refusing(status, error="temporarily_unavailable")
    with pytest.raises(TransientError, match="`credential: service_principal`"):
        service.batch("batch_1")
    with pytest.raises(TransientError, match="`credential: service_principal`"):
        service.create("file-1", {}, "/chat/completions")
    assert len(server.requests) == 1
    tokens.give = good
    assert service.create("file-1", {}, "/chat/completions").id == "batch_1"
    assert len(server.calls("POST /batches")) == 1


def test_a_token_endpoint_that_is_gone_is_transient(signed_in: SignedIn) -> None:
    """In the middle of a wait as at its beginning."""
    service, _, tokens = signed_in(usual, lasting(3), max_retries=0)
    service.batch("batch_1")
    tokens.close()
    with pytest.raises(TransientError, match="connection"):
        service.batch("batch_1")
    with pytest.raises(TransientError, match="connection"):
        SignIn(principal(tokens.host), max_retries=0).token()


@pytest.mark.parametrize(
    ("later", "kind"),
    [(refusing(401), AuthenticationError), (refusing(503, error="x"), TransientError)],
)
def test_a_sign_in_that_fails_inside_the_client_keeps_its_name(
    signed_in: SignedIn, later: Token, kind: type[EnrichmentError]
) -> None:
    """The client hides what it wraps; nothing was sent, so a creation's outcome is known."""

    def give(number: int) -> tuple[int, dict[str, Any]]:
        return lasting(3)(number) if number == 1 else later(number)

    service, server, _ = signed_in(usual, give, max_retries=0)
    with pytest.raises(kind, match="`credential: service_principal`"):
        service.create("file-1", {}, "/chat/completions")
    assert server.requests == []


def test_an_untrusted_token_endpoint_gets_no_secret(
    signed_in: SignedIn, environment: pytest.MonkeyPatch
) -> None:
    """The error names the variable that azure-identity reads, which is not the `openai` one."""
    environment.delenv("REQUESTS_CA_BUNDLE")
    service, _, tokens = signed_in(usual, lasting(3600))
    with pytest.raises(AuthenticationError, match="REQUESTS_CA_BUNDLE"):
        service.batch("batch_1")
    assert tokens.asked == []


@pytest.mark.parametrize("style", AZURE_STYLES)
def test_a_redirect_to_another_host_takes_no_token_there(
    signed_in: SignedIn, tmp_path: Path, style: str
) -> None:
    """A storage account gets the request, but not the token."""
    with serving(in_turn(Reply(200, CONTENT))) as storage:
        elsewhere = storage.url.replace("127.0.0.1", "localhost")
        service, server, _ = signed_in(
            in_turn(Reply(302, b"", {"location": f"{elsewhere}/blob?sig=1"})),
            lasting(3600),
            style,
        )
        assert service.download("file-1", tmp_path / "out.jsonl") == len(CONTENT)
    assert sent(server) == bearer(1)
    assert "authorization" not in storage.requests[0].headers


def echoes() -> list[Reply]:
    """Replies that repeat the token, alone and otherwise."""
    shown = f"Bad token {token_text(1)}, {quote(token_text(2), safe='')}, Bearer {token_text(1)}."
    return [
        Reply(401, {"statusCode": 401, "message": shown}),
        Reply(400, error_body(token_text(1), shown)),
        Reply(500, f"<html>{shown} {CLIENT_SECRET}</html>".encode(), {"retry-after-ms": "1"}),
        Reply(200, error_body("x", shown)),
        Reply(200, b"not json " + shown.encode()),
    ]


@pytest.mark.parametrize("style", AZURE_STYLES)
@pytest.mark.parametrize(
    "give",
    [
        pytest.param(lasting(3600), id="given"),
        pytest.param(refusing(401), id="401"),
        pytest.param(refusing(503, error="temporarily_unavailable"), id="503"),
    ],
)
def test_no_error_and_no_log_shows_a_token_or_the_secret(
    signed_in: SignedIn,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    style: str,
    give: Token,
) -> None:
    """Every call against every such reply, with all loggers at debug level."""
    shown: list[str] = []
    with caplog.at_level(logging.DEBUG):
        for reply in echoes():
            service, _, _ = signed_in(lambda _, reply=reply: reply, give, style, max_retries=0)
            shown += [
                repr(service),
                repr(service._calls.connection._sign_in),
                repr(service._settings),
            ]
            for call in every_call(service, tmp_path):
                try:
                    call()
                except EnrichmentError as error:
                    shown += [str(error), repr(error), repr(vars(error))]
                    shown += traceback.format_exception(error)
                    shown += [repr(error.__cause__), repr(error.__context__)]
    shown += [f"{record.getMessage()} {vars(record)}" for record in caplog.records]
    for text in shown:
        for hidden in (token_text(1), token_text(2), CLIENT_SECRET):
            assert hidden not in text
            assert quote(hidden, safe="") not in text


def test_an_error_does_not_show_a_secret_that_the_token_endpoint_repeats(
    give_tokens: GiveTokens,
) -> None:
    """Nor what hangs on the error."""
    tokens = give_tokens(refusing(400, error="x", error_description=f"bad: {CLIENT_SECRET}"))
    with pytest.raises(AuthenticationError, match=r"bad: \*\*\*") as caught:
        SignIn(principal(tokens.host)).token()
    assert CLIENT_SECRET not in "".join(traceback.format_exception(caught.value))
    assert (caught.value.__cause__, caught.value.__context__) == (None, None)


def _from_environment(environment: pytest.MonkeyPatch, host: str) -> None:
    environment.setenv("AZURE_TENANT_ID", "tenant")
    environment.setenv("AZURE_CLIENT_ID", "client-of-environment")
    environment.setenv("AZURE_CLIENT_SECRET", CLIENT_SECRET)
    environment.setenv("AZURE_AUTHORITY_HOST", f"https://{host}")


@pytest.mark.parametrize("kind", [CredentialKind.DEFAULT, CredentialKind.ENVIRONMENT])
def test_an_application_of_the_environment_signs_in(
    give_tokens: GiveTokens, environment: pytest.MonkeyPatch, kind: CredentialKind
) -> None:
    """By the names that all of Azure's tools know, and refused tokens are replaced there too."""
    tokens = give_tokens(lasting(3600))
    _from_environment(environment, tokens.host)
    sign_in = SignIn(EntraKeys(credential=kind, authority_host=tokens.host))
    assert sign_in.token() == sign_in.token() == token_text(1)
    sign_in.renew(token_text(1))
    assert sign_in.token() == token_text(2)
    sign_in.close()
    sign_in.close()
    assert tokens.asked[0]["client_id"] == ["client-of-environment"]


def test_a_workload_signs_in_with_its_file(
    give_tokens: GiveTokens, environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As a pod does; the profile may name another application than the environment."""
    tokens = give_tokens(lasting(3600))
    file = tmp_path / "federated"
    file.write_text("assertion-of-the-pod")
    _from_environment(environment, tokens.host)
    environment.setenv("AZURE_FEDERATED_TOKEN_FILE", str(file))
    sign_in = SignIn(
        EntraKeys(credential="workload_identity", client_id="pod", authority_host=tokens.host)
    )
    assert sign_in.token() == token_text(1)
    assert tokens.asked[0]["client_assertion"] == ["assertion-of-the-pod"]
    assert tokens.asked[0]["client_id"] == ["pod"]


def test_a_managed_identity_signs_in(environment: pytest.MonkeyPatch) -> None:
    """At the endpoint of its host, as the user-assigned identity that the profile names."""

    def respond(request: Request) -> Reply:
        body = {
            "access_token": token_text(1),
            "expires_on": str(int(time.time()) + 3600),
            "resource": request.query["resource"][0],
            "token_type": "Bearer",
        }
        return Reply(200, body)

    with serving(respond) as host:
        environment.setenv("IDENTITY_ENDPOINT", f"{host.url}/msi/token")
        environment.setenv("IDENTITY_HEADER", "header")
        given = EntraKeys(credential="managed_identity", client_id="mine")
        assert SignIn(given).token() == token_text(1)
        (asked,) = host.requests
        assert asked.query["resource"] == ["https://cognitiveservices.azure.com"]
        assert asked.query["client_id"] == ["mine"]


def _command(tmp_path: Path, script: str) -> None:
    path = tmp_path / "bin" / "az"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def test_the_azure_cli_signs_in(tmp_path: Path) -> None:
    """With the user of `az login`; one who has to log in again can do so while a run waits."""
    given = EntraKeys(credential="azure_cli", tenant_id="tenant")
    missing = "echo \"Please run 'az login' to setup account.\" >&2; exit 1"
    _command(tmp_path, missing)
    with pytest.raises(AuthenticationError, match="`credential: azure_cli`.*run `az login`"):
        SignIn(given).token()
    good = f'{{"accessToken": "{token_text(1)}", "expires_on": {int(time.time()) + 3}}}'
    _command(tmp_path, f"echo \"$@\" > {tmp_path}/arguments; echo '{good}'")
    sign_in = SignIn(given)
    assert sign_in.token() == token_text(1)
    assert "--tenant tenant" in (tmp_path / "arguments").read_text()
    _command(tmp_path, missing)
    with pytest.raises(TransientError, match="run `az login`.*then try again"):
        sign_in.token()


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (CredentialKind.ENVIRONMENT, ["`credential: environment`", "AZURE_CLIENT_SECRET"]),
        (CredentialKind.AZURE_CLI, ["`credential: azure_cli`", "az login"]),
    ],
)
def test_an_identity_that_is_not_there_is_named(kind: CredentialKind, words: list[str]) -> None:
    """With what would make it be there."""
    with pytest.raises(AuthenticationError) as caught:
        SignIn(EntraKeys(credential=kind)).token()
    for word in words:
        assert word in str(caught.value)


def test_a_workload_without_its_variables_is_named() -> None:
    """Before anything is sent."""
    with pytest.raises(ConfigurationError, match="AZURE_FEDERATED_TOKEN_FILE"):
        SignIn(EntraKeys(credential="workload_identity"))


def test_without_the_package_the_extra_is_named(environment: pytest.MonkeyPatch) -> None:
    """In one sentence, when the service is built."""
    environment.setitem(sys.modules, "azure.identity", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'dbt-enrich\[azure\]'"):
        SignIn(EntraKeys(credential="default"))


def test_a_key_loads_no_azure_package() -> None:
    """The package costs a key's user neither time nor an installation."""
    program = (
        "import sys; sys.modules['azure'] = None\n"
        "from dbt_enrich.config.azure import AzureConfig\n"
        "from dbt_enrich.services import create_service\n"
        "create_service(AzureConfig(endpoint='https://r.openai.azure.com', api_key='k')).close()\n"
        "assert not [name for name in sys.modules if name.startswith(('azure.', 'msal'))]\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)

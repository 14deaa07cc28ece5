"""What the client raises, and what becomes of it, where no small server can bring it about."""

from __future__ import annotations

import socket
import ssl
from typing import Any

import openai
import pytest
from batch_server.http_client import httpx
from dbt_enrich.config.azure import AzureConfig
from dbt_enrich.config.openai import OpenAIConfig
from dbt_enrich.errors import QuotaError, ServiceError, TransientError, UnknownOutcomeError
from dbt_enrich.services.failures import Failures, Operation
from dbt_enrich.services.parse import ErrorDetail
from pydantic import SecretStr

FAILURES = Failures(
    AzureConfig(endpoint="https://res.openai.azure.com", api_key=SecretStr("top-secret"))
)
READ = Operation("describe the batch b")
CREATE = Operation("create a batch on the file f", acts=True)
REQUEST: Any = None


def lost(transport: Exception, socket_error: OSError) -> openai.APIConnectionError:
    """What the client raises for a socket's error, with the causes as the transport sets them."""
    error = openai.APIConnectionError(request=REQUEST)
    transport.__context__ = socket_error
    error.__cause__ = transport
    return error


@pytest.mark.parametrize(
    ("transport", "socket_error", "read", "create", "words"),
    [
        (
            httpx.ConnectError("x"),
            ConnectionRefusedError(111, "refused"),
            TransientError,
            TransientError,
            "connection refused",
        ),
        (
            httpx.ConnectError("x"),
            socket.gaierror(-2, "unknown"),
            TransientError,
            TransientError,
            "the host's name is not known",
        ),
        (
            httpx.ConnectError("x"),
            ssl.SSLCertVerificationError(1, "self-signed"),
            ServiceError,
            ServiceError,
            "certificate is not trusted; check `endpoint`, or set SSL_CERT_FILE",
        ),
        (
            httpx.ReadError("x"),
            ConnectionResetError(104, "reset"),
            TransientError,
            UnknownOutcomeError,
            "connection reset",
        ),
        (
            httpx.ReadError("got top-secret"),
            OSError(5, ""),
            TransientError,
            UnknownOutcomeError,
            "[Errno 5]",
        ),
    ],
)
def test_the_socket_decides_the_class_and_the_words(
    transport: Exception,
    socket_error: OSError,
    read: type[ServiceError],
    create: type[ServiceError],
    words: str,
) -> None:
    """A create whose connection was made has an unknown outcome; one without has none."""
    for operation, kind in ((READ, read), (CREATE, create)):
        failure = FAILURES.of(operation, lost(transport, socket_error))
        assert type(failure) is kind
        assert operation.what in str(failure)
        assert words in str(failure)
        assert "top-secret" not in str(failure)


def test_a_timeout_tells_how_long_it_was() -> None:
    """The user learns which setting was at work."""
    failure = FAILURES.of(CREATE, openai.APITimeoutError(request=REQUEST))
    assert type(failure) is UnknownOutcomeError
    assert "silent for 300 s" in str(failure)


def test_an_error_of_the_client_itself_is_named() -> None:
    """Whatever else the client raises is taken for a lost reply."""
    assert type(FAILURES.of(READ, openai.OpenAIError("odd"))) is TransientError
    assert type(FAILURES.of(CREATE, openai.OpenAIError("odd"))) is UnknownOutcomeError
    assert "(odd)" in str(FAILURES.of(READ, openai.OpenAIError("odd")))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("key top-secret, again top-secret", "key ***, again ***"),
        ("Authorization: Bearer abc.def", "Authorization: Bearer ***"),
        ("Incorrect API key provided: sk-proj-12**ab.", "Incorrect API key provided: sk-***"),
        ("nothing to hide", "nothing to hide"),
    ],
)
def test_keys_are_taken_out_of_what_the_service_wrote(text: str, shown: str) -> None:
    """Ours, and whatever looks like one."""
    assert FAILURES.redact(text) == shown


def failures_with(key: str) -> Failures:
    """The failures of a service that is called with a key."""
    return Failures(OpenAIConfig(base_url="https://s.example/v1", api_key=SecretStr(key)))


@pytest.mark.parametrize(
    ("key", "text", "shown"),
    [
        ("e", "Bearer eyJh.abc, sk-eee", "Bearer ***, sk-***"),
        ("e", "one two", "on*** two"),
        ("*", "5 * 5", "5 *** 5"),
        ("a,b'c", "Bearer a,b'c and a,b'c", "Bearer *** and ***"),
        ("a/b", r"key a\/b", "key ***"),
    ],
)
def test_a_short_or_odd_key_leaves_no_token_behind(key: str, text: str, shown: str) -> None:
    """Whatever is found is found in one pass, tokens first."""
    assert failures_with(key).redact(text) == shown


@pytest.mark.parametrize("key", ["e", "token", "limit", "3", "token_limit_exceeded"])
def test_a_refusal_is_read_as_it_is_and_shown_without_the_key(key: str) -> None:
    """Its code decides what it is, its words tell the limit; neither is shown unmasked."""
    message = "Enqueued token limit reached: the configured limit of 30K tokens"
    detail = ErrorDetail("token_limit_exceeded", message)
    failure = failures_with(key).refused(CREATE, 400, detail, {})
    assert type(failure) is QuotaError
    assert failure.code == "token_limit_exceeded"
    assert (failure.is_of_tokens, failure.token_limit) == (True, 30_000)
    shown = str(failure).partition(", ")[2].partition("; ")[0]
    assert "***" in shown
    assert key not in shown


def test_a_code_that_is_the_status_is_not_said_twice() -> None:
    """Azure writes `"code": "401"`; another one is shown beside the status."""
    twice = failures_with("secret-1").refused(CREATE, 401, ErrorDetail("401", "Access denied"), {})
    assert "(HTTP 401):" in str(twice)
    other = failures_with("secret-1").refused(CREATE, 401, ErrorDetail("invalid_api_key", "No"), {})
    assert "(HTTP 401, invalid_api_key):" in str(other)

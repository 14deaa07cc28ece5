"""Creating a batch: what is sent, and what each way of failing says about the outcome."""

from __future__ import annotations

import threading

import pytest
from dbt_enrich.errors import (
    AuthenticationError,
    NotFoundError,
    QuotaError,
    ServiceError,
    TransientError,
    UnknownOutcomeError,
)
from dbt_enrich.services.base import BatchStatus
from dbt_enrich.services.openai import OpenAIBatchService
from functional.services.conftest import Connect
from functional.services.wire import (
    DROP,
    KEY,
    Reply,
    Request,
    batch_body,
    error_body,
    in_turn,
    settings,
)


def test_each_style_posts_to_its_own_path_with_one_credential(connect: Connect, style: str) -> None:
    """Azure gets `api-key`, OpenAI a bearer token, never both; classic paths have a version."""
    service, server = connect(in_turn(Reply(201, batch_body())), style)
    service.create("file-1", {"shard": "s1"}, "/chat/completions")
    (sent,) = server.requests
    assert sent.call == "POST /batches"
    assert sent.root == {"classic": "/openai", "v1": "/openai/v1", "openai": "/v1"}[style]
    assert sent.query == ({"api-version": ["2025-04-01-preview"]} if style == "classic" else {})
    if style == "openai":
        assert sent.headers["authorization"] == f"Bearer {KEY}"
        assert "api-key" not in sent.headers
    else:
        assert sent.headers["api-key"] == KEY
        assert "authorization" not in sent.headers
    assert sent.json == {
        "input_file_id": "file-1",
        "completion_window": "24h",
        "endpoint": "/v1/chat/completions" if style == "openai" else "/chat/completions",
        "metadata": {"shard": "s1"},
    }


@pytest.mark.parametrize("status", [200, 201, 202])
def test_any_good_status_is_a_created_batch(connect: Connect, status: int) -> None:
    """Documents disagree on the status of a create, so any 2xx counts."""
    service, _ = connect(in_turn(Reply(status, batch_body())))
    batch = service.create("file-1", {}, "/chat/completions")
    assert (batch.id, batch.status) == ("batch_1", BatchStatus.VALIDATING)
    assert (batch.output_file_id, batch.error_file_id) == (None, None)


def test_the_enqueued_tokens_are_read_from_the_headers(connect: Connect) -> None:
    """Azure tells in headers how full the deployment's queue is."""
    headers = {"Deployment-Enqueued-Tokens": "120", "deployment-maximum-enqueued-tokens": "50000"}
    service, _ = connect(in_turn(Reply(201, batch_body(), headers)))
    batch = service.create("file-1", {}, "/chat/completions")
    assert (batch.enqueued_tokens, batch.max_enqueued_tokens) == (120, 50_000)


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(DROP, id="no reply"),
        pytest.param(Reply(201, batch_body(), cut=0, reset=True), id="reset"),
        pytest.param(Reply(201, batch_body(), cut=20), id="reply cut"),
        pytest.param(Reply(408, error_body("timeout", "too slow")), id="408"),
        pytest.param(Reply(409, error_body("conflict", "busy")), id="409"),
        pytest.param(Reply(500, error_body("internalFailure", "no")), id="500"),
        pytest.param(Reply(502, b"<html><h1>Bad Gateway</h1></html>"), id="502"),
        pytest.param(Reply(503, b"", {"retry-after": "1"}), id="503"),
        pytest.param(Reply(504, b"upstream timed out"), id="504"),
        pytest.param(Reply(201, b"<html>proxy</html>"), id="not JSON"),
        pytest.param(Reply(201, b""), id="empty"),
        pytest.param(Reply(201, []), id="not an object"),
        pytest.param(Reply(201, {"status": "validating"}), id="no id"),
        pytest.param(Reply(200, error_body("internalFailure", "no")), id="error with 200"),
    ],
)
def test_a_lost_or_doubtful_reply_is_an_unknown_outcome(
    connect: Connect, style: str, reply: Reply
) -> None:
    """The service may have acted: the call is not repeated, and the caller is told to look."""
    service, server = connect(in_turn(reply, Reply(201, batch_body())), style)
    with pytest.raises(UnknownOutcomeError, match="look for it before it is asked for again"):
        service.create("file-1", {}, "/chat/completions")
    assert len(server.calls("POST /batches")) == 1


def test_a_reply_that_does_not_come_in_time_is_an_unknown_outcome(connect: Connect) -> None:
    """A read timeout comes after the request was sent."""
    over = threading.Event()

    def respond(request: Request) -> Reply:
        over.wait(10)
        return Reply(201, batch_body())

    service, server = connect(respond, timeout=0.2)
    with pytest.raises(UnknownOutcomeError, match=r"silent for 0\.2 s"):
        service.create("file-1", {}, "/chat/completions")
    over.set()
    assert len(server.calls("POST /batches")) == 1


def test_a_connection_that_was_never_made_is_transient(unused_address: str) -> None:
    """Nothing was sent, so nothing can have been created."""
    service = OpenAIBatchService(settings(unused_address))
    with pytest.raises(TransientError, match="connection refused") as caught:
        service.create("file-1", {}, "/chat/completions")
    assert "`endpoint`" in str(caught.value)


def test_what_the_caller_is_handling_does_not_decide_the_outcome(
    connect: Connect, unused_address: str
) -> None:
    """An earlier refused connection in the caller's hands does not make a lost reply harmless."""
    service, _ = connect(in_turn(DROP))
    try:
        OpenAIBatchService(settings(unused_address)).create("file-1", {}, "/chat/completions")
    except TransientError:
        with pytest.raises(UnknownOutcomeError):
            service.create("file-1", {}, "/chat/completions")


@pytest.mark.parametrize(
    ("reply", "kind", "words"),
    [
        (Reply(400, error_body("token_limit_exceeded", "Too many")), QuotaError, "earlier work"),
        (
            Reply(400, error_body("BadRequest", "… token_limit_exceeded for the deployment")),
            QuotaError,
            "earlier work",
        ),
        (
            Reply(429, error_body("x", "The number of enqueued tokens has surpassed the limit")),
            QuotaError,
            "earlier work",
        ),
        (Reply(429, error_body("insufficient_quota", "Pay")), ServiceError, "billing"),
        (Reply(429, error_body("tooManyRequests", "Slow down")), TransientError, "try again"),
        (
            Reply(400, error_body("invalid", "The input file 'file-1' is in 'pending' state.")),
            TransientError,
            "still being checked",
        ),
        (Reply(401, {"statusCode": 401, "message": "no"}), AuthenticationError, "`api_key`"),
        (Reply(403, error_body("403", "Access denied")), AuthenticationError, "network"),
        (Reply(404, error_body("notFound", "No file")), NotFoundError, "upload it again"),
        (Reply(413, b"too large"), ServiceError, "`max_bytes_per_file`"),
        (Reply(422, {"detail": [{"loc": ["body"]}]}), ServiceError, "correct what it names"),
        (
            Reply(400, error_body("OperationNotSupported", "not for this")),
            ServiceError,
            "Global Batch",
        ),
    ],
)
def test_a_refusal_says_that_nothing_was_created(
    connect: Connect, reply: Reply, kind: type[ServiceError], words: str
) -> None:
    """Each refusal has its own class, quotes the service and names the fix; one call is made."""
    service, server = connect(in_turn(reply))
    with pytest.raises(kind) as caught:
        service.create("file-1", {}, "/chat/completions")
    assert type(caught.value) is kind
    assert caught.value.status == reply.status
    assert str(caught.value).startswith("The service at 127.0.0.1:")
    assert "create a batch on the file file-1" in str(caught.value)
    assert words in str(caught.value)
    assert len(server.requests) == 1


def test_retry_after_is_passed_on(connect: Connect) -> None:
    """A create is not repeated here, so the caller learns how long to wait."""
    service, _ = connect(
        in_turn(Reply(429, error_body("tooManyRequests", "no"), {"Retry-After": "17"}))
    )
    with pytest.raises(TransientError) as caught:
        service.create("file-1", {}, "/chat/completions")
    assert (caught.value.retry_after, caught.value.code) == (17.0, "tooManyRequests")

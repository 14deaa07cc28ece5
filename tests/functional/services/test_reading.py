"""Polling, listing and cancelling over real HTTP: retries, pages and odd shapes."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from dbt_enrich.errors import (
    AuthenticationError,
    NotFoundError,
    ServiceError,
    TransientError,
    UnreadableReplyError,
)
from dbt_enrich.services.base import BatchStatus, RequestCounts
from dbt_enrich.services.openai import OpenAIBatchService
from functional.services.conftest import Connect
from functional.services.wire import (
    DROP,
    Reply,
    Request,
    batch_body,
    error_body,
    file_body,
    in_turn,
    settings,
)

SOON = {"retry-after-ms": "5"}


def test_a_batch_is_read_by_its_id(connect: Connect, style: str) -> None:
    """Each style asks below its own root; odd shapes in the reply do no harm."""
    body = batch_body(
        status="Finalizing",
        created_at="2025-01-02T03:04:05Z",
        request_counts={"total": 3, "completed": None},
        metadata=None,
        brand_new_field={"x": [1]},
    )
    service, server = connect(in_turn(Reply(200, body)), style)
    batch = service.batch("batch_1")
    assert server.requests[0].call == "GET /batches/batch_1"
    assert batch.status is BatchStatus.FINALIZING
    assert batch.counts == RequestCounts(total=3)
    assert batch.metadata == {}
    assert batch.created_at is not None
    assert batch.created_at.isoformat() == "2025-01-02T03:04:05+00:00"


def test_a_poll_waits_as_long_as_the_service_asks(connect: Connect) -> None:
    """429 with `Retry-After` is waited out and asked again, by the client itself."""
    service, server = connect(
        in_turn(
            Reply(429, error_body("tooManyRequests", "x"), {"retry-after-ms": "300"}),
            Reply(200, batch_body()),
        )
    )
    before = time.monotonic()
    assert service.batch("batch_1").id == "batch_1"
    assert time.monotonic() - before >= 0.3
    assert len(server.requests) == 2


@pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503])
def test_a_read_is_repeated_until_it_works(connect: Connect, status: int) -> None:
    """What may pass is asked again up to `max_retries` times."""
    failure = Reply(status, b"", SOON)
    service, server = connect(in_turn(failure, failure, Reply(200, batch_body())), max_retries=2)
    assert service.batch("batch_1").id == "batch_1"
    assert len(server.requests) == 3


def test_a_read_that_keeps_failing_is_transient(connect: Connect) -> None:
    """After the last retry the caller gets the service's words, and what it asked to wait."""
    service, server = connect(
        in_turn(Reply(503, error_body("serviceUnavailable", "Come back later"), SOON)),
        max_retries=1,
    )
    with pytest.raises(TransientError, match="Come back later") as caught:
        service.batch("batch_1")
    assert caught.value.retry_after == pytest.approx(0.005)
    assert len(server.requests) == 2


def test_a_very_long_retry_after_is_left_to_the_caller(connect: Connect) -> None:
    """The client does not sleep for an hour inside a call."""
    service, server = connect(in_turn(Reply(429, b"", {"retry-after": "3600"})))
    with pytest.raises(TransientError) as caught:
        service.batch("batch_1")
    assert caught.value.retry_after == 3600
    # Older versions of the client repeat such a call after pauses of their own.
    assert len(server.requests) <= 3


def test_a_lost_reply_to_a_read_is_asked_again(connect: Connect) -> None:
    """Reading twice does no harm."""
    service, server = connect(in_turn(DROP, Reply(200, batch_body())))
    assert service.batch("batch_1").id == "batch_1"
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (Reply(401, {"statusCode": 401, "message": "bad key"}), AuthenticationError),
        (Reply(403, b"Forbidden"), AuthenticationError),
        (Reply(404, error_body("notFound", "gone")), NotFoundError),
        (Reply(200, error_body("notFound", "gone")), NotFoundError),
        (Reply(200, {"statusCode": 401, "message": "bad key"}), AuthenticationError),
        (Reply(200, {"error": "something"}), ServiceError),
        (Reply(200, b"<html>hello</html>", {"content-type": "text/html"}), UnreadableReplyError),
        (Reply(200, b"{"), UnreadableReplyError),
        (Reply(200, b""), UnreadableReplyError),
        (Reply(200, ["x"]), UnreadableReplyError),
        (Reply(200, b"[" * 100_000), UnreadableReplyError),
        (Reply(204, b""), UnreadableReplyError),
        (Reply(304, b""), ServiceError),
    ],
)
def test_a_bad_reply_is_a_named_failure(
    connect: Connect, reply: Reply, kind: type[ServiceError]
) -> None:
    """Nothing but our own errors comes out, each a sentence with the host and the call."""
    service, _ = connect(in_turn(reply), max_retries=0)
    with pytest.raises(kind) as caught:
        service.batch("batch_9")
    assert type(caught.value) is kind
    assert "127.0.0.1" in str(caught.value)
    assert "describe the batch batch_9" in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


def test_a_reply_without_an_id_keeps_the_one_that_was_asked_for(connect: Connect) -> None:
    """The id in the reply is not needed to know which batch it is about."""
    service, _ = connect(in_turn(Reply(200, {"id": "", "status": "completed"})))
    batch = service.batch("batch_1")
    assert (batch.id, batch.status) == ("batch_1", BatchStatus.COMPLETED)


def test_a_host_that_is_not_known_is_named(connect: Connect) -> None:
    """DNS fails before anything is sent; the sentence names the key of the profile."""
    service = OpenAIBatchService(settings("https://no-such-resource.invalid", max_retries=0))
    with pytest.raises(TransientError, match=r"no-such-resource\.invalid.*name is not known"):
        service.batch("batch_1")


def paged(request: Request, *, ids: list[str], size: int) -> Reply:
    """Answer a list as OpenAI does."""
    start = ids.index(request.query["after"][0]) + 1 if "after" in request.query else 0
    page = [batch_body(id=name) for name in ids[start : start + size]]
    return Reply(
        200,
        {
            "object": "list",
            "data": page,
            "last_id": page[-1]["id"] if page else None,
            "has_more": start + size < len(ids),
        },
    )


def test_all_pages_of_batches_are_followed(connect: Connect, style: str) -> None:
    """`after` goes on from the last id until there is no more."""
    ids = [f"batch_{number}" for number in range(7)]
    service, server = connect(lambda request: paged(request, ids=ids, size=3), style)
    assert [batch.id for batch in service.batches()] == ids
    assert [request.query.get("after") for request in server.requests] == [
        None,
        ["batch_2"],
        ["batch_5"],
    ]


def test_pages_are_fetched_as_they_are_wanted(connect: Connect) -> None:
    """Who finds their batch on the first page does not pay for the others."""
    ids = [f"batch_{number}" for number in range(7)]
    service, server = connect(lambda request: paged(request, ids=ids, size=3))
    assert next(service.batches()).id == "batch_0"
    assert len(server.requests) == 1


def test_a_list_under_value_without_has_more_is_read(connect: Connect) -> None:
    """Seen on Azure: `value` for `data`. Where `has_more` is missing, one more page is asked."""
    service, server = connect(
        in_turn(Reply(200, {"value": [batch_body(id="b1"), batch_body(id="b2")]}))
    )
    assert [batch.id for batch in service.batches()] == ["b1", "b2"]
    assert len(server.requests) == 2


def test_items_that_move_between_pages_come_once(connect: Connect) -> None:
    """A batch created during the listing shifts the pages by one."""
    service, _ = connect(
        in_turn(
            Reply(200, {"data": [batch_body(id="b1"), batch_body(id="b2")], "has_more": True}),
            Reply(200, {"data": [batch_body(id="b2"), batch_body(id="b3")], "has_more": False}),
        )
    )
    assert [batch.id for batch in service.batches()] == ["b1", "b2", "b3"]


def test_a_list_that_does_not_get_on_is_not_believed(connect: Connect) -> None:
    """A service that ignores `after` would hide batches, and they would be paid for again."""
    service, server = connect(in_turn(Reply(200, {"data": [batch_body()], "has_more": True})))
    with pytest.raises(ServiceError, match="repeats what it has sent"):
        list(service.batches())
    assert len(server.requests) == 2


def test_a_list_that_is_no_list_is_a_failure(connect: Connect) -> None:
    """No batches and no list are different things."""
    service, _ = connect(in_turn(Reply(200, {"hello": 1})))
    with pytest.raises(ServiceError, match="not a list"):
        list(service.batches())


def test_an_empty_list_is_empty(connect: Connect) -> None:
    """A new resource has no batches."""
    service, server = connect(in_turn(Reply(200, {"data": [], "has_more": False})))
    assert list(service.batches()) == []
    assert len(server.requests) == 1


def test_only_batch_input_files_are_listed(connect: Connect, style: str) -> None:
    """Where the service ignores `purpose`, others are left out here."""
    files = [file_body(id="f1"), file_body(id="f2", purpose="batch_output"), file_body(id="f3")]
    service, server = connect(in_turn(Reply(200, {"data": files, "has_more": False})), style)
    assert [file.id for file in service.files()] == ["f1", "f3"]
    assert server.requests[0].call == "GET /files"
    assert server.requests[0].query["purpose"] == ["batch"]


def test_cancel_asks_the_service(connect: Connect, style: str) -> None:
    """A running batch is cancelled by one call."""
    service, server = connect(in_turn(Reply(200, batch_body(status="cancelling"))), style)
    assert service.cancel("batch_1").status is BatchStatus.CANCELLING
    assert [request.call for request in server.requests] == ["POST /batches/batch_1/cancel"]


@pytest.mark.parametrize("status", [400, 409, 500])
@pytest.mark.parametrize("state", ["completed", "canceled", "cancelling"])
def test_cancelling_what_has_ended_returns_it(connect: Connect, status: int, state: str) -> None:
    """The refusal to cancel an ended batch, or a lost reply to a cancel, is not a failure."""

    def respond(request: Request) -> Reply:
        if request.method == "POST":
            return Reply(status, error_body("conflict", "cannot be cancelled"), SOON)
        return Reply(200, batch_body(status=state))

    service, server = connect(respond)
    batch = service.cancel("batch_1")
    assert batch.status.is_terminal or batch.status is BatchStatus.CANCELLING
    assert len(server.requests) == 2


def test_a_cancel_that_failed_is_repeated(connect: Connect) -> None:
    """A batch that still runs after a failed cancel is asked to stop again."""
    cancels = in_turn(Reply(503, b"", SOON), Reply(200, batch_body(status="cancelling")))

    def respond(request: Request) -> Reply:
        running = Reply(200, batch_body(status="in_progress"))
        return cancels(request) if request.method == "POST" else running

    service, server = connect(respond)
    assert service.cancel("batch_1").status is BatchStatus.CANCELLING
    assert len(server.calls("POST /batches/batch_1/cancel")) == 2


def test_a_batch_that_is_not_there_cannot_be_cancelled(connect: Connect) -> None:
    """It is named, and not looked for."""
    service, server = connect(in_turn(Reply(404, error_body("notFound", "no batch"))))
    with pytest.raises(NotFoundError, match="cancel the batch batch_1"):
        service.cancel("batch_1")
    assert len(server.requests) == 1


def test_one_service_serves_many_threads(connect: Connect) -> None:
    """Each thread gets the reply to its own call."""

    def respond(request: Request) -> Reply:
        return Reply(200, batch_body(id=request.path.rpartition("/")[2]))

    service, _ = connect(respond)
    ids = [f"batch_{number}" for number in range(60)]
    with ThreadPoolExecutor(12) as pool:
        assert [batch.id for batch in pool.map(service.batch, ids)] == ids


def test_chat_sends_the_body_and_returns_the_reply(connect: Connect, style: str) -> None:
    """Azure's dated paths name the deployment; the body is sent as it is, unknown keys too."""
    answer = {"id": "c1", "choices": [{"message": {"content": "hi"}}], "model": "m"}
    service, server = connect(in_turn(Reply(200, answer)), style)
    body = {"model": "gpt", "messages": [{"role": "user", "content": "é"}], "new_parameter": 1}
    assert service.ask("/chat/completions", body) == answer
    assert server.requests[0].json == body
    assert server.requests[0].path == (
        "/deployments/gpt/chat/completions" if style == "classic" else "/chat/completions"
    )


def test_chat_on_a_batch_deployment_names_the_mend(connect: Connect) -> None:
    """A batch deployment refuses single requests in words that do not say so."""
    refusal = error_body("OperationNotSupported", "The chatCompletion operation does not work")
    service, _ = connect(in_turn(Reply(400, refusal)))
    with pytest.raises(ServiceError, match="standard deployment"):
        service.ask("/chat/completions", {"model": "gpt-batch", "messages": []})


def test_close_may_be_called_twice(connect: Connect) -> None:
    """Closing is safe in every `finally`."""
    service, _ = connect(in_turn(Reply(200, batch_body())))
    service.close()
    service.close()

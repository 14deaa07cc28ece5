"""Reading replies in all the shapes that services were seen to use."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from dbt_enrich.services.base import (
    BatchError,
    BatchStatus,
    FileStatus,
    RemoteBatch,
    RemoteFile,
    RequestCounts,
)
from dbt_enrich.services.parse import (
    ErrorDetail,
    MalformedReplyError,
    is_error,
    parse_batch,
    parse_error,
    parse_errors,
    parse_file,
    parse_file_status,
    parse_json,
    parse_page,
    parse_retry_after,
    parse_status,
    parse_time,
)
from hypothesis import given, settings
from hypothesis import strategies as st

NOON = datetime(2024, 7, 3, 9, 46, 40, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "status"),
    [
        ("validating", BatchStatus.VALIDATING),
        ("Validating", BatchStatus.VALIDATING),
        ("in_progress", BatchStatus.IN_PROGRESS),
        ("InProgress", BatchStatus.IN_PROGRESS),
        ("in progress", BatchStatus.IN_PROGRESS),
        (" FINALIZING ", BatchStatus.FINALIZING),
        ("completed", BatchStatus.COMPLETED),
        ("succeeded", BatchStatus.COMPLETED),
        ("Failed", BatchStatus.FAILED),
        ("expired", BatchStatus.EXPIRED),
        ("cancelling", BatchStatus.CANCELLING),
        ("canceling", BatchStatus.CANCELLING),
        ("cancelled", BatchStatus.CANCELLED),
        ("Canceled", BatchStatus.CANCELLED),
        ("notRunning", BatchStatus.VALIDATING),
    ],
)
def test_a_status_is_known_in_any_case_and_spelling(value: str, status: BatchStatus) -> None:
    """Documents and services do not agree on case, underscores and the second l."""
    assert parse_status(value, "b") is status


@pytest.mark.parametrize("value", ["brand_new", "", None, 7, [], True])
def test_an_unknown_status_is_watched_on(value: object, caplog: pytest.LogCaptureFixture) -> None:
    """Neither an end nor an error: nothing is sent again for a word, and a warning says so."""
    assert parse_status(value, "batch_7") is BatchStatus.IN_PROGRESS
    assert "batch_7" in caplog.text


def test_only_four_states_end_a_batch() -> None:
    """A loop that waits for anything else never ends."""
    ends = {status for status in BatchStatus if status.is_terminal}
    assert ends == {
        BatchStatus.COMPLETED,
        BatchStatus.FAILED,
        BatchStatus.EXPIRED,
        BatchStatus.CANCELLED,
    }


@pytest.mark.parametrize(
    ("value", "status"),
    [
        ("pending", FileStatus.PENDING),
        ("Running", FileStatus.PENDING),
        ("processed", FileStatus.PROCESSED),
        ("uploaded", FileStatus.PROCESSED),
        (None, FileStatus.PROCESSED),
        ("", FileStatus.PROCESSED),
        ("Error", FileStatus.ERROR),
        ("deleted", FileStatus.ERROR),
    ],
)
def test_a_file_status_says_whether_to_wait(value: object, status: FileStatus) -> None:
    """OpenAI leaves ready files at `uploaded` or says nothing; Azure wants a wait."""
    assert parse_file_status(value) is status


@pytest.mark.parametrize(
    ("value", "time"),
    [
        (1_720_000_000, NOON),
        (1_720_000_000.0, NOON),
        ("1720000000", NOON),
        (1_720_000_000_000, NOON),
        ("2024-07-03T09:46:40Z", NOON),
        ("2024-07-03T11:46:40+02:00", NOON),
        ("2024-07-03T09:46:40", NOON),
        ("20240703", datetime(2024, 7, 3, tzinfo=UTC)),
        (None, None),
        ("", None),
        (0, None),
        (-5, None),
        ("soon", None),
        (True, None),
        (float("nan"), None),
        (float("inf"), None),
        (10**40, None),
        ("9" * 5000, None),
        ("0001-01-01T00:00:00+23:59", None),
        ({}, None),
    ],
)
def test_a_time_is_read_in_any_type(value: object, time: datetime | None) -> None:
    """Numbers, texts and nothing at all; what cannot be read is None, in UTC what can."""
    assert parse_time(value) == time


@pytest.mark.parametrize(
    "errors",
    [
        {"object": "list", "data": [{"code": "c", "message": "m", "line": 3, "param": "p"}]},
        {"object": "list", "data": {"code": "c", "message": "m", "line": "3", "param": "p"}},
        {"data": [{"code": "c", "message": "m", "line": 3.0, "param": "p"}, None]},
        [{"code": "c", "message": "m", "line": 3, "param": "p"}],
        {"code": "c", "message": "m", "line": 3, "param": "p"},
    ],
)
def test_errors_are_a_list_or_one_object(errors: object) -> None:
    """Azure's own description of the API has one object where the service sends a list."""
    assert parse_errors(errors) == (BatchError("c", "m", 3, "p"),)


@pytest.mark.parametrize(
    "errors", [None, {}, [], "", {"data": None}, {"data": []}, {"object": "l"}]
)
def test_no_errors_are_no_errors(errors: object) -> None:
    """A batch that did not fail has none, in any of these shapes."""
    assert parse_errors(errors) == ()


def test_an_error_that_is_only_a_text_is_kept() -> None:
    """Its code is then `unknown`."""
    assert parse_errors("it broke\nbadly") == (BatchError("unknown", "it broke badly"),)
    assert parse_errors({"data": ["x", {"message": None}]}) == (
        BatchError("unknown", "x"),
        BatchError("unknown", ""),
    )


def test_a_whole_batch_is_read() -> None:
    """All that the engine uses, and no more."""
    data = {
        "id": "batch_1",
        "status": "completed",
        "input_file_id": "file-in",
        "output_file_id": "file-out",
        "error_file_id": "",
        "metadata": {"a": "b", "n": 5, "none": None, "": "x"},
        "request_counts": {"total": "3", "completed": 2.0, "failed": None},
        "errors": None,
        "created_at": 1_720_000_000,
        "endpoint": None,
        "usage": {"input_tokens": 1},
    }
    headers = {"deployment-enqueued-tokens": "7", "deployment-maximum-enqueued-tokens": "x"}
    assert parse_batch(data, headers) == RemoteBatch(
        id="batch_1",
        status=BatchStatus.COMPLETED,
        input_file_id="file-in",
        output_file_id="file-out",
        error_file_id=None,
        metadata={"a": "b", "n": "5", "none": ""},
        counts=RequestCounts(total=3, completed=2, failed=0),
        created_at=NOON,
        enqueued_tokens=7,
    )


@pytest.mark.parametrize("absent", ["", None])
def test_a_batch_on_blobs_is_one_whose_files_are_addresses(absent: str | None) -> None:
    """As Azure shows it; a batch on a file may have the same fields, empty."""
    ids = {f"{kind}_file_id": absent for kind in ("input", "output", "error")}
    blobs = {"input_blob": "https://a/c/in", "output_blob": "https://a/c/out", "error_blob": absent}
    batch = parse_batch({"id": "b", "status": "completed", **ids, **blobs})
    assert batch.is_on_blob
    assert (batch.input_file_id, batch.output_file_id) == ("https://a/c/in", "https://a/c/out")
    assert batch.error_file_id is None
    none = dict.fromkeys(blobs, absent)
    batch = parse_batch({"id": "b", "status": "completed", **none, "input_file_id": "file-in"})
    assert (batch.is_on_blob, batch.input_file_id) == (False, "file-in")


def test_a_batch_of_nulls_is_read() -> None:
    """Only the id has to be there."""
    names = ("status", "metadata", "request_counts", "errors", "created_at", "input_file_id")
    batch = parse_batch({"id": "b", **dict.fromkeys(names)})
    assert batch == RemoteBatch(id="b", status=BatchStatus.IN_PROGRESS)


def test_a_text_that_cannot_be_stored_is_made_storable() -> None:
    """JSON can escape half of a surrogate pair, which no database takes."""
    file = parse_file(parse_json(r'{"id": "f", "filename": "a\ud800b", "bytes": -1}'))
    assert file == RemoteFile("f", "a?b", FileStatus.PROCESSED)


@pytest.mark.parametrize("data", [None, [], "x", 5, {}, {"id": ""}, {"id": None}, {"id": []}])
def test_what_is_no_batch_is_refused(data: object) -> None:
    """A reply without an id is about nothing."""
    with pytest.raises(MalformedReplyError):
        parse_batch(data)
    with pytest.raises(MalformedReplyError):
        parse_file(data)


@pytest.mark.parametrize(
    ("data", "has_more", "last_id"),
    [
        ({"data": [{"id": "a"}, {"id": "b"}], "has_more": True, "last_id": "z"}, True, "z"),
        ({"data": [{"id": "a"}, {"id": "b"}], "has_more": False}, False, "b"),
        ({"value": [{"id": "a"}, {"id": "b"}], "has_more": None}, None, "b"),
        ({"data": None, "value": [{"id": "a"}, {"id": "b"}]}, None, "b"),
        ([{"id": "a"}, {"id": "b"}], None, "b"),
        ({"data": [{"id": "a"}, None, {"id": ""}, "x", {"id": "b"}], "last_id": ""}, None, "b"),
    ],
)
def test_a_page_is_read_in_each_shape(data: object, has_more: object, last_id: str) -> None:
    """`data` or `value`; entries without an id are left out."""
    page = parse_page(data)
    assert [item["id"] for item in page.items] == ["a", "b"]
    assert (page.has_more, page.last_id) == (has_more, last_id)


@pytest.mark.parametrize("data", [None, {}, {"data": {"id": "a"}}, "x", 5, {"value": None}])
def test_what_is_no_list_is_refused(data: object) -> None:
    """It must not be taken for an empty list: a batch that was not found is sent again."""
    with pytest.raises(MalformedReplyError):
        parse_page(data)


@pytest.mark.parametrize(
    ("content", "detail"),
    [
        (b'{"error": {"code": "c", "message": "m", "type": "t"}}', ErrorDetail("c", "m")),
        (b'{"error": {"code": null, "message": "m", "type": "t"}}', ErrorDetail("t", "m")),
        (b'{"error": {"code": 404, "message": "m"}}', ErrorDetail("404", "m")),
        (b'{"statusCode": 401, "message": "m"}', ErrorDetail(None, "m")),
        (b'{"error": "c", "error_description": "m"}', ErrorDetail("c", "m")),
        (b'{"error": "c"}', ErrorDetail("c", "c")),
        (b'{"detail": "m"}', ErrorDetail(None, "m")),
        (b'{"detail": [{"msg": "m"}]}', ErrorDetail(None, '[{"msg": "m"}]')),
        (b'{"type": "about:blank", "title": "m"}', ErrorDetail("about:blank", "m")),
        (b'"m"', ErrorDetail(None, "m")),
        (b"[1]", ErrorDetail(None, "")),
        (b"null", ErrorDetail(None, "")),
        (b"", ErrorDetail(None, "")),
        (b"plain \n text\x00", ErrorDetail(None, "plain text")),
        (b"<html><style>p {}</style><h1>Bad</h1> Gateway", ErrorDetail(None, "Bad Gateway")),
        (b"\xff\xfe", ErrorDetail(None, "\ufffd\ufffd")),
    ],
)
def test_an_error_body_is_read_in_each_flavour(content: bytes, detail: ErrorDetail) -> None:
    """OpenAI's, Azure's, its gateway's, FastAPI's, RFC 7807's, a proxy's page, nothing."""
    assert parse_error(content) == detail


def test_a_long_error_is_cut() -> None:
    """A page of HTML does not fill the log."""
    detail = parse_error(b"x" * 100_000)
    assert len(detail.message) == 600
    assert detail.message.endswith("…")


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({"error": {"message": "m"}}, True),
        ({"error": "m"}, True),
        ({"statusCode": 404, "message": "m"}, True),
        ({"error": None, "data": []}, False),
        ({"id": "b", "status": "failed", "error": {"message": "m"}}, False),
        ({"id": "f"}, False),
        ({}, False),
        ([], False),
    ],
)
def test_an_error_with_a_good_status_is_recognised(data: object, expected: bool) -> None:
    """A batch that failed is a batch, not an error."""
    assert is_error(data) is expected


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "5"}, 5.0),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after": "Wed, 03 Jul 2024 09:47:00 GMT"}, 20.0),
        ({"retry-after": "Wed, 03 Jul 2024 09:40:00 GMT"}, 0.0),
        ({"retry-after": "Wed, 03 Jul 2024 09:47:00"}, 20.0),
        ({"retry-after": "later"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": ""}, None),
        ({}, None),
    ],
)
def test_retry_after_is_seconds_or_a_date(headers: dict[str, str], seconds: float | None) -> None:
    """Azure sends milliseconds beside it, which are more exact."""
    assert parse_retry_after(headers, now=NOON.timestamp()) == seconds


_names = st.sampled_from(
    [
        *("id", "status", "data", "value", "errors", "error", "message", "code", "line", "bytes"),
        *("metadata", "request_counts", "total", "created_at", "has_more", "last_id", "filename"),
    ]
)
_json: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(), max_size=8)
    | st.sampled_from(["2024-07-03T09:46:40Z", "9" * 400, "-0", "1e999", "Completed"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(_names | st.text(max_size=4), inner, max_size=6)
    ),
    max_leaves=12,
)


@given(data=_json)
@settings(max_examples=300, deadline=None)
def test_nothing_but_a_named_failure_comes_out(data: object) -> None:
    """Whatever JSON a service sends, reading it gives a value or a `MalformedReplyError`."""
    for parse in (parse_batch, parse_file, parse_page):
        try:
            result = parse(data)
        except MalformedReplyError:
            continue
        assert repr(result).encode("utf-8")
    is_error(data)
    parse_errors(data)
    parse_time(data)


@given(content=st.binary(max_size=200))
@settings(max_examples=200, deadline=None)
def test_any_bytes_are_an_error_body(content: bytes) -> None:
    """An error body is a text of one line, whatever it was."""
    detail = parse_error(content)
    assert "\n" not in detail.message
    assert detail.message.encode("utf-8") is not None

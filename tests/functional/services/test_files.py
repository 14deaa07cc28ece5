"""Uploading, describing and deleting files over real HTTP."""

from __future__ import annotations

import subprocess
import sys
from email.parser import BytesParser
from email.policy import HTTP
from pathlib import Path

import pytest
from dbt_enrich.errors import LedgerError, NotFoundError, QuotaError, ServiceError, TransientError
from dbt_enrich.services.base import FileStatus
from functional.services.conftest import Connect
from functional.services.wire import (
    DROP,
    Reply,
    Request,
    error_body,
    file_body,
    in_turn,
    settings,
)

SOON = {"retry-after-ms": "5"}
LINES = '{"custom_id":"1","body":{"text":"é ☕ \\u2028"}}\n'.encode() * 3000


@pytest.fixture
def shard(tmp_path: Path) -> Path:
    """A request file."""
    path = tmp_path / "shard.jsonl"
    path.write_bytes(LINES)
    return path


def form(request: Request) -> dict[str, tuple[str | None, bytes]]:
    """The fields of a multipart form: their file names and contents."""
    head = f"Content-Type: {request.headers['content-type']}\r\n\r\n".encode()
    message = BytesParser(policy=HTTP).parsebytes(head + request.body)
    fields = {}
    for part in message.iter_parts():
        content = part.get_payload(decode=True)
        assert isinstance(content, bytes)
        name = part.get_param("name", header="content-disposition")
        fields[str(name)] = (part.get_filename(), content)
    return fields


def test_upload_sends_the_file_its_purpose_and_its_expiry(
    connect: Connect, style: str, shard: Path
) -> None:
    """The multipart form carries the bytes as they are, under the name that was given."""
    service, server = connect(in_turn(Reply(201, file_body(status="pending"))), style)
    file = service.upload(shard, filename="ns-shard-1.jsonl")
    assert (file.id, file.status) == ("file-1", FileStatus.PENDING)
    (sent,) = server.requests
    assert sent.call == "POST /files"
    assert "content-length" in sent.headers
    assert form(sent) == {
        "purpose": (None, b"batch"),
        "expires_after[anchor]": (None, b"created_at"),
        "expires_after[seconds]": (None, b"2592000"),
        "file": ("ns-shard-1.jsonl", LINES),
    }


@pytest.mark.parametrize(
    ("style", "changes", "days"),
    [
        ("classic", {"api_version": "2024-10-21"}, None),
        ("classic", {"api_version": "2025-03-01-preview"}, 30),
        ("v1", {"file_expiry_days": 14}, 14),
        ("v1", {"file_expiry_days": None}, None),
        ("openai", {"file_expiry_days": 1}, 1),
    ],
)
def test_expiry_is_sent_where_the_service_knows_it(
    connect: Connect, shard: Path, style: str, changes: dict[str, object], days: int | None
) -> None:
    """Azure's dated versions before 2025-03-01-preview are not sent a field they do not have."""
    service, server = connect(in_turn(Reply(200, file_body())), style, **changes)
    service.upload(shard, filename="s.jsonl")
    seconds = form(server.requests[0]).get("expires_after[seconds]")
    assert seconds == (None if days is None else (None, str(days * 86_400).encode()))


@pytest.mark.parametrize("failure", [DROP, Reply(503, b"", SOON), Reply(429, b"", SOON)])
def test_a_repeated_upload_sends_the_whole_file_again(
    connect: Connect, shard: Path, failure: Reply
) -> None:
    """The second try begins at the first byte."""
    service, server = connect(in_turn(failure, Reply(200, file_body())))
    service.upload(shard, filename="s.jsonl")
    assert [form(request)["file"][1] for request in server.requests] == [LINES, LINES]


def test_a_full_resource_is_a_quota_error(connect: Connect, shard: Path) -> None:
    """Azure holds at most so many files; waiting or deleting helps."""
    full = error_body("quotaExceeded", "The quota for files without expiry is reached.")
    service, _ = connect(in_turn(Reply(400, full)))
    with pytest.raises(QuotaError, match=r"upload s\.jsonl"):
        service.upload(shard, filename="s.jsonl")


def test_a_resource_without_batches_names_the_mend(connect: Connect, shard: Path) -> None:
    """A region without batches refuses the upload in one word."""
    service, _ = connect(in_turn(Reply(400, error_body("OperationNotSupported", "no"))))
    with pytest.raises(ServiceError, match="region that offers it"):
        service.upload(shard, filename="s.jsonl")


def test_a_request_file_that_is_gone_is_named(connect: Connect, tmp_path: Path) -> None:
    """Nothing is sent for a file that cannot be read."""
    service, server = connect(in_turn(Reply(200, file_body())))
    with pytest.raises(LedgerError, match=r"gone\.jsonl could not be read"):
        service.upload(tmp_path / "gone.jsonl", filename="gone.jsonl")
    assert server.requests == []


def test_a_file_is_described(connect: Connect, style: str) -> None:
    """Status in any case; an id that is missing is the one that was asked for."""
    body = file_body(id=None, status="Error", status_details="bad line 3", created_at=None)
    service, server = connect(in_turn(Reply(200, body)), style)
    file = service.file("file-1")
    assert server.requests[0].call == "GET /files/file-1"
    assert (file.id, file.status, file.status_details) == ("file-1", FileStatus.ERROR, "bad line 3")


@pytest.mark.parametrize(
    "reply",
    [Reply(200, {"id": "file-1", "deleted": True}), Reply(204, b""), Reply(404, b"")],
)
def test_a_file_is_deleted_or_was_gone(connect: Connect, style: str, reply: Reply) -> None:
    """Azure answers 204 without a body; a file that is not there counts as deleted."""
    service, server = connect(in_turn(reply), style)
    service.delete_file("file-1")
    assert server.requests[0].call == "DELETE /files/file-1"


def test_a_lost_reply_to_a_delete_ends_well(connect: Connect) -> None:
    """The second try finds nothing, which is what was wanted."""
    service, server = connect(in_turn(DROP, Reply(404, error_body("notFound", "gone"))))
    service.delete_file("file-1")
    assert len(server.requests) == 2


def test_a_file_that_cannot_be_deleted_is_an_error(connect: Connect) -> None:
    """A failure to delete is not hidden."""
    service, _ = connect(in_turn(Reply(500, b"", SOON)), max_retries=0)
    with pytest.raises(TransientError, match="delete the file file-1"):
        service.delete_file("file-1")


def test_a_file_that_is_not_there_is_named(connect: Connect) -> None:
    """The id is in the text."""
    service, _ = connect(in_turn(Reply(404, error_body("notFound", "no such file"))))
    with pytest.raises(NotFoundError, match="describe the file file-7"):
        service.file("file-7")


_MEASURE = """
import sys, resource
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from dbt_enrich.services.openai import OpenAIBatchService
from functional.services.wire import settings
service = OpenAIBatchService(settings(sys.argv[1], max_retries=0))
service.batch("warm")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
path = Path(sys.argv[2])
service.upload(path, filename="big.jsonl")
assert service.download("file-1", path.with_suffix(".back")) == path.stat().st_size
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print((after - before) * (1 if sys.platform == "darwin" else 1024))
"""


def test_a_large_file_passes_through_in_pieces(connect: Connect, tmp_path: Path) -> None:
    """Up and down, a file of 64 MB adds less than 8 MB to the peak memory of a process."""
    size = 64_000_000
    path = tmp_path / "big.jsonl"
    with path.open("wb") as file:
        file.truncate(size)
    line = b'{"custom_id": "'
    content = line + bytes(size - len(line))

    def respond(request: Request) -> Reply:
        if request.call == "GET /files/file-1/content":
            return Reply(200, content)
        return Reply(200, file_body(status="processed"))

    _, server = connect(respond)
    tests = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", _MEASURE, server.url, str(path), str(tests)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 8_000_000
    assert path.with_suffix(".back").read_bytes() == content
    assert settings(server.url).limits.max_bytes > size

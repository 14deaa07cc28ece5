"""Downloading over real HTTP: whole or not at all, whatever the connection does."""

from __future__ import annotations

import gzip
import resource
import stat
from pathlib import Path

import pytest
from dbt_enrich.errors import (
    LedgerError,
    NotFoundError,
    TransientError,
    UnreadableReplyError,
)
from dbt_enrich.services.download import PartialFile
from functional.services.conftest import Connect
from functional.services.wire import KEY, Reply, Request, error_body, file_body, in_turn, serving
from support.clock import HastyClock

CONTENT = b"".join(b'{"custom_id":"%07d"}\n' % number for number in range(20_000))
HALF = len(CONTENT) // 2


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """Where the download goes, in a directory of its own."""
    directory = tmp_path / "answers"
    directory.mkdir()
    return directory / "output.jsonl"


def left(target: Path) -> list[str]:
    """What is in the directory."""
    return sorted(path.name for path in target.parent.iterdir())


def partial(start: int, end: int = len(CONTENT), **changes: object) -> Reply:
    """The rest of the content, as a service that knows ranges sends it."""
    headers = {"content-range": f"bytes {start}-{end - 1}/{len(CONTENT)}"}
    return Reply(206, CONTENT[start:end], headers)


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
@pytest.mark.parametrize("content", [CONTENT, b"", b"x"])
def test_the_content_arrives_as_it_is(
    connect: Connect, style: str, target: Path, content: bytes, framing: str
) -> None:
    """Empty files too, which Azure makes for the errors of a batch without any."""

    def respond(request: Request) -> Reply:
        if request.path.endswith("/content"):
            return Reply(200, content, framing=framing)
        return Reply(200, file_body(bytes=len(content)))

    service, server = connect(respond, style)
    assert service.download("file-1", target) == len(content)
    assert target.read_bytes() == content
    assert left(target) == ["output.jsonl"]
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert server.requests[0].call == "GET /files/file-1/content"


@pytest.mark.parametrize("reset", [False, True])
def test_a_download_that_breaks_goes_on_from_there(
    connect: Connect, target: Path, reset: bool
) -> None:
    """With a service that knows ranges, no byte comes twice."""

    def respond(request: Request) -> Reply:
        asked = request.headers.get("range")
        if asked is None:
            return Reply(200, CONTENT, cut=HALF, reset=reset)
        return partial(int(asked.removeprefix("bytes=").removesuffix("-")))

    service, server = connect(respond)
    assert service.download("file-1", target) == len(CONTENT)
    assert target.read_bytes() == CONTENT
    assert server.requests[1].headers["range"].startswith("bytes=")
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    "second",
    [
        pytest.param(Reply(200, CONTENT), id="range ignored"),
        pytest.param(
            Reply(206, CONTENT[5:], {"content-range": f"bytes 5-9/{len(CONTENT)}"}),
            id="wrong place",
        ),
        pytest.param(Reply(206, CONTENT[5:]), id="no place"),
        pytest.param(Reply(206, b"", {"content-range": "bytes */7"}), id="no range"),
        pytest.param(Reply(416, b""), id="not satisfiable"),
    ],
)
def test_a_service_without_good_ranges_is_asked_from_the_beginning(
    connect: Connect, target: Path, second: Reply
) -> None:
    """What was there is thrown away rather than put together wrongly."""
    service, _ = connect(in_turn(Reply(200, CONTENT, cut=HALF), second, Reply(200, CONTENT)))
    assert service.download("file-1", target) == len(CONTENT)
    assert target.read_bytes() == CONTENT


def test_a_chunked_download_that_breaks_is_noticed(connect: Connect, target: Path) -> None:
    """Without its last chunk a chunked body is not whole."""
    service, server = connect(
        in_turn(
            Reply(200, CONTENT, framing="chunked", cut=HALF),
            Reply(200, CONTENT, framing="chunked"),
        )
    )
    service.download("file-1", target)
    assert target.read_bytes() == CONTENT
    assert len(server.requests) == 2


def test_a_body_without_any_length_is_held_against_the_file(connect: Connect, target: Path) -> None:
    """A body that just ends may have been cut: the file's own size decides."""
    bodies = in_turn(Reply(200, CONTENT, framing="close", cut=HALF), Reply(200, CONTENT))

    def respond(request: Request) -> Reply:
        if request.path.endswith("/content"):
            return bodies(request)
        return Reply(200, file_body(bytes=len(CONTENT)))

    service, server = connect(respond)
    service.download("file-1", target)
    assert target.read_bytes() == CONTENT
    assert len(server.calls("GET /files/file-1/content")) == 2


def test_a_compressed_body_is_unpacked_and_never_resumed(connect: Connect, target: Path) -> None:
    """A gateway may compress though it was asked not to; a range would then mean other bytes."""
    packed = gzip.compress(CONTENT)
    headers = {"content-encoding": "gzip"}
    service, server = connect(
        in_turn(Reply(200, packed, headers, cut=len(packed) // 2), Reply(200, packed, headers))
    )
    assert service.download("file-1", target) == len(CONTENT)
    assert target.read_bytes() == CONTENT
    assert [request.headers.get("range") for request in server.requests] == [None, None]


def test_it_gives_up_and_leaves_nothing(connect: Connect, target: Path) -> None:
    """After `max_retries` failures without getting on, no file is there under any name."""
    service, server = connect(in_turn(Reply(200, b"x" * 100, cut=10)), max_retries=3)
    with pytest.raises(TransientError, match="download the file file-1"):
        service.download("file-1", target)
    assert left(target) == []
    assert len(server.requests) == 4


def test_what_gets_on_is_not_given_up(connect: Connect, target: Path) -> None:
    """Each megabyte that came starts the count of tries anew."""
    content = CONTENT[:100] + bytes(5_000_000)

    def respond(request: Request) -> Reply:
        asked = request.headers.get("range", "bytes=0-")
        start = int(asked.removeprefix("bytes=").removesuffix("-"))
        headers = {"content-range": f"bytes {start}-{len(content) - 1}/{len(content)}"}
        status = 206 if start else 200
        return Reply(status, content[start:], headers, cut=1_000_000)

    service, server = connect(respond, max_retries=1)
    assert service.download("file-1", target) == len(content)
    assert len(server.requests) >= 5


def test_a_failed_download_keeps_the_previous_file(connect: Connect, target: Path) -> None:
    """What is at the final place is replaced by a whole file only."""
    target.write_bytes(b"previous")
    service, _ = connect(in_turn(Reply(500, b"")), max_retries=0)
    with pytest.raises(TransientError):
        service.download("file-1", target)
    assert target.read_bytes() == b"previous"
    assert left(target) == ["output.jsonl"]


def test_what_a_killed_process_left_is_removed(connect: Connect, target: Path) -> None:
    """A part that a living process writes stays, one of a dead process goes."""
    dead = target.with_name(".output.jsonl.0badcafe.part")
    dead.write_bytes(b"half")
    other = target.with_name(".other.jsonl.0badcafe.part")
    other.write_bytes(b"half")
    service, _ = connect(in_turn(Reply(200, CONTENT)))
    with PartialFile(target) as living:
        living.write(b"mine")
        service.download("file-1", target)
        assert len(left(target)) == 3
        living.commit()
    assert target.read_bytes() == b"mine"
    assert left(target) == [other.name, "output.jsonl"]


def test_a_busy_service_is_asked_again_when_it_says(connect: Connect, target: Path) -> None:
    """429 before the body comes is waited out."""
    clock = HastyClock()
    replies = in_turn(Reply(429, b"", {"retry-after": "7"}), Reply(200, CONTENT))
    service, server = connect(replies, clock=clock)
    service.download("file-1", target)
    assert clock.pauses == [7.0]
    assert len(server.requests) == 2


def test_a_file_that_is_gone_is_named(connect: Connect, target: Path) -> None:
    """An expired file is not asked for twice, and nothing is left behind."""
    service, server = connect(in_turn(Reply(404, error_body("notFound", "expired"))))
    with pytest.raises(NotFoundError, match="expired or been deleted"):
        service.download("file-1", target)
    assert left(target) == []
    assert len(server.requests) == 1


def test_a_directory_that_is_not_there_is_named(connect: Connect, tmp_path: Path) -> None:
    """Nothing is fetched that cannot be kept."""
    service, server = connect(in_turn(Reply(200, CONTENT)))
    with pytest.raises(LedgerError, match="could not be written"):
        service.download("file-1", tmp_path / "gone" / "output.jsonl")
    assert server.requests == []


def test_a_file_that_cannot_grow_is_named_and_leaves_nothing(
    connect: Connect, target: Path
) -> None:
    """Room that runs out in the middle is the user's to fix; it is not tried again."""
    service, server = connect(in_turn(Reply(200, CONTENT)))
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (HALF, most))
    try:
        with pytest.raises(LedgerError, match=r"could not be written.*make room"):
            service.download("file-1", target)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    assert left(target) == []
    assert len(server.requests) == 1


@pytest.mark.parametrize("style", ["classic", "v1", "openai"])
def test_a_redirect_to_another_host_takes_no_key_there(
    connect: Connect, target: Path, style: str
) -> None:
    """A download may lead to a storage account, which gets the request, but not the key."""
    with serving(in_turn(Reply(200, CONTENT))) as storage:
        elsewhere = storage.url.replace("127.0.0.1", "localhost")
        service, server = connect(
            in_turn(Reply(302, b"", {"location": f"{elsewhere}/blob?sig=1"})), style
        )
        assert service.download("file-1", target) == len(CONTENT)
        (sent,) = storage.requests
        assert KEY in "".join(server.requests[0].headers.values())
        assert KEY not in "".join(sent.headers.values())


def test_a_proxy_s_page_is_not_the_file(connect: Connect, target: Path) -> None:
    """A body that holds no line of a batch is the file only if it is as long."""

    def respond(request: Request) -> Reply:
        if not request.path.endswith("/content"):
            return Reply(200, file_body(bytes=len(CONTENT)))
        asked = sum(one.path.endswith("/content") for one in server.requests)
        if asked == 1:
            return Reply(200, CONTENT, cut=HALF)
        return pages[asked - 2] if asked - 2 < len(pages) else Reply(200, CONTENT)

    pages = [Reply(200, b"<html>sign in</html>"), Reply(200, b""), Reply(200, {"error": "later"})]
    service, server = connect(respond, max_retries=4)
    assert service.download("file-1", target) == len(CONTENT)
    assert target.read_bytes() == CONTENT


def test_the_rest_of_a_file_does_not_go_on_from_a_page(connect: Connect, target: Path) -> None:
    """A page that broke off has another length than the file."""

    def respond(request: Request) -> Reply:
        if len(server.requests) == 1:
            return Reply(200, b"<html>sign in, please</html>", cut=10)
        asked = request.headers.get("range")
        return partial(10) if asked else Reply(200, CONTENT)

    service, server = connect(respond)
    assert service.download("file-1", target) == len(CONTENT)
    assert target.read_bytes() == CONTENT


def test_a_proxy_s_page_for_good_is_named(connect: Connect, target: Path) -> None:
    """Nothing of it is kept."""

    def respond(request: Request) -> Reply:
        if request.path.endswith("/content"):
            return Reply(200, b"<html>sign in</html>")
        return Reply(200, file_body(bytes=len(CONTENT)))

    service, _ = connect(respond)
    with pytest.raises(UnreadableReplyError, match="hold no line of a batch"):
        service.download("file-1", target)
    assert left(target) == []


def test_what_the_service_itself_has_is_taken_as_it_is(connect: Connect, target: Path) -> None:
    """Broken lines are named row by row, where they are read."""
    service, _ = connect(in_turn(Reply(200, b"broken\n"), Reply(200, file_body(bytes=7))))
    assert service.download("file-1", target) == 7

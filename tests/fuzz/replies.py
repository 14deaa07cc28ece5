"""Hostile replies of a service: to the functions that read bodies, and to the client over HTTP."""

from __future__ import annotations

import json
import random
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dbt_enrich.endpoints.embeddings import slim_reply
from dbt_enrich.endpoints.response_lines import reply_line
from dbt_enrich.errors import EnrichmentError
from dbt_enrich.services.openai import OpenAIBatchService
from dbt_enrich.services.parse import (
    MalformedReplyError,
    parse_batch,
    parse_error,
    parse_file,
    parse_json,
    parse_page,
    parse_retry_after,
)
from functional.services.wire import (
    KEY,
    STYLES,
    Reply,
    Request,
    batch_body,
    error_body,
    file_body,
    serving,
    settings,
)
from fuzz.mutate import VALUES, mutate_bytes, mutate_document
from support.clock import HastyClock


class BrokenPromiseError(Exception):
    """Something else than what was asked for, or a named failure, came out."""


_BATCH = batch_body(
    status="in_progress",
    metadata={"dbt_enrich": "1", "shard": "s"},
    request_counts={"total": 3, "completed": 1, "failed": 0},
    errors={"object": "list", "data": [{"code": "c", "message": "m", "line": 3}]},
)
_FILE = file_body()
_PAGE = {"object": "list", "data": [_BATCH, _BATCH], "has_more": True, "last_id": "batch_1"}
_ERROR = {"error": {"code": "c", "message": "m", "innererror": {"code": "x"}}}
_CHAT = {"id": "c", "choices": [{"message": {"content": "x"}, "finish_reason": "stop"}]}
_VECTORS = {
    "data": [{"index": 0, "embedding": "AACAPwAAAEA="}, {"index": 1, "embedding": [1.5, -2]}],
    "usage": {"prompt_tokens": 3, "total_tokens": 3},
}
_DOCUMENTS: tuple[Any, ...] = (
    *(_BATCH, _FILE, _PAGE, _ERROR, _CHAT, _VECTORS, "120"),
    {"object": "list", "data": [_FILE], "has_more": False},
    error_body("token_limit_exceeded", "Too many enqueued tokens"),
    {"statusCode": 401, "message": "Access denied"},
)
_FAILED_STATUSES = (400, 401, 403, 404, 408, 409, 410, 413, 416, 418, 429, 500, 502, 503, 504, 599)
_STATUSES = (*(200,) * 8, 201, 202, 204, 206, 301, 304, *_FAILED_STATUSES)
_HEADERS = (
    ("content-type", ("text/html", "application/json; charset=nope", "\x80", "")),
    ("content-encoding", ("gzip", "br", "zstd", "deflate", "x", "identity")),
    ("content-range", ("bytes 0-3/4", "bytes */4", "bytes 5-1/*", "x", f"bytes 0-1/{'9' * 5000}")),
    ("retry-after", ("-1", "nan", "1e9", "Thu, 01 Jan 1970 00:00:00 GMT", "x", "9" * 400)),
    ("retry-after-ms", ("1", "-5", "x")),
    ("location", ("/", "http://[", "//", "")),
    ("content-length", ("-1", "0", "5", "x", "9" * 30, "99999")),
    ("transfer-encoding", ("chunked", "x")),
    ("deployment-enqueued-tokens", ("x", "1e400", "-3", "\u0661".encode().decode("latin-1"))),
    ("x-should-retry", ("true", "false", "x")),
)


def fuzz_bodies(count: int, chance: random.Random) -> int:
    """Give so many bodies to the functions that read them.

    Raises:
        BrokenPromiseError: One was neither read nor refused by name.
    """
    for _ in range(count):
        document, read = chance.choice(_READERS)
        raw = _hostile_body(document, chance)
        try:
            read(raw)
        except (MalformedReplyError, EnrichmentError):
            continue
        except Exception as error:
            raise _broken(error, raw) from error
    return count


def fuzz_calls(count: int, chance: random.Random) -> int:
    """Answer so many calls of the client with hostile replies over real HTTP.

    Raises:
        BrokenPromiseError: A call raised what is no failure of this project, or told the key.
    """
    replies: list[Reply] = [Reply()]

    def respond(_: Request) -> Reply:
        return replies[0]

    with tempfile.TemporaryDirectory(prefix="fuzz-") as name, serving(respond) as server:
        path = Path(name) / "file"
        services = [
            OpenAIBatchService(
                settings(server.url, style, timeout=0.5, max_retries=0), clock=HastyClock()
            )
            for style in STYLES
        ]
        try:
            for _ in range(count):
                replies[0] = _hostile_reply(chance)
                service, call = chance.choice(services), chance.choice(_CALLS)
                _called(service, call, path, replies[0])
                if not server.errors:
                    server.requests.clear()
        finally:
            for service in services:
                service.close()
    return count


def _called(
    service: OpenAIBatchService,
    call: Callable[[OpenAIBatchService, Path], Any],
    path: Path,
    reply: Reply,
) -> None:
    path.write_text("{}\n")
    try:
        call(service, path)
    except EnrichmentError as error:
        if KEY in str(error):
            raise _broken(error, reply) from error
    except Exception as error:
        raise _broken(error, reply) from error
    left = [other for other in path.parent.iterdir() if other != path]
    if left:
        raise BrokenPromiseError(f"{left} was left behind; the input is {_kept(repr(reply))}")


def _broken(error: Exception, told: bytes | Reply) -> BrokenPromiseError:
    kept = _kept(told if isinstance(told, bytes) else repr(told))
    return BrokenPromiseError(f"{type(error).__name__}: {error}; the input is in {kept}")


def _kept(told: bytes | str) -> Path:
    """Write what broke a promise to a file that stays."""
    raw = told if isinstance(told, bytes) else told.encode("utf-8", "backslashreplace")
    with tempfile.NamedTemporaryFile(prefix="fuzz-body-", delete=False) as file:
        file.write(raw)
    return Path(file.name)


def _hostile_body(document: Any, chance: random.Random) -> bytes:
    kind = chance.random()
    if kind < 0.5:
        return mutate_bytes(json.dumps(document).encode(), chance)
    if kind < 0.99:
        text = json.dumps(mutate_document(document, chance), ensure_ascii=chance.random() < 0.5)
        return text.encode("utf-8", "surrogatepass")
    # Near the depth at which Python gives up, where reading may work and showing may not.
    depth = chance.choice((chance.randrange(800, 1_000), 5_000))
    opening, closing = chance.choice((("[", "]"), ('{"message":', "}")))
    deep = opening * depth + "1" + closing * depth
    field = chance.choice(("status", "errors", "error", "message", "data", "id", "metadata"))
    text = json.dumps({"id": "batch_1", field: "DEEP"} if kind < 0.995 else {"error": "DEEP"})
    return text.replace('"DEEP"', deep).encode()


def _hostile_reply(chance: random.Random) -> Reply:
    body = _hostile_body(chance.choice(_DOCUMENTS), chance)
    if chance.random() < 0.1:
        body = chance.choice((b"", KEY.encode(), b"<html>" + body, body * 50))
    headers = {}
    if chance.random() < 0.4:
        name, values = chance.choice(_HEADERS)
        headers[name] = chance.choice(values)
    return Reply(
        status=0 if chance.random() < 0.01 else chance.choice(_STATUSES),
        body=body,
        headers=headers,
        cut=chance.randrange(len(body) + 1) if chance.random() < 0.1 else None,
        reset=chance.random() < 0.02,
        framing=chance.choice(("length", "length", "chunked", "close")),
    )


def _batch_reply(raw: bytes) -> None:
    parse_batch(parse_json(raw), {"deployment-enqueued-tokens": raw[:9].decode("latin-1")})


def _retry_after(raw: bytes) -> None:
    wait = parse_retry_after({"retry-after": raw.decode("latin-1")}, now=1e9)
    if wait is not None and not 0 <= wait < float("inf"):
        raise BrokenPromiseError(f"a wait of {wait} seconds for {raw!r}")


_READERS: tuple[tuple[Any, Callable[[bytes], Any]], ...] = (
    (_BATCH, _batch_reply),
    (_FILE, lambda raw: parse_file(parse_json(raw))),
    (_PAGE, lambda raw: [parse_batch(item) for item in parse_page(parse_json(raw)).items]),
    (_ERROR, parse_error),
    (_VECTORS, lambda raw: slim_reply(reply_line("a-1", 200, parse_json(raw)), "mark")),
    ("120", _retry_after),
    (VALUES[0], _batch_reply),
)
_CALLS: tuple[Callable[[OpenAIBatchService, Path], Any], ...] = (
    lambda service, _: service.check("gpt"),
    lambda service, path: service.upload(path, filename="a.jsonl"),
    lambda service, _: service.file("file-1"),
    lambda service, _: list(service.files()),
    lambda service, _: service.delete_file("file-1"),
    lambda service, _: service.create("file-1", {"shard": "s"}, "/chat/completions"),
    lambda service, _: service.batch("batch_1"),
    lambda service, _: list(service.batches()),
    lambda service, _: service.cancel("batch_1"),
    lambda service, path: service.download("file-1", path),
    lambda service, _: service.ask("/chat/completions", {"model": "m", "messages": []}),
    lambda service, _: service.ask("/embeddings", {"model": "m", "input": ["x"]}),
)

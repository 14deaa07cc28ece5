"""The key appears nowhere: no error, log, repr or traceback, also when the service repeats it."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from dbt_enrich.errors import EnrichmentError
from dbt_enrich.services import create_service
from dbt_enrich.services.openai import OpenAIBatchService
from functional.services.conftest import Connect
from functional.services.wire import DROP, Reply, Request, batch_body, error_body, settings

SECRET = "pl+nted/key=Zm9vYmFy"


def calls(service: OpenAIBatchService, path: Path) -> list[Callable[[], Any]]:
    """Every call of the service."""
    return [
        lambda: service.check("gpt"),
        lambda: service.upload(path, filename="s.jsonl"),
        lambda: service.file("file-1"),
        lambda: list(service.files()),
        lambda: service.delete_file("file-1"),
        lambda: service.create("file-1", {"a": "b"}, "/chat/completions"),
        lambda: service.batch("batch_1"),
        lambda: list(service.batches()),
        lambda: service.cancel("batch_1"),
        lambda: service.download("file-1", path.with_suffix(".out")),
        lambda: service.ask("/chat/completions", {"model": "gpt", "messages": []}),
    ]


def echoes(request: Request) -> list[Reply]:
    """Replies that repeat the key in the places that services were seen to use, and others."""
    shown = f"Incorrect API key provided: {SECRET} ({quote(SECRET, safe='')}), Bearer {SECRET}."
    return [
        Reply(401, {"statusCode": 401, "message": shown}),
        Reply(400, error_body(SECRET, shown)),
        Reply(404, shown.encode()),
        Reply(500, f"<html>{shown}</html>".encode(), {"retry-after-ms": "1"}),
        Reply(200, error_body("x", shown)),
        Reply(200, batch_body(status=7, errors={"data": [{"message": "fine"}]})),
        Reply(200, b"not json " + shown.encode()),
        Reply(302, b"", {"location": "http://localhost:1/x"}),
        DROP,
    ]


@pytest.mark.parametrize("number", range(9))
def test_no_error_and_no_log_shows_the_key(
    connect: Connect,
    style: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    number: int,
) -> None:
    """Every call against every such reply, with all loggers at debug level."""
    path = tmp_path / "s.jsonl"
    path.write_bytes(b"{}\n")
    service, _ = connect(
        lambda request: echoes(request)[number], style, api_key=SECRET, max_retries=0
    )
    shown = [repr(service), str(service)]
    with caplog.at_level(logging.DEBUG):
        for call in calls(service, path):
            try:
                call()
            except EnrichmentError as error:
                shown += [str(error), repr(error), repr(vars(error)), *_all_of(error)]
    shown += [caplog.text, *(repr(vars(record)) for record in caplog.records)]
    for text in shown:
        assert SECRET not in text
        assert quote(SECRET, safe="") not in text


def _all_of(error: BaseException) -> list[str]:
    """The traceback as printed, and whatever hangs on the error."""
    texts = ["".join(traceback.format_exception(error))]
    links: list[BaseException | None] = [error.__cause__, error.__context__]
    return texts + [text for link in links if link for text in (str(link), repr(link))]


def test_settings_do_not_show_the_key() -> None:
    """Neither as text nor by way of copies."""
    from copy import copy, deepcopy
    from pickle import dumps

    given = settings("https://res.openai.azure.com", api_key=SECRET)
    for value in (
        given,
        given.model_dump(),
        copy(given),
        deepcopy(given),
        given.api_key,
        f"{given}",
    ):
        assert SECRET not in f"{value!r} {value!s}"
    with pytest.raises(TypeError, match="cannot be pickled"):
        dumps(given)


def test_a_service_without_a_connection_does_not_show_it() -> None:
    """Building a service sends nothing and shows nothing."""
    service = create_service(settings("https://res.openai.azure.com", api_key=SECRET))
    assert repr(service) == "OpenAIBatchService('azure:res.openai.azure.com')"
    with suppress(EnrichmentError):
        service.close()

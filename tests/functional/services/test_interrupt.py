"""A call ends when the user interrupts, also while no reply comes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from dbt_enrich.errors import CancelledError
from dbt_enrich.services.openai import OpenAIBatchService
from functional.services.wire import Reply, Request, serving, settings

CALLS: dict[str, Callable[[OpenAIBatchService, Path], Any]] = {
    "check": lambda service, _: service.check("d"),
    "upload": lambda service, path: service.upload(path / "in", filename="s.jsonl"),
    "file": lambda service, _: service.file("file-1"),
    "files": lambda service, _: list(service.files()),
    "delete_file": lambda service, _: service.delete_file("file-1"),
    "create": lambda service, _: service.create("file-1", {}, "/chat/completions"),
    "batch": lambda service, _: service.batch("batch_1"),
    "batches": lambda service, _: list(service.batches()),
    "cancel": lambda service, _: service.cancel("batch_1"),
    "download": lambda service, path: service.download("file-1", path / "out"),
    "chat": lambda service, _: service.ask("/chat/completions", {"model": "d"}),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_call_without_a_reply_is_given_up(name: str, tmp_path: Path) -> None:
    """At once, and nothing of a download is left; the next call is not made at all."""
    cancelled, released = threading.Event(), threading.Event()

    def silent(_: Request) -> Reply:
        cancelled.set()
        released.wait(30)
        return Reply(500)

    (tmp_path / "in").write_text("{}")
    with serving(silent) as server:
        service = OpenAIBatchService(settings(server.url, max_retries=0), cancelled=cancelled)
        with pytest.raises(CancelledError, match="the next dbt run collects it"):
            CALLS[name](service, tmp_path)
        assert not released.is_set()
        with pytest.raises(CancelledError):
            CALLS[name](service, tmp_path)
        released.set()
        assert len(server.requests) == 1
        assert [path.name for path in tmp_path.iterdir()] == ["in"]

"""Replies that are no usual answer: all that may have been paid for is kept, by its name."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterable
from pathlib import Path
from typing import Any

import pytest
from batch_server.responders.base import ChatReply, ChatRequest
from batch_server.responders.scripted import ScriptedResponder, last_user_message
from batch_server.server import running_emulator
from support.clock import HastyClock
from support.warehouse import Warehouse, config_for

KEY = "pl4nted/key=0c61"
NO_TEXT = "the reply has no text of an answer"
USAGE = {"prompt_tokens": 70, "completion_tokens": 30}


class Odd(ScriptedResponder):
    """Answers as the scripted responder does, but for some notes.

    Args:
        replies: The replies, by the note that asks for them.
    """

    def __init__(self, replies: dict[str, ChatReply]) -> None:
        super().__init__()
        self._replies = replies

    def answer(
        self, requests: Iterable[ChatRequest]
    ) -> Generator[tuple[ChatRequest, ChatReply], None, None]:
        """Yield each request with its reply."""
        for request in requests:
            found = self._replies.get(last_user_message(request.body))
            ((_, usual),) = super().answer([request])
            yield request, found or usual


def spoiled(spoil: Callable[[str], str]) -> ChatReply:
    """A good answer whose line is spoiled."""
    message = {"role": "assistant", "content": json.dumps({"summary": "S"})}
    body = {"choices": [{"message": message}], "model": "m", "usage": USAGE}
    return ChatReply(200, body, lambda lines: [spoil(line) for line in lines])


def notes(names: Iterable[str]) -> str:
    """The SELECT of some notes."""
    rows = ", ".join(f"('{name}', '{name}')" for name in names)
    return f"select * from (values {rows}) as notes(id, note)"


@pytest.mark.parametrize(
    "ways", [{}, {"sync_below": 100, "preview_model": "standard"}], ids=["batch", "synchronous"]
)
def test_a_good_reply_without_an_answer_is_kept_by_name(
    ways: dict[str, Any], tmp_path: Path
) -> None:
    """The body, the tokens and what was wrong; of an error's texts the secrets are taken out."""
    error = {"code": "odd", "message": f"no room for {KEY}, Bearer {KEY}x"}
    answer = {"role": "assistant", "content": json.dumps({"summary": f"key {KEY}"})}
    replies = {
        "failed": ChatReply(200, {"id": "r", "error": error, "usage": USAGE}),
        "gateway": ChatReply(200, {"statusCode": 503, "message": f"busy {KEY}"}),
        "page": ChatReply(200, "<html>a page</html>"),
        "shapeless": ChatReply(200, {"id": "r", "usage": USAGE}),
        "listed": ChatReply(200, [1]),
        "refused": ChatReply(400, {"error": error}),
        "said": ChatReply(200, {"choices": [{"message": answer}], "usage": USAGE}),
    }
    with running_emulator(tmp_path / "emulator", responder=Odd(replies), api_key=KEY) as emulator:
        config = config_for(emulator.url, KEY, tmp_path / "state")
        warehouse = Warehouse(config, clock=HastyClock())
        warehouse.enrich(notes(["usual", *replies]), max_attempts=1, **ways)
    assert warehouse.statuses() == {"done": 2, "failed": 6}
    assert warehouse.rows("select summary from enriched where id = 'said'") == [(f"key {KEY}",)]
    found = {
        name: (kind, message, raw)
        for name, kind, message, raw in warehouse.rows(
            "select id, kind, message, raw_answer from enriched__errors"
        )
    }
    masked = {**error, "message": "no room for ***, Bearer ***"}
    kind, message, raw = found["failed"]
    assert (kind, message) == ("provider_error", f"odd: {masked['message']}")
    assert json.loads(raw) == {"id": "r", "error": masked, "usage": USAGE}
    assert found["gateway"][:2] == ("provider_error", "HTTP 200: busy ***")
    assert KEY not in str(found)
    assert found["refused"][:2] == ("provider_error", f"odd: {masked['message']}")
    assert found["page"] == ("invalid_json", f"{NO_TEXT}: it is no JSON", "<html>a page</html>")
    assert found["shapeless"][:2] == ("invalid_json", f"{NO_TEXT}: it has `id`, `usage`")
    assert json.loads(found["shapeless"][2]) == replies["shapeless"].body
    assert found["listed"] == ("invalid_json", f"{NO_TEXT}: it is no object", "[1]")
    stored = warehouse.rows(
        "select sum(prompt_tokens) from "
        f"read_parquet('{tmp_path}/state/answers/*.parquet', union_by_name = true) "
        "where kind <> 'done'"
    )
    assert stored == [(2 * 70,)]


def test_a_line_that_is_broken_is_kept(tmp_path: Path) -> None:
    """With its row where it still names it, else beside the answers, where the run says."""
    replies = {
        "cut": spoiled(lambda line: line[:-3]),
        "half": spoiled(lambda line: line[: line.index("response")]),
        "no id": spoiled(lambda line: json.dumps({**json.loads(line), "custom_id": None})),
        "lost": spoiled(lambda line: line[: line.index("custom_id")] + "text"),
        "bytes": spoiled(lambda line: line.replace("assistant", "\udc80")),
    }
    with running_emulator(tmp_path / "emulator", responder=Odd(replies)) as emulator:
        warehouse = Warehouse(config_for(emulator.url, emulator.api_key, tmp_path / "state"))
        warehouse.enrich(notes(["usual", *replies]), max_attempts=1)
        (batch,) = emulator.jobs.batches()
        sent = emulator.jobs.storage.content(batch["output_file_id"]).read_bytes()
    found = {
        name: (kind, raw)
        for name, kind, raw in warehouse.rows("select id, kind, raw_answer from enriched__errors")
    }
    lines = sent.splitlines()
    for name in ("cut", "half"):
        kind, raw = found.pop(name)
        assert (kind, raw.encode() in lines) == ("invalid_json", True)
    assert found == dict.fromkeys(("no id", "lost", "bytes"), ("missing", None))
    (kept,) = (tmp_path / "state" / "answers").glob("*.unassigned.jsonl")
    assert kept.stat().st_mode & 0o777 == 0o600
    unassigned = kept.read_bytes().splitlines()
    assert len(unassigned) == 3
    assert set(unassigned) < set(lines)
    assert any("3 lines of which" in text and str(kept) in text for text in warehouse.log)
    (tokens,) = warehouse.rows(
        f"select max(prompt_tokens) from read_parquet('{tmp_path}/state/answers/*.parquet', "
        "union_by_name = true) where kind = 'invalid_json'"
    )
    assert tokens == (70,)

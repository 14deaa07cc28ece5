"""A client of the emulator's plain HTTP, for tests of status codes, headers and bodies."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from batch_server.errors import Flavour
from batch_server.http_client import httpx, loopback_client
from batch_server.server import RunningEmulator

TERMINAL = ("completed", "failed", "expired", "cancelled")
STYLES = {"classic": "/openai", "v1": "/openai/v1", "openai": "/v1"}
FLAVOURS = {
    "classic": Flavour.AZURE_CLASSIC,
    "v1": Flavour.AZURE_V1,
    "openai": Flavour.OPENAI,
}
DATED = "2025-04-01-preview"


def line(
    custom_id: str, text: str = "hello", url: str = "/v1/chat/completions", **body: Any
) -> str:
    """One line of an input file."""
    asked = {"model": "any", "messages": [{"role": "user", "content": text}], **body}
    return json.dumps({"custom_id": custom_id, "method": "POST", "url": url, "body": asked})


class Resource:
    """The files and batches of an emulator, by the paths of one style."""

    def __init__(self, emulator: RunningEmulator, style: str = "openai") -> None:
        self.flavour = FLAVOURS[style]
        query = {"api-version": DATED} if style == "classic" else {}
        self.http = loopback_client(
            base_url=emulator.url + STYLES[style],
            headers={"Authorization": f"Bearer {emulator.api_key}"},
            params=query,
            timeout=30,
        )

    def post_file(self, content: bytes | str, **form: str) -> httpx.Response:
        """Upload a file."""
        raw = content.encode() if isinstance(content, str) else content
        files = {"file": ("input.jsonl", raw)}
        return self.http.post("/files", files=files, data={"purpose": "batch", **form})

    def upload(self, *lines: str) -> str:
        """Upload lines and return the file's id."""
        reply = self.post_file("".join(f"{line}\n" for line in lines))
        assert reply.is_success, reply.text
        return str(reply.json()["id"])

    def post_batch(self, file_id: str, **more: Any) -> httpx.Response:
        """Create a batch."""
        body = {
            "input_file_id": file_id,
            "endpoint": "/v1/chat/completions",
            "completion_window": "24h",
            **more,
        }
        return self.http.post("/batches", json=body)

    def create(self, *lines: str, **more: Any) -> str:
        """Create a batch of lines and return its id."""
        reply = self.post_batch(self.upload(*lines), **more)
        assert reply.is_success, reply.text
        return str(reply.json()["id"])

    def batch(self, batch_id: str) -> dict[str, Any]:
        """Return a batch."""
        reply = self.http.get(f"/batches/{batch_id}")
        assert reply.is_success, reply.text
        return dict(reply.json())

    def reach(self, batch_id: str, *statuses: str) -> dict[str, Any]:
        """Poll until a batch is in one of the states."""
        deadline = time.monotonic() + 30
        while (batch := self.batch(batch_id))["status"] not in (statuses or TERMINAL):
            assert time.monotonic() < deadline, batch
            time.sleep(0.01)
        return batch

    def failed(self, *lines: str, **more: Any) -> dict[str, Any]:
        """Return the first error of a batch that fails while it is validated."""
        batch = self.reach(self.create(*lines, **more))
        assert batch["status"] == "failed"
        return dict(batch["errors"]["data"][0])

    def lines_of(self, file_id: str | None) -> list[dict[str, Any]]:
        """Return the lines of a file."""
        if not file_id:
            return []
        content = self.http.get(f"/files/{file_id}/content")
        assert content.is_success
        return [json.loads(text) for text in content.text.splitlines()]


def stored(directory: Path) -> int:
    """Number of contents that the emulator keeps."""
    return len(list((directory / "files").iterdir()))

"""Asks a model server, and asks it again where that may help. Runs on one event loop."""

from __future__ import annotations

import asyncio
import json
import math
import random
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final

from batch_server.http_client import httpx
from batch_server.responders.base import ChatReply, ChatRequest
from batch_server.responders.upstream_options import UpstreamOptions
from batch_server.responders.upstream_reply import MAX_REPLY_BYTES, error_reply, reply_of

CONNECT_SECONDS: Final = 10.0
_FIRST_WAIT: Final = 0.5
_LONGEST_WAIT: Final = 30.0
# A server that asks for more has trouble of a kind that a later attempt of the row is for.
_LONGEST_ASKED_WAIT: Final = 600.0
_WORTH_REPEATING: Final = (408, 409, 429)


class UpstreamClient:
    """A client of the model server; no more requests are in flight than its options allow.

    Args:
        options: Where the server is, and how it is asked.

    Raises:
        SetupError: The variable that is to hold the key does not.
    """

    def __init__(self, options: UpstreamOptions) -> None:
        self._options = options
        self._room = asyncio.Semaphore(options.concurrency)
        headers = options.headers()
        self._key = headers.get("Authorization", "").removeprefix("Bearer ")
        self._http = httpx.AsyncClient(
            headers={**headers, "Content-Type": "application/json"},
            # A try is timed as a whole: a server may be silent for as long as it thinks.
            timeout=httpx.Timeout(None, connect=min(options.timeout, CONNECT_SECONDS)),
            limits=httpx.Limits(max_connections=options.concurrency),
            trust_env=options.trusts_environment,
        )

    async def reply(self, request: ChatRequest) -> ChatReply:
        """Return the reply to a request, asked of the same endpoint, waiting for room first."""
        try:
            content = self._content(request.body)
        except (ValueError, RecursionError):
            return error_reply(400, "The request is not valid JSON.", code="invalid_json")
        async with self._room:
            for attempt in range(self._options.retries):
                reply, wait = await self._try(request.path, content, attempt)
                if wait is None:
                    return reply
                await asyncio.sleep(wait)
            reply, _ = await self._try(request.path, content, self._options.retries)
            return reply

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    def _content(self, body: Mapping[str, Any]) -> bytes:
        asked = {name: body[name] for name in body if name not in ("stream", "stream_options")}
        asked["model"] = self._options.model or asked.get("model")
        return json.dumps(asked, allow_nan=False).encode()

    async def _try(self, path: str, content: bytes, attempt: int) -> tuple[ChatReply, float | None]:
        """Ask once; return the reply, and the seconds after which to ask again, if at all."""
        usual = min(_LONGEST_WAIT, _FIRST_WAIT * 2.0**attempt) * random.uniform(0.75, 1.25)  # noqa: S311
        try:
            async with asyncio.timeout(self._options.timeout):
                response, body = await self._post(path, content)
        except (TimeoutError, httpx.TimeoutException):
            return self._no_answer_in_time(attempt), usual
        except httpx.TransportError as error:
            return self._no_answer(error, attempt), usual
        except httpx.HTTPError as error:
            return error_reply(
                502, f"The reply cannot be read: {error}", code="invalid_reply"
            ), None
        reply = self._masked(reply_of(response.status_code, body))
        if response.status_code in _WORTH_REPEATING or response.status_code >= 500:
            asked = _asked_wait(response.headers.get("retry-after"))
            return reply, usual if asked is None else asked
        return reply, None

    async def _post(self, path: str, content: bytes) -> tuple[httpx.Response, bytes]:
        """Send the request and read the reply, no further than a reply may be long."""
        url = f"{self._options.base_url}{path}"
        async with self._http.stream("POST", url, content=content) as response:
            parts: list[bytes] = []
            size = 0
            async for part in response.aiter_bytes():
                parts.append(part)
                size += len(part)
                if size > MAX_REPLY_BYTES:
                    break
        return response, b"".join(parts)

    def _masked(self, reply: ChatReply) -> ChatReply:
        """Take the server's key out of an error's message, which is stored and shown."""
        if not self._key or reply.status_code < 400:
            return reply
        error = dict(reply.body["error"])
        for form in (self._key, json.dumps(self._key)[1:-1]):
            error["message"] = error["message"].replace(form, "***")
        return replace(reply, body={**reply.body, "error": error})

    def _no_answer_in_time(self, attempt: int) -> ChatReply:
        return error_reply(
            408,
            f"The model server at {self._options.base_url} did not answer within "
            f"{self._options.timeout:g} seconds ({_tries(attempt)}).",
            code="request_timeout",
        )

    def _no_answer(self, error: Exception, attempt: int) -> ChatReply:
        return error_reply(
            503,
            f"The model server at {self._options.base_url} gave no answer "
            f"({str(error) or type(error).__name__}; {_tries(attempt)}).",
            code="connection_error",
        )


def _tries(attempt: int) -> str:
    return "1 try" if attempt == 0 else f"{attempt + 1} tries"


def _asked_wait(retry_after: str | None) -> float | None:
    """Return the seconds that `Retry-After` asks for, given as a number or a date, or None."""
    if not retry_after:
        return None
    seconds: float | None = None
    try:
        seconds = float(retry_after)
    except ValueError:
        with suppress(ValueError):
            date = parsedate_to_datetime(retry_after)
            date = date if date.tzinfo else date.replace(tzinfo=UTC)
            seconds = (date - datetime.now(UTC)).total_seconds()
    if seconds is None or math.isnan(seconds):
        return None
    return min(max(seconds, 0.0), _LONGEST_ASKED_WAIT)

"""Asks a service one request at a time, as fast as it takes them. Runs on one event loop.

A request is sent again only where the service says that it did not begin it, or where nothing of
it can have arrived. What was sent and got no reply has an unknown outcome, which is its line.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from batch_server.http_client import httpx
from batch_server.responders.base import ChatRequest
from batch_server.responders.credentials import Credentials
from batch_server.responders.pace import MOST_IN_FLIGHT, Pace
from batch_server.responders.relay_options import RelayOptions
from batch_server.responders.upstream_reply import body_of, error_of
from batch_server.responders.verdicts import Verdict, is_filtered, is_no_answer, verdict_of

_CONNECT_SECONDS: Final = 15.0
# "The default timeout is 10 minutes when making API requests with an official SDK. … you may need
# to increase this timeout for lengthy prompts or complex tasks", with 15 minutes in its example:
# https://developers.openai.com/api/docs/guides/flex-processing
_FLEX_SECONDS: Final = 900.0
# How long another credential is waited for in place of one that was refused.
_RENEWAL_SECONDS: Final = 20.0
_LONGEST_WAIT: Final = 5.0
# 2,048 embeddings of 3,072 numbers, in JSON.
_MAX_REPLY_BYTES: Final = 256_000_000
# All are raised before a request is sent.
_NOT_SENT: Final = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.ProxyError,
    httpx.UnsupportedProtocol,
)


@dataclass(frozen=True)
class Refused:
    """Why a service answers no such request.

    Attributes:
        code: Its code, or its status where it gives none.
        message: What it said, as a sentence.
        status: The HTTP status, or None where there was no reply.
    """

    code: str
    message: str
    status: int | None = None


@dataclass(frozen=True)
class Outcome:
    """What became of a request.

    Attributes:
        line: What the batch's file has of it, but for its custom_id; None where it is refused.
        failed: Whether it is no answer.
        way: The status and code of a reply that is no answer, or None.
        refusal: Why no such request is answered, or None.
    """

    line: dict[str, Any] | None = None
    failed: bool = True
    way: tuple[int, str] | None = None
    refusal: Refused | None = None


@dataclass
class _Turn:
    """One try of a request."""

    number: int
    size: int
    was_full: bool


class Gate:
    """What lets the requests to one deployment pass, each when its pace allows it.

    Attributes:
        trouble: What the service, or the way to it, said last while nothing was answered.
    """

    def __init__(self) -> None:
        self.pace = Pace(most=MOST_IN_FLIGHT)
        self.trouble: str | None = None
        self._order = asyncio.Lock()
        self._changed = asyncio.Event()

    @asynccontextmanager
    async def passing(self, size: int) -> AsyncIterator[_Turn]:
        """Wait for a request's turn; it is in flight for the block."""
        async with self._order:
            while (wait := self.pace.wait(time.monotonic(), size)) > 0:
                self._changed.clear()
                try:
                    await asyncio.wait_for(self._changed.wait(), min(wait, _LONGEST_WAIT))
                except TimeoutError:
                    continue
            number = self.pace.sent(size)
        turn = _Turn(number, size, self.pace.in_flight >= self.pace.window)
        try:
            yield turn
        finally:
            self.pace.back()
            self._changed.set()

    def works(self, turn: _Turn, headers: Mapping[str, str], tokens: int | None) -> None:
        """Note that the service answered."""
        self.trouble = None
        self.pace.answered(time.monotonic(), headers, tokens, was_full=turn.was_full)

    def busy(self, turn: _Turn, headers: Mapping[str, str], trouble: str) -> None:
        """Note that the service did not begin a request."""
        self.trouble = trouble
        self.pace.busy(time.monotonic(), headers, turn.number)

    def fails(self, turn: _Turn, headers: Mapping[str, str], trouble: str) -> None:
        """Note that the service, or the way to it, is in trouble."""
        self.trouble = trouble
        self.pace.troubled(time.monotonic(), turn.number, headers)


@dataclass(frozen=True)
class Marks:
    """What is told of a request beside its outcome.

    Attributes:
        sent: Called before each try.
        withdrawn: Called after a try of which the service began nothing.
        goes_on: Says whether it is still to be sent.
    """

    sent: Callable[[], None] = lambda: None
    withdrawn: Callable[[], None] = lambda: None
    goes_on: Callable[[], bool] = lambda: True


@dataclass
class _Reply:
    """A reply as it came."""

    status: int
    content: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


class RelayClient:
    """A client of the service; made and used on one event loop.

    Args:
        options: Where the service is.
        credentials: With what it is asked.
    """

    def __init__(self, options: RelayOptions, credentials: Credentials) -> None:
        self._options = options
        self._credentials = credentials
        self._gates: dict[str, Gate] = {}
        self._http = httpx.AsyncClient(
            headers={"Content-Type": "application/json"},
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=MOST_IN_FLIGHT),
            trust_env=options.trusts_environment,
        )

    def gate(self, deployment: str) -> Gate:
        """Return what lets the requests to a deployment pass."""
        return self._gates.setdefault(deployment, Gate())

    async def ask(self, path: str, request: ChatRequest, marks: Marks) -> Outcome | None:
        """Ask until something is known of a request.

        Args:
            path: The endpoint's.
            request: The request.
            marks: Is told each try.

        Returns:
            What became of it, or None where it is not to be sent any more.
        """
        try:
            content = json.dumps(request.body, ensure_ascii=False, allow_nan=False).encode()
        except (ValueError, RecursionError):
            error = {"code": "invalid_json", "message": "The request is no JSON that can be sent."}
            return Outcome(_line(400, {"error": error}), way=(400, "invalid_json"))
        deployment = str(request.body.get("model") or "")
        gate = self.gate(deployment)
        while marks.goes_on():
            used = await self._credentials.wait(_RENEWAL_SECONDS)
            if used is None:
                said = f"no credential that {self._options.host} takes was handed over"
                return Outcome(refusal=Refused("credential", said, 401))
            async with gate.passing(len(content)) as turn:
                if not marks.goes_on():
                    return None
                marks.sent()
                outcome = await self._try(path, request, content, used, gate, turn)
            if outcome is not None:
                if outcome.line is None:
                    marks.withdrawn()
                return outcome
            marks.withdrawn()
        return None

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def _try(
        self,
        path: str,
        request: ChatRequest,
        content: bytes,
        used: tuple[str, str],
        gate: Gate,
        turn: _Turn,
    ) -> Outcome | None:
        """Ask once; return what became of the request, or None where it is to be sent again."""
        deployment = str(request.body.get("model") or "")
        what = f"The service at {self._options.host}"
        try:
            reply = await self._post(path, request, content, deployment, used)
        except _NOT_SENT as error:
            if _is_untrusted(error):
                said = f"{what} could not be reached, as its certificate is not trusted"
                return Outcome(refusal=Refused("certificate", said))
            gate.fails(turn, {}, f"{what} could not be reached ({_reason(error, self._options)})")
            return None
        except (httpx.HTTPError, ssl.SSLError, OSError) as error:
            said = (
                f"{what} did not answer when asked for {deployment} "
                f"({_reason(error, self._options)}); the answer may have been paid for all the same"
            )
            gate.fails(turn, {}, said)
            return Outcome(
                {"response": None, "error": {"code": "unknown_outcome", "message": said}}
            )
        return self._judged(reply, used, gate, turn)

    def _judged(
        self, reply: _Reply, used: tuple[str, str], gate: Gate, turn: _Turn
    ) -> Outcome | None:
        """Return what a reply means for its request, and tell the gate."""
        is_good = 200 <= reply.status < 300
        body = body_of(reply.content) if is_good else None
        error = {} if is_good else self._masked(error_of(reply.status, reply.content))
        code = str(error.get("code") or "")
        verdict = verdict_of(reply.status, code, is_error=is_good and is_no_answer(body))
        said = f"{self._options.host} replied HTTP {reply.status}"
        said += f", {code}" if code not in ("", str(reply.status)) else ""
        said += f': "{error["message"]}"' if error.get("message") else ""
        match verdict:
            case Verdict.ANSWERED:
                self._credentials.accept()
                gate.works(turn, reply.headers, _tokens_of(body))
                return Outcome(_line(200, self._safe(body)), failed=False)
            case Verdict.NOT_BEGUN:
                gate.busy(turn, reply.headers, f"The service at {said}")
                return None
            case Verdict.DENIED if self._credentials.refuse(used):
                return None
            case Verdict.DENIED | Verdict.REFUSED:
                why = Refused(code or str(reply.status), f"The service at {said}", reply.status)
                return Outcome(refusal=why)
            case Verdict.TROUBLED:
                gate.fails(turn, reply.headers, f"The service at {said}")
            case Verdict.ITS_OWN:
                gate.works(turn, reply.headers, None)
        if is_good:
            return Outcome(_line(200, self._safe(body)))
        kept = {"code": "content_filter" if is_filtered(error) else error.get("code"),
                "message": error.get("message")}  # fmt: skip
        return Outcome(_line(reply.status, {"error": kept}), way=(reply.status, code))

    async def _post(
        self,
        path: str,
        request: ChatRequest,
        content: bytes,
        deployment: str,
        used: tuple[str, str],
    ) -> _Reply:
        """Send a request and read the reply, no further than a reply may be long."""
        seconds = self._options.timeout
        if request.body.get("service_tier") == "flex":
            seconds = max(seconds, _FLEX_SECONDS)
        headers = dict([used])
        if self._options.request_id_header and request.custom_id:
            headers[self._options.request_id_header] = request.custom_id
        parts: list[bytes] = []
        size = 0
        async with self._http.stream(
            "POST",
            self._options.url(path, deployment),
            content=content,
            headers=headers,
            timeout=httpx.Timeout(seconds, connect=min(seconds, _CONNECT_SECONDS), pool=None),
        ) as response:
            async for part in response.aiter_bytes():
                parts.append(part)
                size += len(part)
                if size > _MAX_REPLY_BYTES:
                    raise httpx.ReadError(f"the reply is larger than {_MAX_REPLY_BYTES:,} bytes")
        return _Reply(response.status_code, b"".join(parts), response.headers)

    def _safe(self, body: Any) -> Any:
        """Return what a good reply holds, without the credential where it is an error."""
        if not is_no_answer(body) and not body.get("error"):
            return body
        return json.loads(self._credentials.masked(json.dumps(body)))

    def _masked(self, error: dict[str, Any]) -> dict[str, Any]:
        """Take the credential out of an error's texts, which are stored and shown."""
        return {
            name: self._credentials.masked(value) if isinstance(value, str) else value
            for name, value in error.items()
        }


def _line(status: int, body: object) -> dict[str, Any]:
    return {"response": {"status_code": status, "body": body}, "error": None}


def _tokens_of(body: object) -> int | None:
    usage = body.get("usage") if isinstance(body, Mapping) else None
    total = usage.get("total_tokens") if isinstance(usage, Mapping) else None
    return total if isinstance(total, int) else None


def _links(error: BaseException) -> Iterator[BaseException]:
    link: BaseException | None = error
    while link is not None:
        yield link
        link = None if isinstance(link, OSError) else link.__cause__ or link.__context__


def _is_untrusted(error: BaseException) -> bool:
    return any(isinstance(link, ssl.SSLCertVerificationError) for link in _links(error))


def _reason(error: Exception, options: RelayOptions) -> str:
    if isinstance(error, httpx.ConnectTimeout | httpx.PoolTimeout):
        return "no connection in time"
    if isinstance(error, httpx.TimeoutException):
        return f"silent for {options.timeout:g} s"
    links = list(_links(error))
    if any(isinstance(link, ConnectionRefusedError) for link in links):
        return "connection refused"
    if any(isinstance(link, ConnectionResetError) for link in links):
        return "connection reset"
    texts = [str(link) for link in links if str(link)]
    return texts[-1] if texts else "connection lost"

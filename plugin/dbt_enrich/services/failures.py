"""From whatever the `openai` client raises to the errors of this project, at one place.

Which failures of a call that acts (creating a batch) leave its outcome unknown: a reply that was
lost or cannot be read, 408, 409 and every 5xx, since a gateway answers those also after the
service behind it has acted. Certainly without effect: a connection that was never made, and every
other 3xx and 4xx.
"""

from __future__ import annotations

import json
import re
import socket
import ssl
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Final
from urllib.parse import quote

import openai

from dbt_enrich.config.remote import RemoteConfig
from dbt_enrich.errors import (
    AuthenticationError,
    NotFoundError,
    QuotaError,
    ServiceError,
    TransientError,
    UnknownOutcomeError,
    UnreadableReplyError,
)
from dbt_enrich.services.base import QUOTA_CODES, UNSUPPORTED_CODE
from dbt_enrich.services.parse import (
    ErrorDetail,
    error_detail,
    limit_in,
    parse_error,
    parse_retry_after,
)


def _client_library() -> Any:
    """Return httpx or httpx2: what this version of the `openai` package was built on."""
    base = next(kind for kind in openai.DefaultHttpxClient.__mro__ if kind.__module__ != "openai")
    return import_module(base.__module__.partition(".")[0])


_http: Final = _client_library()

CLIENT_ERRORS: Final[tuple[type[Exception], ...]] = (
    openai.OpenAIError,
    # Reading a streamed reply raises these, past the `openai` package's own mapping.
    _http.HTTPError,
    ssl.SSLError,
)
"""What a call of the client raises when it fails."""

# All are raised before a request is sent.
_NOT_SENT: Final = (
    _http.ConnectError,
    _http.ConnectTimeout,
    _http.PoolTimeout,
    _http.ProxyError,
    _http.UnsupportedProtocol,
)
# What the first of these among the causes of an error says in its place.
_REASONS: Final[tuple[tuple[tuple[type[BaseException], ...], str], ...]] = (
    ((socket.gaierror,), "the host's name is not known"),
    ((ConnectionRefusedError,), "connection refused"),
    ((_http.ConnectTimeout, _http.PoolTimeout), "no connection in time"),
    ((openai.APITimeoutError, _http.TimeoutException), "silent for {timeout:g} s"),
    ((ConnectionResetError,), "connection reset"),
)
_MARKS: Final = r"\b(?P<mark>sk-|Bearer\s+)"
_MARKED: Final = r"[^\s\"',}]"
_OF_TOKENS: Final = ("token_limit_exceeded", "enqueued token")
_QUOTA_WORDS: Final = (*_OF_TOKENS, "quota for files")
# Waiting does not help against these, unlike against a quota that frees itself.
UNPAID_CODES: Final = frozenset({"insufficient_quota", "billing_hard_limit_reached"})
_IMPLIED_STATUSES: Final[Mapping[str, int]] = {
    "notfound": 404,
    "unauthorized": 401,
    "forbidden": 403,
    "toomanyrequests": 429,
    "serviceunavailable": 503,
    "internalfailure": 500,
}
# What the engine looks for in an error; whatever else a service calls its errors is only shown.
_READ_CODES: Final = QUOTA_CODES | UNPAID_CODES | {UNSUPPORTED_CODE}
_PENDING: Final = re.compile(r"\bin '?pending'? state\b", re.IGNORECASE)


@dataclass(frozen=True)
class Operation:
    """What a call is about, for its errors.

    Attributes:
        what: The call in words that follow "to", such as `create a batch on file-1`.
        acts: Whether it must not be done twice: it is sent once, and may end unknown.
        once: Whether it is sent once, though it might be repeated.
        missing: What to do if the thing that the call names is not there.
        lost: What to think of a call that must not be made twice and got no reply.
    """

    what: str
    acts: bool = False
    once: bool = False
    missing: str = "it may have expired or been deleted"
    lost: str = "it may have been done all the same: look for it before it is asked for again"


class Failures:
    """Names the failures of one service. The texts of its errors never contain the service's key.

    What a service says is read as it is and masked where it is shown: a short key is part of ids,
    codes and numbers.
    """

    def __init__(self, settings: RemoteConfig) -> None:
        self._host = settings.host
        self._timeout = settings.timeout
        self._address = f"`{settings.facts.address_key}`"
        self._place = settings.place.name
        key = settings.key
        escaped = (json.dumps(key)[1:-1], key.replace("/", "\\/"))
        self._masked = _mask_of({key, quote(key, safe=""), *escaped} - {""})

    def of(self, operation: Operation, error: Exception) -> ServiceError:
        """Return our error for what the client raised during `operation`."""
        if isinstance(error, openai.APIStatusError):
            response = error.response
            detail = parse_error(content_of(response))
            return self.refused(operation, response.status_code, detail, response.headers)
        return self._unanswered(operation, error)

    def refused(
        self,
        operation: Operation,
        status: int,
        detail: ErrorDetail,
        headers: Mapping[str, str],
    ) -> ServiceError:
        """Return our error for a reply with the status and the error body's `detail`."""
        # Read as it is: what is masked may be a part of any word.
        code = detail.code or ""
        kind, fix = self._verdict(operation, status, code.lower(), detail.message)
        shown, message = self.redact(code), self.redact(detail.message)
        label = f"HTTP {status}, {shown}" if shown not in ("", str(status)) else f"HTTP {status}"
        text = f': "{message}"' if message else ""
        verb = "failed" if status >= 500 else "refused"
        return kind(
            f"The service at {self._host} {verb} to {operation.what} ({label}){text}",
            fix=fix,
            status=status,
            code=(code if code.lower() in _READ_CODES else shown) or None,
            retry_after=parse_retry_after(headers),
            is_of_tokens=_is_of_tokens(code.lower(), detail.message),
            token_limit=limit_in(detail.message),
        )

    def error_in_reply(self, operation: Operation, data: object) -> ServiceError:
        """Return our error for a good status whose body is an error.

        The status that the body names, or that its code stands for, is taken for the reply's.
        """
        detail = error_detail(data)
        named = data.get("statusCode") if isinstance(data, Mapping) else None
        implied = _IMPLIED_STATUSES.get((detail.code or "").lower(), 400)
        status = named if isinstance(named, int) and 400 <= named < 600 else implied
        if not operation.acts:
            return self.refused(operation, status, detail, {})
        return UnknownOutcomeError(
            f"The service at {self._host} answered an error, but with a good status, when asked "
            f'to {operation.what}: "{self.redact(detail.message)}"',
            fix=self._fix_of_unknown(operation),
        )

    def unreadable(self, operation: Operation, why: str) -> ServiceError:
        """Return our error for a reply that is not what was asked for."""
        kind = UnknownOutcomeError if operation.acts else UnreadableReplyError
        return kind(
            f"The service at {self._host} answered something else than was expected when asked to "
            f"{operation.what} ({why})",
            fix=self._fix_of_unknown(operation),
        )

    def interrupted(self, operation: Operation, why: str) -> TransientError:
        """Return our error for a reply that broke off."""
        return TransientError(
            f"The service at {self._host} broke off when asked to {operation.what} "
            f"({self.redact(why)})",
            fix="try again later",
        )

    @property
    def mask(self) -> str:
        """What `redact` replaces by its group 1 and `***`, as Python and DuckDB's RE2 read it."""
        return self._masked.pattern

    def redact(self, text: str) -> str:
        """Take the key, and whatever looks like one, out of a text that the service wrote."""
        return self._masked.sub(lambda found: f"{found['mark'] or ''}***", text)

    def _fix_of_unknown(self, operation: Operation) -> str:
        if operation.acts:
            return operation.lost
        return f"check that {self._address} in {self._place} is the address of a Batch API"

    def _verdict(
        self, operation: Operation, status: int, code: str, message: str
    ) -> tuple[type[ServiceError], str]:
        """The class and the fix of a reply with an error status."""
        if 400 <= status < 500 and code in UNPAID_CODES:
            return ServiceError, "check the plan and the billing of the account"
        if 400 <= status < 500 and _is_quota(code, message):
            return QuotaError, "it can be sent again once earlier work has finished"
        if operation.acts and (status in (408, 409) or status >= 500):
            return UnknownOutcomeError, self._fix_of_unknown(operation)
        if status in (408, 409, 425, 429) or status >= 500:
            return TransientError, "try again later"
        if status == 400 and _PENDING.search(message):
            return TransientError, "the file is still being checked: try again later"
        if status in (404, 410):
            return NotFoundError, operation.missing
        return self._final_verdict(operation, status, code)

    def _final_verdict(
        self, operation: Operation, status: int, code: str
    ) -> tuple[type[ServiceError], str]:
        """The same, for what waiting does not help."""
        if status == 401:
            fix = f"check `api_key` in {self._place}: is it a key of this host?"
            return AuthenticationError, fix
        if status == 403:
            fix = "check that access by key, and from this network, is allowed there"
            return AuthenticationError, fix
        if status < 400:
            return ServiceError, f"write the address that it leads to as {self._address}"
        if status == 413:
            return ServiceError, f"lower `max_bytes_per_file` in {self._place}"
        if code == UNSUPPORTED_CODE:
            return ServiceError, _fix_of_unsupported(operation)
        return ServiceError, "correct what it names"

    def _unanswered(self, operation: Operation, error: Exception) -> ServiceError:
        sent = not any(isinstance(link, _NOT_SENT) for link in causes(error))
        if operation.acts and sent:
            return UnknownOutcomeError(
                f"The service at {self._host} did not answer when asked to {operation.what} "
                f"({self._reason(error)})",
                fix=self._fix_of_unknown(operation),
            )
        if any(isinstance(link, ssl.SSLCertVerificationError) for link in _links(error)):
            return ServiceError(
                f"The service at {self._host} could not be reached to {operation.what}, as its "
                "certificate is not trusted",
                fix=f"check {self._address}, or set SSL_CERT_FILE to the certificates of your "
                "network",
            )
        verb = "broke off when asked" if sent else "could not be reached"
        return TransientError(
            f"The service at {self._host} {verb} to {operation.what} ({self._reason(error)})",
            fix=f"check {self._address} in {self._place} and the network, then try again",
        )

    def _reason(self, error: Exception) -> str:
        links = list(_links(error))
        for kinds, reason in _REASONS:
            if any(isinstance(link, kinds) for link in links):
                return reason.format(timeout=self._timeout)
        texts = [str(link) for link in links if str(link) and not isinstance(link, openai.APIError)]
        return self.redact(texts[-1]) if texts else "connection lost"


def _mask_of(secrets: Iterable[str]) -> re.Pattern[str]:
    """Return what finds secrets, and tokens by what stands before them.

    All in one pass, as one secret may be part of another, or of a token.
    """
    known = [re.escape(secret) for secret in sorted(secrets, key=len, reverse=True)]
    marked = _MARKS + f"(?:{'|'.join([*known, _MARKED])})+"
    return re.compile("|".join([marked, *known]))


def _is_quota(code: str, message: str) -> bool:
    spoken = f"{code} {message}".lower()
    return code in QUOTA_CODES or any(words in spoken for words in _QUOTA_WORDS)


def _is_of_tokens(code: str, message: str) -> bool:
    return any(words in f"{code} {message}".lower() for words in _OF_TOKENS)


def content_of(response: Any) -> bytes:
    """Return the body of an error reply, as far as it was read."""
    # The body of a reply that was closed unread is gone, and asking for it raises.
    try:
        return bytes(response.content)
    except RuntimeError:
        return b""


def _fix_of_unsupported(operation: Operation) -> str:
    if operation.what.startswith("chat"):
        return (
            "a batch deployment answers no single requests: name a standard deployment of the "
            "model as `preview_model` in its meta.enrichment"
        )
    return "deploy the model as Global Batch or Data Zone Batch in a region that offers it"


def causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and its stated causes; a context may be whatever was handled at the time."""
    link: BaseException | None = error
    while link is not None:
        yield link
        link = link.__cause__


def _links(error: BaseException) -> Iterator[BaseException]:
    # Down to the socket's own error, which the transport drops from the stated causes.
    link: BaseException | None = error
    while link is not None:
        yield link
        link = None if isinstance(link, OSError) else link.__cause__ or link.__context__

"""What a service's reply to a single request means for it, and for those to come. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, auto
from typing import Any, Final

# With these a service says that it did not begin: Azure bills what it processed, such as a 400 of
# the content filter or a 408, and nothing of a 429.
# https://learn.microsoft.com/azure/ai-services/openai/how-to/manage-costs
_NOT_BEGUN: Final = frozenset({425, 429, 503})
# It has begun, perhaps, and is in trouble.
_TROUBLED: Final = frozenset({408, 409})
# Waiting does not help against these, unlike against a quota that frees itself.
_UNPAID: Final = frozenset({"insufficient_quota", "billing_hard_limit_reached"})
_UNSUPPORTED: Final = "operationnotsupported"
_QUOTAS: Final = frozenset({"token_limit_exceeded", "quotaexceeded", "quota_exceeded"})
_CONTENT_FILTER: Final = "content_filter"
# https://learn.microsoft.com/azure/ai-services/openai/concepts/content-filter
_POLICY_VIOLATION: Final = "ResponsibleAIPolicyViolation"
_FORBIDDEN: Final = frozenset({403, 404, 410})


class Verdict(Enum):
    """What becomes of a request.

    Attributes:
        ANSWERED: The reply is its answer.
        ITS_OWN: The reply is an error of this request alone.
        TROUBLED: It is an error of this request, and the service is in trouble.
        NOT_BEGUN: The service did not begin: the request is sent again, later.
        DENIED: The credential was refused: it is sent again with another.
        REFUSED: The service would refuse every such request.
    """

    ANSWERED = auto()
    ITS_OWN = auto()
    TROUBLED = auto()
    NOT_BEGUN = auto()
    DENIED = auto()
    REFUSED = auto()


def verdict_of(status: int, code: str | None, *, is_error: bool = False) -> Verdict:
    """Return what a reply means.

    Args:
        status: Its HTTP status.
        code: The code of the error in it, or None.
        is_error: Whether a reply with a good status holds no answer, as of a proxy.
    """
    plain = (code or "").lower()
    if 200 <= status < 300:
        return Verdict.TROUBLED if is_error else Verdict.ANSWERED
    if status < 400 or plain == _UNSUPPORTED or (status < 500 and plain in _UNPAID):
        return Verdict.REFUSED
    if status in _NOT_BEGUN or (status < 500 and plain in _QUOTAS):
        return Verdict.NOT_BEGUN
    if status == 401:
        return Verdict.DENIED
    if status in _FORBIDDEN:
        return Verdict.REFUSED
    if status in _TROUBLED or status >= 500:
        return Verdict.TROUBLED
    return Verdict.ITS_OWN


def is_no_answer(body: object) -> bool:
    """Whether the body of a good reply is an error or a page in place of what was asked for."""
    if not isinstance(body, Mapping):
        return True
    if "status" in body or "id" in body:
        return False
    return bool(body.get("error")) or ("statusCode" in body and "message" in body)


def is_filtered(error: object) -> bool:
    """Whether an error's object says, in either of two places, that the filter took the prompt."""
    if not isinstance(error, Mapping):
        return False
    inner: Any = error.get("innererror")
    return error.get("code") == _CONTENT_FILTER or (
        isinstance(inner, Mapping) and inner.get("code") == _POLICY_VIOLATION
    )

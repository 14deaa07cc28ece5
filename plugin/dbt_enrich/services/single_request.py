"""One synchronous request that is sent once: its reply, or what is known of why there is none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import openai

from dbt_enrich.errors import AuthenticationError, NotFoundError, QuotaError, ServiceError
from dbt_enrich.services.base import UNSUPPORTED_CODE, SynchronousReply
from dbt_enrich.services.calls import Calls, Connection
from dbt_enrich.services.failures import UNPAID_CODES, Failures, Operation
from dbt_enrich.services.parse import (
    ErrorDetail,
    MalformedReplyError,
    parse_error,
    parse_json,
)

# With these a service says that it did not begin: Azure bills what it processed, such as a 400 of
# the content filter or a 408, and nothing of a 429.
# https://learn.microsoft.com/azure/ai-services/openai/how-to/manage-costs
_NOT_BEGUN: Final = frozenset({425, 429, 503})
_CONTENT_FILTER: Final = "content_filter"
# https://learn.microsoft.com/azure/ai-services/openai/concepts/content-filter
_POLICY_VIOLATION: Final = "ResponsibleAIPolicyViolation"


def operation_of(body: Mapping[str, Any]) -> Operation:
    """Return what the errors of a synchronous request say that it is about."""
    return Operation(
        f"chat with {body.get('model')}",
        missing="there is no such deployment or model: check `deployments` in the profile",
        lost="the answer may have been paid for all the same",
    )


def ask_once(
    calls: Calls, path: str, body: Mapping[str, Any], headers: Mapping[str, str]
) -> SynchronousReply:
    """Send one request and return the reply to it, be it an answer or an error of this request.

    It is not given up when the user interrupts, for its reply is paid for.

    Args:
        calls: Sends.
        path: The endpoint's.
        body: The request, with the deployment as `model`.
        headers: Headers of the request.

    Raises:
        TransientError: The request was not begun, so that it may be sent again.
        QuotaError: The same, for want of quota.
        UnknownOutcomeError: It was sent, and no reply came.
        ServiceError: The service refuses every such request.
    """
    asked = operation_of(body)
    operation = replace(asked, acts=True, interruptible=False)

    def exchange(connection: Connection) -> SynchronousReply:
        status, text, replied = connection.any_reply(
            operation, lambda client: post(client, path, body, options={"headers": dict(headers)})
        )
        if status == 200:
            # It came, and may be paid for: whatever it is, it is kept as a batch's line is.
            return SynchronousReply(200, _good_body(text))
        refusal = connection.failures.refused(asked, status, parse_error(text), replied)
        if _is_of_every_request(status, refusal):
            raise refusal
        return SynchronousReply(status, _error_body(text, connection.failures))

    return calls.call(operation, exchange)


def post(client: openai.OpenAI, path: str, body: Mapping[str, Any], **options: Any) -> str:
    """Send one synchronous request with a client and return the text of a good reply."""
    text: str = client.post(path, cast_to=str, body=dict(body), **options)
    return text


def _is_of_every_request(status: int, refusal: ServiceError) -> bool:
    """Whether an error reply is about more than its own request, or about none that was begun."""
    if status < 400 or status in _NOT_BEGUN:
        return True
    if (refusal.code or "").lower() in {UNSUPPORTED_CODE, *UNPAID_CODES}:
        return True
    return isinstance(refusal, AuthenticationError | NotFoundError | QuotaError)


def _good_body(text: str) -> Any:
    """Return what a good reply holds: its JSON, or its text where it is none."""
    try:
        return parse_json(text)
    except MalformedReplyError:
        return text


def _error_body(text: str, failures: Failures) -> dict[str, Any]:
    """Return what an error reply says, as a line of a batch's output file would hold it.

    It is stored, so that its words are masked; the code of the content filter is not.
    """
    detail = parse_error(text)
    is_filtered = _is_filtered(detail, text)
    code = _CONTENT_FILTER if is_filtered else failures.redact(detail.code or "") or None
    return {"error": {"code": code, "message": failures.redact(detail.message)}}


def _is_filtered(detail: ErrorDetail, text: str) -> bool:
    """Whether the content filter refused the prompt, in either of the places that tell."""
    if detail.code == _CONTENT_FILTER:
        return True
    try:
        data: object = parse_json(text)
    except MalformedReplyError:
        return False
    for name in ("error", "innererror", "code"):
        data = data.get(name) if isinstance(data, Mapping) else None
    return data == _POLICY_VIOLATION

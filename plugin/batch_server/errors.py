"""The service's error replies, in the shape of each flavour."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from batch_server.refusals import Refusal, quoted


class Flavour(StrEnum):
    """Whose paths and bodies a request uses."""

    AZURE_CLASSIC = "azure_classic"
    AZURE_V1 = "azure_v1"
    OPENAI = "openai"

    @property
    def is_azure(self) -> bool:
        """Whether the bodies are Azure's."""
        return self is not Flavour.OPENAI


# What OpenAI calls what Azure has a code of its own for; None: it gives no code.
_OPENAI_CODES: dict[str, str | None] = {
    "401": "invalid_api_key",
    "404": None,
    "409": None,
    "conflict": None,
    "contentTooLarge": None,
    "invalidPayload": None,
    "internalFailure": None,
    "notFound": None,
    "quotaExceeded": "file_quota_exceeded",
    "tooManyRequests": "rate_limit_exceeded",
    "DeploymentNotFound": "model_not_found",
}


@dataclass
class WireError(Exception):
    """A reply with an error status.

    Attributes:
        status: HTTP status code.
        code: Azure's code, such as `quotaExceeded`.
        message: What the service says.
        headers: Further headers, such as `Retry-After`.
        param: The field that is wrong; Azure's `target`.
        inner: Azure: the `innererror`.
        detail: OpenAI's code, where it is a finer one.
        of_a_model: Whether a model's own endpoint says it, which speaks as OpenAI's everywhere.
    """

    status: int
    code: str
    message: str
    headers: dict[str, str] = field(default_factory=dict)
    param: str | None = None
    inner: dict[str, Any] | None = None
    detail: str | None = None
    of_a_model: bool = False

    def body(self, flavour: Flavour) -> dict[str, Any]:
        """Return the error body of `flavour`."""
        if flavour.is_azure and not self.of_a_model:
            target = {"target": self.param} if self.param else {}
            inner = {"innererror": self.inner} if self.inner else {}
            return {"error": {"code": self.code, "message": self.message, **target, **inner}}
        return {
            "error": {
                "message": self.message,
                "type": self._kind(),
                "param": self.param,
                "code": self.detail or _OPENAI_CODES.get(self.code, self.code),
            }
        }

    def _kind(self) -> str:
        if self.status >= 500:
            return "server_error"
        return "requests" if self.status == 429 else "invalid_request_error"


def denied(flavour: Flavour) -> WireError:
    """A call without the key."""
    if flavour.is_azure:
        return WireError(
            401,
            "401",
            "Access denied due to invalid subscription key or wrong API endpoint. Make sure to "
            "provide a valid key for an active subscription and use a correct regional API "
            "endpoint for your resource.",
        )
    return WireError(401, "401", "Incorrect API key provided.")


def not_found(what: str, name: str) -> WireError:
    """A file, batch or deployment that is not there."""
    return WireError(404, "notFound", f"The {what} {quoted(name)} does not exist.", param="id")


def invalid(message: str, param: str | None = None) -> WireError:
    """A request that is not well-formed."""
    return WireError(400, "invalidPayload", message, param=param)


def refused(refusal: Refusal, *, of_a_model: bool = False) -> WireError:
    """A body that is not what the call's documents say."""
    return WireError(
        400,
        "invalidPayload",
        refusal.message,
        param=refusal.param,
        detail=refusal.code,
        of_a_model=of_a_model,
    )


def broken() -> WireError:
    """A call that the server itself failed on; its log has the reason."""
    return WireError(
        500, "internalFailure", "The server had an error while processing your request."
    )

"""The service's error replies, in the shape of each flavour."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Flavour(StrEnum):
    """Whose paths and bodies a request uses."""

    AZURE_CLASSIC = "azure_classic"
    AZURE_V1 = "azure_v1"
    OPENAI = "openai"

    @property
    def is_azure(self) -> bool:
        """Whether the bodies are Azure's."""
        return self is not Flavour.OPENAI


@dataclass
class WireError(Exception):
    """A reply with an error status.

    Attributes:
        status: HTTP status code.
        code: The service's own code, such as `token_limit_exceeded`.
        message: What the service says.
        headers: Further headers, such as `Retry-After`.
    """

    status: int
    code: str
    message: str
    headers: dict[str, str] = field(default_factory=dict)

    def body(self, flavour: Flavour) -> dict[str, Any]:
        """Return the error body of `flavour`."""
        if flavour.is_azure:
            return {"error": {"code": self.code, "message": self.message}}
        kind = "invalid_request_error" if self.status < 500 else "server_error"
        return {"error": {"message": self.message, "type": kind, "param": None, "code": self.code}}


def not_found(what: str, name: str) -> WireError:
    """A file, batch or deployment that is not there."""
    return WireError(404, "notFound", f"The {what} '{name}' does not exist.")


def invalid(message: str) -> WireError:
    """A request that is not well-formed."""
    return WireError(400, "invalidPayload", message)

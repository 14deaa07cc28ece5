"""What the service checks of an input file before it answers a line of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_MAX_ERRORS = 10
_URLS = ("/chat/completions", "/v1/chat/completions")


@dataclass(frozen=True)
class LineError:
    """A reason for which a batch fails as a whole."""

    code: str
    message: str
    line: int | None = None

    def document(self) -> dict[str, Any]:
        """Return it as it stands in a batch's `errors`."""
        return {"code": self.code, "message": self.message, "param": None, "line": self.line}


@dataclass(frozen=True)
class Deployment:
    """A deployment of the resource.

    Attributes:
        name: Its name, which requests give as `model`.
        sku: Its type, such as `GlobalBatch` or `Standard`.
        max_enqueued_tokens: The tokens that batches may hold at once, or None for no limit.
    """

    name: str
    sku: str = "GlobalBatch"
    max_enqueued_tokens: int | None = None

    @property
    def is_batch(self) -> bool:
        """Whether batches may use it."""
        return "batch" in self.sku.lower()


@dataclass(frozen=True)
class CheckedInput:
    """What an input file holds.

    Attributes:
        errors: Why the batch fails; empty if it does not.
        requests: Number of lines.
        deployment: The deployment that all lines name.
        tokens: Estimate of the tokens, from the number of characters, as the service's own is.
    """

    errors: tuple[LineError, ...]
    requests: int = 0
    deployment: str | None = None
    tokens: int = 0


def check_input(
    path: Path,
    endpoint: str,
    *,
    find_deployment: Callable[[str], Deployment | None],
    max_requests: int,
) -> CheckedInput:
    """Check an input file line by line, holding no more than its custom_ids in memory."""
    errors: list[LineError] = []
    seen: set[str] = set()
    model: str | None = None
    count = size = 0
    with path.open("rb") as file:
        for number, raw in enumerate(file, start=1):
            if not raw.strip():
                continue
            count += 1
            size += len(raw)
            line, error = _parse(raw, number)
            error = error or _line_error(line, number, endpoint, seen)
            if error is None:
                asked = line["body"]["model"]
                error = _model_error(asked, model, number, find_deployment)
                model = model or asked
                seen.add(line["custom_id"])
            if error:
                errors.append(error)
                if len(errors) >= _MAX_ERRORS:
                    break
    if count == 0:
        errors.append(
            LineError(
                "empty_file",
                "The input file is empty. Please ensure that the batch contains at least one "
                "request.",
            )
        )
    if count > max_requests:
        errors.append(
            LineError("too_many_tasks", f"The file holds more than {max_requests} requests.")
        )
    return CheckedInput(tuple(errors), count, model, size // 4)


def _parse(raw: bytes, number: int) -> tuple[dict[str, Any], LineError | None]:
    try:
        line = json.loads(raw.decode("utf-8"))
    except (ValueError, RecursionError):
        return {}, LineError("invalid_json_line", "The line is not valid JSON.", number)
    if not isinstance(line, dict):
        return {}, LineError("invalid_request", "The line is not an object.", number)
    return line, None


def _line_error(
    line: dict[str, Any], number: int, endpoint: str, seen: set[str]
) -> LineError | None:
    custom_id, body = line.get("custom_id"), line.get("body")
    if not isinstance(custom_id, str) or not 0 < len(custom_id) <= 512:
        return LineError("invalid_request", "custom_id must be a text.", number)
    if line.get("method") != "POST":
        return LineError("invalid_request", "method must be POST.", number)
    if custom_id in seen:
        return LineError("duplicate_custom_id", f"'{custom_id}' is there already.", number)
    url = line.get("url")
    if url not in _URLS or str(url).removeprefix("/v1") != endpoint.removeprefix("/v1"):
        return LineError(
            "url_mismatch", f"The url '{url}' is not the batch's endpoint '{endpoint}'.", number
        )
    if not isinstance(body, dict) or not isinstance(body.get("model"), str):
        return LineError("invalid_request", "body.model must be a text.", number)
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages or not all(map(_is_message, messages)):
        return LineError("invalid_request", "body.messages must be a list of messages.", number)
    return None


def _is_message(message: object) -> bool:
    return isinstance(message, dict) and isinstance(message.get("role"), str)


def _model_error(
    asked: str,
    model: str | None,
    number: int,
    find_deployment: Callable[[str], Deployment | None],
) -> LineError | None:
    if model is not None and asked != model:
        return LineError(
            "model_mismatch", f"The model '{asked}' is not '{model}' of the first line.", number
        )
    if model is not None:
        return None
    deployment = find_deployment(asked)
    if deployment is None:
        return LineError(
            "model_not_found", f"The provided model deployment '{asked}' was not found.", number
        )
    if not deployment.is_batch:
        return LineError(
            "invalid_request",
            f"The deployment '{asked}' of type {deployment.sku} cannot be used for batches.",
            number,
        )
    return None

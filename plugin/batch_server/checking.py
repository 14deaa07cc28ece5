"""What the service checks of an input file before it answers a line of it."""

from __future__ import annotations

import codecs
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError
from pydantic_core import from_json

from batch_server.bodies import AnyLine
from batch_server.errors import Flavour
from batch_server.model_endpoints import BY_PATH, Line, is_offered, plain
from batch_server.refusals import quoted, refusal_of
from batch_server.responders.base import CHAT, RESPONSES

_MAX_ERRORS = 10
# A line with pictures may be as long as a file.
MAX_LINE = 210_000_000


@dataclass(frozen=True)
class LineError:
    """A reason for which a batch fails as a whole."""

    code: str
    message: str
    line: int | None = None
    param: str | None = None

    def document(self) -> dict[str, Any]:
        """Return it as it stands in a batch's `errors`."""
        return {
            "code": self.code,
            "message": self.message,
            "param": self.param,
            "line": self.line,
        }


@dataclass(frozen=True)
class Deployment:
    """A deployment of the resource.

    Attributes:
        name: Its name, which requests give as `model`.
        sku: Its type, such as `GlobalBatch` or `Standard`.
        max_enqueued_tokens: The tokens that batches may hold at once, or None for no limit.
        quota_fails: Whether a batch that finds no room is refused when it is created, or is
            created and found `failed` later.
    """

    name: str
    sku: str = "GlobalBatch"
    max_enqueued_tokens: int | None = None
    quota_fails: Literal["create", "later"] = "create"

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
    flavour: Flavour,
    find_deployment: Callable[[str], Deployment | None],
    max_requests: int,
    any_url: bool = False,
) -> CheckedInput:
    """Check an input file line by line, holding no more than its custom_ids in memory.

    Args:
        path: The file.
        endpoint: The batch's endpoint.
        flavour: Whose batch it is; Azure takes the url of a line with and without `/v1`.
        find_deployment: Returns a deployment by its name, or None.
        max_requests: Requests that one file may hold.
        any_url: Whether endpoints and bodies are another service's affair.
    """
    with path.open("rb") as file:
        if file.read(3) == codecs.BOM_UTF8:
            return CheckedInput((_NO_MODEL,))
        file.seek(0)
        check = _Check(endpoint, flavour, find_deployment, any_url=any_url)
        for number, raw in enumerate(iter(lambda: file.readline(MAX_LINE), b""), start=1):
            if raw.strip():
                check.line(raw, number)
            if len(check.errors) >= _MAX_ERRORS:
                break
    errors = check.errors
    if check.count == 0:
        errors.append(
            LineError(
                "empty_file",
                "The input file is empty. Please ensure that the batch contains at least one "
                "request.",
            )
        )
    if check.count > max_requests:
        errors.append(
            LineError(
                "too_many_tasks",
                f"The number of requests in the input file exceeds the maximum of {max_requests}.",
            )
        )
    return CheckedInput(tuple(errors), check.count, check.model, path.stat().st_size // 4)


_NO_MODEL = LineError(
    "invalid_request",
    "Valid model deployment name couldn't be extracted from the input file. Please ensure that "
    "each row in the input file has a valid model deployment name.",
)


class _Check:
    """What is known of the lines so far."""

    def __init__(
        self,
        endpoint: str,
        flavour: Flavour,
        find_deployment: Callable[[str], Deployment | None],
        *,
        any_url: bool,
    ) -> None:
        self.errors: list[LineError] = []
        self._any_url = any_url
        self.count = 0
        self.model: str | None = None
        self._endpoint = endpoint
        self._flavour = flavour
        self._find_deployment = find_deployment
        self._seen: set[str] = set()
        self._url: str | None = None

    def line(self, raw: bytes, number: int) -> None:
        self.count += 1
        line = _read(raw, number, self._form_of)
        error = line if isinstance(line, LineError) else self._error_of(line, number)
        if error:
            self.errors.append(error)

    def _error_of(self, line: Line | AnyLine, number: int) -> LineError | None:
        if line.custom_id in self._seen:
            return LineError(
                "duplicate_custom_id", f"{quoted(line.custom_id)} is there already.", number
            )
        asked = line.body.model
        error = self._url_error(line.url, number) or _model_error(
            asked, self.model, number, self._find_deployment
        )
        if error is None:
            self.model = self.model or asked
            self._seen.add(line.custom_id)
        return error

    def _fits(self, url: str) -> bool:
        """Whether the url of a line goes with the batch's endpoint.

        Azure reads the lines to tell chat completions from Responses, whatever the batch says.
        """
        if not self._flavour.is_azure:
            return url == self._endpoint
        batch, line = plain(self._endpoint), plain(url)
        return line == batch or (batch, line) == (CHAT, RESPONSES)

    def _form_of(self, line: Any) -> type[Line | AnyLine]:
        """Return what a line must hold, by the endpoint that it asks.

        Of one that asks another than its batch does, nothing else is said.
        """
        if self._any_url:
            return AnyLine
        url = line.get("url") if isinstance(line, dict) else None
        if not isinstance(url, str):
            return BY_PATH[plain(self._endpoint)].line
        fits = is_offered(url, self._flavour) and self._fits(url)
        return BY_PATH[plain(url)].line if fits else AnyLine

    def _url_error(self, url: str, number: int) -> LineError | None:
        if self._any_url:
            return None
        if not is_offered(url, self._flavour) or not self._fits(url):
            return LineError(
                "url_mismatch",
                f"The url {quoted(url)} is not the batch's endpoint '{self._endpoint}'.",
                number,
            )
        if self._url is not None and url != self._url:
            return LineError(
                "url_mismatch",
                f"The url {quoted(url)} is not '{self._url}' of the first line.",
                number,
            )
        self._url = url
        return None


def parse_line(raw: bytes) -> Any:
    """Parse a line as leniently as Python can: what is odd in it is its own request's affair.

    Raises:
        ValueError: It is no JSON, or no JSON that can be read.
    """
    try:
        return from_json(raw)
    except ValueError:
        text = raw.decode("utf-8")
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        raise
    except ValueError:
        # Python reads no integer of more than some thousand digits.
        return json.loads(text, parse_int=float)
    except RecursionError as error:
        raise ValueError("it is nested too deeply to be read") from error


def _read(
    raw: bytes, number: int, form_of: Callable[[Any], type[Line | AnyLine]]
) -> Line | AnyLine | LineError:
    try:
        line = parse_line(raw)
    except ValueError:
        return LineError("invalid_json_line", "The line is not valid JSON.", number)
    try:
        return form_of(line).model_validate(line)
    except ValidationError as error:
        refusal = refusal_of(error, line)
        return LineError("invalid_request", refusal.message, number, refusal.param)


def _model_error(
    asked: str,
    model: str | None,
    number: int,
    find_deployment: Callable[[str], Deployment | None],
) -> LineError | None:
    if model is not None and asked != model:
        return LineError(
            "model_mismatch",
            f"The model {quoted(asked)} is not {quoted(model)} of the first line.",
            number,
        )
    if model is not None:
        return None
    deployment = find_deployment(asked)
    if deployment is None:
        return LineError(
            "model_not_found",
            f"The provided model deployment {quoted(asked)} was not found.",
            number,
        )
    if not deployment.is_batch:
        return LineError(
            "invalid_request",
            f"The deployment {quoted(asked)} of type {deployment.sku} cannot be used for batches.",
            number,
        )
    return None

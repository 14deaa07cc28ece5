"""Looks whether a model server is there, takes the key and has the model, before it is asked."""

from __future__ import annotations

from typing import Any, Final

from batch_server.http_client import httpx
from batch_server.problems import BatchServerError, SetupError
from batch_server.responders.upstream_client import CONNECT_SECONDS
from batch_server.responders.upstream_options import UpstreamOptions

_PROBE_SECONDS: Final = 30.0
_MOST_NAMES: Final = 20
# Ollama lists `llama3.2:latest` and takes `llama3.2` for it.
_USUAL_TAG: Final = ":latest"


def check_upstream(options: UpstreamOptions, model: str | None) -> None:
    """Ask the server for its models (GET `/models`), and check that the wanted one is there.

    A server that answers and has trouble of its own (429, 5xx), as one that still loads its
    model, is taken as it is: its requests are repeated.

    Args:
        options: Where the server is.
        model: The model that it is to have; None: any.

    Raises:
        SetupError: The key is refused, the address is no such server's, or the model is
            not there.
        BatchServerError: There is no answer.
    """
    try:
        response = _ask(options)
    except httpx.HTTPError as error:
        raise BatchServerError(
            f"no model server answers at {options.base_url} ({str(error) or type(error).__name__})",
            fix="start it, or correct base_url",
        ) from error
    status = response.status_code
    if status in (401, 403):
        raise _refused_key(options, status)
    if status in (408, 429) or status >= 500:
        return
    names = _names(response) if status == 200 else None
    if names is None:
        raise SetupError(
            f"what answers at {options.base_url} is no OpenAI-compatible server: GET "
            f"{options.base_url}/models gave HTTP {status} and no list of models",
            fix="write base_url up to /v1, such as http://localhost:11434/v1",
        )
    if model is not None and model not in names and f"{model}{_USUAL_TAG}" not in names:
        raise SetupError(
            f"the model server at {options.base_url} has no model '{model}'; {_listed(names)}",
            fix="name one that it has, or load or pull the model there",
        )


def upstream_models(options: UpstreamOptions) -> list[str]:
    """Return the names of the server's models; none where it does not say."""
    try:
        response = _ask(options)
    except httpx.HTTPError:
        return []
    return (_names(response) or []) if response.status_code == 200 else []


def _ask(options: UpstreamOptions) -> httpx.Response:
    with httpx.Client(
        headers=options.headers(),
        timeout=httpx.Timeout(_PROBE_SECONDS, connect=CONNECT_SECONDS),
        trust_env=options.trusts_environment,
    ) as client:
        return client.get(f"{options.base_url}/models")


def _refused_key(options: UpstreamOptions, status: int) -> SetupError:
    place = f"the model server at {options.base_url}"
    if options.api_key_env is None:
        return SetupError(
            f"{place} demands a key (HTTP {status})",
            fix="put it into an environment variable and name that variable",
        )
    return SetupError(
        f"{place} refuses the key in the environment variable {options.api_key_env} "
        f"(HTTP {status})",
        fix="put the right one there",
    )


def _names(response: httpx.Response) -> list[str] | None:
    """Return the names of the server's models, or None if it does not say."""
    try:
        body: Any = response.json()
    except (ValueError, RecursionError):
        return None
    # Ollama writes null where it has none.
    found = (body.get("data") or []) if isinstance(body, dict) and "data" in body else None
    if not isinstance(found, list):
        return None
    return [str(item["id"]) for item in found if isinstance(item, dict) and "id" in item]


def _listed(names: list[str]) -> str:
    if not names:
        return "it has none at all"
    shown = ", ".join(sorted(names)[:_MOST_NAMES])
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return f"it has {shown}{more}"

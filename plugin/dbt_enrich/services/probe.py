"""Whether a deployment is there and takes batches, asked before anything is uploaded.

No service says this in so many words, so only what is certain is an error:

- Azure lists its deployments at `/openai/deployments` for the API version `2023-03-15-preview`
  alone. It is no longer documented, but clients still live on it; where it is gone, nothing is
  known. Its `/openai/v1/models` holds the catalogue's models, not the deployments, so that a name
  is missing there says nothing. Its old `scale_type` knew only `standard` and `manual`, which
  therefore say nothing either.
- OpenAI has `/v1/models/{model}`; of a server that only resembles it, a 404 counts if it names
  the model.
"""

from __future__ import annotations

import difflib
import logging
import re
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol
from urllib.parse import quote

from dbt_enrich.config.remote import RemoteConfig
from dbt_enrich.errors import (
    AuthenticationError,
    ConfigurationError,
    NotFoundError,
    ServiceError,
    TransientError,
)
from dbt_enrich.services.parse import ErrorDetail

logger = logging.getLogger(__name__)

_DEPLOYMENTS_VERSION: Final = "2023-03-15-preview"
_UNKNOWN_CODES: Final = frozenset({"deploymentnotfound", "model_not_found"})
_OLD_SCALE_TYPES: Final = frozenset({"standard", "manual"})


_Refuse = Callable[[RemoteConfig, str, Mapping[str, Any]], None]


class Getter(Protocol):
    """How the probe asks: returns the decoded reply, or the error body of a 404."""

    def __call__(self, url: str, query: Mapping[str, str]) -> Any | ErrorDetail:
        """Get `url`, absolute or relative to the service's API."""
        ...


def check_deployment(settings: RemoteConfig, deployment: str, get: Getter) -> None:
    """Refuse a deployment that certainly is not there, or certainly takes no batches.

    Args:
        settings: Which service it is.
        deployment: The name that the lines of an input file would carry as `model`.
        get: Asks the service.

    Raises:
        NotFoundError: The service knows no such deployment or model.
        ConfigurationError: The deployment is not a batch deployment.
    """
    try:
        look = _look_for_deployment if settings.facts.has_deployments else _look_for_model
        look(settings, deployment, get, _refuse_other_kinds)
    except NotFoundError:
        raise
    except ServiceError as error:
        # The endpoint and the key have been seen to work; this route may not be there for them.
        logger.debug("Nothing known of deployment %r: %s", deployment, error)


def check_single(settings: RemoteConfig, deployment: str, get: Getter) -> None:
    """Refuse a key that the service refuses, and a deployment that certainly answers no request.

    Args:
        settings: Which service it is.
        deployment: What a request names as its `model`.
        get: Asks the service.

    Raises:
        AuthenticationError: The service does not accept the key.
        NotFoundError: The service knows no such deployment or model.
        ConfigurationError: The deployment is one for batches.
        TransientError: The service cannot be reached.
    """
    look = _look_for_deployment if settings.facts.has_deployments else _look_for_model
    try:
        look(settings, deployment, get, _refuse_batch_kinds)
    except (AuthenticationError, NotFoundError, TransientError):
        raise
    except ServiceError as error:
        logger.debug("Nothing known of deployment %r: %s", deployment, error)


def no_batch_api(settings: RemoteConfig, error: ServiceError) -> ConfigurationError:
    """Return the error for an address that answers, but has no list of batches.

    Args:
        settings: Which service it is.
        error: What it answered.
    """
    fix = settings.facts.address_fix
    if settings.dated_version:
        fix = "check `endpoint`, and write 2024-10-21 as `api_version` or leave it out"
    return ConfigurationError(
        f"There is no Batch API at {settings.host} under this address (HTTP {error.status})",
        fix=f"{fix} in {settings.place.name}",
    )


def _look_for_deployment(
    settings: RemoteConfig, deployment: str, get: Getter, refuse: _Refuse
) -> None:
    query = {"api-version": _DEPLOYMENTS_VERSION}
    url = f"{settings.url}/openai/deployments"
    found = get(f"{url}/{quote(deployment, safe='')}", query)
    if isinstance(found, Mapping):
        refuse(settings, deployment, found)
        return
    if _is_certain(found, deployment, certain_codes=frozenset({"deploymentnotfound"})):
        raise _not_found(settings, deployment, ())
    listed = get(url, query)
    entries = listed.get("data") if isinstance(listed, Mapping) else None
    if not isinstance(entries, list):
        return
    by_name = {str(entry.get("id")): entry for entry in entries if isinstance(entry, Mapping)}
    if deployment in by_name:
        refuse(settings, deployment, by_name[deployment])
    elif by_name:
        raise _not_found(settings, deployment, tuple(by_name))


def _look_for_model(
    settings: RemoteConfig,
    deployment: str,
    get: Getter,
    refuse: _Refuse,  # noqa: ARG001
) -> None:
    found = get(f"/models/{quote(deployment, safe='')}", {})
    if _is_certain(found, deployment, certain_codes=_UNKNOWN_CODES):
        raise _not_found(settings, deployment, ())


def _is_certain(found: object, deployment: str, *, certain_codes: frozenset[str]) -> bool:
    if not isinstance(found, ErrorDetail):
        return False
    # As a word of its own: a missing route is a "Resource not found", whatever is asked of it.
    named = re.search(rf"(?<![\w-]){re.escape(deployment)}(?![\w-])", found.message)
    is_route = found.message.strip(" .").lower() in ("resource not found", "not found")
    return (found.code or "").lower() in certain_codes or bool(named and not is_route)


def _not_found(settings: RemoteConfig, deployment: str, known: tuple[str, ...]) -> NotFoundError:
    near = difflib.get_close_matches(deployment, known, n=1)
    if near:
        fix = f"did you mean {near[0]!r}?"
    elif known:
        fix = f"there are {', '.join(sorted(known)[:10])}"
    elif settings.facts.has_deployments:
        fix = "deploy it as Global Batch or Data Zone Batch, or wait if that was just done"
    else:
        fix = "check its spelling, and that the key may use it"
    thing = "deployment" if settings.facts.has_deployments else "model"
    return NotFoundError(
        f"The service at {settings.host} has no {thing} {deployment!r}",
        fix=f"correct `deployments` in {settings.place.name} or `model` in the task; {fix}",
        status=404,
    )


def _refuse_other_kinds(settings: RemoteConfig, deployment: str, found: Mapping[str, Any]) -> None:
    kind = _kind(found)
    if kind is None or "batch" in kind.lower():
        return
    raise ConfigurationError(
        f"The deployment {deployment!r} at {settings.host} is of the type {kind}, which takes no "
        "batches",
        fix="deploy the model as Global Batch or Data Zone Batch, and name that deployment under "
        f"`deployments` in {settings.place.name}",
    )


def _refuse_batch_kinds(settings: RemoteConfig, deployment: str, found: Mapping[str, Any]) -> None:
    kind = _kind(found)
    if kind is None or "batch" not in kind.lower():
        return
    raise ConfigurationError(
        f"The deployment {deployment!r} at {settings.host} is of the type {kind}, which answers no "
        "single requests",
        fix="name a standard deployment of the model as enrichment.preview_model, or under "
        f"`deployments` in {settings.place.name}",
    )


def _kind(found: Mapping[str, Any]) -> str | None:
    """The deployment's type, such as `GlobalBatch`, where the service tells it."""
    sku = found.get("sku")
    name = sku.get("name") if isinstance(sku, Mapping) else sku
    if isinstance(name, str) and name:
        return name
    scale = found.get("scale_settings")
    kind = scale.get("scale_type") if isinstance(scale, Mapping) else found.get("scale_type")
    if not isinstance(kind, str) or kind.lower() in _OLD_SCALE_TYPES:
        return None
    return kind or None

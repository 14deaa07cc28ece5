"""What a user does about a batch that the service failed as a whole."""

from __future__ import annotations

from dbt_enrich.errors import (
    AuthenticationError,
    ConfigurationError,
    EnrichmentError,
    NotFoundError,
    ServiceError,
)
from dbt_enrich.services.base import UNSUPPORTED_CODE, BatchError
from dbt_enrich.state.shards import Shard


def fix_of(codes: set[str], shard: Shard) -> str:
    """Say what to do about a batch that failed as a whole.

    Args:
        codes: The codes of its errors, in lower case.
        shard: What it was made of.
    """
    if codes & {"model_not_found", "deploymentnotfound"}:
        return (
            f"the deployment '{shard.deployment}' does not exist at {shard.service}; set it in "
            f"deployments, such as deployments: {{{shard.model}: my-batch-deployment}}"
        )
    if "invalid_request" in codes:
        return (
            f"check that the deployment '{shard.deployment}' is of the type Global Batch or Data "
            "Zone Batch, and that enrichment.parameters are ones that its model knows"
        )
    if "input_no_permissions" in codes:
        return (
            "give the system-assigned identity of the resource the role Storage Blob Data "
            "Contributor on the container of `state.files`, let the resource through its firewall, "
            "or write batch_input: upload"
        )
    if "input_modified" in codes:
        return "keep other programs from the folder `requests` of the container, then run again"
    if "url_mismatch" in codes:
        return "set line_url and batch_endpoint in the plugin's config to what the service wants"
    return "fix what the service names, then run again"


def refusal_of(error: BatchError, said: str, shard: Shard) -> EnrichmentError:
    """Return the error of a relayed batch of which the service refuses every request.

    Args:
        error: What the relay says of it; its `param` is the HTTP status.
        said: The same for users, without secrets.
        shard: What the batch was made of.
    """
    named = error.param or ""
    status = int(named) if named.isdigit() else None
    problem = f"{said}; the replies that came before are kept"
    if error.code.lower() == UNSUPPORTED_CODE:
        return ConfigurationError(
            f"the deployment '{shard.deployment}' answers no single requests ({said}); the replies "
            "that came before are kept",
            fix="name a standard deployment of the model as enrichment.preview_model",
        )
    if status in (401, 403):
        fix = "check the key, or the role of the identity that signs in"
        return AuthenticationError(problem, fix=fix, status=status, code=error.code)
    if status in (404, 410):
        fix = "there is no such deployment or model: check `deployments`"
        return NotFoundError(problem, fix=fix, status=status, code=error.code)
    fix = "correct what it names, then run again"
    return ServiceError(problem, fix=fix, status=status, code=error.code)

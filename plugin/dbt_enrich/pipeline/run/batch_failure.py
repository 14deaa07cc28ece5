"""What a user does about a batch that the service failed as a whole."""

from __future__ import annotations

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
    if "url_mismatch" in codes:
        return "set line_url and batch_endpoint in the plugin's config to what the service wants"
    return "fix what the service names, then run again"

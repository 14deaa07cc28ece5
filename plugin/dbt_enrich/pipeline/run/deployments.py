"""Spread: the deployments that serve one model as one queue, each with its own quota.

A new shard goes to the deployment that has least to do for its size. One that finds no room there
later goes to another that has; its file names the deployment, and is written and uploaded anew.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from dbt_enrich.endpoints.request_lines import with_deployment
from dbt_enrich.files import make_private, settle, writing
from dbt_enrich.pipeline.run.token_quota import TokenRoom
from dbt_enrich.state.ledger import Ledger
from dbt_enrich.state.run import Run
from dbt_enrich.state.shards import Shard, Step

_BLOCK_BYTES = 1 << 20


class Spread:
    """Chooses deployments for the shards that one run claims.

    Args:
        deployments: Those that serve the model, the preferred one first.
        service: The service's id.
        room: What is known of their limits.
        ledger: What is claimed and in flight.
    """

    def __init__(
        self, deployments: Sequence[str], service: str, room: TokenRoom, ledger: Ledger
    ) -> None:
        self.deployments = tuple(deployments)
        limits = {name: room.limit(service, name) for name in deployments}
        known = [limit for limit in limits.values() if limit]
        # One of which nothing is known is taken to be as large as the largest.
        self._sizes = {name: limit or max(known, default=1) for name, limit in limits.items()}
        self._requests: Counter[str | None] = Counter()
        for shard in ledger.shards.open(service=service):
            self._requests[shard.deployment] += shard.requests
        self.max_tokens = min(known, default=None)
        # Of all together, if each is known.
        self.all_tokens = sum(known) if len(known) == len(limits) else None

    def choose(self, requests: int) -> str:
        """Return the deployment that takes a shard of so many requests."""
        chosen = min(self._sizes, key=lambda name: self._requests[name] / self._sizes[name])
        self._requests[chosen] += requests
        return chosen


def elsewhere(
    shard: Shard, deployments: Sequence[str], closed: Sequence[str], room: TokenRoom
) -> str | None:
    """Return another deployment that has room for a shard now, or None.

    Args:
        shard: A shard that is not at the service.
        deployments: Those that serve its model.
        closed: Those that refused a batch a moment ago.
        room: What is known of their limits.
    """
    for name in deployments:
        if name == shard.deployment or name in closed:
            continue
        if room.has_room(shard, name) and not room.is_too_big(shard, name):
            return name
    return None


def move(run: Run, shard: Shard, deployment: str) -> Shard | None:
    """Write a shard's file for another deployment; nothing of it may be at the service.

    Returns:
        The shard, to be uploaded anew, or None if its file is gone.
    """
    path = run.store.requests(shard.shard)
    if not path.exists():
        return None
    readdress(path, deployment)
    return run.ledger.shards.record(
        shard,
        Step.EXPORTED,
        detail={"moved from": shard.deployment},
        deployment=deployment,
        bytes=path.stat().st_size,
        input_file_id=None,
    )


def readdress(path: Path, deployment: str) -> None:
    """Have each line of an input file ask a deployment, whichever it names now."""
    temporary = path.with_name(f".{path.name}.writing")
    make_private(temporary)
    with writing(temporary), path.open("rb") as reader, temporary.open("wb") as writer:
        while lines := reader.readlines(_BLOCK_BYTES):
            # A crash may have come between a file that moved and the ledger: it names either.
            writer.write(with_deployment(b"".join(lines), deployment))
    settle(temporary, path)

"""What takes shards through one service, handed as one value from the run to each step."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from dbt_enrich.config import PluginConfig
from dbt_enrich.console.console import Console
from dbt_enrich.console.progress import Progress
from dbt_enrich.console.timings import Timings
from dbt_enrich.pipeline.run.token_quota import TokenRoom
from dbt_enrich.services.base import BatchService
from dbt_enrich.services.relay import Relay
from dbt_enrich.state.run import Run
from dbt_enrich.state.shards import Shard

# So often a relay is looked at, at most: it is on this machine.
_RELAY_SECONDS = 1.0


class ShardFiles(Protocol):
    """Writes the input files of the shards that a run claimed."""

    def write(self, shard: Shard) -> Shard | None:
        """Write a claimed shard's file; return None if this run did not claim it."""

    def cut_in_two(self, shard: Shard) -> list[Shard]:
        """Put two shards in the place of one; return none if it cannot be cut."""


@dataclass(frozen=True)
class Dispatch:
    """What takes shards through one service.

    Attributes:
        run: The run, which owns the shards.
        config: The plugin's configuration.
        service: The service.
        relay: The way to the relay before it, whose batches the service knows nothing of.
        poll_interval: Seconds between two looks at a batch, at most; the first ones come sooner.
        await_timeout: Seconds after which waiting ends with the rows pending, or None.
        cancelled: Set when the user interrupts; every wait ends at once.
        progress: Told each shard whose state changed, and that time passes.
        console: The user's log.
        timings: Counts the seconds of transfers, waits and loading.
        files: What writes input files, or None where none is written: without a warehouse a batch
            that found no room is created again on the file that is at the service.
    """

    run: Run
    config: PluginConfig
    service: BatchService
    relay: Relay
    poll_interval: float
    await_timeout: float | None
    cancelled: threading.Event
    progress: Progress
    console: Console
    timings: Timings
    files: ShardFiles | None = None

    @property
    def room(self) -> TokenRoom:
        """How many tokens the deployments' batches may hold."""
        return TokenRoom(self.run.ledger, self.config.token_limit)

    def service_of(self, shard: Shard) -> BatchService:
        """Return who gave a shard's batch its ids: the relay, or the service itself."""
        return self.relay.open() if shard.synchronous else self.service

    def grace_of(self, shard: Shard) -> float:
        """Return how long what is done to a shard may not be shown yet; the relay shows it."""
        return 0.0 if shard.synchronous else self.config.grace_seconds

    def interval_of(self, shard: Shard) -> float:
        """Return the seconds between two looks at a shard's batch, at most."""
        return min(self.poll_interval, _RELAY_SECONDS) if shard.synchronous else self.poll_interval

    def write(self, shard: Shard) -> Shard | None:
        """Write a claimed shard's file; return None if this run did not claim it."""
        return self.files.write(shard) if self.files else None

    def cut_in_two(self, shard: Shard) -> list[Shard]:
        """Put two shards in the place of one; return none if it cannot be cut."""
        return self.files.cut_in_two(shard) if self.files else []

    def deployments_of(self, model: str) -> Sequence[str]:
        """Return the deployments for which a file can be written that asks a logical model."""
        return self.config.deployments_of(model) if self.files else ()

"""What the user reads while a model waits: one log line on each change, never more than needed."""

from __future__ import annotations

import time
from collections.abc import Callable

from dbt_enrich.ledger import Shard, Step

_COUNT_SECONDS = 10.0
_SENTENCES = {
    Step.UPLOADING: "uploading {requests} requests ({megabytes:.1f} MB)",
    Step.SUBMITTED: "batch {batch_id} of {requests} requests is at the service",
    Step.ENDED: "batch {batch_id} is {status}: {completed} answered, {failed} failed",
}


class Progress:
    """Turns the shards' changes into log lines.

    Args:
        model: The dbt model, which begins each line.
        log: Takes one line.
    """

    def __init__(self, model: str, log: Callable[[str], None]) -> None:
        self._model = model
        self._log = log
        self._counted_at = 0.0

    def __call__(self, shard: Shard) -> None:
        """Say what changed, if a user wants to know it."""
        sentence = _SENTENCES.get(shard.step)
        if sentence is None or (shard.step == Step.SUBMITTED and shard.completed + shard.failed):
            self._count(shard)
            return
        self.say(
            sentence.format(
                requests=f"{shard.requests:,}",
                megabytes=shard.bytes / 1e6,
                batch_id=shard.batch_id,
                status=shard.status,
                completed=f"{shard.completed:,}",
                failed=f"{shard.failed:,}",
            )
        )

    def say(self, sentence: str) -> None:
        """Write one line that begins with the model's name."""
        self._log(f"{self._model}: {sentence}")

    def _count(self, shard: Shard) -> None:
        now = time.monotonic()
        if shard.step != Step.SUBMITTED or now - self._counted_at < _COUNT_SECONDS:
            return
        self._counted_at = now
        self.say(
            f"batch {shard.batch_id} is {shard.status}: "
            f"{shard.completed + shard.failed:,} of {shard.requests:,} rows"
        )

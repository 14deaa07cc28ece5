"""What the user reads while a model waits: a live line in a terminal, else log lines.

Without a terminal there is one line on each change, and at least one a minute.
"""

from __future__ import annotations

from dbt_enrich.console.console import Console
from dbt_enrich.state.shards import Shard, Step
from dbt_enrich.wording import counted

_COUNT_SECONDS = 10.0
_BEAT_SECONDS = 60.0
_SENTENCES = {
    Step.UPLOADING: "uploading {requests} ({megabytes:.1f} MB)",
    Step.SUBMITTED: "batch {batch_id} of {requests} is at the service",
    Step.ENDED: "batch {batch_id} is {status}: {completed} answered, {failed} failed",
}
# Of what goes through the relay, whose files and ids are no affair of the user's.
_RELAYED = {
    Step.SUBMITTED: "asking {requests} of the synchronous endpoint",
    Step.ENDED: "the synchronous endpoint is done: {completed} answered, {failed} failed",
}


class Progress:
    """Turns the shards' changes into what the user reads.

    Args:
        console: The voice of the model.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._clock = console.clock
        self._shards: dict[str, Shard] = {}
        self._began = self._clock.monotonic()

    def __call__(self, shard: Shard) -> None:
        """Say what changed, if a user wants to know it."""
        self._shards[shard.shard] = shard
        if self._console.is_live:
            self.beat()
            return
        sentences = _RELAYED if shard.synchronous else _SENTENCES
        sentence = sentences.get(shard.step)
        if sentence is None or (shard.step.is_running and shard.completed + shard.failed):
            self._count(shard)
            return
        self._console.say(
            sentence.format(
                requests=counted(shard.requests, "request"),
                megabytes=shard.bytes / 1e6,
                batch_id=shard.batch_id,
                status=shard.status,
                completed=f"{shard.completed:,}",
                failed=f"{shard.failed:,}",
            )
        )

    def beat(self) -> None:
        """Say how far all is, where a user has heard nothing for a while."""
        if not self._shards:
            return
        if self._console.is_live:
            self._console.show(self.standing())
        elif self._silence() >= _BEAT_SECONDS:
            self._console.say(self.standing())

    def standing(self) -> str:
        """Say how far all is: files or batches, rows, failures, rate and time left."""
        shards = [s for s in self._shards.values() if s.step != Step.RELEASED]
        total = sum(shard.row_count for shard in shards)
        unsent = [s for s in shards if not (s.step.is_running or s.step.has_ended)]
        if unsent:
            number = counted(len(shards), "batch", "batches")
            return f"uploading, {len(shards) - len(unsent)} of {number} at the service"
        batches = [shard for shard in shards if not shard.synchronous]
        home = sum(shard.step.has_ended for shard in batches)
        answered = sum(shard.rows_of(shard.completed + shard.failed) for shard in shards)
        failed = sum(shard.rows_of(shard.failed) for shard in shards)
        statuses = {shard.status for shard in batches if not shard.step.has_ended}
        parts = ["validating"] if statuses == {"validating"} and not home else []
        if any(shard.synchronous and shard.step.is_running for shard in shards):
            parts.append("asking the synchronous endpoint")
        if batches:
            parts.append(f"{home} of {counted(len(batches), 'batch', 'batches')}")
        parts.append(f"{answered:,} of {counted(total, 'row')}")
        if failed:
            parts.append(f"{failed:,} failed")
        seconds = self._clock.monotonic() - self._began
        rate = answered / seconds if seconds > 0 else 0.0
        if rate > 0 and answered < total:
            parts += [f"{_rate(rate)}", f"{_duration((total - answered) / rate)} left"]
        return ", ".join(parts)

    def _silence(self) -> float:
        """Return the seconds since the last line."""
        return self._clock.monotonic() - self._console.said_at

    def _count(self, shard: Shard) -> None:
        if not shard.step.is_running or self._silence() < _COUNT_SECONDS:
            return
        what = f"batch {shard.batch_id} is {shard.status}"
        if shard.synchronous:
            what = "asking the synchronous endpoint"
        self._console.say(
            f"{what}: {shard.rows_of(shard.completed + shard.failed):,} of "
            f"{counted(shard.row_count, 'row')}"
        )


def _rate(rate: float) -> str:
    if rate >= 1:
        return f"{rate:,.0f} rows/s"
    a_minute = rate * 60
    return f"{a_minute:,.0f} rows/min" if a_minute >= 10 else f"{a_minute:.2g} rows/min"


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.0f} s"
    if seconds < 3600:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"

"""Synchronous: rounds of few requests, answered at once instead of by a batch.

Such a shard is claimed and written like any other. It goes from `exported` to `answering`, where
each reply is appended to its response file as it comes, and from there to `downloaded`. Whoever
finds one at `answering` without its run takes in the replies that are there; the requests without
one are new again.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from dbt_enrich.backoff import PATIENCE_SECONDS
from dbt_enrich.console.timings import Stage
from dbt_enrich.errors import (
    CancelledError,
    ConfigurationError,
    LostOwnershipError,
    ServiceError,
    concerning,
)
from dbt_enrich.files import DurableLines
from dbt_enrich.pipeline.run.breaker import Tolerance, Way, decide
from dbt_enrich.pipeline.run.dispatch import Dispatch
from dbt_enrich.pipeline.run.one_by_one import Conversation, Pace
from dbt_enrich.services.base import UNSUPPORTED_CODE
from dbt_enrich.state.shards import Shard, Step
from dbt_enrich.task.failures import FailureKind

# Requests on their way at once.
_THREADS = 4
_LOOK_SECONDS = 0.1
_CANCEL_LOOK_SECONDS = 1.0
# How long an interrupted run stays for replies that are on their way.
_LINGER_SECONDS = 10.0


@dataclass
class SynchronousRun:
    """Asks the requests of shards one by one, beside a run of batches.

    Attributes:
        dispatch: What takes shards to the service.
        path: The path of the endpoint that is asked.
        is_patient: Whether an outage is waited out for as long as `await_timeout` allows.
        tolerance: How many refusals alike are borne before nothing more is asked.
        timed_out: Whether `await_timeout` passed first.
    """

    dispatch: Dispatch
    path: str
    is_patient: bool
    tolerance: Tolerance = field(default_factory=Tolerance)
    timed_out: bool = False

    def __post_init__(self) -> None:
        self._pace = Pace(self.dispatch.run.clock)
        self._started = self._now

    @property
    def _now(self) -> float:
        return self.dispatch.run.clock.monotonic()

    def answer(self, shards: Iterable[Shard]) -> Iterator[Shard]:
        """Ask the requests of shards and yield each shard once its replies are written.

        Where the wait ends early, by `await_timeout` or as the user cancels, the replies that are
        there are taken in, and the other requests are as if they had not been claimed.

        Raises:
            CancelledError: The run was interrupted; the replies are kept for the next one.
            ServiceError: The service refuses every such request, or cannot be reached.
        """
        for shard in shards:
            try:
                with concerning(shard=shard.shard):
                    answered = self._answer(shard)
            except LostOwnershipError as error:
                self.dispatch.console.warn(str(error))
                continue
            yield answered
            if self.timed_out:
                return

    def _answer(self, shard: Shard) -> Shard:
        dispatch = self.dispatch
        dispatch.write(shard)
        owners = dispatch.run.owners
        term = owners.term()
        dispatch.progress(dispatch.run.ledger.shards.record(shard, Step.ANSWERING))
        replies = DurableLines(dispatch.run.store.response(shard.shard, "output"))
        talk = Conversation(
            dispatch.run.store.requests(shard.shard),
            replies,
            dispatch.service,
            self.path,
            self._pace,
            lambda: owners.confirm(term),
        )
        talk.begin(min(_THREADS, shard.requests))
        try:
            with dispatch.timings.span(Stage.WAIT):
                self._watch(shard, talk)
        finally:
            talk.stop()
            if talk.idle.is_set():
                replies.close()
        if talk.error:
            raise _explained(talk.error, shard)
        moved = dispatch.run.ledger.shards.record(shard, Step.DOWNLOADED)
        dispatch.progress(moved)
        return moved

    def _watch(self, shard: Shard, talk: Conversation) -> None:
        """Wait for the end of a conversation; say how far it is, and end it when it must."""
        dispatch = self.dispatch
        looked_at = self._now
        while not talk.idle.wait(_LOOK_SECONDS):
            self._tell(shard, talk)
            if dispatch.cancelled.is_set():
                self._linger(talk)
                self._tell(shard, talk)
                raise CancelledError(
                    "interrupted; the replies that came are kept, and the next dbt run asks the "
                    "other rows"
                )
            if self._is_in_vain(talk):
                talk.stop()
            elif self._is_timed_out():
                self.timed_out = True
                talk.stop()
            elif self._is_out_of_patience():
                talk.stop()
                talk.error = talk.error or self._pace.error
            elif self._now - looked_at >= _CANCEL_LOOK_SECONDS:
                looked_at = self._now
                if dispatch.run.ledger.shards.get(shard.shard).cancel_requested_at:
                    talk.stop()
        self._tell(shard, talk)

    def _tell(self, shard: Shard, talk: Conversation) -> None:
        """Note the counts in the ledger, and tell the user what there is to say."""
        dispatch = self.dispatch
        while talk.said:
            dispatch.console.warn(talk.said.popleft())
        known = dispatch.run.ledger.shards.get(shard.shard)
        if (known.completed, known.failed) != (talk.answered, talk.failed):
            dispatch.progress(
                dispatch.run.ledger.shards.change(
                    shard, completed=talk.answered, failed=talk.failed
                )
            )
        dispatch.progress.beat()

    def _linger(self, talk: Conversation) -> None:
        """Keep the process from ending before replies that are on their way: they are paid for."""
        talk.stop()
        self.dispatch.console.say("interrupted; staying for replies that are on their way")
        # Not a daemon, unlike dbt's threads and those of the conversation.
        keeper = threading.Thread(target=talk.idle.wait, args=(_LINGER_SECONDS,))
        keeper.start()
        keeper.join()

    def _is_in_vain(self, talk: Conversation) -> bool:
        """Whether so many requests were refused alike that the others would be, too."""
        with_status = {
            Way(FailureKind.PROVIDER_ERROR, status, code): count
            for (status, code), count in list(talk.refused.items())
        }
        return decide(with_status, talk.answered, self.tolerance) is not None

    def _is_timed_out(self) -> bool:
        limit = self.dispatch.await_timeout
        return limit is not None and self._now - self._started >= limit

    def _is_out_of_patience(self) -> bool:
        since = self._pace.failing_since
        if self.is_patient or since is None or self._pace.error is None:
            return False
        return self._now - since > PATIENCE_SECONDS


def _explained(error: Exception, shard: Shard) -> Exception:
    """Return what ended a conversation, with the fix where a deployment is of the wrong type."""
    if isinstance(error, ServiceError) and (error.code or "").lower() == UNSUPPORTED_CODE:
        return ConfigurationError(
            f"enrichment.sync_below: the deployment '{shard.deployment}' answers no single "
            f"requests ({error}); the replies that came before are kept"
        )
    return error

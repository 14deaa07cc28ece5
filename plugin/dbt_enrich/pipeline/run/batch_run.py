"""Run: shards through the service, from claim to downloaded answers.

The only part that waits. Each shard is a small state machine over the ledger's steps; one pass
moves every shard that is due, so a shard that waits for quota does not hold up one that can be
collected, and a file is uploaded while the next one is written.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

from dbt_enrich.backoff import PATIENCE_SECONDS
from dbt_enrich.console.timings import Stage
from dbt_enrich.errors import (
    BatchFailedError,
    LostOwnershipError,
    QuotaError,
    ServiceError,
    TransientError,
    concerning,
)
from dbt_enrich.pipeline.run.deployments import elsewhere, move
from dbt_enrich.pipeline.run.dispatch import Dispatch
from dbt_enrich.pipeline.run.next_look import FIRST_DELAY, Due
from dbt_enrich.pipeline.run.shard_steps import Steps
from dbt_enrich.pipeline.run.transfers import Transfers
from dbt_enrich.state.shards import Shard, Step
from dbt_enrich.wording import counted

# So often a batch may be refused, with nothing of ours in its way, before it counts as too big.
_REFUSALS_BEFORE_CUT = 3
_REST_SECONDS = 1.0
_WATCH_SECONDS = 1.0
# A wait is broken up, so that the user sees that time passes.
_BEAT_SECONDS = 5.0
# While files are under way, so often it is seen whether the user has interrupted.
_TRANSFER_SECONDS = 0.2
_OWNER_SECONDS = 30.0


class BatchRun:
    """Drives shards through a service until they are downloaded.

    Args:
        dispatch: What takes them there.

    Attributes:
        timed_out: Whether waiting ended before the batches did.
    """

    def __init__(self, dispatch: Dispatch) -> None:
        self.timed_out = False
        self._dispatch = dispatch
        self._run = dispatch.run
        self._room = dispatch.room
        self._started = self._now
        self._closed_until: dict[str | None, float] = {}
        self._transfers = Transfers(dispatch.config.transfers)
        self._steps = Steps(dispatch, self._transfers)

    @property
    def _now(self) -> float:
        return self._run.clock.monotonic()

    def submit(self, shards: Iterable[Shard]) -> None:
        """Bring shards to the service and return without waiting for answers.

        A shard that the quota has no room for stays unsent; the next run sends it. One whose
        creation got no reply is left for the next run to find.
        """
        waiting = self._waiting(shards)
        while waiting:
            for current, due in self._pass(waiting):
                is_ours = current.owner == self._run.id and current.step.is_unsent
                if not is_ours or not self._may_send(current, due):
                    del waiting[current.shard]
            self._pause(waiting)

    def _may_send(self, shard: Shard, due: Due) -> bool:
        """Whether `submit` goes on with a shard, or leaves it to the next run."""
        has_room = shard.step != Step.UPLOADED or self._has_room(shard, due)
        if (due.refusals or not has_room) and not self._elsewhere(shard):
            self._dispatch.console.warn(
                f"leaving {counted(shard.requests, 'request')} to the next run, as the quota has "
                "no room"
            )
            return False
        if due.error and self._now - (due.failing_since or 0) > PATIENCE_SECONDS:
            raise due.error
        return not self._is_timed_out()

    def wait(self, shards: Iterable[Shard], *, patience: float | None = None) -> Iterator[Shard]:
        """Drive shards on and yield each one as soon as its files are downloaded.

        Shards of another live run are watched; should that run die, they are taken over. Ends
        early, with the rest still open, when `await_timeout` has passed.

        Args:
            shards: The shards.
            patience: Seconds for which an outage is waited out, or None for as long as it takes.

        Raises:
            ServiceError: The outage takes longer.
        """
        waiting = self._waiting(shards)
        while waiting:
            for current, due in self._pass(waiting):
                if due.error and self._is_out_of_patience(due, patience):
                    raise due.error
                if current.step == Step.DOWNLOADED and current.owner == self._run.id:
                    yield current
                    del waiting[current.shard]
                elif current.is_closed:
                    del waiting[current.shard]
            if waiting and self._is_timed_out():
                self.timed_out = True
                self._dispatch.console.warn(
                    f"the service did not finish within await_timeout = "
                    f"{self._dispatch.await_timeout:g} seconds; "
                    f"{_of_open_shards([shard for shard, _ in waiting.values()])}"
                )
                return
            self._pause(waiting)

    def _is_out_of_patience(self, due: Due, patience: float | None) -> bool:
        return patience is not None and self._now - (due.failing_since or 0.0) > patience

    def collect(self, shards: Iterable[Shard]) -> Iterator[Shard]:
        """Look at each shard once, and yield those whose files could be downloaded."""
        ended = []
        for shard in shards:
            owned = self._owned(shard)
            if owned is None:
                self._let_owner_store(shard)
                continue
            current = self._looked_at(owned)
            if current.owner != self._run.id:
                continue
            if current.step == Step.DOWNLOADED:
                yield current
            elif current.step == Step.ENDED:
                ended.append(current)
        yield from self._fetched(ended)

    def _looked_at(self, shard: Shard) -> Shard:
        """Bring a shard on to where its files are to be downloaded; neither wait nor send."""
        current = shard
        try:
            while current.step.is_at_service and not current.step.has_ended:
                if current.step == Step.CREATING:
                    moved = self._steps.settle(current)
                else:
                    moved = self._steps.advance(current)
                if moved.step == current.step:
                    break
                current = moved
        except (TransientError, BatchFailedError, LostOwnershipError) as error:
            self._dispatch.console.warn(str(error))
            return self._run.ledger.shards.get(shard.shard)
        return current

    def _fetched(self, ended: list[Shard]) -> Iterator[Shard]:
        """Download the files of batches that have ended, several at once."""
        while ended:
            seen = self._transfers.ended
            for shard in list(ended):
                try:
                    moved = self._steps.advance(shard)
                except (TransientError, LostOwnershipError) as error:
                    self._dispatch.console.warn(str(error))
                    ended.remove(shard)
                    continue
                if moved.step == Step.DOWNLOADED:
                    ended.remove(shard)
                    yield moved
            if ended:
                self._transfers.wait(_TRANSFER_SECONDS, ended=seen)

    def _waiting(self, shards: Iterable[Shard]) -> dict[str, tuple[Shard, Due]]:
        waiting = {shard.shard: (shard, Due()) for shard in shards}
        for shard, _ in waiting.values():
            if shard.step == Step.CLAIMED:
                self._dispatch.progress(shard)
        return waiting

    def _pass(self, waiting: dict[str, tuple[Shard, Due]]) -> Iterator[tuple[Shard, Due]]:
        """Take a step with each shard that is due, and yield it as it stands then.

        What can be sent comes first, and files are written last and one at a time, so that the
        service is never kept waiting.
        """
        self._steps.check_cancelled()
        turns = sorted(waiting.items(), key=lambda item: _turn(item[1][0].step))
        for name, (shard, due) in turns:
            if not self._is_due(due):
                continue
            current, *halves = self._step(shard, due)
            if current.shard != name:
                del waiting[name]
                due = Due()
            waiting[current.shard] = (current, due)
            waiting |= {half.shard: (half, Due()) for half in halves}
            yield current, due
            if shard.step == Step.CLAIMED:
                return

    def _is_due(self, due: Due) -> bool:
        if due.transfers_seen is not None:
            return self._transfers.ended > due.transfers_seen
        return due.at <= self._now

    def _let_owner_store(self, shard: Shard) -> None:
        """Wait a moment for another live run to store a batch that has ended.

        Two models with one task that collect at once would otherwise publish different halves.
        """
        current = self._run.ledger.shards.get(shard.shard)
        if current.step == Step.SUBMITTED:
            batch = self._dispatch.service_of(current).batch(current.batch_id or "")
            if not batch.status.is_terminal:
                return
        deadline = self._now + _OWNER_SECONDS
        while not self._run.ledger.shards.get(shard.shard).is_closed and self._now < deadline:
            self._steps.check_cancelled()
            self._run.clock.wait(self._dispatch.cancelled, FIRST_DELAY)

    def _step(self, shard: Shard, due: Due) -> list[Shard]:
        """Take one step with a shard, or put it off; return what stands in its place."""
        due.transfers_seen = None
        seen = self._transfers.ended
        if self._transfers.is_running(shard.shard):
            due.transfers_seen = seen
            return [shard]
        owned = self._owned(shard)
        try:
            if owned is not None:
                with concerning(shard=owned.shard, batch=owned.batch_id):
                    return self._step_owned(owned, due, seen)
        except LostOwnershipError as error:
            self._dispatch.console.warn(str(error))
        due.later(self._now, longest=_WATCH_SECONDS)
        return [self._run.ledger.shards.get(shard.shard)]

    def _step_owned(self, shard: Shard, due: Due, seen: int) -> list[Shard]:
        """Take one step with a shard of this run; `seen` transfers had ended before it."""
        if shard.cancel_requested_at and shard.step.is_unsent:
            self._steps.release(shard, "cancelled before it was sent")
            return [self._run.ledger.shards.get(shard.shard)]
        has_quota = shard.step == Step.UPLOADED and not shard.synchronous
        if has_quota and (instead := self._instead(shard, due)):
            return instead
        try:
            moved = self._steps.advance(shard)
        except QuotaError as error:
            self._refused(shard, due, error)
            return [self._run.ledger.shards.get(shard.shard)]
        except TransientError as error:
            self._dispatch.console.warn(f"{error}; trying again")
            due.fails(self._now, error)
            due.later(self._now, asked=_least(error))
            return [self._run.ledger.shards.get(shard.shard)]
        if _waits_for_transfer(shard.step, moved.step):
            # Whether the service works is known when the transfer has ended.
            due.transfers_seen = seen
            return [moved]
        due.works()
        if moved.step == Step.UPLOADED and shard.step == Step.SUBMITTED:
            due.refusals += 1
            due.later(self._now, asked=self._dispatch.poll_interval)
            self._closed_until[shard.deployment] = due.at
            self._refuse_one_too_big(moved)
        elif moved.step == shard.step:
            due.later(self._now, longest=self._dispatch.interval_of(shard))
        else:
            due.backoff.reset()
        return [moved]

    def _refused(self, shard: Shard, due: Due, error: QuotaError) -> None:
        """Put a shard off that found no room, and with it the others of its deployment."""
        self._dispatch.console.warn(f"{error}; trying again when there is room")
        due.later(self._now, asked=_least(error))
        if not error.is_of_tokens:
            return
        due.refusals += 1
        self._room.learn_from_refusal(shard, error.token_limit)
        self._closed_until[shard.deployment] = due.at
        self._refuse_one_too_big(shard)

    def _refuse_one_too_big(self, shard: Shard) -> None:
        """Let a request go that no quota has room for, and that cannot be cut."""
        alone = shard.requests == 1 and self._room.is_too_big(shard) and not self._elsewhere(shard)
        if alone and not self._room.held_by_others(shard):
            self._steps.release(shard, "one request is larger than the quota")
            raise BatchFailedError(
                f"one request of {shard.bytes:,} bytes is larger than the tokens that the "
                f"deployment '{shard.deployment}' may hold at once "
                f"({self._room.limit(shard.service, shard.deployment):,})",
                fix="raise its quota, or shorten the row's text in the SELECT. Nothing of it was "
                "paid",
            )

    def _elsewhere(self, shard: Shard) -> str | None:
        """Return another deployment of the shard's model that has room for it, or None."""
        if shard.step != Step.UPLOADED or not shard.model:
            return None
        names = self._dispatch.deployments_of(shard.model)
        return elsewhere(shard, names, [n for n in names if self._is_closed(n)], self._room)

    def _moved(self, shard: Shard, due: Due) -> Shard:
        """Send a shard that has no room to another deployment, or put it off."""
        deployment = self._elsewhere(shard)
        moved = deployment and move(self._run, shard, deployment)
        if not moved:
            due.later(self._now, longest=_WATCH_SECONDS)
            return shard
        self._discard_file(shard)
        due.refusals = 0
        self._dispatch.console.warn(
            f"sending {counted(shard.requests, 'request')} to the deployment '{deployment}' instead"
        )
        return moved

    def _is_closed(self, deployment: str | None) -> bool:
        """Whether a deployment refused a batch a moment ago."""
        return self._closed_until.get(deployment, 0.0) > self._now

    def _instead(self, shard: Shard, due: Due) -> list[Shard]:
        """Return what stands in place of a shard that finds no room; empty if it finds some."""
        if self._is_unfit(shard, due) and self._elsewhere(shard):
            return [self._moved(shard, due)]
        halves = self._halves(shard, due)
        if not halves and not self._has_room(shard, due):
            return [self._moved(shard, due)]
        return halves

    def _has_room(self, shard: Shard, due: Due) -> bool:
        """Whether a shard's batch may be created now; say once that it waits."""
        if not self._is_closed(shard.deployment) and self._room.has_room(shard):
            return True
        if not due.told:
            due.told = True
            self._dispatch.console.warn(
                f"waiting with {counted(shard.requests, 'request')} for room in the enqueued "
                f"tokens of the deployment '{shard.deployment}'"
            )
        return False

    def _is_unfit(self, shard: Shard, due: Due) -> bool:
        """Whether a shard's batch finds no room on its deployment even by itself."""
        refused = due.refusals >= _REFUSALS_BEFORE_CUT and not self._room.held_by_others(shard)
        return refused or self._room.is_too_big(shard)

    def _halves(self, shard: Shard, due: Due) -> list[Shard]:
        """Cut a shard whose batch is too big for the quota alone."""
        if shard.requests < 2 or not self._is_unfit(shard, due):
            return []
        halves = self._dispatch.cut_in_two(shard)
        if halves:
            self._dispatch.console.warn(
                f"a batch of {counted(shard.requests, 'request')} is too big for the enqueued "
                f"tokens of the deployment '{shard.deployment}'; sending it in two"
            )
            self._discard_file(shard)
        return halves

    def _discard_file(self, shard: Shard) -> None:
        """Delete an uploaded file that no batch will be made of."""
        try:
            self._dispatch.service_of(shard).delete_file(shard.input_file_id or "")
        except ServiceError as error:
            self._dispatch.console.warn(
                f"{error}; the file {shard.input_file_id} is left at the service"
            )

    def _owned(self, shard: Shard) -> Shard | None:
        """Return the shard as it is, this run's own or taken over from a dead one; else None."""
        current = self._run.ledger.shards.get(shard.shard)
        if current.owner == self._run.id:
            return current
        if self._run.owners.is_driven(current):
            return None
        taken = self._run.ledger.shards.take_over(current, self._run.id)
        moved = self._steps.without_files(taken) if taken else None
        return None if moved is None or moved.is_closed else moved

    def _is_timed_out(self) -> bool:
        limit = self._dispatch.await_timeout
        return limit is not None and self._now - self._started >= limit

    def _pause(self, waiting: dict[str, tuple[Shard, Due]]) -> None:
        """Wait until a shard is due, a transfer ends, or the user interrupts."""
        if not waiting:
            return
        dues = [due for _, due in waiting.values()]
        moment = min((due.at for due in dues if due.transfers_seen is None), default=math.inf)
        if self._dispatch.await_timeout is not None:
            moment = min(moment, self._started + self._dispatch.await_timeout)
        self._dispatch.progress.beat()
        wait = min(max(moment - self._now, 0.0), _BEAT_SECONDS)
        seen = [due.transfers_seen for due in dues if due.transfers_seen is not None]
        if seen:
            self._transfers.wait(min(wait, _TRANSFER_SECONDS), ended=min(seen))
        elif wait > 0:
            with self._dispatch.timings.span(Stage.WAIT):
                self._run.clock.wait(self._dispatch.cancelled, wait)


def _of_open_shards(shards: list[Shard]) -> str:
    """Say what becomes of shards that are not waited for any longer."""
    if all(shard.synchronous for shard in shards):
        return "no more is asked: what came is taken in, and the next run asks the other rows"
    at_service = sum(not shard.synchronous for shard in shards)
    return (
        f"{counted(at_service, 'batch', 'batches')} at the service stay there, with their rows "
        "pending, and the next run collects them"
    )


def _least(error: ServiceError) -> float:
    """Return how many seconds a service wants to be left alone, by its word or by custom."""
    return _REST_SECONDS if error.retry_after is None else error.retry_after


def _waits_for_transfer(previous: Step, step: Step) -> bool:
    """Whether a step only began a transfer, or found no place for one."""
    return step == Step.UPLOADING or (step == previous and step.awaits_transfer)


def _turn(step: Step) -> int:
    if step == Step.CLAIMED:
        return 2
    return 0 if step.is_unsent else 1

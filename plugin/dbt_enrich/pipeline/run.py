"""Run: shards through the service, from input file to downloaded answers.

The only part that talks to a service, and the only one that waits. Each shard is a small state
machine over the ledger's steps; one pass moves every shard that is due, so a shard that waits for
quota does not hold up one that can be collected.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from dbt_enrich.errors import (
    BatchFailedError,
    CancelledError,
    NotFoundError,
    QuotaError,
    ServiceError,
    TransientError,
    UnknownOutcomeError,
)
from dbt_enrich.ledger import AT_SERVICE_STEPS, Ledger, Shard, Step
from dbt_enrich.pipeline.batch_failure import mend_of
from dbt_enrich.pipeline.pace import FIRST_DELAY, Due
from dbt_enrich.pipeline.progress import Progress
from dbt_enrich.pipeline.room import TokenRoom
from dbt_enrich.pipeline.spread import elsewhere, move
from dbt_enrich.remote_names import batch_metadata, file_name
from dbt_enrich.services.base import BatchService, BatchStatus, FileStatus, RemoteBatch
from dbt_enrich.store import StateDirectory

_QUOTA_CODES = ("token_limit_exceeded", "quotaexceeded", "quota_exceeded")
_TOKEN_WORDS = ("token_limit_exceeded", "enqueued token")
# So often a batch may be refused, with nothing of ours in its way, before it counts as too big.
_REFUSALS_BEFORE_CUT = 3
_UNSENT_STEPS = (Step.CLAIMED, Step.EXPORTED, Step.UPLOADING, Step.UPLOADED)
# A file is listed a moment after it was uploaded.
_FILE_GRACE_SECONDS = 60.0
# How long `submit` rides out a service that cannot be reached.
_SUBMIT_PATIENCE_SECONDS = 900.0
_OUTAGE_DELAY = 60.0
_WATCH_SECONDS = 1.0
# A wait is broken up, so that the user sees that time passes.
_BEAT_SECONDS = 5.0
_OWNER_SECONDS = 30.0


@dataclass(frozen=True)
class RunSettings:
    """How the engine waits.

    Attributes:
        owner: The run that drives the shards.
        poll_interval: Seconds between two looks at a batch, at most; the first ones come sooner.
        adoption_grace: Seconds during which a batch whose creation got no reply is looked for.
        await_timeout: Seconds after which waiting ends with the rows pending, or None.
    """

    owner: str
    poll_interval: float
    adoption_grace: float
    await_timeout: float | None = None


@dataclass
class BatchRun:
    """Drives shards through a service until they are downloaded.

    Attributes:
        service: The service.
        ledger: Where each step is written before and after it is taken.
        store: Where files lie.
        settings: How to wait.
        room: How many tokens the deployments' batches may hold.
        cut: Cuts a shard whose batch is too big for the quota in two; empty if it cannot.
        deployments_of: Returns the deployments that serve a logical model.
        cancelled: Set when the user interrupts; every wait ends at once.
        progress: Told each shard whose state changed, and that time passes.
        warn: Called with a sentence for the user's log.
        timed_out: Whether waiting ended before the batches did.
    """

    service: BatchService
    ledger: Ledger
    store: StateDirectory
    settings: RunSettings
    room: TokenRoom
    cut: Callable[[Shard], list[Shard]]
    deployments_of: Callable[[str], Sequence[str]]
    cancelled: threading.Event
    progress: Progress
    warn: Callable[[str], None]
    timed_out: bool = False
    _started: float = field(default_factory=time.monotonic)
    _closed_until: dict[str | None, float] = field(default_factory=dict)

    def submit(self, shards: Iterable[Shard]) -> list[Shard]:
        """Bring shards to the service and return without waiting for answers.

        A shard that the quota has no room for stays unsent; the next run sends it. One whose
        creation got no reply is left for the next run to find.
        """
        submitted: list[Shard] = []
        queue = deque(shards)
        while queue:
            shard, due = queue.popleft(), Due()
            while shard.step in _UNSENT_STEPS and self._may_send(shard, due):
                self._pause_until(due.at)
                if due.at > time.monotonic():
                    continue
                shard, *halves = self._step(shard, due)
                queue.extendleft(reversed(halves))
            submitted.append(shard)
        return submitted

    def _may_send(self, shard: Shard, due: Due) -> bool:
        """Whether `submit` goes on with a shard, or leaves it to the next run."""
        self._check_cancelled()
        has_room = shard.step != Step.UPLOADED or self._has_room(shard, due)
        if (due.refusals or not has_room) and not self._elsewhere(shard):
            self.warn(f"{shard.requests:,} requests wait for room in the quota and the next run")
            return False
        patience = _SUBMIT_PATIENCE_SECONDS
        if due.error and time.monotonic() - (due.failing_since or 0) > patience:
            raise due.error
        return not self._is_timed_out()

    def wait(self, shards: Iterable[Shard]) -> Iterator[Shard]:
        """Drive shards on and yield each one as soon as its files are downloaded.

        Shards of another live run are watched; should that run die, they are taken over. Ends
        early, with the rest still open, when `await_timeout` has passed.
        """
        waiting = {shard.shard: (shard, Due()) for shard in shards}
        while waiting:
            self._check_cancelled()
            for name, (shard, due) in list(waiting.items()):
                if due.at > time.monotonic():
                    continue
                current, *halves = self._step(shard, due)
                waiting |= {half.shard: (half, Due()) for half in halves}
                if current.step == Step.DOWNLOADED and current.owner == self.settings.owner:
                    yield current
                    del waiting[name]
                elif current.is_closed:
                    del waiting[name]
                elif current.shard != name:
                    del waiting[name]
                    waiting[current.shard] = (current, Due())
                else:
                    waiting[name] = (current, due)
            if waiting and self._is_timed_out():
                self.timed_out = True
                self.warn(
                    f"the service did not finish within await_timeout = "
                    f"{self.settings.await_timeout:g} seconds; {len(waiting)} batches go on there, "
                    "their rows are pending, and the next run collects them"
                )
                return
            if waiting:
                self._pause_until(min(due.at for _, due in waiting.values()))

    def collect(self, shards: Iterable[Shard]) -> Iterator[Shard]:
        """Look at each shard once, and yield those whose files could be downloaded."""
        for shard in shards:
            if not self._own(shard):
                self._let_owner_store(shard)
                continue
            current = self.ledger.shard(shard.shard)
            try:
                while current.step in AT_SERVICE_STEPS and current.step != Step.DOWNLOADED:
                    moved = self._find(current) if current.step == Step.CREATING else None
                    moved = moved or self._advance(current)
                    if moved.step == current.step:
                        break
                    current = moved
            except (TransientError, BatchFailedError) as error:
                self.warn(str(error))
            if current.step == Step.DOWNLOADED:
                yield current

    def _let_owner_store(self, shard: Shard) -> None:
        """Wait a moment for another live run to store a batch that has ended.

        Two models with one task that collect at once would otherwise publish different halves.
        """
        current = self.ledger.shard(shard.shard)
        if current.step == Step.SUBMITTED:
            batch = self.service.batch(current.batch_id or "")
            if not batch.status.is_terminal:
                return
        deadline = time.monotonic() + _OWNER_SECONDS
        while not self.ledger.shard(shard.shard).is_closed and time.monotonic() < deadline:
            self._check_cancelled()
            self.cancelled.wait(FIRST_DELAY)

    def _step(self, shard: Shard, due: Due) -> list[Shard]:
        """Take one step with a shard, or put it off; return what stands in its place."""
        if not self._own(shard):
            due.later(_WATCH_SECONDS)
            return [self.ledger.shard(shard.shard)]
        shard = self.ledger.shard(shard.shard)
        if shard.cancel_requested_at and shard.step in _UNSENT_STEPS:
            self._release(shard, "cancelled before it was sent")
            return [self.ledger.shard(shard.shard)]
        if shard.step == Step.UPLOADED and (instead := self._instead(shard, due)):
            return instead
        try:
            moved = self._advance(shard)
        except QuotaError as error:
            self._refused(shard, due, error)
            return [self.ledger.shard(shard.shard)]
        except TransientError as error:
            self.warn(f"{error}; trying again")
            due.fails(error)
            due.later(_OUTAGE_DELAY, least=error.retry_after or 1.0)
            return [self.ledger.shard(shard.shard)]
        due.works()
        if moved.step == Step.UPLOADED and shard.step == Step.SUBMITTED:
            due.refusals += 1
            due.later(_OUTAGE_DELAY, least=self.settings.poll_interval)
            self._closed_until[shard.deployment] = due.at
        elif moved.step == shard.step:
            due.later(self.settings.poll_interval)
        else:
            due.delay = FIRST_DELAY
        return [moved]

    def _refused(self, shard: Shard, due: Due, error: QuotaError) -> None:
        """Put a shard off that found no room, and with it the others of its deployment."""
        self.warn(f"{error}; trying again when there is room")
        due.later(_OUTAGE_DELAY, least=error.retry_after or 1.0)
        if not any(word in f"{error.code} {error}".lower() for word in _TOKEN_WORDS):
            return
        due.refusals += 1
        self.room.learn_from_refusal(shard, str(error))
        self._closed_until[shard.deployment] = due.at
        alone = shard.requests == 1 and self.room.is_too_big(shard) and not self._elsewhere(shard)
        if alone and not self.room.held_by_others(shard):
            self._release(shard, "one request is larger than the quota")
            raise BatchFailedError(
                f"one request of {shard.bytes:,} bytes is larger than the tokens that the "
                f"deployment '{shard.deployment}' may hold at once "
                f"({self.room.limit(shard.service, shard.deployment):,}); raise its quota, or "
                "shorten the row's text in the SELECT. Nothing of it was paid"
            )

    def _elsewhere(self, shard: Shard) -> str | None:
        """Return another deployment of the shard's model that has room for it, or None."""
        if shard.step != Step.UPLOADED or not shard.model:
            return None
        names = self.deployments_of(shard.model)
        return elsewhere(shard, names, [n for n in names if self._is_closed(n)], self.room)

    def _moved(self, shard: Shard, due: Due) -> Shard:
        """Send a shard that has no room to another deployment, or put it off."""
        deployment = self._elsewhere(shard)
        moved = deployment and move(shard, deployment, ledger=self.ledger, store=self.store)
        if not moved:
            due.later(_WATCH_SECONDS)
            return shard
        self._discard_file(shard)
        due.refusals = 0
        self.warn(f"sending {shard.requests:,} requests to the deployment '{deployment}' instead")
        return moved

    def _is_closed(self, deployment: str | None) -> bool:
        """Whether a deployment refused a batch a moment ago."""
        return self._closed_until.get(deployment, 0.0) > time.monotonic()

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
        if not self._is_closed(shard.deployment) and self.room.has_room(shard):
            return True
        if not due.told:
            due.told = True
            self.warn(
                f"{shard.requests:,} requests wait for room in the enqueued tokens of the "
                f"deployment '{shard.deployment}'"
            )
        return False

    def _is_unfit(self, shard: Shard, due: Due) -> bool:
        """Whether a shard's batch finds no room on its deployment even by itself."""
        refused = due.refusals >= _REFUSALS_BEFORE_CUT and not self.room.held_by_others(shard)
        return refused or self.room.is_too_big(shard)

    def _halves(self, shard: Shard, due: Due) -> list[Shard]:
        """Cut a shard whose batch is too big for the quota alone."""
        if shard.requests < 2 or not self._is_unfit(shard, due):
            return []
        halves = self.cut(shard)
        if halves:
            self.warn(
                f"a batch of {shard.requests:,} requests is too big for the enqueued tokens of "
                f"the deployment '{shard.deployment}'; sending it in two"
            )
            self._discard_file(shard)
        return halves

    def _discard_file(self, shard: Shard) -> None:
        """Delete an uploaded file that no batch will be made of."""
        try:
            self.service.delete_file(shard.input_file_id or "")
        except ServiceError as error:
            self.warn(f"{error}; the file {shard.input_file_id} is left at the service")

    def _own(self, shard: Shard) -> bool:
        """Whether the shard is this run's, after taking it over from a dead one if need be."""
        owner = self.ledger.shard(shard.shard).owner
        if owner == self.settings.owner:
            return True
        if owner is not None and self.store.is_alive(owner):
            return False
        return self.ledger.take_over(shard.shard, former=owner, owner=self.settings.owner)

    def _advance(self, shard: Shard) -> Shard:
        """Take the next step with a shard; return it unchanged where there is nothing to do yet."""
        self._check_cancelled()
        if shard.synchronous:
            return self._abandoned(shard)
        match shard.step:
            case Step.CLAIMED:
                # Taken over from a run that died before it wrote the file: nothing was sent.
                return self._record(shard, Step.RELEASED, error="never written")
            case Step.EXPORTED | Step.UPLOADING:
                return self._upload(shard)
            case Step.UPLOADED:
                return self._create_when_processed(shard)
            case Step.CREATING:
                return self._find(shard) or self._create_after_grace(shard)
            case Step.SUBMITTED:
                return self._poll(shard)
            case Step.ENDED:
                return self._download(shard)
        return shard

    def _abandoned(self, shard: Shard) -> Shard:
        """Take in what a killed run was answered synchronously; the other requests are new."""
        if shard.step in _UNSENT_STEPS:
            self._release(shard, "never asked")
            return self.ledger.shard(shard.shard)
        if shard.step == Step.ANSWERING:
            return self._record(shard, Step.DOWNLOADED)
        return shard

    def _check_cancelled(self) -> None:
        if self.cancelled.is_set():
            raise CancelledError(
                "interrupted; what was submitted goes on at the service, and the next dbt run "
                "collects it"
            )

    def _upload(self, shard: Shard) -> Shard:
        self._record(shard, Step.UPLOADING)
        name = file_name(shard.namespace, shard.task_key, shard.shard)
        remote = self.service.upload(self.store.requests(shard.shard), filename=name)
        return self._record(shard, Step.UPLOADED, input_file_id=remote.id)

    def _create_when_processed(self, shard: Shard) -> Shard:
        file_id = shard.input_file_id or ""
        try:
            remote = self.service.file(file_id)
        except NotFoundError as error:
            return self._upload_again(shard, error)
        if remote.status == FileStatus.PENDING:
            return shard
        if remote.status == FileStatus.ERROR:
            self._release(shard, f"file {file_id} was refused")
            raise BatchFailedError(
                f"the service refused the input file {file_id}: "
                f"{remote.status_details or 'no reason given'}; nothing was paid"
            )
        return self._create(shard)

    def _create(self, shard: Shard) -> Shard:
        self._record(shard, Step.CREATING)
        metadata = batch_metadata(shard.namespace, shard.task_key, shard.shard)
        try:
            batch = self.service.create(shard.input_file_id or "", metadata)
        except UnknownOutcomeError as error:
            self.warn(f"{error}; looking for the batch before creating another")
            return self.ledger.shard(shard.shard)
        except NotFoundError as error:
            return self._upload_again(self._record(shard, Step.UPLOADED, error=str(error)), error)
        except ServiceError as error:
            # A clear refusal: the file is still good for another try.
            self._record(shard, Step.UPLOADED, error=str(error))
            raise
        return self._submitted(shard, batch)

    def _upload_again(self, shard: Shard, error: NotFoundError) -> Shard:
        """Send a file anew that the service has lost or that has expired."""
        uploaded = self.ledger.when(shard.shard, Step.UPLOADED) or datetime.now(UTC)
        if abs((datetime.now(UTC) - uploaded).total_seconds()) < _FILE_GRACE_SECONDS:
            raise TransientError(str(error)) from error
        if not self.store.requests(shard.shard).exists():
            return self._record(shard, Step.RELEASED, error=str(error))
        self.warn(f"{error}; uploading it again")
        return self._record(shard, Step.EXPORTED, input_file_id=None, error=str(error))

    def _find(self, shard: Shard) -> Shard | None:
        """Look for a batch whose creation got no reply: its file or its shard's name tells it.

        An earlier batch of the shard that found no room is not the one.
        """
        for batch in self.service.batches():
            if batch.is_void and _found_no_room(batch):
                continue
            same_file = shard.input_file_id and batch.input_file_id == shard.input_file_id
            if same_file or batch.metadata.get("shard") == shard.shard:
                return self._submitted(shard, batch)
        return None

    def _create_after_grace(self, shard: Shard) -> Shard:
        intended = self.ledger.when(shard.shard, Step.CREATING) or datetime.now(UTC)
        age = (datetime.now(UTC) - intended).total_seconds()
        if 0 <= age < self.settings.adoption_grace:
            return shard
        if shard.cancel_requested_at:
            self._release(shard, "cancelled before it was sent")
            return self.ledger.shard(shard.shard)
        return self._create(shard)

    def _submitted(self, shard: Shard, batch: RemoteBatch) -> Shard:
        self.room.learn_from_batch(shard, batch)
        return self._record(
            shard,
            Step.SUBMITTED,
            batch_id=batch.id,
            input_file_id=batch.input_file_id or shard.input_file_id,
            status=batch.status.value,
            error=None,
        )

    def _poll(self, shard: Shard) -> Shard:
        try:
            batch = self.service.batch(shard.batch_id or "")
        except NotFoundError as error:
            # One call that does not find it is not enough to pay for its rows again.
            if any(batch.id == shard.batch_id for batch in self.service.batches()):
                return shard
            self.warn(f"{error}; the rows of the batch count as missing")
            return self._record(shard, Step.ENDED, status="missing", error=str(error))
        self.ledger.note_statuses(shard.shard, {batch.status.value: None, **batch.reached_at})
        changes: dict[str, Any] = {
            "status": batch.status.value,
            "completed": batch.counts.completed,
            "failed": batch.counts.failed,
        }
        if any(getattr(shard, name) != value for name, value in changes.items()):
            shard = self.ledger.note(shard.shard, **changes)
            if not batch.status.is_terminal:
                self.progress(shard)
        if not batch.status.is_terminal:
            if shard.cancel_requested_at and batch.status != BatchStatus.CANCELLING:
                self.service.cancel(batch.id)
            return shard
        files: dict[str, Any] = {
            "output_file_id": batch.output_file_id,
            "error_file_id": batch.error_file_id,
        }
        if batch.is_void:
            return self._failed(shard, batch)
        return self._record(shard, Step.ENDED, **changes, **files)

    def _failed(self, shard: Shard, batch: RemoteBatch) -> Shard:
        """Deal with a batch that failed as a whole: wait where it was quota, else say why."""
        errors = batch.errors
        said = "; ".join(
            f"{error.code}: {error.message}" + (f" (line {error.line})" if error.line else "")
            for error in errors[:3]
        )
        if _found_no_room(batch):
            self.warn(f"batch {batch.id} found no room in the quota ({said}); sending it again")
            self.room.learn_from_refusal(shard, said)
            return self._record(shard, Step.UPLOADED, batch_id=None, error=said)
        self._release(shard, said)
        codes = {error.code.lower() for error in errors}
        raise BatchFailedError(
            f"the service failed batch {batch.id} of {shard.requests} requests as a whole "
            f"({said or 'no reason given'}); {mend_of(codes, shard)}. None of its rows was paid"
        )

    def _release(self, shard: Shard, reason: str) -> None:
        self._record(shard, Step.RELEASED, error=reason)
        self.store.requests(shard.shard).unlink(missing_ok=True)

    def _download(self, shard: Shard) -> Shard:
        for kind, file_id in (("output", shard.output_file_id), ("error", shard.error_file_id)):
            target = self.store.response(shard.shard, kind)
            if not file_id:
                continue
            try:
                self.service.download(file_id, target)
            except NotFoundError as error:
                if self._is_there(file_id):
                    raise TransientError(str(error)) from error
                self.warn(f"{error}; what it held counts as missing")
        return self._record(shard, Step.DOWNLOADED)

    def _is_there(self, file_id: str) -> bool:
        """Whether the service knows a file that one call did not find."""
        try:
            self.service.file(file_id)
        except NotFoundError:
            return False
        return True

    def _record(self, shard: Shard, step: Step, **changes: Any) -> Shard:
        moved = self.ledger.record(shard.shard, step, **changes)
        self.progress(moved)
        return moved

    def _is_timed_out(self) -> bool:
        limit = self.settings.await_timeout
        return limit is not None and time.monotonic() - self._started >= limit

    def _pause_until(self, moment: float) -> None:
        wait = moment - time.monotonic()
        if self.settings.await_timeout is not None:
            left = self._started + self.settings.await_timeout - time.monotonic()
            wait = min(wait, max(left, 0.0))
        self.progress.beat()
        if wait > 0:
            self.cancelled.wait(min(wait, _BEAT_SECONDS))


def _found_no_room(batch: RemoteBatch) -> bool:
    """Whether a failed batch failed for the quota alone, and may be sent again as it is."""
    return any(error.code.lower() in _QUOTA_CODES for error in batch.errors)

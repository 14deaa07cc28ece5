"""Steps: what each step of the ledger asks of the service, for one shard at a time.

Each call takes one step and notes it in the ledger, before and after. Only transfers of whole files
go on in the background: a shard whose file is under way is returned as it is.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime
from typing import Unpack

from dbt_enrich.console.timings import Stage
from dbt_enrich.endpoints.batch_marks import batch_metadata, file_name
from dbt_enrich.endpoints.choice import endpoint_of
from dbt_enrich.errors import (
    BatchFailedError,
    CancelledError,
    LostOwnershipError,
    NotFoundError,
    ServiceError,
    TransientError,
    UnknownOutcomeError,
    concerning,
)
from dbt_enrich.pipeline.run.batch_failure import fix_of, refusal_of
from dbt_enrich.pipeline.run.dispatch import Dispatch
from dbt_enrich.pipeline.run.transfers import Transfers
from dbt_enrich.services.base import (
    QUOTA_CODES,
    BatchStatus,
    FileStatus,
    RemoteBatch,
    RemoteFile,
)
from dbt_enrich.services.parse import limit_in
from dbt_enrich.state.shards import GONE, Shard, ShardChanges, Step
from dbt_enrich.wording import counted

# A file is listed a moment after it was uploaded.
_FILE_GRACE_SECONDS = 60.0


class Steps:
    """Takes the steps of shards at one service.

    Args:
        dispatch: What takes them there.
        transfers: The uploads and downloads under way.
    """

    def __init__(self, dispatch: Dispatch, transfers: Transfers) -> None:
        self._dispatch = dispatch
        self._run = dispatch.run
        self._created: set[str] = set()
        self._transfers = transfers

    def advance(self, shard: Shard) -> Shard:
        """Take the next step with a shard; return it unchanged where there is nothing to do yet.

        Raises:
            CancelledError: The user interrupted.
            BatchFailedError: The service refused the file or the batch as a whole.
            ServiceError: The service could not be asked, or refused.
        """
        with concerning(shard=shard.shard, batch=shard.batch_id):
            return self._advanced(shard)

    def _advanced(self, shard: Shard) -> Shard:
        self.check_cancelled()
        if shard.step == Step.ANSWERING:
            # Of an earlier version, which asked without a batch: what came is taken in.
            return self._record(shard, Step.DOWNLOADED)
        match shard.step:
            case Step.CLAIMED:
                return self._write(shard)
            case Step.EXPORTED | Step.UPLOADING:
                return self._upload(shard)
            case Step.UPLOADED:
                return self._create_when_processed(shard)
            case Step.CREATING:
                settled = self.settle(shard)
                return self._create(settled) if settled.step == Step.UPLOADED else settled
            case Step.SUBMITTED:
                return self._poll(shard)
            case Step.ENDED:
                return self._download(shard)
        return shard

    def without_files(self, shard: Shard) -> Shard:
        """Go on with a shard whose run was on another machine, where its own files stayed.

        What the service answered is downloaded again; what was not sent is let go.
        """
        store, files = self._run.store, self._run.files
        if not files.is_shared:
            return shard
        if shard.step in (Step.EXPORTED, Step.UPLOADING):
            if not store.requests(shard.shard).exists():
                self.release(shard, "its file is on another machine, and was not sent")
                return self._run.ledger.shards.get(shard.shard)
        elif shard.step == Step.DOWNLOADED:
            named = {"output": shard.output_file_id, "error": shard.error_file_id}
            paths = [
                store.response(shard.shard, kind) for kind, file_id in named.items() if file_id
            ]
            if not all(path.exists() for path in paths):
                return self._record(shard, Step.ENDED)
        return shard

    def check_cancelled(self) -> None:
        """Raise a `CancelledError` if the user has interrupted."""
        if self._dispatch.cancelled.is_set():
            raise CancelledError

    def _write(self, shard: Shard) -> Shard:
        """Write a claimed shard's file, and begin to upload it while the next one is written."""
        written = self._dispatch.write(shard)
        if written is None:
            # Taken over from a run that died before it wrote the file: nothing was sent.
            return self._record(shard, Step.RELEASED, error="never written")
        self._dispatch.progress(written)
        return self._upload(written)

    def _upload(self, shard: Shard) -> Shard:
        name = shard.shard
        if self._transfers.is_over(name):
            remote = self._transfers.take(name)
            return self._record(shard, Step.UPLOADED, input_file_id=remote.id)
        if self._transfers.is_running(name) or self._transfers.is_full:
            return shard
        uploading = self._record(shard, Step.UPLOADING)
        self._transfers.start(name, lambda: self._send(shard))
        return uploading

    def _send(self, shard: Shard) -> RemoteFile:
        """Upload a shard's file."""
        path = self._run.store.requests(shard.shard)
        remote_name = file_name(shard.namespace, shard.task_key, shard.shard)
        with self._dispatch.timings.span(Stage.UPLOAD, rows=shard.row_count, size=shard.bytes):
            return self._dispatch.service_of(shard).upload(path, filename=remote_name)

    def _create_when_processed(self, shard: Shard) -> Shard:
        file_id = shard.input_file_id or ""
        try:
            remote = self._dispatch.service_of(shard).file(file_id)
        except NotFoundError as error:
            return self._upload_again(shard, error)
        if remote.status == FileStatus.PENDING:
            return shard
        if remote.status == FileStatus.ERROR:
            self.release(shard, f"file {file_id} was refused")
            raise BatchFailedError(
                f"the service refused the input file {file_id}: "
                f"{self._dispatch.service.masked(remote.status_details or 'no reason given')}; "
                "nothing was paid"
            )
        return self._create(shard)

    def _create(self, shard: Shard) -> Shard:
        owners = self._run.owners
        # Taken before the intent: what is intended in one term is not sent in another.
        term = owners.term()
        self._record(shard, Step.CREATING)
        metadata = batch_metadata(shard.namespace, shard.task_key, shard.shard)
        if shard.synchronous:
            metadata |= _tolerance_of(shard)
        try:
            batch = self._dispatch.service_of(shard).create(
                shard.input_file_id or "",
                metadata,
                endpoint_of(shard.endpoint).path,
                before_sending=lambda: owners.confirm(term),
            )
        except LostOwnershipError as error:
            # Nothing was sent. Where no other run has taken over, the same may be intended again.
            self._record(shard, Step.UPLOADED, error=str(error))
            raise
        except UnknownOutcomeError as error:
            self._dispatch.console.warn(f"{error}; looking for the batch before creating another")
            return self._run.ledger.shards.get(shard.shard)
        except NotFoundError as error:
            return self._upload_again(self._record(shard, Step.UPLOADED, error=str(error)), error)
        except ServiceError as error:
            # A clear refusal: the file is still good for another try.
            self._record(shard, Step.UPLOADED, error=str(error))
            raise
        self._created.add(shard.shard)
        try:
            return self._submitted(shard, batch)
        except LostOwnershipError:
            self._end_second(shard, batch)
            raise

    def _end_second(self, shard: Shard, batch: RemoteBatch) -> None:
        """Cancel a batch that was created while another run sent the same requests."""
        now = self._run.ledger.shards.get(shard.shard)
        # At `creating` the shard's owner looks for a batch, and finds this one.
        if now.step == Step.CREATING or now.batch_id == batch.id:
            return
        with suppress(ServiceError):
            self._dispatch.service_of(shard).cancel(batch.id)
        self._dispatch.console.warn(
            f"batch {batch.id} is cancelled, as another run sent its requests, too"
        )

    def _upload_again(self, shard: Shard, error: NotFoundError) -> Shard:
        """Send a file anew that the service has lost or that has expired."""
        uploaded = self._run.ledger.events.last_time(shard.shard, Step.UPLOADED)
        if self._is_within_grace(uploaded, 0.0 if shard.synchronous else _FILE_GRACE_SECONDS):
            raise TransientError(error.problem, fix=error.fix) from error
        if not self._run.store.requests(shard.shard).exists():
            return self._record(shard, Step.RELEASED, error=str(error))
        self._dispatch.console.warn(f"{error}; uploading it again")
        return self._record(shard, Step.EXPORTED, input_file_id=None, error=str(error))

    def find(self, shard: Shard) -> Shard | None:
        """Look for a batch whose creation got no reply: its file or its shard's name tells it.

        An earlier batch of the shard that found no room is not the one.
        """
        for batch in self._dispatch.service_of(shard).batches():
            if batch.is_void and found_no_room(batch):
                continue
            same_file = shard.input_file_id and batch.input_file_id == shard.input_file_id
            if same_file or batch.metadata.get("shard") == shard.shard:
                return self._submitted(shard, batch)
        return None

    def settle(self, shard: Shard) -> Shard:
        """Find the batch of a creation that got no reply, or note that there is none."""
        found = self.find(shard)
        created = self._run.ledger.events.last_time(shard.shard, Step.CREATING)
        if found or self._is_within_grace(created, self._dispatch.grace_of(shard)):
            return found or shard
        if shard.cancel_requested_at:
            self.release(shard, "cancelled before it was sent")
            return self._run.ledger.shards.get(shard.shard)
        return self._record(shard, Step.UPLOADED)

    def _is_within_grace(self, moment: datetime | None, seconds: float) -> bool:
        """Whether the service may not yet say everywhere what it has done at a moment.

        Args:
            moment: The moment, or None where it is now.
            seconds: How long it may take.
        """
        now = self._run.clock.now()
        age = (now - (moment or now)).total_seconds()
        # The service's clock, or ours, may be ahead.
        return abs(age) < seconds

    def _submitted(self, shard: Shard, batch: RemoteBatch) -> Shard:
        self._dispatch.room.learn_from_batch(shard, batch)
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
            batch = self._dispatch.service_of(shard).batch(shard.batch_id or "")
        except NotFoundError as error:
            return self._gone(shard, error)
        self._run.ledger.statuses.add(shard.shard, {batch.status.value: None, **batch.reached_at})
        changes: ShardChanges = {
            "status": batch.status.value,
            "completed": batch.counts.completed,
            "failed": batch.counts.failed,
        }
        if any(getattr(shard, name) != value for name, value in changes.items()):
            shard = self._run.ledger.shards.change(shard, **changes)
            if not batch.status.is_terminal:
                self._dispatch.progress(shard)
        if not batch.status.is_terminal:
            if shard.synchronous and batch.errors and not shard.cancel_requested_at:
                # Of a batch that goes on: why the relay holds its requests back.
                raise TransientError(self._dispatch.service.masked(batch.errors[0].message))
            if shard.cancel_requested_at and batch.status != BatchStatus.CANCELLING:
                self._dispatch.service_of(shard).cancel(batch.id)
            return shard
        ended = self._run.ledger.statuses.of(shard.shard).get(batch.status.value)
        if batch.lacks_files and self._is_within_grace(ended, self._dispatch.grace_of(shard)):
            return shard
        if batch.is_void:
            return self._failed(shard, batch)
        changes["output_file_id"] = batch.output_file_id
        changes["error_file_id"] = batch.error_file_id
        return self._record(shard, Step.ENDED, **changes)

    def _gone(self, shard: Shard, error: NotFoundError) -> Shard:
        """Deal with a batch that one call did not find."""
        # One call that does not find it is not enough to pay for its rows again.
        submitted = self._run.ledger.events.last_time(shard.shard, Step.SUBMITTED)
        if self._is_within_grace(submitted, self._dispatch.grace_of(shard)):
            return shard
        listed = self._dispatch.service_of(shard).batches()
        if any(batch.id == shard.batch_id for batch in listed):
            return shard
        self._dispatch.console.warn(f"{error}; {_of_lost_rows(shard)}")
        return self._record(shard, Step.ENDED, status=GONE, error=str(error))

    def _failed(self, shard: Shard, batch: RemoteBatch) -> Shard:
        """Deal with a batch that failed as a whole: wait where it was quota, else say why."""
        errors = batch.errors
        text = "; ".join(
            f"{error.code}: {error.message}" + (f" (line {error.line})" if error.line else "")
            for error in errors[:3]
        )
        if found_no_room(batch):
            self._dispatch.room.learn_from_refusal(shard, limit_in(text))
            text = self._dispatch.service.masked(text)
            self._dispatch.console.warn(
                f"batch {batch.id} found no room in the quota ({text}); sending it again"
            )
            return self._record(shard, Step.UPLOADED, batch_id=None, error=text)
        text = self._dispatch.service.masked(text)
        self.release(shard, text)
        if shard.synchronous and shard.shard not in self._created:
            # What an earlier run was refused may be accepted now.
            self._dispatch.console.warn(text)
            return self._run.ledger.shards.get(shard.shard)
        if shard.synchronous and errors:
            raise refusal_of(errors[0], text, shard)
        codes = {error.code.lower() for error in errors}
        raise BatchFailedError(
            f"the service failed batch {batch.id} of {counted(shard.requests, 'request')} as a "
            f"whole ({text or 'no reason given'})",
            fix=f"{fix_of(codes, shard)}. None of its rows was paid",
        )

    def release(self, shard: Shard, reason: str) -> None:
        """Let go of the requests of a shard that is not at the service."""
        self._record(shard, Step.RELEASED, error=reason)
        self._run.store.requests(shard.shard).unlink(missing_ok=True)

    def _download(self, shard: Shard) -> Shard:
        name = shard.shard
        if self._transfers.is_over(name):
            lost = self._transfers.take(name)
            ended = self._run.ledger.events.last_time(name, Step.ENDED)
            if lost and self._is_within_grace(ended, self._dispatch.grace_of(shard)):
                raise TransientError(lost[0].problem, fix=lost[0].fix)
            for error in lost:
                self._dispatch.console.warn(f"{error}; {_of_lost_rows(shard)}")
            return self._record(shard, Step.DOWNLOADED)
        if not self._transfers.is_running(name) and not self._transfers.is_full:
            self._transfers.start(name, lambda: self._fetch_timed(shard))
        return shard

    def _fetch_timed(self, shard: Shard) -> list[NotFoundError]:
        with self._dispatch.timings.span(Stage.DOWNLOAD, rows=shard.row_count) as span:
            lost = self._fetch(shard)
            span.bytes = self._run.store.response_bytes(shard.shard)
        return lost

    def _fetch(self, shard: Shard) -> list[NotFoundError]:
        """Download a shard's files; return what the service says of those that it has lost."""
        lost = []
        for kind, file_id in (("output", shard.output_file_id), ("error", shard.error_file_id)):
            if not file_id:
                continue
            try:
                path = self._run.store.response(shard.shard, kind)
                self._dispatch.service_of(shard).download(file_id, path)
            except NotFoundError as error:
                if self._is_there(shard, file_id):
                    raise TransientError(error.problem, fix=error.fix) from error
                lost.append(error)
        return lost

    def _is_there(self, shard: Shard, file_id: str) -> bool:
        """Whether the service knows a file that one call did not find."""
        try:
            self._dispatch.service_of(shard).file(file_id)
        except NotFoundError:
            return False
        return True

    def _record(self, shard: Shard, step: Step, **changes: Unpack[ShardChanges]) -> Shard:
        moved = self._run.ledger.shards.record(shard, step, **changes)
        self._dispatch.progress(moved)
        return moved


def _tolerance_of(shard: Shard) -> dict[str, str]:
    """Return what a relay needs to know to end a batch whose requests are all refused alike."""
    if shard.max_failed_share is None or shard.least_answers is None:
        return {}
    return {
        "max_failed_share": f"{shard.max_failed_share:g}",
        "least_answers": str(shard.least_answers),
    }


def _of_lost_rows(shard: Shard) -> str:
    """Say what becomes of the rows of a batch whose answers cannot be had."""
    return (
        f"what it held of the {counted(shard.row_count, 'row')} of the batch is lost (file_lost): "
        "this run does not ask them again, the next one does, up to max_attempts"
    )


def found_no_room(batch: RemoteBatch) -> bool:
    """Whether a failed batch failed for the quota alone, and may be sent again as it is."""
    return any(error.code.lower() in QUOTA_CODES for error in batch.errors)

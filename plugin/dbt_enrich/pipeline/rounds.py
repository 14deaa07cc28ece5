"""Exchange: send what is new and take in what is finished, for every mode."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from functools import partial

from dbt_enrich.backoff import PATIENCE_SECONDS
from dbt_enrich.console.timings import Stage
from dbt_enrich.cost.estimate import Estimate
from dbt_enrich.endpoints.request_lines import RequestLines
from dbt_enrich.errors import (
    AwaitTimeoutError,
    CancelledError,
    CapError,
    EnrichmentError,
    ServiceError,
    StoppedError,
)
from dbt_enrich.pipeline.checks import inputs_to_forget, watch_of
from dbt_enrich.pipeline.export.canary import is_proven
from dbt_enrich.pipeline.export.claim import claim
from dbt_enrich.pipeline.export.in_flight import let_go, seen_now
from dbt_enrich.pipeline.export.new_requests import (
    Chosen,
    NewRequests,
    Selection,
    choose,
    find_undone,
)
from dbt_enrich.pipeline.export.outgoing import Outgoing
from dbt_enrich.pipeline.export.request_file import ClaimedFiles
from dbt_enrich.pipeline.load.load_shard import LoadedShard, take_in
from dbt_enrich.pipeline.planning.plan import estimate_requests
from dbt_enrich.pipeline.run.alike_failures import Watch
from dbt_enrich.pipeline.run.batch_run import BatchRun
from dbt_enrich.pipeline.run.remote_inputs import forget_inputs, tidy_relay
from dbt_enrich.pipeline.sentences import plan_sentence
from dbt_enrich.pipeline.session import Found, Session
from dbt_enrich.pipeline.shared_service import SharedService
from dbt_enrich.pipeline.stage.staged_rows import StagedRows
from dbt_enrich.services.base import BatchService
from dbt_enrich.services.relay import Relay
from dbt_enrich.state.file_store import FileKind, StateFile
from dbt_enrich.state.shards import Shard, Step
from dbt_enrich.task.options import Mode
from dbt_enrich.wording import counted

# A service takes up to ten minutes to end a batch.
_CANCEL_SECONDS = 600.0
_CANCEL_PAUSE_SECONDS = 5.0
# A relay that is to end a batch stays for replies that are on their way.
_LINGER_SECONDS = 60.0
_MOST_IN_VAIN = 3


def exchange(
    session: Session, rows: StagedRows, found: Found, fresh: NewRequests, shared: SharedService
) -> None:
    """Turn to the service, if there is anything to send or to take in."""
    mode = session.request.options.mode
    sends = 0
    if mode != Mode.COLLECT:
        sends = fresh.requests
        if sends or fresh.in_flight:
            session.console.say(plan_sentence(rows, fresh, session.tally.reused))
    in_flight = session.run.ledger.shards.open(task_key=session.task_key)
    to_do = sends or in_flight or mode == Mode.COLLECT
    watch = watch_of(session, rows)
    if not (to_do or leftovers(session) or inputs_to_forget(session)):
        # `dbt-enrich wait` may have brought the answers home.
        watch.look()
        return
    with shared.use() as (service, relay):
        shared.prepare(session, service, sends=sends > 0)
        rounds = Exchange(session, rows, service, relay, watch)
        rounds.carry_out(found)
        if rounds.timed_out and session.request.options.on_await_timeout == "error":
            raise AwaitTimeoutError(
                f"model '{session.model}': the service did not finish within await_timeout = "
                f"{session.request.options.await_timeout:g} seconds; the previous table stays, "
                "its batches go on, and the next run collects them"
            )


class Exchange:
    """One run's dealings with a service.

    Args:
        session: The run.
        rows: Its staged rows.
        service: The service.
        relay: The way to the relay before it.
        watch: What watches the answers that come home.
    """

    def __init__(
        self,
        session: Session,
        rows: StagedRows,
        service: BatchService,
        relay: Relay,
        watch: Watch,
    ) -> None:
        self.session = session
        self.rows = rows
        self.service = service
        self.watch = watch
        selection = session.select()
        lines = selection.lines(session.config.url_of(selection.endpoint.path))
        self._files = self._made_files(rows, lines)
        self._relay = relay
        self._dispatch = session.dispatch(service, relay, self._files)
        self._batch_run = BatchRun(self._dispatch)
        self._in_vain = 0

    def _made_files(self, rows: StagedRows, lines: RequestLines) -> ClaimedFiles:
        """Return what writes the input files of claimed shards."""
        return ClaimedFiles(self.session.run, rows, lines, self.session.timings)

    @property
    def timed_out(self) -> bool:
        """Whether `await_timeout` passed first."""
        return self._batch_run.timed_out

    def carry_out(self, found: Found | None) -> None:
        """Send and collect as far as the run's mode says.

        Args:
            found: The rows that were not done as the run began, and the requests of them that
                were new; None where they are still to be found.

        Raises:
            StoppedError: Too many answers failed alike, now or in an earlier run.
        """
        try:
            self.watch.look()
            self._carry_out(found)
        except StoppedError:
            self._wind_down()
            raise
        except CancelledError:
            ours = [shard for shard in self._open() if shard.owner == self.session.run.id]
            if not ours or not all(shard.synchronous for shard in ours):
                raise
            raise CancelledError(
                "interrupted; the replies that came are kept, and the next run asks the other rows"
            ) from None

    def _carry_out(self, found: Found | None) -> None:
        mode = self.session.request.options.mode
        if mode == Mode.RUN:
            self._run_to_the_end(found)
        else:
            self._collect(self._open())
        if mode == Mode.SUBMIT and not self._hold_back():
            self._submit(found)
        # What was paid for is kept: answers to previous prompts are stored, though not published.
        self._collect(s for s in leftovers(self.session) if s.service == self.service.service_id)
        self._name_other_services()
        self._forget_inputs()

    def _run_to_the_end(self, found: Found | None) -> None:
        """Send, wait and load until no row is to be asked again."""
        self._take_in(self._batch_run.wait(self._unknown()))
        while not self.timed_out:
            self._claim_or_leave(found)
            found = None
            waiting = self._open()
            if not waiting:
                return
            self._take_in(self._batch_run.wait(waiting))
            if self.timed_out:
                self._end_relayed()
            if self.timed_out or self._was_cancelled(waiting):
                # The next run goes on from here.
                return

    def _submit(self, found: Found | None) -> None:
        """Send what is new; relayed rounds are waited for, and gone on with at once.

        Nothing works on them but the relay, which ends with its last user.
        """
        while True:
            claimed, found = self._claim_or_leave(found), None
            relayed = [shard for shard in claimed if shard.synchronous]
            self._batch_run.submit(shard for shard in claimed if not shard.synchronous)
            try:
                self._take_in(self._batch_run.wait(relayed, patience=PATIENCE_SECONDS))
            finally:
                if self.timed_out:
                    self._end_relayed()
            if not relayed or self.timed_out or self._was_cancelled(relayed):
                return

    def _end_relayed(self) -> None:
        """End the relayed batches of this run, and keep what they have finished.

        Their other requests were never asked, and are new again.
        """
        run = self.session.run
        ours = [s for s in self._open() if s.synchronous and self._is_free(s)]
        let_go(run, [shard for shard in ours if shard.step.is_unsent])
        for shard in run.ledger.shards.named(shard.shard for shard in ours):
            if shard.step == Step.SUBMITTED and shard.batch_id:
                with suppress(ServiceError):
                    self._relay.open().cancel(shard.batch_id)
        self._bring_home({shard.shard for shard in ours}, _LINGER_SECONDS)

    def _open(self) -> list[Shard]:
        """Return this task's shards that are on their way, claimed by any run."""
        return self.session.run.ledger.shards.open(
            service=self.service.service_id, task_key=self.session.task_key
        )

    def _unknown(self) -> list[Shard]:
        """Return the open shards whose requests are unknown: their input file is gone.

        Their answers say it. Until they are there, any row may be among them.
        """
        files = self.session.run.files
        return [
            shard
            for shard in self._open()
            if shard.step.is_at_service and not files.has(StateFile(FileKind.MANIFEST, shard.shard))
        ]

    def _hold_back(self) -> bool:
        """Whether nothing may be sent now, as unknown rows may be in flight."""
        unknown = self._unknown()
        if unknown:
            self.session.console.say(
                f"nothing is sent until batch {unknown[0].batch_id} has ended: its input file is "
                "gone at the service, and only its answers will tell which rows it asks"
            )
        return bool(unknown)

    def _was_cancelled(self, shards: Iterable[Shard]) -> bool:
        """Whether the user has had one of these batches cancelled meanwhile."""
        ledger = self.session.run.ledger
        stopped = {None, *(stop.at for stop in ledger.stops.of(self.session.task_key))}
        found = ledger.shards.named(shard.shard for shard in shards)
        return any(shard.cancel_requested_at not in stopped for shard in found)

    def _claim(self, outgoing: Outgoing) -> list[Shard]:
        """Claim what is new; the batch run writes the files and sends them, one by one."""
        session = self.session
        reserved = session.budget.reserve(
            session.reservation, session.model_budget, partial(estimate_requests, outgoing)
        )
        sent = 0
        try:
            with session.timings.span(Stage.CLAIM) as span:
                claimed = claim(
                    outgoing,
                    expected=reserved,
                    check=partial(self._check_ledger, reserved) if reserved else None,
                    allow=partial(self._allowed, outgoing.selection),
                )
                shards = session.run.ledger.shards.named(claimed.shards)
                span.rows = sum(shard.row_count for shard in shards)
            self._files.expect(claimed.new)
            sent = sum(shard.requests for shard in shards)
        finally:
            if reserved:
                session.budget.give_back(session.model_budget, reserved, sent)
        session.tally.sent += sum(shard.row_count for shard in shards)
        session.tally.requests += sum(shard.requests for shard in shards)
        return shards

    def _allowed(self, selection: Selection, chosen: Chosen) -> int | None:
        """Return how many new requests may be claimed now, or None for all.

        Raises:
            StoppedError: A run was stopped, and nothing has changed since.
        """
        session = self.session
        if not chosen.requests:
            return None
        refusal = session.refusal_to_go_on(chosen.requests)
        if refusal:
            raise refusal
        canary = session.request.options.canary
        if canary is None or is_proven(session.run, selection):
            return None
        is_out = any(
            shard.step.is_at_service or session.run.owners.is_driven(shard)
            for shard in self._open()
        )
        return 0 if is_out else canary

    def _outgoing(self, found: Found | None) -> Outgoing:
        """Return what is new now: what was found already, if the ledger has not changed since."""
        run, selection = self.session.run, self.session.select()
        if found is not None and found[1].seen != seen_now(run, selection.answer_keys):
            for files in found:
                files.remove()
            found = None
        if found is None:
            undone = find_undone(run, self.rows, selection.answer_keys)
            found = undone, choose(run, undone, selection)
        return self.session.outgoing(self.rows, found, selection, self.service)

    def _check_ledger(self, wanted: Estimate, abandoned: Sequence[Shard]) -> None:
        session = self.session
        names = {shard.shard for shard in abandoned}
        session.budget.check_ledger(session.reservation, wanted, session.run.ledger, but_not=names)

    def _claim_or_leave(self, found: Found | None) -> list[Shard]:
        """Claim; past a cap, rows that failed before are left where no other is to be sent.

        What was paid for is published all the same.

        Args:
            found: What was new as the run began, or None where something was sent since.

        Raises:
            CapError: Rows that were never sent would pass a cap.
        """
        with self.session.timings.span(Stage.CLAIM):
            outgoing = self._outgoing(found)
        try:
            return self._claim(outgoing)
        except CapError as error:
            if outgoing.chosen.requests > outgoing.chosen.again:
                raise
            self.session.console.say(str(error))
            return []
        finally:
            outgoing.remove()

    def _collect(self, shards: Iterable[Shard]) -> None:
        at_service = [shard for shard in shards if shard.step.is_at_service]
        self._take_in(self._batch_run.collect(at_service))

    def _wind_down(self) -> None:
        """End what a stopped run has in flight, and keep what it has finished.

        What has not ended in time, or by a command that does not wait, the next run takes in.
        """
        session = self.session
        unsent = [s for s in self._open() if s.step.is_unsent and self._is_free(s)]
        let_go(session.run, unsent)
        ending = [s for s in self._open() if s.step.is_at_service]
        if ending:
            session.console.say(
                "nothing more is sent; cancelling "
                f"{counted(len(ending), 'batch', 'batches')} in flight"
            )
        patience = _CANCEL_SECONDS if session.request.options.mode == Mode.RUN else 0.0
        self._bring_home(None, patience)

    def _bring_home(self, names: Collection[str] | None, patience: float) -> None:
        """Take in batches that are ending, for a while.

        Args:
            names: Their shards, or None for all.
            patience: Seconds for which they are waited for.
        """
        session, clock = self.session, self.session.run.clock
        deadline = clock.monotonic() + patience
        try:
            while waiting := [
                shard
                for shard in self._open()
                if shard.step.is_at_service and (names is None or shard.shard in names)
            ]:
                for shard in self._batch_run.collect(waiting):
                    self._store(shard)
                if clock.monotonic() > deadline:
                    return
                pause = min(self._dispatch.poll_interval, _CANCEL_PAUSE_SECONDS)
                clock.wait(session.cancelled, pause)
        except EnrichmentError as error:
            session.console.say(str(error))

    def _is_free(self, shard: Shard) -> bool:
        """Whether a shard is this run's, or has no owner."""
        run = self.session.run
        return shard.owner == run.id or not run.owners.is_driven(shard)

    def _take_in(self, shards: Iterable[Shard]) -> None:
        """Take the answers of shards in as they are downloaded."""
        for shard in shards:
            self._load(shard)

    def _load(self, shard: Shard) -> None:
        """Take a shard's answers in, and see whether all is well."""
        self._store(shard)
        if shard.task_key == self.session.task_key:
            self.watch.look()

    def _store(self, shard: Shard) -> None:
        session = self.session
        if session.run.ledger.tasks.outputs(shard.task_key) is None:
            session.console.say(
                f"batch {shard.batch_id} answers a task that no model of this project asks now; "
                f"its answers are kept in {session.run.store.root}"
            )
            return
        loaded = take_in(self._dispatch, shard)
        if loaded is not None:
            self._note(shard, loaded)

    def _note(self, shard: Shard, loaded: LoadedShard) -> None:
        """Count what a shard's files held, and say what cannot be assigned."""
        session = self.session
        self._watch_relay(loaded.shard)
        session.tally.stored.append(loaded.shard)
        if loaded.unassigned:
            session.console.say(
                f"batch {shard.batch_id} has {counted(loaded.unassigned, 'answer')} to packs of "
                "rows, and its input file, which alone names these rows, is gone at the service; "
                f"the answers are kept in {loaded.kept_in}, and the rows are asked again"
            )
        self._forget_inputs()

    def _watch_relay(self, shard: Shard) -> None:
        """Give up on a relay that ends again and again before it has an answer.

        Raises:
            EnrichmentError: It does.
        """
        is_idle = shard.synchronous and not shard.requests and not shard.cancel_requested_at
        self._in_vain = self._in_vain + 1 if is_idle else 0
        if self._in_vain >= _MOST_IN_VAIN:
            raise EnrichmentError(
                f"model '{self.session.model}': the relay ended {self._in_vain} times before it "
                "had an answer",
                fix=f"see emulator.log below {self.session.run.store.root}",
            )

    def _forget_inputs(self) -> None:
        """Delete the input files that the service needs no more, if they may not be kept."""
        session = self.session
        tidy_relay(
            self._relay,
            self.service.service_id,
            ledger=session.run.ledger,
            console=session.console,
        )
        forget_inputs(
            self.service,
            session.config,
            ledger=session.run.ledger,
            console=session.console,
        )

    def _name_other_services(self) -> None:
        elsewhere = [
            shard
            for shard in self.session.run.ledger.shards.open(task_key=self.session.task_key)
            if shard.service != self.service.service_id
        ]
        if elsewhere:
            names = ", ".join(sorted({shard.service for shard in elsewhere}))
            requests = sum(shard.requests for shard in elsewhere)
            self.session.console.say(
                f"{counted(requests, 'request is', 'requests are')} in flight at {names}; run with "
                "the target of that service to collect them"
            )


def leftovers(session: Session) -> list[Shard]:
    """Return batches of this model's previous tasks, and adopted ones, that no run waits for."""
    everything = session.request.options.mode == Mode.COLLECT

    def is_left(shard: Shard) -> bool:
        if shard.task_key == session.task_key or not shard.step.is_at_service:
            return False
        if not everything and shard.enrichment not in (session.request.enrichment, None):
            return False
        if session.run.owners.is_driven(shard):
            return False
        # Downloaded answers of a task that the ledger does not know wait for its model.
        known = session.run.ledger.tasks.outputs(shard.task_key) is not None
        return known or shard.step != Step.DOWNLOADED

    return [shard for shard in session.run.ledger.shards.open() if is_left(shard)]

"""Exchange of rows that stay where they lie: workers write files, the driver claims and sends."""

from __future__ import annotations

import json
import math
import secrets
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from dbt_enrich.console.timings import Stage
from dbt_enrich.cost.estimate import Estimate
from dbt_enrich.endpoints.request_lines import RequestLines
from dbt_enrich.errors import CapError, ConfigurationError, LedgerError, LostOwnershipError
from dbt_enrich.pipeline.export.canary import is_proven
from dbt_enrich.pipeline.export.claim_files import claim_files
from dbt_enrich.pipeline.export.in_flight import Seen, abandoned_shards, seen_now
from dbt_enrich.pipeline.export.new_requests import Chosen, NewRequests, Selection
from dbt_enrich.pipeline.export.request_file import ClaimedFiles
from dbt_enrich.pipeline.load.load_shard import LoadedShard
from dbt_enrich.pipeline.partitions import worker
from dbt_enrich.pipeline.partitions.job import Addressee, Job, copied, requests_file
from dbt_enrich.pipeline.partitions.worker import LOADED, RECOVERED, WRITTEN, PartCounts
from dbt_enrich.pipeline.planning.task_changes import refusal_of_change
from dbt_enrich.pipeline.rounds import Exchange
from dbt_enrich.pipeline.run.alike_failures import Watch
from dbt_enrich.pipeline.run.deployments import readdress
from dbt_enrich.pipeline.sentences import plan_sentence
from dbt_enrich.pipeline.session import Found, Session
from dbt_enrich.pipeline.stage.staged_rows import StagedRows
from dbt_enrich.services.base import BatchService
from dbt_enrich.services.relay import Relay
from dbt_enrich.state.file_cleanup import remove_files
from dbt_enrich.state.file_store import FileKind, StateFile
from dbt_enrich.state.sent_with import of_shard
from dbt_enrich.state.shards import Shard, Step
from dbt_enrich.state.shared_files import SharedFiles
from dbt_enrich.task.options import Mode
from dbt_enrich.warehouse.parted_rows import PartedRows
from dbt_enrich.warehouse.placement import PlacedColumns

# A canary is picked of so many rows for each of its requests: some may be alike, or without a text.
_ROWS_OF_CANARY = 20


@dataclass(frozen=True)
class Written:
    """What the workers of one job wrote.

    Attributes:
        job: The job.
        shards: The shards whose files are in the bucket, not claimed yet.
        parts: What each part holds.
        seen: What the ledger held before.
        abandoned: The claims of dead runs then, whose requests were chosen with the others.
        owing: The names of other enrichments that still owe texts.
    """

    job: str
    shards: tuple[Shard, ...]
    parts: tuple[PartCounts, ...]
    seen: Seen
    abandoned: frozenset[str] = frozenset()
    owing: tuple[str, ...] = ()

    @property
    def rows(self) -> StagedRows:
        """How many rows there are, and how many of them have no message."""
        return StagedRows(
            (),
            rows=sum(part.rows for part in self.parts),
            skipped=sum(part.skipped for part in self.parts),
            owed=sum(part.owed for part in self.parts),
            waits_for=self.owing,
        )

    @property
    def files(self) -> int:
        """How many files the requests fill."""
        return sum(part.files for part in self.parts)

    @property
    def bytes(self) -> int:
        """The bytes of those files."""
        return sum(part.bytes for part in self.parts)

    @property
    def finals(self) -> dict[str, int]:
        """Rows that failed for good, by kind of failure, most first."""
        kinds: Counter[str] = Counter()
        for part in self.parts:
            kinds.update(part.finals)
        return dict(kinds.most_common())

    @property
    def done(self) -> int:
        """Rows that have an answer."""
        return sum(part.done for part in self.parts)

    @property
    def fresh(self) -> NewRequests:
        """What an export would send, and what not."""
        found = [part.fresh for part in self.parts]
        return NewRequests(
            requests=sum(one.requests for one in found),
            again=sum(one.again for one in found),
            equal=sum(one.equal for one in found),
            in_flight=sum(one.in_flight for one in found),
        )

    @property
    def chosen(self) -> Chosen:
        """The requests to send, counted."""
        fresh = self.fresh
        return Chosen(
            {},
            requests=fresh.requests,
            again=fresh.again,
            alone=sum(part.alone for part in self.parts),
            rows=sum(part.asking for part in self.parts),
            seen=self.seen,
        )

    def estimate(self) -> Estimate:
        """Return what the requests are expected to take, which was counted."""
        found = [part.estimate for part in self.parts if part.estimate]
        # Where nothing is asked, it is not said what an answer takes.
        found.sort(key=lambda one: one.requests, reverse=True)
        if not found:
            return Estimate(0, 0, 0, 0, "", 0, None, None)
        return replace(
            found[0],
            requests=sum(one.requests for one in found),
            prompt_tokens=sum(one.prompt_tokens for one in found),
            # Parts are sampled apart from each other.
            prompt_margin=round(math.hypot(*(one.prompt_margin for one in found))),
            completion_tokens=sum(one.completion_tokens for one in found),
            sampled=sum(one.sampled for one in found),
            cost=_sum([one.cost for one in found]),
            saved=_sum([one.saved for one in found]),
            synchronous_cost=_sum([one.synchronous_cost for one in found]),
            usual_cost=_sum([one.usual_cost for one in found]),
        )


def _sum(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None


class Jobs:
    """The jobs of one run, over rows that stay where they lie.

    Args:
        session: The run, whose files are shared.
        rows: The rows.
        placed: The columns of the tables that are made of them.
        service: Says what must not be stored of an error's texts, and what one file may hold; None
            where nothing is sent.
        owing: The names of other enrichments that still owe texts.
    """

    def __init__(
        self,
        session: Session,
        rows: PartedRows,
        placed: PlacedColumns,
        service: BatchService | None = None,
        *,
        owing: tuple[str, ...] = (),
    ) -> None:
        self._session = session
        self._rows = rows
        self._placed = placed
        self._service = service
        self._owing = owing

    def at(self, service: BatchService) -> Jobs:
        """Return the jobs of the same rows, whose requests go to a service."""
        return Jobs(self._session, self._rows, self._placed, service, owing=self._owing)

    def recover(self, table: PartedRows, *, errors: bool) -> int:
        """Have workers take answers that only a table still holds; return how many.

        Args:
            table: Results with an answer of the task, or failed attempts at it.
            errors: Whether it has failed attempts.
        """
        session, job = self._session, self._job(self._session.select())
        wanted = self._rows.answers(partial(worker.request_keys, job), table)
        found = wanted.results(
            worker.parted, partial(worker.recovered, job, self._placed, errors=errors), RECOVERED
        )
        for row in found:
            session.run.ledger.answers.add(
                row["file"],
                task_key=session.task_key,
                answers=row["answers"],
                settings=row["settings"],
            )
        return sum(row["answers"] for row in found)

    def write(self, selection: Selection) -> Written:
        """Have workers write the files of what is new."""
        return self._written(self._rows, worker.exported, selection, None)

    def write_some(self, selection: Selection, most: int) -> Written:
        """Have a worker write a file of so many new requests, or fewer."""
        first = self._rows.first(most * _ROWS_OF_CANARY)
        written = self._written(first, worker.exported, selection, most)
        if written.shards:
            return written
        # All of those rows are answered, or have no message.
        return self._written(self._rows, worker.exported, selection, -(-most // self._rows.parts))

    def count(self, selection: Selection) -> Written:
        """Have workers count what is new, and write nothing."""
        return self._written(self._rows, worker.counted, selection, None)

    def read(self, shards: Sequence[Shard]) -> Mapping[str, Mapping[str, Any]]:
        """Have workers read the response files of downloaded shards, which are in the bucket.

        Returns:
            What each of them held, by name.
        """
        job = self._job(self._session.select())
        names = [shard.shard for shard in shards]
        found = self._rows.each(names, partial(worker.loaded, job), LOADED)
        return {row["shard"]: json.loads(row["document"]) for row in found}

    def publish(self, columns: Mapping[str, str], *, errors: bool = False) -> Any:
        """Return the rows with what became of each, or their failed attempts, as a table there.

        Args:
            columns: The types of its columns, by name.
            errors: Whether the failed attempts are wanted.
        """
        job = self._job(self._session.select())
        work = partial(worker.published, job, self._placed, columns, errors=errors)
        return self._rows.frame(partial(worker.keyed, job), work, columns)

    def _written(
        self, rows: PartedRows, work: Any, selection: Selection, most: int | None
    ) -> Written:
        # Before the copy of the ledger: what comes in between is known to both.
        seen = seen_now(self._session.run, selection.answer_keys)
        abandoned = frozenset(shard.shard for shard in abandoned_shards(self._session.run))
        job = self._job(selection, most)
        try:
            found = rows.results(partial(worker.keyed, job), partial(work, job), WRITTEN)
        except BaseException:
            remove_requests(self._session, job.id)
            raise
        shards = [_shard(row["document"]) for row in found if row["file"] is not None]
        parts = [PartCounts.of_text(row["document"]) for row in found if row["file"] is None]
        return Written(job.id, tuple(shards), tuple(parts), seen, abandoned, self._owing)

    def _job(self, selection: Selection, most: int | None = None) -> Job:
        session, run = self._session, self._session.run
        config, options = session.config, session.request.options
        at = session.destination(selection, self._service or config)
        owners = {shard.owner for shard in run.ledger.shards.open() if run.owners.is_driven(shard)}
        deployments = at.spread.deployments
        return Job(
            began=run.clock.now(),
            id=secrets.token_hex(8),
            ledger=copied(run.ledger, run.workspace.directory),
            bucket=shared_files(session).bucket.address,
            alive=frozenset(owner for owner in owners if owner),
            selection=selection,
            options=options,
            enrichment=session.request.enrichment,
            model=session.model,
            unique_key=session.request.relation.unique_key,
            addressee=Addressee(
                deployments=deployments,
                token_limits={name: config.token_limit(name) for name in deployments},
                service=at.service,
                limits=at.limits,
                line_url=at.line_url,
                namespace=at.namespace,
            ),
            price=config.price(selection.task.model),
            memory_limit=config.memory_limit,
            mask=self._service.mask if self._service else "",
            counts_tokens=session.budget.is_set(options) or options.mode == Mode.PLAN,
            most=most,
            owing=self._owing,
        )


def shared_files(session: Session) -> SharedFiles:
    """Return the files of a run, which workers on other machines reach.

    Raises:
        ConfigurationError: They lie on the driver's disk.
    """
    files = session.run.files
    if isinstance(files, SharedFiles):
        return files
    raise ConfigurationError(
        f"model '{session.model}' has more new rows than partition_rows, so that workers write "
        f"their requests, and the state is in {session.config.state_dir}, which they do not reach",
        fix="share the state (`state`, with `files` in a bucket or on a file system that all "
        "machines have), or raise partition_rows so that the rows come to this machine. Nothing "
        "was sent",
    )


def remove_requests(session: Session, job: str, *, but_not: Collection[str] = ()) -> None:
    """Remove the request files of a job, which hold the rows' texts, whichever attempt wrote them.

    What an attempt writes later, or what cannot be removed now, a sweep of the bucket does.

    Args:
        session: The run.
        job: The job.
        but_not: The shards whose files are needed.
    """
    needed = {requests_file(job, shard).key for shard in but_not}
    bucket = shared_files(session).bucket
    with suppress(LedgerError):
        found = [one.key for one in bucket.list(f"{FileKind.REQUESTS}/{job}")]
        bucket.delete(key for key in found if key not in needed)


def _shard(document: str) -> Shard:
    values = json.loads(document)
    return Shard(**{**values, "step": Step(values["step"])})


class FetchedFiles(ClaimedFiles):
    """The input files that workers wrote, each fetched when its turn comes.

    Args:
        session: The run.
        rows: No rows: none is on this machine.
        lines: How the lines are made.
    """

    def __init__(self, session: Session, rows: StagedRows, lines: RequestLines) -> None:
        super().__init__(session.run, rows, lines, session.timings)
        self._session = session
        self._written: dict[str, tuple[str, Shard]] = {}

    def expect_written(self, job: str, shards: Iterable[Shard]) -> None:
        """Take the shards of a job that were claimed, as workers wrote them."""
        self._written.update({shard.shard: (job, shard) for shard in shards})

    def write(self, shard: Shard) -> Shard | None:
        """Fetch a claimed shard's file; return None if this run did not claim it, or it is gone."""
        if shard.shard not in self._written:
            return None
        job, written = self._written.pop(shard.shard)
        run, file = self._session.run, requests_file(job, shard.shard)
        if not run.files.has(file):
            return None
        path = run.store.requests(shard.shard)
        if path.stat().st_size != written.bytes:
            raise LedgerError(
                f"{run.files.where(file)} has not the {written.bytes:,} bytes that were written",
                fix="keep other programs from that place; the next run writes the file anew",
            )
        if shard.deployment != written.deployment:
            readdress(path, shard.deployment or "")
        # It holds the rows' texts, and is needed nowhere else.
        shared_files(self._session).bucket.delete([file.key])
        return run.ledger.shards.record(shard, Step.EXPORTED, bytes=path.stat().st_size)


class PartedExchange(Exchange):
    """One run's dealings with a service, for rows that stay where they lie.

    Args:
        session: The run.
        jobs: Its jobs.
        at_once: How many response files are read at once, about.
        service: The service.
        relay: The way to the relay before it.
        watch: What watches the answers that come home.
    """

    def __init__(
        self,
        session: Session,
        jobs: Jobs,
        at_once: int,
        service: BatchService,
        relay: Relay,
        watch: Watch,
    ) -> None:
        super().__init__(session, StagedRows((), rows=0, skipped=0), service, relay, watch)
        self._jobs = jobs
        self._at_once = at_once
        self._is_all_claimed = False
        self._has_begun = False

    def _made_files(self, rows: StagedRows, lines: RequestLines) -> FetchedFiles:
        self._fetched = FetchedFiles(self.session, rows, lines)
        return self._fetched

    def _claim_or_leave(self, found: Found | None) -> list[Shard]:  # noqa: ARG002 - as there
        """Have the files of what is new written, and claim them; see `Exchange`."""
        claimed: list[Shard] = []
        while not self._is_all_claimed:
            selection = self.session.select()
            most = self._most(selection)
            if most == 0:
                break
            with self.session.timings.span(Stage.CLAIM) as span:
                written = (
                    self._jobs.write(selection)
                    if most is None
                    else self._jobs.write_some(selection, most)
                )
                span.rows = written.chosen.rows
            try:
                shards, left = self._claim_written(written, selection)
            except CapError as error:
                if written.fresh.requests > written.fresh.again:
                    raise
                self.session.console.say(str(error))
                break
            claimed += shards
            if most is not None and shards:
                break
            # Of a file with a request that another run claimed, the rest is new again.
            if not left:
                # What another run has in flight may fail, and be new then.
                ours = self.session.run.id
                self._is_all_claimed = all(shard.owner == ours for shard in self._open())
                break
        return claimed

    def _most(self, selection: Selection) -> int | None:
        """Return how many requests may be claimed while the task is not proven; None for all."""
        canary = self.session.request.options.canary
        if canary is None or is_proven(self.session.run, selection):
            return None
        chosen = Chosen(
            {}, requests=1, again=0, alone=0, rows=1, seen=Seen(frozenset(), frozenset())
        )
        return self._allowed(selection, chosen)

    def _claim_written(
        self, written: Written, selection: Selection
    ) -> tuple[list[Shard], Collection[str]]:
        """Claim what workers wrote; return the shards, and the names of the files that are left."""
        session, chosen = self.session, written.chosen
        self._begin(written)
        if not written.shards:
            return [], ()
        kept: set[str] = set()
        reserved = None
        try:
            refusal = session.refusal_to_go_on(chosen.requests)
            if refusal:
                raise refusal
            reserved = session.budget.reserve(
                session.reservation, session.model_budget, written.estimate
            )
            made = claim_files(
                session.run,
                written.shards,
                written.seen,
                selection,
                session.destination(selection, self.service),
                abandoned=written.abandoned,
                check=partial(self._check_ledger, reserved) if reserved else None,
            )
            kept = {shard.shard for shard in made.shards}
        finally:
            sent = sum(shard.requests for shard in written.shards if shard.shard in kept)
            if reserved:
                session.budget.give_back(session.model_budget, reserved, sent)
            remove_requests(session, written.job, but_not=kept)
        self._fetched.expect_written(written.job, (s for s in written.shards if s.shard in kept))
        session.tally.sent += sum(shard.row_count for shard in made.shards)
        session.tally.requests += sent
        return session.run.ledger.shards.named(kept), made.left

    def fetched(self, written: Written, claimed: Iterable[Shard]) -> list[Shard]:
        """Fetch the files of claimed shards to this machine, and return the shards."""
        self._fetched.expect_written(written.job, written.shards)
        found = (self._fetched.write(shard) for shard in claimed)
        return [shard for shard in found if shard]

    def _begin(self, written: Written) -> None:
        """Say what is about to be sent, and refuse it where the task's change is refused.

        Raises:
            TaskChangedError: The task changed, and rows of it are not to be asked again.
        """
        if self._has_begun:
            return
        self._has_begun = True
        session, fresh = self.session, written.fresh
        session.tally.reused = written.done
        refusal = refusal_of_change(session.run.ledger, session.request, session.task_key, fresh)
        if refusal:
            remove_requests(session, written.job)
            raise refusal
        if fresh.requests or fresh.in_flight:
            session.console.say(plan_sentence(written.rows, fresh, written.done))

    def _take_in(self, shards: Iterable[Shard]) -> None:
        """Have response files read where the rows lie, several at once."""
        ready: list[Shard] = []
        try:
            for shard in shards:
                if shard.task_key != self.session.task_key or shard.synchronous:
                    self._load(shard)
                    continue
                ready.append(shard)
                if len(ready) == self._at_once:
                    self.read(ready)
                    ready = []
        finally:
            if ready:
                self.read(ready)

    def read(self, shards: Sequence[Shard]) -> None:
        """Take the answers of downloaded shards in, and see whether all is well."""
        session = self.session
        run, bucket = session.run, shared_files(session).bucket
        files = [
            StateFile(FileKind.RESPONSES, f"{shard.shard}.{kind}")
            for shard in shards
            for kind in ("output", "error")
            if run.store.response(shard.shard, kind).exists()
        ]
        size = sum(run.store.response_bytes(shard.shard) for shard in shards)
        rows = sum(shard.row_count for shard in shards)
        with session.timings.span(Stage.LOAD, rows=rows, size=size):
            # An earlier run may have put them there, and been killed.
            bucket.delete(file.key for file in files)
            run.files.put(files)
            found = self._jobs.read(shards)
            for shard in shards:
                self._store_read(shard, found[shard.shard])
            bucket.delete(file.key for file in files)
        self.watch.look()

    def _store_read(self, shard: Shard, found: Mapping[str, Any]) -> None:
        """Close a shard whose answers a worker has put into the bucket."""
        session, of_worker = self.session, found["shard"]
        try:
            closed = session.run.ledger.shards.store(
                shard,
                files=found["files"],
                sent_with=of_shard(shard),
                prompt_tokens=of_worker["prompt_tokens"],
                cached_tokens=of_worker["cached_tokens"],
                completion_tokens=of_worker["completion_tokens"],
                reasoning_tokens=of_worker["reasoning_tokens"],
            )
        except LostOwnershipError as error:
            session.console.say(str(error))
            return
        loaded = LoadedShard(**{**found_fields(found), "shard": closed})
        if not (session.config.keep_files or loaded.unassigned):
            remove_files(shard, session.run.store)
        if loaded.kept_lines:
            session.console.say(loaded.sentence())
        if loaded.failed:
            # Some may be asked again.
            self._is_all_claimed = False
        self._note(shard, loaded)


def found_fields(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a worker said of a shard's files, without the shard and the names of its own."""
    return {name: value for name, value in found.items() if name not in ("shard", "files")}

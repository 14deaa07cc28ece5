"""Leases: who owns shards where several machines share a ledger.

A run has a row in `leases` that a thread renews, by the database's clock. A run that is killed,
frozen or cut off for longer than the row says owns nothing any more: others may take its shards
over, and the ledger refuses its steps. Between a step and a paid call, which no database can guard,
the run looks at its own clock.

A lease that ended may be taken again by its run, where no other has taken over meanwhile what it
owned. That is a new term: what was intended in the one before is not acted upon.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from typing import Final

from dbt_enrich.errors import LedgerError, LostOwnershipError
from dbt_enrich.sql import literal
from dbt_enrich.state.connection import Connection
from dbt_enrich.state.shards import Shard

logger = logging.getLogger(__name__)

LEASE_SECONDS: Final = 60.0
"""For how long a run owns its shards after it was last heard of."""
# How often a lease is renewed while it lasts: three renewals in a row may fail.
_RENEWALS = 4
# The run's own clock may run slower than the database's, and a call is on its way for a moment.
_MARGIN = 0.1
_RETRY_SECONDS = 1.0
_LOOK_SECONDS = 0.5
_LAST_SECONDS = 5.0
# Leases that ended so long ago say nothing to anyone.
_KEPT_SECONDS = 7 * 86_400.0
_NOW = "extract(epoch from clock_timestamp())"
_ADOPTION = "adoption"
# Seconds that a suspended machine counts, too: on macOS the monotonic clock does.
_BOOT_CLOCK: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class LeasedOwnership:
    """A run's lease, and those of the others.

    Args:
        run_id: The run.
        ledger: The connection of the run's own thread, whose steps depend on the lease from now on.
        connect: Opens another one to the same ledger, for the thread that renews, which waits for
            nothing.
        seconds: How long a lease lasts.

    Raises:
        LedgerError: The ledger cannot be reached.
    """

    def __init__(
        self,
        run_id: str,
        ledger: Connection,
        connect: Callable[[], Connection],
        *,
        seconds: float,
    ) -> None:
        self._run_id = run_id
        self._ledger = ledger
        self._seconds = seconds
        self._connect = connect
        self._renewing: Connection | None = connect()
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._term = 0
        self._until = 0.0
        self._renew()
        ledger.step_rule = _step_rule(run_id)
        self._thread = threading.Thread(target=self._keep, name=f"lease-{run_id}", daemon=True)
        self._thread.start()

    def is_alive(self, run_id: str) -> bool:
        """Whether a run's lease lives, by the database's clock."""
        return self._ledger.first(f"select 1 as one from leases where {_lives(run_id)}") is not None

    def is_driven(self, shard: Shard) -> bool:
        """Whether a live run owns a shard."""
        return shard.owner is not None and self.is_alive(shard.owner)

    @contextmanager
    def adoption_lock(self) -> Iterator[None]:
        """Guard the adoption of batches; the lock is free once its holder's lease is over."""
        while not self._locked(_ADOPTION):
            self._ledger.pause(_LOOK_SECONDS)
        try:
            yield
        finally:
            self._ledger.write(
                "delete from locks where name = ? and run = ?", (_ADOPTION, self._run_id)
            )

    def term(self) -> int:
        """Return the number of the lease's unbroken time, which grows each time that it ended."""
        with self._lock:
            return self._term

    def confirm(self, term: int) -> None:
        """See by this machine's own clock that a term has not ended.

        Args:
            term: What `term` returned before the intent was recorded.

        Raises:
            LostOwnershipError: It has, or it may be over before the call has arrived.
        """
        with self._lock:
            if term == self._term and _boot_time() < self._until:
                return
        raise LostOwnershipError(
            "this run was stopped, or cut off from the ledger, for longer than its lease lasts "
            f"({self._seconds:g} seconds); nothing was sent, as another run may act in its place"
        )

    def release(self) -> None:
        """End the lease, as far as the ledger can be reached; else it ends by itself."""
        self._ended.set()
        self._thread.join(timeout=_LAST_SECONDS)
        # Not by the run's own connection, which waits for a ledger that is away.
        with suppress(LedgerError), closing(self._renewing or self._connect()) as connection:
            connection.write("delete from leases where run = ?", (self._run_id,))

    def _keep(self) -> None:
        """Renew the lease until the run ends; look sooner where it could not be renewed."""
        pause = self._seconds / _RENEWALS
        due = _boot_time() + pause
        # In short waits, as those of a machine that was suspended go on from where they were.
        while not self._ended.wait(min(pause, _RETRY_SECONDS)):
            if _boot_time() < due:
                continue
            try:
                self._renew()
                due = _boot_time() + pause
            except LedgerError as error:
                logger.info("the lease was not renewed: %s", error)

    def _renew(self) -> None:
        """Make the lease last from now on; where it has ended, begin another term."""
        connection = self._renewing or self._connect()
        self._renewing = connection
        sent = _boot_time()
        try:
            term = connection.transacted(lambda: self._renewed(connection))
        except LedgerError:
            connection.close()
            self._renewing = None
            raise
        with self._lock:
            # What the ledger says, as the reply to an earlier renewal may have been lost.
            self._term = term
            self._until = sent + self._seconds * (1 - _MARGIN)

    def _renewed(self, connection: Connection) -> int:
        """Renew the lease, or take it again; return the number of its term."""
        renewed = connection.value(
            f"update leases set expires_at = {_NOW} + :seconds "
            f"where {_lives(self._run_id)} returning term",
            {"seconds": self._seconds},
        )
        if renewed is not None:
            return int(renewed)
        connection.write(f"delete from leases where expires_at < {_NOW} - {_KEPT_SECONDS}")
        begun = connection.value(
            "insert into leases (run, term, host, began_at, expires_at) "
            f"values (:run, 1, :host, :now, {_NOW} + :seconds) on conflict (run) "
            "do update set term = leases.term + 1, expires_at = excluded.expires_at "
            "returning term",
            {
                "run": self._run_id,
                "host": socket.gethostname(),
                "now": connection.now(),
                "seconds": self._seconds,
            },
        )
        return int(begun)

    def _locked(self, name: str) -> bool:
        """Take a lock whose holder is over, or that has none."""
        return bool(
            self._ledger.write(
                "insert into locks (name, run) values (?, ?) on conflict (name) "
                "do update set run = excluded.run where not exists "
                f"(select 1 from leases where leases.run = locks.run and expires_at > {_NOW})",
                (name, self._run_id),
            )
        )


def _lives(run_id: str) -> str:
    return f"run = {literal(run_id)} and expires_at > {_NOW}"


def _step_rule(run_id: str) -> str:
    """Build the condition on a row of `batches` under which a run may change it.

    Its own lease must live, and of another owner's shards it may take those whose lease is over.
    """
    return (
        f"exists (select 1 from leases where {_lives(run_id)}) "
        f"and (owner is null or owner = {literal(run_id)} or not exists "
        f"(select 1 from leases where leases.run = batches.owner and expires_at > {_NOW}))"
    )


def _boot_time() -> float:
    return time.clock_gettime(_BOOT_CLOCK)

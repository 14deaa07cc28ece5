"""Who owns shards: which runs are alive, and what a run holds while it is.

On one machine a run holds a lock on a file of the state directory, which the kernel frees when its
process ends, however it ends: nothing has to be renewed, and nothing is over while it is held. A
ledger that several machines share has leases in its place (`leases`).
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol

from dbt_enrich.state.directory import StateDirectory
from dbt_enrich.state.shards import Shard


class Ownership(Protocol):
    """Which runs are alive, for one run that is."""

    def is_alive(self, run_id: str) -> bool:
        """Whether a run still holds what it has claimed."""
        ...

    def is_driven(self, shard: Shard) -> bool:
        """Whether a live run owns a shard."""
        ...

    def adoption_lock(self) -> AbstractContextManager[object]:
        """Guard the adoption of batches, whose files two runs would otherwise write at once."""
        ...

    def term(self) -> int:
        """Return the number of the unbroken time for which the run holds its shards now.

        Taken before an intent is recorded, and given to `confirm` before what is paid for.
        """
        ...

    def confirm(self, term: int) -> None:
        """See, without asking anyone, that a term has not ended: no other run may act in its place.

        Raises:
            LostOwnershipError: It has, or may have; nothing may be sent.
        """
        ...

    def release(self) -> None:
        """Let go of all shards, which makes them free to be taken over."""
        ...


class LocalOwnership:
    """The locks of a state directory's runs.

    Args:
        store: The state directory, in which the run's lock is held.
    """

    def __init__(self, store: StateDirectory) -> None:
        self._store = store

    def is_alive(self, run_id: str) -> bool:
        """Whether the run's process still holds its lock; the kernel frees it when it dies."""
        return self._store.is_alive(run_id)

    def is_driven(self, shard: Shard) -> bool:
        """Whether a live run owns a shard."""
        return shard.owner is not None and self.is_alive(shard.owner)

    def adoption_lock(self) -> AbstractContextManager[object]:
        """Guard the adoption of batches, whose files two runs would otherwise write at once."""
        return self._store.adoption_lock()

    def term(self) -> int:
        """Return the one term of a lock that is held until the process ends."""
        return 0

    def confirm(self, term: int) -> None:
        """Do nothing: a lock that is held cannot be over."""

    def release(self) -> None:
        """Do nothing: the lock is let go with the run's scratch directory."""

"""One service for the models of a process: opened with the first, checked and adopted from once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from dbt_enrich.backoff import PATIENCE_SECONDS, Backoff
from dbt_enrich.clock import Clock
from dbt_enrich.config import PluginConfig
from dbt_enrich.console.console import Console
from dbt_enrich.errors import TransientError
from dbt_enrich.pipeline.recovery.batch_adoption import adopt_batches
from dbt_enrich.pipeline.session import Session
from dbt_enrich.services import create_service
from dbt_enrich.services.base import BatchService


class SharedService:
    """The service that a profile names, shared by the models that run at once.

    Args:
        config: The plugin's configuration.
        cancelled: Set when the user interrupts.
        console: The user's log.
        clock: The time.
    """

    def __init__(
        self,
        config: PluginConfig,
        cancelled: threading.Event,
        console: Console,
        clock: Clock,
    ) -> None:
        self._clock = clock
        self._config = config
        self._cancelled = cancelled
        self._console = console
        self._lock = threading.RLock()
        self._service: BatchService | None = None
        self._users = 0
        self._checked: set[str] = set()
        self._has_adopted = False

    @contextmanager
    def use(self) -> Iterator[BatchService]:
        """Open the service with its first user, and close it with the last."""
        with self._lock:
            if self._service is None:
                self._service = create_service(
                    self._config,
                    say=self._console.say,
                    cancelled=self._cancelled,
                    clock=self._clock,
                )
            self._users += 1
            service = self._service
        try:
            yield service
        finally:
            with self._lock:
                self._users -= 1
                if self._users == 0:
                    self._service = None
                    service.close()

    def prepare(self, session: Session, service: BatchService, *, sends: bool) -> None:
        """Make the first calls of a run, and wait while the service says that it is in trouble.

        Args:
            session: The run.
            service: The service in use.
            sends: Whether requests are sent, so that endpoint, key and deployments are checked.

        Raises:
            EnrichmentError: The service refuses, does not answer, or stays in trouble.
        """
        if sends:
            self._ride_out(session, lambda: self._check(session, service))
        self._ride_out(session, lambda: self._adopt(session, service))

    def _check(self, session: Session, service: BatchService) -> None:
        """Check endpoint, key and deployments once, before anything is uploaded."""
        with self._lock:
            for deployment in self._config.deployments_of(session.request.task.model):
                if deployment not in self._checked:
                    service.check(deployment)
                    self._checked.add(deployment)

    def _adopt(self, session: Session, service: BatchService) -> None:
        """Look once a process for batches of ours that the ledger does not know."""
        with self._lock:
            if self._has_adopted:
                return
            adopt_batches(session.run, service, session.namespace, session.console)
            self._has_adopted = True

    def _ride_out(self, session: Session, call: Callable[[], None]) -> None:
        """Make a call again while the service is in trouble.

        Where there is no answer at all the address may be wrong, and the run ends at once.
        """
        patience = session.request.options.await_timeout or PATIENCE_SECONDS
        ends = self._clock.monotonic() + patience
        backoff = Backoff(first=1.0, longest=60.0)
        while True:
            try:
                call()
            except TransientError as error:
                pause = backoff.pause(asked=error.retry_after)
                if error.status is None or self._clock.monotonic() + pause > ends:
                    raise
                session.console.warn(f"{error}; trying again")
                if self._clock.wait(self._cancelled, pause):
                    raise
            else:
                return

"""One service for the models of a process: opened with the first, checked and adopted from once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from dbt_enrich.backoff import PATIENCE_SECONDS, Backoff
from dbt_enrich.clock import Clock
from dbt_enrich.config import PluginConfig
from dbt_enrich.console.console import Console
from dbt_enrich.errors import ServiceError, TransientError
from dbt_enrich.pipeline.export.relayed_rounds import routes_of
from dbt_enrich.pipeline.recovery.batch_adoption import adopt_batches
from dbt_enrich.pipeline.session import Session
from dbt_enrich.services import Relay, create_service
from dbt_enrich.services.base import BatchService
from dbt_enrich.task.options import EnrichmentOptions, Via

# How a service answers that has no list of batches.
_WITHOUT_BATCHES = (400, 404, 405, 501)


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
        self._relay: Relay | None = None
        self._users = 0
        self._checked: set[tuple[bool, str]] = set()
        self._has_adopted = False

    @contextmanager
    def use(self) -> Iterator[tuple[BatchService, Relay]]:
        """Open the service, and the way to its relay, with the first user; close with the last."""
        with self._lock:
            if self._service is None:
                self._service = create_service(
                    self._config,
                    say=self._console.say,
                    cancelled=self._cancelled,
                    clock=self._clock,
                )
                self._relay = Relay(
                    self._config,
                    say=self._console.say,
                    cancelled=self._cancelled,
                    clock=self._clock,
                )
            self._users += 1
            service, relay = self._service, self._relay
        assert relay is not None  # noqa: S101 - made with the service
        try:
            yield service, relay
        finally:
            with self._lock:
                self._users -= 1
                if self._users == 0:
                    self._service = self._relay = None
                    relay.close()
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
        options, model = session.request.options, session.request.task.model
        is_single = options.via != Via.BATCH and not self._config.facts.runs_here
        check = service.check_single if is_single else service.check
        routes = routes_of if is_single else _deployments_of
        with self._lock:
            for deployment in routes(model, options, self._config):
                if (is_single, deployment) not in self._checked:
                    check(deployment)
                    self._checked.add((is_single, deployment))

    def _adopt(self, session: Session, service: BatchService) -> None:
        """Look once a process for batches of ours that the ledger does not know."""
        with self._lock:
            if self._has_adopted:
                return
            try:
                adopt_batches(session.run, service, session.namespace, session.console)
            except ServiceError as error:
                # A service without a Batch API has no batches of ours.
                has_none = error.status in _WITHOUT_BATCHES
                if session.request.options.via == Via.BATCH or not has_none:
                    raise
                return
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


def _deployments_of(
    model: str,
    options: EnrichmentOptions,  # noqa: ARG001 - as `routes_of`
    config: PluginConfig,
) -> tuple[str, ...]:
    return config.deployments_of(model)

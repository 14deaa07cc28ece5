"""Where every call to a service passes: it is interrupted, restarted and named here, and read.

A call of `BatchService` says what it is about, how the `openai` client sends it and how its reply
is parsed. All that holds for every call, whatever it asks, is in `Calls`.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, TypeVar

import openai

from dbt_enrich.clock import Clock
from dbt_enrich.config.remote import RemoteConfig
from dbt_enrich.errors import CancelledError, TransientError
from dbt_enrich.services.entra import SignIn, SignInFailures
from dbt_enrich.services.failures import CLIENT_ERRORS, Failures, Operation, content_of
from dbt_enrich.services.parse import (
    ErrorDetail,
    MalformedReplyError,
    is_error,
    parse_error,
    parse_json,
    parse_page,
)
from dbt_enrich.services.transport import build_client

logger = logging.getLogger(__name__)

T = TypeVar("T")
Send = Callable[[openai.OpenAI], Any]

# So often a waiting thread sees whether the user has interrupted.
_LOOK_SECONDS: Final = 0.1


class Connection:
    """A way to one address: the client that calls it, and what names its failures.

    Args:
        settings: The configuration of what is called.

    Raises:
        ConfigurationError: The settings name a credential, and azure-identity is not installed or
            refuses it.
    """

    def __init__(self, settings: RemoteConfig) -> None:
        self.settings = settings
        self._sign_in = sign_in_of(settings)
        self.failures = (
            SignInFailures(settings, self._sign_in) if self._sign_in else Failures(settings)
        )
        self._client = build_client(settings, self._sign_in)
        self._once = self._client.with_options(max_retries=0)

    def send(self, operation: Operation, send: Callable[[openai.OpenAI], T]) -> T:
        """Call `send` with the client, and turn what the client raises into our errors.

        Raises:
            ServiceError: The call failed.
        """
        try:
            return self._signed_in(operation, send)
        except CLIENT_ERRORS as error:
            failure = self.failures.of(operation, error)
        except ValueError:
            # The client refuses ids such as `..`, which would make another address of it.
            failure = self.failures.unreadable(operation, "an id that no address can hold")
        # Outside of the handler, as the client's error may quote what must not be shown.
        raise failure

    def any_reply(self, operation: Operation, send: Send) -> tuple[int, str, Mapping[str, str]]:
        """Call `send` and return status, text and headers of the reply, also of an error reply.

        Raises:
            ServiceError: There is no reply.
        """
        try:
            return 200, self._signed_in(operation, send), {}
        except openai.APIStatusError as error:
            response = error.response
            text = content_of(response).decode("utf-8", "replace")
            return response.status_code, text, response.headers
        except CLIENT_ERRORS as error:
            failure = self.failures.of(operation, error)
        raise failure

    def parsed(self, operation: Operation, parse: Callable[[], T]) -> T:
        """Call `parse`, and turn a malformed reply into our error."""
        try:
            return parse()
        except MalformedReplyError as error:
            failure = self.failures.unreadable(operation, str(error))
        raise failure

    def close(self) -> None:
        """Release the connections. May be called twice."""
        self._client.close()
        if self._sign_in is not None:
            self._sign_in.close()

    def _signed_in(self, operation: Operation, send: Callable[[openai.OpenAI], T]) -> T:
        """Call `send` with a good token, and once more if the service refuses that one."""
        client = self._once if operation.once or operation.acts else self._client
        if self._sign_in is None:
            return send(client)
        # Here rather than in the client, which would repeat what a failed sign-in does not fix.
        self._sign_in.token()
        try:
            return send(client)
        except openai.AuthenticationError as error:
            scheme, _, refused = error.request.headers.get("authorization", "").partition(" ")
            if scheme != "Bearer":
                raise
        # Nothing was done.
        self._sign_in.renew(refused)
        self._sign_in.token()
        return send(client)


class Calls:
    """The calls to one service, each made, interrupted and restarted in the same way.

    A thread cannot give up a socket that it reads, and dbt waits for its threads on Ctrl-C. So
    each call is made in a thread of its own, which is left behind if need be: it is a daemon, and
    what it was about is found again by the ledger's intents.

    Args:
        connect: Returns the way to the service, or another one in place of a way that is dead.
        cancelled: Set when the user interrupts, which ends every call; None where it is not heard.
        clock: The time.

    Attributes:
        connection: The way to the service as it is now.
    """

    def __init__(
        self,
        connect: Callable[[Connection | None], Connection],
        cancelled: threading.Event | None,
        clock: Clock,
    ) -> None:
        self._connect = connect
        self._cancelled = cancelled
        self._clock = clock
        self.connection = connect(None)

    def call(self, exchange: Callable[[Connection], T]) -> T:
        """Make a call, and once more by another way where the service was not there any more.

        Args:
            exchange: Sends it by a connection, and reads the reply.

        Raises:
            ServiceError: The call failed.
            CancelledError: The user interrupted; what became of the call is unknown.
        """

        def connected() -> T:
            connection = self.connection
            try:
                return exchange(connection)
            except TransientError as error:
                # With a status it has answered, so it is alive. Without one, nothing was done.
                if error.status is not None:
                    raise
                self.connection = self._connect(connection)
                if self.connection is connection:
                    raise
                logger.info("%s; asking again at another address", error)
            return exchange(self.connection)

        return self.interruptible(connected)

    def interruptible(self, call: Callable[[], T]) -> T:
        """Make a call and give it up when the user interrupts.

        Raises:
            CancelledError: The user interrupted.
        """
        if self._cancelled is None:
            return call()
        if self._cancelled.is_set():
            raise CancelledError
        results: list[T] = []
        errors: list[BaseException] = []
        is_over = threading.Event()

        def run() -> None:
            try:
                results.append(call())
            except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
                errors.append(error)
            is_over.set()

        threading.Thread(target=run, name="service-call", daemon=True).start()
        while not is_over.wait(_LOOK_SECONDS):
            if self._cancelled.is_set():
                raise CancelledError
        if errors:
            raise errors[0]
        return results[0]

    def pause(self, seconds: float) -> None:
        """Wait between two tries of a call.

        Raises:
            CancelledError: The user interrupted.
        """
        if self._clock.wait(self._cancelled or threading.Event(), seconds):
            raise CancelledError

    def send(self, operation: Operation, send: Callable[[openai.OpenAI], T]) -> T:
        """Make a call and return what `send` makes of its reply.

        Raises:
            ServiceError: The call failed.
        """
        return self.call(lambda connection: connection.send(operation, send))

    def reply(
        self, operation: Operation, send: Send, parse: Callable[[Any, Mapping[str, str]], T]
    ) -> T:
        """Make a call and return what its reply's JSON and headers say.

        Args:
            operation: What the call is about.
            send: Makes the call; returns the reply's text, or a raw response of the client.
            parse: Reads the decoded JSON and the headers.

        Raises:
            ServiceError: The call failed, or the reply is not what was asked for, or is an error.
        """

        def exchange(connection: Connection) -> T:
            response = connection.send(operation, send)
            headers: Mapping[str, str] = {}
            text = response
            if not isinstance(response, str):
                http = response.http_response
                text, headers = http.content.decode("utf-8", "replace"), http.headers
            data = connection.parsed(operation, lambda: parse_json(text))
            if is_error(data):
                raise connection.failures.error_in_reply(operation, data)
            return connection.parsed(operation, lambda: parse(data, headers))

        return self.call(exchange)

    def items(
        self,
        operation: Operation,
        fetch: Callable[[Mapping[str, str]], Send],
    ) -> Iterator[Mapping[str, Any]]:
        """Yield the items of all pages, each once, in order.

        A service that does not say whether there is more is asked until nothing new comes.

        Args:
            operation: What the call is about.
            fetch: Returns what gets the page that the given query parameters name.

        Raises:
            ServiceError: A call failed, or the pages do not make up a whole list.
        """
        seen: set[str] = set()
        after: dict[str, str] = {}
        while True:
            page = self.reply(operation, fetch(after), lambda data, _: parse_page(data))
            fresh = [item for item in page.items if item["id"] not in seen]
            for item in fresh:
                seen.add(item["id"])
                yield item
            if page.has_more and not fresh:
                # To believe a list that is not whole would be to pay for a lost batch again.
                raise self.connection.failures.unreadable(
                    operation, "it says that there is more, but repeats what it has sent"
                )
            if page.has_more is False or not fresh or page.last_id is None:
                return
            after = {"after": page.last_id}

    def get(self, url: str, send: Send) -> Any:
        """Get any URL of the service: its decoded reply, or the `ErrorDetail` of a 404.

        Args:
            url: The URL, for errors.
            send: Makes the call and returns the text of a good reply.

        Raises:
            ServiceError: The call failed otherwise.
        """
        operation = Operation(f"describe {url}")

        def exchange(connection: Connection) -> Any:
            status, text, headers = connection.any_reply(operation, send)
            if status == 404:
                return parse_error(text)
            if status != 200:
                raise connection.failures.refused(operation, status, parse_error(text), headers)
            try:
                return parse_json(text)
            except MalformedReplyError:
                return ErrorDetail(None, "")

        return self.call(exchange)


def sign_in_of(settings: RemoteConfig) -> SignIn | None:
    """Return who signs in to a service, or None where a key opens it.

    Raises:
        ConfigurationError: azure-identity is not installed, or refuses the settings.
    """
    if settings.sign_in is None:
        return None
    return SignIn(settings.sign_in, timeout=settings.timeout, max_retries=settings.max_retries)

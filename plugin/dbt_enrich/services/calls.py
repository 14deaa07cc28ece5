"""One call to a service through the `openai` client: sent, its errors named, its JSON read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, TypeVar

import openai

from dbt_enrich.services.entra import SignIn
from dbt_enrich.services.failures import Failures, Operation, content_of
from dbt_enrich.services.parse import (
    ErrorDetail,
    MalformedReplyError,
    is_error,
    parse_error,
    parse_json,
    parse_page,
)
from dbt_enrich.services.transport import CLIENT_ERRORS

T = TypeVar("T")


class Calls:
    """The edge at which exceptions of the `openai` client become errors of this project.

    Args:
        failures: Names the failures of the service.
        sign_in: Gives the tokens that the client sends, if it sends any.
    """

    def __init__(self, failures: Failures, sign_in: SignIn | None = None) -> None:
        self._failures = failures
        self._sign_in = sign_in

    def send(self, operation: Operation, send: Callable[[], T]) -> T:
        """Call `send`, and turn what the client raises into our errors.

        A call whose token is refused is made once more with a fresh one: nothing was done.

        Args:
            operation: What the call is about.
            send: Makes the call.

        Raises:
            ServiceError: The call failed.
        """
        try:
            return self._signed_in(send)
        except CLIENT_ERRORS as error:
            failure = self._failures.of(operation, error)
        except ValueError:
            # The client refuses ids such as `..`, which would make another address of it.
            failure = self._failures.unreadable(operation, "an id that no address can hold")
        # Outside of the handler, as the client's error may quote what must not be shown.
        raise failure

    def any_reply(
        self, operation: Operation, send: Callable[[], str]
    ) -> tuple[int, str, Mapping[str, str]]:
        """Call `send` and return status, text and headers of the reply, also of an error reply.

        Args:
            operation: What the call is about.
            send: Makes the call and returns the text of a good reply.

        Raises:
            ServiceError: There is no reply.
        """
        try:
            return 200, self._signed_in(send), {}
        except openai.APIStatusError as error:
            response = error.response
            text = content_of(response).decode("utf-8", "replace")
            return response.status_code, text, response.headers
        except CLIENT_ERRORS as error:
            failure = self._failures.of(operation, error)
        # Outside of the handler, as the client's error may quote what must not be shown.
        raise failure

    def reply(self, operation: Operation, send: Callable[[], Any]) -> tuple[Any, Mapping[str, str]]:
        """Call `send` and return the reply's decoded JSON and its headers.

        Args:
            operation: What the call is about.
            send: Makes the call, returning a raw response of the client.

        Raises:
            ServiceError: The call failed, or the reply is not JSON, or is an error.
        """
        response = self.send(operation, send).http_response
        text = response.content.decode("utf-8", "replace")
        data = self.parsed(operation, lambda: parse_json(text))
        if is_error(data):
            raise self._failures.error_in_reply(operation, data)
        return data, response.headers

    def parsed(self, operation: Operation, parse: Callable[[], T]) -> T:
        """Call `parse`, and turn a malformed reply into our error."""
        try:
            return parse()
        except MalformedReplyError as error:
            failure = self._failures.unreadable(operation, str(error))
        raise failure

    def items(
        self, operation: Operation, fetch: Callable[[dict[str, str]], Any]
    ) -> Iterator[Mapping[str, Any]]:
        """Yield the items of all pages, each once, in order.

        A service that does not say whether there is more is asked until nothing new comes.

        Args:
            operation: What the call is about.
            fetch: Gets the page that the given query parameters name.

        Raises:
            ServiceError: A call failed, or the pages do not make up a whole list.
        """
        seen: set[str] = set()
        after: dict[str, str] = {}
        while True:
            data, _ = self.reply(operation, partial(fetch, after))
            page = self.parsed(operation, partial(parse_page, data))
            fresh = [item for item in page.items if item["id"] not in seen]
            for item in fresh:
                seen.add(item["id"])
                yield item
            if page.has_more and not fresh:
                # To believe a list that is not whole would be to pay for a lost batch again.
                raise self._failures.unreadable(
                    operation, "it says that there is more, but repeats what it has sent"
                )
            if page.has_more is False or not fresh or page.last_id is None:
                return
            after = {"after": page.last_id}

    def get(self, client: openai.OpenAI, url: str, query: Mapping[str, str]) -> Any:
        """Get any URL of the service: its decoded reply, or the `ErrorDetail` of a 404.

        Raises:
            ServiceError: The call failed otherwise.
        """
        try:
            text = self._signed_in(
                lambda: client.get(url, cast_to=str, options={"params": dict(query)})
            )
        except openai.NotFoundError as error:
            return parse_error(error.response.content)
        except CLIENT_ERRORS as error:
            failure = self._failures.of(Operation(f"describe {url}"), error)
        else:
            try:
                return parse_json(text)
            except MalformedReplyError:
                return ErrorDetail(None, "")
        raise failure

    def _signed_in(self, send: Callable[[], T]) -> T:
        """Call `send` with a good token, and once more if the service refuses that one."""
        if self._sign_in is None:
            return send()
        # Here rather than in the client, which would repeat what a failed sign-in does not mend.
        self._sign_in.token()
        try:
            return send()
        except openai.AuthenticationError as error:
            scheme, _, refused = error.request.headers.get("authorization", "").partition(" ")
            if scheme != "Bearer":
                raise
        self._sign_in.renew(refused)
        self._sign_in.token()
        return send()

"""Where a model server of the user's own is, and how it is asked. Imports no HTTP client."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar, Final
from urllib.parse import urlsplit

from batch_server.loopback import is_loopback
from batch_server.problems import SetupError
from batch_server.responders.base import CHAT, EMBEDDINGS, RESPONSES

MAX_CONCURRENCY: Final = 256
MAX_RETRIES: Final = 50
_VISIBLE_ASCII: Final = re.compile(r"[\x21-\x7e]+")
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True)
class UpstreamOptions:
    """An OpenAI-compatible chat server. `checked` refuses what cannot work.

    Attributes:
        base_url: Its address up to `/v1`, such as `http://localhost:11434/v1`.
        model: The model that is asked, whatever a request names; None: the one that it names.
        api_key_env: The environment variable that holds the server's key; None: no key.
        concurrency: Requests that may be in flight at once, over all batches, 1 to 256.
        timeout: Seconds that one try of a request may take.
        retries: How often a request is repeated that found no answer, or a 408, 409, 429 or
            5xx, 0 to 50.
    """

    base_url: str
    model: str | None = None
    api_key_env: str | None = None
    concurrency: int = 4
    timeout: float = 600.0
    retries: int = 6

    # Read by pydantic, where a profile holds these options.
    __pydantic_config__: ClassVar = {"extra": "forbid"}

    def checked(self) -> UpstreamOptions:
        """Return the options without needless spaces, refusing what cannot work.

        Raises:
            SetupError: A value cannot work; the text names it.
        """
        url = _checked_url(self.base_url)
        variable = (self.api_key_env or "").strip() or None
        # The text is not quoted: it may be the key itself.
        if variable is not None and not _VARIABLE.fullmatch(variable):
            raise SetupError(
                "the model server's key is named by the environment variable that holds it, and "
                "what is given is no name of a variable",
                fix="put the key into a variable and name that",
            )
        if not 1 <= self.concurrency <= MAX_CONCURRENCY:
            raise SetupError(
                f"the model server's `concurrency` is {self.concurrency}",
                fix=f"write a number from 1 to {MAX_CONCURRENCY}",
            )
        if not (math.isfinite(self.timeout) and self.timeout > 0):
            raise SetupError(
                f"the model server's `timeout` is {self.timeout:g}",
                fix="write a number of seconds above 0",
            )
        if not 0 <= self.retries <= MAX_RETRIES:
            raise SetupError(
                f"the model server's `retries` is {self.retries}",
                fix=f"write a number from 0 to {MAX_RETRIES}",
            )
        return replace(
            self,
            base_url=url,
            model=(self.model or "").strip() or None,
            api_key_env=variable,
        )

    @property
    def trusts_environment(self) -> bool:
        """Whether a proxy that the environment names may be used: not to reach this machine."""
        return not is_loopback(urlsplit(self.base_url).hostname)

    def answered_by(self, model: str) -> str:
        """Return who answers a request that names `model`: `upstream:<the server's model>`."""
        return f"upstream:{self.model or model}"

    def arguments(self) -> Iterator[str]:
        """Yield the options as arguments of the emulator's command line; the key is not there."""
        yield f"--upstream-base-url={self.base_url}"
        if self.model:
            yield f"--upstream-model={self.model}"
        if self.api_key_env:
            yield f"--upstream-api-key-env={self.api_key_env}"
        yield f"--upstream-concurrency={self.concurrency}"
        yield f"--upstream-timeout={self.timeout:g}"
        yield f"--upstream-retries={self.retries}"

    def headers(self) -> dict[str, str]:
        """Return the headers that carry the key, read from the environment now.

        Raises:
            SetupError: The variable is not set, or holds no key.
        """
        if self.api_key_env is None:
            return {}
        key = os.environ.get(self.api_key_env, "").strip()
        if not key:
            raise SetupError(
                f"the environment variable {self.api_key_env}, which is to hold the key of the "
                f"model server at {self.base_url}, is not set or empty",
                fix="set it",
            )
        if not _VISIBLE_ASCII.fullmatch(key):
            raise SetupError(
                f"the environment variable {self.api_key_env} holds a space, a line break or a "
                "character that no key has",
                fix="copy the key again, alone and on one line",
            )
        return {"Authorization": f"Bearer {key}"}


def _checked_url(url: str) -> str:
    """Return `url` without its last slash. Never quotes a wrong one: it may hold a password."""
    text = url.strip().rstrip("/")
    try:
        parts = urlsplit(text)
        is_plain = parts.port is None or parts.port > 0
    except ValueError:
        is_plain = False
    if (
        not is_plain
        or not _VISIBLE_ASCII.fullmatch(text)
        or parts.scheme not in ("http", "https")
        or not parts.hostname
    ):
        raise SetupError(
            "the model server's `base_url` is missing or no address",
            fix="write it up to /v1, such as http://localhost:11434/v1",
        )
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        raise SetupError(
            "the model server's `base_url` holds more than an address",
            fix="leave out users, passwords and everything from a ? or # on, and name the "
            "variable that holds the key",
        )
    if parts.path.endswith((CHAT, RESPONSES, EMBEDDINGS, "/models")):
        raise SetupError(
            "the model server's `base_url` is the address of one call",
            fix="write it up to /v1, such as http://localhost:11434/v1",
        )
    return text

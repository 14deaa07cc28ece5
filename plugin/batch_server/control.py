"""The control plane: what tests tell the emulator and ask of it, apart from the service's paths.

Everything is under `/_control` and demands the same key as the service.
"""

from __future__ import annotations

import re
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from batch_server.checking import Deployment
from batch_server.errors import Flavour, WireError
from batch_server.faults.rules import Faults
from batch_server.jobs import Jobs
from batch_server.problems import BatchServerError
from batch_server.quota import RateLimits
from batch_server.replies import Reply
from batch_server.responders.relay import RelayResponder
from batch_server.responders.scripted import ScriptedResponder
from batch_server.transitions import Transitions

PREFIX = "/_control"
_REMEMBERED = 10_000
# What follows a request's name in its custom_id as it is asked again.
_ATTEMPT = re.compile(r"-\d{1,4}$")


class Answering(Protocol):
    """What has the batches answered."""

    def pause(self) -> None:
        """Answer nothing until `resume`."""

    def resume(self) -> None:
        """Go on answering."""


# What an action raises over a document that is none of its own.
_WRONG = (
    ValueError, TypeError, LookupError, AttributeError, OverflowError, RecursionError,
    BatchServerError, WireError,
)  # fmt: skip


class Control:
    """What tests set, and the account of what was received and answered.

    Args:
        jobs: The resource.
        worker: What answers its batches.
        is_authorised: Says whether headers carry the key.
    """

    def __init__(
        self, jobs: Jobs, worker: Answering, *, is_authorised: Callable[[Mapping[str, str]], bool]
    ) -> None:
        self.faults = Faults()
        self.limits = RateLimits(jobs.clock)
        self._jobs = jobs
        self._worker = worker
        self._is_authorised = is_authorised
        self._calls: deque[dict[str, Any]] = deque(maxlen=_REMEMBERED)
        self._under_way: Counter[tuple[str, str]] = Counter()
        self._lock = threading.Lock()

    def routes(self) -> list[BaseRoute]:
        """Return the control plane's routes."""
        return [
            Route(f"{PREFIX}/health", self.health, methods=["GET"]),
            Route(f"{PREFIX}/account", self.account, methods=["GET"]),
            Route(f"{PREFIX}/{{action}}", self.act, methods=["POST"]),
        ]

    def begin(self, method: str, path: str) -> None:
        """Remember that a call to the service has come; `note` says how it ended."""
        with self._lock:
            self._under_way[method, path] += 1

    def note(self, method: str, path: str, status: int) -> None:
        """Remember a call to the service; status 0 means that no reply of it was sent."""
        with self._lock:
            self._under_way[method, path] -= 1
            self._calls.append(
                {"method": method, "path": path, "status": status, "at": time.time()}
            )

    async def health(self, request: Request) -> Response:
        """GET /_control/health: the responder's identity."""
        if not self._is_authorised(request.headers):
            return _denied()
        return Reply({"status": "ok", "responder": self._jobs.responder.identity})

    async def account(self, request: Request) -> Response:
        """GET /_control/account: what was received, and how often each request was answered."""
        if not self._is_authorised(request.headers):
            return _denied()
        return Reply(await run_in_threadpool(self._account))

    async def act(self, request: Request) -> Response:
        """POST /_control/{action}."""
        if not self._is_authorised(request.headers):
            return _denied()
        actions: dict[str, Callable[[Any], dict[str, Any] | None]] = {
            "reset": lambda _: self._reset(),
            "rules": self._set_rules,
            "transitions": self._set_transitions,
            "faults": self.faults.declare,
            "limits": self.limits.declare,
            "endings": self._set_endings,
            "deployments": self._set_deployments,
            "seed": self._set_seed,
            "clock": lambda document: self._jobs.clock.advance(float(document["advance"])),
            "forget": self._forget,
            "discard": lambda document: self._jobs.discard(**document),
            "credentials": self._take_credentials,
            "blobs": lambda document: self._jobs.permit(**document),
            "deliver": lambda _: self._jobs.deliver(),
            "pause": lambda _: self._worker.pause(),
            "resume": lambda _: self._worker.resume(),
        }
        action = actions.get(request.path_params["action"])
        if action is None:
            return Reply(WireError(404, "404", "no such action").body(Flavour.OPENAI), 404)
        try:
            document = await request.json() if await request.body() else None
            said = await run_in_threadpool(action, document)
        except _WRONG as error:
            return Reply(
                WireError(400, "invalid", str(error)).body(Flavour.OPENAI), status_code=400
            )
        return Reply({"status": "ok", **(said or {})})

    def _account(self) -> dict[str, Any]:
        answered: Counter[str] = Counter()
        paid: Counter[str] = Counter()
        for result in self._jobs.results():
            answered[result["custom_id"]] += 1
            paid[result["custom_id"]] += int(not result["failed"])
        with self._lock:
            calls = list(self._calls)
            under_way = sorted(self._under_way.elements())
        return {
            "calls": calls,
            "faults": self.faults.account(),
            "under_way": [{"method": method, "path": path} for method, path in under_way],
            "custom_ids": dict(answered),
            "request_keys": _by_request_key(answered),
            "paid": {key: times for key, times in _by_request_key(paid).items() if times},
        }

    def _reset(self) -> None:
        self.faults.declare([])
        self.limits.declare([])
        self._jobs.endings.declare([])
        self._jobs.transitions = Transitions()
        self._jobs.set_deployments(None)
        self._jobs.clear()
        with self._lock:
            self._calls.clear()

    def _set_rules(self, rules: list[dict[str, Any]]) -> None:
        if not isinstance(self._jobs.responder, ScriptedResponder):
            raise TypeError("only the scripted responder takes rules")
        self._jobs.responder.set_rules(rules)

    def _set_transitions(self, document: dict[str, Any]) -> None:
        self._jobs.transitions = Transitions.parse(document)

    def _set_endings(self, documents: list[dict[str, Any]] | dict[str, Any] | None) -> None:
        """Set how batches created from now on end: `{"after": n, "status": "expired"}`, or a list.

        The keys are those of `batch_server.faults.batch_endings.Ending`.
        """
        listed = documents if isinstance(documents, list) else [documents or {}]
        self._jobs.endings.declare(listed)

    def _set_deployments(self, documents: list[dict[str, Any]] | None) -> None:
        """Replace the deployments; null: any name is a batch deployment without a quota."""
        self._jobs.set_deployments(
            None if documents is None else [Deployment(**document) for document in documents]
        )

    def _set_seed(self, document: dict[str, Any]) -> None:
        self.faults.seed(int(document["seed"]))
        self._jobs.seed(int(document["seed"]))

    def _take_credentials(self, document: dict[str, Any]) -> dict[str, Any]:
        """Take what a relay is to ask with; say whether the service has refused it."""
        responder = self._jobs.responder
        if not isinstance(responder, RelayResponder):
            raise TypeError("only a relay takes credentials")
        return {"refused": responder.credentials.hand_over(**document)}

    def _forget(self, document: dict[str, Any]) -> None:
        """Lose a batch or a file, as a service was seen to."""
        if "file_id" in document:
            self._jobs.files.delete(str(document["file_id"]))
        else:
            self._jobs.forget_batch(str(document["batch_id"]))


def _by_request_key(custom_ids: Mapping[str, int]) -> dict[str, int]:
    found: Counter[str] = Counter()
    for custom_id, times in custom_ids.items():
        found[_ATTEMPT.sub("", custom_id)] += times
    return dict(found)


def _denied() -> Response:
    return Reply(WireError(401, "401", "Access denied.").body(Flavour.OPENAI), 401)

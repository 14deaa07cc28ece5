"""The threads behind the resource: one moves batches from state to state, one has them answered."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

from batch_server.asking import SERVER_ERROR, answers
from batch_server.errors import Flavour
from batch_server.jobs import Jobs
from batch_server.model_endpoints import problem_of
from batch_server.plain_json import json_bytes
from batch_server.records import content_of
from batch_server.responders.base import ChatReply, ChatRequest, WantedRequests
from batch_server.results import requests_of
from batch_server.wire import result_line, usage_of

logger = logging.getLogger(__name__)
# A batch that was cancelled, or whose time is over, is asked of no more than so much later.
_LOOK_SECONDS = 0.02
# A transition by time on a clock of the test's own is seen after this long at most.
_IDLE_SECONDS = 0.02
_STOP_SECONDS = 30.0


class Worker:
    """Moves batches on and has them answered, one after the other.

    Args:
        jobs: The resource.
    """

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs
        self._wake = threading.Condition()
        self._running = threading.Event()
        self._running.set()
        self._stopped = False
        self._active: str | None = None
        self._threads = [
            threading.Thread(target=self._repeat, args=(work,), name=name, daemon=True)
            for name, work in (("batch-states", self._move), ("batch-answers", self._answer_next))
        ]
        for thread in self._threads:
            thread.start()

    def notify(self) -> None:
        """Look at once whether there is something to do."""
        with self._wake:
            self._wake.notify_all()

    def pause(self) -> None:
        """Answer nothing until `resume`."""
        self._running.clear()

    def resume(self) -> None:
        """Go on answering."""
        self._running.set()
        self.notify()

    def close(self) -> None:
        """Stop both threads."""
        self._stopped = True
        self._running.set()
        self.notify()
        for thread in self._threads:
            thread.join(timeout=_STOP_SECONDS)

    def _repeat(self, work: Any) -> None:
        while not self._stopped:
            if not work():
                with self._wake:
                    self._wake.wait(timeout=_IDLE_SECONDS)

    # States

    def _move(self) -> bool:
        """Move each open batch on by one state, where it is due; say whether one moved."""
        moved = False
        for record in self._jobs.open_batches():
            if self._stopped:
                return False
            try:
                moved = self._move_one(record) or moved
            except Exception as error:  # noqa: BLE001 - one batch's trouble must not stop the others
                self._jobs.break_off(record["id"], error)
        if moved:
            self.notify()
        return moved

    def _move_one(self, record: dict[str, Any]) -> bool:
        jobs, stages = self._jobs, self._jobs.transitions
        is_active = record["id"] == self._active
        if self._is_expired(record) and not is_active:
            return self._end(record, "expired")
        match record["status"]:
            case "validating":
                if record["ending"].get("stuck") or not jobs.is_over(record, stages.validating):
                    return False
                jobs.validate(record)
                return True
            case "finalizing" if jobs.is_over(record, stages.finalizing):
                return self._end(record, record["ending"].get("status") or "completed")
            case "cancelling" if not is_active and jobs.is_over(record, stages.cancelling):
                return self._end(record, "cancelled")
        return False

    def _end(self, record: dict[str, Any], status: str) -> bool:
        current = self._jobs.current(record["id"], record["status"])
        if current is None:
            return False
        self._jobs.finish(current, status)
        return True

    def _is_expired(self, record: dict[str, Any]) -> bool:
        """Whether a batch's window is over. Azure lets such batches run on."""
        if Flavour(record["flavour"]).is_azure or record["status"] == "cancelling":
            return False
        return self._jobs.clock() >= float(record["expires_at"])

    # Answers

    def _answer_next(self) -> bool:
        record = next((r for r in self._jobs.open_batches() if self._may_work(r)), None)
        if record is None:
            return False
        self._active = record["id"]
        try:
            self._answer(record)
        except Exception as error:  # noqa: BLE001 - one batch's trouble must not end the others
            self._jobs.break_off(record["id"], error)
        finally:
            self._active = None
            self.notify()
        return True

    def _may_work(self, record: dict[str, Any]) -> bool:
        if record["status"] != "in_progress" or not self._running.is_set():
            return False
        # A batch that another model was asked waits until that one is back: what is stored as
        # one model's answer must not be another's.
        if record.get("responder", self._jobs.responder.identity) != self._jobs.responder.identity:
            return False
        return self._jobs.is_over(record, self._jobs.transitions.in_progress)

    def _answer(self, record: dict[str, Any]) -> None:
        """Answer what is left of a batch, keeping each answer before the next ones are asked."""
        jobs = self._jobs
        results = jobs.storage.results(record["id"])
        done = results.answered()
        limit = record["ending"].get("after") if record["ending"].get("status") else None
        counter = jobs.counter(record["id"])
        path = jobs.storage.content(content_of(record))
        refused: deque[tuple[ChatRequest, ChatReply]] = deque()
        goes_on = self._watch(record["id"])
        requests = WantedRequests(
            _accepted(requests_of(path, set(done)), record, refused),
            goes_on,
        )

        def is_enough() -> bool:
            return limit is not None and counter.total() >= limit

        with closing(answers(jobs.responder, requests)) as replies, results.appending() as append:
            going_on = not is_enough()
            while going_on:
                answered = next(replies, None)
                ready = [*_drained(refused), *([answered] if answered else [])]
                if not ready:
                    break
                for request, reply in ready:
                    result = _result(request, reply, record)
                    append(result)
                    counter["failed" if result["failed"] else "completed"] += 1
                    if is_enough():
                        break
                going_on = not is_enough() and goes_on()
        current = jobs.current(record["id"], "in_progress")
        if current is None:
            return
        if is_enough():
            jobs.finish(current, str(current["ending"]["status"]))
        elif counter.total() >= current["requests"]:
            jobs.enter(current, "finalizing")

    def _watch(self, batch_id: str) -> Callable[[], bool]:
        """Return what says whether a batch is to be answered on; it looks at most now and then."""
        going_on, look_at = True, time.monotonic()

        def goes_on() -> bool:
            nonlocal going_on, look_at
            if self._stopped or not self._running.is_set():
                return False
            if going_on and time.monotonic() >= look_at:
                record = self._jobs.current(batch_id, "in_progress")
                going_on = record is not None and not self._is_expired(record)
                look_at = time.monotonic() + _LOOK_SECONDS
            return going_on

        return goes_on


def _accepted(
    requests: Iterator[ChatRequest],
    record: dict[str, Any],
    refused: deque[tuple[ChatRequest, ChatReply]],
) -> Iterator[ChatRequest]:
    """Yield the requests that reach a model; the others are refused as the service would."""
    flavour = Flavour(record["flavour"])
    for request in requests:
        if record["ending"].get("only_errors"):
            refused.append((request, SERVER_ERROR))
            continue
        refusal = _refusal(request, flavour)
        if refusal:
            refused.append((request, refusal))
            continue
        yield request


def _refusal(request: ChatRequest, flavour: Flavour) -> ChatReply | None:
    """Return the reply to a request that no model is to see, or None."""
    try:
        problem = problem_of(request.path, request.body, flavour=flavour, batch=True)
    except Exception:
        logger.exception("the request %r cannot be checked", request.custom_id)
        return SERVER_ERROR
    return ChatReply(problem.status, problem.body(flavour)) if problem else None


def _drained(refused: deque[tuple[ChatRequest, ChatReply]]) -> list[tuple[ChatRequest, ChatReply]]:
    found = []
    while refused:
        found.append(refused.popleft())
    return found


def _result(request: ChatRequest, reply: ChatReply, record: dict[str, Any]) -> dict[str, Any]:
    """Return what is kept of an answer; of one that cannot be written, that it failed."""
    try:
        return _written(request, reply, record)
    except Exception:
        logger.exception("the answer to the request %r cannot be written", request.custom_id)
        return _written(request, SERVER_ERROR, record)


def _written(request: ChatRequest, reply: ChatReply, record: dict[str, Any]) -> dict[str, Any]:
    line = result_line(request, reply, Flavour(record["flavour"]))
    lines = [json_bytes(line).decode("utf-8", "surrogatepass")]
    return {
        "index": request.index,
        "custom_id": request.custom_id,
        "failed": reply.status_code != 200,
        "usage": usage_of(reply.body),
        "lines": reply.spoil(lines) if reply.spoil else lines,
    }

"""What answers the batches of a relay: each request asked of the service, each reply on the disk.

A batch lives no longer than the process that answers it: what a process left behind is ended by
the next one, with the answers that came, and a request that was on its way then has an unknown
outcome. Whoever owns the batch decides whether the other requests are asked at all.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from contextlib import ExitStack, suppress
from typing import Any, Final

from batch_server.checking import LineError
from batch_server.jobs import Jobs
from batch_server.plain_json import json_bytes
from batch_server.responders.base import ChatRequest
from batch_server.responders.pace import MOST_IN_FLIGHT
from batch_server.responders.relay import RelayResponder
from batch_server.responders.relay_client import Marks, Outcome, Refused
from batch_server.results import requests_of
from batch_server.wire import usage_of

logger = logging.getLogger(__name__)
# Batches that are answered at once, and how many of them of one task.
_BATCHES: Final = 8
_BATCHES_OF_TASK: Final = 2
_LOOK_SECONDS: Final = 1.0
DRAIN_SECONDS: Final = 30.0
"""How long a relay that ends stays for replies that are on their way: they are paid for."""
_UNKNOWN: Final = (
    "the relay ended while the request was on its way; the answer may have been paid for all the "
    "same"
)


class RelayWorker:
    """Moves a relay's batches on, several at once, and has them answered.

    Args:
        jobs: The resource, whose responder asks the service.
        responder: That responder.
    """

    def __init__(self, jobs: Jobs, responder: RelayResponder) -> None:
        self._jobs = jobs
        self._responder = responder
        self._active: dict[str, _Work] = {}
        self._stopped = False
        self._changed = asyncio.Event()
        self._running = asyncio.Event()
        self._running.set()
        _end_earlier(jobs)
        jobs.trouble = self.trouble
        self._main = responder.run(self._work())

    def notify(self) -> None:
        """Look at once whether there is something to do."""
        self._responder.call(self._changed.set)

    def pause(self) -> None:
        """Begin no batch until `resume`."""
        self._responder.call(self._running.clear)

    def resume(self) -> None:
        """Go on."""
        self._responder.call(self._running.set)
        self.notify()

    def trouble(self, batch_id: str) -> list[dict[str, Any]]:
        """Return why nothing of a batch is answered at the moment, as an error of it."""
        work = self._active.get(batch_id)
        said = work.trouble if work else None
        return [LineError("held_back", said).document()] if said else []

    def close(self) -> None:
        """Stay for the replies that are on their way, then stop."""
        self._stopped = True
        self.notify()
        try:
            self._main.result(timeout=DRAIN_SECONDS + 10)
        except Exception:
            logger.exception("the relay did not end in order")

    async def _work(self) -> None:
        while not self._stopped:
            self._changed.clear()
            await asyncio.to_thread(self._move)
            if self._running.is_set():
                self._begin()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), _LOOK_SECONDS)
        works = list(self._active.values())
        await asyncio.gather(*(work.leave() for work in works))

    def _move(self) -> None:
        """Move each open batch on that nothing is asked of."""
        jobs = self._jobs
        for record in jobs.open_batches():
            work = self._active.get(record["id"])
            try:
                if record["status"] == "validating":
                    jobs.validate(record)
                elif record["status"] == "cancelling" and work:
                    work.stop()
                elif record["status"] == "cancelling":
                    jobs.finish(record, "cancelled")
                elif record["status"] == "finalizing":
                    jobs.finish(record, "completed")
            except Exception as error:  # noqa: BLE001 - one batch's trouble must not stop the others
                jobs.break_off(record["id"], error)

    def _begin(self) -> None:
        """Begin the batches that are next: those of a task that has least, and the oldest."""
        waiting = [
            record
            for record in self._jobs.open_batches()
            if record["status"] == "in_progress" and record["id"] not in self._active
        ]
        while waiting and len(self._active) < _BATCHES:
            active = Counter(work.task for work in self._active.values())
            record = min(waiting, key=lambda one: active[_task_of(one)])
            if active[_task_of(record)] >= _BATCHES_OF_TASK:
                return
            waiting.remove(record)
            work = _Work(record, self._jobs, self._responder)
            self._active[record["id"]] = work
            work.task_of_loop = asyncio.ensure_future(self._answer(work))

    async def _answer(self, work: _Work) -> None:
        try:
            await work.run()
            if not self._stopped:
                await asyncio.to_thread(work.end)
        except Exception as error:  # noqa: BLE001 - one batch's trouble must not end the others
            self._jobs.break_off(work.batch_id, error)
        finally:
            self._active.pop(work.batch_id, None)
            self._changed.set()


class _Work:
    """One batch that is answered.

    Args:
        record: The batch.
        jobs: The resource.
        responder: Asks the service.
    """

    def __init__(self, record: dict[str, Any], jobs: Jobs, responder: RelayResponder) -> None:
        self.batch_id = str(record["id"])
        self.task = _task_of(record)
        self.task_of_loop: asyncio.Future[None] | None = None
        self._record = record
        self._jobs = jobs
        self._client = responder.client
        self._path = str(record["endpoint"]).removeprefix("/v1")
        self._results = jobs.storage.results(self.batch_id)
        self._counter = jobs.counter(self.batch_id)
        self._ways: Counter[tuple[int, str]] = Counter()
        self._tasks: dict[asyncio.Task[None], int] = {}
        self._on_their_way: set[int] = set()
        self._ready: asyncio.Queue[tuple[ChatRequest, Outcome] | None] = asyncio.Queue()
        self._refusal: Refused | None = None
        self._failure: BaseException | None = None
        self._is_stopping = False

    @property
    def trouble(self) -> str | None:
        """What the service, or the way to it, said last, while nothing is answered."""
        gate = self._client.gate(str(self._record.get("deployment") or ""))
        return gate.trouble if gate.pace.failing_since is not None else None

    def stop(self) -> None:
        """Send nothing more; what is on its way comes home."""
        self._is_stopping = True
        for task, place in list(self._tasks.items()):
            if place not in self._on_their_way:
                task.cancel()

    async def leave(self) -> None:
        """Stop, and stay for a while for what is on its way."""
        self.stop()
        if self.task_of_loop is None:
            return
        _, late = await asyncio.wait([self.task_of_loop], timeout=DRAIN_SECONDS)
        if late:
            for task in list(self._tasks):
                task.cancel()
            await asyncio.wait(late, timeout=_LOOK_SECONDS)

    async def run(self) -> None:
        """Ask what is left of the batch, until all is answered or it is to end."""
        with ExitStack() as stack:
            mark = stack.enter_context(self._results.sent.marking())
            writer = asyncio.ensure_future(self._write())
            try:
                await self._send(mark)
            finally:
                self._ready.put_nowait(None)
                await writer
        if self._failure:
            raise self._failure

    def end(self) -> None:
        """End the batch, as far as nothing more is to be asked of it."""
        current = self._jobs.storage.get("batch", self.batch_id)
        if current is None or current["status"] not in ("in_progress", "cancelling"):
            return
        if self._refusal:
            why = self._refusal
            status = None if why.status is None else str(why.status)
            current["errors"] = [LineError(why.code, why.message, param=status).document()]
            self._jobs.finish(current, "failed")
        elif self._counter.total() >= current["requests"]:
            self._jobs.finish(current, "completed")
        else:
            self._jobs.finish(current, "cancelled")

    async def _send(self, mark: Any) -> None:
        places = asyncio.Semaphore(MOST_IN_FLIGHT)
        done = set(self._results.answered())
        path = self._jobs.storage.content(self._record["input_file_id"])

        def over(task: asyncio.Task[None]) -> None:
            self._tasks.pop(task, None)
            places.release()
            if not task.cancelled() and (error := task.exception()):
                self._failure = self._failure or error
                self.stop()

        for request in requests_of(path, done):
            await places.acquire()
            if self._is_stopping:
                break
            task = asyncio.create_task(self._ask(request, mark))
            self._tasks[task] = request.index
            task.add_done_callback(over)
        while self._tasks:
            await asyncio.wait(list(self._tasks))

    async def _ask(self, request: ChatRequest, mark: Any) -> None:
        place = request.index

        def sent() -> None:
            mark(place, True)
            self._on_their_way.add(place)

        def withdrawn() -> None:
            mark(place, False)
            self._on_their_way.discard(place)

        marks = Marks(sent, withdrawn, lambda: not self._is_stopping)
        outcome = await self._client.ask(self._path, request, marks)
        if outcome is None:
            return
        self._on_their_way.discard(place)
        if outcome.refusal:
            self._refusal = self._refusal or outcome.refusal
            self.stop()
            return
        self._ready.put_nowait((request, outcome))

    async def _write(self) -> None:
        """Write the replies as they come, all that are there at once; each counts from then on."""
        is_over = False
        while not is_over:
            items = [await self._ready.get()]
            while not self._ready.empty():
                items.append(self._ready.get_nowait())
            is_over = None in items
            replies = [item for item in items if item is not None]
            if not replies:
                continue
            try:
                await asyncio.to_thread(
                    self._results.add, [_result(request, outcome) for request, outcome in replies]
                )
            except OSError:
                self.stop()
                raise
            for _, outcome in replies:
                self._counter["failed" if outcome.failed else "completed"] += 1
                if outcome.way:
                    self._ways[outcome.way] += 1
            if self._is_in_vain():
                self.stop()

    def _is_in_vain(self) -> bool:
        """Whether so many requests were refused alike that the others would be, too."""
        wish = self._record.get("metadata") or {}
        try:
            share, least = float(wish["max_failed_share"]), int(wish["least_answers"])
        except (KeyError, TypeError, ValueError):
            return False
        answers = self._counter["completed"] + self._ways.total()
        worst = max(self._ways.values(), default=0)
        return answers >= least and worst > share * answers


def _end_earlier(jobs: Jobs) -> None:
    """End what an earlier process left behind; what came is kept, and what was sent is named."""
    for record in jobs.open_batches():
        if record["status"] == "finalizing":
            continue
        try:
            _end_one(jobs, record)
        except Exception as error:  # noqa: BLE001 - one batch's trouble must not stop the others
            jobs.break_off(record["id"], error)


def _end_one(jobs: Jobs, record: dict[str, Any]) -> None:
    results = jobs.storage.results(record["id"])
    unknown = results.sent.places() - set(results.answered())
    path = jobs.storage.content(record["input_file_id"])
    if unknown and path.exists():
        lost = [request for request in requests_of(path, set()) if request.index in unknown]
        results.add(_result(request, _LOST) for request in lost)
    done = len(results.answered())
    jobs.finish(record, "completed" if done >= record.get("requests", done + 1) else "cancelled")


_LOST: Final = Outcome(
    {"response": None, "error": {"code": "unknown_outcome", "message": _UNKNOWN}}
)


def _result(request: ChatRequest, outcome: Outcome) -> dict[str, Any]:
    line = outcome.line or {}
    response = line.get("response")
    return {
        "index": request.index,
        "custom_id": request.custom_id,
        "failed": response is None or response["status_code"] != 200,
        "usage": usage_of(response["body"]) if response else {},
        "lines": [_text({"custom_id": request.custom_id, **line})],
    }


def _text(line: dict[str, Any]) -> str:
    return json_bytes(line).decode("utf-8", "surrogatepass")


def _task_of(record: dict[str, Any]) -> str:
    metadata = record.get("metadata") or {}
    return str(metadata.get("task_key") or record["id"])

"""Batches: their states, the rules between them, and who answers. Knows no HTTP."""

from __future__ import annotations

import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from dbt_enrich.emulator.checking import Deployment, LineError, check_input
from dbt_enrich.emulator.errors import Flavour, WireError, invalid, not_found
from dbt_enrich.emulator.files import Files
from dbt_enrich.emulator.responders.base import ChatReply, ChatRequest, Responder
from dbt_enrich.emulator.storage import Storage
from dbt_enrich.emulator.transitions import Transition, Transitions
from dbt_enrich.emulator.wire import new_id, result_line, unanswered_line

ENDPOINTS = ("/chat/completions", "/v1/chat/completions")
TERMINAL = ("completed", "failed", "expired", "cancelled")
MAX_REQUESTS = 100_000
_DAY = 86_400
_IDLE_SECONDS = 0.02
Reply = tuple[ChatRequest, ChatReply]


class Jobs:
    """The resource's files and batches, and the worker that answers them.

    Args:
        storage: Where everything is kept.
        responder: Who answers.
        clock: The time in seconds since 1970.
        transitions: How states follow one another.
        deployments: The resource's deployments; None: any name is a batch deployment.
        seed: Of the order of output lines.
    """

    def __init__(
        self,
        storage: Storage,
        responder: Responder,
        *,
        clock: Callable[[], float] = time.time,
        transitions: Transitions | None = None,
        deployments: Sequence[Deployment] | None = None,
        seed: int = 0,
    ) -> None:
        self.storage = storage
        self.responder = responder
        self.transitions = transitions or Transitions()
        self.endings: dict[str, Any] = {}
        self.files = Files(storage, clock=clock, transition=lambda: self.transitions.file)
        self._clock = clock
        self._deployments = None if deployments is None else {d.name: d for d in deployments}
        self._random = random.Random(seed)  # noqa: S311
        self._lock = threading.RLock()
        self._wake = threading.Condition()
        self._running = threading.Event()
        self._running.set()
        self._stopped = False
        self._counts: dict[str, Counter[str]] = {}
        self._active: str | None = None
        self._worker = threading.Thread(target=self._work, name="batch-worker", daemon=True)
        self._worker.start()

    # Batches

    def create(
        self,
        *,
        input_file_id: str,
        endpoint: str,
        completion_window: str,
        metadata: dict[str, str] | None,
        flavour: Flavour,
    ) -> dict[str, Any]:
        """Create a batch on an uploaded file."""
        if endpoint not in ENDPOINTS:
            raise invalid(f"The endpoint '{endpoint}' is not one of {', '.join(ENDPOINTS)}.")
        if completion_window != "24h":
            raise invalid(f"The completion_window '{completion_window}' is not 24h.")
        file = self.files.get(input_file_id, polled=False)
        if file["status"] != "processed":
            raise invalid(
                f"The input file '{input_file_id}' is in '{file['status']}' state. Only files with "
                "status 'Processed' are accepted as input."
            )
        now = int(self._clock())
        record: dict[str, Any] = {
            "id": new_id("batch_"),
            "endpoint": endpoint,
            "input_file_id": input_file_id,
            "completion_window": completion_window,
            "metadata": metadata,
            "status": "validating",
            "created_at": now,
            "entered_at": now,
            "expires_at": now + _DAY,
            "polls": 0,
            "errors": [],
            "flavour": flavour.value,
            "ending": self.endings,
        }
        with self._lock:
            self._check_quota(record)
            self.storage.put("batch", record)
            self._tick(record, polled=False)
        self._notify()
        return record

    def batch(self, batch_id: str) -> dict[str, Any]:
        """Return a batch as it stands now; a poll counts towards its transitions."""
        with self._lock:
            record = self.storage.get("batch", batch_id)
            if record is None:
                raise not_found("batch", batch_id)
            self._tick(record, polled=True)
        self._notify()
        return record

    def batches(self) -> list[dict[str, Any]]:
        """Return all batches, newest first."""
        return self.storage.all("batch")[::-1]

    def counts(self, record: dict[str, Any]) -> dict[str, int]:
        """Return a batch's request_counts; requests that no line was written for are no failure."""
        counter = self._counter(record)
        return {
            "total": int(record.get("requests") or 0),
            "completed": counter["completed"],
            "failed": counter["failed"],
        }

    def cancel(self, batch_id: str) -> dict[str, Any]:
        """Ask for a batch to end; what is answered already is kept."""
        with self._lock:
            record = self.batch(batch_id)
            if record["status"] in TERMINAL:
                raise WireError(
                    409, "conflict", f"The batch is {record['status']} and cannot be cancelled."
                )
            self._enter(record, "cancelling")
            if record["id"] != self._active:
                self._finish(record, "cancelled")
        self._notify()
        return record

    def forget_batch(self, batch_id: str) -> None:
        """Lose a batch, as a service was seen to."""
        self.storage.remove("batch", batch_id)

    # Deployments and synchronous requests

    def deployment(self, name: str) -> Deployment | None:
        """Return a deployment, or None if the resource has none of that name."""
        if self._deployments is None:
            return Deployment(name)
        return self._deployments.get(name)

    def chat(self, body: dict[str, Any]) -> ChatReply:
        """Answer one synchronous request."""
        name = str(body.get("model", ""))
        deployment = self.deployment(name)
        if deployment is None:
            raise WireError(404, "DeploymentNotFound", f"The deployment '{name}' does not exist.")
        request = ChatRequest(index=0, custom_id="", body=body)
        with _abandoning(self.responder.answer([request])) as replies:
            return next(replies)[1]

    # For tests

    def pause(self) -> None:
        """Answer nothing until `resume`."""
        self._running.clear()

    def resume(self) -> None:
        """Go on answering."""
        self._running.set()
        self._notify()

    def answers(self) -> dict[str, int]:
        """Return how often each custom_id was answered, over all batches there ever were."""
        found: Counter[str] = Counter()
        for path in sorted((self.storage.directory / "results").glob("*.jsonl")):
            found.update(result["custom_id"] for result in self.storage.results(path.stem))
        return dict(found)

    def close(self) -> None:
        """Stop the worker; batches go on when a server is started on the same directory."""
        self._stopped = True
        self._running.set()
        self._notify()
        self._worker.join(timeout=30)
        self.responder.close()

    # Rules

    def _check_quota(self, record: dict[str, Any]) -> None:
        path = self.storage.content(record["input_file_id"])
        with path.open("rb") as file:
            first = file.readline()
        try:
            name = json.loads(first)["body"]["model"]
        except (ValueError, KeyError, TypeError):
            return
        deployment = self.deployment(str(name))
        if deployment is None or deployment.max_enqueued_tokens is None:
            return
        held = sum(
            other.get("tokens", 0)
            for other in self.storage.all("batch")
            if other.get("deployment") == name and other["status"] not in TERMINAL
        )
        tokens = path.stat().st_size // 4
        record.update(deployment=name, tokens=tokens)
        if held + tokens > deployment.max_enqueued_tokens:
            raise WireError(
                400,
                "token_limit_exceeded",
                "The number of enqueued tokens has surpassed the configured limit of "
                f"{deployment.max_enqueued_tokens} for the deployment '{name}'. Please either "
                "increase the limit or try again once the current jobs have finished.",
            )

    def _tick(self, record: dict[str, Any], *, polled: bool) -> None:
        """Move a batch on as far as its transitions allow."""
        if record["status"] in TERMINAL:
            return
        record["polls"] += int(polled)
        if record["status"] == "validating" and self._is_over(record, self.transitions.validating):
            self._validate(record)
        if record["status"] == "finalizing" and self._is_over(record, self.transitions.finalizing):
            self._finish(record, "completed")
        self.storage.put("batch", record)

    def _is_over(self, record: dict[str, Any], transition: Transition) -> bool:
        seconds = self._clock() - record["entered_at"]
        return transition.is_over(polls=record["polls"], seconds=seconds)

    def _enter(self, record: dict[str, Any], status: str) -> None:
        now = int(self._clock())
        record.update({"status": status, f"{status}_at": now, "entered_at": now, "polls": 0})
        self.storage.put("batch", record)

    def _validate(self, record: dict[str, Any]) -> None:
        failure = record["ending"].get("failed")
        if failure:
            record["errors"] = [LineError(failure, f"The batch failed: {failure}.").document()]
            self._enter(record, "failed")
            return
        checked = check_input(
            self.storage.content(record["input_file_id"]),
            record["endpoint"],
            find_deployment=self.deployment,
            max_requests=MAX_REQUESTS,
        )
        record.update(requests=checked.requests, deployment=checked.deployment)
        record["tokens"] = checked.tokens
        if checked.errors:
            record["errors"] = [error.document() for error in checked.errors]
            self._enter(record, "failed")
            return
        self._enter(record, "in_progress")

    def _finish(self, record: dict[str, Any], status: str) -> None:
        """Write the output and error files and end the batch."""
        flavour = Flavour(record["flavour"])
        results = self.storage.results(record["id"])
        offsets = results.offsets()
        self._random.shuffle(offsets)
        answered: set[int] = set()
        output, error = self._result_file(), self._result_file()
        with output[1].open("wb") as out, error[1].open("wb") as err:
            if offsets:
                with results.path.open("rb") as source:
                    for offset in offsets:
                        source.seek(offset)
                        result = json.loads(source.readline().decode("utf-8", "surrogatepass"))
                        answered.add(result["index"])
                        target = err if result["failed"] else out
                        for line in result["lines"]:
                            target.write(line.encode("utf-8", "surrogatepass") + b"\n")
            if status in ("expired", "cancelled"):
                for request in self._requests(record, answered):
                    line = unanswered_line(request.custom_id, status, flavour)
                    err.write(json.dumps(line).encode() + b"\n")
        record["output_file_id"] = self._keep_result_file(output, "output")
        # Azure gives a batch without a failure an error file all the same, of no bytes.
        empty = flavour.is_azure and status == "completed"
        record["error_file_id"] = self._keep_result_file(error, "error", keep_empty=empty)
        self._enter(record, status)

    def _result_file(self) -> tuple[str, Path]:
        file_id = new_id("file-")
        return file_id, self.storage.content(file_id)

    def _keep_result_file(
        self, file: tuple[str, Path], kind: str, *, keep_empty: bool = False
    ) -> str | None:
        file_id, path = file
        path.chmod(0o600)
        size = path.stat().st_size
        if size == 0 and not keep_empty:
            path.unlink()
            return None
        now = int(self._clock())
        self.storage.put(
            "file",
            {
                "id": file_id,
                "bytes": size,
                "created_at": now,
                "filename": f"{kind}.jsonl",
                "purpose": "batch_output",
                "status": "processed",
                "polls": 0,
                "expires_at": None,
            },
        )
        return file_id

    # The worker

    def _work(self) -> None:
        while not self._stopped:
            record = self._next_batch()
            if record is None:
                with self._wake:
                    self._wake.wait(timeout=_IDLE_SECONDS)
                continue
            self._active = record["id"]
            try:
                self._answer(record)
            except Exception as error:  # noqa: BLE001 - one batch's trouble must not end the others
                self._break_off(record["id"], error)
            finally:
                self._active = None

    def _break_off(self, batch_id: str, error: Exception) -> None:
        """Fail a batch that cannot be answered; what was answered is in its files."""
        with self._lock:
            record = self.storage.get("batch", batch_id)
            if record is None or record["status"] in TERMINAL:
                return
            problem = LineError("internalFailure", f"{type(error).__name__}: {error}")
            record["errors"] = [problem.document()]
            try:
                self._finish(record, "failed")
            except OSError:
                self._enter(record, "failed")

    def _next_batch(self) -> dict[str, Any] | None:
        with self._lock:
            for record in self.storage.all("batch"):
                if record["status"] in TERMINAL:
                    continue
                self._tick(record, polled=False)
                if record["status"] == "cancelling":
                    self._finish(record, "cancelled")
                elif record["status"] == "in_progress" and self._may_work(record):
                    return record
        return None

    def _may_work(self, record: dict[str, Any]) -> bool:
        return self._running.is_set() and self._is_over(record, self.transitions.in_progress)

    def _answer(self, record: dict[str, Any]) -> None:
        """Answer what is left of a batch, keeping each answer before the next ones are asked."""
        results = self.storage.results(record["id"])
        done = results.answered()
        limit = record["ending"].get("after")
        counter = self._counter(record)
        requests = self._requests(record, set(done))
        with closing(self.responder.answer(requests)) as replies, results.appending() as append:
            for request, reply in replies:
                result = self._result(request, reply, record)
                append(result)
                counter["failed" if result["failed"] else "completed"] += 1
                if limit is not None and counter.total() >= limit:
                    break
                if not self._goes_on(record["id"]):
                    break
        with self._lock:
            current = self.storage.get("batch", record["id"])
            if current is None or current["status"] != "in_progress":
                return
            if limit is not None and counter.total() >= limit:
                self._finish(current, str(current["ending"]["status"]))
            elif counter.total() >= current["requests"]:
                self._enter(current, "finalizing")
                self._tick(current, polled=False)

    def _goes_on(self, batch_id: str) -> bool:
        if self._stopped or not self._running.is_set():
            return False
        current = self.storage.get("batch", batch_id)
        return current is not None and current["status"] == "in_progress"

    def _result(
        self, request: ChatRequest, reply: ChatReply, record: dict[str, Any]
    ) -> dict[str, Any]:
        line = result_line(request, reply, Flavour(record["flavour"]))
        lines = [json.dumps(line, ensure_ascii=False)]
        return {
            "index": request.index,
            "custom_id": request.custom_id,
            "failed": reply.status_code != 200,
            "lines": reply.spoil(lines) if reply.spoil else lines,
        }

    def _requests(self, record: dict[str, Any], skip: set[int]) -> Iterator[ChatRequest]:
        """Yield the requests of a batch's input file that are not in `skip`, lazily."""
        with self.storage.content(record["input_file_id"]).open("rb") as file:
            for index, raw in enumerate(file):
                if index in skip or not raw.strip():
                    continue
                line = json.loads(raw)
                yield ChatRequest(index=index, custom_id=line["custom_id"], body=line["body"])

    def _counter(self, record: dict[str, Any]) -> Counter[str]:
        if record["id"] not in self._counts:
            answered = self.storage.results(record["id"]).answered().values()
            self._counts[record["id"]] = Counter(
                "failed" if failed else "completed" for failed in answered
            )
        return self._counts[record["id"]]

    def _notify(self) -> None:
        with self._wake:
            self._wake.notify_all()


@contextmanager
def _abandoning(replies: Iterator[Reply]) -> Iterator[Iterator[Reply]]:
    """Close the iterator at the end, if it is one that can be closed, as generators are."""
    try:
        yield replies
    finally:
        close = getattr(replies, "close", None)
        if close is not None:
            close()

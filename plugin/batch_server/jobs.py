"""Batches: their states and the rules between them. Knows no HTTP, and answers nothing itself."""

from __future__ import annotations

import json
import logging
import random
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from batch_server.blobs import BlobRefusedError, Blobs
from batch_server.checking import (
    MAX_LINE,
    CheckedInput,
    Deployment,
    LineError,
    check_input,
)
from batch_server.clock import Clock
from batch_server.errors import Flavour, WireError, invalid, not_found
from batch_server.faults.batch_endings import Endings
from batch_server.files import Files, check_expiry
from batch_server.model_endpoints import BY_PATH, is_offered, problem_of
from batch_server.plain import is_text
from batch_server.problems import BatchServerError
from batch_server.quota import BYTES_PER_TOKEN, held_tokens, token_limit_exceeded
from batch_server.records import BATCH, content_of
from batch_server.refusals import quoted
from batch_server.responders.base import ChatReply, ChatRequest, Responder
from batch_server.results import requests_of, write_results
from batch_server.storage import Storage
from batch_server.transitions import Transition, Transitions
from batch_server.wire import ERRORS, RESULTS, new_id

logger = logging.getLogger(__name__)
TERMINAL = ("completed", "failed", "expired", "cancelled")
MAX_REQUESTS = {True: 100_000, False: 50_000}
_DAY = 86_400
# Where the results of synchronous requests are, beside those of batches.
_SYNCHRONOUS = "synchronous"


class Jobs:
    """The resource's files and batches.

    Args:
        storage: Where everything is kept.
        responder: Who answers.
        clock: The time in seconds since 1970.
        transitions: How states follow one another.
        deployments: The resource's deployments; None: any name is a batch deployment.
        seed: Of the order of output lines, and of what is decided by chance.
        relays: Whether another service answers, whose rules alone hold: any endpoint is taken,
            and of a batch that ends early nothing is said of the requests that were not asked.
        blobs: The blobs that batches may read and write, if any.

    Attributes:
        on_change: Called when there may be something to do for an open batch.
        trouble: Returns why nothing of an open batch is answered at the moment, as its `errors`.
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
        relays: bool = False,
        blobs: Blobs | None = None,
    ) -> None:
        self.on_change: Callable[[], None] = lambda: None
        self.trouble: Callable[[str], list[dict[str, Any]]] = lambda _: []
        self._relays = relays
        self._blobs = blobs
        self._withheld: list[tuple[str, str]] = []
        self.storage = storage
        self.responder = responder
        self.clock = clock if isinstance(clock, Clock) else Clock(clock)
        self.transitions = transitions or Transitions()
        self.endings = Endings(seed)
        storage.pass_over("batch", BATCH)
        self.files = Files(storage, clock=self.clock, transition=lambda: self.transitions.file)
        self._deployments: dict[str, Deployment] | None = None
        self.set_deployments(deployments)
        self._random = random.Random(seed)  # noqa: S311
        self._lock = threading.RLock()
        self._counts: dict[str, Counter[str]] = {}
        # Oldest first, which a dict keeps and a set does not.
        self._open = {r["id"]: True for r in storage.all("batch") if r["status"] not in TERMINAL}

    # Batches, as clients see them

    def create(
        self,
        *,
        input_file_id: str,
        endpoint: str,
        completion_window: str,
        metadata: dict[str, str] | None,
        flavour: Flavour,
        output_expires_after: int | None = None,
    ) -> dict[str, Any]:
        """Create a batch on an uploaded file."""
        self._check_new(endpoint, completion_window, flavour)
        if output_expires_after is not None:
            check_expiry(output_expires_after, flavour)
        file = self.files.get(input_file_id, polled=False)
        # OpenAI takes a file at once, and looks at it while it validates the batch.
        if flavour.is_azure and file["status"] != "processed":
            raise invalid(
                f"The input file '{input_file_id}' is in '{file['status']}' state. Only files with "
                "status 'Processed' are accepted as input.",
                "input_file_id",
            )
        return self._begun(
            {
                "id": new_id("batch_"),
                "endpoint": endpoint,
                "input_file_id": input_file_id,
                "completion_window": completion_window,
                "metadata": metadata,
                "flavour": flavour.value,
                "output_expires_after": output_expires_after,
            }
        )

    @property
    def reads_blobs(self) -> bool:
        """Whether batches may read and write blobs."""
        return self._blobs is not None

    def create_on_blob(
        self,
        *,
        input_blob: str,
        output_folder: str,
        endpoint: str,
        completion_window: str,
        flavour: Flavour,
    ) -> dict[str, Any]:
        """Create a batch on a blob; one that cannot be read is found while it is validated."""
        self._check_new(endpoint, completion_window, flavour)
        record: dict[str, Any] = {
            "id": new_id("batch_"),
            "endpoint": endpoint,
            "input_file_id": None,
            "input_blob": input_blob,
            "output_folder": f"{output_folder.rstrip('/')}/{uuid.uuid4()}",
            "completion_window": completion_window,
            "metadata": None,
            "flavour": flavour.value,
        }
        if self._blobs is not None:
            with suppress(BlobRefusedError):
                copy = self.storage.content(content_of(record))
                record["input_version"] = self._blobs.read(input_blob, copy)
        return self._begun(record)

    def _check_new(self, endpoint: str, completion_window: str, flavour: Flavour) -> None:
        """Refuse what no batch is created with."""
        if not (self._relays or is_offered(endpoint, flavour)):
            raise invalid(f"The endpoint {quoted(endpoint)} is not supported.", "endpoint")
        if completion_window != "24h":
            raise invalid(
                f"The completion_window {quoted(completion_window)} is not 24h.",
                "completion_window",
            )

    def _begun(self, record: dict[str, Any]) -> dict[str, Any]:
        """Keep a new batch, unless it finds no room."""
        now = int(self.clock())
        record |= {
            "status": "validating",
            "created_at": now,
            "entered_at": now,
            "expires_at": now + _DAY,
            "polls": 0,
            "errors": [],
            "ending": self.endings.choose(),
            "responder": self.responder.identity,
        }
        with self._lock:
            self._enqueue(record)
            self.storage.put("batch", record)
            self._open[record["id"]] = True
        self.on_change()
        return record

    def batch(self, batch_id: str) -> dict[str, Any]:
        """Return a batch as it stands now; a poll counts towards its transitions."""
        with self._lock:
            record = self.storage.get("batch", batch_id)
            if record is None:
                raise not_found("batch", batch_id)
            if record["status"] not in TERMINAL:
                record["polls"] += 1
                self.storage.put("batch", record)
        self.on_change()
        if record["status"] not in TERMINAL:
            record["errors"] = self.trouble(batch_id)
        return record

    def batches(self) -> list[dict[str, Any]]:
        """Return all batches, newest first."""
        return self.storage.all("batch")[::-1]

    def counts(self, record: dict[str, Any]) -> dict[str, int]:
        """Return a batch's request_counts; requests that no line was written for are no failure.

        They go with the state that the record shows: answers that came since then are not in it.
        """
        if record["status"] == "validating":
            return {"total": 0, "completed": 0, "failed": 0}
        counter = self.counter(record["id"])
        return {
            "total": int(record.get("requests") or 0),
            "completed": counter["completed"],
            "failed": counter["failed"],
        }

    def cancel(self, batch_id: str) -> dict[str, Any]:
        """Ask for a batch to end; what is answered already is kept."""
        with self._lock:
            record = self.storage.get("batch", batch_id)
            if record is None:
                raise not_found("batch", batch_id)
            if record["status"] in TERMINAL:
                raise WireError(
                    409, "conflict", f"The batch is {record['status']} and cannot be cancelled."
                )
            if record["status"] != "cancelling":
                self.enter(record, "cancelling")
        self.on_change()
        return record

    # Deployments and synchronous requests

    def set_deployments(self, deployments: Sequence[Deployment] | None) -> None:
        """Replace the resource's deployments; None: any name is a batch deployment."""
        self._deployments = None if deployments is None else {d.name: d for d in deployments}

    def deployment(self, name: str) -> Deployment | None:
        """Return a deployment, or None if the resource has none of that name."""
        if self._deployments is None:
            return Deployment(name)
        return self._deployments.get(name)

    def deployments(self) -> list[Deployment]:
        """Return the deployments that have been declared."""
        return list((self._deployments or {}).values())

    def served(self) -> list[str]:
        """Return the names that requests may give as their model, as far as they are known."""
        if self._deployments is not None:
            return list(self._deployments)
        return self.responder.models()

    def held(self, deployment: str) -> int:
        """Return the tokens that open batches hold of a deployment's quota."""
        return held_tokens(self.open_batches(), deployment)

    def ask(
        self, path: str, body: dict[str, Any], flavour: Flavour, *, request_id: str = ""
    ) -> ChatReply:
        """Answer one synchronous request; one with an id is recorded for the account.

        Args:
            path: The path of the endpoint that is asked.
            body: The request.
            flavour: Whose paths it came by.
            request_id: The client's own id for it, or an empty text.
        """
        # An unknown model is named first, whatever else is wrong.
        if isinstance(body.get("model"), str):
            self._check_single(path, body["model"], flavour)
        problem = problem_of(path, body, flavour=flavour, batch=False)
        if problem:
            raise problem
        # The answer is streamed when it is there, for every responder.
        asked = {key: body[key] for key in body if key not in ("stream", "stream_options")}
        request = ChatRequest(index=0, custom_id=request_id, body=asked, path=path)
        with _abandoning(self.responder.answer([request])) as replies:
            answered = next(replies, None)
        if answered is None:
            raise WireError(503, "serviceUnavailable", "The service is shutting down.")
        if request_id:
            self._record_synchronous(request_id, failed=answered[1].status_code != 200)
        return answered[1]

    def _check_single(self, path: str, name: str, flavour: Flavour) -> None:
        """Refuse a deployment that is not there, or that Azure has for batches alone."""
        deployment = self.deployment(name)
        if deployment is None:
            raise WireError(
                404, "DeploymentNotFound", f"The deployment {quoted(name)} does not exist."
            )
        if self._deployments is not None and flavour.is_azure and deployment.is_batch:
            raise WireError(
                400,
                "OperationNotSupported",
                f"The {BY_PATH[path].operation} operation does not work with the specified model, "
                f"{name}. Please choose different model and try again.",
            )

    def _record_synchronous(self, request_id: str, *, failed: bool) -> None:
        result = {"index": 0, "custom_id": request_id, "failed": failed, "lines": []}
        with self._lock, self.storage.results(_SYNCHRONOUS).appending() as append:
            append(result)

    # For tests

    def seed(self, seed: int) -> None:
        """Begin what is decided by chance anew."""
        with self._lock:
            self._random.seed(seed)
        self.endings.seed(seed)

    def forget_batch(self, batch_id: str) -> None:
        """Lose a batch, as a service was seen to."""
        with self._lock:
            self.storage.remove("batch", batch_id)
            self._open.pop(batch_id, None)

    def results(self) -> Iterator[dict[str, Any]]:
        """Yield every result of every batch there ever was, also of forgotten ones."""
        for path in sorted((self.storage.directory / "results").glob("*.jsonl")):
            yield from self.storage.results(path.stem)

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._open.clear()
            self._counts.clear()
            self.storage.clear()

    def close(self) -> None:
        """Close responder and storage; batches go on when they are opened again."""
        self.responder.close()
        self.storage.close()

    def discard(self, batch_id: str, file_id: str) -> None:
        """Forget a batch that has ended, with all that there is of it.

        Args:
            batch_id: The batch; nothing is done about one that goes on.
            file_id: Its input file.
        """
        with self._lock:
            record = self.storage.get("batch", batch_id) or {}
            if record and record["status"] not in TERMINAL:
                return
            self.storage.remove("batch", batch_id)
            self._counts.pop(batch_id, None)
        if record:
            self.storage.results(batch_id).remove()
        for name in (file_id, record.get("output_file_id"), record.get("error_file_id")):
            with suppress(WireError):
                self.files.delete(name or "")

    # What the worker does with a batch

    def open_batches(self) -> list[dict[str, Any]]:
        """Return the batches that have not ended, oldest first."""
        with self._lock:
            found = [self.storage.get("batch", batch_id) for batch_id in self._open]
        return [record for record in found if record is not None]

    def is_over(self, record: dict[str, Any], transition: Transition) -> bool:
        """Whether a batch has been in its state for as long as a transition says."""
        seconds = self.clock() - record["entered_at"]
        return transition.is_over(polls=record["polls"], seconds=seconds)

    def current(self, batch_id: str, status: str) -> dict[str, Any] | None:
        """Return a batch if it is still in a state."""
        record = self.storage.get("batch", batch_id)
        return record if record and record["status"] == status else None

    def enter(self, record: dict[str, Any], status: str) -> bool:
        """Move a batch to a state, unless it has left the one that the record shows.

        It may have been cancelled meanwhile, or lost: neither is undone.

        Returns:
            Whether it was moved.
        """
        now = int(self.clock())
        with self._lock:
            if self.current(record["id"], record["status"]) is None:
                return False
            record.update({"status": status, f"{status}_at": now, "entered_at": now, "polls": 0})
            if status in TERMINAL:
                self._open.pop(record["id"], None)
            self.storage.put("batch", record)
        return True

    def validate(self, record: dict[str, Any]) -> None:
        """Check a batch's input file and let it go on, or fail."""
        checked = self._checked(record)
        with self._lock:
            current = self.current(record["id"], "validating")
            if current is None:
                return
            current.update(
                requests=checked.requests, deployment=checked.deployment, tokens=checked.tokens
            )
            errors = list(checked.errors) or self._late_quota(current)
            if errors:
                current["errors"] = [error.document() for error in errors]
                self.enter(current, "failed")
                return
            self.enter(current, "in_progress")

    def finish(self, record: dict[str, Any], status: str) -> None:
        """Write a batch's output and error files and end it, unless it has moved on meanwhile."""
        path = self.storage.content(content_of(record))
        if record.get("input_blob") and (changed := self._blob_problem(record)):
            record["errors"] = [changed.document()]
            self.enter(record, "failed")
            return
        written = write_results(
            record,
            status,
            files=self.files,
            results=self.storage.results(record["id"]),
            unanswered=lambda answered: () if self._relays else requests_of(path, answered),
            shuffle=self._random,
        )
        if record.get("input_blob"):
            self.enter(record | self._in_blobs(record, written), status)
            return
        if self.enter(record | written, status):
            return
        for name in (written["output_file_id"], written["error_file_id"]):
            if name:
                self.files.delete(name)

    def _in_blobs(self, record: dict[str, Any], written: dict[str, Any]) -> dict[str, Any]:
        """Move what a batch has written into blobs, one that is empty to none."""
        for kind, name in (("output", RESULTS), ("error", ERRORS)):
            file_id, url = written[f"{kind}_file_id"], f"{record['output_folder']}/{name}"
            if file_id and record["ending"].get("withholds"):
                self._withheld.append((file_id, url))
            elif file_id:
                self._write_blob(file_id, url)
        return written | {"output_file_id": None, "error_file_id": None}

    def deliver(self) -> None:
        """Write the blobs that batches have ended without."""
        while self._withheld:
            self._write_blob(*self._withheld.pop(0))

    def _write_blob(self, file_id: str, url: str) -> None:
        path = self.storage.content(file_id)
        if self._blobs is not None and path.stat().st_size:
            self._blobs.write(url, path)
        self.files.delete(file_id)

    def permit(self, *, read: bool = True, write: bool = True) -> None:
        """Say what the resource's identity may do to blobs."""
        if self._blobs is not None:
            self._blobs.may_read, self._blobs.may_write = read, write

    def break_off(self, batch_id: str, error: Exception) -> None:
        """Fail a batch that cannot be answered; what was answered is in its files.

        The log has the reason; the batch has it only where it is written for its reader.
        """
        logger.error("batch %s cannot go on", batch_id, exc_info=error)
        with self._lock:
            record = self.storage.get("batch", batch_id)
            if record is None or record["status"] in TERMINAL:
                return
            problem = LineError("internalFailure", _spoken(error))
            record["errors"] = [problem.document()]
            try:
                self.finish(record, "failed")
            except OSError:
                self.enter(record, "failed")

    def counter(self, batch_id: str) -> Counter[str]:
        """Return how many requests of a batch were completed, and how many failed, so far."""
        counter = self._counts.get(batch_id)
        if counter is not None:
            return counter
        answered = self.storage.results(batch_id).answered().values()
        found = Counter("failed" if failed else "completed" for failed in answered)
        # Of two threads that both look for it, one's is kept, and it is everybody's.
        return self._counts.setdefault(batch_id, found)

    def _checked(self, record: dict[str, Any]) -> CheckedInput:
        failure = record["ending"].get("failed")
        if failure:
            return CheckedInput((LineError(failure, f"The batch failed: {failure}."),))
        flavour = Flavour(record["flavour"])
        if record.get("input_blob") and (problem := self._blob_problem(record)):
            return CheckedInput((problem,))
        try:
            return check_input(
                self._input(record),
                record["endpoint"],
                flavour=flavour,
                find_deployment=self.deployment,
                max_requests=MAX_REQUESTS[flavour.is_azure],
                any_url=self._relays,
            )
        except (WireError, OSError):
            return CheckedInput((LineError("invalid_request", "The input file is gone."),))

    def _input(self, record: dict[str, Any]) -> Path:
        """Return where the content is that a batch reads."""
        if record.get("input_blob"):
            return self.storage.content(content_of(record))
        return self.files.content(record["input_file_id"])

    def _blob_problem(self, record: dict[str, Any]) -> LineError | None:
        """Return why a batch cannot go on with its blob, if it cannot."""
        version = record.get("input_version")
        try:
            now = self._blobs.version(record["input_blob"]) if self._blobs else None
        except BlobRefusedError:
            now = None
        if version is None or now is None:
            return LineError(
                "input_no_permissions",
                "The input blob could not be read. Please ensure that the resource's managed "
                "identity has access to it.",
            )
        if now != version:
            return LineError("input_modified", "The input blob was changed after the batch began.")
        return None

    def _enqueue(self, record: dict[str, Any]) -> None:
        """Note the tokens that a batch holds, and refuse it where they find no room."""
        path = self.storage.content(content_of(record))
        if not path.exists():
            return
        deployment = self.deployment(_model_of_first_line(path) or "")
        if deployment is None:
            return
        record.update(deployment=deployment.name, tokens=path.stat().st_size // BYTES_PER_TOKEN)
        if deployment.quota_fails == "create" and self._lacks_room(record, deployment):
            error = token_limit_exceeded(deployment)
            raise WireError(400, error.code, error.message)

    def _late_quota(self, record: dict[str, Any]) -> list[LineError]:
        deployment = self.deployment(record["deployment"])
        if deployment is None or not self._lacks_room(record, deployment):
            return []
        return [token_limit_exceeded(deployment)]

    def _lacks_room(self, record: dict[str, Any], deployment: Deployment) -> bool:
        if deployment.max_enqueued_tokens is None:
            return False
        others = [
            batch
            for batch in self.open_batches()
            if batch["id"] != record["id"]
            and (deployment.quota_fails == "create" or batch["status"] != "validating")
        ]
        held = held_tokens(others, deployment.name)
        return held + int(record["tokens"]) > deployment.max_enqueued_tokens


def _model_of_first_line(path: Path) -> str | None:
    with path.open("rb") as file:
        first = file.readline(MAX_LINE)
    try:
        model = json.loads(first)["body"]["model"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return model if isinstance(model, str) and is_text(model) else None


def _spoken(error: Exception) -> str:
    """Return why a batch cannot be answered, without the names of this program's parts."""
    if isinstance(error, BatchServerError):
        return str(error)
    if isinstance(error, FileNotFoundError):
        return "The batch's input file is no longer there."
    return "The server had an error while processing the batch."


@contextmanager
def _abandoning(
    replies: Iterator[tuple[ChatRequest, ChatReply]],
) -> Iterator[Iterator[tuple[ChatRequest, ChatReply]]]:
    """Close the iterator at the end, if it is one that can be closed, as generators are."""
    try:
        yield replies
    finally:
        close = getattr(replies, "close", None)
        if close is not None:
            close()

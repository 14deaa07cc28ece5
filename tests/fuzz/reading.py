"""Fuzz the reading side: output files, error files and HTTP bodies.

    python tests/fuzz/reading.py --inputs 1000000 --seed 7

An input of the files is one line. Whatever the lines hold, each request of a shard ends as an
answer or as a named failure, and the right answers among hostile lines still arrive; whatever a
body holds, it is read or refused by name. Prints its seed; a round that breaks a promise leaves its
files and prints where.
"""

from __future__ import annotations

import argparse
import json
import logging
import random
import shutil
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dbt_enrich.emulator.responders.base import ChatReply, ChatRequest
from dbt_enrich.emulator.responders.scripted import FAULTS, ScriptedResponder
from dbt_enrich.errors import EnrichmentError
from dbt_enrich.failures import FailureKind
from dbt_enrich.ledger import Ledger, Shard, Step
from dbt_enrich.pipeline.load import load
from dbt_enrich.schema import OutputColumn
from dbt_enrich.services.parse import (
    MalformedReplyError,
    parse_batch,
    parse_error,
    parse_file,
    parse_json,
    parse_page,
    parse_retry_after,
)
from dbt_enrich.sql import literal
from dbt_enrich.store import StateDirectory
from dbt_enrich.task import EnrichmentTask
from dbt_enrich.validation import typed_answers_sql
from dbt_enrich.workspace import Workspace
from fuzz.mutate import VALUES, mutate_bytes, mutate_document

KINDS = {kind.value for kind in FailureKind}
OUTPUTS = [
    OutputColumn("summary", "varchar"),
    OutputColumn("tags", "varchar[]", max_items=3, unique_items=True, lower=True),
    OutputColumn("mood", "enum('good', 'bad')", nullable=True),
    OutputColumn("score", "decimal(5,2)", min=0, max=100),
    OutputColumn("parts", "struct(a integer, b date)[]"),
]
TASK = EnrichmentTask(model="gpt-4o-mini", user="{note}", outputs=tuple(OUTPUTS))
_SAFE, _HOSTILE = 100, 400


class BrokenPromiseError(Exception):
    """Something else than an answer or a named failure came out."""


def fuzz_lines(count: int, chance: random.Random, directory: Path) -> int:
    """Read one output and one error file of so many lines in all; return how many there were.

    Raises:
        BrokenPromiseError: A promise was not kept.
    """
    safe = [_key(chance) for _ in range(_SAFE)]
    hostile = [_key(chance) for _ in range(_HOSTILE)]
    expected = {key: f"the right answer of {key}" for key in safe}
    right = [right_line(key) for key in expected]
    samples = [_sample(key, chance) for key in hostile]
    wrong = [_hostile_line(chance.choice(samples), chance) for _ in range(count - len(right))]
    lines = right + wrong
    chance.shuffle(lines)
    cut = chance.randrange(len(lines))
    store = StateDirectory(directory / "state")
    shard = "fuzz0000-0000000000000000"
    for kind, part in (("output", lines[:cut]), ("error", lines[cut:])):
        ending = chance.choice((b"\n", b"\n", b"", b"\r\n"))
        store.response(shard, kind).write_bytes(joined_lines(part, chance) + ending)
    _check(_stored(store, shard, [*safe, *hostile]), expected, hostile)
    return len(lines)


def stored_answers(files: dict[str, bytes], keys: list[str]) -> dict[str, tuple[str, Any]]:
    """Load an output and an error file; return kind and typed answer of each request.

    Args:
        files: Content of the files `output` and `error`.
        keys: The requests of the shard.
    """
    with tempfile.TemporaryDirectory(prefix="fuzz-") as directory:
        store = StateDirectory(Path(directory) / "state")
        shard = "fuzz0000-0000000000000000"
        for kind, content in files.items():
            store.response(shard, kind).write_bytes(content)
        return {key: (kind, answer) for key, kind, answer in _stored(store, shard, keys)}


def right_line(key: str) -> bytes:
    """Return a line that answers a request."""
    return json.dumps(_line(key, _answer(f"the right answer of {key}"))).encode()


def _stored(store: StateDirectory, shard: str, keys: list[str]) -> list[tuple[str, str, Any]]:
    run = store.begin_run("run-fuzz")
    workspace = Workspace(run.path, memory_limit="400MB", threads=2)
    try:
        with Ledger(store.ledger) as ledger:
            _load(shard, keys, workspace, ledger, store)
            files = [store.answers(name) for name in ledger.live_answers("t")]
            paths = ", ".join(literal(path) for path in files)
            source = f"read_parquet([{paths}], union_by_name = true)"
            answers = f"(select *, content as clean_content from {source})"
            rows = workspace.rows(
                "select replace(cast(request_key as varchar), '-', ''), kind, answer "
                f"from ({typed_answers_sql(answers, OUTPUTS)})"
            )
            return [(row[0], row[1], row[2]) for row in rows]
    finally:
        workspace.close()
        run.remove()


def fuzz_bodies(count: int, chance: random.Random) -> int:
    """Read so many replies of the service.

    Raises:
        BrokenPromiseError: One was neither read nor refused by name.
    """
    for _ in range(count):
        document, read = chance.choice(_REPLIES)
        if chance.random() < 0.5:
            raw = mutate_bytes(json.dumps(document).encode(), chance)
        else:
            raw = _encoded(mutate_document(document, chance))
        try:
            read(raw)
        except (MalformedReplyError, EnrichmentError):
            continue
        except Exception as error:
            raise BrokenPromiseError(f"{type(error).__name__}: {error} for {raw!r}") from error
    return count


def _key(chance: random.Random) -> str:
    return uuid.UUID(int=chance.getrandbits(128)).hex


def _answer(text: str) -> str:
    return json.dumps(
        {
            "summary": text,
            "tags": ["a", "b"],
            "mood": None,
            "score": 12.5,
            "parts": [{"a": 1, "b": "2026-01-31"}],
        }
    )


def _line(key: str, content: str) -> dict[str, Any]:
    return {
        "id": "batch_req_1",
        "custom_id": f"{key}-1",
        "response": {
            "status_code": 200,
            "request_id": "r",
            "body": {
                "id": "c",
                "object": "chat.completion",
                "model": "m-2026",
                "choices": [
                    {
                        "index": 0,
                        "message": {"role": "assistant", "content": content, "refusal": None},
                        "finish_reason": "stop",
                    }
                ],
                "usage": {
                    "prompt_tokens": 9,
                    "completion_tokens": 4,
                    "prompt_tokens_details": {"cached_tokens": 2},
                },
            },
        },
        "error": None,
    }


def _sample(key: str, chance: random.Random) -> dict[str, Any]:
    """A line as services write it, good or bad, for a request that hostile lines are about."""
    kind = chance.randrange(4)
    if kind == 0:
        code = chance.choice(("batch_expired", "batch_cancelled", "request_timeout"))
        return {"custom_id": f"{key}-1", "response": None, "error": {"code": code, "message": "m"}}
    if kind == 1:
        error = {"code": "content_filter", "message": "m", "innererror": {"code": "R"}}
        response = {"status_code": chance.choice((400, 429, 500)), "body": {"error": error}}
        return {"custom_id": f"{key}-1", "response": response, "error": None}
    if kind == 2:
        return _scripted_line(key, chance)
    answer = mutate_document(json.loads(_answer("hostile")), chance)
    return _line(key, json.dumps(answer))


def _scripted_line(key: str, chance: random.Random) -> dict[str, Any]:
    responder = ScriptedResponder([{"match": "", "fault": chance.choice(FAULTS)}])
    body = {
        "messages": [{"role": "user", "content": "note"}],
        "response_format": TASK.response_format(),
    }
    reply: ChatReply = next(responder.answer([ChatRequest(0, f"{key}-1", body)]))[1]
    line = {"custom_id": f"{key}-1", "error": None}
    return {**line, "response": {"status_code": reply.status_code, "body": reply.body}}


def _hostile_line(sample: dict[str, Any], chance: random.Random) -> bytes:
    kind = chance.random()
    if kind < 0.45:
        return _encoded(mutate_document(sample, chance))
    if kind < 0.9:
        return mutate_bytes(json.dumps(sample).encode(), chance)
    if kind < 0.96:
        return json.dumps(sample).encode()
    if kind < 0.98:
        return chance.randbytes(chance.randrange(200)).replace(b"\n", b" ")
    stranger = json.dumps(_line(_key(chance), _answer("stranger"))).encode()
    if kind < 0.9995:
        return stranger
    return stranger.replace(b"stranger", b"x" * chance.randrange(1_000_000, 2_000_000))


def _encoded(document: Any) -> bytes:
    text = json.dumps(document, ensure_ascii=bool(len(str(document)) % 2))
    return text.encode("utf-8", "surrogatepass").replace(b"\n", b" ")


def joined_lines(lines: list[bytes], chance: random.Random) -> bytes:
    """Join lines with line breaks, and here and there with several."""
    breaks = (b"\n", b"\n", b"\n", b"\n\n", b"\r\n", b" \n")
    return b"".join(line + chance.choice(breaks) for line in lines)


def _load(
    shard: str, keys: list[str], workspace: Workspace, ledger: Ledger, store: StateDirectory
) -> None:
    values = ", ".join(f"(cast({literal(key)} as uuid), 1)" for key in keys)
    workspace.write_parquet(
        f"select * from (values {values}) as manifest(request_key, attempt)", store.manifest(shard)
    )
    ledger.add(
        Shard(
            shard=shard,
            step=Step.DOWNLOADED,
            owner=None,
            namespace="fuzz",
            service="azure:x",
            task_key="t",
            requests=len(keys),
            batch_id="batch_1",
            status="completed",
        )
    )
    load(
        ledger.shard(shard),
        OUTPUTS,
        workspace=workspace,
        ledger=ledger,
        store=store,
        keep_files=True,
    )


def _check(rows: list[tuple[str, str, Any]], expected: dict[str, str], hostile: list[str]) -> None:
    found = {row[0] for row in rows}
    if len(found) != len(rows) or found != {*expected, *hostile}:
        raise BrokenPromiseError(f"{len(rows)} answers to {len(expected) + len(hostile)} requests")
    for key, kind, answer in rows:
        if key in expected and (kind != "done" or answer["summary"] != expected[key]):
            raise BrokenPromiseError(f"a right answer came out as {kind}: {answer}")
        if kind not in KINDS | {"done"}:
            raise BrokenPromiseError(f"a failure has no name: {kind}")
        if kind == "done" and answer is None:
            raise BrokenPromiseError(f"an answer of {key} that counts as done cannot be typed")


def _batch_reply(raw: bytes) -> None:
    parse_batch(parse_json(raw), {"deployment-enqueued-tokens": raw[:9].decode("latin-1")})


def _retry_after(raw: bytes) -> None:
    wait = parse_retry_after({"retry-after": raw.decode("latin-1")}, now=1e9)
    if wait is not None and not 0 <= wait < float("inf"):
        raise BrokenPromiseError(f"a wait of {wait} seconds for {raw!r}")


_BATCH = {
    "id": "batch_1", "object": "batch", "status": "in_progress", "endpoint": "/chat/completions",
    "input_file_id": "file-1", "output_file_id": "", "error_file_id": None,
    "created_at": 1786000000, "metadata": {"dbt_enrich": "1", "shard": "s"},
    "request_counts": {"total": 3, "completed": 1, "failed": 0},
    "errors": {"object": "list", "data": [{"code": "c", "message": "m", "line": 3}]},
}  # fmt: skip
_FILE = {
    "id": "file-1", "object": "file", "bytes": 9, "created_at": 1786000000, "filename": "a.jsonl",
    "purpose": "batch", "status": "processed", "status_details": None,
}  # fmt: skip
_REPLIES: tuple[tuple[Any, Callable[[bytes], Any]], ...] = (
    (_BATCH, _batch_reply),
    (_FILE, lambda raw: parse_file(parse_json(raw))),
    (
        {"object": "list", "data": [_BATCH, _BATCH], "has_more": True, "last_id": "batch_1"},
        lambda raw: [parse_batch(item) for item in parse_page(parse_json(raw)).items],
    ),
    ({"error": {"code": "c", "message": "m", "innererror": {"code": "x"}}}, parse_error),
    ("120", _retry_after),
    (VALUES[0], _batch_reply),
)


def fuzz(inputs: int, seed: int, *, lines_a_round: int = 20_000) -> int:
    """Fuzz until so many inputs were read; return how many there were.

    Raises:
        BrokenPromiseError: A promise was not kept.
    """
    print(f"seed {seed}", flush=True)
    chance = random.Random(seed)
    done = fuzz_bodies(inputs // 5, chance)
    began = time.monotonic()
    while done < inputs:
        directory = Path(tempfile.mkdtemp(prefix="fuzz-"))
        try:
            done += fuzz_lines(min(lines_a_round, max(inputs - done, 1_000)), chance, directory)
        except Exception:
            print(f"seed {seed}: the files of the round are in {directory}", flush=True)
            raise
        shutil.rmtree(directory)
        if time.monotonic() - began > 10:
            began = time.monotonic()
            print(f"{done:,} inputs", flush=True)
    return done


def main() -> None:
    """Read the command line."""
    # What the readers pass over is told at a level that a million inputs would drown in.
    logging.disable(logging.WARNING)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1_000_000))
    told = parser.parse_args()
    print(f"{fuzz(told.inputs, told.seed):,} inputs, every promise kept")


if __name__ == "__main__":
    main()

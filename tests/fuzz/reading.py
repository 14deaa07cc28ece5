"""Fuzz the reading side: output files, error files, bodies and replies over HTTP.

    python -m fuzz.reading --inputs 1000000 --seed 7

An input of the files is one line. Whatever the lines hold, each request of a shard ends as an
answer or as a named failure, and the right answers among hostile lines still arrive; whatever a
reply holds, it is read or refused by name. Prints its seed; a round that breaks a promise leaves
its files, and a reply its body, and where they are is printed.
"""

from __future__ import annotations

import argparse
import logging
import random
import shutil
import tempfile
import time
from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

from dbt_enrich.config import parse_config
from dbt_enrich.pipeline.export.manifests import count_requests
from dbt_enrich.pipeline.load.load_shard import load
from dbt_enrich.state.answer_store import TYPED, text_sql
from dbt_enrich.state.directory import StateDirectory
from dbt_enrich.state.run import Run, open_run
from dbt_enrich.state.shards import Shard, Step
from dbt_enrich.task.endpoint_names import EndpointName
from dbt_enrich.task.failures import FailureKind
from dbt_enrich.task.schema import OutputColumn
from dbt_enrich.task.vectors import vector_of
from dbt_enrich.validation.answers import typed_answers_sql
from fuzz.lines import OUTPUTS, hostile_line, joined_lines
from fuzz.replies import BrokenPromiseError, fuzz_bodies, fuzz_calls
from fuzz.rounds import Round, new_round, single_requests_sql
from support.endpoints import ENDPOINTS

KINDS = {kind.value for kind in FailureKind}
_CONFIG = parse_config(
    {"provider": "local", "memory_limit": "400MB", "threads": 2}, duckdb_settings={}
)
_SHARD = "fuzz0000-0000000000000000"


def fuzz_lines(count: int, chance: random.Random, directory: Path, endpoint: str) -> int:
    """Read one output and one error file of so many lines in all; return how many there were.

    Args:
        count: How many lines.
        chance: Decides.
        directory: Where the files are written.
        endpoint: What was asked.

    Raises:
        BrokenPromiseError: A promise was not kept.
    """
    asked = new_round(endpoint, chance)
    safe = [*asked.expected]
    lines = asked.right + [
        hostile_line(chance.choice(asked.samples), chance.choice(safe), chance, asked.stranger)
        for _ in range(count - len(asked.right))
    ]
    chance.shuffle(lines)
    cut = chance.randrange(len(lines) + 1)
    store = StateDirectory(directory / "state").made()
    for kind, part in (("output", lines[:cut]), ("error", lines[cut:])):
        store.response(_SHARD, kind).write_bytes(joined_lines(part, chance))
    _check(_stored(store, asked.requests, asked.outputs, endpoint), asked)
    return len(lines)


def stored_answers(
    files: dict[str, bytes],
    keys: list[str],
    outputs: Sequence[OutputColumn] = OUTPUTS,
    endpoint: str = EndpointName.CHAT,
) -> dict[str, tuple[str, str, Any]]:
    """Load an output and an error file; return kind, message and typed answer of each request.

    Args:
        files: Content of the files `output` and `error`.
        keys: The requests of the shard.
        outputs: The output columns of the task.
        endpoint: What was asked.
    """
    with tempfile.TemporaryDirectory(prefix="fuzz-") as directory:
        store = StateDirectory(Path(directory) / "state").made()
        for kind, content in files.items():
            store.response(_SHARD, kind).write_bytes(content)
        rows = _stored(store, single_requests_sql(keys), outputs, endpoint)
        found = {key: (kind, message, answer) for key, kind, message, answer in rows}
    if len(found) != len(rows):
        raise BrokenPromiseError("a request has two answers")
    return found


def _stored(
    store: StateDirectory, requests: str, outputs: Sequence[OutputColumn], endpoint: str
) -> list[tuple[str, str, str, Any]]:
    with open_run(_CONFIG.model_copy(update={"state_dir": store.root})) as run:
        _load(requests, outputs, run, endpoint)
        table = run.answers.table_of(list(run.ledger.answers.live("t")))
        has_typed = run.answers.has_typed(table)
        answers, answer = f"{table} as answers", TYPED if has_typed else "null"
        if vector_of(outputs) is None:
            text = text_sql("answers", has_typed=has_typed)
            texts = f"select kind, message, request_key, {text} as clean_content from {answers}"
            answers, answer = f"({typed_answers_sql(f'({texts})', outputs)})", TYPED
        rows = run.workspace.rows(
            f"select replace(cast(request_key as varchar), '-', ''), kind, message, {answer} "
            f"from {answers}"
        )
        return [(row[0], row[1], row[2], row[3]) for row in rows]


def _load(requests: str, outputs: Sequence[OutputColumn], run: Run, endpoint: str) -> None:
    run.workspace.write_parquet(requests, run.store.manifest(_SHARD))
    asked = count_requests(run.store.manifest(_SHARD), run.workspace)
    run.ledger.shards.add(
        Shard(
            shard=_SHARD,
            step=Step.DOWNLOADED,
            owner=None,
            namespace="fuzz",
            service="azure:x",
            task_key="t",
            endpoint=endpoint,
            requests=asked[0],
            rows=asked[1],
            batch_id="batch_1",
            status="completed",
        )
    )
    load(
        run,
        run.ledger.shards.get(_SHARD),
        [*outputs],
        keep_files=True,
        mask="(?P<mark>sk-)x",
    )


def _check(rows: list[tuple[str, str, str, Any]], asked: Round) -> None:
    found = {row[0] for row in rows}
    expected, wanted = asked.expected, {*asked.expected, *asked.hostile}
    if len(found) != len(rows) or found != wanted:
        raise BrokenPromiseError(f"{len(rows)} answers to {len(wanted)} requests")
    said = {repr(value) for value in expected.values()}
    for key, kind, message, answer in rows:
        if key in expected and (kind != "done" or asked.of(answer) != expected[key]):
            raise BrokenPromiseError(f"the right answer of {key} came out as {kind}: {message}")
        if kind not in KINDS | {"done"}:
            raise BrokenPromiseError(f"a failure has no name: {kind}")
        if kind == "done" and answer is None:
            raise BrokenPromiseError(f"an answer of {key} that counts as done cannot be typed")
        if kind == "done" and key not in expected and repr(asked.of(answer)) in said:
            raise BrokenPromiseError(f"the answer of {key} is that of another request")
        if kind not in ("done", "refusal") and not message:
            raise BrokenPromiseError(f"the failure {kind} of {key} does not say why")


def fuzz(inputs: int, seed: int, *, lines_a_round: int = 20_000) -> int:
    """Fuzz until so many inputs were read; return how many there were.

    Raises:
        BrokenPromiseError: A promise was not kept.
    """
    print(f"seed {seed}", flush=True)
    chance = random.Random(seed)
    done = fuzz_bodies(inputs // 5, chance)
    done += fuzz_calls(inputs // 100, chance)
    print(f"{done:,} replies", flush=True)
    began = time.monotonic()
    endpoints = cycle(ENDPOINTS)
    while done < inputs:
        directory = Path(tempfile.mkdtemp(prefix="fuzz-"))
        count = min(lines_a_round, max(inputs - done, 1_000))
        try:
            done += fuzz_lines(count, chance, directory, next(endpoints))
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
    given = parser.parse_args()
    print(f"{fuzz(given.inputs, given.seed):,} inputs, every promise kept")


if __name__ == "__main__":
    main()

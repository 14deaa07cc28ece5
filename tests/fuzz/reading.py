"""Fuzz the reading side: output files, error files, bodies and replies over HTTP.

    python -m fuzz.reading --inputs 1000000 --seed 7

An input of the files is one line. Whatever the lines hold, each request of a shard ends as an
answer or as a named failure, and the right answers among hostile lines still arrive; whatever a
reply holds, it is read or refused by name. Prints its seed; a round that breaks a promise leaves
its files, and a reply its body, and where they are is printed.
"""

from __future__ import annotations

import argparse
import json
import logging
import random
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from dbt_enrich.config import parse_config
from dbt_enrich.pipeline.load.load_shard import load
from dbt_enrich.sql import literal
from dbt_enrich.state.answer_store import text_sql
from dbt_enrich.state.directory import StateDirectory
from dbt_enrich.state.run import Run, open_run
from dbt_enrich.state.shards import Shard, Step
from dbt_enrich.task.endpoint_names import EndpointName
from dbt_enrich.task.failures import FailureKind
from dbt_enrich.validation.answers import typed_answers_sql
from fuzz.lines import (
    OUTPUTS,
    dressed_line,
    hostile_line,
    in_form_of_responses,
    joined_lines,
    new_key,
    right_line,
    right_text,
    sample_line,
)
from fuzz.replies import BrokenPromiseError, fuzz_bodies, fuzz_calls
from support.text_endpoints import TEXT_ENDPOINTS

KINDS = {kind.value for kind in FailureKind}
_SAFE, _HOSTILE = 100, 400
_CONFIG = parse_config(
    {"provider": "local", "memory_limit": "400MB", "threads": 2}, duckdb_settings={}
)
_SHARD = "fuzz0000-0000000000000000"


def fuzz_lines(count: int, chance: random.Random, directory: Path) -> int:
    """Read one output and one error file of so many lines in all; return how many there were.

    Raises:
        BrokenPromiseError: A promise was not kept.
    """
    expected = {key: right_text(key, chance) for key in (new_key(chance) for _ in range(_SAFE))}
    hostile = [new_key(chance) for _ in range(_HOSTILE)]
    right = [
        right_line(key, text, ascii_only=chance.random() < 0.5) for key, text in expected.items()
    ]
    # What is dressed as another server's is read whichever endpoint was asked.
    right = [dressed_line(line, chance) if chance.random() < 0.3 else line for line in right]
    samples = [sample_line(key, chance) for key in hostile]
    endpoint = chance.choice(TEXT_ENDPOINTS)
    if endpoint == EndpointName.RESPONSES:
        right = [json.dumps(in_form_of_responses(json.loads(line))).encode() for line in right]
        samples = [in_form_of_responses(sample) for sample in samples]
    safe = [*expected]
    lines = right + [
        hostile_line(chance.choice(samples), chance.choice(safe), chance)
        for _ in range(count - len(right))
    ]
    chance.shuffle(lines)
    cut = chance.randrange(len(lines) + 1)
    store = StateDirectory(directory / "state").made()
    for kind, part in (("output", lines[:cut]), ("error", lines[cut:])):
        store.response(_SHARD, kind).write_bytes(joined_lines(part, chance))
    _check(_stored(store, [*safe, *hostile], endpoint), expected, hostile)
    return len(lines)


def stored_answers(files: dict[str, bytes], keys: list[str]) -> dict[str, tuple[str, str, Any]]:
    """Load an output and an error file; return kind, message and typed answer of each request.

    Args:
        files: Content of the files `output` and `error`.
        keys: The requests of the shard.
    """
    with tempfile.TemporaryDirectory(prefix="fuzz-") as directory:
        store = StateDirectory(Path(directory) / "state").made()
        for kind, content in files.items():
            store.response(_SHARD, kind).write_bytes(content)
        rows = _stored(store, keys)
        found = {key: (kind, message, answer) for key, kind, message, answer in rows}
    if len(found) != len(rows):
        raise BrokenPromiseError("a request has two answers")
    return found


def _stored(
    store: StateDirectory, keys: list[str], endpoint: str = EndpointName.CHAT
) -> list[tuple[str, str, str, Any]]:
    with open_run(_CONFIG.model_copy(update={"state_dir": store.root})) as run:
        _load(keys, run, endpoint)
        names = list(run.ledger.answers.live("t"))
        text = text_sql("answers", has_typed=run.answers.has_typed(run.answers.table_of(names)))
        answers = f"(select answers.kind, answers.message, answers.request_key, {text} "
        answers += f"as clean_content from {run.answers.table_of(names)} as answers)"
        rows = run.workspace.rows(
            "select replace(cast(request_key as varchar), '-', ''), kind, message, answer "
            f"from ({typed_answers_sql(answers, OUTPUTS)})"
        )
        return [(row[0], row[1], row[2], row[3]) for row in rows]


def _load(keys: list[str], run: Run, endpoint: str) -> None:
    values = ", ".join(f"(cast({literal(key)} as uuid), 1)" for key in keys)
    run.workspace.write_parquet(
        f"select * from (values {values}) as manifest(request_key, attempt)",
        run.store.manifest(_SHARD),
    )
    run.ledger.shards.add(
        Shard(
            shard=_SHARD,
            step=Step.DOWNLOADED,
            owner=None,
            namespace="fuzz",
            service="azure:x",
            task_key="t",
            endpoint=endpoint,
            requests=len(keys),
            batch_id="batch_1",
            status="completed",
        )
    )
    load(
        run,
        run.ledger.shards.get(_SHARD),
        OUTPUTS,
        keep_files=True,
        mask="(?P<mark>sk-)x",
    )


def _check(
    rows: list[tuple[str, str, str, Any]], expected: dict[str, str], hostile: list[str]
) -> None:
    found = {row[0] for row in rows}
    if len(found) != len(rows) or found != {*expected, *hostile}:
        raise BrokenPromiseError(f"{len(rows)} answers to {len(expected) + len(hostile)} requests")
    for key, kind, message, answer in rows:
        if key in expected and (kind != "done" or answer["summary"] != expected[key]):
            raise BrokenPromiseError(f"the right answer of {key} came out as {kind}: {message}")
        if kind not in KINDS | {"done"}:
            raise BrokenPromiseError(f"a failure has no name: {kind}")
        if kind == "done" and answer is None:
            raise BrokenPromiseError(f"an answer of {key} that counts as done cannot be typed")
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
    given = parser.parse_args()
    print(f"{fuzz(given.inputs, given.seed):,} inputs, every promise kept")


if __name__ == "__main__":
    main()

"""Packs: several rows in one request, and every row with its own answer all the same."""

from __future__ import annotations

import hashlib
import json
import shutil
import uuid
from pathlib import Path
from typing import Any

import duckdb
import pytest
from batch_server.server import RunningEmulator
from dbt_enrich.endpoints.chat_completions import CHAT_COMPLETIONS
from dbt_enrich.endpoints.packs import keys_sql
from dbt_enrich.environment import REPORTS_VARIABLE
from dbt_enrich.errors import ConfigurationError
from dbt_enrich.state.directory import StateDirectory
from dbt_enrich.state.ledger import Ledger
from dbt_enrich.task.enrichment_task import EnrichmentTask, Example
from dbt_enrich.task.schema import OutputColumn
from support.warehouse import SUMMARY, Warehouse, config_for, summary_task

ROWS = 10
NOTES = f"select i as id, 'note ' || i as note from range({ROWS}) as numbers(i)"


def warehouse_for(emulator: RunningEmulator, tmp_path: Path, **changes: Any) -> Warehouse:
    """A warehouse on the emulator."""
    return Warehouse(config_for(emulator.url, emulator.api_key, tmp_path / "state", **changes))


def summaries(warehouse: Warehouse) -> list[tuple[Any, ...]]:
    """The answers, by row."""
    return warehouse.rows("select id, summary, enrichment_status from enriched order by id")


def all_done() -> list[tuple[Any, ...]]:
    """What they are when each row has its own."""
    return [(i, f"summary: note {i}", "done") for i in range(ROWS)]


def sent(emulator: RunningEmulator) -> list[int]:
    """How many requests each batch had, oldest first."""
    return [batch["requests"] for batch in emulator.jobs.batches()][::-1]


@pytest.mark.parametrize(
    ("options", "requests"),
    [
        ({"rows_per_request": 4}, 3),
        ({"rows_per_request": 100}, 1),
        ({"tokens_per_request": 6}, 4),
        ({"tokens_per_request": 1}, ROWS),
    ],
)
def test_every_row_of_a_pack_has_its_own_answer(
    emulator: RunningEmulator, tmp_path: Path, options: dict[str, Any], requests: int
) -> None:
    """And its share of the tokens."""
    warehouse = warehouse_for(emulator, tmp_path)
    warehouse.enrich(NOTES, **options)
    assert summaries(warehouse) == all_done()
    assert sent(emulator) == [requests]
    with Ledger(StateDirectory(warehouse.config.state_dir).ledger) as ledger:
        (shard,) = ledger.shards.all()
        (name,) = ledger.answers.live(shard.task_key)
    answers = warehouse.config.state_dir / "answers" / f"{name}.parquet"
    usage = [b["usage"] for b in emulator.jobs.batches()]
    assert duckdb.sql(
        "select sum(prompt_tokens), sum(completion_tokens), "
        "max(prompt_tokens) - min(prompt_tokens) <= 60 "
        f"from read_parquet('{answers}')"
    ).fetchall() == [
        (sum(u["prompt_tokens"] for u in usage), sum(u["completion_tokens"] for u in usage), True)
    ]


def test_packed_and_single_rows_share_their_answers(
    emulator: RunningEmulator, tmp_path: Path
) -> None:
    """Unless they are told not to."""
    warehouse = warehouse_for(emulator, tmp_path)
    warehouse.enrich(NOTES, rows_per_request=5)
    warehouse.enrich(NOTES)
    assert sent(emulator) == [2]
    warehouse.enrich(NOTES, rows_per_request=5, pack_shares_answers=False)
    assert sent(emulator) == [2, 2]
    assert summaries(warehouse) == all_done()


def rows_answer(*rows: tuple[int, Any]) -> dict[str, Any]:
    """A pack's answer."""
    return {"rows": [{"id": position, "answer": answer} for position, answer in rows]}


GOOD = {"summary": "summary: from the pack"}
# An answer that is broken after its first entries, or breaks off.
ENTRY_1 = '{"rows": [{"id":1,"answer":' + json.dumps(GOOD) + "}"
ENTRY_2 = '{ "id" : 2, "answer": ' + json.dumps(GOOD) + "}"
PACK = json.dumps(rows_answer(*((i, GOOD) for i in (1, 2, 3))))
DRAFT = json.dumps(rows_answer(*((i, {"summary": "a draft"}) for i in (1, 2, 3))))
PARTLY = ["pack_failed", "schema_mismatch"]


@pytest.mark.parametrize(
    ("rule", "kinds"),
    [
        ({"answer": rows_answer((1, GOOD), (3, GOOD))}, ["missing"]),
        ({"answer": rows_answer((1, GOOD), (2, GOOD), (2, GOOD), (3, GOOD))}, ["missing"]),
        ({"answer": rows_answer((1, GOOD), (2, {"summary": 7}), (3, GOOD))}, ["schema_mismatch"]),
        ({"answer": rows_answer((1, GOOD), (2, "text"), (3, GOOD))}, ["schema_mismatch"]),
        ({"answer": rows_answer((1, GOOD), (9, GOOD), (3, GOOD))}, ["missing"]),
        ({"answer": {"rows": "none"}}, ["missing"] * 3),
        ({"answer": {"summary": "one for all"}}, ["missing"] * 3),
        ({"content": "sorry"}, ["pack_failed"] * 3),
        ({"content": ENTRY_1 + ", " + ENTRY_2 + ',{"id":3,"answer":{"sum'}, ["pack_failed"]),
        ({"content": ENTRY_1 + ',{"id":2,"answer":{,}}, {"id":3,"an'}, ["pack_failed"] * 2),
        ({"content": ENTRY_1 + ',{"id":2,"answer":"text"},{"id'}, PARTLY),
        ({"content": f"<think>{DRAFT}</think>\n{PACK}"}, []),
        ({"content": f"{DRAFT}</think>\n{PACK}"}, []),
        ({"content": f"{PACK}\n{PACK}"}, []),
        ({"content": f"<think>{DRAFT}</think>{ENTRY_1}, {ENTRY_2},"}, ["pack_failed"]),
        ({"content": f"<think>{DRAFT}"}, ["pack_failed"] * 3),
        ({"fault": "refusal"}, ["pack_failed"] * 3),
        ({"fault": "truncated"}, ["pack_failed"] * 2),
        ({"fault": "content_filter_prompt"}, ["pack_failed"] * 3),
        ({"fault": "content_filter_answer"}, ["pack_failed"] * 3),
        ({"status": 500}, ["pack_failed"] * 3),
        ({"status": 400}, ["pack_failed"] * 3),
        ({"fault": "broken_line"}, ["pack_failed"] * 3),
        ({"fault": "duplicate"}, []),
        ({"fault": "code_fence"}, []),
    ],
)
def test_what_a_pack_does_not_answer_is_asked_again_alone(
    emulator: RunningEmulator, tmp_path: Path, rule: dict[str, Any], kinds: list[str]
) -> None:
    """Only those rows, and each by itself, whatever was wrong with their neighbours."""
    emulator.rules(
        [
            {"match": "note 1", "times": 1, **rule},
            # An answer that echoes the last message would echo the request to fix it.
            *({"match": f"note {i}", "answer": {"summary": f"note {i}"}} for i in range(3)),
        ]
        if kinds
        else [{"match": "note 1", "times": 1, **rule}]
    )
    warehouse = warehouse_for(emulator, tmp_path)
    warehouse.enrich(
        "select i as id, 'note ' || i as note from range(3) as numbers(i)", rows_per_request=3
    )
    assert {row[2] for row in summaries(warehouse)} == {"done"}
    assert "a draft" not in str(summaries(warehouse))
    assert sent(emulator) == [1, *([len(kinds)] if kinds else [])]
    found = warehouse.rows("select kind, message from enriched__errors")
    assert sorted(kind for kind, _ in found) == kinds
    assert all(message for _, message in found)


def test_packs_are_adopted_from_the_service_alone(
    emulator: RunningEmulator, tmp_path: Path
) -> None:
    """The keys of their rows are read back from the input file."""
    hostile = f"""select i as id, 'note "{{' || i || chr(10) || '🎬 "text":' as note
        from range({ROWS}) as numbers(i)"""
    warehouse = warehouse_for(emulator, tmp_path)
    warehouse.enrich(hostile, mode="submit", rows_per_request=4)
    emulator.settle()
    shutil.rmtree(tmp_path / "state")
    afresh = warehouse_for(emulator, tmp_path)
    afresh.enrich(hostile)
    assert sent(emulator) == [3]
    assert [row[1:] for row in summaries(afresh)] == [
        (f'summary: note "{{{i}\n🎬 "text":', "done") for i in range(ROWS)
    ]


def test_packs_of_earlier_versions_are_read_back(tmp_path: Path) -> None:
    """Their rows stood in an array, each with its id."""
    texts = {"1": 'a "quoted"\n🎬', "2": "", "3": "["}
    messages = {
        "pack-object": texts,
        "pack-array": [{"id": int(row), "text": text} for row, text in texts.items()],
        "pack-neither": "text",
        "other": texts,
    }
    lines = [
        json.dumps({"custom_id": name, "body": {"messages": [{"content": json.dumps(message)}]}})
        for name, message in messages.items()
    ]
    with duckdb.connect() as database:
        database.execute("create table input as select unnest(?) as line", [lines])
        found = database.execute(
            f"select custom_id, position, cast(request_key as varchar) from "
            f"({keys_sql(CHAT_COMPLETIONS, 'input', 'task')}) order by all"
        ).fetchall()
    keys = {row: hashlib.sha256(f"task{text}".encode()).hexdigest() for row, text in texts.items()}
    assert found == [
        (name, int(row), str(uuid.UUID(keys[row][:32])))
        for name in ("pack-array", "pack-object")
        for row in texts
    ]


def test_packs_that_are_too_big_for_the_quota_are_cut(
    emulator: RunningEmulator, tmp_path: Path
) -> None:
    """Between packs."""
    emulator.deployments({"name": "gpt-4o-mini", "max_enqueued_tokens": 900})
    warehouse = warehouse_for(emulator, tmp_path)
    warehouse.enrich(NOTES, rows_per_request=3)
    assert summaries(warehouse) == all_done()
    assert sum(sent(emulator)) == 4
    assert len(sent(emulator)) > 1


def test_files_hold_whole_packs(emulator: RunningEmulator, tmp_path: Path) -> None:
    """Each within the limit on requests."""
    warehouse = warehouse_for(emulator, tmp_path, max_requests_per_file=2)
    warehouse.enrich(NOTES, rows_per_request=2)
    assert summaries(warehouse) == all_done()
    assert sent(emulator) == [2, 2, 1]


def test_examples_and_limits_are_those_of_a_pack(emulator: RunningEmulator, tmp_path: Path) -> None:
    """The examples are a pack themselves, and the limit on tokens is for all its rows."""
    task = EnrichmentTask(
        model="gpt-4o-mini",
        system="Summarise.",
        user="{note}",
        outputs=(SUMMARY,),
        parameters={"max_tokens": 50},
        examples=(Example(user="a", answer={"summary": "A"}),),
    )
    warehouse = warehouse_for(emulator, tmp_path, keep_files=True)
    warehouse.enrich(NOTES, task, rows_per_request=ROWS)
    (path,) = (tmp_path / "state" / "requests").glob("*.jsonl")
    line = json.loads(path.read_text())
    system, asked, answered, rows = line["body"]["messages"]
    assert system["content"].startswith("Summarise.\n\nThe user message is a JSON object")
    assert json.loads(asked["content"]) == {"1": "a"}
    assert json.loads(answered["content"]) == {"rows": [{"id": 1, "answer": {"summary": "A"}}]}
    assert list(json.loads(rows["content"]).items())[1] == ("2", "note 1")
    assert line["body"]["max_tokens"] == 50 * ROWS
    assert line["custom_id"].startswith("pack-")


def test_an_answer_too_deep_for_a_pack_is_named_before_anything_is_sent(
    emulator: RunningEmulator, tmp_path: Path
) -> None:
    """A pack takes levels of nesting of its own."""
    outputs = (OutputColumn("cast", "struct(name varchar, roles varchar[])[]"),)
    task = EnrichmentTask(model="gpt-4o-mini", user="{note}", outputs=outputs)
    with pytest.raises(ConfigurationError, match="several rows in a request"):
        warehouse_for(emulator, tmp_path).enrich(NOTES, task, rows_per_request=5)
    assert emulator.jobs.batches() == []


@pytest.mark.parametrize(
    "options",
    [
        {"rows_per_request": 1},
        {"rows_per_request": 5, "tokens_per_request": 5},
        {"rows_per_request": 5, "max_attempts": 1},
    ],
)
def test_options_that_do_not_fit_are_refused(
    emulator: RunningEmulator, tmp_path: Path, options: dict[str, Any]
) -> None:
    """By name."""
    with pytest.raises(ValueError, match=r"rows_per_request|tokens_per_request|max_attempts"):
        warehouse_for(emulator, tmp_path).enrich(NOTES, **options)


def test_a_plan_counts_the_bytes_of_packs(
    emulator: RunningEmulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which repeat the constant texts once a pack, not once a row."""
    warehouse = warehouse_for(emulator, tmp_path)
    task = summary_task(system="Summarise the note in one sentence. " * 20)
    notes = "select i as id, 'note ' || i as note from range(40) as numbers(i)"
    monkeypatch.setenv(REPORTS_VARIABLE, str(tmp_path / "reports.jsonl"))
    warehouse.enrich(notes, task, rows_per_request=10, mode="plan")
    plan = json.loads((tmp_path / "reports.jsonl").read_text().splitlines()[0])["plan"]
    warehouse.enrich(notes, task, rows_per_request=10)
    with Ledger(tmp_path / "state" / "ledger.sqlite") as ledger:
        (shard,) = ledger.shards.all()
    assert (plan["requests"], plan["new"]) == (shard.requests, shard.row_count)
    assert shard.bytes * 0.8 < plan["bytes"] < shard.bytes * 1.5
    assert plan["enqueued_tokens"] == plan["bytes"] // 4

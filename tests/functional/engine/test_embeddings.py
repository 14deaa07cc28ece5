"""Embeddings: vectors of the rows, from the request file to the published column."""

from __future__ import annotations

import json
import shutil
from array import array
from collections.abc import Generator, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pytest
from batch_server.responders.base import ChatReply, ChatRequest
from batch_server.responders.scripted import ScriptedResponder
from batch_server.server import RunningEmulator, running_emulator
from dbt_enrich.config import parse_config
from dbt_enrich.endpoints.embeddings import EMBEDDINGS
from dbt_enrich.endpoints.packs import keys_sql
from dbt_enrich.errors import ConfigurationError, StoppedError
from dbt_enrich.state.directory import StateDirectory
from dbt_enrich.state.ledger import Ledger
from support.endpoints import provider_for
from support.vectors import MODEL, SIZE, expected_vector, vector_task
from support.warehouse import Warehouse, config_for

ROWS = 300
NOTES = f"select i as id, 'note ' || i as note from range({ROWS}) as numbers(i)"


def warehouse_for(emulator: RunningEmulator, tmp_path: Path, **changes: Any) -> Warehouse:
    """A warehouse whose service is the emulator, by OpenAI's paths."""
    values = {
        **provider_for("embeddings", emulator.url, emulator.api_key),
        "state_dir": str(tmp_path / "state"),
        "poll_interval": 0.05,
        "adoption_grace": 0.0,
        "max_retries": 1,
        "memory_limit": "160MB",
        **changes,
    }
    return Warehouse(parse_config(values, duckdb_settings={}))


@pytest.fixture
def warehouse(emulator: RunningEmulator, tmp_path: Path) -> Warehouse:
    """One with nothing of its own."""
    return warehouse_for(emulator, tmp_path)


def vectors(warehouse: Warehouse) -> list[tuple[Any, ...]]:
    """The published vectors, by row."""
    return warehouse.rows("select id, vector from enriched where vector is not null order by id")


def all_vectors(rows: int = ROWS) -> list[tuple[Any, ...]]:
    """What they are when each row has its own."""
    return [(i, expected_vector(f"note {i}")) for i in range(rows)]


def lines_sent(emulator: RunningEmulator) -> list[dict[str, Any]]:
    """The lines of all input files, oldest first."""
    paths = (emulator.jobs.storage.content(b["input_file_id"]) for b in emulator.jobs.batches())
    return [json.loads(line) for path in [*paths][::-1] for line in path.read_text().splitlines()]


def test_each_row_has_its_own_vector(warehouse: Warehouse, emulator: RunningEmulator) -> None:
    """Several texts go in one request, and the column is an array that SQL compares."""
    warehouse.enrich(NOTES, vector_task())
    assert vectors(warehouse) == all_vectors()
    assert ("vector", f"FLOAT[{SIZE}]") in warehouse.described("enriched")
    bodies = [line["body"] for line in lines_sent(emulator)]
    assert sorted(len(body["input"]) for body in bodies) == [44, 128, 128]
    assert {(b["dimensions"], b["encoding_format"], b["model"]) for b in bodies} == {
        (SIZE, "base64", MODEL)
    }
    nearest = (
        "select b.id from enriched as a, enriched as b where a.id = 7 and a.id <> b.id "
        "order by array_cosine_similarity(a.vector, b.vector) desc, b.id limit 1"
    )
    assert len(warehouse.rows(nearest)) == 1


def test_a_second_run_asks_nothing(warehouse: Warehouse, emulator: RunningEmulator) -> None:
    """Nor does one that has lost the table or the state directory; equal texts are asked once."""
    select = f"select id, if(id % 2 = 0, 'same', note) as note from ({NOTES})"
    warehouse.enrich(select, vector_task())
    asked = sum(len(line["body"]["input"]) for line in lines_sent(emulator))
    assert asked == ROWS // 2 + 1
    found = vectors(warehouse)
    shutil.rmtree(warehouse.config.state_dir)
    warehouse.restart()
    warehouse.enrich(select, vector_task())
    fresh = Warehouse(warehouse.config)
    fresh.enrich(select, vector_task())
    assert vectors(warehouse) == vectors(fresh) == found
    assert len(lines_sent(emulator)) == 2


def test_a_lost_state_directory_and_table_are_made_good_from_the_service(
    warehouse: Warehouse, emulator: RunningEmulator
) -> None:
    """The lists of a batch's input file say which rows it asked."""
    warehouse.enrich(NOTES, vector_task())
    shutil.rmtree(warehouse.config.state_dir)
    fresh = Warehouse(warehouse.config)
    fresh.enrich(NOTES, vector_task())
    assert vectors(fresh) == all_vectors()
    assert len(emulator.jobs.batches()) == 1


def test_the_keys_of_lists_are_those_of_their_rows() -> None:
    """As rows asked alone have them, whatever the texts hold."""
    texts = ['a "quoted" one', "", "null", "[1]", "日本"]
    body = {"model": MODEL, "input": texts}
    line = {"custom_id": "pack-x", "url": "/v1/embeddings", "body": body}
    lines = f"(select $line${json.dumps(line)}$line$ as line)"
    found = duckdb.sql(
        f"select position, request_key = left(sha256('k' || texts[position]), 32)::uuid "
        f"from ({keys_sql(EMBEDDINGS, lines, 'k')}), "
        f"(select $line${json.dumps(texts)}$line$::json::varchar[] as texts) order by position"
    ).fetchall()
    assert found == [(n, True) for n in range(1, len(texts) + 1)]


def test_a_refused_text_costs_its_list_one_round(
    warehouse: Warehouse, emulator: RunningEmulator
) -> None:
    """The others of its list are asked again alone, and it has the service's own words."""
    emulator.rules([{"match": "note 99", "status": 400, "error": {"message": "too long"}}])
    warehouse.enrich(NOTES, vector_task())
    assert warehouse.statuses() == {"done": ROWS - 1, "failed": 1}
    assert vectors(warehouse) == [row for row in all_vectors() if row[0] != 99]
    failed = "select id, enrichment_error from enriched where enrichment_status = 'failed'"
    assert warehouse.rows(failed) == [(99, "provider_error: HTTP 400: too long")]


@pytest.mark.parametrize("fault", ["null_content", "wrong_shape", "truncated", "no_choices"])
def test_what_a_reply_lacks_is_asked_again(
    warehouse: Warehouse, emulator: RunningEmulator, fault: str
) -> None:
    """No row is given the vector of another, and those that are there are kept."""
    emulator.rules([{"match": "", "times": 1, "fault": fault}])
    warehouse.enrich(NOTES, vector_task())
    assert vectors(warehouse) == all_vectors()


@pytest.mark.parametrize("fault", ["missing", "duplicate", "broken_line", "unknown_id", "no_usage"])
def test_odd_lines_lose_no_vector(
    warehouse: Warehouse, emulator: RunningEmulator, fault: str
) -> None:
    """What can be told of them is; the rest is asked again."""
    emulator.rules([{"match": "", "times": 1, "fault": fault}])
    warehouse.enrich(NOTES, vector_task())
    assert vectors(warehouse) == all_vectors()


def test_a_model_of_another_length_is_named_and_stopped(
    warehouse: Warehouse, emulator: RunningEmulator
) -> None:
    """Only the reply tells, of a model that nobody knows; the rest is not paid for."""
    emulator.rules([{"match": "", "dimensions": 5}])
    with pytest.raises(StoppedError, match=rf"\$\.vector must have {SIZE} numbers, got 5"):
        warehouse.enrich(NOTES, vector_task(model="own-embedder"))
    assert "dimensions" not in lines_sent(emulator)[0]["body"]


def test_a_changed_task_keeps_the_previous_vectors_until_the_new_ones(
    warehouse: Warehouse, emulator: RunningEmulator
) -> None:
    """They are `stale`; and with `on_task_change: new_rows` they stand."""
    few, about = f"{NOTES} where i < 3", vector_task(user="about {note}")
    warehouse.enrich(few, vector_task())
    warehouse.enrich(few, about, mode="submit")
    assert warehouse.statuses() == {"stale": 3}
    assert vectors(warehouse) == all_vectors(3)
    emulator.settle()
    warehouse.enrich(few, about, mode="collect")
    abouts = [(i, expected_vector(f"about note {i}")) for i in range(3)]
    assert vectors(warehouse) == abouts
    kept = vector_task(user="on {note}")
    warehouse.enrich(f"{NOTES} where i < 4", kept, on_task_change="new_rows")
    assert vectors(warehouse) == [*abouts, (3, expected_vector("on note 3"))]


def test_another_length_is_another_vector(warehouse: Warehouse) -> None:
    """And the table's column becomes one of it."""
    few = f"{NOTES} where i < 3"
    warehouse.enrich(few, vector_task())
    warehouse.enrich(few, vector_task(8))
    assert vectors(warehouse) == [(i, expected_vector(f"note {i}", 8)) for i in range(3)]


def test_a_plan_counts_tokens_and_no_output(warehouse: Warehouse) -> None:
    """At the model's own price."""
    outcome = warehouse.enrich(NOTES, vector_task(), mode="plan")
    assert "3 requests to send in 1 file" in outcome.summary
    assert "and 0 output tokens" in outcome.summary
    assert "$" in outcome.summary or "USD" in outcome.summary


def test_a_preview_shows_the_first_numbers(warehouse: Warehouse) -> None:
    """And how many there are; nothing is stored."""
    outcome = warehouse.enrich(NOTES, vector_task(), mode="preview", preview_rows=2)
    assert "previewed 2 rows" in outcome.summary
    shown = [line for line in warehouse.log if "(12 numbers)" in line]
    assert len(shown) == 2
    assert "0 would fail" in outcome.summary


def test_tokens_are_shared_among_a_list(warehouse: Warehouse, emulator: RunningEmulator) -> None:
    """And the ledger has their sum."""
    warehouse.enrich(NOTES, vector_task())
    with Ledger(StateDirectory(warehouse.config.state_dir).ledger) as ledger:
        (shard,) = ledger.shards.all()
    (batch,) = emulator.jobs.batches()
    assert shard.prompt_tokens == batch["usage"]["prompt_tokens"]
    assert shard.completion_tokens == 0
    assert (shard.requests, shard.rows, shard.endpoint) == (3, ROWS, "embeddings")


def test_a_file_holds_no_more_inputs_than_the_service_takes(
    emulator: RunningEmulator, tmp_path: Path
) -> None:
    """OpenAI counts the inputs of a batch, whatever its lines are."""
    warehouse = warehouse_for(emulator, tmp_path, max_requests_per_file=100)
    warehouse.enrich(NOTES, vector_task(), rows_per_request=64)
    assert len(emulator.jobs.batches()) == 3
    assert vectors(warehouse) == all_vectors()


def test_azure_is_refused_before_anything_is_staged(
    emulator: RunningEmulator, tmp_path: Path
) -> None:
    """Its batches take none."""
    config = config_for(emulator.url, emulator.api_key, tmp_path / "state")
    with pytest.raises(ConfigurationError, match="enrichment.endpoint is embeddings") as error:
        Warehouse(config).enrich(NOTES, vector_task())
    assert "via: synchronous" in str(error.value.fix)
    assert emulator.jobs.files.all() == []


def test_azure_answers_them_without_batches(emulator: RunningEmulator, tmp_path: Path) -> None:
    """By the same rows, claims and answers, through its synchronous endpoint."""
    emulator.deployments({"name": "vectors", "sku": "Standard"})
    config = config_for(
        emulator.url, emulator.api_key, tmp_path / "state", deployments={MODEL: ["vectors"]}
    )
    warehouse = Warehouse(config)
    warehouse.enrich(NOTES, vector_task(), via="synchronous", rows_per_request=100)
    assert vectors(warehouse) == all_vectors()
    assert emulator.jobs.batches() == []
    warehouse.enrich(NOTES, vector_task(), via="synchronous", rows_per_request=100)
    assert warehouse.statuses() == {"done": ROWS}
    calls = [call["path"] for call in emulator.account()["calls"] if call["method"] == "POST"]
    assert calls == ["/embeddings"] * (ROWS // 100)


class Numbers(ScriptedResponder):
    """Takes no notice of `encoding_format`, as Ollama does not (BerriAI/litellm#42426)."""

    def answer(
        self, requests: Iterable[ChatRequest]
    ) -> Generator[tuple[ChatRequest, ChatReply], None, None]:
        """Yield vectors as numbers."""
        for request in requests:
            body = {**request.body, "encoding_format": "float"}
            for _, reply in super().answer([replace(request, body=body)]):
                yield request, reply


def test_numbers_are_read_as_base64_is(tmp_path: Path) -> None:
    """Bit by bit, whatever was asked for."""
    with running_emulator(tmp_path / "numbers", responder=Numbers()) as emulator:
        warehouse = warehouse_for(emulator, tmp_path)
        warehouse.enrich(NOTES, vector_task())
        assert vectors(warehouse) == all_vectors()


def test_one_request_by_itself(emulator: RunningEmulator) -> None:
    """By each style of path, of a deployment that is no batch's."""
    import httpx2 as httpx

    body = {"model": MODEL, "input": ["a", "b"], "dimensions": 3}
    headers = {"Authorization": f"Bearer {emulator.api_key}"}
    paths = (
        "/v1/embeddings",
        "/openai/v1/embeddings",
        f"/openai/deployments/{MODEL}/embeddings?api-version=2024-10-21",
    )
    for path in paths:
        found = httpx.post(f"{emulator.url}{path}", json=body, headers=headers).json()
        got = [tuple(array("f", entry["embedding"])) for entry in found["data"]]
        assert got == [expected_vector("a", 3), expected_vector("b", 3)]
        refused = httpx.post(f"{emulator.url}{path}", json={**body, "input": []}, headers=headers)
        assert refused.status_code == 400

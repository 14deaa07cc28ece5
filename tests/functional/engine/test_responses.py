"""`endpoint: responses`, all the way: asked, read, named, counted, adopted, as chat completions."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from batch_server.responders.scripted import FAULTS
from batch_server.server import RunningEmulator
from dbt_enrich.errors import ConfigurationError
from dbt_enrich.state.directory import StateDirectory
from dbt_enrich.state.ledger import Ledger
from dbt_enrich.state.shards import Shard
from dbt_enrich.task.enrichment_task import EnrichmentTask
from dbt_enrich.task.from_yaml import task_from_yaml
from support.warehouse import Warehouse, config_for, summary_task

ROWS = 5
NOTES = f"select i as id, 'note ' || i as note from range({ROWS}) as numbers(i)"


def responses_task(**changes: Any) -> EnrichmentTask:
    """The usual task, asked of the Responses API."""
    return summary_task(**{"endpoint": "responses", **changes})


def warehouse_for(emulator: RunningEmulator, tmp_path: Path, **changes: Any) -> Warehouse:
    """A warehouse whose resource is the emulator."""
    return Warehouse(config_for(emulator.url, emulator.api_key, tmp_path / "state", **changes))


def shards(warehouse: Warehouse) -> list[Shard]:
    """The ledger's shards, oldest first."""
    with Ledger(StateDirectory(warehouse.config.state_dir).ledger) as ledger:
        return ledger.shards.all()


def sent_lines(emulator: RunningEmulator) -> list[dict[str, Any]]:
    """All lines of the batches that were created, oldest batch first."""
    return [
        json.loads(line)
        for batch in reversed(emulator.jobs.batches())
        for line in emulator.jobs.storage.content(batch["input_file_id"]).read_text().splitlines()
    ]


def paid_once(emulator: RunningEmulator) -> bool:
    """Whether no request was answered twice."""
    return set(emulator.account()["paid"].values()) == {1}


@pytest.mark.parametrize("provider", ["azure", "openai"])
def test_rows_are_asked_in_its_form(
    emulator: RunningEmulator, tmp_path: Path, provider: str
) -> None:
    """Of both services; with reasoning, whose tokens are kept apart."""
    url, changes = "/v1/responses", {}
    if provider == "openai":
        changes = {"provider": provider, "base_url": f"{emulator.url}/v1", "endpoint": None}
    warehouse = warehouse_for(emulator, tmp_path, **changes)
    parameters = {"reasoning": {"effort": "low"}, "max_output_tokens": 500}
    warehouse.enrich(NOTES, responses_task(parameters=parameters))
    assert warehouse.rows("select id, summary from enriched order by id") == [
        (i, f"summary: note {i}") for i in range(ROWS)
    ]
    (batch,) = emulator.jobs.batches()
    assert batch["endpoint"] == url
    line = next(line for line in sent_lines(emulator) if line["body"]["input"][-1]["content"])
    assert line["url"] == url
    assert line["body"]["input"][0] == {"role": "system", "content": "Summarise the note."}
    assert {name: line["body"][name] for name in ("store", *parameters)} == {
        "store": False,
        **parameters,
    }
    (shard,) = shards(warehouse)
    assert (shard.endpoint, shard.reasoning_tokens) == ("responses", 8 * ROWS)
    assert (shard.completion_tokens or 0) > 8 * ROWS


def test_a_task_that_moves_asks_nothing_again(emulator: RunningEmulator, tmp_path: Path) -> None:
    """Batches of chat completions are in flight meanwhile, and are read as what they are."""
    warehouse = warehouse_for(emulator, tmp_path)
    effort = {"reasoning_effort": "low", "max_tokens": 100}
    warehouse.enrich(NOTES, summary_task(parameters=effort))
    emulator.pause()
    more = "select * from ({}) union all select {}, 'another'"
    warehouse.enrich(more.format(NOTES, 8), summary_task(parameters=effort), mode="submit")
    emulator.resume()
    moved = responses_task(parameters={"reasoning": {"effort": "low"}, "max_output_tokens": 200})
    warehouse.restart()
    warehouse.enrich(
        more.format(more.format(NOTES, 8), 9).replace("9, 'another'", "9, 'new'"), moved
    )
    assert warehouse.statuses() == {"done": ROWS + 2}
    assert [(s.endpoint, s.requests) for s in shards(warehouse)] == [
        ("chat", ROWS),
        ("chat", 1),
        ("responses", 1),
    ]
    assert paid_once(emulator)


@pytest.mark.parametrize("endpoint", ["chat", "responses"])
@pytest.mark.parametrize(
    ("options", "shown"), [({}, None), ({"rows_per_request": 2}, "/chat/completions")]
)
def test_a_batch_that_is_adopted_is_known_by_its_lines(
    emulator: RunningEmulator,
    tmp_path: Path,
    endpoint: str,
    options: dict[str, Any],
    shown: str | None,
) -> None:
    """Azure shows no endpoint of a batch, or another one than its lines ask."""
    task = summary_task(endpoint=endpoint)
    warehouse = warehouse_for(emulator, tmp_path)
    warehouse.enrich(NOTES, task, mode="submit", **options)
    emulator.settle()
    shutil.rmtree(warehouse.config.state_dir)
    (batch,) = emulator.jobs.batches()
    emulator.jobs.storage.put("batch", {**batch, "endpoint": shown})
    warehouse = warehouse_for(emulator, tmp_path)
    warehouse.enrich(NOTES, task, **options)
    assert warehouse.statuses() == {"done": ROWS}
    assert [shard.endpoint for shard in shards(warehouse)] == [endpoint]
    assert len(emulator.jobs.batches()) == 1


def test_every_fault_has_the_name_that_it_has_elsewhere(
    emulator: RunningEmulator, tmp_path: Path
) -> None:
    """What goes wrong with an answer is called the same at both endpoints, and says the same."""
    notes = " union all ".join(
        f"select {i} as id, 'about {fault};' as note" for i, fault in enumerate(FAULTS)
    )
    found = {}
    for endpoint in ("chat", "responses"):
        emulator.rules([{"match": f"about {name};", "fault": name} for name in FAULTS])
        warehouse = warehouse_for(emulator, tmp_path / endpoint, namespace=endpoint)
        warehouse.enrich(notes, summary_task(endpoint=endpoint), max_attempts=1)
        found[endpoint] = warehouse.rows(
            "select id, enrichment_status, split_part(enrichment_error, ':', 1), summary "
            "from enriched order by id"
        )
    assert found["responses"] == found["chat"]
    assert {status for _, status, *_ in found["chat"]} == {"done", "failed"}


def test_what_does_not_fit_is_asked_to_be_fixed(emulator: RunningEmulator, tmp_path: Path) -> None:
    """And a longer answer is allowed where one was cut, by the limit's name here."""
    emulator.rules(
        [
            {"match": "note 0", "times": 1, "answer": {"summary": 5}},
            {"match": "note 1", "times": 1, "fault": "truncated"},
            {"match": "note 0", "answer": {"summary": "mended"}},
        ]
    )
    warehouse = warehouse_for(emulator, tmp_path)
    warehouse.enrich(NOTES, responses_task(parameters={"max_tokens": 100}))
    assert warehouse.statuses() == {"done": ROWS}
    again = [line["body"] for line in sent_lines(emulator)[ROWS:]]
    asked = {body["input"][1]["content"]: body for body in again}
    assert {note: body["max_output_tokens"] for note, body in asked.items()} == {
        "note 0": 100,
        "note 1": 200,
    }
    roles = [message["role"] for message in asked["note 0"]["input"]]
    assert roles == ["system", "user", "assistant", "user"]
    assert "$.summary" in asked["note 0"]["input"][-1]["content"]


def test_it_is_previewed_and_planned(emulator: RunningEmulator, tmp_path: Path) -> None:
    """By single requests of its own form; the plan counts what chat completions take."""
    warehouse = warehouse_for(emulator, tmp_path)
    plans = []
    for task in (summary_task(), responses_task()):
        warehouse.log.clear()
        warehouse.enrich(NOTES, task, mode="plan")
        plans.append([line for line in warehouse.log if "token" in line])
    assert plans[0] == plans[1] != []
    warehouse.enrich(NOTES, responses_task(), mode="preview", preview_rows=2)
    assert any("previewed 2 rows by gpt-4o-mini, 0 would fail" in line for line in warehouse.log)
    asked = [call["path"] for call in emulator.account()["calls"]]
    assert asked.count("/responses") == 2


def test_a_small_round_is_asked_at_once(emulator: RunningEmulator, tmp_path: Path) -> None:
    """By the same endpoint, with the same fixes, and no batch."""
    emulator.rules([{"match": "note 1", "times": 1, "fault": "truncated"}])
    warehouse = warehouse_for(emulator, tmp_path)
    task = responses_task(parameters={"max_tokens": 100})
    warehouse.enrich(NOTES, task, sync_below=100, preview_model="gpt-4o-mini")
    assert warehouse.statuses() == {"done": ROWS}
    asked = [call["path"] for call in emulator.account()["calls"]]
    assert asked.count("/responses") == ROWS + 1
    assert {shard.endpoint for shard in shards(warehouse)} == {"responses"}


@pytest.mark.parametrize(
    ("changes", "profile", "words", "fix"),
    [
        (
            {"model": "o3-pro", "endpoint": "chat"},
            {},
            "o3-pro answers at no",
            "endpoint: responses",
        ),
        ({"model": "gpt-5.1-codex-mini", "endpoint": "chat"}, {}, "at no other", "responses"),
        ({"model": "gpt-4o-audio-preview"}, {}, "than `chat`", "endpoint: chat"),
        ({}, {"api_version": "2024-10-21"}, "older than the Responses API", "2025-03-01-preview"),
    ],
)
def test_a_wrong_pair_is_refused_before_anything_is_sent(
    emulator: RunningEmulator,
    tmp_path: Path,
    changes: dict[str, Any],
    profile: dict[str, Any],
    words: str,
    fix: str,
) -> None:
    """By name, of the language model or of the profile's version."""
    warehouse = warehouse_for(emulator, tmp_path, **profile)
    with pytest.raises(ConfigurationError, match=words) as refused:
        warehouse.enrich(NOTES, responses_task(**changes))
    assert fix in str(refused.value)
    assert emulator.account()["calls"] == []


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"seed": 7}, "the Responses API has no parameter 'seed'"),
        ({"max_tokens": 20, "max_output_tokens": 30}, "are one limit"),
        ({"max_completion_tokens": 9}, "no limit below 16"),
        ({"reasoning_effort": "low", "reasoning": {"effort": "high"}}, "are both given"),
        ({"text": {"format": {"type": "text"}}}, "'text.format' cannot be set"),
        ({"text": "low"}, "'text' is no object"),
        ({"instructions": "Be short."}, "'instructions' cannot be set here"),
    ],
)
def test_a_parameter_that_it_does_not_have_is_refused(
    parameters: dict[str, Any], words: str
) -> None:
    """By name, with what to write."""
    with pytest.raises(ValueError, match=words):
        responses_task(parameters=parameters)


@pytest.mark.parametrize(
    ("given", "fix"), [("respones", "did you mean 'responses'?"), (5, "write chat or responses")]
)
def test_an_endpoint_that_there_is_not_is_refused(given: object, fix: str) -> None:
    """With the model, the key and what to write."""
    meta = {"model": "m", "user": "{note}", "output": ["summary"], "endpoint": given}
    with pytest.raises(ConfigurationError) as refused:
        task_from_yaml("notes", meta, {"summary": {"data_type": "varchar"}})
    text = f"model 'notes': enrichment.endpoint: the service has no such endpoint (it is {given!r})"
    assert str(refused.value).startswith(text)
    assert fix in str(refused.value)


def test_parameters_are_one_task_in_either_spelling() -> None:
    """So that the spelling of an endpoint asks nothing again."""
    chat = {"reasoning_effort": "low", "verbosity": "low", "max_tokens": 100, "temperature": 0}
    own = {
        "reasoning": {"effort": "low"},
        "text": {"verbosity": "low"},
        "max_output_tokens": 100,
        "temperature": 0,
    }
    keys = {
        summary_task(parameters=chat).task_key("m"),
        responses_task(parameters=chat).task_key("m"),
        responses_task(parameters=own).task_key("m"),
    }
    assert len(keys) == 1
    more = {"reasoning": {"effort": "low", "summary": "auto"}}
    assert responses_task(parameters=more).task_key("m") not in keys

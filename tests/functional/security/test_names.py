"""Names that would leave a path or a SQL text: each works as it is, or is one named error."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from batch_server.server import RunningEmulator
from dbt_enrich.config import parse_config
from dbt_enrich.errors import ConfigurationError, ServiceError
from dbt_enrich.pipeline.request import EnrichmentRequest
from dbt_enrich.sql import identifier
from dbt_enrich.state.ledger import Ledger
from dbt_enrich.task.options import EnrichmentOptions
from dbt_enrich.task.schema import OutputColumn
from dbt_enrich.warehouse.relation import StagedRelation
from functional.services.wire import Reply, Request, batch_body, file_body, serving
from support.dbt_project import DbtProject
from support.leftovers import files_below
from support.warehouse import Warehouse, config_for, summary_task

NOTES = "select i as id, 'note ' || i as note from range(3) as numbers(i)"
NAMES = [
    *("../../escaped", "/etc/escaped", "a'; drop table bystander; --", 'a"; drop table bystander;'),
    *("two\nlines", "back\\slash\\", "\u0456d", "\u202ename", "{brace}", "%s %(x)s", "a b", "$1 ?"),
    *("'", '"', "--", "/*", "select", "\u00e9", "e\u0301", "x" * 200),
]
IDS = [*NAMES, "x" * 10_000, "%2e%2e%2f", "a?b=c#d", "bell\x07"]
NO_IDS = ["..", ".", "nul\x00nul", "", " "]


@pytest.fixture
def warehouse(emulator: RunningEmulator, tmp_path: Path) -> Warehouse:
    """A warehouse with a table that nobody may touch."""
    return warehouse_at(emulator.url, tmp_path, api_key=emulator.api_key)


def warehouse_at(url: str, directory: Path, *, api_key: str = "key", **changes: Any) -> Warehouse:
    """The same, at any service."""
    warehouse = Warehouse(config_for(url, api_key, directory / "state", **changes))
    warehouse.connection.execute("create table bystander as select 1 as x")
    return warehouse


def assert_unharmed(warehouse: Warehouse, directory: Path) -> None:
    """The bystander is there, and nothing was written beside the state directory."""
    assert warehouse.rows("from bystander") == [(1,)]
    outside = [p for p in files_below(directory) if p.relative_to(directory).parts[0] != "emulator"]
    assert [p for p in outside if p.relative_to(directory).parts[0] != "state"] == []
    for above in (Path("/etc"), *list(directory.parents)[:3]):
        assert not (above / "escaped").exists()


def test_columns_of_the_select(warehouse: Warehouse, tmp_path: Path) -> None:
    """In the unique key, and beside it."""
    columns = ", ".join(map(identifier, NAMES))
    ids = ", ".join(f"id + {i} as {identifier(name)}" for i, name in enumerate(NAMES))
    warehouse.enrich(f"select {ids}, note from ({NOTES})", unique_key=tuple(NAMES[::2]))
    assert warehouse.rows(f"select {columns}, summary from enriched order by 1") == [
        (*range(id_, id_ + len(NAMES)), f"summary: note {id_}") for id_ in range(3)
    ]
    assert_unharmed(warehouse, tmp_path)


def test_output_columns(warehouse: Warehouse, tmp_path: Path) -> None:
    """They go into the schema, into SQL and back."""
    outputs = tuple(OutputColumn(name=n, data_type="varchar", description=n) for n in NAMES)
    warehouse.enrich(NOTES, summary_task(outputs=outputs))
    counts = ", ".join(f"count({identifier(name)})" for name in NAMES)
    assert warehouse.rows(f"select {counts} from enriched") == [(3,) * len(NAMES)]
    assert_unharmed(warehouse, tmp_path)


def test_tables(warehouse: Warehouse, tmp_path: Path) -> None:
    """The staged relation is named by dbt, quoted; the model's name is text."""
    for name in NAMES:
        table = identifier(name)
        warehouse.connection.execute(f"create table {table} as {NOTES}")
        relation = StagedRelation(warehouse.connection.cursor(), table, ("id",), model=name)
        outcome = warehouse.engine.enrich(
            EnrichmentRequest(relation, summary_task(), EnrichmentOptions(), enrichment=name)
        )
        assert warehouse.rows(f"select count(summary) from ({outcome.enriched_sql})") == [(3,)]
        warehouse.engine.finish(outcome.run_id)
    assert_unharmed(warehouse, tmp_path)


def test_models_and_their_deployments(emulator: RunningEmulator, tmp_path: Path) -> None:
    """They are text in the request, and part of an address where the service is asked for them."""
    names = [*NAMES, ".."]
    deployments = {name: f"{name}-batch" for name in names[::2]}
    warehouse = warehouse_at(
        emulator.url, tmp_path, api_key=emulator.api_key, deployments=deployments
    )
    for name in names:
        warehouse.enrich(NOTES, summary_task(model=name))
        assert warehouse.statuses() == {"done": 3}
    asked = {deployments.get(name, name) for name in names}
    with Ledger(tmp_path / "state" / "ledger.sqlite") as ledger:
        rows = [event["shard"] for event in ledger.events.all() if event["step"] == "stored"]
        assert {shard.deployment for shard in ledger.shards.named(rows)} == asked
    assert_unharmed(warehouse, tmp_path)


@pytest.mark.parametrize("name", [*NAMES, "..", "", "-a", "a\n", "x" * 64])
def test_a_namespace(name: str) -> None:
    """Letters, digits and three signs, or an error that says so."""
    values = {"provider": "local", "namespace": name}
    if not name:
        assert parse_config(values, duckdb_settings={}).namespace is None
    elif name == "select":
        assert parse_config(values, duckdb_settings={}).namespace == name
    else:
        with pytest.raises(ConfigurationError, match="'namespace'.*63 letters"):
            parse_config(values, duckdb_settings={})


class Hostile:
    """A service that works, but whose ids are what a test makes them.

    Args:
        identity: The id of everything there is; the kinds have paths of their own.
    """

    def __init__(self, identity: str) -> None:
        self._id = identity
        self._lines: list[bytes] = []
        self._lock = threading.Lock()
        self._created = False

    def __call__(self, request: Request) -> Reply:
        """Answer a call."""
        with self._lock:
            parts = [unquote(part) for part in request.path.split("/")[1:]]
            match request.method, parts:
                case "POST", ["files"]:
                    lines = request.body.splitlines()
                    self._lines = [line for line in lines if line.startswith(b'{"custom_id"')]
                    return Reply(200, file_body(id=self._id))
                case "GET", ["files", _, "content"]:
                    return Reply(200, b"\n".join(map(self._answer, self._lines)))
                case _, ["files", *_]:
                    return Reply(200, file_body(id=self._id))
                case "POST", ["batches"]:
                    self._created = True
                    return Reply(200, self._batch("validating"))
                case "GET", ["batches"]:
                    listed = [self._batch("completed")] if self._created else []
                    return Reply(200, {"data": listed, "has_more": False})
                case _, ["batches", *_]:
                    return Reply(200, self._batch("completed"))
            return Reply(404, {"error": {"message": "no such path"}})

    def _batch(self, status: str) -> dict[str, Any]:
        ids = {"input_file_id": self._id, "output_file_id": self._id}
        return batch_body(id=self._id, status=status, **ids)

    def _answer(self, line: bytes) -> bytes:
        message = {"role": "assistant", "content": json.dumps({"summary": "fine"})}
        body = {"choices": [{"message": message, "finish_reason": "stop"}], "model": self._id}
        custom_id = json.loads(line)["custom_id"]
        return json.dumps(
            {"custom_id": custom_id, "response": {"status_code": 200, "body": body}}
        ).encode()


@pytest.mark.parametrize("name", IDS)
def test_ids_that_a_service_returns(name: str, tmp_path: Path) -> None:
    """An id is text to us: it names no path here, and is sent back as it came."""
    with serving(Hostile(name)) as server:
        warehouse = warehouse_at(server.url, tmp_path, max_retries=0)
        warehouse.enrich(NOTES, await_timeout=20.0)
    assert warehouse.rows(
        "select distinct enrichment_status, enrichment_batch_id from enriched"
    ) == [("done", name)]
    assert_unharmed(warehouse, tmp_path)


@pytest.mark.parametrize("name", NO_IDS)
def test_what_a_service_returns_and_is_no_id(name: str, tmp_path: Path) -> None:
    """What no address or no text can hold is one named error."""
    with serving(Hostile(name)) as server:
        warehouse = warehouse_at(server.url, tmp_path, max_retries=0)
        with pytest.raises(ServiceError, match="answered something else than was expected"):
            warehouse.enrich(NOTES, await_timeout=20.0)
    assert_unharmed(warehouse, tmp_path)


@pytest.mark.parametrize("name", ["..", "../..", "/etc", "a'b", "x\n", "x" * 300])
@pytest.mark.parametrize("key", ["namespace", "task_key", "shard"])
def test_marks_that_a_service_returns(key: str, name: str, tmp_path: Path) -> None:
    """A batch that claims to be ours by such a name is nobody's."""
    mark = {"dbt_enrich": "1", "namespace": "tests", "task_key": "0" * 32}
    mark |= {"shard": "00000000-0000000000000000", key: name}
    batch = batch_body(id="batch_0", status="completed", output_file_id="o", metadata=mark)

    def respond(request: Request) -> Reply:
        if request.call == "GET /batches":
            return Reply(200, {"data": [batch], "has_more": False})
        return Reply(404, {"error": {"message": "no such path"}})

    with serving(respond) as server:
        warehouse = warehouse_at(server.url, tmp_path, max_retries=0)
        warehouse.enrich(NOTES, mode="collect")
        assert [request.call for request in server.requests] == ["GET /batches"]
    assert warehouse.statuses() == {"pending": 3}
    assert_unharmed(warehouse, tmp_path)


@pytest.mark.parametrize("name", ["it's", 'a"b', "a;b --", "a b", "[ab]", "*", "a?", "%41", "é"])
def test_a_state_directory(name: str, emulator: RunningEmulator, tmp_path: Path) -> None:
    """What is a pattern to DuckDB and a quote to SQL is a name to the disk."""
    (tmp_path / "a").mkdir()
    warehouse = Warehouse(config_for(emulator.url, emulator.api_key, tmp_path / name / "state"))
    warehouse.enrich(NOTES)
    warehouse.restart()
    assert "3 reused" in warehouse.enrich(NOTES).summary
    assert list((tmp_path / name / "state" / "answers").iterdir())


def test_aliases_in_dbt(emulator: RunningEmulator, tmp_path: Path) -> None:
    """As far as dbt itself takes them: it knows no quote and no line break in a name."""
    project = DbtProject(
        tmp_path,
        {"provider": "azure", "endpoint": emulator.url, "api_key": emulator.api_key}
        | {"poll_interval": 0.1},
        threads=1,
    )
    aliases = [n for n in NAMES if '"' not in n and "\n" not in n and len(n) < 100]
    for number, alias in enumerate(aliases):
        project.enrichment(
            f"model_{number}",
            NOTES,
            config=f"unique_key = 'id', alias = {json.dumps(alias, ensure_ascii=False)}",
        )
    project.dbt("run")
    for alias in aliases:
        assert project.rows(f"select count(summary) from {identifier(alias)}") == [(3,)]
    outside = {path.relative_to(tmp_path).parts[0] for path in files_below(tmp_path)}
    assert outside == {"emulator", "notes.duckdb", "project", "state"}

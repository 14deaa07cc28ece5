"""Every fault of the service by name, against the whole engine: all rows right, each paid once."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from batch_server.faults.reply_shapes import SHAPES
from batch_server.faults.rules import BREAKING, SPOILING
from batch_server.responders.scripted import FAULTS
from batch_server.server import RunningEmulator, running_emulator
from dbt_enrich.config import PluginConfig
from dbt_enrich.console.console import Console
from dbt_enrich.errors import EnrichmentError, UnreadableReplyError
from dbt_enrich.pipeline.cancel import cancel
from dbt_enrich.pipeline.export.in_flight import in_flight_sql
from dbt_enrich.pipeline.rounds import Exchange
from dbt_enrich.pipeline.wait import wait_for_batches
from dbt_enrich.services import openai as openai_module
from support.clock import HastyClock
from support.waiting import wait_until
from support.warehouse import Warehouse, config_for

ROWS = 12
NOTES = f"select i as id, 'note ' || i as note from range({ROWS}) as numbers(i)"
OPERATIONS = (
    "POST /files",
    "GET /files/",
    "POST /batches",
    "GET /batches/",
    "GET /batches",
)
# What becomes of a request whose first answer has the fault: its kind, and whether that first
# answer was paid for. None: the answer is read all the same.
OUTCOMES: dict[str, tuple[str, bool] | None] = {
    "missing": ("missing", True),
    "duplicate": None,
    "broken_line": ("invalid_json", True),
    "unknown_id": None,
    "null_id": ("missing", True),
    "empty_id": ("missing", True),
    "status_zero": ("provider_error", True),
    "wrong_shape": ("schema_mismatch", True),
    "extra_keys": ("schema_mismatch", True),
    "code_fence": None,
    "prose": None,
    "broken_json": ("invalid_json", True),
    "content_filter_prompt": ("content_filter", False),
    "content_filter_answer": ("content_filter", True),
    "refusal": ("refusal", True),
    "truncated": ("truncated", True),
    "null_content": ("invalid_json", True),
    "no_choices": ("invalid_json", True),
    "no_usage": None,
}
NEVER_AGAIN = ("content_filter", "refusal")


@pytest.fixture
def emulator(tmp_path: Path) -> Iterator[RunningEmulator]:
    """An emulator."""
    with running_emulator(tmp_path / "emulator") as running:
        yield running


def warehouse_for(emulator: RunningEmulator, tmp_path: Path, **changes: Any) -> Warehouse:
    """A warehouse of three batches, whose connections are given up soon."""
    given = {"max_requests_per_file": 4, "timeout": 1.0, **changes}
    config = config_for(emulator.url, emulator.api_key, tmp_path / "state", **given)
    return Warehouse(config, clock=HastyClock())


def answered(emulator: RunningEmulator, tmp_path: Path, **changes: Any) -> Warehouse:
    """A warehouse whose batches have ended at the service, which nobody has seen yet."""
    warehouse = warehouse_for(emulator, tmp_path, **changes)
    warehouse.enrich(NOTES, mode="submit")
    emulator.settle()
    return warehouse


def assert_all_right(warehouse: Warehouse, emulator: RunningEmulator) -> None:
    """Every row has its own answer, and each request was answered once."""
    assert warehouse.rows("select id, summary from enriched order by id") == [
        (i, f"summary: note {i}") for i in range(ROWS)
    ]
    paid = emulator.account()["paid"]
    assert len(paid) == ROWS
    assert set(paid.values()) == {1}


def enrich_until_done(warehouse: Warehouse) -> None:
    """Run, and run again after an error, as an orchestrator does."""
    for _ in range(3):
        try:
            warehouse.enrich(NOTES)
        except EnrichmentError as error:
            warehouse.log.append(str(error))
            warehouse.restart()
            continue
        if warehouse.statuses() == {"done": ROWS}:
            return


@pytest.mark.parametrize("shape", SHAPES)
def test_odd_shapes_of_replies_mean_the_same(
    emulator: RunningEmulator, tmp_path: Path, shape: str
) -> None:
    """In every reply of the service."""
    emulator.faults({"name": shape, "times": None})
    warehouse = warehouse_for(emulator, tmp_path)
    warehouse.enrich(NOTES)
    assert emulator.account()["faults"][shape] > 0
    assert_all_right(warehouse, emulator)


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("fault", [name for name in (*BREAKING, *SPOILING) if name != "status"])
def test_a_broken_call_costs_nothing(
    emulator: RunningEmulator, tmp_path: Path, fault: str, operation: str
) -> None:
    """Whichever call it is: the first of its kind breaks, and later ones work."""
    emulator.faults({"name": fault, "operation": operation, "delay": 0.01})
    warehouse = warehouse_for(emulator, tmp_path)
    enrich_until_done(warehouse)
    assert emulator.account()["faults"] == {fault: 1}
    assert_all_right(warehouse, emulator)


@pytest.mark.parametrize(
    ("status", "operation"),
    [
        *((status, operation) for status in (429, 503) for operation in OPERATIONS),
        *((status, "POST /batches") for status in (408, 409, 500)),
    ],
)
def test_an_error_status_costs_nothing(
    emulator: RunningEmulator, tmp_path: Path, status: int, operation: str
) -> None:
    """With and without a Retry-After."""
    emulator.faults(
        {"name": "status", "status": status, "operation": operation},
        {"name": "status", "status": status, "operation": operation, "retry_after": "0"},
    )
    warehouse = warehouse_for(emulator, tmp_path)
    enrich_until_done(warehouse)
    assert emulator.account()["faults"] == {"status": 2}
    assert_all_right(warehouse, emulator)


def test_faults_together(emulator: RunningEmulator, tmp_path: Path) -> None:
    """By chance, on any call, in odd shapes, with lost replies among them."""
    emulator.seed(11)
    chance = {"probability": 0.15, "times": None}
    emulator.faults(
        *({"name": shape, **chance} for shape in SHAPES),
        {"name": "lost_reply", "operation": "POST /", **chance},
        {"name": "reset", **chance},
        {"name": "status", "status": 429, "retry_after": "0", **chance},
        {"name": "truncated", "operation": "GET /files/", **chance},
    )
    warehouse = warehouse_for(emulator, tmp_path)
    for _ in range(20):
        enrich_until_done(warehouse)
        if warehouse.log and warehouse.log[-1].count("0 sent"):
            break
    assert_all_right(warehouse, emulator)


def test_faults_and_rules_know_each_other() -> None:
    """A fault that the emulator learns cannot be left out here."""
    assert set(OUTCOMES) == set(FAULTS)


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_of_an_answer_has_its_outcome(
    emulator: RunningEmulator, tmp_path: Path, fault: str
) -> None:
    """Read all the same, or named, kept in the errors table, and asked again by its rule."""
    outcome = OUTCOMES[fault]
    emulator.rules([{"match": "note 3", "times": 1, "fault": fault}])
    warehouse = warehouse_for(emulator, tmp_path)
    warehouse.enrich(NOTES)
    errors = warehouse.rows("select id, attempt, kind from enriched__errors")
    if outcome is None:
        assert errors == []
        assert_all_right(warehouse, emulator)
        return
    kind, is_paid = outcome
    assert errors == [(3, 1, kind)]
    again = 0 if kind in NEVER_AGAIN or fault == "truncated" else 1
    assert warehouse.statuses() == ({"done": ROWS} if again else {"done": ROWS - 1, "failed": 1})
    times = sorted(emulator.account()["request_keys"].values())
    assert times == [1] * (ROWS - 1) + [1 + again]
    assert sum(emulator.account()["paid"].values()) == ROWS - 1 + int(is_paid) + again


@pytest.mark.parametrize("kind", NEVER_AGAIN)
def test_filtered_and_refused_rows_are_asked_again_where_told(
    emulator: RunningEmulator, tmp_path: Path, kind: str
) -> None:
    """By `ask_again`, up to max_attempts."""
    fault = {"content_filter": "content_filter_prompt"}.get(kind, kind)
    emulator.rules([{"match": "note 3", "times": 1, "fault": fault}])
    warehouse = warehouse_for(emulator, tmp_path)
    warehouse.enrich(NOTES, ask_again=[kind])
    assert warehouse.statuses() == {"done": ROWS}


def test_a_batch_of_errors_only_is_asked_again(emulator: RunningEmulator, tmp_path: Path) -> None:
    """It is `completed`, has no output file, and nothing of it was paid."""
    emulator.endings({"only_errors": True, "times": 1})
    warehouse = warehouse_for(emulator, tmp_path)
    warehouse.enrich(NOTES)
    assert_all_right(warehouse, emulator)
    kinds = warehouse.rows("select distinct kind from enriched__errors")
    assert kinds == [("provider_error",)]


@pytest.mark.parametrize("status", ["expired", "cancelled"])
def test_a_batch_that_ends_early_keeps_what_was_done(
    emulator: RunningEmulator, tmp_path: Path, status: str
) -> None:
    """Only the rest is asked again."""
    emulator.endings({"status": status, "after": 2, "times": 2})
    warehouse = warehouse_for(emulator, tmp_path)
    warehouse.enrich(NOTES)
    assert_all_right(warehouse, emulator)
    assert warehouse.rows(f"select count(*) from enriched__errors where kind = '{status}'") == [
        (4,)
    ]


def test_a_batch_that_vanished_is_asked_again_by_the_next_run(
    emulator: RunningEmulator, tmp_path: Path
) -> None:
    """Once neither the call nor the list knows it; the run that finds it out only says so."""
    emulator.pause()
    warehouse = warehouse_for(emulator, tmp_path)
    warehouse.enrich(NOTES, mode="submit")
    emulator.forget(emulator.jobs.batches()[0]["id"])
    emulator.resume()
    warehouse.enrich(NOTES)
    assert warehouse.statuses() == {"done": ROWS - 4, "failed": 4}
    ((kind, message),) = warehouse.rows("select distinct kind, message from enriched__errors")
    assert (kind, "no longer has the batch" in message) == ("file_lost", True)
    assert any("the next one does" in text for text in warehouse.log)
    warehouse.restart()
    warehouse.enrich(NOTES)
    assert warehouse.statuses() == {"done": ROWS}


@pytest.mark.parametrize("mode", ["run", "submit"])
def test_rows_of_an_output_file_that_vanished_are_not_paid_again_in_the_same_run(
    mode: str, emulator: RunningEmulator, tmp_path: Path
) -> None:
    """They fail by name; the next run asks them again, and no other row, up to `max_attempts`."""
    warehouse = answered(emulator, tmp_path)
    file_id = emulator.jobs.batches()[0]["output_file_id"]
    emulator.forget_file(file_id)
    warehouse.enrich(NOTES, mode=mode)
    assert warehouse.statuses() == {"done": ROWS - 4, "failed": 4}
    assert set(emulator.account()["paid"].values()) == {1}
    (error,) = warehouse.rows(
        "select distinct enrichment_error from enriched where summary is null"
    )
    assert error[0].startswith("file_lost: the service no longer has the output file " + file_id)
    assert any(file_id in text and "the next one does" in text for text in warehouse.log)
    # Another model of the same dbt run asks the same.
    warehouse.enrich(NOTES, table="other")
    assert warehouse.statuses("other") == {"done": ROWS - 4, "failed": 4}
    assert set(emulator.account()["paid"].values()) == {1}
    warehouse.restart()
    warehouse.enrich(NOTES, max_attempts=1)
    assert warehouse.statuses() == {"done": ROWS - 4, "failed": 4}
    warehouse.enrich(NOTES)
    assert warehouse.statuses() == {"done": ROWS}
    assert sorted(emulator.account()["paid"].values()) == [1] * 8 + [2] * 4


def test_an_outage_is_ridden_out(emulator: RunningEmulator, tmp_path: Path) -> None:
    """Connections are refused for a while, in the middle of a run."""
    emulator.pause()
    warehouse = warehouse_for(emulator, tmp_path, max_retries=0)
    run = threading.Thread(target=warehouse.enrich, args=(NOTES,))
    run.start()
    wait_until(lambda: len(emulator.jobs.batches()) == 3)
    with emulator.outage():
        wait_until(lambda: any("connection refused" in line for line in warehouse.log))
        assert run.is_alive()
    emulator.resume()
    run.join(timeout=600)
    assert_all_right(warehouse, emulator)


def test_a_proxy_s_page_for_a_moment_is_ridden_out(
    emulator: RunningEmulator, tmp_path: Path
) -> None:
    """Something else answered while the service was away; it is back soon."""
    emulator.faults({"name": "garbage", "operation": "GET /batches/", "times": 3})
    warehouse = warehouse_for(emulator, tmp_path)
    warehouse.enrich(NOTES)
    assert_all_right(warehouse, emulator)


def test_a_proxy_s_page_in_place_of_answers_is_not_the_answers(
    emulator: RunningEmulator, tmp_path: Path
) -> None:
    """The rows that it hides are not paid for again."""
    warehouse = answered(emulator, tmp_path)
    output = next(b["output_file_id"] for b in emulator.jobs.batches() if b["output_file_id"])
    emulator.faults({"name": "garbage", "operation": f"GET /files/{output}", "times": 2})
    warehouse.enrich(NOTES)
    assert_all_right(warehouse, emulator)


def test_a_proxy_s_page_in_place_of_requests_hides_no_batch(
    emulator: RunningEmulator, tmp_path: Path
) -> None:
    """A batch that is adopted is adopted with all its requests, or not at all."""
    answered(emulator, tmp_path)
    shutil.rmtree(tmp_path / "state")
    emulator.faults({"name": "garbage", "operation": "GET /files/file-", "times": 1})
    afresh = warehouse_for(emulator, tmp_path)
    afresh.enrich(NOTES)
    assert_all_right(afresh, emulator)


def test_an_answer_file_that_is_not_found_yet_is_waited_for(
    emulator: RunningEmulator, tmp_path: Path
) -> None:
    """Within the grace; its rows are not paid for again."""
    warehouse = answered(emulator, tmp_path, max_requests_per_file=ROWS, adoption_grace=None)
    emulator.faults({"name": "status", "operation": "GET /files", "status": 404, "times": 6})
    warehouse.enrich(NOTES)
    assert emulator.account()["faults"]["status"] == 6
    assert_all_right(warehouse, emulator)


@pytest.mark.parametrize("grace", [0.0, None])
def test_collect_creates_no_batch(
    emulator: RunningEmulator, tmp_path: Path, grace: float | None
) -> None:
    """Of a creation that got no reply, and had no effect; a later run creates it once."""
    emulator.faults({"name": "reset", "operation": "POST /batches", "times": 3})
    warehouse = warehouse_for(emulator, tmp_path, adoption_grace=grace)
    warehouse.enrich(NOTES, mode="submit")
    warehouse.restart()
    warehouse.enrich(NOTES, mode="collect")
    assert emulator.jobs.batches() == []
    assert warehouse.statuses() == {"pending": ROWS}
    later = warehouse_for(emulator, tmp_path)
    later.enrich(NOTES)
    assert_all_right(later, emulator)


def test_an_answer_file_that_one_call_does_not_find_is_asked_for_again(
    emulator: RunningEmulator, tmp_path: Path
) -> None:
    """One call is not enough to pay for its rows again."""
    warehouse = answered(emulator, tmp_path)
    output = next(b["output_file_id"] for b in emulator.jobs.batches() if b["output_file_id"])
    emulator.faults(
        {"name": "status", "operation": f"GET /files/{output}", "status": 404, "times": 1}
    )
    warehouse.enrich(NOTES)
    assert_all_right(warehouse, emulator)


def test_a_batch_that_found_no_room_is_not_taken_for_the_next_one(
    emulator: RunningEmulator, tmp_path: Path
) -> None:
    """Where the reply to the next creation is lost before the batch is listed."""
    emulator.endings({"failed": "token_limit_exceeded", "times": 1})
    emulator.faults({"name": "lost_reply", "operation": "POST /batches", "call": 2})
    warehouse = warehouse_for(emulator, tmp_path)
    warehouse.enrich(NOTES)
    assert_all_right(warehouse, emulator)


def _wait(config: PluginConfig) -> None:
    wait_for_batches(
        config, "tests", models=(), timeout=60, console=Console(print), cancelled=threading.Event()
    )


def _cancel(config: PluginConfig) -> None:
    cancel(config, "tests", models=(), wait=60, console=Console(print))


def test_another_process_stores_a_batch_while_a_table_is_published(
    emulator: RunningEmulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whose requests were in flight a moment before."""
    warehouse = warehouse_for(emulator, tmp_path)
    warehouse.enrich(NOTES, mode="submit")
    listed = in_flight_sql

    def stored_meanwhile(*arguments: Any) -> str:
        in_flight = listed(*arguments)
        _wait(warehouse.config)
        return in_flight

    monkeypatch.setattr("dbt_enrich.pipeline.publish.results.in_flight_sql", stored_meanwhile)
    monkeypatch.setattr(Exchange, "carry_out", lambda *_: None)
    warehouse.enrich(NOTES, mode="submit")
    assert_all_right(warehouse, emulator)


def test_files_are_waited_for_where_nothing_is_counted(
    emulator: RunningEmulator, tmp_path: Path
) -> None:
    """A completed batch has answers, whatever it does not say of them."""
    warehouse = answered(emulator, tmp_path, max_requests_per_file=ROWS, adoption_grace=None)
    emulator.faults(
        {"name": "null_counts", "operation": "GET /batches", "times": None},
        {"name": "late_files", "operation": "GET /batches", "times": 4},
    )
    warehouse.enrich(NOTES)
    assert_all_right(warehouse, emulator)


@pytest.mark.parametrize("command", [_wait, _cancel, None], ids=["wait", "cancel", "run"])
def test_a_batch_that_is_listed_late_is_not_created_again(
    emulator: RunningEmulator, tmp_path: Path, command: Callable[[PluginConfig], None] | None
) -> None:
    """By whichever command comes after the reply was lost, with the grace that is usual."""
    emulator.faults(
        {"name": "lost_reply", "operation": "POST /batches"},
        {"name": "late_list", "operation": "GET /batches", "times": 6},
    )
    warehouse = warehouse_for(emulator, tmp_path, max_requests_per_file=ROWS, adoption_grace=None)
    warehouse.enrich(NOTES, mode="submit")
    if command:
        command(warehouse.config)
    warehouse.restart()
    warehouse.enrich(NOTES)
    assert len(emulator.jobs.batches()) == 1
    assert_all_right(warehouse, emulator)


def test_a_new_batch_that_is_not_found_yet_is_waited_for(
    emulator: RunningEmulator, tmp_path: Path
) -> None:
    """Neither by its id nor in the list; its rows are not paid for again."""
    emulator.faults(
        {"name": "status", "operation": "GET /batches/", "status": 404, "times": 3},
        {"name": "late_list", "operation": "GET /batches", "times": None},
    )
    warehouse = warehouse_for(emulator, tmp_path, max_requests_per_file=ROWS, adoption_grace=None)
    warehouse.enrich(NOTES)
    assert emulator.account()["faults"]["status"] == 3
    assert len(emulator.jobs.batches()) == 1
    assert_all_right(warehouse, emulator)


def test_the_files_of_a_batch_are_waited_for(emulator: RunningEmulator, tmp_path: Path) -> None:
    """Where it has ended and counts answers; its rows are not paid for again."""
    warehouse = answered(emulator, tmp_path, max_requests_per_file=ROWS, adoption_grace=None)
    emulator.faults({"name": "late_files", "operation": "GET /batches", "times": 5})
    warehouse.enrich(NOTES)
    assert emulator.account()["faults"]["late_files"] == 5
    assert_all_right(warehouse, emulator)


def test_files_that_never_come_are_not_waited_for_for_ever(
    emulator: RunningEmulator, tmp_path: Path
) -> None:
    """The rows fail by name, and the next run asks them again."""
    warehouse = answered(emulator, tmp_path, max_requests_per_file=ROWS, adoption_grace=60)
    emulator.faults({"name": "late_files", "operation": "GET /batches", "times": None})
    warehouse.enrich(NOTES, mode="collect")
    assert warehouse.statuses() == {"pending": ROWS}
    assert isinstance(warehouse.clock, HastyClock)
    warehouse.clock.advance(60)
    warehouse.enrich(NOTES, mode="collect")
    assert warehouse.statuses() == {"failed": ROWS}
    assert warehouse.rows("select distinct kind from enriched__errors") == [("file_lost",)]
    emulator.faults()
    warehouse.restart()
    warehouse.enrich(NOTES)
    assert warehouse.statuses() == {"done": ROWS}


def test_a_proxy_s_page_for_good_ends_the_run(emulator: RunningEmulator, tmp_path: Path) -> None:
    """By name, and the next run collects what was submitted."""
    emulator.faults({"name": "garbage", "operation": "GET /batches/", "times": None})
    warehouse = warehouse_for(emulator, tmp_path)
    with pytest.raises(UnreadableReplyError, match="address of a Batch API"):
        warehouse.enrich(NOTES)
    emulator.faults()
    warehouse.enrich(NOTES)
    assert_all_right(warehouse, emulator)


def test_rate_limits_are_kept(emulator: RunningEmulator, tmp_path: Path) -> None:
    """The engine waits as it is told, and loses nothing."""
    emulator.limits({"operation": "POST /batches", "calls": 1, "seconds": 1})
    warehouse = warehouse_for(emulator, tmp_path)
    warehouse.enrich(NOTES)
    assert 429 in [call["status"] for call in emulator.account()["calls"]]
    assert_all_right(warehouse, emulator)


def test_the_page_size_hides_no_batch(
    emulator: RunningEmulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Adoption reads every page of the list."""
    monkeypatch.setattr(openai_module, "_PAGE_SIZE", 2)
    answered(emulator, tmp_path, max_requests_per_file=1)
    elsewhere = warehouse_for(emulator, tmp_path / "elsewhere", max_requests_per_file=1)
    elsewhere.enrich(NOTES)
    assert_all_right(elsewhere, emulator)

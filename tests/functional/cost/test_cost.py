"""Caps, plans and changed tasks: what is sent, what is kept, and what is said before."""

from __future__ import annotations

import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from batch_server.server import RunningEmulator
from dbt_enrich.console.console import Console
from dbt_enrich.cost.caps import Cap, Caps
from dbt_enrich.environment import RUN_BEGAN_VARIABLE
from dbt_enrich.errors import CapError, ConfigurationError, EnrichmentError, TaskChangedError
from dbt_enrich.pipeline.planning.task_versions import worth_of
from dbt_enrich.pipeline.wait import wait_for_batches
from dbt_enrich.state.ledger import Ledger
from dbt_enrich.state.run import open_run
from dbt_enrich.task.schema import OutputColumn
from support.warehouse import SUMMARY, Warehouse, config_for, summary_task

NOTES = "select i as id, 'note ' || i as note from range(8) as numbers(i)"
CHANGED = summary_task(system="Summarise the note in one sentence.")


def warehouse_for(emulator: RunningEmulator, tmp_path: Path, **changes: Any) -> Warehouse:
    """A warehouse whose Azure resource is the emulator."""
    return Warehouse(config_for(emulator.url, emulator.api_key, tmp_path / "state", **changes))


def sent(emulator: RunningEmulator) -> int:
    """How many requests were answered."""
    return sum(emulator.account()["request_keys"].values())


@pytest.mark.parametrize(
    ("caps", "options", "said"),
    [
        ({"run": {"max_requests": 7}}, {}, "caps.run"),
        ({"run": {"max_tokens": 10}}, {}, "max_tokens"),
        ({"day": {"max_cost": 0.0}}, {}, "caps.day"),
        ({}, {"max_requests": 7}, "the model's meta.enrichment"),
        ({}, {"max_cost": 0.00001}, "USD 0.00"),
    ],
)
def test_past_a_cap_nothing_is_sent(
    emulator: RunningEmulator,
    tmp_path: Path,
    caps: dict[str, Any],
    options: dict[str, Any],
    said: str,
) -> None:
    """The message says what it would have cost and where to allow it."""
    warehouse = warehouse_for(emulator, tmp_path, caps=caps)
    with pytest.raises(CapError, match=said) as caught:
        warehouse.enrich(NOTES, **options)
    assert "8 requests of about" in str(caught.value)
    assert sent(emulator) == 0
    assert not emulator.jobs.batches()


def test_a_wrong_price_is_named_before_anything_is_sent(
    emulator: RunningEmulator, tmp_path: Path
) -> None:
    """Also where no cap reckons with it."""
    warehouse = warehouse_for(emulator, tmp_path, prices={"gpt-4o-mini": {"inpt": 1, "output": 2}})
    with pytest.raises(ConfigurationError, match="unknown key 'inpt'.*'input'"):
        warehouse.enrich(NOTES)
    assert emulator.account()["calls"] == []


def test_what_stood_over_counts_on_the_day_on_which_it_is_sent(
    emulator: RunningEmulator, tmp_path: Path
) -> None:
    """It was claimed yesterday, and found no room."""
    warehouse = warehouse_for(
        emulator,
        tmp_path,
        max_requests_per_file=2,
        max_enqueued_tokens=400,
        caps={"day": {"max_requests": 8}},
    )
    emulator.pause()
    warehouse.enrich(NOTES, mode="submit")
    with closing(sqlite3.connect(warehouse.config.state_dir / "ledger.sqlite")) as ledger:
        ledger.execute("update batches set created_at = '2020' || substr(created_at, 5)")
        ledger.commit()
    emulator.resume()
    emulator.settle()
    unsent = 8 - sent(emulator)
    assert 0 < unsent < 8
    warehouse.restart()
    warehouse.enrich(NOTES)
    assert sent(emulator) == 8
    warehouse.restart()
    more = f"select i as id, 'more ' || i as note from range({9 - unsent}) as numbers(i)"
    with pytest.raises(CapError, match="caps.day"):
        warehouse.enrich(more, table="other")
    assert sent(emulator) == 8


def test_within_its_caps_a_run_goes_on(emulator: RunningEmulator, tmp_path: Path) -> None:
    """And what is answered already counts for nothing."""
    warehouse = warehouse_for(emulator, tmp_path, caps={"run": {"max_requests": 8}})
    warehouse.enrich(NOTES)
    warehouse.enrich(NOTES)
    assert warehouse.statuses() == {"done": 8}
    with pytest.raises(CapError, match="8 of it sent before"):
        warehouse.enrich(f"{NOTES} union all select 99, 'another'")


def test_a_day_s_cap_counts_what_other_runs_sent(emulator: RunningEmulator, tmp_path: Path) -> None:
    """Over all runs of the state directory, by the ledger."""
    warehouse = warehouse_for(emulator, tmp_path, caps={"day": {"max_requests": 10}})
    warehouse.enrich(NOTES)
    warehouse.restart()
    with pytest.raises(CapError, match=r"caps\.day"):
        warehouse.enrich("select i as id, 'new ' || i as note from range(3) as numbers(i)")
    warehouse.enrich("select i as id, 'new ' || i as note from range(2) as numbers(i)")


def test_what_is_in_flight_counts_for_the_day(emulator: RunningEmulator, tmp_path: Path) -> None:
    """As it was estimated, until the service has counted its tokens."""
    warehouse = warehouse_for(emulator, tmp_path, caps={"day": {"max_tokens": 1_000_000}})
    emulator.pause()
    warehouse.enrich(NOTES, mode="submit")
    with Ledger(tmp_path / "state" / "ledger.sqlite") as ledger:
        (shard,) = ledger.shards.all()
    assert shard.prompt_tokens is None
    expected = (shard.estimated_prompt_tokens or 0) + (shard.estimated_completion_tokens or 0)
    assert expected > 0
    warehouse.restart(warehouse.config.model_copy(update={"caps": _day(max_tokens=expected + 1)}))
    with pytest.raises(CapError, match=f"max_tokens to .*{expected:,} of it sent before"):
        warehouse.enrich("select 99 as id, 'another' as note", table="others", mode="submit")
    assert len(emulator.jobs.batches()) == 1


def test_claims_of_a_dead_run_count_for_no_cap(emulator: RunningEmulator, tmp_path: Path) -> None:
    """What it never sent is what the next run sends, once."""
    warehouse = warehouse_for(emulator, tmp_path, caps={"day": {"max_requests": 8}})
    emulator.faults({"name": "status", "status": 400, "operation": "POST /files"})
    with pytest.raises(EnrichmentError):
        warehouse.enrich(NOTES)
    warehouse.restart()
    warehouse.enrich(NOTES)
    assert warehouse.statuses() == {"done": 8}
    assert sent(emulator) == 8


def test_runs_side_by_side_do_not_pass_a_cap_together(
    emulator: RunningEmulator, tmp_path: Path
) -> None:
    """Of two that fit only alone, one is refused."""
    emulator.pause()
    caps = {"day": {"max_requests": 12}}
    warehouses = [warehouse_for(emulator, tmp_path, caps=caps) for _ in range(2)]

    def enrich(number: int) -> str:
        select = f"select i as id, '{number} ' || i as note from range(8) as numbers(i)"
        try:
            warehouses[number].enrich(select, table=f"notes_{number}", mode="submit")
        except CapError:
            return "refused"
        return "sent"

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(enrich, range(2))) == ["refused", "sent"]
    assert len(emulator.jobs.batches()) == 1


def test_models_of_one_run_share_its_cap(emulator: RunningEmulator, tmp_path: Path) -> None:
    """Those of several dbt threads too; what equal rows of another model took is given back."""
    warehouse = warehouse_for(emulator, tmp_path, caps={"run": {"max_requests": 10}})
    warehouse.enrich(NOTES)
    warehouse.enrich(NOTES, table="others")
    with pytest.raises(CapError, match=r"8 of it sent before.*caps\.run"):
        warehouse.enrich("select i as id, 'n' || i as note from range(3) as numbers(i)")
    warehouse.enrich("select i as id, 'n' || i as note from range(2) as numbers(i)")
    assert sent(emulator) == 10


def test_a_command_of_several_dbt_runs_has_one_cap(
    emulator: RunningEmulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What its earlier ones sent counts; what was sent before it began does not."""
    caps = {"run": {"max_requests": 10}}
    warehouse_for(emulator, tmp_path, caps=caps).enrich("select 99 as id, 'before' as note")
    monkeypatch.setenv(RUN_BEGAN_VARIABLE, datetime.now(UTC).isoformat())
    warehouse_for(emulator, tmp_path, caps=caps).enrich(NOTES)
    later = warehouse_for(emulator, tmp_path, caps=caps)
    with pytest.raises(CapError, match=r"8 of it sent before.*caps\.run"):
        later.enrich("select i as id, 'n' || i as note from range(3) as numbers(i)")
    with pytest.raises(CapError, match=r"meta\.enrichment"):
        later.enrich("select 100 as id, 'one' as note", max_requests=8)
    later.enrich("select i as id, 'n' || i as note from range(2) as numbers(i)")
    assert sent(emulator) == 11


def test_a_cap_counts_packs(emulator: RunningEmulator, tmp_path: Path) -> None:
    """A request is what the service counts, however many rows it asks."""
    warehouse = warehouse_for(emulator, tmp_path, caps={"day": {"max_requests": 2}})
    warehouse.enrich(NOTES, rows_per_request=4)
    assert warehouse.statuses() == {"done": 8}
    with Ledger(tmp_path / "state" / "ledger.sqlite") as ledger:
        (shard,) = ledger.shards.all()
    assert (shard.requests, shard.row_count) == (2, 8)
    with pytest.raises(CapError, match="2 of it sent before"):
        warehouse.enrich("select 99 as id, 'another' as note", rows_per_request=4)


def test_the_worth_of_answers_is_of_those_that_are_held(
    emulator: RunningEmulator, tmp_path: Path
) -> None:
    """Not of those that were let go before."""
    warehouse = warehouse_for(emulator, tmp_path)
    worths = []
    for _ in range(2):
        warehouse.enrich(NOTES)
        with open_run(warehouse.config) as run:
            tasks = run.ledger.tasks.all()
            worths.append(worth_of(run, tasks, warehouse.config))
            for task in tasks:
                run.answers.forget(task.task_key)
    assert sent(emulator) == 16
    assert worths[0].answers == worths[1].answers == 8
    assert worths[0].worth.cost
    assert worths[0].worth.cost == pytest.approx(worths[1].worth.cost)


def _day(**limits: int) -> Caps:
    return Caps(day=Cap(**limits))


def test_rows_to_ask_again_past_a_cap_are_left(emulator: RunningEmulator, tmp_path: Path) -> None:
    """What was paid for is published; the message says what stopped."""
    emulator.rules([{"match": "note 3", "times": 1, "fault": "broken_json"}])
    warehouse = warehouse_for(emulator, tmp_path, caps={"run": {"max_requests": 8}})
    warehouse.enrich(NOTES)
    assert warehouse.statuses() == {"done": 7, "failed": 1}
    assert any("max_requests" in line for line in warehouse.log)
    warehouse.restart()
    warehouse.enrich(NOTES)
    assert warehouse.statuses() == {"done": 8}


def test_a_cap_on_cost_needs_a_price(emulator: RunningEmulator, tmp_path: Path) -> None:
    """An unknown one is not guessed."""
    warehouse = warehouse_for(emulator, tmp_path, caps={"run": {"max_cost": 5}})
    with pytest.raises(CapError, match="no price is known for the model 'mystery'"):
        warehouse.enrich(NOTES, summary_task(model="mystery"))
    assert not emulator.jobs.batches()


def test_a_plan_says_what_changed_and_what_it_costs(
    emulator: RunningEmulator, tmp_path: Path
) -> None:
    """Before anything is sent; changed rows are told from new ones."""
    warehouse = warehouse_for(emulator, tmp_path)
    warehouse.enrich(NOTES)
    before = sent(emulator)
    more = f"{NOTES} union all select 99, 'another'"
    outcome = warehouse.enrich(more, CHANGED, mode="plan")
    assert "0 answered before, 1 new, 8 changed" in outcome.summary
    assert "9 requests to send in 1 file" in outcome.summary
    assert "USD 0.00" in outcome.summary
    assert "changed: system text" in outcome.summary
    assert sent(emulator) == before


def test_on_task_change_error_sends_nothing(emulator: RunningEmulator, tmp_path: Path) -> None:
    """Until it is told what to do with the rows that are there."""
    warehouse = warehouse_for(emulator, tmp_path)
    warehouse.enrich(NOTES, on_task_change="error")
    with pytest.raises(TaskChangedError, match=r"the task changed \(system text\), and 8 requests"):
        warehouse.enrich(NOTES, CHANGED, on_task_change="error")
    assert sent(emulator) == 8
    warehouse.enrich(NOTES, CHANGED, on_task_change="all")
    assert sent(emulator) == 16
    warehouse.enrich(f"{NOTES} union all select 99, 'x'", CHANGED, on_task_change="error")
    assert sent(emulator) == 17


def test_new_rows_keeps_previous_answers_of_unchanged_rows(
    emulator: RunningEmulator, tmp_path: Path
) -> None:
    """As `done`, under the version that answered them; new and changed rows are asked."""
    warehouse = warehouse_for(emulator, tmp_path)
    warehouse.enrich(NOTES)
    (previous,) = warehouse.rows("select distinct enrichment_version from enriched")[0]
    rows = (
        f"select id, if(id = 3, 'edited', note) as note from ({NOTES}) "
        "union all select 99, 'another'"
    )
    for _ in range(2):
        warehouse.enrich(rows, CHANGED, on_task_change="new_rows")
        assert warehouse.statuses() == {"done": 9}
        assert sent(emulator) == 10
        assert warehouse.rows(
            f"select enrichment_version = '{previous}', count(*), min(id) from enriched "
            "group by 1 order by 1"
        ) == [(False, 2, 3), (True, 7, 0)]
        warehouse.restart()
    warehouse.enrich(rows, CHANGED)
    assert sent(emulator) == 17
    assert warehouse.rows(
        f"select count(*) from enriched where enrichment_version = '{previous}'"
    ) == [(0,)]


@pytest.mark.parametrize("rule", ["error", "new_rows"])
def test_a_task_that_another_model_asked_first_is_a_previous_one(
    emulator: RunningEmulator, tmp_path: Path, rule: str
) -> None:
    """As where a model is renamed, or two of them ask the same."""
    warehouse = warehouse_for(emulator, tmp_path)
    warehouse.enrich(NOTES, table="other")
    warehouse.enrich(NOTES)
    edited = summary_task(system="Edited.")
    if rule == "error":
        with pytest.raises(TaskChangedError, match="system text"):
            warehouse.enrich(NOTES, edited, on_task_change="error")
    else:
        warehouse.enrich(NOTES, edited, on_task_change="new_rows")
    assert sent(emulator) == 8


def test_a_task_that_changes_while_its_batches_are_in_flight(
    emulator: RunningEmulator, tmp_path: Path
) -> None:
    """Neither rule asks its rows again."""
    warehouse = warehouse_for(emulator, tmp_path)
    emulator.pause()
    warehouse.enrich(NOTES, mode="submit")
    edited = summary_task(system="Edited.")
    with pytest.raises(TaskChangedError, match="system text"):
        warehouse.enrich(NOTES, edited, mode="submit", on_task_change="error")
    with pytest.raises(TaskChangedError, match="dbt-enrich wait"):
        warehouse.enrich(NOTES, edited, mode="submit", on_task_change="new_rows")
    emulator.resume()
    wait_for_batches(
        warehouse.config,
        "tests",
        models=(),
        timeout=60,
        console=Console(print),
        cancelled=threading.Event(),
    )
    warehouse.enrich(NOTES, edited, on_task_change="new_rows")
    assert warehouse.statuses() == {"done": 8}
    assert sent(emulator) == 8


def test_new_rows_keeps_what_the_table_was_made_of(
    emulator: RunningEmulator, tmp_path: Path
) -> None:
    """Not what a version said that was tried since and given up."""
    warehouse = warehouse_for(emulator, tmp_path)
    warehouse.enrich(NOTES)
    first = warehouse.rows("select distinct enrichment_version from enriched")
    warehouse.enrich(NOTES, summary_task(system="Tried."))
    warehouse.enrich(NOTES)
    warehouse.enrich(NOTES, summary_task(system="Edited."), on_task_change="new_rows")
    assert warehouse.rows("select distinct enrichment_version from enriched") == first


def test_new_rows_holds_under_another_template(emulator: RunningEmulator, tmp_path: Path) -> None:
    """A previous answer stands while the columns that its own template names do."""
    warehouse = warehouse_for(emulator, tmp_path)
    warehouse.enrich(NOTES)
    warehouse.enrich(NOTES, summary_task(user="Note: {note}"), on_task_change="new_rows")
    assert sent(emulator) == 8
    edited = f"select id, note || '!' as note from ({NOTES})"
    warehouse.enrich(edited, summary_task(user="Note: {note}"), on_task_change="new_rows")
    assert sent(emulator) == 16


def test_new_rows_keeps_one_of_several_previous_answers(
    emulator: RunningEmulator, tmp_path: Path
) -> None:
    """To rows that are equal now, and differed in a column that only the earlier template has."""
    warehouse = warehouse_for(emulator, tmp_path)
    notes = "select i as id, 'kind ' || i % 4 as kind, 'note ' || i % 2 as note from range(8) t(i)"
    warehouse.enrich(notes, summary_task(user="{kind}: {note}"))
    assert sent(emulator) == 4
    warehouse.enrich(notes, summary_task(user="{note}"), on_task_change="new_rows")
    assert sent(emulator) == 4
    assert warehouse.statuses() == {"done": 8}
    assert warehouse.rows(
        "select note, count(*), count(distinct summary) from enriched group by note order by note"
    ) == [("note 0", 4, 1), ("note 1", 4, 1)]


def test_new_rows_asks_where_the_columns_changed(emulator: RunningEmulator, tmp_path: Path) -> None:
    """A previous answer cannot stand for columns that it does not have."""
    warehouse = warehouse_for(emulator, tmp_path)
    warehouse.enrich(NOTES)
    wider = summary_task(outputs=(SUMMARY, OutputColumn("mood", "enum('good', 'bad')")))
    warehouse.enrich(NOTES, wider, on_task_change="new_rows")
    assert sent(emulator) == 16
    assert warehouse.statuses() == {"done": 8}

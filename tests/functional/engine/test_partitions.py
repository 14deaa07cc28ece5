"""Rows that stay where they lie: workers write and read files, one process claims and sends."""

from __future__ import annotations

import json
import pickle
import shutil
import threading
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from batch_server.server import RunningEmulator
from dbt_enrich.errors import (
    CapError,
    ConfigurationError,
    EnrichmentError,
    FailedRowsError,
    LedgerError,
)
from dbt_enrich.pipeline.export import claim_files as claims
from dbt_enrich.pipeline.partitions.exchange import Jobs
from dbt_enrich.pipeline.partitions.job import Job
from dbt_enrich.state.directory import StateDirectory
from dbt_enrich.state.ledger import Ledger
from dbt_enrich.state.shared_files import SharedFiles
from dbt_enrich.task.options import Mode
from support.parted import PartedWarehouse
from support.shared import SharedState
from support.warehouse import Warehouse, config_for

# Equal texts, and two that are blank.
ROWS = 60
SELECT = (
    "select i as id, case i when 3 then null when 4 then ' ' else 'note ' || i % 50 end as note "
    f"from range({ROWS}) as numbers(i)"
)
TEXTS = 50
REFUSED = {
    "match": "note 47",
    "status": 400,
    "error": {"code": "content_filter", "message": "It is filtered"},
}
RESULTS = (
    "select id, note, summary, enrichment_status::varchar, enrichment_error, "
    "enrichment_key::varchar, enrichment_version from enriched order by id"
)


@pytest.fixture
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SharedState:
    """A bucket for all runs."""
    return SharedState(tmp_path / "bucket", monkeypatch)


@pytest.fixture
def parted(emulator: RunningEmulator, tmp_path: Path, shared: SharedState) -> PartedWarehouse:
    """Rows in parts, whose Azure resource is the emulator."""
    return PartedWarehouse(
        config_for(emulator.url, emulator.api_key, tmp_path / "state", max_requests_per_file=9)
    )


def paid(emulator: RunningEmulator) -> dict[str, int]:
    """How often each request was answered, by request_key."""
    return dict(emulator.account()["paid"])


def files_in(shared: SharedState, folder: str) -> list[str]:
    """The names of what a folder of the bucket holds."""
    return [found.key for found in shared.bucket.list(folder)]


def test_each_row_is_as_one_machine_has_it(
    parted: PartedWarehouse, emulator: RunningEmulator, shared: SharedState, tmp_path: Path
) -> None:
    """Every part is worked on twice, each request paid once, and no text stays in the bucket."""
    emulator.rules([REFUSED])
    rows = parted.rows_of(SELECT, parts=3, attempts=2)
    parted.enrich(rows)
    # A thread of a pool that all parts of a process share would wait there for the other parts.
    assert rows.threads == {threading.get_ident()}
    statuses = {"done": ROWS - 3, "failed": 1, "skipped": 2}
    assert parted.statuses() == statuses
    account = emulator.account()
    assert set(account["custom_ids"].values()) == {1}
    assert len(account["custom_ids"]) == TEXTS
    assert f"{TEXTS} sent" in parted.log[-1]
    assert files_in(shared, "requests") == files_in(shared, "responses") == []
    local = Warehouse(config_for(emulator.url, emulator.api_key, tmp_path / "state"))
    local.enrich(SELECT)
    assert f"{ROWS - 3:,} reused, 0 sent" in local.log[-1]
    assert parted.found(RESULTS) == local.rows(RESULTS)
    errors = "select id, kind, message, attempt from enriched__errors order by id"
    assert parted.found(errors) == local.rows(errors) != []


def test_what_one_machine_has_answered_is_not_asked_again(
    parted: PartedWarehouse,
    emulator: RunningEmulator,
    shared: SharedState,
    tmp_path: Path,
) -> None:
    """And a second run of the parts asks nothing either, but for what is new."""
    local = Warehouse(config_for(emulator.url, emulator.api_key, tmp_path / "state"))
    local.enrich(f"select * from ({SELECT}) where id < 20")
    parted.enrich(parted.rows_of(SELECT, parts=3))
    assert parted.statuses() == {"done": ROWS - 2, "skipped": 2}
    parted.enrich(parted.rows_of(SELECT, parts=2))
    assert f"{ROWS - 2} reused, 0 sent" in parted.log[-1]
    assert set(paid(emulator).values()) == {1}
    assert len(paid(emulator)) == TEXTS


def test_an_answer_that_does_not_fit_is_asked_for_again(
    parted: PartedWarehouse, emulator: RunningEmulator
) -> None:
    """With what is wrong with it, by workers that read the answer in the bucket."""
    bad = {"match": "note 9", "content": json.dumps({"summary": 9}), "times": 1}
    emulator.rules([bad])
    parted.enrich(parted.rows_of(SELECT))
    assert parted.statuses() == {"done": ROWS - 2, "skipped": 2}
    asked = emulator.account()["custom_ids"]
    assert sorted(name[-1] for name in asked) == ["1"] * TEXTS + ["2"]


def test_packs_are_made_of_the_rows_of_a_part(
    parted: PartedWarehouse, emulator: RunningEmulator
) -> None:
    """Several rows to a request, and each gets its answer."""
    parted.enrich(parted.rows_of(SELECT), rows_per_request=4)
    assert parted.statuses() == {"done": ROWS - 2, "skipped": 2}
    assert len(emulator.account()["custom_ids"]) < TEXTS / 2
    assert parted.found("select summary from enriched where id = 8") == [("summary: note 8",)]


def test_submit_then_collect(parted: PartedWarehouse, emulator: RunningEmulator) -> None:
    """The first leaves the rows pending, the second takes the answers in and sends nothing."""
    parted.enrich(parted.rows_of(SELECT), mode=Mode.SUBMIT)
    assert parted.statuses() == {"pending": ROWS - 2, "skipped": 2}
    while parted.statuses().get("pending"):
        parted.enrich(parted.rows_of(SELECT), mode=Mode.COLLECT)
    assert parted.statuses() == {"done": ROWS - 2, "skipped": 2}
    assert set(paid(emulator).values()) == {1}


def test_a_plan_writes_and_sends_nothing(
    parted: PartedWarehouse, emulator: RunningEmulator, shared: SharedState
) -> None:
    """It counts what a run would do."""
    outcome = parted.enrich(parted.rows_of(SELECT), mode=Mode.PLAN)
    local = Warehouse(parted.config)
    counted = (
        f"{ROWS} rows: 0 answered before, {ROWS - 2} new, 0 changed, 8 equal to others, 2 skip"
    )
    for said in (outcome.summary, local.enrich(SELECT, mode=Mode.PLAN).summary):
        assert counted in said
        assert f"; {TEXTS} requests to send in 6 files, about 2,400 input and 1,900 output" in said
    assert outcome.enriched is None
    assert files_in(shared, "manifests") == files_in(shared, "requests") == []
    assert emulator.account()["custom_ids"] == {}


def test_what_another_run_claims_meanwhile_is_left_to_it(
    parted: PartedWarehouse,
    emulator: RunningEmulator,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Between the files and their claim another run sends some of the rows: each is paid once."""
    local = Warehouse(config_for(emulator.url, emulator.api_key, tmp_path / "state"))
    refuse = claims._refuse_shared_requests
    came: list[int] = []

    def meanwhile(*arguments: Any) -> None:
        refuse(*arguments)
        if not came:
            came.append(1)
            local.enrich(f"select * from ({SELECT}) where id between 10 and 14")

    monkeypatch.setattr(claims, "_refuse_shared_requests", meanwhile)
    parted.enrich(parted.rows_of(SELECT))
    assert came
    assert parted.statuses() == {"done": ROWS - 2, "skipped": 2}
    assert set(emulator.account()["custom_ids"].values()) == {1}
    assert len(paid(emulator)) == TEXTS


def test_a_killed_driver_leaves_nothing_paid_twice(
    parted: PartedWarehouse,
    emulator: RunningEmulator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One that dies after its claim, before a file is fetched, leaves rows that are new again."""

    def die(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("dbt_enrich.pipeline.partitions.exchange.FetchedFiles.write", die)
        with pytest.raises(KeyboardInterrupt):
            parted.enrich(parted.rows_of(SELECT))
    with Ledger(StateDirectory(parted.config.state_dir).ledger) as ledger:
        assert ledger.shards.open()
    again = PartedWarehouse(parted.config)
    again.enrich(again.rows_of(SELECT))
    assert again.statuses() == {"done": ROWS - 2, "skipped": 2}
    assert set(emulator.account()["custom_ids"].values()) == {1}


def test_rows_that_were_parted_wrongly_are_not_paid_twice(
    parted: PartedWarehouse, emulator: RunningEmulator, shared: SharedState
) -> None:
    """Where equal rows lie in two parts, nothing is claimed, and no file stays."""
    with pytest.raises(EnrichmentError, match="stand in two of the files"):
        parted.enrich(parted.rows_of(SELECT, by_key=False))
    assert emulator.account()["custom_ids"] == {}
    assert files_in(shared, "requests") == []


def test_a_cap_holds_for_all_parts_together(
    parted: PartedWarehouse, emulator: RunningEmulator, shared: SharedState
) -> None:
    """Past it nothing is claimed, and no file stays in the bucket."""
    with pytest.raises(CapError, match="max_requests"):
        parted.enrich(parted.rows_of(SELECT), max_requests=TEXTS - 1)
    assert emulator.account()["custom_ids"] == {}
    assert {name for folder in ("requests", "manifests") for name in files_in(shared, folder)} == {
        *files_in(shared, "manifests")
    }
    parted.enrich(parted.rows_of(SELECT), max_requests=TEXTS)
    assert parted.statuses() == {"done": ROWS - 2, "skipped": 2}


def test_a_canary_goes_first(parted: PartedWarehouse, emulator: RunningEmulator) -> None:
    """One part writes it, and the others follow once it is home and well."""
    parted.enrich(parted.rows_of(SELECT), canary=5)
    assert parted.statuses() == {"done": ROWS - 2, "skipped": 2}
    sizes = [emulator.jobs.counts(batch)["total"] for batch in emulator.jobs.batches()]
    assert 5 in sizes
    assert sum(sizes) == TEXTS


def test_what_needs_one_machine_is_refused_by_name(parted: PartedWarehouse) -> None:
    """Before a job begins."""
    rows = parted.rows_of(SELECT)
    refused: dict[str, dict[str, Any]] = {
        "via": {"via": "synchronous"},
        "sync_below": {"sync_below": 10, "preview_model": "gpt-4o-mini"},
        "on_task_change": {"on_task_change": "new_rows"},
        "preview": {"mode": Mode.PREVIEW},
    }
    for named, options in refused.items():
        with pytest.raises(ConfigurationError, match=f"{named}.*partition_rows"):
            parted.enrich(rows, **options)
    assert rows.jobs == []


def test_what_is_wrong_with_the_rows_is_said_before_a_job_begins(parted: PartedWarehouse) -> None:
    """As for one machine."""
    for select, says in {
        "select 1 as id, 'a' as text": "names the column 'note'",
        "select 1 as key, 'a' as note": "unique_key names the column 'id'",
        "select 1 as id, 'a' as note, 'b' as summary": "both an output column and a column",
    }.items():
        rows = parted.rows_of(select)
        with pytest.raises(ConfigurationError, match=says):
            parted.enrich(rows)
        assert rows.jobs == []


def test_a_state_of_this_machine_alone_is_refused(
    emulator: RunningEmulator, tmp_path: Path
) -> None:
    """Workers elsewhere would not reach it."""
    parted = PartedWarehouse(config_for(emulator.url, emulator.api_key, tmp_path / "state"))
    rows = parted.rows_of(SELECT)
    with pytest.raises(ConfigurationError, match="share the state"):
        parted.enrich(rows)
    assert rows.jobs == []


def test_a_job_holds_no_secret(
    parted: PartedWarehouse, monkeypatch: pytest.MonkeyPatch, emulator: RunningEmulator
) -> None:
    """Workers are told neither the service's key nor the ledger's address."""
    seen: list[bytes] = []
    job = Jobs._job

    def looked(self: Jobs, *arguments: Any) -> Any:
        found = job(self, *arguments)
        seen.append(pickle.dumps(found))
        return found

    monkeypatch.setattr(Jobs, "_job", looked)
    parted.enrich(parted.rows_of(SELECT))
    assert seen
    assert all(emulator.api_key.encode() not in text for text in seen)


def test_what_is_said_is_what_one_machine_says(
    parted: PartedWarehouse, emulator: RunningEmulator, shared: SharedState, tmp_path: Path
) -> None:
    """Rows by status and by kind of failure, those that failed for good, and too many of them."""
    refused = {**REFUSED, "match": "note 4"}
    emulator.rules([refused])
    parted.enrich(parted.rows_of(SELECT, parts=3), warn_failed_share=0.1)
    local = Warehouse(config_for(emulator.url, emulator.api_key, tmp_path / "state"))
    outcome = local.enrich(SELECT, warn_failed_share=0.1)
    assert parted.settled is not None
    assert "larger share than warn_failed_share" in outcome.warning
    assert parted.settled.warning == outcome.warning
    said = (parted.settled.summary, outcome.summary)
    assert "11 failed (content_filter 11)" in said[0]
    assert "11 failed for good" in said[0]
    rows, _, finals = zip(*(text.split("; ") for text in said), strict=True)
    assert len(set(rows)) == len(set(finals)) == 1
    for select in (parted.rows_of(SELECT), SELECT):
        engine: Any = parted if select is not SELECT else local
        with pytest.raises(FailedRowsError, match="fail_on names .11 content_filter"):
            engine.enrich(select, fail_on=["content_filter"])


def test_what_only_a_table_holds_is_not_asked_again(
    parted: PartedWarehouse, emulator: RunningEmulator, shared: SharedState
) -> None:
    """Answers, and failed attempts, of a state that is lost."""
    emulator.rules([REFUSED])
    parted.enrich(parted.rows_of(SELECT, parts=3))
    asked = dict(emulator.account()["custom_ids"])
    known = (
        "select * replace (replace(enrichment_key::varchar, '-', '') as enrichment_key) from {} "
        "where enrichment_key is not null"
    )
    done, failed = (
        parted.rows_of(known.format(table), parts=2, attempts=2)
        for table in ("enriched", "enriched__errors")
    )
    shutil.rmtree(parted.config.state_dir)
    shutil.rmtree(shared.directory)
    for batch in emulator.jobs.batches():
        emulator.forget(batch["id"])
    again = PartedWarehouse(parted.config)
    more = f"{SELECT} union all select 100, 'another'"
    again.enrich(again.rows_of(more, parts=3), known=(done, failed))
    assert again.statuses() == {"done": ROWS - 2, "failed": 1, "skipped": 2}
    assert f"{ROWS - 3} reused, 1 sent" in again.log[-1]
    assert len(emulator.account()["custom_ids"]) == len(asked) + 1
    assert again.found("select id, kind, attempt from enriched__errors") == [
        (47, "content_filter", 1)
    ]


def test_rows_wait_for_the_text_of_another_enrichment(
    parted: PartedWarehouse, emulator: RunningEmulator
) -> None:
    """Which of them, a part cannot see: all that have none."""
    rows = parted.rows_of(SELECT)
    model = replace(parted.model(), owing=("topics",))
    outcome = parted.engine.enrich_parted(model, rows)
    waiting = [row for row in outcome.enriched.to_pylist() if row["id"] in (3, 4)]
    assert {row["enrichment_status"] for row in waiting} == {"pending"}
    assert {row["enrichment_error"] for row in waiting} == {
        "missing_input: waits for the text of topics"
    }
    assert len(emulator.account()["custom_ids"]) == TEXTS


def test_a_workers_clock_decides_nothing(
    parted: PartedWarehouse, emulator: RunningEmulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The driver's does: by one that is behind, an outage would be asked again without end."""
    job = Jobs._job

    def of_then(self: Jobs, *arguments: Any) -> Job:
        return replace(job(self, *arguments), began=datetime(2001, 2, 3, tzinfo=UTC))

    monkeypatch.setattr(Jobs, "_job", of_then)
    parted.enrich(parted.rows_of(SELECT))
    (times,) = parted.found("select min(enriched_at), max(enriched_at) from enriched")
    assert {at.astimezone(UTC).date().isoformat() for at in times} == {"2001-02-03"}


def test_a_bucket_that_fails_within_a_part_pays_for_nothing(
    parted: PartedWarehouse,
    emulator: RunningEmulator,
    shared: SharedState,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The job fails by the bucket's own error, no file stays, and the next run pays once."""
    put = SharedFiles.put
    calls: list[int] = []

    def away(self: SharedFiles, files: Any) -> None:
        calls.append(1)
        if len(calls) > 3:
            raise LedgerError("the bucket answers 503")
        put(self, files)

    with monkeypatch.context() as patched:
        patched.setattr(SharedFiles, "put", away)
        with pytest.raises(LedgerError, match="503"):
            parted.enrich(parted.rows_of(SELECT, parts=3))
    assert emulator.account()["custom_ids"] == {}
    assert files_in(shared, "requests") == []
    parted.enrich(parted.rows_of(SELECT, parts=3))
    assert parted.statuses() == {"done": ROWS - 2, "skipped": 2}
    assert set(emulator.account()["custom_ids"].values()) == {1}


@pytest.mark.parametrize(
    ("killed", "at"),
    [
        ("dbt_enrich.pipeline.partitions.exchange.claim_files", "before its claim"),
        ("dbt_enrich.pipeline.partitions.exchange.Jobs.read", "with answers at home"),
    ],
    ids=lambda text: text.rpartition(".")[2],
)
def test_a_driver_killed_at_a_step_pays_nothing_twice(
    parted: PartedWarehouse,
    emulator: RunningEmulator,
    shared: SharedState,
    monkeypatch: pytest.MonkeyPatch,
    killed: str,
    at: str,
) -> None:
    """The next run goes on, whatever the first one left in the bucket and at the service."""

    def die(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt(at)

    with monkeypatch.context() as patched:
        # What a killed driver would not have removed.
        patched.setattr(
            "dbt_enrich.pipeline.partitions.exchange.remove_requests", lambda *_, **__: 0
        )
        patched.setattr(killed, die)
        with pytest.raises(KeyboardInterrupt, match=at):
            parted.enrich(parted.rows_of(SELECT, parts=3))
    again = PartedWarehouse(parted.config)
    again.enrich(again.rows_of(SELECT, parts=4))
    assert again.statuses() == {"done": ROWS - 2, "skipped": 2}
    assert set(emulator.account()["custom_ids"].values()) == {1}
    assert len(emulator.account()["paid"]) == TEXTS


def test_empty_parts_and_no_rows_at_all(parted: PartedWarehouse, emulator: RunningEmulator) -> None:
    """More parts than rows, and then none."""
    parted.enrich(parted.rows_of(f"select * from ({SELECT}) where id < 2", parts=40))
    assert parted.statuses() == {"done": 2}
    outcome = parted.engine.enrich_parted(
        parted.model(), parted.rows_of(f"select * from ({SELECT}) where false", parts=3)
    )
    assert outcome.enriched.num_rows == 0
    assert len(emulator.account()["custom_ids"]) == 2

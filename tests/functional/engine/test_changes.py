"""A run in which little is new touches little, and leaves what a rebuild would have made."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from batch_server.server import RunningEmulator
from dbt_enrich.pipeline.request import Outcome
from dbt_enrich.state.directory import StateDirectory
from dbt_enrich.state.ledger import Ledger
from dbt_enrich.task.enrichment_task import EnrichmentTask
from dbt_enrich.task.schema import OutputColumn
from dbt_enrich.warehouse.stays import Stays
from support.publishing import publish
from support.warehouse import SUMMARY, Warehouse, config_for, summary_task

ROWS = 20
SELECT = "select id, part, note, tags, price, span from source"
KEY = ("id", "part")
# DuckDB's `update` leaves a value as it is that compares equal to the new one.
REPLACE = "create or replace table source as select * replace ({}) from source"


@pytest.fixture
def warehouse(emulator: RunningEmulator, tmp_path: Path) -> Warehouse:
    """A warehouse with a source whose rows have columns of every awkward kind."""
    warehouse = Warehouse(config_for(emulator.url, emulator.api_key, tmp_path / "state"))
    warehouse.stays = Stays.ROWS
    warehouse.connection.execute(
        "create table source as select i as id, 'p' || i % 2 as part, 'note ' || i as note, "
        "['a', null] as tags, 0.0::double as price, interval 30 day as span "
        f"from range({ROWS}) as numbers(i)"
    )
    return warehouse


def contents(warehouse: Warehouse, source: str) -> Counter[str]:
    """The rows of a table or SELECT, each as text, in any order."""
    return Counter(str(row) for row in warehouse.rows(f"select * from {source}"))


def check(warehouse: Warehouse, select: str, task: EnrichmentTask | None, **options: Any) -> None:
    """Compare the tables, as they are, with what a rebuild would make of them now."""
    warehouse.stays, stays = Stays.NOTHING, warehouse.stays
    request = warehouse.request(select, task, "enriched", KEY, **options)
    rebuilt = warehouse.engine.enrich(request)
    assert rebuilt.touched is None
    assert rebuilt.figures.requests == 0
    for table, sql in (
        ("enriched", rebuilt.enriched_sql),
        ("enriched__errors", rebuilt.errors_sql),
    ):
        assert contents(warehouse, table) == contents(warehouse, f"({sql})")
        assert warehouse.described(table) == warehouse.described(f"({sql})")
    warehouse.engine.finish(rebuilt.run_id)
    warehouse.stays = stays


def enrich(
    warehouse: Warehouse, task: EnrichmentTask | None = None, select: str = SELECT, **options: Any
) -> Outcome:
    """Enrich the source, and compare what became of it with a rebuild."""
    outcome = warehouse.enrich(select, task, unique_key=KEY, **options)
    check(warehouse, select, task, **options)
    return outcome


def test_a_run_in_which_nothing_is_new_leaves_the_table_as_it_is(warehouse: Warehouse) -> None:
    """And says so."""
    assert enrich(warehouse).touched is None
    again = enrich(warehouse)
    assert (again.touched, again.gone, again.replaces_errors) == (0, 0, False)
    assert again.figures.rows_touched == 0
    assert "nothing new: the table stays as it is" in again.summary


def test_only_rows_that_are_new_changed_or_gone_are_touched(warehouse: Warehouse) -> None:
    """Whatever changed in them, be it no more than a sign."""
    enrich(warehouse)
    for change, expected in (
        ("insert into source values (99, 'p', 'new', [], 1, interval 1 day)", (1, 0)),
        ("update source set note = 'changed' where id = 3", (1, 1)),
        (REPLACE.format("if(id = 4, -price, price) as price"), (1, 1)),
        (REPLACE.format("if(id = 5, interval 1 month, span) as span"), (1, 1)),
        ("update source set tags = null where id = 6", (1, 1)),
        ("update source set tags = [] where id = 6", (1, 1)),
        ("update source set note = ' ' where id = 7", (1, 1)),
        ("delete from source where id in (8, 9)", (0, 2)),
    ):
        warehouse.connection.execute(change)
        outcome = enrich(warehouse)
        assert (outcome.touched, outcome.gone) == expected, change
        assert " touched" in outcome.summary
    assert enrich(warehouse).touched == 0


@pytest.mark.parametrize(
    "change",
    [
        "update enriched set summary = 'edited' where id = 1",
        "update enriched set enriched_at = enriched_at + interval 1 second where id = 1",
        "delete from enriched where id = 1",
        "insert into enriched from enriched where id = 1",
        "insert into enriched (id) values (null)",
        "truncate enriched",
        "alter table enriched add column more integer",
        "alter table enriched alter id type hugeint",
    ],
)
def test_a_table_that_was_changed_by_hand_is_built_anew(warehouse: Warehouse, change: str) -> None:
    """As it is not what was published."""
    warehouse.enrich(SELECT, unique_key=KEY)
    warehouse.connection.execute(change)
    assert enrich(warehouse).touched is None
    assert enrich(warehouse).touched == 0


@pytest.mark.parametrize(
    "change",
    [
        "drop table enriched__errors",
        "delete from enriched__errors",
        "insert into enriched__errors from enriched__errors",
        "update enriched__errors set message = 'edited'",
        "alter table enriched__errors drop column sent_with",
    ],
)
def test_an_errors_table_that_was_changed_is_replaced(
    warehouse: Warehouse, emulator: RunningEmulator, change: str
) -> None:
    """Beside a table that stays."""
    emulator.rules([{"match": "note 3", "fault": "wrong_shape"}])
    warehouse.enrich(SELECT, unique_key=KEY, max_attempts=1)
    again = warehouse.enrich(SELECT, unique_key=KEY, max_attempts=1)
    assert not again.replaces_errors
    warehouse.connection.execute(change)
    outcome = enrich(warehouse, max_attempts=1)
    assert (outcome.touched, outcome.replaces_errors) == (0, True)


def test_another_task_or_other_columns_build_the_table_anew(warehouse: Warehouse) -> None:
    """And another unique key, another order or type of the SELECT's columns."""
    enrich(warehouse)
    more = OutputColumn(name="more", data_type="varchar", description="More")
    for task, select in (
        (summary_task(system="Again."), SELECT),
        (summary_task(outputs=(SUMMARY, more)), SELECT),
        (None, "select note, id, part, tags, price, span from source"),
        (None, "select *, 1 as more from source"),
        (None, "select * replace (cast(id as hugeint) as id) from source"),
    ):
        assert enrich(warehouse, task, select).touched is None
        assert enrich(warehouse, task, select).touched == 0


def test_forgotten_answers_build_the_table_anew(warehouse: Warehouse) -> None:
    """As those that come in their place are others."""
    enrich(warehouse)
    task_key = summary_task().task_key(warehouse.config.answered_by("gpt-4o-mini"))
    with Ledger(StateDirectory(warehouse.config.state_dir).ledger) as ledger:
        ledger.answers.forget(task_key)
    assert enrich(warehouse).touched is None


def test_a_publication_that_was_not_recorded_is_followed_by_a_rebuild(
    warehouse: Warehouse,
) -> None:
    """As after a run that was killed between the table's commit and the ledger's."""
    enrich(warehouse)
    warehouse.connection.execute("delete from source where id = 1")
    outcome = warehouse.engine.enrich(warehouse.request(SELECT, None, "enriched", KEY))
    assert (outcome.touched, outcome.gone) == (0, 1)
    staged = "enriched__staged"
    publish(warehouse.connection, "enriched", outcome, staged=staged, unique_key=KEY)
    warehouse.restart()
    assert enrich(warehouse).touched is None
    assert enrich(warehouse).touched == 0


@pytest.mark.parametrize("stays", [Stays.NOTHING, Stays.WHOLE, Stays.ORDERED, Stays.ROWS])
def test_no_more_stays_than_may(warehouse: Warehouse, stays: Stays) -> None:
    """A table with keys stays whole or not at all, one with an order only in that."""
    enrich(warehouse)
    warehouse.stays = stays
    assert (enrich(warehouse).touched == 0) == (stays != Stays.NOTHING)
    order = enrich(warehouse, select=f"{SELECT} order by id desc")
    assert (order.touched is None) == (stays in (Stays.NOTHING, Stays.ORDERED))
    warehouse.connection.execute("delete from source where id = 2")
    assert (enrich(warehouse).touched is None) == (stays != Stays.ROWS)


@dataclass
class _Edits:
    """Random edits of the source, the tables, the service and the model."""

    warehouse: Warehouse
    emulator: RunningEmulator
    random: random.Random
    task: EnrichmentTask = field(default_factory=summary_task)
    options: dict[str, Any] = field(default_factory=lambda: {"max_attempts": 1})

    def step(self) -> None:
        """Make two of them."""
        edits: list[tuple[Callable[[], None], int]] = [
            (self._insert, 6),
            (self._delete, 4),
            (self._note, 6),
            (self._column, 6),
            (self._hand, 1),
            (self._errors, 2),
            (self._mode, 3),
            (self._service, 2),
            (self._prompt, 1),
            (self._pending, 1),
            (self._nothing, 4),
        ]
        chosen, weights = zip(*edits, strict=True)
        for edit in self.random.choices(chosen, weights, k=2):
            edit()

    def _nothing(self) -> None:
        """Leave all as it is."""

    def _run(self, sql: str) -> None:
        self.warehouse.connection.execute(sql)

    def _some(self) -> str:
        return f"id = {self.random.randrange(ROWS)}"

    def _insert(self) -> None:
        number = self.random.randrange(ROWS, 10 * ROWS)
        self._run(
            f"insert into source select {number}, 'p', 'note {number % 23}', [], -0.0, "
            f"interval 1 month where not exists (select 1 from source where id = {number})"
        )

    def _delete(self) -> None:
        self._run(f"delete from source where {self._some()}")

    def _note(self) -> None:
        note = self.random.choice(["' '", "null", "'bad one'", "'note 5'", f"'{self._some()}'"])
        self._run(f"update source set note = {note} where {self._some()}")

    def _column(self) -> None:
        change = self.random.choice(
            ["tags = []", "tags = null", "tags = [null]", "price = -price", "price = 'nan'",
             "span = interval 1 month", "part = part || 'x'"]
        )  # fmt: skip
        self._run(f"update source set {change} where {self._some()}")

    def _hand(self) -> None:
        change = self.random.choice(
            ["update enriched set summary = 'x' where {}", "delete from enriched where {}",
             "insert into enriched from enriched where {}", "truncate enriched"]
        )  # fmt: skip
        self._run(change.format(self._some()))

    def _errors(self) -> None:
        self._run(self.random.choice(["drop table if exists ", "truncate "]) + "enriched__errors")

    def _mode(self) -> None:
        self.options["mode"] = self.random.choice(["run", "submit", "collect"])

    def _service(self) -> None:
        faults = [{"match": "bad", "fault": self.random.choice(["wrong_shape", "refusal"])}]
        self.emulator.rules(self.random.choice([[], faults]))

    def _prompt(self) -> None:
        self.task = summary_task(system=f"Prompt {self.random.randrange(3)}.")

    def _pending(self) -> None:
        self.options["on_pending"] = self.random.choice(["keep", "null"])


@pytest.mark.parametrize("seed", [1, 2])
def test_after_any_edits_the_tables_are_what_a_rebuild_makes(
    warehouse: Warehouse, emulator: RunningEmulator, seed: int
) -> None:
    """Step after step, each over what the one before has left."""
    edits = _Edits(warehouse, emulator, random.Random(seed))
    warehouse.enrich(SELECT, edits.task, unique_key=KEY, **edits.options)
    seen: Counter[str] = Counter()
    for _ in range(12):
        edits.step()
        # What a batch answered between the two would be news to the rebuild.
        emulator.resume() if edits.options.get("mode", "run") == "run" else emulator.pause()
        outcome = warehouse.enrich(SELECT, edits.task, unique_key=KEY, **edits.options)
        check(warehouse, SELECT, edits.task, **{**edits.options, "mode": "collect"})
        touched = outcome.touched
        seen["anew" if touched is None else "nothing" if touched == 0 else "rows"] += 1
    assert seen["rows"] >= 3, seen

"""What the report counts, held against plain Python on the same rows."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import combinations

import duckdb
from dbt_enrich.report import rows
from dbt_enrich.report.contents import ColumnReport, ModelReport
from dbt_enrich.state.ledger import Ledger
from dbt_enrich.warehouse.attached import find_table
from functional.report.conftest import (
    COLUMNS,
    META,
    ROWS,
    TEXT,
    Reported,
    answer_of,
    answered_rows,
)

ANSWERS = [answer_of(row) for row in answered_rows()]


def model_of(reported: Reported, name: str) -> ModelReport:
    """One model of the report."""
    (found,) = [model for model in reported.report.models if model.name == name]
    return found


def column_of(reported: Reported, name: str) -> ColumnReport:
    """One column of the tickets."""
    (found,) = [c for c in model_of(reported, "tickets_enriched").columns if c.name == name]
    return found


def test_the_headline(reported: Reported) -> None:
    """Rows by status, cost and tokens over all models, and since when a batch is out."""
    report = reported.report
    assert report.project == "notes"
    tickets = model_of(reported, "tickets_enriched")
    assert tickets.statuses == {"done": len(ANSWERS), "failed": 6, "skipped": 3}
    assert report.statuses == {
        "done": len(ANSWERS) + 1,
        "failed": 6,
        "skipped": 3,
        "stale": 1,
    }
    ((prompt, completion, cost),) = reported.project.rows(
        "select sum(prompt_tokens), sum(completion_tokens), sum(cost) from enrichment.usage"
    )
    assert (report.money.prompt_tokens, report.money.completion_tokens) == (prompt, completion)
    assert report.money.cost is not None
    assert abs(report.money.cost - cost) < 1e-9
    assert report.oldest_pending is not None
    assert report.oldest_pending <= report.made


def test_what_needs_attention(reported: Reported) -> None:
    """Failed, skipped and stale rows, by model."""
    text = "\n".join(reported.report.sentences)
    assert f"tickets_enriched: 6 of {ROWS} rows failed" in text
    assert f"tickets_enriched: 3 of {ROWS} rows were skipped" in text
    assert "notes_enriched: 1 of 1 row shows the previous answer" in text


def test_values_of_an_enum(reported: Reported) -> None:
    """The most frequent first."""
    column = column_of(reported, "topic")
    expected = Counter(answer["topic"] for answer in ANSWERS)
    assert {count.value: count.rows for count in column.values} == expected
    assert [count.rows for count in column.values] == sorted(expected.values(), reverse=True)
    assert (column.filled, column.empty, column.distinct) == (len(ANSWERS), 0, 3)


def test_an_enum_by_a_boolean(reported: Reported) -> None:
    """How many rows have which two values."""
    (crossing,) = column_of(reported, "topic").crossings
    assert crossing.other == "late"
    expected = Counter((answer["topic"], str(answer["late"]).lower()) for answer in ANSWERS)
    assert {(pair.one, pair.other): pair.rows for pair in crossing.pairs} == expected
    assert not column_of(reported, "late").crossings


def test_items_and_pairs_of_a_list(reported: Reported) -> None:
    """Items, sizes and which stand together."""
    column = column_of(reported, "tags")
    items = Counter(tag for answer in ANSWERS for tag in answer["tags"])
    shown = {text[:120]: rows for text, rows in items.items()}
    assert {count.value: count.rows for count in column.values} == shown
    pairs: Counter[tuple[str, str]] = Counter()
    for answer in ANSWERS:
        pairs.update(combinations(sorted(tag[:120] for tag in answer["tags"]), 2))
    assert {tuple(sorted((p.one, p.other))): p.rows for p in column.pairs} == dict(pairs)
    assert column.sizes is not None
    sizes = Counter(len(answer["tags"]) for answer in ANSWERS)
    assert {int(b.low): b.rows for b in column.sizes.bins} == sizes


def test_histograms(reported: Reported) -> None:
    """Numbers, dates and the lengths of texts."""
    urgency = column_of(reported, "urgency").histogram
    assert urgency is not None
    expected = Counter(answer["urgency"] for answer in ANSWERS)
    assert {int(b.low): b.rows for b in urgency.bins} == expected
    assert (urgency.minimum, urgency.maximum) == (1, 10)
    due = column_of(reported, "due").histogram
    assert due is not None
    assert due.unit == "seconds"
    assert sum(b.rows for b in due.bins) == len(ANSWERS)
    lengths = column_of(reported, "reply").histogram
    assert lengths is not None
    assert lengths.minimum == min(len(answer["reply"]) for answer in ANSWERS)
    assert sum(b.rows for b in lengths.bins) == len(ANSWERS)


def test_fields_of_a_struct(reported: Reported) -> None:
    """Each is a column of its own."""
    names = column_of(reported, "who.name")
    assert sum(count.rows for count in names.values) == len(ANSWERS)
    vip = {count.value: count.rows for count in column_of(reported, "who.vip").values}
    assert vip == {str(k).lower(): n for k, n in
                   Counter(answer["who"]["vip"] for answer in ANSWERS).items()}  # fmt: skip


def test_failures_say_what_comes_next(reported: Reported) -> None:
    """A refusal is not asked again; broken JSON had its two attempts."""
    failures = {f.kind: f for f in model_of(reported, "tickets_enriched").failures}
    assert {kind: f.rows for kind, f in failures.items()} == {"refusal": 3, "invalid_json": 3}
    assert {kind: f.next_run for kind, f in failures.items()} == {"refusal": 0, "invalid_json": 0}
    assert "dbt-enrich retry --kind refusal" in failures["refusal"].rule
    assert "2 times in all" in failures["invalid_json"].rule
    assert sum(sample.rows for sample in failures["refusal"].samples) == 3


def test_failed_rows_with_attempts_left_are_asked_again(reported: Reported) -> None:
    """As the next run would, with what the model's YAML says now."""
    with Ledger(reported.project.state_dir / "ledger.sqlite") as ledger:
        (publication,) = [p for p in ledger.publications.all() if p.name == "tickets_enriched"]
    with duckdb.connect(str(reported.project.warehouse), read_only=True) as connection:
        table = find_table(connection, publication)
        assert table is not None
        more = replace(publication, max_attempts=3, ask_again=("refusal",))
        found = {f.kind: f.next_run for f in rows.failures(connection, table, more)}
        assert found == {"refusal": 3, "invalid_json": 3}
        # A version of before noted no address: the table is found by its name.
        assert find_table(connection, replace(publication, relation=None)) == table


def test_the_sample_shows_problems_first(reported: Reported) -> None:
    """Every failed row of so few, then the others; what was asked beside what came back."""
    model = model_of(reported, "tickets_enriched")
    assert model.sampled_of == ROWS
    statuses = [row.status for row in model.sample]
    assert statuses == ["failed"] * 6 + ["skipped"] * 3 + ["done"] * len(ANSWERS)
    done = model.sample[-1]
    assert [field.name for field in done.inputs] == ["ticket_id", "subject", "body"]
    row = int(done.inputs[0].value or "")
    shown = {field.name: field.value for field in done.answer}
    assert shown["topic"] == answer_of(row)["topic"]
    assert shown["reply"] == answer_of(row)["reply"][:400] + (
        "…" if len(answer_of(row)["reply"]) > 400 else ""
    )
    assert done.inputs[2].value == TEXT


def test_what_was_asked(reported: Reported) -> None:
    """The task as the ledger holds it."""
    asked = model_of(reported, "tickets_enriched").asked
    assert asked is not None
    assert (asked.model, asked.system, asked.user) == ("gpt-4o-mini", META["system"], META["user"])
    assert [column.name for column in asked.columns] == [column["name"] for column in COLUMNS]
    assert asked.columns[0].description == COLUMNS[0]["description"]


def test_versions_with_their_rows_and_differences(reported: Reported) -> None:
    """Newest first; the row still has the previous one's answer."""
    new, old = model_of(reported, "notes_enriched").versions
    assert (new.rows, new.answers, old.rows, old.answers) == (0, 0, 1, 1)
    assert new.changes == ("system text",)
    assert old.changes is None
    assert "kindly" in new.diff


def test_a_model_with_another_ones_task(reported: Reported) -> None:
    """It shows what was asked, and that it cost nothing of its own."""
    twin = model_of(reported, "twin_enriched")
    assert twin.asked is not None
    assert twin.statuses == {"done": 1}
    assert [version.rows for version in twin.versions] == [1]
    assert [column.name for column in twin.columns] == ["summary"]
    assert twin.money.cost == 0


def test_batches_have_their_phases(reported: Reported) -> None:
    """In order, without gaps, none of them backwards; the last one goes on."""
    report = reported.report
    assert report.batches_of == len(report.batches) >= 5
    for batch in report.batches:
        for before, after in zip(batch.phases, batch.phases[1:], strict=False):
            assert before.ended == after.began
        assert all(phase.began < phase.ended for phase in batch.phases)
    assert report.batches[-1].model == "notes_enriched"
    assert report.batches[-1].phases[-1].ended == report.made
    assert {"queued", "collected"} <= {p.name for b in report.batches for p in b.phases}


def test_days_add_up(reported: Reported) -> None:
    """To what the whole report says; every failed attempt is one of a day."""
    days = reported.report.days
    ((attempts,),) = reported.project.rows(
        "select (select count(*) from tickets_enriched__errors) "
        "+ (select count(*) from notes_enriched__errors)"
    )
    assert sum(day.retries for day in days) == attempts == 9
    assert sum(day.batches for day in days) == reported.report.batches_of
    assert sum(day.money.prompt_tokens for day in days) == reported.report.money.prompt_tokens

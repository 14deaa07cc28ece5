"""The rows of an enriched table as a report shows them: by status, by failure, and a sample."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

import duckdb

from dbt_enrich.report.contents import Count, FailureReport, Field, SampleRow
from dbt_enrich.report.thumbnails import Thumbnails
from dbt_enrich.sql import identifier, text_sql
from dbt_enrich.state.tables.publications import Publication
from dbt_enrich.task.failures import RULES, FailureKind
from dbt_enrich.task.options import EnrichmentOptions
from dbt_enrich.warehouse.attached import EnrichedTable

_SAMPLED_ROWS = 200
_SAMPLED_OF_A_PROBLEM = 20
_SAMPLED_MESSAGES = 3
_CHARACTERS = 400
# Of a vector so many numbers are shown.
_SHOWN_NUMBERS = 4
_VECTOR = re.compile(r"FLOAT\[(\d+)\]")
_KIND = "split_part(enrichment_error, ':', 1)"


def statuses(connection: duckdb.DuckDBPyConnection, table: EnrichedTable) -> dict[str, int]:
    """Count the rows by status."""
    if table.counted is not None:
        return _summed((one.status, one.rows) for one in table.counted)
    return dict(
        connection.execute(
            f"select enrichment_status, count(*) from {table.name} "
            "where enrichment_status is not null group by all"
        ).fetchall()
    )


def versions(connection: duckdb.DuckDBPyConnection, table: EnrichedTable) -> dict[str, int]:
    """Count the rows by the version of the task that answered them."""
    if table.counted is not None:
        return _summed((one.version, one.rows) for one in table.counted if one.version)
    return dict(
        connection.execute(
            f"select enrichment_version, count(*) from {table.name} "
            "where enrichment_version is not null group by all"
        ).fetchall()
    )


def _summed(counts: Iterable[tuple[str, int]]) -> dict[str, int]:
    summed: Counter[str] = Counter()
    for name, rows in counts:
        summed[name] += rows
    return dict(summed)


def failed_attempts(connection: duckdb.DuckDBPyConnection, table: EnrichedTable) -> dict[str, int]:
    """Count the failed attempts at the table's rows by day, in UTC."""
    if table.errors is None:
        return {}
    return dict(
        connection.execute(
            "select cast(cast(timezone('UTC', received_at) as date) as varchar), count(*) "
            f"from {table.errors} where received_at is not null group by all"
        ).fetchall()
    )


def failures(
    connection: duckdb.DuckDBPyConnection, table: EnrichedTable, publication: Publication
) -> tuple[FailureReport, ...]:
    """Count the failed rows by kind, with what the next run does about them."""
    most = publication.max_attempts or EnrichmentOptions().max_attempts
    attempts = "select cast(null as uuid) as enrichment_key, null as attempts where false"
    if table.errors is not None:
        attempts = (
            "select enrichment_key, max(attempt) as attempts "
            f"from {table.errors} group by enrichment_key"
        )
    counted = connection.execute(
        f"""
        with failed as (
            select enrichment_key, {_KIND} as kind
            from {table.name}
            where enrichment_status = 'failed'
        ),
        attempts as ({attempts})
        select kind, count(*) as rows, count(*) filter (coalesce(attempts.attempts, 0) < {most})
        from failed
        left join attempts using (enrichment_key)
        group by kind
        order by rows desc, kind
        """
    ).fetchall()
    of_all = {kind: (rows, left) for kind, rows, left in counted}
    if table.counted is not None:
        there = _summed((one.kind, one.rows) for one in table.counted if one.kind)
        # Of those that were not copied as many as of the others are asked again.
        of_all = {
            kind: (rows, rows * of_all[kind][1] // of_all[kind][0])
            for kind, rows in sorted(there.items(), key=lambda one: (-one[1], one[0]))
            if kind in of_all
        }
    return tuple(
        FailureReport(
            kind=str(kind),
            rows=int(rows),
            next_run=int(left) if _is_asked_again(str(kind), publication.ask_again) else 0,
            rule=rule_of(str(kind), publication.ask_again, most),
            samples=_messages(connection, table, str(kind)),
            raw_answer=_raw_answer(connection, table, str(kind)),
        )
        for kind, (rows, left) in of_all.items()
    )


def rule_of(kind: str, ask_again: Sequence[str], max_attempts: int) -> str:
    """Say what is done about rows that failed in one way."""
    retry = f"`dbt-enrich retry --kind {kind}` has them asked once more"
    if kind not in RULES:
        return "not asked again"
    if not _is_asked_again(kind, ask_again):
        return f"not asked again, as the same answer is due; {retry}"
    rule = RULES[FailureKind(kind)]
    how = "asked again"
    if rule.repair:
        how = "asked again, the second time with the answer and what is wrong with it"
    if rule.larger_limit:
        how = "asked again with a larger token limit, where the task sets one"
    if kind == FailureKind.PROVIDER_ERROR:
        how = "asked again, unless the request itself is at fault (4xx)"
    return f"{how}, {max_attempts} times in all; after that, {retry}"


def _is_asked_again(kind: str, ask_again: Sequence[str]) -> bool:
    rule = RULES[FailureKind(kind)] if kind in RULES else None
    return kind in ask_again or bool(rule and rule.ask_again)


def _messages(
    connection: duckdb.DuckDBPyConnection, table: EnrichedTable, kind: str
) -> tuple[Count, ...]:
    rows = connection.execute(
        f"""
        select left(trim(substr(enrichment_error, length({_KIND}) + 2)), {_CHARACTERS}) as message,
            count(*) as rows
        from {table.name}
        where enrichment_status = 'failed' and {_KIND} = {text_sql(kind)}
        group by message
        order by rows desc, message
        limit {_SAMPLED_MESSAGES}
        """
    ).fetchall()
    return tuple(Count(str(message), int(count)) for message, count in rows)


def _raw_answer(
    connection: duckdb.DuckDBPyConnection, table: EnrichedTable, kind: str
) -> str | None:
    """Return what the model answered one of the rows that failed in one way, if it answered."""
    if table.errors is None:
        return None
    row = connection.execute(
        f"""
        select left(raw_answer, {_CHARACTERS + 1})
        from {table.errors}
        where kind = {text_sql(kind)} and raw_answer is not null and enrichment_key in (
            select enrichment_key from {table.name} where enrichment_status = 'failed'
        )
        order by enrichment_key, attempt
        limit 1
        """
    ).fetchone()
    return None if row is None else _shortened(row[0])


def shown_sql(column: str, kind: str) -> str:
    """Build the text that a value is shown as: of a vector its first numbers, and how many it has.

    Args:
        column: SQL of the column.
        kind: Its type, as DuckDB describes it.
    """
    size = _VECTOR.fullmatch(kind)
    if size is None:
        return f"cast({column} as varchar)"
    first = f"cast({column} as float[])[:{_SHOWN_NUMBERS}]"
    numbers = f"list_transform({first}, lambda n: printf('%.4f', cast(n as double)))"
    rest = ", …" if int(size[1]) > _SHOWN_NUMBERS else ""
    return f"'[' || array_to_string({numbers}, ', ') || '{rest}] ({int(size[1]):,} numbers)'"


def sample(
    connection: duckdb.DuckDBPyConnection,
    table: EnrichedTable,
    *,
    inputs: Sequence[str],
    outputs: Sequence[str],
    thumbnails: Thumbnails,
) -> tuple[SampleRow, ...]:
    """Return some rows, the same ones each time: first those with problems, some of each.

    Args:
        connection: The warehouse.
        table: The table.
        inputs: The columns that are shown as what was asked about.
        outputs: The columns of the answer.
        thumbnails: Makes those of a row's pictures.
    """
    whole = table.whole or table.name
    kinds = {name.lower(): kind for name, kind in table.columns.items()}
    values = "".join(
        f", left({shown_sql(f'enriched.{identifier(name)}', kinds.get(name.lower(), ''))}, "
        f"{_CHARACTERS + 1}) as c{i}"
        for i, name in enumerate([*inputs, *outputs])
    )
    rows = connection.execute(
        f"""
        with narrow as (
            select
                rowid as place,
                list_position(
                    ['failed', 'stale', 'pending', 'skipped', 'done'], enrichment_status
                ) as urgency,
                {_KIND} as kind
            from {whole}
        ),
        ranked as (
            select
                *,
                row_number() over (partition by urgency, kind order by hash(place)) as number
            from narrow
        ),
        chosen as (
            select place, urgency, number
            from ranked
            where number <= if(urgency = 5, {_SAMPLED_ROWS}, {_SAMPLED_OF_A_PROBLEM})
            order by urgency, number
            limit {_SAMPLED_ROWS}
        )
        select
            enriched.enrichment_status,
            left(enriched.enrichment_error, {_CHARACTERS + 1}),
            enriched.enrichment_version,
            chosen.place
            {values}
        from {whole} as enriched
        join chosen on enriched.rowid = chosen.place
        order by chosen.urgency, chosen.number
        """
    ).fetchall()
    return tuple(
        SampleRow(
            status=str(row[0]),
            problem=_shortened(row[1]),
            version=row[2],
            inputs=_fields(inputs, row[4:]),
            answer=_fields(outputs, row[4 + len(inputs) :]),
            pictures=thumbnails.of(row[3]),
        )
        for row in rows
    )


def _fields(names: Sequence[str], values: Sequence[object]) -> tuple[Field, ...]:
    return tuple(Field(n, _shortened(v)) for n, v in zip(names, values, strict=False))


def _shortened(value: object) -> str | None:
    if value is None:
        return None
    text = str(value)
    return text if len(text) <= _CHARACTERS else text[:_CHARACTERS] + "…"

"""Validation of answers as SQL: what the model wrote in, typed columns or a named problem out.

The verdict is that of the outputs' JSON Schema, as the `jsonschema` package gives it on
`json.loads` of the text, with these rules beside it:

- A key that an object has twice is a mismatch, whatever its values are.
- A number must fit its type: an integer its range, a decimal its width and scale, a double or float
  must be finite. `1.0` is an integer, as JSON Schema has it, `1.7` and `"1"` are not. A decimal
  with a fraction has at most 15 digits in all: JSON's fractions are read as doubles.
- Dates and times must exist: 2024-02-30 does not. A `timestamp` takes no offset but `Z`, a
  `timestamp with time zone` demands one.
- null is a mismatch but for a nullable output.
- `lower` and `unique_items` are applied first, then `max_items`, `min` and `max` are judged.
- Text that no UTF-8 can hold (half a surrogate pair) is invalid JSON.

The text is read leniently first: what `answer_text` finds in it is judged, and a comma after the
last element is dropped.
"""

from __future__ import annotations

from collections.abc import Sequence

from dbt_enrich.task.schema import OutputColumn
from dbt_enrich.validation.answer_text import object_sql
from dbt_enrich.validation.problems import object_problem_sql
from dbt_enrich.validation.values import (
    answer_sql,
    answer_struct_type,
    doubtful_sql,
    reads_exactly,
    rule_problem_sql,
    signed_zero_sql,
    stored_answer_sql,
    structure_literal,
    unaltered_sql,
)

__all__ = ["answer_struct_type", "typed_answers_sql", "validated_answers_sql"]

INVALID_JSON = "invalid_json"
SCHEMA_MISMATCH = "schema_mismatch"


def validated_answers_sql(source: str, outputs: Sequence[OutputColumn]) -> str:
    """Build the SELECT that validates and types the model's texts.

    Args:
        source: SQL of a relation, a table's name or a SELECT in parentheses, with at least the
            column `content varchar`: the model's text, or NULL.
        outputs: The output columns.

    Returns:
        A SELECT of all columns of `source` and of these: `answer`, a struct of the outputs in their
        order, NULL unless valid; `clean_content varchar`, the text of the JSON object that was
        judged, without white space, NULL where there is none; `is_given_back boolean`, whether
        `to_json(answer)` is that text, byte for byte, also once it was stored; `mismatch_kind
        varchar`, `invalid_json`, `schema_mismatch` or NULL; `mismatch varchar`, the first problem
        as a phrase with its path, NULL where there is none.
    """
    # Each layer uses the columns of the one below, so that nothing is computed twice.
    return f"""
        select
            * exclude (
                enrich__exact, enrich__object, enrich__read, enrich__problem, enrich__answer,
                enrich__breach
            ),
            case when enrich__breach is null then enrich__answer end as answer,
            case when starts_with(enrich__object, '{{') then enrich__object end as clean_content,
            coalesce(
                case
                    when {signed_zero_sql("enrich__object", outputs)} then false
                    when enrich__exact
                        then {unaltered_sql("enrich__read", "enrich__answer", outputs)}
                    else cast(to_json(enrich__answer) as varchar) = enrich__object
                end,
                false
            ) as is_given_back,
            case
                when enrich__object is null then '{INVALID_JSON}'
                when coalesce(enrich__problem, enrich__breach) is not null then '{SCHEMA_MISMATCH}'
            end as mismatch_kind,
            case
                when enrich__object is not null then coalesce(enrich__problem, enrich__breach)
                when coalesce(trim(content), '') = '' then 'the answer is empty'
                else 'the answer is not one valid JSON object'
            end as mismatch
        from (
            select *, {rule_problem_sql("enrich__answer", outputs)} as enrich__breach
            from (
                select
                    *,
                    case
                        when enrich__object is not null and enrich__problem is null
                            then {answer_sql("enrich__read", outputs)}
                    end as enrich__answer
                from (
                    select *, {_problem_sql(outputs)} as enrich__problem
                    from (
                        select
                            * exclude (enrich__first),
                            case
                                when enrich__exact then enrich__first
                                else from_json(enrich__object, {structure_literal(outputs)})
                            end as enrich__read
                        from (
                            select
                                *,
                                case
                                    when enrich__exact then content
                                    else {object_sql("content")}
                                end as enrich__object
                            from ({_first_read_sql(source, outputs)})
                        )
                    )
                )
            )
        )
    """


def typed_answers_sql(
    source: str, outputs: Sequence[OutputColumn], *, stored: str | None = None
) -> str:
    """Build the SELECT that types answers which were validated before.

    Args:
        source: SQL of a relation, a table's name or a SELECT in parentheses, with at least the
            column `clean_content varchar`, as `validated_answers_sql` gave it.
        outputs: The output columns.
        stored: The column of answers that were typed as they were validated, or None where there
            are none. Only where it is NULL is the text read.

    Returns:
        A SELECT of all other columns of `source` and of `answer`, a struct of the outputs in their
        order, NULL where the text is none of these outputs.
    """
    answer, left_out = answer_sql("enrich__read", outputs), "enrich__read"
    if stored:
        whole = stored_answer_sql(stored, outputs)
        answer = f"case when {stored} is not null then {whole} else {answer} end"
        left_out += f", {stored}"
    return f"""
        select * exclude ({left_out}), {answer} as answer
        from (
            select
                *,
                try(from_json_strict(clean_content, {structure_literal(outputs)})) as enrich__read
            from {source}
        )
    """


def _problem_sql(outputs: Sequence[OutputColumn]) -> str:
    """Build the shape's first problem.

    An object that comes back unchanged from its own types has the right keys, in their order, and
    nothing in it was coerced: for nearly all answers this spares the search for a problem.
    """
    search = object_problem_sql(
        "enrich__object",
        [(output.name, output.type) for output in outputs],
        nullable={output.name for output in outputs if output.nullable},
        lower={output.name for output in outputs if output.lower},
    )
    unchanged = ""
    if reads_exactly(outputs):
        unchanged = f"""
            when enrich__exact then null
            when enrich__object = cast(to_json(enrich__read) as varchar)
                and not ({doubtful_sql("enrich__object", outputs)}) then null"""
    return f"case when enrich__object is null then null {unchanged} else {search} end"


def _first_read_sql(source: str, outputs: Sequence[OutputColumn]) -> str:
    """Build the first reading of the texts, as they came.

    Most texts are what their own types give back, byte for byte: those are parsed once, and neither
    searched for an object nor for a problem.

    Returns:
        A SELECT of all columns of `source`, of `enrich__first`, what was read, and of
        `enrich__exact`, whether that is all there is to say.
    """
    if not reads_exactly(outputs):
        return f"select *, null as enrich__first, false as enrich__exact from {source}"
    return f"""
        select
            *,
            coalesce(
                content = cast(to_json(enrich__first) as varchar)
                and not ({doubtful_sql("content", outputs)}),
                false
            ) as enrich__exact
        from (
            select *, try(from_json(content, {structure_literal(outputs)})) as enrich__first
            from {source}
        )
    """

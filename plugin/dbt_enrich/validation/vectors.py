"""Validation of vectors as SQL: as many finite numbers as the column has, or a named problem."""

from __future__ import annotations

from dbt_enrich.sql import literal
from dbt_enrich.task.schema import OutputColumn
from dbt_enrich.task.types import ArrayType
from dbt_enrich.validation.answers import SCHEMA_MISMATCH
from dbt_enrich.validation.problems import key_path


def validated_vectors_sql(source: str, output: OutputColumn) -> str:
    """Build the SELECT that validates and types vectors.

    Args:
        source: SQL of a relation, a table's name or a SELECT in parentheses, with at least the
            column `vector float[]`, which may be NULL.
        output: The output column.

    Returns:
        A SELECT of all other columns of `source` and of those that `validated_answers_sql` adds:
        `answer` is a struct with the vector as a list, and gives back all that there is.
    """
    assert isinstance(output.type, ArrayType)  # noqa: S101 - the caller looked
    size, path = output.type.size, f"${key_path(output.name)}"
    wrong_size = f"{path} must have {size} numbers, got "
    return f"""
        select
            * exclude (vector),
            case when mismatch is null and vector is not null
                then {{{literal(output.name)}: vector}} end as answer,
            cast(null as varchar) as clean_content,
            true as is_given_back,
            case when mismatch is not null then {literal(SCHEMA_MISMATCH)} end as mismatch_kind
        from (
            select
                *,
                case
                    when vector is null then null
                    when len(vector) = 0 then {literal(f"{wrong_size}none that can be read")}
                    when len(vector) <> {size} then {literal(wrong_size)} || len(vector)
                    -- A sum of finite floats is finite as a double, and one with NaN is not.
                    when not isfinite(list_sum(vector))
                        then {literal(f"{path} must have finite numbers")}
                end as mismatch
            from {source}
        )
    """

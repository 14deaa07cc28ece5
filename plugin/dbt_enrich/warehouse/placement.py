"""Placement: where an enriched table is published, and what its columns are there.

The engine knows the columns by the types that the SELECT and the task give them. What a catalog
holds as another type is turned into it where the table is written, and back where it is read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from dbt_enrich.errors import ConfigurationError, InputError
from dbt_enrich.sql import identifier, key_text_sql
from dbt_enrich.task.result_columns import ERROR_TYPES, KEY, STATUS, STATUS_TYPES
from dbt_enrich.task.schema import OutputColumn
from dbt_enrich.warehouse.catalogs import (
    Catalog,
    Stored,
    changed_columns,
    holds_text,
    is_stored,
    loses_quotes,
    same_types,
    stored,
)
from dbt_enrich.warehouse.enriched_table import ExistingTable
from dbt_enrich.warehouse.relation import StagedRelation

# What dbt puts after the name of a table that it replaces, the longest of such endings.
_LONGEST_ENDING = "__dbt_backup"


@dataclass(frozen=True)
class Placement:
    """Where an enriched table is published.

    Attributes:
        catalog: The catalog of its database.
        table: Its name without database and schema, or None where it has none.
        indexes: Whether the model configures some.
        comments: Whether the model configures `persist_docs`.
        inlines: Whether a lake keeps small tables in its catalog.
        texts: Those of our columns that are texts there, whatever the catalog holds.
    """

    catalog: Catalog = Catalog.DUCKDB
    table: str | None = None
    indexes: bool = False
    comments: bool = False
    inlines: bool = False
    texts: frozenset[str] = frozenset()

    def stored(self, name: str, kind: str) -> Stored | None:
        """Return how a column of a type is stored, or None where it cannot be."""
        return Stored("VARCHAR") if name in self.texts else stored(self.catalog, kind)

    @property
    def changes_nothing(self) -> bool:
        """Whether the catalog holds everything that DuckDB does."""
        return self.catalog in (Catalog.DUCKDB, Catalog.MOTHERDUCK)


@dataclass(frozen=True)
class PlacedColumns:
    """The columns of an enriched table and of its errors table, by the types that they have here.

    Attributes:
        placement: Where the tables are published.
        enriched: The enriched table's.
        errors: The errors table's.
    """

    placement: Placement
    enriched: Mapping[str, str]
    errors: Mapping[str, str]

    def written(self, enriched_sql: str, errors_sql: str) -> tuple[str, str]:
        """Build the SELECTs of what is stored of the rows that two SELECTs yield."""
        placement = self.placement
        return (
            written(placement, enriched_sql, self.enriched),
            written(placement, errors_sql, self.errors),
        )

    def read(self, existing: ExistingTable) -> ExistingTable:
        """Return a table that is there with its columns as they are here."""
        if self.placement.changes_nothing:
            return existing
        wanted = {name.lower(): kind for name, kind in self.enriched.items()}
        columns, source = self._read(existing.name, existing.columns, wanted)
        errors = existing.errors
        if errors:
            _, errors = self._read(errors, self._held(ERROR_TYPES), ERROR_TYPES)
        return replace(existing, name=source, columns=columns, errors=errors)

    def _read(
        self, table: str, found: Mapping[str, str], wanted: Mapping[str, str]
    ) -> tuple[dict[str, str], str]:
        columns, values, lost = dict(found), {}, []
        for name, there in found.items():
            kind = wanted.get(name.lower())
            held = None if kind is None else stored(self.placement.catalog, kind)
            if kind is None or held is None or same_types(there, kind):
                continue
            # What has another type than such a column is stored as is another column.
            if is_stored(there, held):
                column, value = identifier(name), held.read(identifier(name), kind)
                values[column] = value
                columns[name] = kind
                if name not in STATUS_TYPES:
                    lost.append(f"({column} is not null and {value} is null)")
        key = identifier(KEY)
        if lost and KEY in found:
            # Of an enum that has another member now: what is left is not the answer of that key.
            values[key] = f"case when not ({' or '.join(lost)}) then {values.get(key, key)} end"
        return columns, f"(select {_replaced(values)} from {table})" if values else table

    def _held(self, columns: Mapping[str, str]) -> dict[str, str]:
        found = {name: stored(self.placement.catalog, kind) for name, kind in columns.items()}
        return {name: held.type for name, held in found.items() if held}


def written(placement: Placement, select: str, columns: Mapping[str, str]) -> str:
    """Build the SELECT of what is stored of the rows that a SELECT yields.

    Args:
        placement: Where they are stored.
        select: The SELECT.
        columns: The types of its columns, by name; those that are left out are stored as they are.
    """
    values = {}
    for name, kind in columns.items():
        column, held = identifier(name), placement.stored(name, kind)
        value = column if held is None else _written_value(name, kind, held, placement.catalog)
        if value != column:
            values[column] = value
    return f"select {_replaced(values)} from ({select}) as logical" if values else select


def _written_value(name: str, kind: str, held: Stored, catalog: Catalog) -> str:
    # As every version has written it where it is a text.
    if name == KEY and same_types(held.type, "VARCHAR"):
        return key_text_sql(identifier(name))
    return held.written(identifier(name), kind, holds_nul=catalog.holds_nul)


def texts_of(
    declared: Mapping[str, str], merged_into: ExistingTable | None = None
) -> frozenset[str]:
    """Return the columns of ours that are texts because something of the user's has them so.

    Args:
        declared: The types that an enforced contract has, by name.
        merged_into: The table that rows are merged into: an earlier version may have made it.
    """
    there = {name.lower(): kind for name, kind in declared.items()}
    if merged_into:
        there |= {name.lower(): kind for name, kind in merged_into.columns.items()}
    return frozenset(
        name for name in (STATUS, KEY) if name in there and same_types(there[name], "VARCHAR")
    )


def place(
    placement: Placement, relation: StagedRelation, outputs: Sequence[OutputColumn]
) -> tuple[PlacedColumns, str | None]:
    """Check that an enriched table can be published where it is to be, before anything is sent.

    Args:
        placement: Where it is published.
        relation: The staged rows.
        outputs: The output columns.

    Returns:
        Its columns, and what the user should know of how they are stored, or None.

    Raises:
        ConfigurationError: The catalog cannot hold something that the model has.
        InputError: It cannot hold a value of the staged rows.
    """
    staged = relation.columns()
    outs = {output.name: output.type.sql for output in outputs}
    enriched = {**staged, **outs, **STATUS_TYPES}
    by_name = {name.lower(): kind for name, kind in staged.items()}
    keys = {key: by_name[key.lower()] for key in relation.unique_key if key.lower() in by_name}
    columns = PlacedColumns(placement, enriched, {**keys, **ERROR_TYPES})
    if placement.changes_nothing:
        return columns, None
    _check_features(placement, relation.model, enriched)
    _check_types(placement.catalog, relation.model, staged, outs)
    _check_inlining(placement, relation.model, {**staged, **outs})
    _check_values(placement.catalog, relation, staged)
    changed = changed_columns(placement.catalog, {**staged, **outs})
    if not changed:
        return columns, None
    listed = ", ".join(f"{name} as {kind}" for name, kind in changed.items())
    return columns, (
        f"{placement.catalog.label} does not hold every type that DuckDB does; the table of "
        f"'{relation.model}' has {listed}"
    )


def _check_features(placement: Placement, model: str, columns: Mapping[str, str]) -> None:
    catalog = placement.catalog
    if placement.indexes and not catalog.has_indexes:
        raise ConfigurationError(
            f"model '{model}': it configures indexes, which a table in {catalog.label} cannot have "
            "through DuckDB",
            fix="leave indexes out of its config",
        )
    if placement.comments and not catalog.has_comments:
        raise ConfigurationError(
            f"model '{model}': it configures persist_docs, but DuckDB writes no comments in "
            f"{catalog.label}",
            fix="set persist_docs: {relation: false, columns: false} for it",
        )
    limit = catalog.name_bytes
    if limit is None:
        return
    names = [*columns, f"{placement.table}{_LONGEST_ENDING}"] if placement.table else [*columns]
    for name in names:
        if len(name.encode()) > limit:
            ours = name.removesuffix(_LONGEST_ENDING)
            raise ConfigurationError(
                f"model '{model}': the name '{ours}' is too long for {catalog.label}, which cuts "
                f"names off after {limit} bytes (a table's after {limit - len(_LONGEST_ENDING)}, "
                f"as dbt adds {_LONGEST_ENDING} while it is replaced)",
                fix="give the table a shorter alias, or the column a shorter name",
            )


def _check_types(
    catalog: Catalog, model: str, staged: Mapping[str, str], outputs: Mapping[str, str]
) -> None:
    for name, kind in {**staged, **outputs}.items():
        if stored(catalog, kind) is None:
            fix = f"cast it in the SELECT: cast({identifier(name)} as varchar)"
            if name in outputs:
                fix = "give it another data_type in the YAML, such as varchar"
            raise ConfigurationError(
                f"model '{model}': {catalog.label} cannot hold the column '{name}' of the type "
                f"{kind}",
                fix=fix,
            )


def _check_inlining(placement: Placement, model: str, columns: Mapping[str, str]) -> None:
    if placement.catalog != Catalog.DUCKLAKE_ON_POSTGRES or not placement.inlines:
        return
    for name, kind in columns.items():
        if loses_quotes(kind):
            raise ConfigurationError(
                f"model '{model}': the column '{name}' is {kind}, and DuckLake loses quotes in the "
                "texts of a struct where it keeps the few rows of a small table in Postgres",
                fix="write options: {data_inlining_row_limit: 0} where the profile attaches the "
                "lake, or make the column a list or a varchar",
            )


def _check_values(catalog: Catalog, relation: StagedRelation, staged: Mapping[str, str]) -> None:
    """Refuse values that Postgres does not take."""
    conditions = {}
    for name, kind in staged.items():
        column, held = identifier(name), stored(catalog, kind)
        if held and not held.is_json and not catalog.holds_nul and holds_text(kind):
            conditions[name] = (
                f"contains(cast({column} as varchar), chr(0))",
                "the character NUL",
                f"replace({column}, chr(0), '')",
            )
        elif held and same_types(held.type, "decimal(38,0)") and kind.upper() == "HUGEINT":
            conditions[name] = (
                f"{column} is not null and try_cast({column} as decimal(38,0)) is null",
                "a number of 39 digits",
                f"cast({column} as varchar)",
            )
    if not conditions:
        return
    counts = ", ".join(f"count(*) filter ({condition})" for condition, _, _ in conditions.values())
    found = relation.connection.execute(f"select {counts} from {relation.name}").fetchone() or ()
    for (name, (_, what, way_out)), count in zip(conditions.items(), found, strict=True):
        if count:
            raise InputError(
                f"model '{relation.model}': the column '{name}' holds {what} in {count:,} rows, "
                f"which {catalog.label} cannot store",
                fix=f"write {way_out} in the SELECT",
            )


def _replaced(values: Mapping[str, str]) -> str:
    if not values:
        return "*"
    listed = ", ".join(f"{value} as {column}" for column, value in values.items())
    return f"* replace ({listed})"

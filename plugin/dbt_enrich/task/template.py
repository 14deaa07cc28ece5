r"""The user message of a row: a template over the columns of the SELECT, rendered in SQL.

`{column}` is a placeholder when the braces hold an identifier; any other brace is text, and
`\{` is a brace before what would be one.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from dbt_enrich.errors import ConfigurationError, InputError
from dbt_enrich.sql import identifier, literal
from dbt_enrich.wording import columns_text, near_match

_TOKEN = re.compile(r"(?P<brace>\\\{)|\{(?P<column>[^\W\d]\w*)\}")
# A text is blank if it holds nothing but white space, no-break, zero-width or ideographic ones too.
NOT_BLANK = (
    r"[^\s\x{0b}\x{85}\x{a0}\x{1680}\x{2000}-\x{200b}"
    r"\x{2028}\x{2029}\x{202f}\x{205f}\x{3000}\x{feff}]"
)
_TEXT_TYPES = re.compile(
    r"^(varchar|u?(tiny|small|big|huge)int|u?integer|boolean|decimal\(.*\)|double|float|date|time"
    r"|time with time zone|time_ns|timestamp|timestamp_(s|ms|ns)|uuid|enum\(.*\)|json|interval)$",
    re.IGNORECASE | re.DOTALL,
)
_NESTED = re.compile(r"(\[\d*\]|^(struct|map)\(.*\))$", re.IGNORECASE | re.DOTALL)
_NOT_IN_NESTED = re.compile(r"with time zone|\bblob\b|\bbit\b|\bunion\(|\bvariant\b", re.IGNORECASE)


@dataclass(frozen=True)
class Template:
    """A parsed template.

    Attributes:
        parts: Texts and column names in turn, `parts[1::2]` the columns.
    """

    parts: tuple[str, ...]

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that the template names, each once, in order."""
        return tuple(dict.fromkeys(self.parts[1::2]))


def parse_template(text: str) -> Template:
    r"""Split a template into texts and placeholders.

    >>> parse_template(r"{title}: \{x} {1}").parts
    ('', 'title', ': {x} {1}')
    """
    parts = [""]
    end = 0
    for match in _TOKEN.finditer(text):
        parts[-1] += text[end : match.start()]
        end = match.end()
        if match["brace"]:
            parts[-1] += "{"
        else:
            parts += [match["column"], ""]
    parts[-1] += text[end:]
    return Template(tuple(parts))


def message_sql(
    template: Template,
    column_types: Mapping[str, str],
    optional: Collection[str],
    *,
    model: str,
    may_be_constant: bool = False,
) -> str:
    """Build the SQL expression of a row's user message, NULL where a needed text is missing.

    Args:
        template: The parsed user template.
        column_types: DuckDB type of each staged column, by name.
        optional: Columns that may be NULL or blank; they render as an empty text.
        model: The dbt model, for messages.
        may_be_constant: Whether it may name no column, as rows differ in their pictures.

    Raises:
        ConfigurationError: The template names no column, or one that is not staged.
        InputError: A column's type has no fixed rendering.
    """
    staged = {name.lower(): name for name in column_types}
    if not template.columns and not may_be_constant:
        raise ConfigurationError(
            f"model '{model}': enrichment.user names no column, so every row would ask the same",
            fix="put a column of the SELECT into single braces, such as {description} (what stands "
            "in double braces, dbt takes for its own)",
        )
    for name in (*template.columns, *optional):
        if name.lower() not in staged:
            field = "user" if name in template.columns else "optional"
            raise ConfigurationError(
                f"model '{model}': enrichment.{field} names the column '{name}', which the SELECT "
                f"does not return ({columns_text(column_types)})",
                fix=near_match(name, staged) or "name one of the SELECT's columns",
            )
    rendered = {
        name: _rendered(staged[name.lower()], column_types[staged[name.lower()]], model)
        for name in template.columns
    }
    pieces = [
        literal(part) if index % 2 == 0 else f"coalesce({rendered[part]}, '')"
        for index, part in enumerate(template.parts)
        if index % 2 or part
    ]
    message = " || ".join(pieces)
    needed = [rendered[name] for name in _needed(template, optional)]
    return f"case when {_present_sql(needed)} then {message} end" if needed else message


def missing_sql(
    template: Template, column_types: Mapping[str, str], optional: Collection[str], *, model: str
) -> str:
    """Build the SQL expression of the names of the needed texts that a row has not, else NULL.

    Args:
        template: The parsed user template, whose columns are all staged.
        column_types: DuckDB type of each staged column, by name.
        optional: Columns that may be NULL or blank.
        model: The dbt model, for messages.
    """
    staged = {name.lower(): name for name in column_types}
    columns = {name: staged[name.lower()] for name in _needed(template, optional)}
    if not columns:
        return "cast(null as varchar)"
    texts = [_rendered(column, column_types[column], model) for column in columns.values()]
    names = [
        f"case when {_present_sql([text])} then null else {literal(name)} end"
        for name, text in zip(columns, texts, strict=True)
    ]
    # Only of a row that lacks one each text is looked at alone.
    return f"case when {_present_sql(texts)} then null else concat_ws(', ', {', '.join(names)}) end"


def has_blank_sql(template: Template, column_types: Mapping[str, str], *, model: str) -> str:
    """Build the SQL condition that a text which the template names is NULL or blank.

    Args:
        template: The parsed user template, whose columns are all staged.
        column_types: DuckDB type of each staged column, by name.
        model: The dbt model, for messages.
    """
    staged = {name.lower(): name for name in column_types}
    names = [staged[name.lower()] for name in template.columns]
    texts = [_rendered(name, column_types[name], model) for name in names]
    return f"not coalesce({_present_sql(texts)}, false)" if texts else "false"


def _needed(template: Template, optional: Collection[str]) -> list[str]:
    """Return the columns of a template that must have a text."""
    tolerated = {name.lower() for name in optional}
    return [name for name in template.columns if name.lower() not in tolerated]


def _present_sql(texts: Sequence[str]) -> str:
    return " and ".join(f"regexp_matches({text}, {literal(NOT_BLANK)})" for text in texts)


def _rendered(column: str, data_type: str, model: str) -> str:
    """Render a column as text by a fixed rule that no session setting changes."""
    name = identifier(column)
    kind = data_type.strip()
    if kind.lower() == "varchar":
        return name
    if kind.lower() == "timestamp with time zone":
        return f"(cast(make_timestamp(epoch_us({name})) as varchar) || 'Z')"
    if _NESTED.search(kind) and not _NOT_IN_NESTED.search(kind):
        return f"cast(to_json({name}) as varchar)"
    if _TEXT_TYPES.match(kind):
        return f"cast({name} as varchar)"
    raise InputError(
        f"model '{model}': the column '{column}' of enrichment.user has the type {kind}, which has "
        "no fixed rendering as text",
        fix="cast it to varchar in the SELECT",
    )

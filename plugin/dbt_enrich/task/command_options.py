"""What a command that starts dbt says of dbt's models, in place of their own options."""

from __future__ import annotations

from collections.abc import Collection

from dbt_enrich.environment import (
    MODE_VARIABLE,
    PREVIEW_MODEL_VARIABLE,
    PREVIEW_ROWS_VARIABLE,
    given,
)
from dbt_enrich.errors import ConfigurationError
from dbt_enrich.task.model_names import labels
from dbt_enrich.task.options import EnrichmentOptions, Mode
from dbt_enrich.wording import near_match


def commanded(options: EnrichmentOptions) -> EnrichmentOptions:
    """Return a model's options with what the environment says in place of its own.

    Raises:
        ConfigurationError: The environment names no mode, or no number of rows from 1 to 100.
    """
    mode, rows = given(MODE_VARIABLE), given(PREVIEW_ROWS_VARIABLE)
    changes: dict[str, object] = {}
    if mode:
        changes["mode"] = _mode(mode)
    if rows:
        changes["preview_rows"] = _rows(rows)
    return options.model_copy(update=changes)


def refuse_several(selected: Collection[str]) -> None:
    """Refuse to preview more than the one model that a user means.

    Args:
        selected: The unique ids of the models that dbt selected by the name.

    Raises:
        ConfigurationError: There are several, such as two versions of one model.
    """
    name = given(PREVIEW_MODEL_VARIABLE)
    if name and len(selected) > 1:
        text = ", ".join(sorted(labels(selected).values()))
        raise ConfigurationError(
            f"the name '{name}' fits {len(selected)} models: {text}", fix="name one of them"
        )


def _mode(name: str) -> Mode:
    try:
        return Mode(name)
    except ValueError:
        raise ConfigurationError(
            f"the environment variable {MODE_VARIABLE} is '{name}', which is no mode",
            fix=near_match(name, list(Mode)) or f"set it to one of {', '.join(Mode)}",
        ) from None


def _rows(number: str) -> int:
    if number.isdecimal() and 1 <= int(number) <= 100:
        return int(number)
    raise ConfigurationError(
        f"the environment variable {PREVIEW_ROWS_VARIABLE} is '{number}'",
        fix="set it to a number of rows from 1 to 100",
    )

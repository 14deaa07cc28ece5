"""How a command that starts dbt says what dbt's models are to do: in the environment.

Not by `--vars`: dbt parses the whole project anew where they differ from those of its last run,
and once more on the next run without them. Python models, which see no variables, are told too.
"""

from __future__ import annotations

import os
from collections.abc import Collection

from dbt_enrich.errors import ConfigurationError
from dbt_enrich.task.model_names import labels
from dbt_enrich.task.options import EnrichmentOptions, Mode
from dbt_enrich.wording import near_match

MODE_VARIABLE = "DBT_ENRICH_MODE"
PREVIEW_ROWS_VARIABLE = "DBT_ENRICH_PREVIEW_ROWS"
PREVIEW_MODEL_VARIABLE = "DBT_ENRICH_PREVIEW_MODEL"


def commanded(options: EnrichmentOptions) -> EnrichmentOptions:
    """Return a model's options with what the environment says in place of its own.

    Raises:
        ConfigurationError: The environment names no mode, or no number of rows from 1 to 100.
    """
    mode, rows = os.environ.get(MODE_VARIABLE), os.environ.get(PREVIEW_ROWS_VARIABLE)
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
    name = os.environ.get(PREVIEW_MODEL_VARIABLE)
    if name and len(selected) > 1:
        said = ", ".join(sorted(labels(selected).values()))
        raise ConfigurationError(
            f"the name '{name}' fits {len(selected)} models: {said}", fix="name one of them"
        )


def _mode(given: str) -> Mode:
    try:
        return Mode(given)
    except ValueError:
        raise ConfigurationError(
            f"the environment variable {MODE_VARIABLE} is '{given}', which is no mode",
            fix=near_match(given, list(Mode)) or f"set it to one of {', '.join(Mode)}",
        ) from None


def _rows(given: str) -> int:
    if given.isdecimal() and 1 <= int(given) <= 100:
        return int(given)
    raise ConfigurationError(
        f"the environment variable {PREVIEW_ROWS_VARIABLE} is '{given}'",
        fix="set it to a number of rows from 1 to 100",
    )

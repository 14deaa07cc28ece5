"""What goes between a command of ours and the dbt that it starts: all variables are read here.

Not by `--vars`: dbt parses the whole project anew where they differ from those of its last run,
and once more on the next run without them. Python models, which see no variables, are told too.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Final

MODE_VARIABLE: Final = "DBT_ENRICH_MODE"
PREVIEW_ROWS_VARIABLE: Final = "DBT_ENRICH_PREVIEW_ROWS"
PREVIEW_MODEL_VARIABLE: Final = "DBT_ENRICH_PREVIEW_MODEL"
RUN_BEGAN_VARIABLE: Final = "DBT_ENRICH_RUN_BEGAN"
"""When a command that runs dbt several times began, in ISO 8601: its caps are on all of them."""
REPORTS_VARIABLE: Final = "DBT_ENRICH_REPORTS"
"""Where `plan` and `preview` wait for what dbt's models report, one JSON line a model."""
DBT_VARIABLE: Final = "DBT_ENRICH_DBT"
"""What starts the dbt that works without our plugin, where it is not the first on the path."""
TIMINGS_VARIABLE: Final = "DBT_ENRICH_TIMINGS"
"""Set by `dbt-enrich run --timings`, or by a user for `dbt run`."""
_LIVE_VARIABLE: Final = "DBT_ENRICH_LIVE"


def given(variable: str) -> str | None:
    """Return what a variable says, or None where it is not set or empty."""
    return os.environ.get(variable) or None


def command_began() -> datetime | None:
    """Return when a command that runs dbt several times began, or None where there is none."""
    began = given(RUN_BEGAN_VARIABLE)
    return datetime.fromisoformat(began) if began else None


def timings_wanted() -> bool:
    """Whether the user wants to read where the time goes."""
    return (given(TIMINGS_VARIABLE) or "").lower() not in ("", "0", "false")


def live_lines_wanted() -> bool:
    """Whether lines may be rewritten in place, where there is a terminal for it."""
    return os.environ.get("TERM") != "dumb" and given(_LIVE_VARIABLE) != "0"


def report(document: Mapping[str, Any]) -> None:
    """Append a report of a model, if a command waits for one."""
    path = given(REPORTS_VARIABLE)
    if not path:
        return
    line = json.dumps(document, ensure_ascii=False, default=str) + "\n"
    with Path(path).open("a", encoding="utf-8") as file:
        file.write(line)

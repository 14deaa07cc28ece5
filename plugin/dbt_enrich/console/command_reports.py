"""Reports: what the engine hands to the command that started dbt, one JSON line a model."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# Set by `dbt-enrich plan` and `preview` for the dbt that they start.
REPORTS_VARIABLE = "DBT_ENRICH_REPORTS"


def report(document: Mapping[str, Any]) -> None:
    """Append a report, if a command waits for one."""
    path = os.environ.get(REPORTS_VARIABLE)
    if not path:
        return
    line = json.dumps(document, ensure_ascii=False, default=str) + "\n"
    with Path(path).open("a", encoding="utf-8") as file:
        file.write(line)

"""One run of the engine in a process of its own, which the soak may kill at any moment.

Reads what to do from the JSON file that is its argument.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from dbt_enrich.config import parse_config
from dbt_enrich.errors import EnrichmentError
from support.endpoints import options_for, task_for
from support.warehouse import Warehouse

# A named failure, after which an orchestrator tries again.
NAMED = 9


def main() -> int:
    """Run once; say by the exit code how it ended."""
    job = json.loads(Path(sys.argv[1]).read_text())
    config = parse_config({"memory_limit": "160MB", **job["config"]}, duckdb_settings={})
    warehouse = Warehouse(config, Path(job["warehouse"]))
    try:
        warehouse.enrich(
            job["select"],
            task_for(job["endpoint"]),
            table=job["table"],
            mode=job["mode"],
            max_attempts=job["max_attempts"],
            **options_for(job["endpoint"]),
        )
    except EnrichmentError as error:
        print(error)
        return NAMED
    return 0


if __name__ == "__main__":
    sys.exit(main())

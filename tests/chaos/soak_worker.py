"""One run of the engine in a process of its own, which the soak may kill at any moment.

Reads what to do from the JSON file that is its argument.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from dbt_enrich.errors import EnrichmentError
from support.warehouse import Warehouse, config_for, summary_task

# A named failure, after which an orchestrator tries again.
NAMED = 9


def main() -> int:
    """Run once; say by the exit code how it ended."""
    job = json.loads(Path(sys.argv[1]).read_text())
    config = config_for(job["url"], job["api_key"], Path(job["state"]), **job["config"])
    warehouse = Warehouse(config, Path(job["warehouse"]))
    try:
        warehouse.enrich(
            job["select"],
            summary_task(endpoint=job["endpoint"]),
            table=job["table"],
            mode=job["mode"],
            max_attempts=job["max_attempts"],
        )
    except EnrichmentError as error:
        print(error)
        return NAMED
    return 0


if __name__ == "__main__":
    sys.exit(main())

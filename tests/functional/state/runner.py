"""A runner in a process of its own: it enriches notes, and may freeze at a step of the ledger."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from dbt_enrich.config.state import StateKeys
from dbt_enrich.state import leases
from dbt_enrich.state.shards import Shard, Step
from dbt_enrich.state.tables.shards import Shards
from pydantic import SecretStr
from support.warehouse import Warehouse, config_for


def freeze_at(moment: str) -> None:
    """Have this process stopped at the first `<step>:before` or `<step>:after`."""
    step, when = moment.split(":")
    record, moments = Shards.record, [when]

    def recorded(shards: Shards, shard: Shard, to: Step, **changes: Any) -> Shard:
        hit = to == step and bool(moments)
        if hit and when == "before":
            moments.pop()
            os.kill(os.getpid(), signal.SIGSTOP)
        moved = record(shards, shard, to, **changes)
        if hit and when == "after":
            moments.pop()
            os.kill(os.getpid(), signal.SIGSTOP)
        return moved

    Shards.record = recorded  # type: ignore[method-assign, assignment]


def run(settings: dict[str, Any]) -> None:
    """Enrich notes as the settings say, once a line comes in; print what became of them."""
    leases.LEASE_SECONDS = settings["lease"]  # type: ignore[misc]
    if settings["freeze"]:
        freeze_at(settings["freeze"])
    config = config_for(settings["url"], settings["key"], Path(settings["state_dir"]))
    state = StateKeys(
        ledger=SecretStr(settings["ledger"]),
        ledger_schema=settings["ledger_schema"],
        files=settings["files"],
    )
    warehouse = Warehouse(config.model_copy(update={"state": state}))
    print("ready", flush=True)
    sys.stdin.readline()
    warehouse.enrich(settings["select"])
    print(json.dumps({"statuses": warehouse.statuses(), "log": warehouse.log}), flush=True)


if __name__ == "__main__":
    run(json.loads(sys.argv[1]))

"""Where requests go: what a file of theirs may hold there."""

from __future__ import annotations

from pathlib import Path

import pytest
from dbt_enrich.config.file_limits import MAX_BLOB_BYTES, MAX_FILE_BYTES, ServiceLimits
from dbt_enrich.pipeline.export.destination import Destination
from dbt_enrich.pipeline.export.relayed_rounds import MOST_REQUESTS, Relayed
from dbt_enrich.pipeline.run.deployments import Spread
from dbt_enrich.pipeline.run.token_quota import TokenRoom
from dbt_enrich.state.ledger import Ledger
from dbt_enrich.workspace.database import Workspace


@pytest.mark.parametrize(
    ("given", "relayed"), [(MAX_BLOB_BYTES, MAX_FILE_BYTES), (1_000_000, 1_000_000)]
)
def test_the_relay_takes_uploads_alone(given: int, relayed: int, tmp_path: Path) -> None:
    """Where batches read blobs, which may be larger, its files are no larger than ever."""
    limits = ServiceLimits(100_000, given)
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        room = TokenRoom(ledger, lambda _: None)
        spread = Spread(["gpt-4o-mini"], "azure:h", room, ledger)
    made = Destination("e", spread, "azure:h", limits, "/x", "n", "run", Relayed(None, spread))
    found = made.of_round([], None, Workspace(tmp_path, threads=1))
    assert (found.is_synchronous, found.limits) == (True, ServiceLimits(MOST_REQUESTS, relayed))
    assert made.limits == limits

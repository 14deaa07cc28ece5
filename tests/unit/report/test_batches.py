"""How requests went to the service, as a report says it."""

from __future__ import annotations

import json
from typing import Any

from dbt_enrich.report.batches import route_of, ways
from dbt_enrich.report.contents import Way
from dbt_enrich.report.tables import ways_sentence
from dbt_enrich.state.shards import Shard, Step


def shard(**changes: Any) -> Shard:
    """A shard that is at an end."""
    values = {"namespace": "n", "service": "azure:x", "task_key": "t", "batch_id": "b", **changes}
    return Shard(**{"shard": "s", "step": Step.STORED, "owner": None, **values})


FLEX = json.dumps({"parameters": {"service_tier": "flex"}})


def test_a_shard_goes_in_a_batch_or_one_by_one() -> None:
    """By the flex tier where its requests ask for that, whatever a batch's parameters are."""
    assert route_of(shard()) == "batch"
    assert route_of(shard(settings=FLEX)) == "batch"
    assert route_of(shard(synchronous=True)) == "synchronous"
    assert route_of(shard(synchronous=True, settings=FLEX)) == "flex"


def test_ways_are_added_up_and_said() -> None:
    """Those of most requests first; what was never sent is in none."""
    found = ways(
        [
            shard(requests=2),
            shard(endpoint="embeddings", requests=3, rows=300, synchronous=True),
            shard(requests=2, rows=20),
            shard(endpoint="responses", requests=1, synchronous=True, settings=FLEX),
            shard(requests=9, batch_id=None, step=Step.RELEASED),
        ]
    )
    assert found == (
        Way("chat", "batch", 4, 22),
        Way("embeddings", "synchronous", 3, 300),
        Way("responses", "flex", 1, 1),
    )
    assert ways_sentence(found) == (
        "Sent so far: 4 requests of 22 rows to chat in batches; "
        "3 requests of 300 rows to embeddings one by one (synchronous); "
        "1 request of 1 row to responses one by one (flex)."
    )
    assert ways_sentence(()) == ""

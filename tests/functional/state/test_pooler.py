"""A ledger behind a pooler that gives each transaction another session."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack, closing

from dbt_enrich.state.leases import LeasedOwnership
from dbt_enrich.state.ledger import Ledger
from dbt_enrich.state.shards import Shard, Step
from pydantic import SecretStr
from support.pooler import transaction_pool
from support.shared_ledger import LedgerServer, connected

_SECONDS = 1.0
_RUNS = 4
_CLAIMS = 5


def test_runs_share_two_sessions(ledgers: LedgerServer) -> None:
    """Locks, leases, schema and time-outs are each transaction's own: nothing is in a session."""
    with ExitStack() as opened:
        pool = opened.enter_context(transaction_pool(ledgers.server.root, sessions=2))
        keys = ledgers.new().model_copy(update={"ledger": SecretStr(pool)})
        other = ledgers.new().model_copy(update={"ledger": SecretStr(pool)})
        opened.enter_context(closing(connected(other)))
        held: list[str] = []

        def work(name: str) -> None:
            with closing(connected(keys)) as connection:
                ledger = Ledger(connection)
                owners = LeasedOwnership(name, connection, connection.beside, seconds=_SECONDS)
                term = owners.term()
                for number in range(_CLAIMS):
                    shard = Shard(
                        f"{name}-{number}", Step.CLAIMED, name,
                        namespace="n", service="local", task_key="t",
                    )  # fmt: skip

                    def claim(shard: Shard = shard) -> None:
                        held.append(name)
                        ledger.shards.add(shard)
                        time.sleep(0.01)
                        assert held.pop() == name
                        assert not held

                    ledger.exclusively(claim)
                    assert ledger.shards.record(shard, Step.CREATING).step == Step.CREATING
                time.sleep(1.2 * _SECONDS)
                owners.confirm(term)
                owners.release()

        names = [f"run-{number}" for number in range(_RUNS)]
        threads = [threading.Thread(target=work, args=(name,)) for name in names]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        ledger = Ledger(opened.enter_context(closing(connected(keys))))
        assert len(ledger.shards.all()) == _RUNS * _CLAIMS
        assert {shard.step for shard in ledger.shards.all()} == {Step.CREATING}
        assert ledgers.execute(f"select count(*) from {keys.ledger_schema}.leases") == [(0,)]

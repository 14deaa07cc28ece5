"""Sweep: request and response files are removed once nothing needs them."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from dbt_enrich.state.directory import StateDirectory
from dbt_enrich.state.run import Run
from dbt_enrich.state.shards import Shard, Step


def sweep_files(run: Run) -> None:
    """Remove the request and response files that nothing needs any more.

    They are what a killed run did not finish, what it had not yet removed of shards that it had
    closed, and input files of shards whose answers are downloaded.

    Args:
        run: The run that sweeps; while another one is alive, what may be its own stays.
    """
    with run.store.no_run_begins(run.id) as is_alone:
        files = run.store.shard_files()
        unfinished = run.store.unfinished_files() if is_alone else []
        shards = run.ledger.shards.named({name for _, name in files})
        needed = {path for shard in shards for path in _needed_files(shard, run.store)}
        known = {shard.shard for shard in shards}
        whole = [path for path, name in files if name in known or is_alone]
        for path in [*unfinished, *whole]:
            if path not in needed:
                _remove(path)
    run.files.sweep(run.ledger, run.clock)


def _needed_files(shard: Shard, store: StateDirectory) -> list[Path]:
    name = shard.shard
    if shard.is_closed:
        # A shard without requests has answers to unknown rows.
        kinds = ("output", "error")
        return [] if shard.requests else [store.response(name, kind) for kind in kinds]
    kept = [store.manifest(name), store.response(name, "output"), store.response(name, "error")]
    return kept if shard.step == Step.DOWNLOADED else [store.requests(name), *kept]


def remove_files(shard: Shard, store: StateDirectory) -> None:
    """Remove all request and response files of a shard."""
    for path in (
        store.requests(shard.shard),
        store.manifest(shard.shard),
        store.response(shard.shard, "output"),
        store.response(shard.shard, "error"),
    ):
        _remove(path)


def _remove(path: Path) -> None:
    with suppress(OSError):
        path.unlink(missing_ok=True)

"""What `dbt-enrich doctor` finds in a state that several machines share: the ledger, the bucket."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from dbt_enrich.buckets.bucket import UNTRIED, Bucket
from dbt_enrich.buckets.bucket_checks import check_bucket
from dbt_enrich.cli.findings import Finding, of_error
from dbt_enrich.config import PluginConfig
from dbt_enrich.config.bucket_address import BucketAddress
from dbt_enrich.config.state import StateKeys
from dbt_enrich.errors import EnrichmentError
from dbt_enrich.state.answer_store import AnswerStore
from dbt_enrich.state.directory import StateDirectory
from dbt_enrich.state.ledger import Ledger
from dbt_enrich.state.open_files import open_files
from dbt_enrich.state.open_ledger import ledger_place, open_ledger
from dbt_enrich.wording import counted
from dbt_enrich.workspace.database import Workspace

# Less is the time that a query takes on a slow line.
_MOST_SECONDS = 30.0


def shared_findings(config: PluginConfig, keys: StateKeys) -> Iterator[Finding]:
    """Look at the ledger, at what a runner may do in the bucket, and at the answers in it.

    Args:
        config: The plugin's configuration.
        keys: Its key `state`.
    """
    try:
        ledger = open_ledger(config)
    except EnrichmentError as error:
        yield of_error("ledger", error)
        return
    with ledger:
        in_flight = counted(len(ledger.shards.open()), "batch", "batches")
        pooler = ", through a pooler" if ledger.is_pooled() else ""
        yield Finding("ledger", "ok", f"{ledger_place(config)}{pooler}, with {in_flight} in flight")
        yield _clock(ledger.seconds_ahead())
        try:
            checks = list(check_bucket(Bucket(keys.bucket)))
        except EnrichmentError as error:
            yield of_error("bucket", error)
            return
        yield from _untried(keys.bucket)
        for check in checks:
            yield Finding(check.subject, "ok" if check.is_good else "wrong", check.found, check.fix)
        if all(check.is_good for check in checks):
            yield _answers(config, ledger)


def _untried(bucket: BucketAddress) -> Iterator[Finding]:
    """Warn of a kind of bucket that the tests of this project have never seen."""
    if bucket.scheme in UNTRIED:
        yield Finding(
            "bucket",
            "warning",
            f"{bucket.scheme}:// is untried ({UNTRIED[bucket.scheme]})",
            "see that each right below is ok, and run a few rows on two machines first",
        )


def _clock(ahead: float) -> Finding:
    """Look at this machine's clock. Runs follow the ledger's, so that a wrong one costs nothing."""
    if abs(ahead) <= _MOST_SECONDS:
        return Finding("clock", "ok", "this machine's and the ledger's agree")
    way = "behind" if ahead > 0 else "ahead of"
    return Finding(
        "clock",
        "warning",
        f"this machine's is {abs(ahead):,.0f} seconds {way} the ledger's",
        "let NTP set both; signing in to the service may fail with a wrong clock",
    )


def _answers(config: PluginConfig, ledger: Ledger) -> Finding:
    names = ledger.answers.names()
    with tempfile.TemporaryDirectory() as scratch:
        workspace = Workspace(Path(scratch), threads=2)
        try:
            files = open_files(config, StateDirectory(config.work_dir), ledger)
            with closing(workspace):
                lost = AnswerStore(files, ledger, workspace).damaged()
        except EnrichmentError as error:
            return of_error("answers", error)
    if not lost:
        text = "1 file is" if len(names) == 1 else f"all {len(names):,} files are"
        return Finding("answers", "ok", f"{text} there")
    return Finding(
        "answers",
        "wrong",
        f"{len(lost):,} files that the ledger names are not in {files.place}, such as {lost[0]}",
        "bring them back there, from earlier versions of the bucket or a backup",
    )

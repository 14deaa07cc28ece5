"""What `doctor` says of a state that machines share."""

from __future__ import annotations

from pathlib import Path

from dbt_enrich.cli.diagnosis_shared import shared_findings
from dbt_enrich.state.run import open_run
from support.shared_ledger import LedgerServer
from support.warehouse import config_for


def test_ledger_bucket_and_answers_are_looked_at(ledgers: LedgerServer, tmp_path: Path) -> None:
    """All is well at first; a file that is lost, and a bucket of another ledger, are named."""
    keys = ledgers.new()
    config = config_for("http://127.0.0.1:9", "key", tmp_path / "state")
    config = config.model_copy(update={"state": keys})
    found = list(shared_findings(config, keys))
    assert [finding.subject for finding in found] == [
        "ledger", "bucket: write", "bucket: write once", "bucket: read", "bucket: list",
        "bucket: delete", "answers",
    ]  # fmt: skip
    assert {finding.verdict for finding in found} == {"ok"}
    with open_run(config) as run:
        run.ledger.answers.add("lost", task_key="t", answers=1)
    lost = list(shared_findings(config, keys))[-1]
    assert (lost.subject, lost.verdict) == ("answers", "wrong")
    assert "answers/lost.parquet" in lost.found
    other = keys.model_copy(update={"ledger_schema": "another_one"})
    config = config.model_copy(update={"state": other})
    refused = list(shared_findings(config, other))[-1]
    assert (refused.subject, refused.verdict) == ("answers", "wrong")
    assert "holds the files of the ledger" in refused.found

"""What `doctor` says of a state that machines share."""

from __future__ import annotations

import secrets
import time
from pathlib import Path

import pytest
from dbt_enrich.cli.diagnosis_shared import shared_findings
from dbt_enrich.state.run import open_run
from pydantic import SecretStr
from support.buckets import gcs_environment, make_s3_bucket
from support.pooler import transaction_pool
from support.shared_ledger import LedgerServer
from support.warehouse import config_for


def test_ledger_bucket_and_answers_are_looked_at(ledgers: LedgerServer, tmp_path: Path) -> None:
    """All is well at first; a file that is lost, and a bucket of another ledger, are named."""
    keys = ledgers.new()
    config = config_for("http://127.0.0.1:9", "key", tmp_path / "state")
    config = config.model_copy(update={"state": keys})
    found = list(shared_findings(config, keys))
    assert [finding.subject for finding in found] == [
        "ledger", "clock", "bucket: write", "bucket: write once", "bucket: read", "bucket: list",
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


def test_a_kind_of_bucket_that_was_never_tried_is_named(
    ledgers: LedgerServer, s3: str, gcs: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its rights are looked at all the same."""
    name = f"b{secrets.token_hex(8)}"
    make_s3_bucket(s3, name)
    for variable, value in gcs_environment(gcs, tmp_path).items():
        monkeypatch.setenv(variable, value)
    keys = ledgers.new().model_copy(update={"files": f"gs://{name}/p"})
    config = config_for("http://127.0.0.1:9", "key", tmp_path / "state")
    found = list(shared_findings(config.model_copy(update={"state": keys}), keys))
    assert [finding.verdict for finding in found] == ["ok", "ok", "warning", *["ok"] * 6]
    assert found[2].found.startswith("gs:// is untried")


@pytest.mark.parametrize(("behind", "said"), [(90, "90 seconds behind"), (-90, "90 seconds ahead")])
def test_a_clock_that_is_wrong_is_named(
    behind: int, said: str, ledgers: LedgerServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It costs nothing here, and much elsewhere."""
    keys = ledgers.new()
    config = config_for("http://127.0.0.1:9", "key", tmp_path / "state")
    config = config.model_copy(update={"state": keys})
    true = time.time
    monkeypatch.setattr(time, "time", lambda: true() - behind)
    _, clock, *_ = shared_findings(config, keys)
    assert (clock.subject, clock.verdict) == ("clock", "warning")
    assert said in clock.found


def test_a_pooler_is_named(ledgers: LedgerServer, tmp_path: Path) -> None:
    """Nothing here needs a session of the server's, so that it may be there."""
    with transaction_pool(ledgers.server.root, sessions=2) as pool:
        keys = ledgers.new().model_copy(update={"ledger": SecretStr(pool)})
        config = config_for("http://127.0.0.1:9", "key", tmp_path / "state")
        ledger, *_ = shared_findings(config.model_copy(update={"state": keys}), keys)
        assert (ledger.subject, ledger.verdict) == ("ledger", "ok")
        assert ", through a pooler, " in ledger.found

"""The two commands that a host's page begins with, on a real server."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.dbt_project import REPOSITORY
from support.postgres_project import PostgresProject
from support.shared_ledger import LedgerServer

for _module in ("adbc_driver_manager", "adbc_driver_postgresql", "pyarrow", "psycopg2"):
    pytest.importorskip(_module)


def test_the_example_is_enriched_on_postgres(ledgers: LedgerServer, tmp_path: Path) -> None:
    """`init` leaves the profile alone, and `doctor` finds nothing wrong."""
    project = PostgresProject(tmp_path, {}, ledgers)
    (project.directory / "dbt_enrich.yml").unlink()
    profile = (project.directory / "profiles.yml").read_text()
    project.command("init", "--yes", "--package", str(REPOSITORY))
    assert (project.directory / "profiles.yml").read_text() == profile
    file = project.directory / "dbt_enrich.yml"
    file.write_text(f"{file.read_text()}responder: scripted\n")
    found = project.command("doctor")
    assert "door: the command `dbt-enrich run`, as the target is of the type postgres" in found
    assert "host: Postgres answers" in found
    project.command("run", "--select", "example_enriched")
    assert "example_enriched" in project.command("report", "-o", "-")
    rows = project.rows("select enrichment_status, count(*) from example_enriched group by 1")
    assert rows == [("done", 3)]

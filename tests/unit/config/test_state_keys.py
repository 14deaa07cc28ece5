"""The keys under `state`: what they take, what each mistake says, and that no password is shown."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from dbt_enrich.config import parse_config
from dbt_enrich.errors import ConfigurationError
from dbt_enrich.state.open_ledger import has_ledger, ledger_place, open_ledger

_PASSWORD = "hunter2-very-secret"
_URL = f"postgresql://me:{_PASSWORD}@db.internal:5433/enrich?sslmode=require"


def parsed(**state: object) -> Any:
    """Return the configuration of a profile with these keys under `state`."""
    return parse_config({"provider": "local", "state": state}, duckdb_settings={})


@pytest.mark.parametrize(
    ("ledger", "place"),
    [
        (_URL, "db.internal/enrich, schema dbt_enrich"),
        ("postgres://db/enrich", "db/enrich, schema dbt_enrich"),
        ("service=warehouse", "service warehouse, schema dbt_enrich"),
        ("host=/run/pg dbname='my db'", "/run/pg/my db, schema dbt_enrich"),
    ],
)
def test_a_ledger_is_named_without_its_secrets(ledger: str, place: str) -> None:
    """As a URL, as keywords and values, or as a service that has the password."""
    pytest.importorskip("psycopg")
    config = parsed(ledger=ledger, files="s3://bucket/some/prefix/")
    assert ledger_place(config) == place
    assert config.state.files == "s3://bucket/some/prefix"
    assert has_ledger(config)
    assert _PASSWORD not in repr(config) + str(config.model_dump())


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"ledger": _URL}, "'state.files': is missing"),
        ({"files": "s3://b"}, "'state.ledger': is missing"),
        ({"ledgr": _URL, "files": "s3://b"}, "'state.ledgr': is an unknown key.*'ledger'"),
        ({"ledger": f"mysql://me:{_PASSWORD}@h/d", "files": "s3://b"}, "'state.ledger'.*Postgres"),
        ({"ledger": "", "files": "s3://b"}, "'state.ledger'.*postgresql://USER@HOST/DATABASE"),
        ({"ledger": _URL, "files": "bucket"}, "'state.files'.*az://container/prefix"),
        ({"ledger": _URL, "files": "s3://k:s@b"}, "'state.files'.*environment"),
        ({"ledger": _URL, "files": "s3://b", "ledger_schema": "a b"}, "'state.ledger_schema'"),
    ],
)
def test_a_wrong_key_is_named_and_its_value_is_not(state: dict[str, object], message: str) -> None:
    """Before anything is opened; an address may hold a password."""
    with pytest.raises(ConfigurationError, match=message) as error:
        parsed(**state)
    assert _PASSWORD not in str(error.value)


def test_without_the_extra_its_name_is_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """And how to install it."""
    monkeypatch.setitem(sys.modules, "psycopg", None)
    config = parsed(ledger=_URL, files=f"file://{tmp_path}")
    with pytest.raises(ConfigurationError, match=r"pip install 'dbt-enrich\[remote\]'"):
        open_ledger(config)


def test_without_the_key_the_ledger_is_a_file(tmp_path: Path) -> None:
    """Nothing is opened that was not there before."""
    config = parse_config({"provider": "local", "state_dir": str(tmp_path)}, duckdb_settings={})
    assert config.state is None
    assert ledger_place(config) == str(tmp_path / "ledger.sqlite")
    assert not has_ledger(config)

"""A run's own parts: opened together, closed in order, and the answers through one store."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest
from dbt_enrich.config import PluginConfig, parse_config
from dbt_enrich.errors import LedgerError
from dbt_enrich.state.answer_store import ANSWER_COLUMNS, previous_answers_key
from dbt_enrich.state.run import existing_ledger, open_run
from support.shared import SharedState, forget_copies

_SOURCE = Path(__file__).parents[3] / "plugin" / "dbt_enrich"


@pytest.fixture
def config(tmp_path: Path) -> PluginConfig:
    """A profile with a state directory that is not there yet."""
    values = {"provider": "local", "state_dir": str(tmp_path / "state")}
    return parse_config(values, duckdb_settings={})


def _answers(count: int) -> str:
    """Build a SELECT of so many answers."""
    columns = ", ".join(f"cast(null as {kind}) as {name}" for name, kind in ANSWER_COLUMNS.items())
    return f"select {columns} from range({count})"


def test_a_run_leaves_nothing_of_its_own_behind(config: PluginConfig) -> None:
    """Its scratch directory and its lock are gone, however it ended."""
    with pytest.raises(ZeroDivisionError), open_run(config) as run:
        assert run.store.is_alive(run.id)
        run.workspace.write_parquet("select 1", run.workspace.directory / "x.parquet")
        raise ZeroDivisionError
    assert not run.store.is_alive(run.id)
    assert not run.workspace.directory.exists()


def test_a_scratch_directory_may_outlive_its_run(config: PluginConfig) -> None:
    """For the SELECTs that publish; its owner removes it."""
    with ExitStack() as scratch:
        with open_run(config, scratch) as run:
            assert run.workspace.row("select 1") == (1,)
        assert run.workspace.directory.exists()
        assert run.store.is_alive(run.id)
    assert not run.workspace.directory.exists()


def test_a_private_duckdb_opens_with_its_first_query(config: PluginConfig) -> None:
    """A command that needs none does not fail for its settings."""
    wrong = config.model_copy(update={"memory_limit": "no size"})
    with open_run(wrong) as run:
        assert run.ledger.shards.all() == []
        with pytest.raises(Exception, match="the private DuckDB cannot start"):
            run.workspace.row("select 1")


def test_a_ledger_is_opened_where_there_is_one_and_never_made(config: PluginConfig) -> None:
    """To look at it writes nothing."""
    assert existing_ledger(config) is None
    assert not config.state_dir.exists()
    with open_run(config):
        pass
    ledger = existing_ledger(config)
    assert ledger is not None
    ledger.close()


@pytest.fixture(params=["local", "shared"])
def anywhere(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> SharedState | None:
    """Files in the state directory, and then in a bucket."""
    is_shared = request.param == "shared"
    return SharedState(tmp_path / "bucket", monkeypatch) if is_shared else None


def test_answers_are_added_read_and_forgotten(
    config: PluginConfig, anywhere: SharedState | None
) -> None:
    """Those that a task keeps of its previous versions go with its own; nothing is left on disk.

    In a bucket they stay for the sweep.
    """
    with open_run(config) as run:
        assert run.answers.add(_answers(3), "t", "first") == 3
        assert run.answers.add(_answers(2), previous_answers_key("t"), "second") == 2
        assert run.answers.add(_answers(0), "t", "empty") == 0
        both = run.answers.table("t", previous_answers_key("t"))
        counted = f"select file_index, count(*) from {both} as answers group by all order by all"
        assert run.workspace.rows(counted) == [(0, 3), (1, 2)]
        assert run.ledger.answers.count() == 5
        assert run.answers.damaged() == []
        if anywhere:
            forget_copies(config.state_dir)
            assert run.workspace.rows(counted) == [(0, 3), (1, 2)]
        run.answers.forget("t")
        assert run.workspace.row(f"select count(*) from {run.answers.table('t')} as a") == (0,)
        assert list((run.store.root / "answers").glob("[!.]*")) == []
        stored = list(anywhere.bucket.list("answers")) if anywhere else []
        assert len(stored) == (2 if anywhere else 0)


def test_a_lost_or_broken_file_of_answers_is_named(config: PluginConfig) -> None:
    """As the ledger knows it, for the user to restore."""
    with open_run(config) as run:
        for name in ("lost", "broken", "whole"):
            run.answers.add(_answers(1), "t", name)
        run.store.answers("lost").unlink()
        run.store.answers("broken").write_bytes(b"PAR1")
        assert run.answers.damaged() == ["broken.parquet", "lost.parquet"]
        with pytest.raises(LedgerError, match="missing or damaged"):
            run.workspace.row(f"select count(*) from {run.answers.table('t')} as answers")


def test_a_file_of_answers_that_a_bucket_has_lost_is_named(
    config: PluginConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the bucket knows it; a run on another machine says which one, and what to do."""
    shared = SharedState(tmp_path / "bucket", monkeypatch)
    with open_run(config) as run:
        run.answers.add(_answers(1), "t", "whole")
        run.answers.add(_answers(1), "t", "lost")
        (lost,) = [name for name in run.ledger.answers.live("t") if name.startswith("lost")]
        shared.bucket.delete([f"answers/{lost}.parquet", f"keys/{lost}.parquet"])
        assert run.answers.damaged() == [f"answers/{lost}.parquet", f"keys/{lost}.parquet"]
    forget_copies(config.state_dir)
    with open_run(config) as run, pytest.raises(LedgerError, match=f"{lost}.*which the ledger"):
        run.answers.table("t")


@pytest.mark.parametrize(
    ("spelled", "owners"),
    [
        # The directory makes it, and keeps the lines that answer no request in it.
        ('/ "answers"', ["state/directory.py"]),
        ('"ledger.sqlite"', ["state/directory.py"]),
    ],
)
def test_a_place_in_the_state_directory_is_spelled_once(spelled: str, owners: list[str]) -> None:
    """Another place for answers, or another ledger, is one class more."""
    sources = sorted(_SOURCE.rglob("*.py"))
    found = [path for path in sources if spelled in path.read_text()]
    assert [str(path.relative_to(_SOURCE)) for path in found] == owners

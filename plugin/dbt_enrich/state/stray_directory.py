"""A state directory that an earlier version made where dbt was started, not in the project."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from dbt_enrich.config import PluginConfig
from dbt_enrich.state.directory import StateDirectory


def stray_state(config: PluginConfig, root: Path, namespace: str) -> str | None:
    """Return a warning if the project's answers are in the working directory alone, else None.

    Relative paths once counted from the working directory. Another project's state is none of ours:
    the ledger there must hold batches of this one.

    Args:
        config: The plugin's configuration as the profile has it, with relative paths.
        root: The dbt project's directory.
        namespace: The mark of the project's batches.
    """
    here, own = Path.cwd() / config.state_dir.expanduser(), root / config.state_dir.expanduser()
    if here == own or StateDirectory(own).ledger.exists():
        return None
    if not _holds_batches(StateDirectory(here).ledger, namespace):
        return None
    return (
        f"{here} holds answers of this project, but its state directory is {own}, where there is "
        "no ledger: a relative state_dir counts from the project's directory. Stop and move "
        f"{here} to {own}, or set state_dir: {here} in {config.place.name}, so that nothing is "
        "paid for again"
    )


def _holds_batches(ledger: Path, namespace: str) -> bool:
    if not ledger.exists():
        return False
    try:
        with closing(sqlite3.connect(f"{ledger.as_uri()}?mode=ro", uri=True)) as connection:
            found = connection.execute(
                "select 1 from batches where namespace = ? limit 1", (namespace,)
            ).fetchone()
    except sqlite3.Error:
        # Better one warning too many than rows that are paid for again without a word.
        return True
    return found is not None

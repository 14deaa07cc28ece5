"""One run's own: its scratch directory, private DuckDB, ledger and files, opened together."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from dbt_enrich.clock import MACHINE_CLOCK, Clock
from dbt_enrich.config import PluginConfig
from dbt_enrich.state.answer_store import AnswerStore
from dbt_enrich.state.directory import StateDirectory
from dbt_enrich.state.file_store import FileStore
from dbt_enrich.state.ledger import Ledger
from dbt_enrich.state.open_files import made_directory, open_files
from dbt_enrich.state.open_ledger import has_ledger, open_ledger, open_owned
from dbt_enrich.state.ownership import Ownership
from dbt_enrich.workspace.database import Workspace


@dataclass(frozen=True)
class Run:
    """What one run works with, from its first row to its last.

    Attributes:
        id: Its name, under which it owns shards.
        workspace: The private DuckDB, which opens with its first query.
        ledger: What was claimed, sent and answered.
        owners: Which runs are alive, and this run's hold on its shards.
        store: Where files lie.
        files: Those of them that all runs work with.
        answers: The answers of all tasks.
        clock: The time.
    """

    id: str
    workspace: Workspace
    ledger: Ledger
    owners: Ownership
    store: StateDirectory
    files: FileStore
    answers: AnswerStore
    clock: Clock = MACHINE_CLOCK


@contextmanager
def open_run(
    config: PluginConfig,
    scratch: ExitStack | None = None,
    *,
    clock: Clock = MACHINE_CLOCK,
    cancelled: threading.Event | None = None,
) -> Iterator[Run]:
    """Begin a run in the state directory, and end it with the block.

    Args:
        config: The plugin's configuration.
        scratch: Takes over the removal of the scratch directory, where files in it are read after
            the run; by default it goes with the run.
        clock: The time.
        cancelled: Set when the user interrupts, which ends every wait for a shared ledger; None
            where it is not heard.

    Raises:
        LedgerError: The state directory cannot be used.
    """
    store = made_directory(config)
    run_id = f"run-{secrets.token_hex(8)}"
    with ExitStack() as opened:
        lock = store.begin_run(run_id)
        (scratch or opened).callback(lock.remove)
        workspace = Workspace(lock.path, memory_limit=config.memory_limit, threads=config.threads)
        opened.callback(workspace.close)
        ledger, owners, common = opened.enter_context(
            open_owned(config, store, run_id, clock, cancelled)
        )
        files = open_files(config, store, ledger)
        answers = AnswerStore(files, ledger, workspace)
        yield Run(run_id, workspace, ledger, owners, store, files, answers, common)


def existing_ledger(config: PluginConfig) -> Ledger | None:
    """Open the ledger for what needs no run, or return None where nothing was sent yet.

    Raises:
        LedgerError: It cannot be opened, is damaged, or is from a newer version.
    """
    return open_ledger(config) if has_ledger(config) else None

"""Where a configuration's files are, and how they are opened: here, or in a bucket for several."""

from __future__ import annotations

from dbt_enrich.config import PluginConfig
from dbt_enrich.state.directory import StateDirectory
from dbt_enrich.state.file_store import FileStore, LocalFiles
from dbt_enrich.state.ledger import Ledger


def made_directory(config: PluginConfig) -> StateDirectory:
    """Make the directory of this machine's own files where it is not there, and return it.

    Raises:
        LedgerError: It cannot be made or written.
    """
    top = StateDirectory(config.state_dir).made()
    return StateDirectory(config.work_dir).made() if config.state else top


def open_files(config: PluginConfig, store: StateDirectory, ledger: Ledger) -> FileStore:
    """Open the files that a ledger names.

    Args:
        config: The plugin's configuration.
        store: The directory of this machine's own files.
        ledger: The ledger.

    Raises:
        ConfigurationError: The environment does not say whose bucket it is.
        LedgerError: The bucket cannot be used, or is another ledger's.
    """
    if config.state is None:
        return LocalFiles(store)
    from dbt_enrich.buckets.bucket import Bucket
    from dbt_enrich.state.shared_files import SharedFiles

    files = SharedFiles(store, Bucket(config.state.bucket))
    files.bind(ledger.id)
    return files

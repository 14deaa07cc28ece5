"""What `dbt-enrich doctor` finds in the state directory: it looks, and leaves all as it is."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from dbt_enrich.cli.diagnosis_shared import shared_findings
from dbt_enrich.cli.findings import Finding, of_error
from dbt_enrich.config import PluginConfig
from dbt_enrich.errors import EnrichmentError
from dbt_enrich.state.answer_store import AnswerStore
from dbt_enrich.state.directory import StateDirectory
from dbt_enrich.state.file_store import LocalFiles
from dbt_enrich.state.filesystems import network_file_system
from dbt_enrich.state.ledger import Ledger
from dbt_enrich.wording import counted
from dbt_enrich.workspace.database import Workspace

_LITTLE_ROOM = 1_000_000_000
_MOVE_AWAY = (
    "move {0}* away: batches are found again at the service, and answers there and "
    "in the enriched tables; what is in neither is asked and paid for again"
)


def state_findings(config: PluginConfig) -> Iterator[Finding]:
    """Look at the state directory: its place, its mode, the ledger and the answers.

    Args:
        config: The plugin's configuration.
    """
    root = config.state_dir.expanduser().resolve()
    there = next(path for path in (root, *root.parents) if _exists(path))
    problem = _unwritable(there)
    if problem:
        yield Finding(
            "state directory",
            "wrong",
            f"{root} cannot be written: {problem}",
            f"make {there} a directory that you may write, or set state_dir to another one",
        )
        return
    made = "" if there == root else ", which the first run makes"
    yield Finding("state directory", "ok", f"{root}{made}")
    yield from _place(there)
    if there == root:
        yield _mode(root)
    if config.state:
        yield from shared_findings(config, config.state)
    elif there == root:
        yield from _ledger(root)


def _place(there: Path) -> Iterator[Finding]:
    network = network_file_system(there)
    if network:
        yield Finding(
            "file system",
            "warning",
            f"{there} is on a network file system ({network}), where locks between machines are "
            "not safe",
            "set state_dir to a local disk",
        )
    else:
        yield Finding("file system", "ok", "not known to be a network's")
    free = shutil.disk_usage(there).free
    if free < _LITTLE_ROOM:
        fix = "make room: request files, answers and DuckDB's spill files go there"
        yield Finding("disk", "warning", f"{free / 1e6:,.0f} MB free", fix)
    else:
        yield Finding("disk", "ok", f"{free / 1e9:,.0f} GB free")


def _mode(root: Path) -> Finding:
    mode = root.stat().st_mode & 0o777
    if mode & 0o077:
        found = f"{mode:04o}: others on this machine can look into it"
        return Finding("state directory mode", "warning", found, f"chmod 700 {root}")
    return Finding("state directory mode", "ok", f"{mode:04o}")


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except PermissionError:
        # Below a directory that may not be looked into.
        return False


def _unwritable(directory: Path) -> str | None:
    """Return why a directory, or one in it, cannot be written."""
    for path in (directory, *_own_directories(directory)):
        try:
            with tempfile.TemporaryFile(dir=path):
                pass
        except OSError as error:
            return f"{path}: {error.strerror or error}"
    return None


def _own_directories(root: Path) -> list[Path]:
    names = ("requests", "responses", "answers", "runs")
    return [root / name for name in names if _exists(root / name)]


def _ledger(root: Path) -> Iterator[Finding]:
    path = StateDirectory(root).ledger
    if not path.exists():
        yield Finding("ledger", "ok", "none yet: nothing was sent")
        return
    damage = _damage(path)
    if damage:
        yield Finding("ledger", "wrong", damage, _MOVE_AWAY.format(path))
        return
    try:
        with Ledger(path) as ledger:
            answers = _answers(StateDirectory(root), ledger)
            in_flight = len(ledger.shards.open())
    except EnrichmentError as error:
        yield of_error("ledger", error)
        return
    yield Finding("ledger", "ok", f"whole, with {counted(in_flight, 'batch', 'batches')} in flight")
    yield answers


def _damage(path: Path) -> str | None:
    """Return what is wrong with the ledger's file, or None."""
    try:
        with closing(sqlite3.connect(path)) as connection:
            (verdict,) = connection.execute("pragma integrity_check(1)").fetchone()
    except (sqlite3.Error, UnicodeDecodeError) as error:
        return f"it cannot be read: {error}"
    return None if verdict == "ok" else f"it is damaged: {' '.join(str(verdict).split())}"


def _answers(state: StateDirectory, ledger: Ledger) -> Finding:
    with tempfile.TemporaryDirectory() as scratch:
        workspace = Workspace(Path(scratch), threads=2)
        store = AnswerStore(LocalFiles(state), ledger, workspace)
        with closing(workspace):
            files, damaged = len(ledger.answers.names()), store.damaged()
    if not damaged:
        text = "1 file is" if files == 1 else f"all {files:,} files are"
        return Finding("answers", "ok", f"{text} there, and whole")
    return Finding(
        "answers",
        "wrong",
        f"{len(damaged):,} of {files:,} files that the ledger names are not there, or not "
        f"whole, such as {damaged[0]}",
        f"restore the folder answers of {store.place} from a backup; without one, "
        f"{_MOVE_AWAY.format(state.ledger)}",
    )

"""A whole state from this machine's directory to one that machines share, or back.

While it is on its way, no run may begin on either side: the one is locked, and the bucket of the
other says that it is nobody's. What was moved away is marked, so that nobody goes on with it.
"""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from dbt_enrich.buckets.blob_address import is_blob
from dbt_enrich.buckets.bucket import Bucket
from dbt_enrich.config import PluginConfig
from dbt_enrich.config.state import StateKeys
from dbt_enrich.errors import ConfigurationError, LedgerError
from dbt_enrich.files import link_or_copy
from dbt_enrich.state.answer_store import AnswerStore
from dbt_enrich.state.directory import StateDirectory
from dbt_enrich.state.file_store import FileKind, StateFile, missing
from dbt_enrich.state.ledger import Ledger
from dbt_enrich.state.open_files import made_directory
from dbt_enrich.state.open_ledger import ledger_place, open_ledger
from dbt_enrich.state.shards import Shard
from dbt_enrich.state.shared_files import SharedFiles
from dbt_enrich.wording import counted
from dbt_enrich.workspace.database import Workspace

# Files that are on their way together, and so on the disk twice.
_TOGETHER = 16
# Whose a bucket is while, or after, its state is moved.
_ON_ITS_WAY, _MOVED = "that is being moved", "that was moved to a state directory"
_NO_RUN = "wait until it has ended, or end it; its batches go on at the service"


@dataclass(frozen=True)
class Held:
    """What a state holds.

    Attributes:
        tasks: Tasks that were asked.
        answers: Answers and failures.
        files: Files of them.
        in_flight: Shards that hold requests.
    """

    tasks: int
    answers: int
    files: int
    in_flight: int

    def sentence(self) -> str:
        """Say it."""
        return (
            f"{counted(self.tasks, 'task')}, {counted(self.answers, 'answer')} in "
            f"{counted(self.files, 'file')}, {counted(self.in_flight, 'shard')} in flight"
        )


def held_by(ledger: Ledger) -> Held:
    """Return what a ledger's state holds."""
    return Held(
        tasks=len(ledger.tasks.all()),
        answers=ledger.answers.count(),
        files=len(ledger.answers.names()),
        in_flight=len(ledger.shards.open()),
    )


def share(config: PluginConfig, keys: StateKeys) -> None:
    """Move the state of `state_dir` to where the profile's `state` says.

    Args:
        config: The plugin's configuration.
        keys: Its key `state`.

    Raises:
        ConfigurationError: There is nothing to move.
        LedgerError: A run is under way, the shared state is not empty, or a file is missing. Then
            the state of `state_dir` stays as it was.
    """
    local = StateDirectory(config.state_dir)
    if not local.ledger.exists():
        raise ConfigurationError(f"there is no ledger at {local.ledger}, so nothing to move")
    with _nobody_here(local), open_ledger(config) as target:
        _refuse_running(target)
        files = SharedFiles(made_directory(config), Bucket(keys.bucket))
        # A move that was killed after its last step but one has written the whole ledger.
        if target.is_empty:
            with _reserved(files, target.id, (None, target.id)), Ledger(local.ledger) as source:
                renamed = _share_answers(source, target, local, files)
                _share_requests(source.shards.open(), local, files)
                _share_unassigned(local, files)
                source.copy_to(target, renamed)
        elif files.owner() != _ON_ITS_WAY:
            raise LedgerError(
                f"the ledger {ledger_place(config)} is not empty",
                fix="name another ledger_schema, or another database",
            )
        files.hand_over(target.id)
        local.ledger.rename(_moved(local))


def unshare(config: PluginConfig, keys: StateKeys) -> None:
    """Move the state that the profile's `state` names to `state_dir`.

    Args:
        config: The plugin's configuration.
        keys: Its key `state`.

    Raises:
        LedgerError: A run is under way, `state_dir` has a ledger, or a file is missing. Then the
            shared state stays as it was.
    """
    local = StateDirectory(config.state_dir).made()
    if local.ledger.exists():
        raise LedgerError(
            f"there is a ledger at {local.ledger}", fix="name another state_dir, or move it away"
        )
    with _nobody_here(local), open_ledger(config) as source:
        files = SharedFiles(made_directory(config), Bucket(keys.bucket))
        with _reserved(files, source.id, (source.id,)):
            _refuse_running(source)
            _refuse_blobs(source)
            _fetch_answers(source, local, files)
            _fetch_requests(source.shards.open(), local, files)
            coming = local.ledger.with_name(f".{local.ledger.name}-{secrets.token_hex(4)}")
            with Ledger(coming) as target:
                source.copy_to(target, {})
            coming.rename(local.ledger)
        files.hand_over(_MOVED)


@contextmanager
def _nobody_here(local: StateDirectory) -> Iterator[None]:
    """Hold off runs of this machine."""
    with local.no_run_begins("") as is_alone:
        if not is_alone:
            raise LedgerError(f"a run is under way in {local.root}", fix=_NO_RUN)
        yield


@contextmanager
def _reserved(files: SharedFiles, ledger: str, expected: Sequence[str | None]) -> Iterator[None]:
    """Keep runs away from a bucket that is a ledger's, or new; after an error it is as before."""
    owner = files.owner()
    if owner not in (*expected, _ON_ITS_WAY):
        raise LedgerError(
            f"{files.place} holds the files of the ledger {owner}, and not of {ledger}",
            fix="name another prefix, or the ledger that belongs to these files",
        )
    files.hand_over(_ON_ITS_WAY)
    try:
        yield
    except BaseException:
        with suppress(LedgerError):
            files.hand_over(ledger)
        raise


def _refuse_running(ledger: Ledger) -> None:
    hosts = ledger.running()
    if hosts:
        raise LedgerError(f"a run is under way on {', '.join(hosts)}", fix=_NO_RUN)


def _refuse_blobs(ledger: Ledger) -> None:
    """Refuse to leave a container that batches read from and write to."""
    held = [s for s in ledger.shards.open() if is_blob(s.input_file_id or "")]
    if held:
        raise LedgerError(
            f"{counted(len(held), 'batch has', 'batches have')} their requests and answers in the "
            "container, where a state directory does not reach them",
            fix="collect them first, with dbt run or `dbt-enrich wait`",
        )


def _share_answers(
    source: Ledger, target: Ledger, local: StateDirectory, files: SharedFiles
) -> dict[str, str]:
    """Store all files of answers, each with its keys; return their names there."""
    names, renamed = source.answers.names(), dict[str, str]()
    with tempfile.TemporaryDirectory() as scratch:
        workspace = Workspace(Path(scratch), threads=2)
        store = AnswerStore(files, target, workspace)
        with closing(workspace):
            for start in range(0, len(names), _TOGETHER):
                some = names[start : start + _TOGETHER]
                drafts = [store.draft(name) for name in some]
                for name, draft in zip(some, drafts, strict=True):
                    _copied(local.answers(name), draft.path, local)
                kept = store.keep(drafts)
                renamed |= {name: one.name for name, one in zip(some, kept, strict=True)}
    return renamed


def _share_requests(shards: Sequence[Shard], local: StateDirectory, files: SharedFiles) -> None:
    """Take along what open shards need; this machine goes on with their files."""
    manifests = []
    for shard in shards:
        manifest = StateFile(FileKind.MANIFEST, shard.shard)
        if local.manifest(shard.shard).exists():
            link_or_copy(local.manifest(shard.shard), files.path(manifest))
            manifests.append(manifest)
        _copy_own_files(shard.shard, local, files.directory)
    files.put(manifests)


def _share_unassigned(local: StateDirectory, files: SharedFiles) -> None:
    suffix = local.unassigned("").name
    kept = []
    for path in local.answers("x").parent.glob(f"[!.]*{suffix}"):
        kept.append(StateFile(FileKind.UNASSIGNED, path.name.removesuffix(suffix)))
        link_or_copy(path, files.path(kept[-1]))
    files.put(kept)


def _fetch_answers(source: Ledger, local: StateDirectory, files: SharedFiles) -> None:
    names = source.answers.names()
    for start in range(0, len(names), _TOGETHER):
        wanted = [StateFile(FileKind.ANSWERS, name) for name in names[start : start + _TOGETHER]]
        with tempfile.TemporaryDirectory(dir=files.directory.root) as scratch:
            held = files.hold(wanted, Path(scratch))
            for file in wanted:
                if file not in held:
                    raise missing(file, files.place)
                link_or_copy(held[file], local.answers(file.name))


def _fetch_requests(shards: Sequence[Shard], local: StateDirectory, files: SharedFiles) -> None:
    for shard in shards:
        manifest = StateFile(FileKind.MANIFEST, shard.shard)
        if files.has(manifest):
            link_or_copy(files.path(manifest), local.manifest(shard.shard))
        _copy_own_files(shard.shard, files.directory, local)


def _copy_own_files(shard: str, source: StateDirectory, target: StateDirectory) -> None:
    pairs = [(source.requests(shard), target.requests(shard))]
    pairs += [(source.response(shard, k), target.response(shard, k)) for k in ("output", "error")]
    for path, copy in pairs:
        if path.exists():
            link_or_copy(path, copy)


def _copied(path: Path, target: Path, local: StateDirectory) -> None:
    try:
        link_or_copy(path, target)
    except FileNotFoundError as error:
        raise missing(StateFile(FileKind.ANSWERS, path.stem), str(local.root)) from error


def _moved(local: StateDirectory) -> Path:
    return local.ledger.with_name(f"{local.ledger.name}.moved-{secrets.token_hex(4)}")

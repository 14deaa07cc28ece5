"""Files that machines share: one bucket, and copies on each machine that are never wrong."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from dbt_enrich.buckets.bucket import Bucket
from dbt_enrich.config.bucket_address import parse_bucket_address
from dbt_enrich.errors import LedgerError
from dbt_enrich.state.directory import StateDirectory
from dbt_enrich.state.file_digests import digest
from dbt_enrich.state.file_store import FileKind, StateFile
from dbt_enrich.state.shared_files import SharedFiles
from support.clock import HastyClock


@pytest.fixture
def bucket(tmp_path: Path) -> Bucket:
    """A bucket that is a directory."""
    return Bucket(parse_bucket_address(f"file://{tmp_path}/bucket"), clock=HastyClock())


def machine(bucket: Bucket, directory: Path) -> SharedFiles:
    """Return the files as a machine has them."""
    return SharedFiles(StateDirectory(directory).made(), bucket)


def stored(files: SharedFiles, *contents: bytes) -> list[StateFile]:
    """Store answers, whatever they are."""
    made = []
    for content in contents:
        source = files.path(StateFile(FileKind.ANSWERS, ".source"))
        source.write_bytes(content)
        made.append(StateFile(FileKind.ANSWERS, f"a-{digest(source)}-0"))
        source.rename(files.path(made[-1]))
    files.put(made)
    return made


def test_a_file_is_fetched_once_by_a_machine(bucket: Bucket, tmp_path: Path) -> None:
    """And every run that holds it keeps it, whatever becomes of the copy and of the bucket."""
    kept = stored(machine(bucket, tmp_path / "one"), *(f"{n}".encode() for n in range(40)))
    files, first, second = machine(bucket, tmp_path / "two"), tmp_path / "r1", tmp_path / "r2"
    first.mkdir()
    second.mkdir()
    held = files.hold([*kept, *kept], first)
    assert [held[file].read_bytes() for file in kept] == [f"{n}".encode() for n in range(40)]
    assert files.fetched == {FileKind.ANSWERS: 70}
    bucket.delete(file.key for file in kept)
    assert len(files.hold(kept, second)) == 40
    files.sweep_copies(most=0)
    assert list(files.path(kept[0]).parent.iterdir()) == []
    assert held[kept[7]].read_bytes() == b"7"
    assert files.hold(kept, tmp_path / "two") == {}
    assert files.absent(kept) == kept


def test_copies_go_that_were_not_used_for_long(bucket: Bucket, tmp_path: Path) -> None:
    """And those used least recently, where there are more than the disk is to hold."""
    import os

    files = machine(bucket, tmp_path / "one")
    kept = stored(files, b"a" * 100, b"b" * 100, b"c" * 100)
    for age, file in enumerate(kept):
        used = files.path(file).stat().st_mtime - 100.0 * age
        os.utime(files.path(file), (used, used))
    files.sweep_copies(most=1_000, unused=150.0)
    assert [files.path(file).exists() for file in kept] == [True, True, False]
    files.sweep_copies(most=150)
    assert [files.path(file).exists() for file in kept] == [True, False, False]
    directory = tmp_path / "held"
    directory.mkdir()
    assert len(files.hold(kept, directory)) == 3


def test_two_processes_share_the_copies_of_a_machine(bucket: Bucket, tmp_path: Path) -> None:
    """They fetch the same files at once while a third removes copies; no one reads half of one."""
    kept = stored(machine(bucket, tmp_path / "one"), *(bytes([n]) * 200_000 for n in range(20)))
    script = textwrap.dedent(
        """
        import sys
        from pathlib import Path
        from dbt_enrich.config.bucket_address import parse_bucket_address
        from dbt_enrich.buckets.bucket import Bucket
        from dbt_enrich.state.directory import StateDirectory
        from dbt_enrich.state.file_store import FileKind, StateFile
        from dbt_enrich.state.shared_files import SharedFiles

        address, directory, own, *names = sys.argv[1:]
        files = SharedFiles(StateDirectory(Path(directory)), Bucket(parse_bucket_address(address)))
        wanted = [StateFile(FileKind.ANSWERS, name) for name in names]
        for number in range(10):
            held = Path(own) / str(number)
            held.mkdir(parents=True)
            for path in files.hold(wanted, held).values():
                content = path.read_bytes()
                assert len(content) == 200_000 and len(set(content)) == 1, path
            if own.endswith("sweeper"):
                files.sweep_copies(most=2_000_000)
        """
    )
    machine(bucket, tmp_path / "two")
    running = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(bucket.address), str(tmp_path / "two"),
             str(tmp_path / name), *(file.name for file in kept)],
            stderr=subprocess.PIPE, text=True,
        )
        for name in ("reader", "other", "sweeper")
    ]  # fmt: skip
    for process in running:
        _, said = process.communicate(timeout=60)
        assert process.returncode == 0, said


def test_a_bucket_belongs_to_one_ledger(bucket: Bucket, tmp_path: Path) -> None:
    """Another one, such as the empty one of a failover, would take its files for nobody's."""
    files = machine(bucket, tmp_path / "one")
    for _ in range(2):
        files.bind("the-first")
    with pytest.raises(LedgerError, match="the ledger the-first.*it is another one, or empty"):
        machine(bucket, tmp_path / "two").bind("the-second")

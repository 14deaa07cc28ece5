"""Network file systems are told from local ones by the table of mounts."""

from __future__ import annotations

from pathlib import Path

import pytest
from dbt_enrich.state.filesystems import network_file_system

MOUNTS = """/dev/sda1 / ext4 rw 0 0
server:/share /mnt/share nfs4 rw 0 0
//server/x /mnt/my\\040files cifs rw 0 0
/dev/sdb1 /mnt/share/local xfs rw 0 0
broken
"""


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/home/me/.enrichment", None),
        ("/mnt/share/state", "nfs4"),
        ("/mnt/my files/state", "cifs"),
        ("/mnt/share/local/state", None),
        ("/mnt/sharepoint", None),
    ],
)
def test_the_deepest_mount_decides(path: str, name: str | None, tmp_path: Path) -> None:
    """A local disk below a share is local."""
    mounts = tmp_path / "mounts"
    mounts.write_text(MOUNTS)
    assert network_file_system(Path(path), mounts=mounts) == name


def test_without_a_table_nothing_is_said(tmp_path: Path) -> None:
    """As on systems that have none."""
    assert network_file_system(tmp_path, mounts=tmp_path / "none") is None

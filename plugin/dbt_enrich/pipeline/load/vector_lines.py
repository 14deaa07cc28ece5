"""Vectors of output files, apart from what else their lines say: each decoded once, as bytes."""

from __future__ import annotations

import json
import secrets
from codecs import BOM_UTF8
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from pydantic_core import from_json

from dbt_enrich.endpoints.base import Endpoint
from dbt_enrich.endpoints.embeddings import asked_sql, lines_sql, opened_sql, slim_reply
from dbt_enrich.endpoints.response_lines import LINE_BYTES, message_sql, named_sql
from dbt_enrich.sql import key_text_sql, literal, preferred_sql
from dbt_enrich.state.answer_store import POSITION
from dbt_enrich.workspace.database import Workspace
from dbt_enrich.workspace.long_lines import longest_line
from dbt_enrich.workspace.vector_file import VectorFile


@dataclass(frozen=True)
class SlimFiles:
    """Output files without their vectors, and the vectors.

    Attributes:
        lines: The lines, slim.
        vectors: The vectors' bytes, one after the other.
        places: Where each begins there and how long it is, by its line and its place in that.
        marked: How the mark of each line begins; its number follows. It is drawn by lot, so that no
            line can say that the vectors of another are its own.
    """

    lines: Path
    vectors: Path
    places: dict[tuple[int, int], tuple[int, int]] = field(default_factory=dict)
    marked: str = field(default_factory=lambda: f"{secrets.token_hex(8)}:")


@contextmanager
def vectors_apart(files: Sequence[Path], directory: Path) -> Iterator[SlimFiles]:
    """Take the vectors out of output files.

    Args:
        files: Output and error files.
        directory: Scratch directory.

    Yields:
        Lines and vectors, which are there within the block.
    """
    name = f"vectors-{secrets.token_hex(4)}"
    slim = SlimFiles(directory / f"{name}.jsonl", directory / f"{name}.floats")
    try:
        with slim.vectors.open("xb") as vectors, slim.lines.open("xb") as lines:
            number = 0
            # Line by line, as DuckDB reads no floats out of bytes, and a line with the vectors of a
            # pack would have each of its JSON functions reserve memory for all of it.
            for path in files:
                with path.open("rb") as file:
                    if file.read(len(BOM_UTF8)) != BOM_UTF8:
                        file.seek(0)
                    for line in file:
                        lines.write(_slim(line, number, slim, vectors))
                        number += 1
        yield slim
    finally:
        slim.lines.unlink(missing_ok=True)
        slim.vectors.unlink(missing_ok=True)


@contextmanager
def opened_vectors(
    endpoint: Endpoint, slim: SlimFiles, manifest: Path, workspace: Workspace
) -> Iterator[str]:
    """Find which request of a shard each vector is of.

    Args:
        endpoint: The endpoint that was asked.
        slim: The output files.
        manifest: The shard's manifest.
        workspace: Where it is done.

    Yields:
        The SELECT of one row for each request that a line answers, valid within the block. Those
        with a vector are read in the order of the manifest's rows, where it knows that.
    """
    lines, asked, vectors = (
        slim.lines.with_suffix(f".{name}.parquet") for name in ("lines", "asked", "vectors")
    )
    line_bytes = longest_line([slim.lines], least=LINE_BYTES)
    workspace.make_room(8 * line_bytes)
    named = named_sql(endpoint, [slim.lines], line_bytes)
    said = f"select *, {message_sql('null')} as said from ({named})"
    try:
        workspace.write_parquet(lines_sql(said, slim.marked), lines)
        numbered = f"(select *, file_row_number as number from read_parquet({literal(lines)}))"
        order = "outcome = 'answered' desc, line nulls last, outcome, said"
        texts = ["outcome", "said", "line"]
        standing = preferred_sql(numbered, "custom_id", "number", order, texts)
        requests = _requests_sql(manifest, workspace)
        workspace.write_parquet(asked_sql(numbered, standing, requests), asked)
        _write_in_order(slim, asked, vectors, workspace)
        yield opened_sql(_file(asked), _file(vectors))
    finally:
        for path in (lines, asked, vectors):
            path.unlink(missing_ok=True)


def _write_in_order(slim: SlimFiles, asked: Path, target: Path, workspace: Workspace) -> None:
    """Write the vectors that requests ask, in the order of the rows.

    Sorting is left to a list of numbers: DuckDB would hold the vectors as it sorts.
    """
    order = [name for name in (POSITION, "line", "place") if name in _columns(asked, workspace)]
    wanted = workspace.rows(
        f"select line, place from {_file(asked)} where line is not null order by {', '.join(order)}"
    )
    with VectorFile(target) as written, slim.vectors.open("rb") as vectors:
        for line, place in wanted:
            if (line, place) in slim.places:
                begin, size = slim.places[line, place]
                vectors.seek(begin)
                written.add(line, place, vectors.read(size))


def _requests_sql(manifest: Path, workspace: Workspace) -> str:
    """Build the table expression of a manifest's requests, each with its place in its line."""
    if "custom_id" in _columns(manifest, workspace):
        return f"(select * exclude (position), position - 1 as place from {_file(manifest)})"
    alone = f"{key_text_sql('request_key')} || '-' || attempt"
    return f"(select *, {alone} as custom_id, 0 as place from {_file(manifest)})"


def _file(path: Path) -> str:
    return f"read_parquet({literal(path)})"


def _columns(path: Path, workspace: Workspace) -> list[str]:
    return workspace.columns(f"from {_file(path)}")


def _slim(line: bytes, number: int, slim: SlimFiles, vectors: BinaryIO) -> bytes:
    """Return a line without the vectors, which are written; one that is no JSON as it is."""
    found: list[tuple[int, bytes]] = []
    with suppress(ValueError):
        reply = from_json(line, cache_strings="keys")
        found = slim_reply(reply, f"{slim.marked}{number}")
    if not found:
        return line if line.endswith(b"\n") else line + b"\n"
    for place, vector in found:
        slim.places[number, place] = vectors.tell(), len(vector)
        vectors.write(vector)
    return json.dumps(reply).encode() + b"\n"

"""Mutations of texts and documents: what a service, a proxy or a broken disk could make of them."""

from __future__ import annotations

import contextlib
import json
import random
from typing import Any

_PIECES = (
    b"", b"\x00", b"\xef\xbb\xbf", b"\xff\xfe", b"\xed\xa0\x80", b"\xc3", b"\r", b"\r\n", b"\t",
    b"\x01", b"\x0b", b"\x1f", "\u2028".encode(), "\u202e".encode(), "\U0001f600".encode(), b'"',
    b"\\", b"\\u0000", b"\\ud800", b"{", b"}", b"[", b"]", b",", b":", b"null", b"true", b"NaN",
    b"Infinity", b"-0", b"1e999", b"-1e-999", b"0" * 400, b"9" * 400, b"1.5", b"[" * 200,
    b'{"a":' * 100, b"'", b"--", b"<html>", b"data: ", b"```json ", b"```", b"/*", b"\xa0",
)  # fmt: skip
VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1.5, 1e308, -1e308, 10**30, 2**63, 2**64, -(2**63) - 1, "", " ",
    "null", "\u0000", "\ud800", "a" * 5_000, "2026-02-30", "1", "completed", [], {}, [None],
    [[[]]], {"": None}, {"code": None}, {"message": {}}, ["x", 1, None], [{"a": 1}], {"data": 3},
    "0x10", "\u202e", -0.0,
)  # fmt: skip


def mutate_bytes(raw: bytes, chance: random.Random) -> bytes:
    """Return bytes with a few things wrong with them."""
    data = bytearray(raw)
    for _ in range(chance.choice((1, 1, 1, 2, 4))):
        place = chance.randrange(len(data) + 1)
        match chance.randrange(6):
            case 0:
                del data[place:]
            case 1 if data:
                data[min(place, len(data) - 1)] = chance.randrange(256)
            case 2:
                data[place:place] = chance.choice(_PIECES)
            case 3:
                del data[place : place + chance.choice((1, 2, 10, 100))]
            case 4:
                end = place + chance.choice((1, 5, 50))
                data[place:place] = data[place:end]
            case _:
                data[place : place + 4] = chance.choice(_PIECES)
    # A line is what stands between two line breaks.
    return bytes(data).replace(b"\n", b" ")


def mutate_document(document: Any, chance: random.Random) -> Any:
    """Return a document with one value, at any depth, replaced, removed, renamed or doubled."""
    places: list[tuple[Any, Any]] = []

    def visit(node: Any) -> None:
        keys = list(node) if isinstance(node, dict) else range(len(node))
        for key in keys:
            places.append((node, key))
            if isinstance(node[key], dict | list):
                visit(node[key])

    copy = json.loads(json.dumps(document))
    if not isinstance(copy, dict | list) or chance.random() < 0.02:
        return chance.choice(VALUES)
    visit(copy)
    for _ in range(chance.choice((1, 1, 2, 3))):
        if places:
            node, key = chance.choice(places)
            # An earlier change may have taken this place away.
            with contextlib.suppress(KeyError, IndexError):
                _put(node, key, chance.choice(VALUES), chance)
    return copy


def _put(node: Any, key: Any, value: Any, chance: random.Random) -> None:
    kind = chance.randrange(5)
    if kind == 0:
        del node[key]
    elif kind == 1 and isinstance(node, dict):
        node[chance.choice(("", "id", "custom_id", "Response", "error", key.upper()))] = node.pop(
            key
        )
    elif kind == 2 and isinstance(node, list):
        node.insert(key, value)
    else:
        node[key] = value

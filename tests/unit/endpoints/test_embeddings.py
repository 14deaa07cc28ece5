"""Replies with vectors: what is taken out of them, and what is left for SQL to read."""

from __future__ import annotations

import base64
from array import array
from typing import Any

import pytest
from dbt_enrich.endpoints.embeddings import numbers_of, slim_reply

VECTOR = array("f", [0.25, -1.5, 3.0]).tobytes()
TEXT = base64.b64encode(VECTOR).decode()


def line(data: Any, **body: Any) -> dict[str, Any]:
    """The line of an output file, parsed."""
    body = {"object": "list", "data": data, "usage": {"prompt_tokens": 3}, **body}
    return {"custom_id": "a-1", "response": {"status_code": 200, "body": body}, "error": None}


def entry(index: int, embedding: Any) -> dict[str, Any]:
    """One of its vectors."""
    return {"object": "embedding", "index": index, "embedding": embedding}


def test_both_formats_are_the_same_bytes() -> None:
    """As servers send numbers although they were asked for base64."""
    reply = line([entry(0, TEXT), entry(1, [0.25, -1.5, 3]), entry(2, [1])])
    assert slim_reply(reply, 7) == [(0, VECTOR), (1, VECTOR), (2, array("f", [1]).tobytes())]
    assert numbers_of(VECTOR) == [0.25, -1.5, 3.0]


def test_the_rest_of_the_line_stays_with_its_number() -> None:
    """Tokens, model and errors are read by SQL, and not the vectors."""
    reply = line([entry(0, TEXT)], model="m")
    slim_reply(reply, 7)
    assert reply == line("7", model="m")


def test_the_index_says_the_place() -> None:
    """Not the order; where there is none, the order does."""
    reply = line([entry(1, [1]), entry(0, [2]), {"embedding": [3]}])
    places = {place: numbers_of(vector) for place, vector in slim_reply(reply, 0)}
    assert places == {1: [1], 0: [2], 2: [3]}


def test_a_place_that_is_there_twice_is_nobodys() -> None:
    """The row is asked again rather than given another's vector."""
    assert slim_reply(line([entry(0, [1]), entry(0, [2]), entry(1, [3])]), 0) == [
        (1, array("f", [3]).tobytes())
    ]


@pytest.mark.parametrize(
    "embedding",
    [None, 5, {}, "no base64!", "AAA=", base64.b64encode(b"12345").decode(), ["a"], [None], [[1]]],
)
def test_what_is_no_vector_is_an_empty_one(embedding: Any) -> None:
    """It is judged with the others."""
    assert slim_reply(line([entry(0, embedding)]), 0) == [(0, b"")]


@pytest.mark.parametrize(
    "reply",
    [
        None,
        [],
        {},
        {"response": None},
        {"response": {"body": "text"}},
        {"response": {"status_code": 400, "body": {"error": {"code": "x"}}}},
        line("text"),
        line(["text", 5]),
        line([{"index": -1, "embedding": [1]}, {"index": 2**40, "embedding": [1]}]),
    ],
)
def test_what_has_no_vectors_has_none(reply: Any) -> None:
    """Whatever the line is."""
    assert slim_reply(reply, 0) == []

"""Replies with vectors: what is taken out of them, and what is left for SQL to read."""

from __future__ import annotations

import base64
import json
from array import array
from collections import Counter
from typing import Any

import pytest
from dbt_enrich.endpoints.embeddings import numbers_of, slim_reply
from hypothesis import given
from hypothesis import strategies as st

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
    assert slim_reply(reply, "7") == [(0, VECTOR), (1, VECTOR), (2, array("f", [1]).tobytes())]
    assert numbers_of(VECTOR) == [0.25, -1.5, 3.0]


def test_the_rest_of_the_line_stays_with_its_number() -> None:
    """Tokens, model and errors are read by SQL, and not the vectors."""
    reply = line([entry(0, TEXT)], model="m")
    slim_reply(reply, "7")
    assert reply == line("7", model="m")


def test_the_index_says_the_place() -> None:
    """Not the order; where there is none, the order does."""
    reply = line([entry(1, [1]), entry(0, [2]), {"embedding": [3]}])
    places = {place: numbers_of(vector) for place, vector in slim_reply(reply, "m")}
    assert places == {1: [1], 0: [2], 2: [3]}


@pytest.mark.parametrize("index", [None, "absent"])
def test_an_index_that_says_nothing_is_the_order(index: Any) -> None:
    """Some servers write none, and some write null."""
    entries = [{"index": index, "embedding": [n]} for n in (5, 6)]
    if index == "absent":
        entries = [{"embedding": entry["embedding"]} for entry in entries]
    places = [(place, numbers_of(vector)) for place, vector in slim_reply(line(entries), "m")]
    assert places == [(0, [5]), (1, [6])]


@pytest.mark.parametrize("shape", ["text", "no body", "result", "whole"])
def test_a_body_is_found_where_other_servers_have_it(shape: str) -> None:
    """As that of an answer in words is; its vectors are taken out there."""
    usual = line([entry(0, TEXT)])
    body = usual["response"]["body"]
    reply: dict[str, Any] = {
        "text": {"response": {"status_code": 200, "body": json.dumps(body)}},
        "no body": {"response": body},
        "result": {"response": {"status_code": 200, "body": {"success": True, "result": body}}},
        "whole": {"result": body},
    }[shape]
    assert slim_reply(reply, "m") == [(0, VECTOR)]
    assert TEXT not in json.dumps(reply)
    assert '"m"' in json.dumps(reply)


PLACES = st.none() | st.integers(-1, 6) | st.sampled_from(["1", 1.0, 2**31])
FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)
ODD: st.SearchStrategy[Any] = st.sampled_from([None, "x", "AAA=", ["a"], [[1]], {}])
EMBEDDINGS: st.SearchStrategy[Any] = st.lists(FLOATS, max_size=4) | ODD


@given(entries=st.lists(st.tuples(PLACES, EMBEDDINGS, st.booleans()), max_size=8))
def test_each_place_has_its_vector_or_none(entries: list[tuple[Any, Any, bool]]) -> None:
    """Whatever the order and the format; a place that is claimed twice is nobody's."""
    data, claimed = [], Counter[int]()
    wanted: dict[int, bytes] = {}
    for number, (index, embedding, is_text) in enumerate(entries):
        is_vector = isinstance(embedding, list) and all(isinstance(n, float) for n in embedding)
        vector = array("f", embedding).tobytes() if is_vector else b""
        written = base64.b64encode(vector).decode() if is_vector and is_text else embedding
        data.append({"index": index, "embedding": written})
        place = number if index is None else index
        if isinstance(place, int) and 0 <= place < 2**31:
            claimed[place] += 1
            wanted[place] = vector
    found = dict(slim_reply(line(data), "m"))
    assert found == {place: vector for place, vector in wanted.items() if claimed[place] == 1}


def test_a_place_that_is_there_twice_is_nobodys() -> None:
    """The row is asked again rather than given another's vector."""
    assert slim_reply(line([entry(0, [1]), entry(0, [2]), entry(1, [3])]), "m") == [
        (1, array("f", [3]).tobytes())
    ]


@pytest.mark.parametrize(
    "embedding",
    [None, 5, {}, "no base64!", "AAA=", base64.b64encode(b"12345").decode(), ["a"], [None], [[1]]],
)
def test_what_is_no_vector_is_an_empty_one(embedding: Any) -> None:
    """It is judged with the others."""
    assert slim_reply(line([entry(0, embedding)]), "m") == [(0, b"")]


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
    assert slim_reply(reply, "m") == []

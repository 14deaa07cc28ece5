"""Requests for embeddings, refused as the service refuses them; and the vectors of tests."""

from __future__ import annotations

import base64
import math
from array import array
from typing import Any

import pytest
from batch_server.embedding_rules import embedding_problem
from batch_server.errors import WireError
from batch_server.responders.embedding_reply import embedding_reply, inputs_of
from batch_server.responders.scripted_vectors import dimensions_of, scripted_vector

SMALL, ADA = "text-embedding-3-small", "text-embedding-ada-002"


def refusal(**body: Any) -> WireError | None:
    """The reply to a body that is refused."""
    return embedding_problem({"model": SMALL, **body}, azure=False, batch=True)


@pytest.mark.parametrize(
    "given", ["a", ["a"], ["a"] * 2_048, [1, 2], [[1], [2, 3]], "a" * 32_000, ["a" * 30_000] * 40]
)
def test_what_the_service_takes_is_taken(given: Any) -> None:
    """A text, texts, tokens, and lists of tokens, within the limits."""
    assert refusal(input=given, dimensions=5) is None


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "Missing required parameter: 'input'."),
        ({"input": 5}, "expected one of a string or an array"),
        ({"input": ""}, "empty string"),
        ({"input": []}, "empty array"),
        ({"input": ["a", ""]}, "Invalid 'input[1]': empty string"),
        ({"input": ["a", 5]}, "Invalid type for 'input[1]': expected a string"),
        ({"input": ["a"] * 2_049}, "maximum length 2048"),
        ({"input": "a", "encoding_format": "x"}, "Supported values are: 'float' and 'base64'."),
        ({"input": "a", "dimensions": 0}, "integer below minimum value"),
        ({"input": "a", "dimensions": 1_537}, "Must be less than or equal to 1536."),
        ({"input": "a", "dimensions": 5, "model": ADA}, "does not support specifying dimensions"),
        ({"input": "a" * 33_000}, "maximum context length is 8192 tokens"),
        ({"input": ["a" * 30_000] * 41}, "max 300000 tokens per request"),
    ],
)
def test_what_it_refuses_is_refused(body: dict[str, Any], message: str) -> None:
    """In its words."""
    problem = refusal(**body)
    assert problem is not None
    assert problem.status == 400
    assert message in problem.message


def test_both_formats_say_the_same() -> None:
    """Numbers, and their bytes."""
    vectors = [scripted_vector(text, 5) for text in ("a", "b")]
    made = {
        form: embedding_reply({"encoding_format": form}, vectors, model="m", tokens=2)
        for form in ("float", "base64")
    }
    decoded = [base64.b64decode(entry["embedding"]) for entry in made["base64"]["data"]]
    numbers = [entry["embedding"] for entry in made["float"]["data"]]
    assert decoded == vectors == [array("f", vector).tobytes() for vector in numbers]
    assert [entry["index"] for entry in made["float"]["data"]] == [0, 1]


@pytest.mark.parametrize("given", ["a", ["a"], [1, 2], [[1, 2]]])
def test_one_input_is_one(given: Any) -> None:
    """However it is written."""
    assert len(inputs_of({"input": given})) == 1


def test_scripted_vectors_follow_from_the_words() -> None:
    """Of length 1; texts that share words lie nearer than those that share none."""

    def near(one: str, other: str) -> float:
        pair = [array("f", scripted_vector(text, 384)) for text in (one, other)]
        return float(sum(a * b for a, b in zip(*pair, strict=True)))

    assert math.isclose(near("a cat sat", "a cat sat"), 1, rel_tol=1e-5)
    assert near("a cat sat", "a cat ran") > 0.5 > abs(near("a cat sat", "the dog ran"))
    assert math.isclose(near("", ""), 1, rel_tol=1e-5)
    assert [
        dimensions_of({"model": model, **asked})
        for model, asked in ((SMALL, {}), ("text-embedding-3-large", {}), ("m", {"dimensions": 7}))
    ] == [1_536, 3_072, 7]

"""The packaged embedding model in numpy, against what its makers' own library says of it."""

from __future__ import annotations

import base64
from array import array
from typing import Any

import pytest
from batch_server.extras import EMBEDDINGS
from batch_server.responders.base import ChatRequest
from batch_server.responders.minilm import MiniLmResponder

pytestmark = [
    pytest.mark.model,
    pytest.mark.skipif(bool(EMBEDDINGS.missing()), reason="the extra embeddings is not installed"),
]
# https://sbert.net/docs/quickstart.html, "Sentence Transformer": the similarities of these three.
WEATHER = ["The weather is lovely today.", "It's so sunny outside!", "He drove to the stadium."]
SIMILARITIES = {(0, 1): 0.6660, (0, 2): 0.1046, (1, 2): 0.1411}
# The first numbers of the model card's example, as sentence-transformers prints them.
EXAMPLE, FIRST = "This is an example sentence", [0.0677, 0.0635, 0.0487, 0.0793]
LONG = "a very long text " * 400


def asked(index: int, given: Any, **body: Any) -> ChatRequest:
    """A request for embeddings."""
    body = {"model": "m", "input": given, "encoding_format": "base64", **body}
    return ChatRequest(index, str(index), body, "/embeddings")


def test_the_vectors_are_the_models() -> None:
    """To the four digits that are published, alone or with others, whatever their lengths."""
    responder = MiniLmResponder()
    requests = [
        asked(0, WEATHER),
        asked(1, EXAMPLE),
        asked(2, [LONG, EXAMPLE]),
        asked(3, "a", dimensions=256),
        asked(4, [1, 2]),
    ]
    replies = {request.index: reply for request, reply in responder.answer(requests)}
    responder.close()
    vectors = [
        [array("f", base64.b64decode(entry["embedding"])) for entry in replies[i].body["data"]]
        for i in range(3)
    ]
    for (one, other), expected in SIMILARITIES.items():
        pair = zip(vectors[0][one], vectors[0][other], strict=True)
        assert sum(a * b for a, b in pair) == pytest.approx(expected, abs=5e-5)
    assert vectors[1][0][:4].tolist() == pytest.approx(FIRST, abs=5e-5)
    assert vectors[2][1].tolist() == pytest.approx(vectors[1][0].tolist(), abs=1e-6)
    assert sum(a * a for a in vectors[2][0]) == pytest.approx(1, abs=1e-5)
    # 256 tokens of the long one, and five words between the two marks.
    assert replies[2].body["usage"]["prompt_tokens"] == 256 + 7
    assert [replies[i].status_code for i in (3, 4)] == [400, 400]
    assert "384 numbers, not of 256" in replies[3].body["error"]["message"]

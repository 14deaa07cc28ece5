"""Pictures in a request: what the service refuses, in its words, and what a responder is shown."""

from __future__ import annotations

from typing import Any

import pytest
from batch_server.body_rules import body_problem
from batch_server.images import MOST_BYTES, text_of
from batch_server.responders.base import RESPONSES, ChatRequest
from batch_server.responders.scripted import ScriptedResponder
from batch_server.responses_rules import responses_problem
from support.pictures import ANIMATED_GIF, JPEG, WEBP, data_address, png, shown

_FORMATS = "is below 20 MB in size and is of one the following formats"
_EXPECTED = "Expected a base64-encoded data URL with an image MIME type"


def chat_body(*urls: str, detail: str | None = None) -> dict[str, Any]:
    """A body of chat completions that shows pictures."""
    more = {"detail": detail} if detail else {}
    images = [{"type": "image_url", "image_url": {"url": url, **more}} for url in urls]
    content = [{"type": "text", "text": "What is this?"}, *images]
    return {"model": "any", "messages": [{"role": "user", "content": content}]}


def responses_body(*urls: str) -> dict[str, Any]:
    """The same as a body of the Responses API."""
    images = [{"type": "input_image", "image_url": url} for url in urls]
    content = [{"type": "input_text", "text": "What is this?"}, *images]
    return {"model": "any", "input": [{"role": "user", "content": content}]}


@pytest.mark.parametrize(
    "url",
    ["https://example.org/a.png", "HTTP://h/x", data_address(png()),
     data_address(JPEG, "image/jpg"), data_address(WEBP, "image/png")],
)  # fmt: skip
@pytest.mark.parametrize("detail", [None, "low", "high", "auto", "original"])
def test_whole_pictures_are_taken(url: str, detail: str | None) -> None:
    """At any detail; an address is not fetched."""
    assert body_problem(chat_body(url, detail=detail), azure=True, batch=True) is None
    assert responses_problem(responses_body(url), azure=True, batch=True) is None


@pytest.mark.parametrize(
    ("url", "said", "code"),
    [
        ("ftp://h/a.png", "Expected a valid URL", "invalid_value"),
        ("photos/a.png", "Expected a valid URL", "invalid_value"),
        ("data:image/png,abc", "a value without the ';base64' separator", "invalid_value"),
        (data_address(b"%PDF", "application/pdf"), "unsupported MIME type 'application/pdf'",
         "invalid_value"),
        ("data:image/png;base64,", "empty base64-encoded bytes", "invalid_value"),
        ("data:image/png;base64,a b", "an invalid base64-encoded value", "invalid_value"),
        (data_address(png()[:-4]), _FORMATS, "invalid_image_format"),
        (data_address(ANIMATED_GIF, "image/gif"), _FORMATS, "invalid_image_format"),
        (data_address(png(pad=MOST_BYTES)), _FORMATS, "invalid_image_format"),
    ],
)  # fmt: skip
def test_broken_pictures_are_refused(url: str, said: str, code: str) -> None:
    """The refusal names the part, as the service does."""
    for problem, param in (
        (body_problem(chat_body("https://h/a", url), azure=True, batch=True),
         "messages[0].content[2].image_url.url"),
        (responses_problem(responses_body("https://h/a", url), azure=True, batch=True),
         "input[0].content[2].image_url"),
    ):  # fmt: skip
        assert problem is not None
        assert (problem.status, problem.param, problem.detail) == (400, param, code) or (
            code == "invalid_image_format" and problem.param == param
        )
        assert said in problem.message
        if code == "invalid_value" and "MIME" in said:
            assert _EXPECTED in problem.message


@pytest.mark.parametrize(("azure", "most"), [(True, 50), (False, 1_500)])
def test_too_many_pictures_are_refused(azure: bool, most: int) -> None:
    """As many as the service takes are not."""
    urls = ["https://h/a.png"] * most
    assert body_problem(chat_body(*urls), azure=azure, batch=True) is None
    problem = body_problem(chat_body(*urls, "https://h/a.png"), azure=azure, batch=True)
    assert problem is not None
    assert problem.message == (
        f"Exceeded maximum number of images ({most}) allowed in the request."
    )


def test_an_unknown_detail_is_refused() -> None:
    """With those that there are."""
    problem = body_problem(chat_body("https://h/a", detail="medium"), azure=True, batch=True)
    assert problem is not None
    assert "Supported values are: 'low', 'high', 'auto', and 'original'" in problem.message


@pytest.mark.parametrize(
    "request_",
    [
        ChatRequest(0, "a", chat_body("https://h/a.png", data_address(png(width=9)))),
        ChatRequest(0, "a", responses_body("https://h/a.png", data_address(png(width=9))),
                    path=RESPONSES),
    ],
    ids=["chat", "responses"],
)  # fmt: skip
def test_the_script_says_what_it_was_shown(request_: ChatRequest) -> None:
    """Type, pixels and digest, by which rules match too; pictures count as tokens."""
    rule = {"match": f"image/png 9x8 {shown(png(width=9))}", "content": "a red one"}
    ((_, reply),) = ScriptedResponder([rule]).answer([request_])
    assert "a red one" in str(reply.body)
    used = reply.body["usage"]
    assert used.get("prompt_tokens", used.get("input_tokens")) > 85 + 4 * 170 + 255
    content = chat_body("https://h/a.png", data_address(png()))["messages"][0]["content"]
    assert text_of(content) == (f"https://h/a.png\nimage/png 8x8 {shown(png())}\nWhat is this?")

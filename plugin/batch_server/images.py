"""Pictures within a request: what the service refuses of them, and what they are.

Texts and codes are the service's, as users reported them. An http(s) address is taken as it is:
nothing is fetched. Sources: OpenAI's guide "Images and vision", and
github.com/Azure/azure-rest-api-specs/issues/46145 for Azure's number of pictures.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from batch_server.image_formats import TYPES, Picture, read_picture
from batch_server.refusals import Refusal

MOST_OF_AZURE: Final = 50
MOST_OF_OPENAI: Final = 1_500
MOST_BYTES: Final = 20_000_000
_HASH_DIGITS = 16
_HTTP = re.compile(r"https?://[^\s/]+", re.IGNORECASE)
_EXPECTED = (
    "Expected a base64-encoded data URL with an image MIME type (e.g. "
    "'data:image/png;base64,aW1nIGJ5dGVzIGhlcmU='), but got"
)
_UNSUPPORTED = (
    "You uploaded an unsupported image. Please make sure your image is below 20 MB in size and is "
    "of one the following formats: ['png', 'jpeg', 'gif', 'webp']."
)


def images_problem(body: Mapping[str, Any], *, azure: bool) -> Refusal | None:
    """Return why a request is refused for its pictures, or None.

    Args:
        body: A body whose parts have the documented types.
        azure: Whether Azure's limit on their number holds.
    """
    count = 0
    for param, url in _placed(body):
        count += 1
        problem = _problem(url, param)
        if problem:
            return problem
    most = MOST_OF_AZURE if azure else MOST_OF_OPENAI
    if count > most:
        return Refusal(
            f"Exceeded maximum number of images ({most}) allowed in the request.", _named(body)
        )
    return None


def text_of(content: Any) -> str:
    """Return a message's content as one text: of pictures, what they are, then its texts.

    A picture is shown as `image/png 64x48 sha256:` and the first digits of its bytes' digest, or
    by its address.
    """
    if not isinstance(content, list):
        return str(content)
    parts = [part for part in content if isinstance(part, Mapping)]
    shown = [_shown(url) for url in map(_url, parts) if url is not None]
    texts = [str(part["text"]) for part in parts if "text" in part]
    return "\n".join([*shown, *texts])


def image_tokens(content: Any) -> int:
    """Return about what the pictures of a message's content take of a prompt: tiles of 512."""
    if not isinstance(content, list):
        return 0
    urls = [_url(part) for part in content if isinstance(part, Mapping)]
    return sum(_tokens(_decoded(url)) for url in urls if url is not None)


def _placed(body: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the address of each picture with the place of it in the body."""
    name = _named(body)
    asked = body[name]
    for place, message in enumerate(asked if isinstance(asked, list) else []):
        content = message.get("content")
        for number, part in enumerate(content if isinstance(content, list) else []):
            url = _url(part)
            if url is not None:
                end = ".url" if part["type"] == "image_url" else ""
                yield f"{name}[{place}].content[{number}].image_url{end}", url


def _named(body: Mapping[str, Any]) -> str:
    """Return what the conversation is called in a body: the Responses API has another name."""
    return "messages" if "messages" in body else "input"


def _url(part: Mapping[str, Any]) -> str | None:
    """Return the address of a part that is a picture, or None; a file's id has none."""
    image = part.get("image_url")
    if part.get("type") == "input_image":
        return image if isinstance(image, str) else None
    if part.get("type") != "image_url":
        return None
    return str(image.get("url")) if isinstance(image, Mapping) else None


def _problem(url: str, param: str) -> Refusal | None:
    if _HTTP.match(url):
        return None
    if not url.lower().startswith("data:"):
        return Refusal(
            f"Invalid '{param}'. Expected a valid URL, but got a value with an invalid format.",
            param,
            "invalid_value",
        )
    head, _, text = url.partition(",")
    kind, _, form = head[len("data:") :].lower().partition(";")
    if form != "base64":
        return _refusal(param, "a value without the ';base64' separator.")
    if kind not in (*TYPES, "image/jpg"):
        return _refusal(param, f"unsupported MIME type '{kind[:40]}'.")
    if not text:
        return _refusal(param, "empty base64-encoded bytes.")
    try:
        data = base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error):
        return _refusal(param, "an invalid base64-encoded value.")
    if len(data) > MOST_BYTES or isinstance(read_picture(data), str):
        return Refusal(_UNSUPPORTED, param, "invalid_image_format")
    return None


def _refusal(param: str, given: str) -> Refusal:
    return Refusal(f"Invalid '{param}'. {_EXPECTED} {given}", param, "invalid_value")


def _shown(url: str) -> str:
    data = _decoded(url)
    if data is None:
        return url
    picture, digest = read_picture(data), hashlib.sha256(data).hexdigest()[:_HASH_DIGITS]
    if isinstance(picture, str):
        return f"a picture that {picture}"
    return f"{picture.media_type} {picture.width}x{picture.height} sha256:{digest}"


def _tokens(data: bytes | None) -> int:
    picture = read_picture(data) if data is not None else None
    if not isinstance(picture, Picture):
        return 85 + 4 * 170
    return 85 + 170 * math.ceil(picture.width / 512) * math.ceil(picture.height / 512)


def _decoded(url: str) -> bytes | None:
    """Return the bytes of a `data:` address, or None where it is none."""
    if not url.lower().startswith("data:"):
        return None
    try:
        return base64.b64decode(url.partition(",")[2], validate=True)
    except (ValueError, binascii.Error):
        return None

"""JSON read and written as fast as pydantic's parser can, and as leniently as Python's own.

The fast parser refuses what the standard library takes: lone surrogates, deep nesting, vast
numbers. What it refuses goes the slow way, so that the result is the same.
"""

from __future__ import annotations

import json
from typing import Any

from pydantic_core import PydanticSerializationError, from_json, to_json


def read_json(raw: bytes) -> Any:
    """Return what a text of UTF-8 holds.

    Raises:
        ValueError: It is no JSON, or no UTF-8 but for lone surrogates.
        RecursionError: It is nested too deeply.
    """
    try:
        return from_json(raw)
    except ValueError:
        return json.loads(raw.decode("utf-8", "surrogatepass"))


def json_bytes(value: Any) -> bytes:
    """Return a value as one line of JSON."""
    try:
        return to_json(value, inf_nan_mode="constants")
    except (PydanticSerializationError, ValueError):
        return json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")

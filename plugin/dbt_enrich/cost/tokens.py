"""Tokens, counted by the tokenizer of the model's own family, which carries its vocabulary."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

# Body parameters that decide how much a model reasons before it answers.
REASONING_PARAMETERS = ("reasoning_effort", "reasoning")
_REASONING_FAMILIES = re.compile(r"o\d|gpt-([5-9]|\d\d)(?!.*chat)")
_OLD_FAMILIES = ("gpt-4-", "gpt-35", "gpt-3.5", "text-embedding-")


def encoding_name(model: str) -> str:
    """Return the name of a model's encoding: `o200k_base`, but for the families before gpt-4o.

    Those of embeddings are among them
    (https://github.com/openai/tiktoken/blob/main/tiktoken/model.py).
    """
    if model == "gpt-4" or model.startswith(_OLD_FAMILIES):
        return "cl100k_base"
    return "o200k_base"


def may_reason(model: str, parameters: Mapping[str, Any]) -> bool:
    """Whether a model may think before it answers, in tokens that are billed as output.

    Args:
        model: The logical model name.
        parameters: The body's parameters; an effort of `none` turns it off.
    """
    reasoning = parameters.get("reasoning")
    effort = reasoning.get("effort") if isinstance(reasoning, Mapping) else None
    effort = parameters.get("reasoning_effort", effort)
    if effort is not None:
        return str(effort) != "none"
    return bool(_REASONING_FAMILIES.match(model))


def count_tokens(texts: Iterable[str], model: str) -> list[int]:
    """Return the number of tokens of each text.

    Args:
        texts: The texts; special tokens in them count as plain text.
        model: The logical model name, which decides the encoding.
    """
    encoding = _encoding(encoding_name(model))
    return [len(tokens) for tokens in encoding.encode_ordinary_batch(list(texts))]


@cache
def _encoding(name: str) -> Any:
    # Its vocabularies take a second to read: only what counts tokens pays for that.
    import bpe_openai

    return bpe_openai.get_encoding(name)

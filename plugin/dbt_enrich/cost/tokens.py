"""Tokens, counted by the tokenizer of the model's own family, which carries its vocabulary."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

# https://github.com/openai/openai-cookbook, "How to count tokens with tiktoken": three tokens
# around each message, and three with which the reply begins.
TOKENS_PER_MESSAGE = 3
TOKENS_OF_REPLY = 3
# Body parameters that decide how much a model reasons before it answers.
REASONING_PARAMETERS = ("reasoning_effort", "reasoning")
_REASONING_FAMILIES = re.compile(r"o\d|gpt-([5-9]|\d\d)(?!.*chat)")
_OLD_FAMILIES = ("gpt-4-", "gpt-35", "gpt-3.5")


def encoding_name(model: str) -> str:
    """Return the name of a model's encoding: `o200k_base`, but for the families before gpt-4o."""
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


def prompt_overhead(
    messages: Sequence[Mapping[str, Any]], response_format: Mapping[str, Any], model: str
) -> int:
    """Return the tokens of a request that are the same for every row.

    Args:
        messages: Its constant messages: system text and examples.
        response_format: The schema, which the service puts before the model as text.
        model: The logical model name.
    """
    texts = [str(message["content"]) for message in messages]
    schema = response_format.get("json_schema", {}).get("schema")
    if schema:
        texts.append(json.dumps(schema, separators=(",", ":")))
    # One message more for the row's own.
    framing = (len(messages) + 1) * TOKENS_PER_MESSAGE + TOKENS_OF_REPLY
    return sum(count_tokens(texts, model)) + framing


@cache
def _encoding(name: str) -> Any:
    # Its vocabularies take a second to read: only what counts tokens pays for that.
    import bpe_openai

    return bpe_openai.get_encoding(name)

"""A conversation: messages with a role and a text, as more than one endpoint has them."""

from __future__ import annotations

import json
from typing import Any

from dbt_enrich.cost.tokens import count_tokens
from dbt_enrich.endpoints.base import Prompt

# https://github.com/openai/openai-cookbook, "How to count tokens with tiktoken": three tokens
# around each message, and three with which the reply begins.
_TOKENS_PER_MESSAGE = 3
_TOKENS_OF_REPLY = 3


def conversation(prompt: Prompt, asked: str | list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the messages of a request, the user's own last.

    Args:
        prompt: What is the same in all requests.
        asked: The user's text, or its parts.
    """
    return [*_constant_messages(prompt), {"role": "user", "content": asked}]


def continued_sql(answer: str, problem: str) -> str:
    """Build the messages that ask for a better answer, to stand behind the user's own.

    Args:
        answer: SQL expression of the previous answer's text.
        problem: SQL expression of the request to answer again.
    """
    return (
        f"""',{{"role":"assistant","content":' || cast(to_json({answer}) as varchar)"""
        f""" || '}},{{"role":"user","content":' || """
        f"cast(to_json({problem}) as varchar) || '}}'"
    )


def prompt_tokens(prompt: Prompt, model: str) -> int:
    """Count the tokens that a request takes beside the user message's own.

    Args:
        prompt: What is the same in all requests.
        model: The logical model name.
    """
    messages = _constant_messages(prompt)
    texts = [message["content"] for message in messages]
    if prompt.schema:
        # The service puts it before the model as text.
        texts.append(json.dumps(prompt.schema, separators=(",", ":")))
    # One message more for the user's own.
    framing = (len(messages) + 1) * _TOKENS_PER_MESSAGE + _TOKENS_OF_REPLY
    return sum(count_tokens(texts, model)) + framing


def _constant_messages(prompt: Prompt) -> list[dict[str, str]]:
    """Return the messages that go before the user's own."""
    messages = [_message("system", prompt.system)] if prompt.system else []
    for asked, answered in prompt.examples:
        messages += [_message("user", asked), _message("assistant", answered)]
    return messages


def _message(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}

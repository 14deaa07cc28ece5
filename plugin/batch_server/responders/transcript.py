"""A conversation as one plain text, for language models that know no chat template.

A base model goes on with what it reads. So the system text stands first, each earlier pair as an
input and its output, and the text ends where the next output is due. Nothing is added to what the
request holds but the labels.

The text ends in a line break: ending in a space costs most of the answers, as tokenizers join a
space with the word that follows it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

INPUT = "Input:"
OUTPUT = "Output:"
# Where an answer without a grammar ends: the model begins to write the next input itself.
STOP = f"\n\n{INPUT}"


def transcript(messages: Sequence[Mapping[str, str]]) -> str:
    """Return the text that a base model goes on with.

    Args:
        messages: `role` (`system`, `user` or `assistant`) and `content` of each.
    """
    parts = [_part(message["role"], message["content"].strip()) for message in messages]
    return f"{''.join(parts)}{OUTPUT}\n"


def _part(role: str, content: str) -> str:
    if role == "user":
        return f"{INPUT} {content}\n"
    if role == "assistant":
        return f"{OUTPUT}\n{content}\n\n"
    return f"{content}\n\n"

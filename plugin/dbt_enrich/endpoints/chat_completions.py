"""`/chat/completions`: the only module that knows the format of its requests and its replies.

Nearly every reply has its text at `choices[0].message.content`. Where it has not, the places are
looked at where well-known servers put it instead, in this order:

- `choices[0].text` (legacy completions), `delta.content` (one chunk), `message.content` (Ollama's
  own API, Cohere), `output_text` and `output[]` (Responses API), `content[]` (Anthropic),
  `output.message` (Bedrock), `candidates[0].content.parts[]` (Gemini), `response` (Ollama).
- Lists of parts: those of the types `text` and `output_text`. Parts that are thinking are not
  (Mistral's Magistral: infiniflow/ragflow#14805; NousResearch/hermes-agent#4748).
- A later choice, where the first one has no text.
- The object as the server has parsed it, or as the arguments of a call that the model made in
  place of an answer: `parsed`, `tool_calls[]`, `function_call`, `output[].arguments`,
  `content[].input`.
- What a server has taken for thinking, where it is one JSON object and nothing else: vLLM with
  `include_reasoning` off (vllm-project/vllm#48863), OpenRouter (chunkhound/chunkhound#415).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from dbt_enrich.cost.tokens import count_tokens
from dbt_enrich.endpoints.base import Endpoint, Prompt, ReplyPaths

# https://github.com/openai/openai-cookbook, "How to count tokens with tiktoken": three tokens
# around each message, and three with which the reply begins.
_TOKENS_PER_MESSAGE = 3
_TOKENS_OF_REPLY = 3

_REPLY = ReplyPaths(
    usual={
        "raw": "$.choices[0].message.content",
        "finish_reason": "$.choices[0].finish_reason",
        "refusal": "$.choices[0].message.refusal",
        "model": "$.model",
        "prompt_tokens": "$.usage.prompt_tokens",
        "cached_tokens": "$.usage.prompt_tokens_details.cached_tokens",
        "completion_tokens": "$.usage.completion_tokens",
    },
    texts=(
        "$.choices[0].text",
        "$.choices[0].delta.content",
        "$.message.content",
        "$.output_text",
        "$.output",
        "$.content",
        "$.response",
        "$.generated_text",
    ),
    parts=(
        "$.choices[0].message.content[*]",
        "$.choices[0].delta.content[*]",
        "$.output[*].content[*]",
        "$.message.content[*]",
        "$.output.message.content[*]",
        "$.content[*]",
        "$.candidates[0].content.parts[*]",
    ),
    objects=(
        "$.choices[*].message.content",
        "$.choices[*].message.parsed",
        "$.choices[0].message.tool_calls[*].function.arguments",
        "$.choices[*].message.function_call.arguments",
        "$.message.tool_calls[*].function.arguments",
        "$.output[*].content[*].parsed",
        "$.output[*].arguments",
        "$.content[*].input",
        "$.candidates[0].content.parts[*].functionCall.args",
    ),
    thoughts=(
        "$.choices[0].message.reasoning_content",
        "$.choices[0].message.reasoning",
        "$.message.thinking",
    ),
    others={
        "finish_reason": (
            "$.incomplete_details.reason",
            "$.done_reason",
            "$.stop_reason",
            "$.candidates[0].finishReason",
        ),
        "model": ("$.modelVersion",),
        "prompt_tokens": (
            "$.usage.input_tokens",
            "$.prompt_eval_count",
            "$.usageMetadata.promptTokenCount",
        ),
        "cached_tokens": (
            "$.usage.input_tokens_details.cached_tokens",
            "$.usage.cache_read_input_tokens",
            "$.usageMetadata.cachedContentTokenCount",
        ),
        "completion_tokens": (
            "$.usage.output_tokens",
            "$.eval_count",
            "$.usageMetadata.candidatesTokenCount",
        ),
    },
    refusals=(
        "$.choices[0].message.content[*].refusal",
        "$.output[*].content[*].refusal",
    ),
    keys=("choices", "output", "output_text", "message", "content", "candidates", "usage"),
    answers="$.choices",
    places=("$.choices[0].message", "$.choices[0]"),
)


class _ChatCompletions:
    path = "/chat/completions"
    message_path = "$.messages[#-1].content"
    reply = _REPLY
    cut_reasons = ("length", "max_tokens", "max_output_tokens", "MAX_TOKENS")
    filter_reasons = ("content_filter", "SAFETY", "PROHIBITED_CONTENT")

    def body(
        self, prompt: Prompt, user_message: str, parameters: Mapping[str, Any]
    ) -> dict[str, Any]:
        return {
            "messages": [*_messages(prompt), _message("user", user_message)],
            "response_format": _response_format(prompt),
            **parameters,
        }

    def repair_sql(self, answer: str, problem: str) -> str:
        return (
            f"""',{{"role":"assistant","content":' || cast(to_json({answer}) as varchar)"""
            f""" || '}},{{"role":"user","content":' || """
            f"cast(to_json({problem}) as varchar) || '}}'"
        )

    def prompt_tokens(self, prompt: Prompt, model: str) -> int:
        messages = _messages(prompt)
        texts = [message["content"] for message in messages]
        if prompt.schema:
            # The service puts it before the model as text.
            texts.append(json.dumps(prompt.schema, separators=(",", ":")))
        # One message more for the user's own.
        framing = (len(messages) + 1) * _TOKENS_PER_MESSAGE + _TOKENS_OF_REPLY
        return sum(count_tokens(texts, model)) + framing


CHAT_COMPLETIONS: Final[Endpoint] = _ChatCompletions()


def _messages(prompt: Prompt) -> list[dict[str, str]]:
    """Return the messages that go before the user's own."""
    messages = [_message("system", prompt.system)] if prompt.system else []
    for asked, answered in prompt.examples:
        messages += [_message("user", asked), _message("assistant", answered)]
    return messages


def _message(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def _response_format(prompt: Prompt) -> dict[str, Any]:
    if prompt.schema is None:
        return {"type": "json_object"}
    return {
        "type": "json_schema",
        "json_schema": {"name": prompt.name, "strict": True, "schema": prompt.schema},
    }

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

from collections.abc import Mapping, Sequence
from typing import Any, Final

from dbt_enrich.endpoints.base import Endpoint, Image, Prompt, ReplyPaths
from dbt_enrich.endpoints.conversation import continued_sql, conversation, prompt_tokens
from dbt_enrich.task.endpoint_names import EndpointName

_REPLY = ReplyPaths(
    usual={
        "raw": "$.choices[0].message.content",
        "finish_reason": "$.choices[0].finish_reason",
        "refusal": "$.choices[0].message.refusal",
        "model": "$.model",
        "prompt_tokens": "$.usage.prompt_tokens",
        "cached_tokens": "$.usage.prompt_tokens_details.cached_tokens",
        "completion_tokens": "$.usage.completion_tokens",
        "reasoning_tokens": "$.usage.completion_tokens_details.reasoning_tokens",
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
    name = EndpointName.CHAT
    path = "/chat/completions"
    message_path = "$.messages[#-1].content"
    takes_lists = False
    reply = _REPLY
    cut_reasons = ("length", "max_tokens", "max_output_tokens", "MAX_TOKENS")
    filter_reasons = ("content_filter", "SAFETY", "PROHIBITED_CONTENT")

    takes_images = True

    def body(
        self,
        prompt: Prompt,
        user_message: str,
        parameters: Mapping[str, Any],
        images: Sequence[Image] = (),
    ) -> dict[str, Any]:
        return {
            "messages": conversation(prompt, _content(user_message, images)),
            "response_format": _response_format(prompt),
            **parameters,
        }

    def repair_sql(self, answer: str, problem: str) -> str:
        return continued_sql(answer, problem)

    def prompt_tokens(self, prompt: Prompt, model: str) -> int:
        return prompt_tokens(prompt, model)


CHAT_COMPLETIONS: Final[Endpoint] = _ChatCompletions()


def _content(text: str, images: Sequence[Image]) -> str | list[dict[str, Any]]:
    if not images:
        return text
    return [{"type": "text", "text": text}, *map(_image_part, images)]


def _image_part(image: Image) -> dict[str, Any]:
    detail = {"detail": image.detail} if image.detail else {}
    return {"type": "image_url", "image_url": {"url": image.url, **detail}}


def _response_format(prompt: Prompt) -> dict[str, Any]:
    if prompt.schema is None:
        return {"type": "json_object"}
    return {
        "type": "json_schema",
        "json_schema": {"name": prompt.name, "strict": True, "schema": prompt.schema},
    }

"""`/responses`: the only module that knows the format of its requests and its replies.

The text of an answer is that of the last item of `output`, the message: before it stand the
model's reasoning, and messages that it wrote on its way (`phase: commentary`). Where a reply has no
text there, it is looked for wherever a reply to chat completions, or that of a well-known server,
has it: `upstream` servers and gateways answer in one form what was asked in another.

The system text is a message of `input`, not `instructions`: JSON mode wants the word "json" in
`input` (promptfoo and others met "Response input messages must contain the word 'json'"). The
service keeps each response for 30 days unless `store` is false, and nothing here reads one again:
the answers are in the answer store. So they are not kept there, unless the task's parameters say
`store: true`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from dbt_enrich.endpoints.base import Endpoint, Image, Prompt, ReplyPaths
from dbt_enrich.endpoints.chat_completions import CHAT_COMPLETIONS
from dbt_enrich.endpoints.conversation import continued_sql, conversation, prompt_tokens
from dbt_enrich.task.endpoint_names import EndpointName
from dbt_enrich.task.parameters import NESTED, TOKEN_LIMITS

_LIMIT = "max_output_tokens"
_MESSAGE = "$.output[#-1].content"
_ELSEWHERE = CHAT_COMPLETIONS.reply
_USUAL = {
    "raw": f"{_MESSAGE}[0].text",
    "finish_reason": "$.status",
    "refusal": f"{_MESSAGE}[0].refusal",
    "model": "$.model",
    "prompt_tokens": "$.usage.input_tokens",
    "cached_tokens": "$.usage.input_tokens_details.cached_tokens",
    "completion_tokens": "$.usage.output_tokens",
    "reasoning_tokens": "$.usage.output_tokens_details.reasoning_tokens",
}
_REPLY = ReplyPaths(
    usual=_USUAL,
    # `status` is `incomplete` for each of the reasons.
    details={"finish_reason": "$.incomplete_details.reason"},
    several=(f"{_MESSAGE}[1].type", f"{_MESSAGE}[*]"),
    texts=(_ELSEWHERE.usual["raw"], *_ELSEWHERE.texts),
    parts=_ELSEWHERE.parts,
    objects=_ELSEWHERE.objects,
    thoughts=_ELSEWHERE.thoughts,
    others={
        name: (path, *_ELSEWHERE.others.get(name, ()))
        for name, path in _ELSEWHERE.usual.items()
        if name not in ("raw", "refusal")
    },
    refusals=("$.choices[*].message.refusal", *_ELSEWHERE.refusals),
    keys=_ELSEWHERE.keys,
    answers="$.output",
    places=("$.output[0]",),
)


class _Responses:
    name = EndpointName.RESPONSES
    path = "/responses"
    message_path = "$.input[#-1].content"
    takes_lists = False
    reply = _REPLY
    cut_reasons = CHAT_COMPLETIONS.cut_reasons
    filter_reasons = CHAT_COMPLETIONS.filter_reasons

    takes_images = True

    def body(
        self,
        prompt: Prompt,
        user_message: str,
        parameters: Mapping[str, Any],
        images: Sequence[Image] = (),
    ) -> dict[str, Any]:
        given = _spelled(parameters)
        text = {"format": _format(prompt), **given.pop("text", {})}
        asked = conversation(prompt, _content(user_message, images))
        return {"input": asked, "text": text, "store": False, **given}

    def repair_sql(self, answer: str, problem: str) -> str:
        return continued_sql(answer, problem)

    def prompt_tokens(self, prompt: Prompt, model: str) -> int:
        return prompt_tokens(prompt, model)


RESPONSES: Final[Endpoint] = _Responses()


def _content(text: str, images: Sequence[Image]) -> str | list[dict[str, Any]]:
    if not images:
        return text
    return [{"type": "input_text", "text": text}, *map(_image_part, images)]


def _image_part(image: Image) -> dict[str, Any]:
    detail = {"detail": image.detail} if image.detail else {}
    return {"type": "input_image", "image_url": image.url, **detail}


def _spelled(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return a task's parameters under the names that they have here."""
    spelled: dict[str, Any] = {}
    for name, value in parameters.items():
        if name in NESTED:
            outer, inner = NESTED[name]
            spelled[outer] = {**spelled.get(outer, {}), inner: value}
        elif isinstance(value, Mapping) and isinstance(spelled.get(name), Mapping):
            spelled[name] = {**spelled[name], **value}
        else:
            spelled[_LIMIT if name in TOKEN_LIMITS else name] = value
    return spelled


def _format(prompt: Prompt) -> dict[str, Any]:
    if prompt.schema is None:
        return {"type": "json_object"}
    return {"type": "json_schema", "name": prompt.name, "strict": True, "schema": prompt.schema}

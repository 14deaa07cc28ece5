"""Body parameters: those that the engine writes itself, and one spelling for all endpoints.

A task is the same whichever endpoint it asks. So what means the same there under another name is
held under the one that chat completions has, and the Responses API is given its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from dbt_enrich.errors import WrongValueError
from dbt_enrich.task.endpoint_names import EndpointName
from dbt_enrich.task.vectors import foreign_parameters

TOKEN_LIMITS: Final = ("max_tokens", "max_completion_tokens", "max_output_tokens")
# Body parameters that leave the answer as it is, so that changing one asks nothing again.
NEUTRAL_PARAMETERS: Final = frozenset(
    {*TOKEN_LIMITS, "user", "metadata", "store", "service_tier", "prompt_cache_key"}
    | {"safety_identifier", "prompt_cache_retention"}
)
NESTED: Final[Mapping[str, tuple[str, str]]] = {
    "reasoning_effort": ("reasoning", "effort"),
    "verbosity": ("text", "verbosity"),
}
"""By a parameter's name: the object and the key in it that the Responses API has for it."""
# "Invalid 'max_output_tokens': integer below minimum value. Expected a value >= 16"
# (vectorize-io/hindsight#58, of Azure).
_LEAST_OUTPUT_TOKENS = 16

_ONE_ANSWER = "a row has one answer; use enrichment.variant for a second sample"
_NO_STREAM = "a batch cannot stream"
_SCHEMA = "set enrichment.response; the columns are the schema"
_TEXTS = "set enrichment.system, examples and user"
_MODEL = "set enrichment.model and the profile's deployments"
# Body keys that the engine writes; `stream` and `n` would change the shape of the reply.
_ENGINE_PARAMETERS = {
    "model": _MODEL,
    "messages": _TEXTS,
    "response_format": _SCHEMA,
    "stream": _NO_STREAM,
    "n": _ONE_ANSWER,
}
_ENGINE_PARAMETERS_OF_RESPONSES = {
    **_ENGINE_PARAMETERS,
    "input": _TEXTS,
    "instructions": "set enrichment.system",
    "prompt": _TEXTS,
    "background": "remove it: a batch waits by itself",
    "conversation": "remove it: each row is asked by itself",
    "previous_response_id": "remove it: each row is asked by itself",
}
_ENGINE_PARAMETERS_OF_EMBEDDINGS = {
    "model": _MODEL,
    "input": "set enrichment.user",
    "encoding_format": "remove it: vectors are asked for in the form that takes the fewest bytes",
}
# Parameters of chat completions that the Responses API has under no name: openapi.yaml of OpenAI.
_OF_CHAT_ALONE = frozenset(
    {"seed", "stop", "presence_penalty", "frequency_penalty", "logit_bias", "logprobs"}
    | {"modalities", "audio", "prediction", "web_search_options", "stream_options"}
)

_REFUSED = {
    EndpointName.CHAT: _ENGINE_PARAMETERS,
    EndpointName.RESPONSES: _ENGINE_PARAMETERS_OF_RESPONSES,
    EndpointName.EMBEDDINGS: _ENGINE_PARAMETERS_OF_EMBEDDINGS,
}


def checked_parameters(parameters: Mapping[str, Any], endpoint: EndpointName) -> dict[str, Any]:
    """Return a task's body parameters in the spelling that all endpoints share.

    Args:
        parameters: As the user wrote them.
        endpoint: The endpoint that the task asks.

    Raises:
        WrongValueError: One of them is the engine's own, or the endpoint has none of that name.
    """
    of_responses = endpoint == EndpointName.RESPONSES
    refused = _REFUSED[endpoint]
    for key, fix in refused.items():
        if key in parameters:
            raise WrongValueError(f"'{key}' cannot be set here", fix=fix)
    if endpoint == EndpointName.EMBEDDINGS:
        for key in foreign_parameters(parameters):
            raise WrongValueError(
                f"'{key}' is for language models, and endpoint is embeddings", fix="remove it"
            )
    return _of_responses(parameters) if of_responses else dict(parameters)


def _of_responses(parameters: Mapping[str, Any]) -> dict[str, Any]:
    for key in sorted(_OF_CHAT_ALONE & set(parameters)):
        raise WrongValueError(
            f"the Responses API has no parameter '{key}'",
            fix="remove it, or write endpoint: chat",
        )
    _check_limit(parameters)
    shared = dict(parameters)
    for name, (outer, inner) in NESTED.items():
        if outer not in shared:
            continue
        if not isinstance(shared[outer], Mapping):
            raise WrongValueError(f"'{outer}' is no object", fix=f"write {outer}: {{{inner}: …}}")
        rest = dict(shared.pop(outer))
        if inner in rest and name in shared:
            raise WrongValueError(
                f"'{name}' and '{outer}.{inner}' are both given", fix="remove one"
            )
        if inner in rest:
            shared[name] = rest.pop(inner)
        if outer == "text" and "format" in rest:
            raise WrongValueError("'text.format' cannot be set here", fix=_SCHEMA)
        if rest:
            shared[outer] = rest
    return shared


def _check_limit(parameters: Mapping[str, Any]) -> None:
    given = [name for name in TOKEN_LIMITS if name in parameters]
    if len(given) > 1:
        raise WrongValueError(
            f"'{given[0]}' and '{given[1]}' are one limit of the Responses API",
            fix=f"write {TOKEN_LIMITS[-1]} alone",
        )
    for name in given:
        limit = parameters[name]
        if not isinstance(limit, int) or limit < _LEAST_OUTPUT_TOKENS:
            raise WrongValueError(
                f"'{name}' is {limit}, but the Responses API takes no limit below "
                f"{_LEAST_OUTPUT_TOKENS} tokens",
                fix="write a larger one, or leave it out",
            )

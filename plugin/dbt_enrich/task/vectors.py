"""Vectors: what a task that asks for embeddings may say, and what is known of models of them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from dbt_enrich.errors import WrongValueError
from dbt_enrich.task.endpoint_names import EndpointName
from dbt_enrich.task.schema import OutputColumn
from dbt_enrich.task.types import ArrayType

# https://platform.openai.com/docs/guides/embeddings: how long the vectors of a model are, at most,
# and of which models a length may be asked for.
_LONGEST: Final = {
    "text-embedding-3-small": 1_536,
    "text-embedding-3-large": 3_072,
    "text-embedding-ada-002": 1_536,
}
_TAKES_DIMENSIONS: Final = "text-embedding-3-"
DIMENSIONS: Final = "dimensions"
# What would be sent and means nothing there; openapi.yaml of OpenAI, `CreateEmbeddingRequest`.
_OF_CHAT: Final = frozenset(
    {"temperature", "top_p", "seed", "stop", "presence_penalty", "frequency_penalty", "logit_bias"}
    | {"max_tokens", "max_completion_tokens", "max_output_tokens", "reasoning_effort", "reasoning"}
    | {"verbosity", "logprobs", "top_logprobs", "tools", "tool_choice", "modalities", "prediction"}
)


def vector_of(outputs: Sequence[OutputColumn]) -> OutputColumn | None:
    """Return the output that is a vector, or None: a task with one has no other."""
    return next((output for output in outputs if isinstance(output.type, ArrayType)), None)


def size_of(output: OutputColumn) -> int:
    """Return how many numbers a vector has."""
    assert isinstance(output.type, ArrayType)  # noqa: S101 - `vector_of` has chosen it
    return output.type.size


def dimensions_sent(model: str, size: int, parameters: Mapping[str, Any]) -> int | None:
    """Return the `dimensions` of a request, or None where it has none.

    A model that does not know the parameter refuses it, so it is sent to those of OpenAI that take
    it, and where the task's own parameters name it.

    Args:
        model: The logical model name.
        size: How many numbers the column has.
        parameters: The task's parameters.
    """
    return size if model.startswith(_TAKES_DIMENSIONS) or DIMENSIONS in parameters else None


def check_outputs(endpoint: str, outputs: Sequence[OutputColumn]) -> None:
    """Refuse outputs that an endpoint does not give.

    Raises:
        WrongValueError: A vector is asked of a language model, or embeddings are to be anything but
            one vector.
    """
    vector = vector_of(outputs)
    if endpoint != EndpointName.EMBEDDINGS:
        if vector is None:
            return
        raise WrongValueError(
            f"the output column '{vector.name}' is {vector.type.sql}, a vector, whose numbers a "
            f"language model (endpoint: {endpoint}) would make up",
            fix="set endpoint: embeddings and the name of an embedding model, or use float[] and "
            f"max_items: {size_of(vector)}",
        )
    if len(outputs) == 1 and vector:
        return
    if vector is None:
        first = outputs[0]
        raise WrongValueError(
            f"endpoint is embeddings, but the output column '{first.name}' is {first.type.sql}",
            fix="write its data_type as float[N], with the length of the model's vectors, such as "
            "float[1536]",
        )
    raise WrongValueError(
        f"endpoint is embeddings, which gives one vector, but there are {len(outputs)} output "
        "columns",
        fix=f"leave '{vector.name}' alone in output, and ask for the others in another model",
    )


def check_rest(given: Mapping[str, Any]) -> None:
    """Refuse what is sent nowhere where embeddings are asked for.

    Args:
        given: Values of a task by key, those that are set.

    Raises:
        WrongValueError: One of them is set.
    """
    reasons = {
        "system": "put what the text needs into user",
        "examples": "remove it",
        "images": "remove it",
        "response": "remove it",
    }
    for key, fix in reasons.items():
        if given.get(key):
            raise WrongValueError(
                f"'{key}' is for language models, and endpoint is embeddings, which sends the text "
                "of user alone",
                fix=fix,
            )


def check_length(model: str, vector: OutputColumn, parameters: Mapping[str, Any]) -> None:
    """Refuse a length that the model's vectors cannot have.

    Args:
        model: The logical model name.
        vector: The output column.
        parameters: The task's parameters.

    Raises:
        WrongValueError: It is too long, another than the model's only one, or not the one that the
            parameters name.
    """
    size, longest = size_of(vector), _LONGEST.get(model)
    asked = parameters.get(DIMENSIONS, size)
    if asked != size:
        raise WrongValueError(
            f"the output column '{vector.name}' is {vector.type.sql}, but parameters.dimensions is "
            f"{asked}",
            fix="remove dimensions from the parameters, or write the same number",
        )
    if longest is None:
        return
    takes = model.startswith(_TAKES_DIMENSIONS)
    if DIMENSIONS in parameters and not takes:
        raise WrongValueError(
            f"'dimensions' is no parameter of {model}", fix="remove it from the parameters"
        )
    if size > longest or (size < longest and not takes):
        raise WrongValueError(
            f"the output column '{vector.name}' is {vector.type.sql}, but {model} gives "
            f"{'at most ' if takes else ''}{longest} numbers",
            fix=f"write its data_type as float[{longest}]",
        )


def foreign_parameters(parameters: Collection[str]) -> list[str]:
    """Return the parameters that are for language models."""
    return sorted(_OF_CHAT & set(parameters))

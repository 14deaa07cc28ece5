"""Which endpoint a task may ask of its language model, by what the model and the provider offer."""

from __future__ import annotations

import re
from typing import Final

from dbt_enrich.config.common import PluginConfig
from dbt_enrich.errors import ConfigurationError
from dbt_enrich.task.endpoint_names import EndpointName
from dbt_enrich.task.enrichment_task import EnrichmentTask
from dbt_enrich.task.vectors import size_of, vector_of

# `supported_endpoints` of the models of OpenAI and Azure in the price map of litellm 1.110.2. Other
# models, and the names of deployments, are taken for such as answer at all of them.
_DATED: Final = r"(-\d{4}-\d{2}-\d{2})?"
_ONLY: Final = {
    EndpointName.RESPONSES: re.compile(
        rf"((o\d|gpt-\d+(\.\d+)?)-pro|(o\d|o\d-mini)-deep-research|computer-use-preview){_DATED}"
        rf"|(gpt-\d+(\.\d+)?-)?codex(-mini|-max)?(-latest)?{_DATED}"
    ),
    EndpointName.CHAT: re.compile(rf"gpt-4o(-mini)?-(audio|search)-preview{_DATED}"),
}


def check_endpoint(
    model: str, task: EnrichmentTask, config: PluginConfig, *, in_batches: bool = True
) -> None:
    """Refuse an endpoint that the provider or the task's language model does not offer.

    Args:
        model: The dbt model's name, for messages.
        task: What is asked.
        config: The profile's block.
        in_batches: Whether it is asked in the provider's batches, which may not offer all.

    Raises:
        ConfigurationError: They do not go together.
    """
    asked, offered = task.endpoint, config.facts.endpoints
    if in_batches and asked not in offered:
        raise ConfigurationError(
            f"model '{model}': enrichment.endpoint is {asked}, which no batch of "
            f"{config.facts.label} may ask",
            fix="set via: synchronous, by which the same rows go through its synchronous endpoint"
            if asked == EndpointName.EMBEDDINGS
            else f"write {' or '.join(sorted(offered))}",
        )
    config.check_endpoint(asked)
    _check_vector(model, task, config)
    only = None if config.facts.runs_here else _only(task.model)
    if only not in (None, asked):
        raise ConfigurationError(
            f"model '{model}': {task.model} answers at no other endpoint than `{only}`, but "
            f"enrichment.endpoint is {asked}",
            fix=f"write endpoint: {only}, or choose another model",
        )


def _check_vector(model: str, task: EnrichmentTask, config: PluginConfig) -> None:
    """Refuse a vector that is of another length than the provider's one model makes."""
    vector, size = vector_of(task.outputs), config.vector_size
    if vector and size not in (None, size_of(vector)):
        raise ConfigurationError(
            f"model '{model}': the output column '{vector.name}' is {vector.type.sql}, but the "
            f"packaged embedding model gives {size} numbers",
            fix=f"write its data_type as float[{size}], which text-embedding-3-small and -large "
            "give too",
        )


def _only(model: str) -> EndpointName | None:
    """Return the one endpoint at which a language model is known to answer, or None."""
    return next((name for name, models in _ONLY.items() if models.fullmatch(model.lower())), None)

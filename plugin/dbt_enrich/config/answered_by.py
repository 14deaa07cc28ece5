"""Who answers, as part of a row's identity: an answer is never taken for another model's."""

from __future__ import annotations

from dbt_enrich.config.profile import PluginConfig
from dbt_enrich.errors import translated_errors


def answered_by(config: PluginConfig, model: str) -> str:
    """Return who answers the logical `model` under `config`.

    For Azure and OpenAI it is the model itself, so that moving a deployment asks nothing again;
    for `local` it is the weights or the script, whatever the model is called, or the model that
    the server is asked for.
    """
    if config.provider != "local":
        return model
    if config.responder == "scripted":
        return "scripted"
    settings = config.service_settings()
    if settings.responder is not None and settings.responder.upstream is not None:
        return settings.responder.upstream.answered_by(config.deployment(model))
    from batch_server.responders.weights import weights_identity

    with translated_errors():
        return f"llama:{weights_identity(config.gguf.expanduser() if config.gguf else None)}"

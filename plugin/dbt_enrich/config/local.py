"""The provider `local`, the emulator on this machine: what is known of it, and its keys."""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal, Self

from batch_server.responders import ResponderSpec, UpstreamOptions
from batch_server.responders.minilm_model import DIMENSIONS, packaged_identity
from pydantic import Field, model_validator

from dbt_enrich import extras
from dbt_enrich.config.azure import AZURE, AzureConfig, emulator_settings
from dbt_enrich.config.common import PluginConfig
from dbt_enrich.config.providers import Provider
from dbt_enrich.errors import ConfigurationError, WrongValueError, translated_errors
from dbt_enrich.extras import Extra
from dbt_enrich.task.endpoint_names import EndpointName

EMULATOR_DIRECTORY: Final = "local"
"""Where the emulator keeps its files, below the state directory."""

# What says where and how a service is called.
_OF_SERVICES: Final = (
    "endpoint", "base_url", "api_version", "api_key", "credential", "batch_input",
)  # fmt: skip

LOCAL: Final = Provider(
    name="local",
    label="the emulator",
    service="dbt_enrich.services.local:LocalService",
    # The emulator is called by Azure's v1 paths, and holds files to Azure's limits.
    limits=AZURE.limits,
    images=AZURE.images,
    expiry_days=AZURE.expiry_days,
    poll_seconds=2.0,
    # It shows at once what a service lists some time later.
    grace_seconds=0.0,
    is_free=True,
    runs_here=True,
    extra=extras.LOCAL,
    block="""module: dbt_enrich.plugin
alias: enrich
config:
  provider: local
""",
    refused={
        key: (
            f"`{key}` does not belong to the provider `local`, which runs on this machine",
            "take it out, or change `provider`",
        )
        for key in _OF_SERVICES
    },
)


class LocalConfig(PluginConfig):
    """The keys of the provider `local`, beside those of all.

    Attributes:
        responder: Who answers: models on this machine (`llama`, a language model, and an embedding
            model beside it; `minilm`, that one alone), a model server of your own (`upstream`), or
            rules and texts that fit the schema, for tests (`scripted`).
        gguf: A GGUF file that llama.cpp runs, in place of the packaged weights. A relative path
            counts from the project's directory.
        script: Rules of the scripted responder, a JSON file. A relative path counts from the
            project's directory.
        slots: Requests that the packaged model works on at once.
        upstream: The model server of `responder: upstream`.
    """

    facts = LOCAL

    provider: Literal["local"] = "local"
    responder: Literal["llama", "minilm", "upstream", "scripted"] = "llama"
    gguf: Path | None = None
    script: Path | None = None
    slots: int = Field(default=8, ge=1, le=64)
    upstream: UpstreamOptions | None = None

    @model_validator(mode="after")
    def _upstream_is_whole(self) -> Self:
        if (self.responder == "upstream") == (self.upstream is not None):
            return self
        if self.upstream is None:
            raise WrongValueError(
                "responder: upstream needs to know the model server",
                fix="add upstream: {base_url: http://localhost:11434/v1}, with its own address",
            )
        raise WrongValueError(
            f"upstream describes a model server, but responder is {self.responder}",
            fix="set responder: upstream, or take upstream out",
        )

    @property
    def service_id(self) -> str:
        """Its name alone: the address changes from run to run, the files in the directory stay."""
        return self.provider

    @property
    def sent_to(self) -> str:
        """Who answers."""
        server = f" {self.upstream.base_url}" if self.upstream else ""
        return f"{self.provider} {self.responder}{server}"

    @property
    def emulator_directory(self) -> Path:
        """Where the emulator keeps its files."""
        return self.state_dir.expanduser().resolve() / EMULATOR_DIRECTORY

    @property
    @translated_errors()
    def spec(self) -> ResponderSpec:
        """Who answers, for the emulator.

        Raises:
            ConfigurationError: A value of `upstream` cannot work.
        """
        return ResponderSpec(
            name=self.responder,
            gguf=self.gguf.expanduser().resolve() if self.gguf else None,
            script=self.script.expanduser().resolve() if self.script else None,
            slots=self.slots,
            threads=self.threads,
            upstream=self.upstream.checked() if self.upstream else None,
        )

    @property
    def extra(self) -> Extra | None:
        """The extra that the responder needs."""
        return self.spec.extra

    @translated_errors()
    def check_installed(self) -> None:
        """Refuse a responder whose extra is not installed."""
        self.spec.check_installed()

    def check_service(self) -> None:
        """Refuse a model server that cannot be one."""
        _ = self.spec

    def check_images(self) -> None:
        """Refuse pictures where llama.cpp answers, which is given texts alone."""
        if self.responder == "llama":
            raise ConfigurationError(
                "enrichment.images has pictures sent, but the local model reads text only",
                fix="set responder: upstream with a model server that reads pictures, or "
                "responder: scripted for tests",
            )

    @translated_errors()
    def check_endpoint(self, endpoint: EndpointName) -> None:
        """Refuse embeddings without the model that makes them, and all else of that model."""
        if endpoint == EndpointName.EMBEDDINGS:
            if self._makes_vectors:
                extras.EMBEDDINGS.require(
                    f"endpoint: embeddings with the responder {self.responder}"
                )
            return
        if self.responder == "minilm":
            raise ConfigurationError(
                f"The responder minilm makes embeddings, and endpoint is {endpoint}",
                fix=f"take `responder` out of {self.place.name}, for the packaged language model "
                "as well",
            )

    @property
    def vector_size(self) -> int | None:
        """How many numbers the packaged model's vectors have; None where others make them."""
        return DIMENSIONS if self._makes_vectors else None

    @property
    def _makes_vectors(self) -> bool:
        """Whether the packaged embedding model makes the vectors."""
        return self.responder in ("llama", "minilm")

    @translated_errors()
    def answered_by(self, model: str, endpoint: EndpointName = EndpointName.CHAT) -> str:
        """Return who answers: the weights, the script or the model that a server is asked for."""
        if self.responder == "scripted":
            return "scripted"
        if self.upstream is not None:
            return self.upstream.checked().answered_by(self.deployment(model))
        if endpoint == EndpointName.EMBEDDINGS:
            return packaged_identity()
        from batch_server.responders.weights import weights_identity

        return f"llama:{weights_identity(self.gguf.expanduser() if self.gguf else None)}"

    def at(self, url: str, key: str) -> AzureConfig:
        """Return the settings by which the emulator is called, by Azure's v1 paths.

        Args:
            url: Where it listens.
            key: Its key.
        """
        return emulator_settings(self, url, key)

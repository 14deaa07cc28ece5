"""The profile's plugin block: which service answers, where the state lies, what the limits are."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, cast

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)

from dbt_enrich.config.credential import CredentialKind, CredentialSettings
from dbt_enrich.config.secret import Secret
from dbt_enrich.config.service import Provider, ServiceSettings
from dbt_enrich.cost.caps import Caps
from dbt_enrich.cost.prices import DEFAULT_ZONE, FREE, Price, PriceTable, Zone, price_table
from dbt_enrich.cost.retirement import retirement_warning
from dbt_enrich.errors import ConfigurationError, WrongValueError, translated_errors
from dbt_enrich.wording import first_problem, near_match

if TYPE_CHECKING:
    from batch_server.responders import ResponderSpec

    from dbt_enrich.task.enrichment_task import EnrichmentTask

# Settings of DuckDB itself, which dbt-duckdb merges into every plugin's configuration, share no
# name with these keys except the ones that mean the same for the private DuckDB.
_SIZE = re.compile(r"\d+(\.\d+)? ?[KMGT]i?B", re.IGNORECASE)
# Azure's guide asks for at least 60 seconds between two looks at a batch.
_REMOTE_POLL_SECONDS = 60.0
_LOCAL_POLL_SECONDS = 2.0
# A service lists a batch some time after it was created, the emulator at once.
_REMOTE_GRACE_SECONDS = 600.0
_LOCAL_GRACE_SECONDS = 0.0
# What the keys of paths name; a relative one counts from the dbt project's directory.
_PATHS = ("state_dir", "gguf", "script", "prices_file")
_NAMESPACE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")


class UpstreamConfig(BaseModel):
    """The keys of `upstream:`: an OpenAI-compatible model server of the user's own.

    Attributes:
        base_url: Its address up to `/v1`, such as `http://localhost:11434/v1`.
        model: The model that it is asked for (default: the task's deployment).
        api_key_env: Name of the environment variable that holds its key, if it demands one.
        concurrency: Requests in flight at once.
        timeout: Seconds that one try of a request may take.
        retries: How often a request is repeated that found no answer, or a 408, 409, 429 or 5xx.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    base_url: str
    model: str | None = None
    api_key_env: str | None = None
    concurrency: int = 4
    timeout: float = 600.0
    retries: int = 6


class PluginConfig(BaseModel):
    """The keys of `config:` under the plugin in profiles.yml.

    Attributes:
        provider: Which service answers: `azure`, `openai` or `local`.
        endpoint: Azure: `https://<resource>.openai.azure.com`.
        base_url: OpenAI: another service's address, up to `/v1`.
        api_key: The service's key.
        credential: Azure, in place of `api_key`: who signs in to Microsoft Entra ID.
        tenant_id: The directory in which `credential` signs in.
        client_id: The application, or the user-assigned managed identity, that signs in.
        client_secret: `credential: service_principal`: the application's secret.
        authority_host: The host that gives tokens, for other clouds than Azure's public one.
        scope: What the token is for (default: Azure's public cloud's Cognitive Services).
        api_version: Azure: a dated version for the classic paths; without one, the v1 paths.
        deployments: Logical model name to the deployments that serve it (default: the same name).
        state_dir: Directory of the ledger, the requests and the answers.
        namespace: Mark of our own batches at the service (default: the dbt project's name).
        responder: `local`: who answers, `llama`, `upstream` or `scripted`.
        gguf: `local`: a GGUF file in place of the packaged weights.
        script: `local`: rules of the scripted responder, a JSON file.
        slots: `local`: requests that the model works on at once.
        upstream: `local`: the model server of the responder `upstream`.
        completion_window: What the service is asked for; only `24h` is known to be accepted.
        file_expiry_days: Days after which the service deletes an uploaded file; null for never.
        max_requests_per_file: Requests in one input file (default: the service's limit).
        max_bytes_per_file: Bytes of one input file (default: the service's limit).
        max_enqueued_tokens: Tokens that a deployment's batches may hold at once: a number for all
            of them, or one by deployment (default: what the service tells).
        line_url: The `url` of every request line (default: the service's).
        batch_endpoint: The `endpoint` of a batch (default: the service's).
        poll_interval: Seconds between two looks at a waiting batch, at most.
        transfers: How many files are uploaded and downloaded at once.
        adoption_grace: Seconds during which a batch that was created, and its files, may not be
            shown by the service yet.
        timeout: Seconds that a connection may stay silent.
        max_retries: How often a call that only reads, uploads or deletes is repeated.
        prices: By logical model, what a million tokens cost: `input` and `output`, and where they
            are known `cached_input`, `batch_input` and `batch_output`.
        prices_file: A JSON file of prices in place of the ones that ship with the package.
        currency: What the prices are in (default: USD).
        caps: What one `run` and one `day` (UTC) may take: `max_cost`, `max_requests`, `max_tokens`.
        memory_limit: Memory of the private DuckDB, as DuckDB spells it.
        threads: Threads of the private DuckDB.
        keep_files: Whether request files and downloaded files stay after collection.
        store_inputs: Whether the rows' text may outlive collection, here and at the service.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    provider: Literal["azure", "openai", "local"]
    endpoint: str | None = None
    base_url: str | None = None
    api_key: SecretStr | None = None
    credential: str | None = None
    tenant_id: str | None = None
    client_id: str | None = None
    client_secret: SecretStr | None = None
    authority_host: str | None = None
    scope: str | None = None
    api_version: str | None = None
    deployments: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    state_dir: Path = Path(".enrichment")
    namespace: str | None = None
    responder: Literal["llama", "upstream", "scripted"] = "llama"
    gguf: Path | None = None
    script: Path | None = None
    slots: int = Field(default=8, ge=1, le=64)
    upstream: UpstreamConfig | None = None
    completion_window: str = "24h"
    file_expiry_days: int | None = 30
    max_requests_per_file: int | None = Field(default=None, ge=1)
    max_bytes_per_file: int | None = Field(default=None, ge=1024)
    max_enqueued_tokens: int | dict[str, int] | None = None
    line_url: str | None = None
    batch_endpoint: str | None = None
    poll_interval: float | None = Field(default=None, gt=0)
    transfers: int = Field(default=4, ge=1, le=32)
    adoption_grace: float | None = Field(default=None, ge=0)
    timeout: float = Field(default=300.0, gt=0)
    max_retries: int = Field(default=4, ge=0)
    prices: dict[str, dict[str, Any]] = Field(default_factory=dict)
    prices_file: Path | None = None
    currency: str | None = None
    price_zone: Zone | dict[str, Zone] = "global"
    caps: Caps = Field(default_factory=Caps)
    memory_limit: str = "160MB"
    threads: int = Field(default=2, ge=1)
    keep_files: bool = False
    store_inputs: bool = True

    @property
    def poll_seconds(self) -> float:
        """Seconds between two looks at a waiting batch, at most."""
        usual = _LOCAL_POLL_SECONDS if self.provider == "local" else _REMOTE_POLL_SECONDS
        return usual if self.poll_interval is None else self.poll_interval

    @property
    def grace_seconds(self) -> float:
        """Seconds during which what was created, or has ended, may not be shown yet."""
        usual = _LOCAL_GRACE_SECONDS if self.provider == "local" else _REMOTE_GRACE_SECONDS
        return usual if self.adoption_grace is None else self.adoption_grace

    @field_validator("deployments", mode="before")
    @classmethod
    def _one_or_several(cls, value: object) -> object:
        if not isinstance(value, Mapping):
            return value
        return {key: [item] if isinstance(item, str) else item for key, item in value.items()}

    @field_validator("deployments")
    @classmethod
    def _named(cls, value: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        for model, names in value.items():
            if not names or not all(name.strip() for name in names):
                raise WrongValueError(
                    f"the model '{model}' has no deployment",
                    fix="name at least one",
                )
        return value

    @field_validator(
        "endpoint",
        "base_url",
        "api_version",
        "credential",
        "tenant_id",
        "client_id",
        "authority_host",
        "scope",
        "namespace",
        "gguf",
        "script",
        "prices_file",
        mode="before",
    )
    @classmethod
    def _empty_is_none(cls, value: object) -> object:
        return None if isinstance(value, str) and not value.strip() else value

    @field_validator("max_enqueued_tokens")
    @classmethod
    def _some_tokens(cls, value: int | dict[str, int] | None) -> int | dict[str, int] | None:
        limits = value.values() if isinstance(value, dict) else [] if value is None else [value]
        if any(limit < 1 for limit in limits):
            raise WrongValueError(
                "must be a positive number of tokens",
                fix="leave it out for no limit",
            )
        return value

    @field_validator("memory_limit")
    @classmethod
    def _size(cls, value: str) -> str:
        if not _SIZE.fullmatch(value):
            raise WrongValueError("must be a number with a unit", fix="write it like 160MB")
        return value

    @field_validator("namespace")
    @classmethod
    def _plain_namespace(cls, value: str | None) -> str | None:
        if value is not None and not _NAMESPACE.fullmatch(value):
            raise WrongValueError(
                "must be 1 to 63 letters, digits, '.', '_' or '-', beginning with a letter or digit"
            )
        return value

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

    @model_validator(mode="after")
    def _one_word_on_files(self) -> Self:
        if self.keep_files and not self.store_inputs:
            raise WrongValueError(
                "keep_files: true keeps the request files that store_inputs: false removes",
                fix="leave one of the two out",
            )
        return self

    def within(self, root: Path) -> PluginConfig:
        """Return the configuration with its relative paths below a directory.

        Args:
            root: The dbt project's directory, absolute; so a path names the same file wherever dbt
                or a command is started.
        """
        given = {name: getattr(self, name) for name in _PATHS}
        return self.model_copy(
            update={name: root / path.expanduser() for name, path in given.items() if path}
        )

    def deployments_of(self, model: str) -> tuple[str, ...]:
        """Return the deployments that serve the logical model name, the preferred one first."""
        return self.deployments.get(model, (model,))

    def deployment(self, model: str) -> str:
        """Return the preferred deployment of the logical model name."""
        return self.deployments_of(model)[0]

    def token_limit(self, deployment: str) -> int | None:
        """Return the configured limit on a deployment's enqueued tokens, or None."""
        if isinstance(self.max_enqueued_tokens, dict):
            return self.max_enqueued_tokens.get(deployment)
        return self.max_enqueued_tokens

    def price_table(self) -> PriceTable:
        """Return the prices that apply.

        Raises:
            ConfigurationError: One of them is wrong.
        """
        return price_table(
            self.prices,
            prices_file=self.prices_file.expanduser() if self.prices_file else None,
            currency=self.currency,
            provider=self.provider,
        )

    def zone_of(self, deployment: str) -> str:
        """Return where a deployment answers, by which Azure has its prices."""
        if isinstance(self.price_zone, dict):
            return self.price_zone.get(deployment, DEFAULT_ZONE)
        return self.price_zone

    def price(self, model: str, deployment: str | None = None) -> Price | None:
        """Return the price of a logical model, or None if it is unknown; `local` is free.

        Args:
            model: The logical model name.
            deployment: The deployment that answers; the preferred one by default.
        """
        if self.provider == "local":
            return FREE
        zone = self.zone_of(deployment or self.deployment(model))
        return self.price_table().find(model, zone)

    def price_problem(self, model: str) -> str:
        """Say that a logical model has no price in its deployment's zone, and what to do."""
        return self.price_table().unknown(model, self.zone_of(self.deployment(model)))

    def task_price(self, task: EnrichmentTask) -> Price | None:
        """Return the price of a task's requests, by the service tier that they ask for."""
        price = self.price(task.model)
        return price.of_tier(task.parameters.get("service_tier")) if price else None

    def retirement(self, model: str) -> str | None:
        """Say that the provider ends a model within 90 days, or return None."""
        if self.provider == "local":
            return None
        return retirement_warning(self.price_table(), model)

    def service_settings(self) -> ServiceSettings:
        """Return what the service layer has to be told.

        Raises:
            ConfigurationError: A value is missing or cannot work, such as no api_key for azure.
        """
        key = self.api_key.get_secret_value() if self.api_key else None
        return ServiceSettings(
            provider=Provider(self.provider),
            endpoint=self.endpoint,
            base_url=self.base_url,
            api_key=Secret(key) if key else None,
            api_version=self.api_version,
            credential=self._credential_settings(),
            completion_window=self.completion_window,
            file_expiry_days=self.file_expiry_days,
            max_requests_per_file=self.max_requests_per_file,
            max_bytes_per_file=self.max_bytes_per_file,
            line_url=self.line_url,
            batch_endpoint=self.batch_endpoint,
            timeout=self.timeout,
            max_retries=self.max_retries,
            emulator_directory=self.state_dir.expanduser().resolve() / "local",
            responder=self._responder_spec(),
        )

    def _credential_settings(self) -> CredentialSettings | None:
        secret = self.client_secret.get_secret_value().strip() if self.client_secret else ""
        if self.credential is None:
            for name in ("tenant_id", "client_id", "authority_host", "scope"):
                if getattr(self, name) is not None:
                    raise _without_credential(name)
            if secret:
                raise _without_credential("client_secret")
            return None
        given = {"scope": self.scope} if self.scope else {}
        return CredentialSettings(
            # Checked there, so that an unknown one is answered with the known ones.
            kind=cast("CredentialKind", self.credential),
            tenant_id=self.tenant_id,
            client_id=self.client_id,
            client_secret=Secret(secret) if secret else None,
            authority_host=self.authority_host,
            **given,
        )

    @translated_errors()
    def _responder_spec(self) -> ResponderSpec | None:
        if self.provider != "local":
            return None
        from batch_server.responders import ResponderSpec, UpstreamOptions

        return ResponderSpec(
            name=self.responder,
            gguf=self.gguf.expanduser().resolve() if self.gguf else None,
            script=self.script.expanduser().resolve() if self.script else None,
            slots=self.slots,
            threads=self.threads,
            upstream=UpstreamOptions(**self.upstream.model_dump()) if self.upstream else None,
        )


def _without_credential(name: str) -> ConfigurationError:
    return ConfigurationError(
        f"`{name}` is of no use without `credential`",
        fix="write `credential: service_principal`, or another way to sign in with Microsoft Entra "
        "ID, in the profile, or take it out",
    )


def parse_config(values: Mapping[str, Any], *, duckdb_settings: Mapping[str, Any]) -> PluginConfig:
    """Read the plugin's configuration out of what dbt-duckdb hands over.

    Args:
        values: The profile's `settings` merged with the plugin's own `config`.
        duckdb_settings: The profile's `settings`, whose keys are DuckDB's unless they are ours.

    Raises:
        ConfigurationError: A key of ours is unknown, missing or wrong.
    """
    known = set(PluginConfig.model_fields)
    own = {
        key: value
        for key, value in values.items()
        if key not in duckdb_settings or (key in known and value != duckdb_settings[key])
    }
    for key in own:
        if key not in known:
            raise ConfigurationError(
                f"profiles.yml: the config of the plugin dbt_enrich.plugin has the unknown key "
                f"'{key}'",
                fix=near_match(key, known) or f"use one of the keys {', '.join(sorted(known))}",
            )
    if "provider" not in own:
        raise ConfigurationError(
            "profiles.yml: the config of the plugin dbt_enrich.plugin has no 'provider'",
            fix="set it to azure, openai or local",
        )
    try:
        return PluginConfig(**own)
    except ValidationError as error:
        found = first_problem(error, is_secret=True)
        place = f"'{found.path}': " if found.path else ""
        raise ConfigurationError(
            "profiles.yml: the config of the plugin dbt_enrich.plugin is wrong: "
            f"{place}{found.text}",
            fix=found.fix or "correct it in profiles.yml",
        ) from None

"""The provider `azure`: what is known of it, and its keys."""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import replace
from typing import Any, Final, Literal

from batch_server.loopback import is_loopback
from pydantic import SecretStr, field_validator

from dbt_enrich import extras
from dbt_enrich.config.address import checked_url
from dbt_enrich.config.bucket_address import BucketAddress, BucketScheme
from dbt_enrich.config.common import PluginConfig
from dbt_enrich.config.credential import EntraKeys
from dbt_enrich.config.file_limits import (
    MAX_BLOB_BYTES,
    MAX_FILE_BYTES,
    ImageLimits,
    ServiceLimits,
)
from dbt_enrich.config.providers import Provider
from dbt_enrich.config.remote import RemoteConfig
from dbt_enrich.endpoints.choice import endpoint_at
from dbt_enrich.errors import ConfigurationError
from dbt_enrich.task.endpoint_names import EndpointName

_DATED_VERSION = re.compile(r"(\d{4}-\d{2}-\d{2})(-preview)?")
_FIRST_WITH_BATCH = "2024-07-01"
_FIRST_WITH_EXPIRY = "2025-03-01"
_FIRST_WITH_RESPONSES = "2025-03-01"
_FIRST_WITH_BLOBS = "2025-04-01"

AZURE: Final = Provider(
    name="azure",
    label="Azure",
    service="dbt_enrich.services.openai:OpenAIBatchService",
    limits=ServiceLimits(max_requests=100_000, max_bytes=MAX_FILE_BYTES),
    # Its guide says 10 pictures in a chat call, its replies "Exceeded maximum number of images (50)
    # allowed in the request" (github.com/Azure/azure-rest-api-specs/issues/46145, September 2026).
    images=ImageLimits(per_request=50, max_bytes=20_000_000),
    expiry_days=range(14, 31),
    # Azure's guide asks for at least 60 seconds between two looks at a batch.
    poll_seconds=60.0,
    grace_seconds=600.0,
    answers_single_requests=False,
    has_deployments=True,
    # https://learn.microsoft.com/azure/ai-services/openai/how-to/batch, "Batch limits".
    max_files=10_000,
    max_lasting_files=500,
    address_key="endpoint",
    address_fix="check that `endpoint` is the resource's address, or set `api_version`",
    endpoints=frozenset({EndpointName.CHAT, EndpointName.RESPONSES}),
    # https://learn.microsoft.com/azure/ai-foundry/openai/how-to/batch, "Preparing your batch file".
    line_prefixes={EndpointName.RESPONSES: "/v1"},
    api_path="/openai/v1/",
    key_header="api-key",
    key_prefix="",
    request_id_header="x-ms-client-request-id",
    extra=extras.AZURE,
    extra_purpose="with an API key; to sign in with Microsoft Entra ID (credential)",
    # With defaults, so that dbt runs without a key on everything else.
    block="""module: dbt_enrich.plugin
alias: enrich
config:
  provider: azure
  endpoint: "{{ env_var('AZURE_OPENAI_ENDPOINT', '') }}"
  api_key: "{{ env_var('AZURE_OPENAI_API_KEY', '') }}"
  deployments: {gpt-4o-mini: [gpt-4o-mini-batch]}
""",
    refused={
        "base_url": (
            "`base_url` belongs to the provider `openai`",
            "for `azure`, write the resource's address as `endpoint`",
        )
    },
)


class AzureConfig(EntraKeys, RemoteConfig):
    """The keys of the provider `azure`, beside those of all.

    Attributes:
        endpoint: The resource's address, such as `https://NAME.openai.azure.com`. A trailing
            `/openai` or `/openai/v1`, as the portal shows it, is taken off.
        api_version: A dated version such as `2024-10-21` uses the classic paths; none, `v1` or
            `preview` the v1 paths. Dated ones before `2025-03-01-preview` know no expiry of files
            and are not sent any.
        batch_input: How a batch gets its requests: `upload` through the service's files, or `blob`,
            by which it reads them from the container of `state.files` (`az://…`), writes its
            answers there, and takes 1 GB a file. The resource's system-assigned identity needs the
            role Storage Blob Data Contributor on the container.
    """

    facts = AZURE

    provider: Literal["azure"] = "azure"
    endpoint: str | None = None
    api_version: str | None = None
    batch_input: Literal["upload", "blob"] = "upload"

    @field_validator("api_version", mode="before")
    @classmethod
    def _date_is_text(cls, value: object) -> object:
        # YAML reads an unquoted 2024-10-21 as a date.
        return str(value) if isinstance(value, dt.date) else value

    @property
    def url(self) -> str:
        """The resource's address."""
        if self.endpoint is None:
            self.check_set()
            raise ConfigurationError(
                "The provider `azure` needs `endpoint`, and it is missing or empty",
                fix="write the resource's address, such as https://NAME.openai.azure.com, in "
                f"{self.place.name}",
            )
        parts = checked_url("endpoint", self.endpoint)
        path = parts.path.rstrip("/")
        if "/deployments/" in path or endpoint_at(path):
            raise ConfigurationError(
                "`endpoint` is the address of one deployment, but batches belong to the whole "
                "resource",
                fix=f"write {parts.scheme}://{parts.netloc} in {self.place.name}",
            )
        for suffix in ("/openai/v1", "/openai"):
            path = path.removesuffix(suffix)
        if parts.scheme == "http" and not is_loopback(parts.hostname):
            raise ConfigurationError(
                "`endpoint` begins with http://, which would send the key in the clear",
                fix=f"write https:// in {self.place.name}",
            )
        return f"{parts.scheme}://{parts.netloc}{path}"

    @property
    def api_query(self) -> dict[str, object] | None:
        """The version, `v1` or `preview`, where one is given."""
        return {"api-version": self.api_version} if self.api_version else None

    @property
    def dated_version(self) -> str | None:
        """The version of the classic paths, or None where the v1 paths are called."""
        return self.api_version if self._date_of_version else None

    @property
    def sends_expiry(self) -> bool:
        """Whether uploads carry `expires_after`."""
        date = self._date_of_version
        return self.file_expiry_days is not None and (date is None or date >= _FIRST_WITH_EXPIRY)

    @property
    def most(self) -> ServiceLimits:
        """What the service takes in one input file, which may be larger as a blob."""
        usual = self.facts.limits
        return replace(usual, max_bytes=MAX_BLOB_BYTES) if self.sends_blobs else usual

    @property
    def container(self) -> BucketAddress | None:
        """The container of the shared state, if it is one of Azure's."""
        bucket = self.state.bucket if self.state else None
        return bucket if bucket and bucket.scheme is BucketScheme.AZURE else None

    @property
    def sends_blobs(self) -> bool:
        """Whether requests are put there, in place of being uploaded."""
        return self.batch_input == "blob"

    @property
    def sign_in(self) -> EntraKeys | None:
        """The identity that signs in to Microsoft Entra ID, or None."""
        return self if self.credential is not None else None

    def check_endpoint(self, endpoint: EndpointName) -> None:
        """Refuse Responses on a dated version of the API that does not have them."""
        date = self._date_of_version
        if endpoint == EndpointName.RESPONSES and date and date < _FIRST_WITH_RESPONSES:
            raise ConfigurationError(
                f"The `api_version` {self.api_version} is older than the Responses API",
                fix=f"take `api_version` out of {self.place.name} for the v1 API, or write "
                f"{_FIRST_WITH_RESPONSES}-preview or later",
            )

    def check_service(self) -> None:
        """Refuse what cannot work: credential, address, version, key."""
        self.check_credential()
        _ = self.url
        self._check_api_version()
        self._check_blobs()
        if self.sign_in is None:
            self._check_key(
                "The provider `azure` needs `api_key` or `credential`, and both are missing or "
                "empty",
                fix=f"write `api_key: {self.place.variable('AZURE_OPENAI_API_KEY')}` in "
                f"{self.place.name} and set AZURE_OPENAI_API_KEY, or write `credential: default` "
                "to sign in with "
                "Microsoft Entra ID",
            )
        elif self.key:
            raise ConfigurationError(
                "`api_key` and `credential` are two ways to sign in, and both are given",
                fix=f"take one of them out of {self.place.name}",
            )

    def _check_blobs(self) -> None:
        if not self.sends_blobs:
            return
        if self.container is None:
            where = f"is {self.state.files}" if self.state else "is not given"
            raise ConfigurationError(
                "batch_input: blob has batches read their requests from a container at Azure, and "
                f"`state.files` {where}",
                fix="write files: az://CONTAINER/PREFIX under `state`, or take batch_input out of "
                f"{self.place.name} to upload the requests",
            )
        date = self._date_of_version
        if date and date < _FIRST_WITH_BLOBS:
            raise ConfigurationError(
                f"The `api_version` {self.api_version} has no batches that read blobs, as "
                "batch_input: blob asks for",
                fix=f"take `api_version` out of {self.place.name} for the v1 API, or write "
                f"{_FIRST_WITH_BLOBS}-preview or later",
            )

    @property
    def _date_of_version(self) -> str | None:
        match = _DATED_VERSION.fullmatch(self.api_version or "")
        return match[1] if match else None

    def _check_api_version(self) -> None:
        if self.api_version in (None, "v1", "preview"):
            return
        date = self._date_of_version
        if date is None:
            raise ConfigurationError(
                f"The `api_version` {self.api_version!r} is not one that Azure has",
                fix="write a dated version such as 2024-10-21, or leave it out for the v1 API",
            )
        if date < _FIRST_WITH_BATCH:
            raise ConfigurationError(
                f"The `api_version` {self.api_version} is older than the Batch API",
                fix="write 2024-10-21 or later, or leave it out for the v1 API",
            )


def emulator_settings(config: PluginConfig, url: str, key: str, **changes: Any) -> AzureConfig:
    """Return the settings by which a batch server of our own is called, by Azure's v1 paths.

    Args:
        config: The settings of the service that it stands for.
        url: Where it listens.
        key: Its key.
        changes: Keys that have another value there.
    """
    shared = {name: getattr(config, name) for name in PluginConfig.model_fields}
    # It keeps its files itself.
    own = {"provider": AZURE.name, "endpoint": url, "api_key": SecretStr(key), "state": None}
    return AzureConfig.model_construct(**{**shared, **own, **changes})

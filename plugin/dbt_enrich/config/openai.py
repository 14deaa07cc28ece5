"""The provider `openai`, and services that resemble it: what is known of it, and its keys."""

from __future__ import annotations

from typing import Final, Literal

from dbt_enrich.config.address import checked_url
from dbt_enrich.config.file_limits import MAX_FILE_BYTES, ServiceLimits
from dbt_enrich.config.providers import Provider
from dbt_enrich.config.remote import RemoteConfig

_URL: Final = "https://api.openai.com/v1"

OPENAI: Final = Provider(
    name="openai",
    label="OpenAI",
    service="dbt_enrich.services.openai:OpenAIBatchService",
    limits=ServiceLimits(max_requests=50_000, max_bytes=MAX_FILE_BYTES),
    line_prefix="/v1",
    expiry_days=range(1, 31),
    poll_seconds=60.0,
    grace_seconds=600.0,
    address_key="base_url",
    address_fix="check that `base_url` is the service's address up to /v1",
    # https://developers.openai.com/api/reference/overview#debugging-requests
    request_id_header="X-Client-Request-Id",
    block="""module: dbt_enrich.plugin
alias: enrich
config:
  provider: openai
  api_key: "{{ env_var('OPENAI_API_KEY', '') }}"
""",
    refused={
        **{
            key: (
                f"`{key}` belongs to the provider `azure`",
                (
                    "for `openai`, write the service's address as `base_url`, or leave it out "
                    "for api.openai.com"
                ),
            )
            for key in ("endpoint", "api_version")
        },
        "credential": (
            "`credential` belongs to the provider `azure`",
            "for `openai`, write `api_key`",
        ),
        "batch_input": (
            "`batch_input` belongs to the provider `azure`, whose batches may read blobs",
            "take it out of the profile: for `openai`, requests are uploaded",
        ),
    },
)


class OpenAIConfig(RemoteConfig):
    """The keys of the provider `openai`, beside those of all.

    Attributes:
        base_url: Another service's address, up to `/v1`.
    """

    facts = OPENAI

    provider: Literal["openai"] = "openai"
    base_url: str | None = None

    @property
    def url(self) -> str:
        """The service's address, up to `/v1`."""
        parts = checked_url("base_url", self.base_url or _URL)
        path = parts.path.rstrip("/")
        if parts.hostname == "api.openai.com" and not path:
            path = "/v1"
        return f"{parts.scheme}://{parts.netloc}{path}"

    def check_service(self) -> None:
        """Refuse what cannot work: address, key."""
        _ = self.url
        self._check_key(
            "The provider `openai` needs `api_key`, and it is missing or empty",
            fix=f"write {self.place.variable('OPENAI_API_KEY')} in {self.place.name} and set "
            "OPENAI_API_KEY",
        )

"""What a batch service has to be told: where it is, the key, the limits. Checked when built."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import SplitResult, urlsplit

from dbt_enrich.config.credential import CredentialSettings
from dbt_enrich.config.file_limits import ServiceLimits
from dbt_enrich.config.secret import Secret as Secret
from dbt_enrich.errors import ConfigurationError, translated_errors
from dbt_enrich.extras import AZURE, Extra

if TYPE_CHECKING:
    from batch_server.responders import ResponderSpec

OPENAI_URL: Final = "https://api.openai.com/v1"

# Requests and bytes that one input file may hold. Azure's guide says 200 MB, OpenAI's 200 MB;
# both leave open which megabyte is meant, so the smaller one is taken, less two per cent.
_MAX_BYTES: Final = 196_000_000
_LIMITS: Final[Mapping[str, ServiceLimits]] = {
    "azure": ServiceLimits(max_requests=100_000, max_bytes=_MAX_BYTES),
    "openai": ServiceLimits(max_requests=50_000, max_bytes=_MAX_BYTES),
    "local": ServiceLimits(max_requests=100_000, max_bytes=_MAX_BYTES),
}
_LINE_URLS: Final[Mapping[str, str]] = {
    "azure": "/chat/completions",
    "openai": "/v1/chat/completions",
    "local": "/chat/completions",
}
_EXPIRY_DAYS: Final[Mapping[str, range]] = {
    "azure": range(14, 31),
    "openai": range(1, 31),
    "local": range(14, 31),
}
_DATED_VERSION: Final = re.compile(r"(\d{4}-\d{2}-\d{2})(-preview)?")
_FIRST_WITH_BATCH: Final = "2024-07-01"
_FIRST_WITH_EXPIRY: Final = "2025-03-01"
_MAX_RETRIES: Final = 20
_VISIBLE_ASCII: Final = re.compile(r"[\x21-\x7e]+")


class Provider(StrEnum):
    """Who runs the batches."""

    AZURE = "azure"
    OPENAI = "openai"
    LOCAL = "local"


@dataclass(frozen=True)
class ServiceSettings:
    """Where the batch service is and how it is used. Refuses what cannot work when it is built.

    Attributes:
        provider: `azure`, `openai` or `local`.
        endpoint: Azure: the resource's address, such as `https://NAME.openai.azure.com`. A
            trailing `/openai` or `/openai/v1`, as the portal shows it, is taken off.
        base_url: OpenAI and compatible services: the address up to `/v1`.
        api_key: Azure and OpenAI: the key. Never shown.
        api_version: Azure: a dated version such as `2024-10-21` uses the classic paths; None,
            `v1` or `preview` the v1 paths.
        completion_window: How long the service may take. Only `24h` exists.
        file_expiry_days: Days after which the service deletes an uploaded file; None: never.
            Azure takes 14 to 30, OpenAI 1 to 30. Azure's dated versions before
            `2025-03-01-preview` know no expiry and are not sent any.
        max_requests_per_file: Lines of an input file, at most the service's limit.
        max_bytes_per_file: Bytes of an input file, at most the service's limit.
        line_url: The `url` of each line of an input file.
        batch_endpoint: The `endpoint` of a batch; the service demands that it fits `line_url`.
        timeout: Seconds that a connection may stay silent before a call is given up.
        max_retries: How often a call that only reads, uploads or deletes is repeated.
        emulator_directory: Local: where the emulator keeps its files.
        responder: Local: who answers.
        credential: Azure: who signs in to Microsoft Entra ID, in place of `api_key`.

    Raises:
        ConfigurationError: A value is missing or cannot work; the text names the key.
    """

    provider: Provider
    endpoint: str | None = None
    base_url: str | None = None
    api_key: Secret | None = None
    api_version: str | None = None
    completion_window: str = "24h"
    file_expiry_days: int | None = 30
    max_requests_per_file: int | None = None
    max_bytes_per_file: int | None = None
    line_url: str | None = None
    batch_endpoint: str | None = None
    timeout: float = 300.0
    max_retries: int = 4
    emulator_directory: Path | None = None
    responder: ResponderSpec | None = None
    credential: CredentialSettings | None = None

    def __post_init__(self) -> None:
        if self.provider not in tuple(Provider):
            raise ConfigurationError(
                f"The `provider` {self.provider!r} is not known",
                fix=f"write one of {', '.join(Provider)} in the profile",
            )
        self._set("provider", Provider(self.provider))
        self._normalise()
        if self.provider is Provider.LOCAL:
            self._check_local()
        else:
            self._check_remote()
        self._check_common()

    @property
    def extra(self) -> Extra | None:
        """The extra of this package that the provider needs, if any."""
        if self.responder is not None:
            return self.responder.extra
        return AZURE if self.credential is not None else None

    @translated_errors()
    def check_installed(self) -> None:
        """Refuse a provider whose extra is not installed, before anything is done for it.

        Raises:
            ConfigurationError: It is not installed; the fix is the command that installs it.
        """
        for part in (self.responder, self.credential):
            if part is not None:
                part.check_installed()

    @property
    def url(self) -> str:
        """The service's address without a trailing slash: Azure's resource, or OpenAI's `/v1`.

        Raises:
            ConfigurationError: The provider is `local`, whose address is known once it runs.
        """
        if self.provider is Provider.AZURE and self.endpoint:
            return self.endpoint
        if self.provider is Provider.OPENAI:
            return self.base_url or OPENAI_URL
        raise ConfigurationError("The provider `local` has no address before it has been started")

    @property
    def host(self) -> str:
        """The service's host, with the port where it is not the scheme's own."""
        parts = urlsplit(self.url)
        host = parts.hostname or ""
        usual = 443 if parts.scheme == "https" else 80
        return host if parts.port in (None, usual) else f"{host}:{parts.port}"

    @property
    def service_id(self) -> str:
        """Which service an id belongs to: `azure:HOST`, `openai:HOST` or `local`."""
        return "local" if self.provider is Provider.LOCAL else f"{self.provider}:{self.host}"

    @property
    def is_classic(self) -> bool:
        """Whether Azure is called on its dated paths, with `?api-version=`."""
        return self.api_version is not None and _dated(self.api_version) is not None

    @property
    def sends_expiry(self) -> bool:
        """Whether uploads carry `expires_after`."""
        if self.file_expiry_days is None:
            return False
        date = _dated(self.api_version) if self.api_version else None
        return date is None or date >= _FIRST_WITH_EXPIRY

    @property
    def limits(self) -> ServiceLimits:
        """What one input file may hold."""
        usual = _LIMITS[self.provider]
        return ServiceLimits(
            max_requests=self.max_requests_per_file or usual.max_requests,
            max_bytes=self.max_bytes_per_file or usual.max_bytes,
        )

    @property
    def request_url(self) -> str:
        """The `url` of each line of an input file."""
        return self.line_url or _LINE_URLS[self.provider]

    @property
    def request_endpoint(self) -> str:
        """The `endpoint` of a batch: as configured, else the lines' `url`."""
        return self.batch_endpoint or self.request_url

    def _set(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)

    def _normalise(self) -> None:
        """Take an empty text, which an unset environment variable leaves, for no value."""
        for name in ("endpoint", "base_url", "api_version", "line_url", "batch_endpoint"):
            value = getattr(self, name)
            # YAML reads an unquoted 2024-10-21 as a date.
            text = None if value is None else str(value).strip()
            self._set(name, text or None)
        if self.api_key is not None and not self.api_key.reveal().strip():
            self._set("api_key", None)

    def _check_local(self) -> None:
        for name in ("endpoint", "base_url", "api_version", "api_key", "credential"):
            if getattr(self, name) is not None:
                raise ConfigurationError(
                    f"`{name}` does not belong to the provider `local`, which runs on this machine",
                    fix="take it out of the profile, or change `provider`",
                )
        if self.emulator_directory is None or self.responder is None:
            raise ConfigurationError(
                "The provider `local` needs a directory for its files and someone who answers",
                fix="set `responder` in the profile",
            )

    def _check_remote(self) -> None:
        if self.provider is Provider.AZURE:
            self._check_azure()
        else:
            self._check_openai()
        if self.credential is not None:
            self._check_credential()
            return
        if self.api_key is None:
            raise self._without_key()
        key = self.api_key.reveal().strip()
        if not _VISIBLE_ASCII.fullmatch(key):
            raise ConfigurationError(
                "`api_key` holds a space, a line break or a character that no key has",
                fix="copy the key again, alone and on one line",
            )
        self._set("api_key", Secret(key))

    def _check_credential(self) -> None:
        if self.provider is not Provider.AZURE:
            raise ConfigurationError(
                "`credential` belongs to the provider `azure`",
                fix=f"for `{self.provider}`, write `api_key` in the profile",
            )
        if self.api_key is not None:
            raise ConfigurationError(
                "`api_key` and `credential` are two ways to sign in, and both are given",
                fix="take one of them out of the profile",
            )

    def _without_key(self) -> ConfigurationError:
        if self.provider is Provider.OPENAI:
            return ConfigurationError(
                "The provider `openai` needs `api_key`, and it is missing or empty",
                fix="write \"{{ env_var('OPENAI_API_KEY') }}\" in the profile and set "
                "OPENAI_API_KEY",
            )
        return ConfigurationError(
            "The provider `azure` needs `api_key` or `credential`, and both are missing or empty",
            fix="write `api_key: \"{{ env_var('AZURE_OPENAI_API_KEY') }}\"` in the profile and set "
            "AZURE_OPENAI_API_KEY, or write `credential: default` to sign in with Microsoft Entra "
            "ID",
        )

    def _check_azure(self) -> None:
        if self.base_url is not None:
            raise ConfigurationError(
                "`base_url` belongs to the provider `openai`",
                fix="for `azure`, write the resource's address as `endpoint`",
            )
        if self.endpoint is None:
            raise ConfigurationError(
                "The provider `azure` needs `endpoint`, and it is missing or empty",
                fix="write the resource's address, such as https://NAME.openai.azure.com, in the "
                "profile",
            )
        parts = _checked_url("endpoint", self.endpoint)
        path = parts.path.rstrip("/")
        if "/deployments/" in path or path.endswith("/chat/completions"):
            raise ConfigurationError(
                "`endpoint` is the address of one deployment, but batches belong to the whole "
                "resource",
                fix=f"write {parts.scheme}://{parts.netloc} in the profile",
            )
        for suffix in ("/openai/v1", "/openai"):
            path = path.removesuffix(suffix)
        self._set("endpoint", f"{parts.scheme}://{parts.netloc}{path}")
        if parts.scheme == "http" and not is_loopback(parts.hostname):
            raise ConfigurationError(
                "`endpoint` begins with http://, which would send the key in the clear",
                fix="write https:// in the profile",
            )
        self._check_api_version()

    def _check_api_version(self) -> None:
        if self.api_version in (None, "v1", "preview"):
            return
        date = _dated(self.api_version or "")
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

    def _check_openai(self) -> None:
        for name in ("endpoint", "api_version"):
            if getattr(self, name) is not None:
                raise ConfigurationError(
                    f"`{name}` belongs to the provider `azure`",
                    fix="for `openai`, write the service's address as `base_url`, or leave it out "
                    "for api.openai.com",
                )
        parts = _checked_url("base_url", self.base_url or OPENAI_URL)
        path = parts.path.rstrip("/")
        if parts.hostname == "api.openai.com" and not path:
            path = "/v1"
        self._set("base_url", f"{parts.scheme}://{parts.netloc}{path}")

    def _check_common(self) -> None:
        if self.completion_window != "24h":
            raise ConfigurationError(
                f"The `completion_window` {self.completion_window!r} is not offered by any service",
                fix="write 24h, or leave it out",
            )
        if not 0 < self.timeout < float("inf"):
            raise ConfigurationError(
                f"`timeout` is {self.timeout}, and must be a number of seconds above 0",
                fix="write such a number, or leave it out",
            )
        if not 0 <= self.max_retries <= _MAX_RETRIES:
            raise ConfigurationError(
                f"`max_retries` is {self.max_retries}, and must be from 0 to {_MAX_RETRIES}",
                fix="write a number in that range, or leave it out",
            )
        days = _EXPIRY_DAYS[self.provider]
        if self.file_expiry_days is not None and self.file_expiry_days not in days:
            raise ConfigurationError(
                f"The provider `{self.provider}` keeps files for {days[0]} to {days[-1]} days, so "
                f"`file_expiry_days` cannot be {self.file_expiry_days}",
                fix="write a number in that range, or null to keep files until they are deleted",
            )
        usual = _LIMITS[self.provider]
        _check_limit("max_requests_per_file", self.max_requests_per_file, usual.max_requests)
        _check_limit("max_bytes_per_file", self.max_bytes_per_file, usual.max_bytes)
        for name in ("line_url", "batch_endpoint"):
            path = getattr(self, name)
            if path is not None and not path.startswith("/"):
                raise ConfigurationError(
                    f"`{name}` must be a path that begins with a slash, but it is {path!r}",
                    fix="write it like /v1/chat/completions, or leave it out",
                )


def is_loopback(host: str | None) -> bool:
    """Whether `host` is this machine, by name or by address."""
    return host in ("localhost", "::1") or bool(re.fullmatch(r"127(\.\d{1,3}){3}", host or ""))


def _dated(version: str) -> str | None:
    """The date of a dated API version, or None if it is not one."""
    match = _DATED_VERSION.fullmatch(version)
    return match[1] if match else None


def _check_limit(name: str, value: int | None, most: int) -> None:
    if value is not None and not 0 < value <= most:
        raise ConfigurationError(
            f"`{name}` is {value}, but the service takes 1 to {most}",
            fix="write a number in that range, or leave it out",
        )


def _checked_url(name: str, url: str) -> SplitResult:
    """Split `url`, refusing what is no plain HTTP address. Never quotes it: it may hold a key."""
    try:
        parts = urlsplit(url)
        port_is_good = parts.port is None or parts.port > 0
    except ValueError:
        port_is_good = False
    plain = port_is_good and _VISIBLE_ASCII.fullmatch(url) is not None
    if not plain or parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigurationError(
            f"`{name}` is not an address",
            fix="write it with https:// and the host's name, such as https://NAME.openai.azure.com",
        )
    if parts.username is not None or parts.password is not None:
        raise ConfigurationError(
            f"`{name}` holds a user or a password before the @",
            fix="write the address alone, and the key as `api_key`",
        )
    if parts.query or parts.fragment:
        raise ConfigurationError(
            f"`{name}` holds more than an address",
            fix="leave out everything from the ? or # on; a version belongs in `api_version`",
        )
    return parts

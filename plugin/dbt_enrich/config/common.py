"""The keys of the profile's block that every provider takes, and what is made of them."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import Field, field_validator, model_validator

from dbt_enrich.config.bucket_address import BucketAddress
from dbt_enrich.config.file_limits import ServiceLimits
from dbt_enrich.config.keys import Keys
from dbt_enrich.config.place import PROFILE, Place, unset_variable
from dbt_enrich.config.providers import Provider
from dbt_enrich.config.state import StateKeys
from dbt_enrich.cost.caps import Caps
from dbt_enrich.cost.prices import DEFAULT_ZONE, FREE, Price, PriceTable, Zone, price_table
from dbt_enrich.cost.retirement import retirement_warning
from dbt_enrich.endpoints.choice import USUAL, endpoint_at
from dbt_enrich.errors import ConfigurationError, WrongValueError
from dbt_enrich.extras import Extra
from dbt_enrich.task.endpoint_names import EndpointName
from dbt_enrich.task.enrichment_task import EnrichmentTask

# Settings of DuckDB itself, which dbt-duckdb merges into every plugin's configuration, share no
# name with these keys except the ones that mean the same for the private DuckDB.
_SIZE = re.compile(r"\d+(\.\d+)? ?[KMGT]i?B", re.IGNORECASE)
# What the keys of paths name; a relative one counts from the dbt project's directory.
_PATHS = ("state_dir", "gguf", "script", "prices_file", "image_dir")
_NAMESPACE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
_MAX_RETRIES = 20


class PluginConfig(Keys, ABC):
    """The keys of `config:` under the plugin in profiles.yml that every provider takes.

    Attributes:
        provider: Which service answers. It is never guessed from a key.
        facts: What is known of the provider in advance.
        deployments: Logical model name to its deployment, or to several that work as one queue
            (default: the model's own name).
        state_dir: Directory of the ledger, the requests and the answers; one for all targets. A
            relative path counts from the project's directory.
        namespace: Mark of our own batches at the service (default: the dbt project's name).
        completion_window: What batches are asked for; no service offers another.
        file_expiry_days: Days after which the service deletes an uploaded file, 14 to 30 at Azure
            and 1 to 30 at OpenAI; `null` for never. Azure's dated API before `2025-03-01-preview`
            knows no expiry.
        max_requests_per_file: Requests in one input file, for a resource that allows fewer
            (default: the service's limit; Azure 100,000, OpenAI 50,000).
        max_bytes_per_file: Bytes of one input file, for a resource that allows fewer (default: the
            service's limit of 200 MB, less a margin).
        max_enqueued_tokens: Tokens that a deployment's batches may hold at once: a number for all
            of them, or one by deployment (default: what the service tells).
        line_url: The `url` of each request line, where a server of the same API wants another
            (default: the endpoint's path; for OpenAI, and for Responses on Azure, with `/v1`
            before it). For models with another `endpoint` its path takes the place of the one that
            is named here.
        batch_endpoint: The `endpoint` of a batch, which the service demands to fit its lines
            (default: as `line_url`).
        poll_interval: Seconds between two polls of a batch, at most (default: 60; `local` 2).
        transfers: How many files are uploaded and downloaded at once.
        adoption_grace: Seconds for which a batch is looked for whose creation got no reply or that
            is not found yet, and the files of one that has ended (default: 600; `local` 0).
        timeout: Seconds that a connection may stay silent before a call is given up.
        max_retries: How often a call that only reads, uploads or deletes is repeated, 0 to 20. A
            batch is never created twice.
        prices: By logical model, what a million tokens cost: `input` and `output`, and where they
            are known `cached_input`, `batch_input` and `batch_output`. Batch prices are half of the
            others unless they are given (default: those of the package).
        prices_file: A JSON file of prices in place of the ones that ship with the package. A
            relative path counts from the project's directory.
        currency: What the prices are in (default: USD).
        price_zone: Where deployments answer, by which Azure has its prices: one zone, or one by
            deployment. `us` and `eu` are the Data Zones.
        caps: What one `run` and one `day` (UTC) may take.
        memory_limit: Memory of the private DuckDB, as DuckDB spells it. One that is set is kept at
            any number of rows (default: a tenth of what the machine or the container has, at
            least 256 MB).
        threads: Threads of the private DuckDB, and of the packaged language model.
        partition_rows: How many rows without an answer may come to one machine. On Spark, more of
            them are worked on in its partitions, which needs a shared `state`. Elsewhere all rows
            come.
        keep_files: Whether request files and downloaded files stay after collection.
        image_dir: Directory that the paths of pictures count from and that none of them may leave
            (default: the dbt project's). A relative path counts from the project's directory.
        store_inputs: Whether the rows' text may outlive collection, here and at the service.
        state: Where several machines share their state (default: in `state_dir` alone).
        foreign: Keys of other providers that have a value here, as a shared block may.
        place: Where it is written.
        unset: Keys without a value, as their text names a variable that is not set: which.
    """

    facts: ClassVar[Provider]

    provider: str
    deployments: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    state_dir: Path = Path(".enrichment")
    namespace: str | None = None
    completion_window: str = "24h"
    file_expiry_days: int | None = 30
    max_requests_per_file: int | None = None
    max_bytes_per_file: int | None = None
    max_enqueued_tokens: int | dict[str, int] | None = None
    line_url: str | None = None
    batch_endpoint: str | None = None
    poll_interval: float | None = Field(default=None, gt=0)
    transfers: int = Field(default=4, ge=1, le=32)
    adoption_grace: float | None = Field(default=None, ge=0)
    timeout: float = 300.0
    max_retries: int = 4
    prices: dict[str, dict[str, Any]] = Field(default_factory=dict)
    prices_file: Path | None = None
    currency: str | None = None
    price_zone: Zone | dict[str, Zone] = "global"
    caps: Caps = Field(default_factory=Caps)
    memory_limit: str | None = None
    threads: int = Field(default=2, ge=1)
    partition_rows: int = Field(default=10_000_000, ge=1)
    keep_files: bool = False
    image_dir: Path = Path()
    store_inputs: bool = True
    state: StateKeys | None = None
    foreign: tuple[str, ...] = ()
    place: Place = PROFILE
    unset: Mapping[str, str] = Field(default_factory=dict)

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
                    f"the model '{model}' has no deployment", fix="name at least one"
                )
        return value

    @field_validator("max_enqueued_tokens")
    @classmethod
    def _some_tokens(cls, value: int | dict[str, int] | None) -> int | dict[str, int] | None:
        limits = value.values() if isinstance(value, dict) else [] if value is None else [value]
        if any(limit < 1 for limit in limits):
            raise WrongValueError(
                "must be a positive number of tokens", fix="leave it out for no limit"
            )
        return value

    @field_validator("memory_limit")
    @classmethod
    def _size(cls, value: str | None) -> str | None:
        if value is not None and not _SIZE.fullmatch(value):
            raise WrongValueError("must be a number with a unit", fix="write it like 160MB")
        return value

    @field_validator("namespace", mode="before")
    @classmethod
    def _plain_namespace(cls, value: object) -> object:
        # As it is written, before spaces around it are taken off.
        if isinstance(value, str) and value.strip() and not _NAMESPACE.fullmatch(value):
            raise WrongValueError(
                "must be 1 to 63 letters, digits, '.', '_' or '-', beginning with a letter or digit"
            )
        return value

    @model_validator(mode="after")
    def _one_word_on_files(self) -> Self:
        if self.keep_files and not self.store_inputs:
            raise WrongValueError(
                "keep_files: true keeps the request files that store_inputs: false removes",
                fix="leave one of the two out",
            )
        return self

    @property
    @abstractmethod
    def service_id(self) -> str:
        """Which service an id belongs to: `azure:HOST`, `openai:HOST` or `local`."""

    @property
    @abstractmethod
    def sent_to(self) -> str:
        """Where requests are sent, as attempts record it."""

    @abstractmethod
    def check_service(self) -> None:
        """Refuse the provider's own keys where they cannot work.

        Raises:
            ConfigurationError: A value is missing or wrong.
        """

    def check(self) -> None:
        """Refuse settings by which the service cannot be called.

        Raises:
            ConfigurationError: A value is missing or cannot work; the text names the key.
        """
        for key, (problem, fix) in self.facts.refused.items():
            if key in self.foreign:
                raise ConfigurationError(problem, fix=fix)
        self.check_set()
        self.check_service()
        self._check_calls()
        self._check_files()

    def check_set(self) -> None:
        """Refuse keys without a value, as the variable that they name is not set.

        Raises:
            ConfigurationError: There is one; the text names key, file and variable.
        """
        for key, variable in self.unset.items():
            raise unset_variable(self.place, key, variable)

    @property
    def extra(self) -> Extra | None:
        """The extra of this package that these settings need, if any."""
        return None

    def check_endpoint(self, endpoint: EndpointName) -> None:
        """Refuse an endpoint that the provider offers, but not with these settings.

        Raises:
            ConfigurationError: It cannot be asked; the text names the key.
        """

    def check_installed(self) -> None:
        """Refuse settings whose extra is not installed, before anything is done by them.

        Raises:
            ConfigurationError: It is not installed; the fix is the command that installs it.
        """

    def check_images(self) -> None:
        """Refuse pictures where what answers reads none.

        Raises:
            ConfigurationError: It reads text alone.
        """

    def answered_by(self, model: str, endpoint: EndpointName = EndpointName.CHAT) -> str:  # noqa: ARG002
        """Return who answers a logical model, as part of a row's identity.

        It is the model itself, so that moving a deployment asks nothing again, where no other
        model can answer in its name.

        Args:
            model: The logical model name.
            endpoint: The endpoint that is asked.
        """
        return model

    @property
    def vector_size(self) -> int | None:
        """How many numbers the vectors have, where one model makes them all, or None."""
        return None

    @property
    def poll_seconds(self) -> float:
        """Seconds between two looks at a waiting batch, at most."""
        return self.facts.poll_seconds if self.poll_interval is None else self.poll_interval

    @property
    def grace_seconds(self) -> float:
        """Seconds during which what was created, or has ended, may not be shown yet."""
        return self.facts.grace_seconds if self.adoption_grace is None else self.adoption_grace

    @property
    def most(self) -> ServiceLimits:
        """What the service takes in one input file."""
        return self.facts.limits

    @property
    def limits(self) -> ServiceLimits:
        """What one input file may hold."""
        usual = self.most
        return ServiceLimits(
            max_requests=self.max_requests_per_file or usual.max_requests,
            max_bytes=self.max_bytes_per_file or usual.max_bytes,
        )

    def url_of(self, path: str) -> str:
        """Return the `url` of the lines that ask the endpoint at `path`.

        One that is configured, and is another endpoint's, says what stands before the path.
        """
        if self.line_url:
            return _with_path(self.line_url, path)
        return self.facts.line_prefix_of(path) + path

    def batch_endpoint_of(self, path: str) -> str:
        """Return the `endpoint` of their batch: as configured, else the lines' `url`."""
        if self.batch_endpoint:
            return _with_path(self.batch_endpoint, path)
        return self.url_of(path)

    @property
    def dated_version(self) -> str | None:
        """The dated version of the API that is called, or None where there are none."""
        return None

    @property
    def sends_expiry(self) -> bool:
        """Whether uploads carry `expires_after`."""
        return self.file_expiry_days is not None

    @property
    def container(self) -> BucketAddress | None:
        """Where batches may read their requests from blobs, and write their answers to; or None."""
        return None

    @property
    def sends_blobs(self) -> bool:
        """Whether requests are put there, in place of being uploaded."""
        return False

    @property
    def clears_container(self) -> bool:
        """Whether blobs of batches go from there once their answers are safe."""
        return self.container is not None and not self.keep_files

    @property
    def work_dir(self) -> Path:
        """The directory of this machine's own files of the state."""
        return self.state_dir / self.state.directory if self.state else self.state_dir

    def within(self, root: Path) -> Self:
        """Return the configuration with its relative paths below a directory.

        Args:
            root: The dbt project's directory, absolute; so a path names the same file wherever dbt
                or a command is started.
        """
        given = {name: getattr(self, name, None) for name in _PATHS}
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

    @cached_property
    def price_table(self) -> PriceTable:
        """The prices that apply, read once.

        Raises:
            ConfigurationError: One of them is wrong.
        """
        return price_table(
            self.provider,
            self.prices,
            prices_file=self.prices_file.expanduser() if self.prices_file else None,
            currency=self.currency,
        )

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Return a copy with other values, whose price table is read anew."""
        copy = super().model_copy(update=update, deep=deep)
        copy.__dict__.pop("price_table", None)
        return copy

    def zone_of(self, deployment: str) -> str:
        """Return where a deployment answers, by which Azure has its prices."""
        if isinstance(self.price_zone, dict):
            return self.price_zone.get(deployment, DEFAULT_ZONE)
        return self.price_zone

    def price(self, model: str, deployment: str | None = None) -> Price | None:
        """Return the price of a logical model, or None if it is unknown.

        Args:
            model: The logical model name.
            deployment: The deployment that answers; the preferred one by default.
        """
        if self.facts.is_free:
            return FREE
        zone = self.zone_of(deployment or self.deployment(model))
        return self.price_table.find(model, zone)

    def price_problem(self, model: str) -> str:
        """Say that a logical model has no price in its deployment's zone, and what to do."""
        return self.price_table.unknown(model, self.zone_of(self.deployment(model)))

    def task_price(self, task: EnrichmentTask) -> Price | None:
        """Return the price of a task's requests, by the service tier that they ask for."""
        price = self.price(task.model)
        return price.of_tier(task.parameters.get("service_tier")) if price else None

    def retirement(self, model: str) -> str | None:
        """Say that the provider ends a model within 90 days, or return None."""
        if self.facts.is_free:
            return None
        return retirement_warning(self.price_table, model, self.facts.label)

    def _check_calls(self) -> None:
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
        for name in ("line_url", "batch_endpoint"):
            path = getattr(self, name)
            if path is not None and not path.startswith("/"):
                raise ConfigurationError(
                    f"`{name}` must be a path that begins with a slash, but it is {path!r}",
                    fix=f"write it like /v1{USUAL.path}, or leave it out",
                )

    def _check_files(self) -> None:
        days = self.facts.expiry_days
        if self.file_expiry_days is not None and self.file_expiry_days not in days:
            raise ConfigurationError(
                f"The provider `{self.provider}` keeps files for {days[0]} to {days[-1]} days, so "
                f"`file_expiry_days` cannot be {self.file_expiry_days}",
                fix="write a number in that range, or null to keep files until they are deleted",
            )
        limits = self.most
        given = {
            "max_requests_per_file": (self.max_requests_per_file, limits.max_requests),
            "max_bytes_per_file": (self.max_bytes_per_file, limits.max_bytes),
        }
        for name, (value, most) in given.items():
            if value is not None and not 0 < value <= most:
                raise ConfigurationError(
                    f"`{name}` is {value}, but the service takes 1 to {most}",
                    fix="write a number in that range, or leave it out",
                )


def _with_path(given: str, path: str) -> str:
    """Return a configured path for the endpoint at `path`; one of no known endpoint as it is."""
    named, wanted = endpoint_at(given), endpoint_at(path)
    if named is None or wanted is None:
        return given
    return given.removesuffix(named.path) + wanted.path

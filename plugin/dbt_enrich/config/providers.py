"""What is known of a provider in advance: one value a provider, in the module of its keys.

Nothing else asks for a provider's name: it asks for an attribute of the value.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from dbt_enrich.config.file_limits import ImageLimits, ServiceLimits
from dbt_enrich.endpoints.choice import endpoint_at
from dbt_enrich.extras import Extra
from dbt_enrich.task.endpoint_names import EndpointName


@dataclass(frozen=True)
class Provider:
    """One provider: where it is called, what it allows, what it costs.

    Attributes:
        name: Its name in the profile.
        label: Its name in a sentence.
        service: `module:class` of its `BatchService`.
        limits: What one input file may hold.
        images: What it takes of pictures.
        expiry_days: The days that `file_expiry_days` may name.
        poll_seconds: Seconds between two looks at a waiting batch, at most.
        grace_seconds: Seconds during which what was created, or has ended, may not be shown yet.
        is_free: Whether its answers cost nothing.
        runs_here: Whether it runs on this machine, in the state directory, without an address.
        answers_single_requests: Whether what takes batches answers single requests too.
        has_deployments: Whether a model is called by the name of a deployment of the user's own.
        max_files: How many input files it keeps, or 0 where that is not known.
        max_lasting_files: How many of them may have no expiry.
        address_key: The profile's key for its address.
        address_fix: What to do where there is no Batch API under the address.
        line_prefix: What stands before an endpoint's path in the `url` of a request line, and in
            the `endpoint` of a batch.
        line_prefixes: The same by endpoint, where it is another one.
        endpoints: The endpoints that its batches may ask.
        api_path: What stands between the address and the paths of the API.
        key_header: The header that carries the key.
        key_prefix: What stands before the key there.
        request_id_header: The header that carries a request's id, for the service's support.
        extra: The extra of this package that it needs, if any.
        extra_purpose: What needs the extra, where it is not needed in every case.
        block: The plugin's block in profiles.yml, as `init` writes it.
        refused: By key, problem and fix: what is refused in its profile.
    """

    name: str
    label: str
    service: str
    limits: ServiceLimits
    expiry_days: range
    poll_seconds: float
    grace_seconds: float
    block: str
    images: ImageLimits = field(default_factory=ImageLimits)
    is_free: bool = False
    runs_here: bool = False
    answers_single_requests: bool = True
    has_deployments: bool = False
    max_files: int = 0
    max_lasting_files: int = 0
    address_key: str = ""
    address_fix: str = ""
    line_prefix: str = ""
    line_prefixes: Mapping[EndpointName, str] = field(default_factory=dict)
    endpoints: frozenset[EndpointName] = frozenset(EndpointName)
    api_path: str = "/"
    key_header: str = "Authorization"
    key_prefix: str = "Bearer "
    request_id_header: str = ""
    extra: Extra | None = None
    extra_purpose: str = ""
    refused: Mapping[str, tuple[str, str]] = field(default_factory=dict)

    def line_prefix_of(self, path: str) -> str:
        """Return what stands before an endpoint's path in the `url` of a request line."""
        endpoint = endpoint_at(path)
        if endpoint is None:
            return self.line_prefix
        return self.line_prefixes.get(EndpointName(endpoint.name), self.line_prefix)

"""The endpoints that answer in words, which the same tests are run for."""

from __future__ import annotations

from typing import Final

from dbt_enrich.task.endpoint_names import EndpointName

TEXT_ENDPOINTS: Final = (str(EndpointName.CHAT), str(EndpointName.RESPONSES))

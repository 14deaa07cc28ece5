"""Settings that all tests share."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# The machine's speed is not what a property test judges.
settings.register_profile(
    "dbt-enrich", deadline=None, max_examples=100, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("dbt-enrich")

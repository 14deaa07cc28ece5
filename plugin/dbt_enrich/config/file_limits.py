"""TODO-DOC plugin/dbt_enrich/config/file_limits.py."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ServiceLimits:
    """What one input file may hold."""

    max_requests: int
    max_bytes: int

"""What one batch input file may hold, at the service that takes it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ServiceLimits:
    """What one input file may hold."""

    max_requests: int
    max_bytes: int

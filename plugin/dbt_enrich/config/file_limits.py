"""What one batch input file may hold, at the service that takes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

# Azure's guide and OpenAI's say 200 MB. Both leave open which megabyte is meant, so the smaller one
# is taken, less two per cent.
MAX_FILE_BYTES: Final = 196_000_000


@dataclass(frozen=True)
class ServiceLimits:
    """What one input file may hold."""

    max_requests: int
    max_bytes: int

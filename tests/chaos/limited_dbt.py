"""dbt whose engine may write files of at most LARGEST_FILE bytes, as on a full disk."""

from __future__ import annotations

import os
import resource
import signal
from typing import Any

from dbt.cli.main import cli
from dbt_enrich.pipeline.enrichment import Engine

# Without this the process is killed instead of told.
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
_LIMIT = int(os.environ["LARGEST_FILE"])
_enrich = Engine.enrich


def enrich(*arguments: Any, **named: Any) -> Any:
    """Work under the limit, and let dbt write its own files afterwards."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (_LIMIT, resource.RLIM_INFINITY))
    try:
        return _enrich(*arguments, **named)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)


Engine.enrich = enrich  # type: ignore[method-assign]
cli()

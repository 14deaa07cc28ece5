"""dbt-enrich: enrich the rows of a table with a language model, at batch price.

dbt imports every top-level module named `dbt_*` when it starts, so nothing heavy is imported
here: the public names load on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

__version__ = "0.1.0"
__all__ = [
    "EnrichmentError",
    "EnrichmentOptions",
    "EnrichmentTask",
    "OutputColumn",
    "__version__",
    "enrich",
]

if TYPE_CHECKING:
    from dbt_enrich.errors import EnrichmentError
    from dbt_enrich.python_models import enrich
    from dbt_enrich.task.enrichment_task import EnrichmentTask
    from dbt_enrich.task.options import EnrichmentOptions
    from dbt_enrich.task.schema import OutputColumn

_LAZY = {
    "EnrichmentError": "dbt_enrich.errors",
    "EnrichmentOptions": "dbt_enrich.task.options",
    "EnrichmentTask": "dbt_enrich.task.enrichment_task",
    "OutputColumn": "dbt_enrich.task.schema",
    "enrich": "dbt_enrich.python_models",
}


def __getattr__(name: str) -> object:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_LAZY[name]), name)

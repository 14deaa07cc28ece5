"""The hosts that there are, as far as they are known without any package of theirs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from dbt_enrich.errors import ConfigurationError
from dbt_enrich.extras import POSTGRES, SPARK, Extra


@dataclass(frozen=True)
class HostFacts:
    """What is known of a host in advance.

    Attributes:
        label: What its makers call it.
        adapters: The types of dbt's targets that lead there.
        extra: The extra of this package that it needs, if any.
    """

    label: str
    adapters: tuple[str, ...]
    extra: Extra | None = None


HOSTS: Final = (
    HostFacts("DuckDB", ("duckdb",)),
    HostFacts("Postgres", ("postgres",), POSTGRES),
    HostFacts("Spark", ("spark", "sail"), SPARK),
)
ADAPTERS: Final = tuple(adapter for host in HOSTS for adapter in host.adapters)
"""The types of targets that dbt-enrich works on."""
_OTHER_WAYS: Final = {
    "databricks": "use `enrich` of dbt_enrich.spark in a notebook or a job there, with its session "
    "`spark`, or name another target by --target",
}


def host_facts(adapter: str) -> HostFacts | None:
    """Return the host that a target's type leads to, or None for one that there is not."""
    return next((host for host in HOSTS if adapter in host.adapters), None)


def refused_adapter(adapter: str, target: str) -> ConfigurationError:
    """Return the error for a target that dbt-enrich does not work on; it says what does work.

    Args:
        adapter: The type of the target.
        target: Its name.
    """
    return ConfigurationError(
        f"the target '{target}' is of the type {adapter}; dbt-enrich works on targets of the "
        f"types {', '.join(ADAPTERS)}",
        fix=_OTHER_WAYS.get(adapter, "name another target by --target"),
    )

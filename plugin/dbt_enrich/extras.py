"""The optional extras of dbt-enrich, and the one place that looks whether they are installed."""

from __future__ import annotations

from typing import Final

from batch_server.extras import EMBEDDINGS, EMULATOR, LOCAL, REMOTE, Extra

from dbt_enrich.errors import translated_errors

__all__ = [
    "AZURE",
    "EMBEDDINGS",
    "EMULATOR",
    "EXTRAS",
    "IMAGES",
    "LOCAL",
    "POSTGRES",
    "REMOTE",
    "REPORT",
    "SPARK",
    "Extra",
    "require",
]

AZURE: Final = Extra("azure", ("azure.identity",))
IMAGES: Final = Extra("images", ("PIL",))
POSTGRES: Final = Extra("postgres", ("adbc_driver_manager", "adbc_driver_postgresql", "pyarrow"))
REPORT: Final = Extra("report", ("altair", "jinja2", "vl_convert"))
SPARK: Final = Extra("spark", ("pyarrow", "pyspark"))
EXTRAS: Final = (AZURE, EMBEDDINGS, EMULATOR, IMAGES, LOCAL, POSTGRES, REMOTE, REPORT, SPARK)


@translated_errors()
def require(extra: Extra, purpose: str, *, otherwise: str = "") -> None:
    """Refuse to go on without what an extra brings.

    Args:
        extra: The extra.
        purpose: What needs it, as the beginning of a sentence: "the HTML report".
        otherwise: What can be done in place of installing it.

    Raises:
        ConfigurationError: Some of it is not installed; the fix is the command that installs it.
    """
    extra.require(purpose, otherwise=otherwise)

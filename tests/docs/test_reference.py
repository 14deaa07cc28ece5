"""The reference is what the code says, and nothing of the code is missing in it."""

from __future__ import annotations

import re
from dataclasses import fields

import pytest
from batch_server.responders import UpstreamOptions
from dbt_enrich.config.profile import CONFIGS, INTERNAL
from dbt_enrich.config.state import StateKeys
from dbt_enrich.cost.caps import Cap
from dbt_enrich.task.enrichment_task import EnrichmentTask
from dbt_enrich.task.failures import FailureKind
from dbt_enrich.task.options import EnrichmentOptions
from dbt_enrich.task.result_columns import STATUSES
from dbt_enrich.task.schema import OutputColumn
from docs.reference.commands import leaf_commands
from docs.reference.pages import PAGES, path_of


def headings(page: str) -> list[str]:
    """The names that are headings of a page of the reference."""
    text = path_of(page).read_text(encoding="utf-8")
    return re.findall(r"^##+ `(.*)`$", text, re.MULTILINE)


@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_what_the_code_says(page: str) -> None:
    """As `make reference` writes it."""
    assert path_of(page).read_text(encoding="utf-8") == PAGES[page](), "run make reference"


def test_every_key_of_the_profile_has_its_place() -> None:
    """Those of each provider, of caps and of a model server."""
    keys = {key for config in CONFIGS.values() for key in config.model_fields} - INTERNAL
    keys |= {*Cap.model_fields, *StateKeys.model_fields}
    keys |= {field.name for field in fields(UpstreamOptions)}
    assert keys <= {*headings("profile")}


def test_every_key_of_a_model_has_its_place() -> None:
    """Of its task, of its runs and of its output columns."""
    keys = {*EnrichmentTask.model_fields, *EnrichmentOptions.model_fields}
    keys |= {field.name for field in fields(OutputColumn)}
    found = {*headings("model-settings")}
    assert keys - found == {"outputs", "name", "data_type", "description"}
    assert "output" in found


def test_every_command_kind_and_status_has_its_place() -> None:
    """As a heading that can be linked."""
    assert {f"dbt-enrich {name}" for name in leaf_commands()} <= {*headings("commands")}
    assert {*FailureKind} == {*headings("failures")}
    assert {*STATUSES} == {*headings("statuses")}

"""A provider that nothing knows of but its value and its service goes all the way."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest
from batch_server.server import RunningEmulator
from dbt_enrich.cli.scaffold import provider_needs
from dbt_enrich.config import parse_config
from dbt_enrich.config.openai import OPENAI, OpenAIConfig
from dbt_enrich.config.profile import CONFIGS
from dbt_enrich.errors import ConfigurationError
from dbt_enrich.services.openai import OpenAIBatchService
from support.warehouse import Warehouse

HOUSE = replace(
    OPENAI,
    name="house",
    label="House",
    service=f"{__name__}:HouseService",
    poll_seconds=0.05,
    grace_seconds=0.0,
    is_free=True,
    answers_single_requests=False,
)


class HouseConfig(OpenAIConfig):
    """The keys of the provider `house`."""

    facts = HOUSE

    provider: Literal["house"] = "house"  # type: ignore[assignment]


class HouseService(OpenAIBatchService):
    """The service of the provider `house`."""

    checked: ClassVar[list[str]] = []

    def check(self, deployment: str) -> None:
        """Look at a deployment, and remember it."""
        self.checked.append(deployment)
        super().check(deployment)


@pytest.fixture
def keys(
    emulator: RunningEmulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, Any]:
    """A profile's block of the provider."""
    monkeypatch.setitem(CONFIGS, HOUSE.name, HouseConfig)
    return {
        "provider": "house",
        "base_url": f"{emulator.url}/v1",
        "api_key": emulator.api_key,
        "state_dir": str(tmp_path / "state"),
    }


def test_rows_are_enriched_by_a_fourth_provider(keys: dict[str, Any]) -> None:
    """Sent, awaited and published, for nothing, under its own name."""
    warehouse = Warehouse(parse_config(keys, duckdb_settings={}))
    outcome = warehouse.enrich("select 1 as id, 'a' as note")
    assert HouseService.checked == ["gpt-4o-mini"]
    assert warehouse.statuses() == {"done": 1}
    assert outcome.figures.cost == 0
    with pytest.raises(
        ConfigurationError, match="a batch deployment of House answers no single requests"
    ):
        warehouse.enrich("select 2 as id, 'b' as note", sync_below=5)


def test_init_knows_a_fourth_provider(keys: dict[str, Any]) -> None:
    """Its extra is that of its value."""
    assert provider_needs(keys["provider"]) == "the provider house needs no extra"

"""Prices: the packaged table, a user's own, and what is said of a model without one."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from dbt_enrich.cost.estimate import estimate
from dbt_enrich.cost.prices import ZONES, price_table
from dbt_enrich.cost.retirement import retirement_warning
from dbt_enrich.errors import ConfigurationError


def test_the_packaged_table_is_dated_and_half_price() -> None:
    """Every batch price is half of the synchronous one, as its source says."""
    table = price_table("azure")
    assert table.as_of
    assert table.source
    assert table.currency == "USD"
    sold = {name: price for name, price in table.models.items() if price.batch_input is not None}
    assert "gpt-4o-mini" in sold
    for name, price in sold.items():
        assert price.batch_output is not None
        assert price.batch_input == pytest.approx(price.input / 2), name
        assert price.batch_output == pytest.approx(price.output / 2), name
        assert price.cached_input <= price.input, name


def test_a_million_tokens_cost_their_price() -> None:
    """At batch price, and one by one with what the prompt cache held."""
    price = price_table("azure").models["gpt-4o-mini"]
    assert price.batch_cost(1_000_000, 1_000_000) == pytest.approx(0.375)
    assert price.synchronous_cost(1_000_000, 1_000_000) == pytest.approx(0.75)
    assert price.synchronous_cost(1_000_000, 0, 1_000_000) == pytest.approx(0.075)


def test_a_profile_s_prices_stand_in_place_of_the_packaged_ones() -> None:
    """Batch prices are half of the others unless they are told."""
    table = price_table(
        "azure",
        {"gpt-4o-mini": {"input": 1, "output": 2}, "own": {"input": 4, "output": 8,
         "batch_input": 3, "batch_output": 5}},
        currency="EUR",
    )  # fmt: skip
    assert table.models["gpt-4o-mini"].batch_input == 0.5
    assert table.models["own"].batch_output == 5
    assert table.models["gpt-4o"].input == 2.5
    assert table.currency == "EUR"


def test_an_unknown_model_is_not_guessed() -> None:
    """The sentence names a near match and the fix."""
    table = price_table("azure")
    assert table.find("gpt-4o-minni") is None
    assert "gpt-4o-mini" in table.unknown("gpt-4o-minni")
    assert "prices:" in table.unknown("own")


@pytest.mark.parametrize(
    ("prices", "said"),
    [
        ({"m": {"input": 1}}, "no 'output'"),
        ({"m": {"input": -1, "output": 1}}, "input of 'm' is -1"),
        ({"m": {"input": "1", "output": 1}}, "input of 'm' is '1'"),
        ({"m": {"input": float("nan"), "output": 1}}, "nan"),
        ({"m": {"inputs": 1, "output": 1}}, "unknown key 'inputs'"),
        ({"m": 3}, "has no input and output"),
    ],
)
def test_a_wrong_price_is_one_sentence(prices: dict[str, Any], said: str) -> None:
    """With the model and the field."""
    with pytest.raises(ConfigurationError, match=said):
        price_table("azure", prices)


def test_a_file_of_prices(tmp_path: Path) -> None:
    """In the form of the packaged one; a broken one is named."""
    path = tmp_path / "prices.json"
    path.write_text(json.dumps({"currency": "GBP", "models": {"m": {"input": 2, "output": 4}}}))
    table = price_table("azure", prices_file=path)
    assert (table.currency, table.models["m"].batch_input) == ("GBP", 1.0)
    assert table.find("gpt-4o") is None
    for broken in ("{", "[]", "{}"):
        path.write_text(broken)
        with pytest.raises(ConfigurationError, match=r"prices\.json"):
            price_table("azure", prices_file=path)


def test_prices_differ_by_provider_and_zone() -> None:
    """A data zone costs more; what is not sold in batches has no batch price."""
    azure, openai = price_table("azure"), price_table("openai")
    global_, data_zone = (azure.find("gpt-4.1-mini", zone) for zone in ("global", "eu"))
    assert global_ is not None
    assert data_zone is not None
    assert data_zone.batch_input == pytest.approx(1.1 * (global_.batch_input or 0))
    luna = azure.find("gpt-6-luna")
    assert luna is not None
    assert luna.batch_cost(1, 1) is None
    assert "no batch price is known" in azure.unknown("gpt-6-luna")
    sold = openai.find("gpt-6-luna")
    assert sold is not None
    assert sold.batch_cost(1_000_000, 1_000_000) == pytest.approx(0.3)
    assert openai.find("gpt-6-luna", "eu") is None
    assert "zone 'eu' (but in global)" in openai.unknown("gpt-6-luna", "eu")
    assert set(azure.zones) == set(ZONES)


def test_flex_and_long_prompts_have_prices_of_their_own() -> None:
    """Flex is the synchronous endpoint's; a prompt above the limit is billed higher as a whole."""
    price = price_table("openai").models["gpt-5.4"]
    assert price.of_tier("flex").synchronous_cost(1_000_000, 0) == pytest.approx(1.25)
    assert price.of_tier("auto") == price
    assert price.at(272_000) == price
    assert price.at(272_001).batch_cost(1_000_000, 0) == pytest.approx(2.5)
    rows = [271_000, 1_000, 999, 1_000]
    found = estimate(8, rows, 1_000, (100.0, "schema"), price)
    plain = estimate(8, [271_000, 1_000, 999, 1_000], 999, (100.0, "schema"), price)
    assert found.cost == pytest.approx((plain.cost or 0) + 8 * 1_000 / 4 * 4 * 1.25e-6 / 1_000)
    over = estimate(8, [271_001, 1_000, 999, 1_000], 1_000, (100.0, "schema"), price)
    long_ones, short_ones = 2, 6
    expected = long_ones * (272_001 * 2.5 + 100 * 11.25) + short_ones * 100 * 7.5
    expected += 2 * (2_000 + 1_999 + 2_000) * 1.25
    assert over.cost == pytest.approx(expected / 1_000_000)


@pytest.mark.parametrize(
    ("day", "said"),
    [
        ("2026-10-15", None),
        ("2026-10-16", "in 90 days"),
        ("2026-11-29", "gpt-4o-mini ends at OpenAI on 2027-01-14, in 46 days"),
        ("2027-01-13", "tomorrow"),
        ("2027-01-14", "today"),
        ("2027-01-15", "gpt-4o-mini ended at OpenAI on 2027-01-14"),
    ],
)
def test_a_model_that_ends_is_said_in_time(day: str, said: str | None) -> None:
    """Ninety days before, at the provider that is used."""
    openai = price_table("openai")
    found = retirement_warning(openai, "gpt-4o-mini", "OpenAI", date.fromisoformat(day))
    assert (found is None) if said is None else said in (found or "")
    assert (
        retirement_warning(price_table("azure"), "gpt-4o-mini", "Azure", date(2026, 11, 29)) is None
    )
    assert retirement_warning(openai, "own", "OpenAI", date.fromisoformat(day)) is None


def test_a_file_by_provider_and_zone(tmp_path: Path) -> None:
    """Others are as packaged, days of retirement too; a wrong zone or day is named."""
    path = tmp_path / "prices.json"
    zone = {"input": 1, "output": 2, "batch_input": 0.4, "batch_output": 0.9}
    models: dict[str, Any] = {"gpt-4o-mini": {"zones": {"eu": zone}}}
    path.write_text(json.dumps({"providers": {"azure": models}}))
    table = price_table("azure", prices_file=path)
    assert table.find("gpt-4o-mini") is None
    found = table.find("gpt-4o-mini", "eu")
    assert found is not None
    assert (found.batch_input, found.batch_output) == (0.4, 0.9)
    assert table.retires["gpt-4o-mini"] == date(2027, 4, 14)
    assert price_table("openai", prices_file=path).find("gpt-4o-mini") is not None
    for wrong, text in (
        ({"m": {"zones": {"europe": zone}}}, "unknown zone 'europe'"),
        ({"m": {"zones": {"eu": zone}, "retires": "soon"}}, "'soon', which is no day"),
        ({"m": {"zones": {"eu": {**zone, "long_context": {"input": 1, "output": 2}}}}}, "above"),
        ({"m": 3}, "'m' is no object"),
    ):
        path.write_text(json.dumps({"providers": {"azure": wrong}}))
        with pytest.raises(ConfigurationError, match=text):
            price_table("azure", prices_file=path)

"""Prices: the packaged table, a user's own, and what is said of a model without one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from dbt_enrich.cost.prices import price_table
from dbt_enrich.errors import ConfigurationError


def test_the_packaged_table_is_dated_and_half_price() -> None:
    """Every batch price is half of the synchronous one, as its source says."""
    table = price_table()
    assert table.as_of
    assert table.source
    assert table.currency == "USD"
    for name, price in table.models.items():
        assert price.batch_input == pytest.approx(price.input / 2), name
        assert price.batch_output == pytest.approx(price.output / 2), name
        assert price.cached_input <= price.input, name


def test_a_million_tokens_cost_their_price() -> None:
    """At batch price, and one by one with what the prompt cache held."""
    price = price_table().models["gpt-4o-mini"]
    assert price.batch_cost(1_000_000, 1_000_000) == pytest.approx(0.375)
    assert price.synchronous_cost(1_000_000, 1_000_000) == pytest.approx(0.75)
    assert price.synchronous_cost(1_000_000, 0, 1_000_000) == pytest.approx(0.075)


def test_a_profile_s_prices_stand_in_place_of_the_packaged_ones() -> None:
    """Batch prices are half of the others unless they are told."""
    table = price_table(
        {"gpt-4o-mini": {"input": 1, "output": 2}, "own": {"input": 4, "output": 8,
         "batch_input": 3, "batch_output": 5}},
        currency="EUR",
    )  # fmt: skip
    assert table.models["gpt-4o-mini"].batch_input == 0.5
    assert table.models["own"].batch_output == 5
    assert table.models["gpt-4o"].input == 2.5
    assert table.currency == "EUR"


def test_an_unknown_model_is_not_guessed() -> None:
    """The sentence names a near match and the mend."""
    table = price_table()
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
        price_table(prices)


def test_a_file_of_prices(tmp_path: Path) -> None:
    """In the form of the packaged one; a broken one is named."""
    path = tmp_path / "prices.json"
    path.write_text(json.dumps({"currency": "GBP", "models": {"m": {"input": 2, "output": 4}}}))
    table = price_table(prices_file=path)
    assert (table.currency, table.models["m"].batch_input) == ("GBP", 1.0)
    assert table.find("gpt-4o") is None
    for broken in ("{", "[]", "{}"):
        path.write_text(broken)
        with pytest.raises(ConfigurationError, match=r"prices\.json"):
            price_table(prices_file=path)

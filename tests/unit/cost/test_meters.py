"""Names of Azure's meters, in the spellings that its price list has of them."""

from __future__ import annotations

from typing import Any

import pytest
from dbt_enrich.cost.meters import Meters, meter_of, models_of


@pytest.mark.parametrize(
    ("name", "read"),
    [
        (
            "gpt-4o-mini-0718-Inp-glbl Tokens",
            ("gpt-4o-mini", "0718", "global", "standard", "input"),
        ),
        (
            "gpt-4o-mini-0718-Batch-Outp-glbl Tokens",
            ("gpt-4o-mini", "0718", "global", "batch", "output"),
        ),
        (
            "gpt 4o mini 0718 cached Inp Data Zone Tokens",
            ("gpt-4o-mini", "0718", "data_zone", "standard", "cached_input"),
        ),
        (
            "gpt 4o mini0718 BatchOutp DataZone Tokens",
            ("gpt-4o-mini", "0718", "data_zone", "batch", "output"),
        ),
        ("gpt 4.1 nano Batch Inp glbl Tokens", ("gpt-4.1-nano", "", "global", "batch", "input")),
        ("gpt 4o 0513 Output global Tokens", ("gpt-4o", "0513", "global", "standard", "output")),
        ("o4-mini 0416 Inp regnl Tokens", ("o4-mini", "0416", "regional", "standard", "input")),
        ("GPT 5 Mini outpt Glbl 1M Tokens", ("gpt-5-mini", "", "global", "standard", "output")),
        (
            "5.4 mini cd Inp Gl 1M Tokens",
            ("gpt-5.4-mini", "", "global", "standard", "cached_input"),
        ),
        ("5.6 luna ShortCo Opt Std DZ 1M Tokens",
         ("gpt-5.6-luna", "", "data_zone", "standard", "output")),
        ("56sol ShCo Inp Fl Gl 1M Tokens", ("gpt-5.6-sol", "", "global", "flex", "input")),
        ("text-embedding-3-small-glbl Tokens",
         ("text-embedding-3-small", "", "global", "standard", "input")),
        ("text-embedding-3-large-regional Tokens",
         ("text-embedding-3-large", "", "regional", "standard", "input")),
        ("text embedding 3 large DZ Tokens",
         ("text-embedding-3-large", "", "data_zone", "standard", "input")),
        ("embedding-ada-datazone Tokens",
         ("text-embedding-ada-002", "", "data_zone", "standard", "input")),
        ("embedding-ada-glbl-new Tokens",
         ("text-embedding-ada-002", "", "global", "standard", "input")),
    ],
)  # fmt: skip
def test_a_meter_says_model_zone_tier_and_kind(name: str, read: tuple[str, ...]) -> None:
    """In all its spellings."""
    meter = meter_of(name)
    assert meter is not None
    assert (meter.model, meter.version, meter.zone, meter.tier, meter.kind) == read
    assert not meter.is_long


@pytest.mark.parametrize(
    "name",
    [
        "Provisioned Managed Global Unit",
        "gpt 4.1 mini ft Inp glbl Tokens",
        "5.6 luna ShortCo Cd Wr Std Gl 1M Tokens",
        "5.6 luna ShortCo Inp PP Gl 1M Tokens",
        "o4-mini-ft model grader output Tokens",
        "Sora 2 pro glbl Second",
        "Az-Embeddings-Ada Tokens",
        "Phi-3.5-Mini-128K-Instruct-Output Tokens",
        "",
    ],
)
def test_other_meters_are_no_price_of_a_model(name: str) -> None:
    """Hours, fine-tuning, what is written to a cache or asked at priority."""
    assert meter_of(name) is None


def test_the_newest_version_and_the_newest_price_hold() -> None:
    """By the day from which they do; a long prompt's price stands beside."""

    def item(
        name: str, price: float, unit: str = "1K", since: str = "2024-08-01"
    ) -> dict[str, Any]:
        return {
            "meterName": name,
            "retailPrice": price,
            "unitOfMeasure": unit,
            "effectiveStartDate": since,
            "type": "Consumption",
            "currencyCode": "USD",
        }

    meters = Meters()
    meters.add(
        [
            item("gpt 4o 0513 Inp glbl Tokens", 0.005, since="2024-05-01"),
            item("gpt 4o 0513 Outp glbl Tokens", 0.015, since="2024-05-01"),
            item("gpt 4o 0806 Inp glbl Tokens", 0.0025),
            item("gpt 4o 0806 Outp glbl Tokens", 0.01),
            item("5.4 ShortCo Inp Std Gl 1M Tokens", 3.0, "1M", "2026-01-01"),
            item("5.4 ShortCo Inp Std Gl 1M Tokens", 2.5, "1M", "2026-03-01"),
            item("5.4 ShortCo Opt Std Gl 1M Tokens", 15.0, "1M"),
            item("5.4 LongCo Inp Std Gl 1M Tokens", 5.0, "1M"),
            item("5.4 LongCo Opt Std Gl 1M Tokens", 22.5, "1M"),
            item("gpt 4.1 Inp glbl Tokens", 0.002),
            item("gpt 4.1 Outp glbl Tokens", 0.0),
            item("o3 0416 Inp glbl Tokens", 0.002, "1/Hour"),
            item("text-embedding-3-small-glbl Tokens", 0.00002),
            item("text embedding 3 small DZ Tokens", 0.000022),
            # A product that is free of charge has meters of the same name.
            item("text-embedding-3-large-glbl Tokens", 0.0),
        ]
    )
    models, text = models_of(meters, data_zone="us")
    assert models["gpt-4o"] == {"global": {"input": 2.5, "output": 10.0}}
    assert models["gpt-5.4"]["global"] == {
        "input": 2.5,
        "output": 15.0,
        "long_context": {"above": 272_000, "input": 5.0, "output": 22.5},
    }
    # A vector costs what its text does.
    assert models["text-embedding-3-small"] == {
        "global": {"input": 0.02, "output": 0.0},
        "us": {"input": 0.022, "output": 0.0},
    }
    # Without a price of its output a language model has none.
    assert set(models) == {"gpt-4o", "gpt-5.4", "text-embedding-3-small"}
    assert text == ["gpt-4o (global): the prices of the version 0806, of 2"]

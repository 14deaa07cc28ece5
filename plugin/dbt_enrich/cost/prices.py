"""Prices: the dated table that ships with the package, and what a profile puts in its place."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from dbt_enrich.errors import ConfigurationError
from dbt_enrich.naming import near_match

_MILLION = 1_000_000
_FIELDS = ("input", "cached_input", "output", "batch_input", "batch_output")


@dataclass(frozen=True)
class Price:
    """What a model's tokens cost, in a currency for a million of them.

    Attributes:
        input: Of the synchronous endpoint, for a token of the prompt.
        cached_input: The same, for a token that the service's prompt cache held.
        output: The same, for a token of the answer.
        batch_input: Of the Batch API. Azure documents no cache discount for it.
        batch_output: The same, for a token of the answer.
    """

    input: float
    cached_input: float
    output: float
    batch_input: float
    batch_output: float

    def batch_cost(self, prompt_tokens: float, completion_tokens: float) -> float:
        """Return what tokens cost in a batch."""
        return (prompt_tokens * self.batch_input + completion_tokens * self.batch_output) / _MILLION

    def synchronous_cost(
        self, prompt_tokens: float, completion_tokens: float, cached_tokens: float = 0
    ) -> float:
        """Return what the same tokens would cost one request at a time."""
        fresh = prompt_tokens - cached_tokens
        return (
            fresh * self.input + cached_tokens * self.cached_input + completion_tokens * self.output
        ) / _MILLION


FREE = Price(0.0, 0.0, 0.0, 0.0, 0.0)


@dataclass(frozen=True)
class PriceTable:
    """Prices by logical model name.

    Attributes:
        models: The prices.
        currency: What they are in.
        as_of: The date of the table.
        source: Where it is from.
    """

    models: Mapping[str, Price]
    currency: str
    as_of: str
    source: str

    def find(self, model: str) -> Price | None:
        """Return a model's price, or None: an unknown price is never guessed."""
        return self.models.get(model)

    def unknown(self, model: str) -> str:
        """Say that a model has no price, and what to do."""
        meant = near_match(model, self.models)
        hint = f"{meant} Else " if meant else ""
        return (
            f"no price is known for the model '{model}'; {hint}set it in "
            f"the plugin's config, such as prices: {{{model}: {{input: 0.15, output: 0.6}}}}"
        )


def price_table(
    prices: Mapping[str, Mapping[str, Any]] | None = None,
    *,
    prices_file: Path | None = None,
    currency: str | None = None,
) -> PriceTable:
    """Return the prices that ship with the package, with a user's own in their place.

    Args:
        prices: By model: `input` and `output` for a million tokens, and where they are known
            `cached_input`, `batch_input` and `batch_output` (default: half of the former).
        prices_file: A JSON file in the form of the package's own `cost/prices.json`, read first.
        currency: What the prices are in, where it is not US dollars.

    Raises:
        ConfigurationError: A price is missing, negative or no number, or the file cannot be read.
    """
    document = _packaged() if prices_file is None else _read(prices_file)
    where = "the price table" if prices_file is None else str(prices_file)
    models = {name: _price(where, name, values) for name, values in document["models"].items()}
    own = {name: _price("prices", name, values) for name, values in (prices or {}).items()}
    return PriceTable(
        models={**models, **own},
        currency=currency or str(document.get("currency", "USD")),
        as_of=str(document.get("as_of", "")),
        source=str(document.get("source", where)),
    )


@cache
def _packaged() -> dict[str, Any]:
    text = files("dbt_enrich.cost").joinpath("prices.json").read_text(encoding="utf-8")
    return dict(json.loads(text))


def _read(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"prices_file {path} cannot be read ({error})",
            fix="write it as a JSON object with 'models'",
        ) from error
    if not isinstance(document, dict) or not isinstance(document.get("models"), dict):
        raise ConfigurationError(
            f"prices_file {path} has no 'models'",
            fix="write it as "
            '{"currency": "USD", "models": {"gpt-4o-mini": {"input": 0.15, "output": 0.6}}}',
        )
    return document


def _price(where: str, model: str, values: Any) -> Price:
    if not isinstance(values, Mapping):
        raise ConfigurationError(
            f"{where}: the price of '{model}' has no input and output",
            fix="write it like {input: 0.15, output: 0.60}",
        )
    for name in values:
        if name not in _FIELDS:
            raise ConfigurationError(
                f"{where}: the price of '{model}' has the unknown key '{name}'",
                fix=near_match(str(name), _FIELDS) or f"use one of the keys {', '.join(_FIELDS)}",
            )
    told = {name: _number(where, model, name, value) for name, value in values.items()}
    for name in ("input", "output"):
        if name not in told:
            raise ConfigurationError(
                f"{where}: the price of '{model}' has no '{name}'",
                fix="add it",
            )
    return Price(
        input=told["input"],
        cached_input=told.get("cached_input", told["input"]),
        output=told["output"],
        batch_input=told.get("batch_input", told["input"] / 2),
        batch_output=told.get("batch_output", told["output"] / 2),
    )


def _number(where: str, model: str, name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
        raise ConfigurationError(
            f"{where}: {name} of '{model}' is {value!r}",
            fix="write a number, for a million tokens",
        )
    return float(value)

"""Prices: the dated table that ships with the package, and what a profile puts in its place."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, get_args

from dbt_enrich.errors import ConfigurationError
from dbt_enrich.wording import near_match

_MILLION = 1_000_000
# Where a deployment answers: anywhere, in the data zone of the USA or of the EU, in one region.
Zone = Literal["global", "us", "eu", "regional"]
ZONES: tuple[str, ...] = get_args(Zone)
DEFAULT_ZONE: Zone = "global"
_NUMBERS = (
    "input", "cached_input", "output", "batch_input", "batch_output", "flex_input", "flex_output",
)  # fmt: skip
_LONG = "long_context"
_FIELDS = (*_NUMBERS, _LONG)


@dataclass(frozen=True)
class Price:
    """What a model's tokens cost, in a currency for a million of them.

    Attributes:
        input: Of the synchronous endpoint, for a token of the prompt.
        cached_input: The same, for a token that the service's prompt cache held.
        output: The same, for a token of the answer.
        batch_input: Of the Batch API, or None where it is not known. Azure documents no cache
            discount for it.
        batch_output: The same, for a token of the answer.
        flex_input: Of the synchronous endpoint's slower tier, or None where it is not known.
        flex_output: The same, for a token of the answer.
        long_above: Tokens of a prompt above which a request is billed higher, or None.
        long: What such a request's tokens cost.
    """

    input: float
    cached_input: float
    output: float
    batch_input: float | None
    batch_output: float | None
    flex_input: float | None = None
    flex_output: float | None = None
    long_above: int | None = None
    long: Price | None = None

    def batch_cost(self, prompt_tokens: float, completion_tokens: float) -> float | None:
        """Return what tokens cost in a batch, or None where that is not known."""
        if self.batch_input is None or self.batch_output is None:
            return None
        return (prompt_tokens * self.batch_input + completion_tokens * self.batch_output) / _MILLION

    def synchronous_cost(
        self, prompt_tokens: float, completion_tokens: float, cached_tokens: float = 0
    ) -> float:
        """Return what the same tokens would cost one request at a time."""
        fresh = prompt_tokens - cached_tokens
        return (
            fresh * self.input + cached_tokens * self.cached_input + completion_tokens * self.output
        ) / _MILLION

    def is_long(self, prompt_tokens: float) -> bool:
        """Whether a request with so many tokens of prompt is billed as a long one."""
        return self.long_above is not None and prompt_tokens > self.long_above

    def at(self, prompt_tokens: float) -> Price:
        """Return the price of requests with so many tokens of prompt each."""
        return self.long if self.long and self.is_long(prompt_tokens) else self

    def of_tier(self, service_tier: object) -> Price:
        """Return the price with the synchronous endpoint's at a request's `service_tier`.

        Where the price of `flex` is not known, the batch's is: "tokens are priced at Batch API
        rates, with additional discounts from prompt caching",
        https://developers.openai.com/api/docs/guides/flex-processing
        """
        asked = self.batch_input if self.flex_input is None else self.flex_input
        answered = self.batch_output if self.flex_output is None else self.flex_output
        if service_tier != "flex" or asked is None or answered is None:
            return self
        share = asked / self.input if self.input else 1.0
        return replace(
            self,
            input=asked,
            cached_input=self.cached_input * share,
            output=answered,
            long=self.long.of_tier(service_tier) if self.long else None,
        )


FREE = Price(0.0, 0.0, 0.0, 0.0, 0.0)


@dataclass(frozen=True)
class PriceTable:
    """Prices of one provider, by zone and logical model name.

    Attributes:
        own: The user's prices, which hold in every zone.
        zones: The others, by zone and model.
        currency: What they are in.
        as_of: The date of the table.
        source: Where it is from.
        retires: The day on which the provider ends a model, where that is published.
        provider: Who sells.
    """

    own: Mapping[str, Price]
    zones: Mapping[str, Mapping[str, Price]]
    currency: str
    as_of: str
    source: str
    provider: str
    retires: Mapping[str, date] = field(default_factory=dict)

    @property
    def models(self) -> dict[str, Price]:
        """The prices of the usual zone, by model."""
        return {**self.zones.get(DEFAULT_ZONE, {}), **self.own}

    def find(self, model: str, zone: str = DEFAULT_ZONE) -> Price | None:
        """Return a model's price in a zone, or None: an unknown price is never guessed."""
        return self.own.get(model) or self.zones.get(zone, {}).get(model)

    def unknown(self, model: str, zone: str = DEFAULT_ZONE) -> str:
        """Say that a model has no price, or none in a batch, and what to do."""
        example = f"prices: {{{model}: {{input: 0.15, output: 0.6}}}}"
        own = f"set it in the plugin's config, such as {example}"
        if self.find(model, zone):
            return f"no batch price is known for the model '{model}' at {self.provider}; {own}"
        known = [name for name, models in self.zones.items() if model in models]
        if known:
            return (
                f"no price is known for the model '{model}' in the zone '{zone}' (but in "
                f"{', '.join(known)}); set price_zone in the plugin's config, or {own}"
            )
        meant = near_match(model, self.models)
        hint = f"{meant} Else " if meant else ""
        return f"no price is known for the model '{model}'; {hint}{own}"


def price_table(
    provider: str,
    prices: Mapping[str, Mapping[str, Any]] | None = None,
    *,
    prices_file: Path | None = None,
    currency: str | None = None,
) -> PriceTable:
    """Return the prices that ship with the package, with a user's own in their place.

    Args:
        provider: Who sells, by its name in the profile.
        prices: By model: `input` and `output` for a million tokens, and where they are known
            `cached_input`, `batch_input` and `batch_output` (default: half of the first two),
            `flex_input`, `flex_output` and `long_context`. They hold in every zone.
        prices_file: A JSON file in the form of the package's own `cost/prices.json`, or with
            `models` as in `prices`, read first.
        currency: What the prices are in, where it is not US dollars.

    Raises:
        ConfigurationError: A price is missing, negative or no number, or the file cannot be read.
    """
    packaged = _packaged()
    document = packaged if prices_file is None else _read(prices_file)
    where = "the price table" if prices_file is None else str(prices_file)
    flat = document.get("models") or {}
    providers = document.get("providers") or {}
    # A file with prices of one provider alone leaves those of the others as they are packaged.
    sold = providers.get(provider, {} if flat else packaged["providers"].get(provider, {}))
    dates = {**_retirements(packaged["providers"].get(provider, {}), "the price table")}
    dates |= _retirements(sold, where)
    own = {name: _price(where, name, values) for name, values in flat.items()}
    own |= {name: _price("prices", name, values) for name, values in (prices or {}).items()}
    return PriceTable(
        own=own,
        zones=_zones(sold, where),
        currency=currency or str(document.get("currency", "USD")),
        as_of=str(document.get("as_of", "")),
        source=str(document.get("source", where)),
        retires=dates,
        provider=provider,
    )


def _zones(sold: Mapping[str, Any], where: str) -> dict[str, dict[str, Price]]:
    zones: dict[str, dict[str, Price]] = {zone: {} for zone in ZONES}
    for model, values in sold.items():
        for zone, price in (values.get("zones") or {}).items():
            if zone not in zones:
                raise ConfigurationError(
                    f"{where}: the price of '{model}' is of the unknown zone '{zone}'",
                    fix=near_match(str(zone), ZONES) or f"name one of {', '.join(ZONES)}",
                )
            # What is not sold in batches has no price there.
            zones[zone][model] = _price(where, model, price, halves=False)
    return zones


def _retirements(sold: Mapping[str, Any], where: str) -> dict[str, date]:
    found = {}
    for model, values in sold.items():
        if not isinstance(values, Mapping):
            raise ConfigurationError(
                f"{where}: '{model}' is no object", fix="give it zones with input and output"
            )
        if values.get("retires"):
            try:
                found[model] = date.fromisoformat(str(values["retires"]))
            except ValueError:
                raise ConfigurationError(
                    f"{where}: '{model}' retires on {values['retires']!r}, which is no day",
                    fix="write it as 2027-01-14",
                ) from None
    return found


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
            fix="write it as a JSON object with 'models', or by dbt-enrich prices refresh",
        ) from error
    if not isinstance(document, dict) or not any(
        isinstance(document.get(key), dict) for key in ("models", "providers")
    ):
        raise ConfigurationError(
            f"prices_file {path} has no 'models'",
            fix='write it as {"currency": "USD", "models": {"gpt-4o-mini": {"input": 0.15, '
            '"output": 0.6}}}, or by dbt-enrich prices refresh',
        )
    return document


def _price(where: str, model: str, values: Any, *, halves: bool = True) -> Price:
    """Read a price.

    Args:
        where: Where it stands.
        model: The model.
        values: Its values.
        halves: Whether a batch price that is not given is half of the other.
    """
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
    given = {
        name: _number(where, model, name, value) for name, value in values.items() if name != _LONG
    }
    for name in ("input", "output"):
        if name not in given:
            raise ConfigurationError(
                f"{where}: the price of '{model}' has no '{name}'",
                fix="add it; the answers of an embedding model have no tokens: output: 0",
            )
    long = dict(values.get(_LONG) or {})
    above = long.pop("above", None)
    if long and (isinstance(above, bool) or not isinstance(above, int)):
        raise ConfigurationError(
            f"{where}: long_context of '{model}' does not say above how many tokens it holds",
            fix="add above, such as above: 272000",
        )
    return Price(
        input=given["input"],
        cached_input=given.get("cached_input", given["input"]),
        output=given["output"],
        batch_input=given.get("batch_input", given["input"] / 2 if halves else None),
        batch_output=given.get("batch_output", given["output"] / 2 if halves else None),
        flex_input=given.get("flex_input"),
        flex_output=given.get("flex_output"),
        long_above=above if long else None,
        long=_price(where, model, long, halves=halves) if long else None,
    )


def _number(where: str, model: str, name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
        raise ConfigurationError(
            f"{where}: {name} of '{model}' is {value!r}",
            fix="write a number, for a million tokens",
        )
    return float(value)

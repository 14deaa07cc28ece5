"""Meters of Azure's public price list, read as prices of models: their names are all that tells.

A name such as `gpt 4.1 mini Batch Inp glbl Tokens`, `5.4 mini cd Inp Gl 1M Tokens` or
`gpt 4o mini0718 BatchOutp DataZone Tokens` says the model, its version, the kind of token, the zone
and the tier, in spellings that differ between models and years. Those of embedding models, such as
`text-embedding-3-large-glbl Tokens` and `text embedding 3 large DZ Tokens`, name no kind: the
tokens of the text are all that there is to pay for.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

_PER_MILLION = {"1K": 1_000, "1M": 1}
_MILLION = 1_000_000
_LONG_ABOVE = 272_000
_INPUT = {"inp", "inpt", "input", "in"}
_OUTPUT = {"outp", "outpt", "opt", "out", "output"}
_CACHED = {"cached", "cchd", "ccchd", "cd", "cache"}
_ZONES = {
    **dict.fromkeys(("glbl", "gl", "global"), "global"),
    **dict.fromkeys(("dz", "dzone"), "data_zone"),
    **dict.fromkeys(("regnl", "rgnl", "regional", "regn", "rg"), "regional"),
}
_TIERS = {"batch": "batch", "bat": "batch", "flex": "flex", "fl": "flex"}
_LONG = {"longco", "loco", "lgco"}
_NO_MEANING = {"tokens", "token", "1m", "1k", "std", "shortco", "shco"}
# Written to a cache, at priority, for a fine-tuned model, hosted by the hour: other prices.
_OTHERS = {"wr", "write", "pp", "priority", "ft", "finetuned", "hstng", "hosting", "grader", "dev"}
_EMBEDDING = "embedding"
# Azure's meters leave out of the oldest one's name what the other two have in theirs; of late one
# was called new for some months.
_ADA = {"embedding-ada": "text-embedding-ada-002", "embedding-ada-new": "text-embedding-ada-002"}
_VERSION = re.compile(r"\d{4}|\d{8}")


@dataclass(frozen=True)
class Meter:
    """One price of one model.

    Attributes:
        model: The model's name as OpenAI writes it, without its version.
        version: Month and day of the version, or an empty text.
        zone: `global`, `data_zone` or `regional`.
        tier: `standard`, `batch` or `flex`.
        kind: `input`, `cached_input` or `output`.
        is_long: Whether it is of prompts above the long-context limit.
    """

    model: str
    version: str
    zone: str
    tier: str
    kind: str
    is_long: bool


@dataclass
class Meters:
    """What a price list says.

    Attributes:
        prices: Prices for a million tokens, by meter, each with the day from which it holds.
        currency: What they are in.
        unread: Names of meters that are no price of text tokens, or not understood.
    """

    prices: dict[Meter, tuple[str, float]] = field(default_factory=dict)
    currency: str = "USD"
    unread: set[str] = field(default_factory=set)

    def add(self, items: Iterable[Mapping[str, Any]]) -> None:
        """Read some items of the list; of two prices for one meter the newer one holds."""
        for item in items:
            name = str(item.get("meterName") or "")
            price = _price_of(item)
            meter = meter_of(name)
            if meter is None or price is None:
                self.unread.add(name)
                continue
            since = str(item.get("effectiveStartDate") or "")
            if meter not in self.prices or self.prices[meter][0] <= since:
                self.prices[meter] = (since, price)
            self.currency = str(item.get("currencyCode") or self.currency)


def meter_of(name: str) -> Meter | None:
    """Read the name of a meter, or return None where it is no price of text tokens.

    >>> meter_of("gpt 4o mini0718 BatchOutp DataZone Tokens")
    Meter(model='gpt-4o-mini', version='0718', zone='data_zone', tier='batch', kind='output', \
is_long=False)
    """
    words = _words(name)
    if "tokens" not in words or _OTHERS & set(words):
        return None
    kinds = [kind for kind, names in (("input", _INPUT), ("output", _OUTPUT)) if names & set(words)]
    if _EMBEDDING in words and not kinds:
        kinds = ["input"]
    zones = [_ZONES[word] for word in words if word in _ZONES]
    if len(kinds) != 1 or len(zones) != 1:
        return None
    known = _INPUT | _OUTPUT | _CACHED | set(_ZONES) | set(_TIERS) | _LONG | _NO_MEANING
    rest = [word for word in words if word not in known]
    version = next((word for word in rest if _VERSION.fullmatch(word)), "")
    model = _model([word for word in rest if word != version])
    if not model:
        return None
    is_cached = bool(_CACHED & set(words))
    if is_cached and kinds == ["output"]:
        return None
    return Meter(
        model=model,
        version=version,
        zone=zones[0],
        tier=next((_TIERS[word] for word in words if word in _TIERS), "standard"),
        kind="cached_input" if is_cached else kinds[0],
        is_long=bool(_LONG & set(words)),
    )


def _words(name: str) -> list[str]:
    text = name.lower().replace("datazone", " dz ").replace("data zone", " dz ")
    text = re.sub(r"\bbatch(?=[a-z])", "batch ", text)
    # A version may stand right behind a name: mini0718.
    text = re.sub(r"(?<=[a-z])(?=\d{4}\b)", " ", text)
    return [word for word in re.split(r"[\s\-_/]+", text) if word]


def _model(words: list[str]) -> str:
    """Write a model's name as OpenAI does: `5.4 mini` is gpt-5.4-mini, `56sol` is gpt-5.6-sol."""
    if not words:
        return ""
    glued = re.fullmatch(r"(\d)(\d)([a-z]+)", words[0])
    if glued:
        words = [f"{glued[1]}.{glued[2]}", glued[3], *words[1:]]
    if re.fullmatch(r"\d+(\.\d+)?o?", words[0]):
        words = ["gpt", *words]
    name = "-".join(words)
    return _ADA.get(name, name)


def is_of_embeddings(model: str) -> bool:
    """Whether a model of the list makes vectors, which have no tokens to pay for."""
    return _EMBEDDING in model.split("-")


def _price_of(item: Mapping[str, Any]) -> float | None:
    """Return an item's price for a million tokens, or None where it is none."""
    price = item.get("retailPrice", item.get("unitPrice"))
    factor = _PER_MILLION.get(str(item.get("unitOfMeasure")))
    if factor is None or isinstance(price, bool) or not isinstance(price, int | float):
        return None
    if item.get("type", "Consumption") != "Consumption" or not price > 0:
        return None
    return float(f"{price * factor:.10g}")


def models_of(meters: Meters, *, data_zone: str) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Return what a price list says of each model, by zone, and what is to be known of it.

    Args:
        meters: The list.
        data_zone: Which data zone the list's region is in, `us` or `eu`.
    """
    models: dict[str, dict[str, Any]] = {}
    text: list[str] = []
    names = {(meter.model, meter.zone) for meter in meters.prices}
    for model, zone in sorted(names):
        versions = {m.version for m in meters.prices if (m.model, m.zone) == (model, zone)}
        found = {
            version: values
            for version in sorted(versions)
            if {"input", "output"} <= (values := _values(meters, model, zone, version)).keys()
        }
        if not found:
            continue
        newest = max(found, key=lambda version: _since(meters, model, zone, version))
        shown = data_zone if zone == "data_zone" else zone
        models.setdefault(model, {})[shown] = found[newest]
        if len({str(values) for values in found.values()}) > 1:
            text.append(f"{model} ({shown}): the prices of the version {newest}, of {len(found)}")
    return models, text


def _since(meters: Meters, model: str, zone: str, version: str) -> tuple[str, str]:
    days = [
        since
        for meter, (since, _) in meters.prices.items()
        if (meter.model, meter.zone, meter.version) == (model, zone, version)
    ]
    return max(days), version


def _values(meters: Meters, model: str, zone: str, version: str) -> dict[str, Any]:
    values: dict[str, Any] = {}
    long: dict[str, Any] = {}
    for meter, (_, price) in meters.prices.items():
        if (meter.model, meter.zone, meter.version) != (model, zone, version):
            continue
        # Of a cache only the standard tier's price is used.
        if meter.kind == "cached_input" and meter.tier != "standard":
            continue
        name = meter.kind if meter.tier == "standard" else f"{meter.tier}_{meter.kind}"
        (long if meter.is_long else values)[name] = price
    if "input" in values and is_of_embeddings(model):
        values["output"] = 0.0
    if {"input", "output"} <= long.keys():
        values["long_context"] = {"above": _LONG_ABOVE, **long}
    return values

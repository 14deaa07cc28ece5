"""`dbt-enrich prices`: the prices that a project is estimated by, and newer ones from Azure."""

from __future__ import annotations

import json
import os
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from dbt_enrich.cli.project import Location, load_project, project_options
from dbt_enrich.cli.tables import plain_table
from dbt_enrich.config.azure import AZURE
from dbt_enrich.cost.meters import Meters, is_of_embeddings, models_of
from dbt_enrich.cost.retail import RETAIL_URL, retail_items
from dbt_enrich.errors import ServiceError
from dbt_enrich.wording import counted

# One region of each data zone; the global prices are the same in all regions.
_REGIONS = ("eastus2", "swedencentral")
# Regions of Azure in the EU, whose Data Zone deployments answer there.
_EU = (
    "austria", "belgium", "france", "germany", "italy", "northeurope", "poland", "spain", "sweden",
    "westeurope", "denmark", "greece", "finland",
)  # fmt: skip


@click.group()
def prices() -> None:
    """Show the prices that plans and costs are reckoned with, or fetch Azure's own."""


@prices.command()
@project_options
def show(location: Location) -> None:
    """Show the prices for a million tokens that hold in the project."""
    project = load_project(location)
    table = project.config.price_table
    rows = [
        (
            model,
            zone,
            *(_shown(getattr(price, name)) for name in _COLUMNS),
            table.retires.get(model, ""),
        )
        for zone, models in (("any", table.own), *table.zones.items())
        for model, price in models.items()
    ]
    headers = ("model", "zone", *(name.replace("_", " ") for name in _COLUMNS), "retires")
    click.echo(plain_table(headers, rows))
    click.echo(f"{table.currency} for 1,000,000 tokens, of {table.as_of or '?'}: {table.source}")


_COLUMNS = ("input", "cached_input", "output", "batch_input", "batch_output", "flex_input")


def _shown(price: float | None) -> str:
    return "?" if price is None else f"{price:g}"


@prices.command()
@click.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("enrichment_prices.json"),
    show_default=True,
    help="The file, which prices_file in the profile names.",
)
@click.option(
    "--region",
    "regions",
    multiple=True,
    default=_REGIONS,
    show_default=True,
    help="Azure region; may be given several times. Its data zone's and its own prices are read.",
)
@click.option("--currency", default="USD", show_default=True, help="What the prices are in.")
@click.option("--url", default=RETAIL_URL, show_default=True, help="Where the price list is.")
def refresh(output: Path, regions: tuple[str, ...], currency: str, url: str) -> None:
    """Write a prices file from Azure's public list of retail prices. Needs no key.

    They are list prices: a contract of your own may have others.
    """
    models: dict[str, dict[str, Any]] = {}
    unread: set[str] = set()
    for region in regions:
        meters = Meters(currency=currency)
        meters.add(retail_items(region, currency=currency, url=url))
        zone = "eu" if region.lower().startswith(_EU) else "us"
        found, text = models_of(meters, data_zone=zone)
        for model, zones in found.items():
            models.setdefault(model, {"zones": {}})["zones"].update(zones)
        unread |= meters.unread
        for line in text:
            click.echo(f"{region}: {line}")
    if not models:
        raise ServiceError(
            f"the price list at {url} has no price of a model of OpenAI's in {', '.join(regions)}",
            fix="name another --region, such as eastus2; no file was written",
        )
    _write(output, models, currency=currency, url=url)
    # Azure's batches take no embeddings.
    sold_in_batches = {m: v for m, v in models.items() if not is_of_embeddings(m)}
    without = sorted(m for m, v in sold_in_batches.items() if not _has_batch(v))
    click.echo(
        f"{output}: {counted(len(models), 'model')}; "
        f"{counted(len(unread), 'other meter was', 'other meters were')} left out"
        + (f"; no batch price of {', '.join(without)}" if without else "")
    )
    click.echo(f"name it in the plugin's config: prices_file: {output}")


def _has_batch(model: dict[str, Any]) -> bool:
    return any({"batch_input", "batch_output"} <= zone.keys() for zone in model["zones"].values())


def _write(path: Path, models: dict[str, Any], *, currency: str, url: str) -> None:
    """Write the file whole or not at all."""
    document = {
        "as_of": datetime.now(UTC).date().isoformat(),
        "currency": currency,
        "unit": "per 1,000,000 tokens",
        "source": f"Azure's public list of retail prices, {url}",
        "providers": {AZURE.name: models},
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(document, file, indent=1)
            file.write("\n")
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise

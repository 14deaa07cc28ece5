"""`dbt-enrich prices refresh` against a price list over real HTTP, and what comes of its file."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from batch_server.server import RunningEmulator
from click.testing import CliRunner, Result
from dbt_enrich.cli import main
from dbt_enrich.config import parse_config
from dbt_enrich.cost.prices import price_table
from dbt_enrich.cost.retail import retail_items
from dbt_enrich.errors import ServiceError, TransientError
from support.dbt_project import DbtProject, azure


def item(name: str, price: float, unit: str = "1K") -> dict[str, Any]:
    """An item as the price list has it."""
    return {
        "currencyCode": "USD",
        "retailPrice": price,
        "unitPrice": price,
        "armRegionName": "eastus2",
        "effectiveStartDate": "2024-08-01T00:00:00Z",
        "meterName": name,
        "productName": "Azure OpenAI",
        "skuName": name.removesuffix(" Tokens"),
        "serviceName": "Foundry Models",
        "unitOfMeasure": unit,
        "type": "Consumption",
    }


PAGES = [
    [
        item("gpt-4o-mini-0718-Inp-glbl Tokens", 0.00015),
        item("gpt-4o-mini-0718-Outp-glbl Tokens", 0.0006),
        item("gpt-4o-mini-0718-Batch-Inp-glbl Tokens", 0.000075),
        item("Provisioned Managed Global Unit", 1.0, "1/Hour"),
    ],
    [
        item("gpt-4o-mini-0718-Batch-Outp-glbl Tokens", 0.0003),
        item("gpt 4o mini 0718 Inp Data Zone Tokens", 0.000165),
        item("gpt 4o mini 0718 Outp Data Zone Tokens", 0.00066),
        item("5.6 luna ShortCo Inp Std Gl 1M Tokens", 0.2, "1M"),
    ],
    [
        item("5.6 luna ShortCo Opt Std Gl 1M Tokens", 1.2, "1M"),
        item("text-embedding-3-small-glbl Tokens", 0.00002),
        {"odd": True},
    ],
]


class PriceList:
    """A price list on loopback.

    Attributes:
        queries: The query of each request.
        replies: What is sent in place of a page, by its number, each once: status, headers, body.
    """

    def __init__(self) -> None:
        self.queries: list[dict[str, list[str]]] = []
        self.replies: dict[int, list[tuple[int, dict[str, str], bytes]]] = {}
        self.endless = False
        prices = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                query = parse_qs(urlsplit(self.path).query)
                prices.queries.append(query)
                number = int(query.get("$skip", ["0"])[0])
                odd = prices.replies.get(number) or []
                status, headers, body = odd.pop(0) if odd else (200, {}, prices.page(number))
                self.send_response(status)
                for name, value in {"Content-Length": str(len(body)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/api/retail/prices"

    def page(self, number: int) -> bytes:
        """A page with the address of the next one."""
        following = number if self.endless else number + 1
        link = f"{self.url}?$skip={following}" if following < len(PAGES) else None
        page = {"BillingCurrency": "USD", "Items": PAGES[number], "NextPageLink": link}
        return json.dumps(page).encode()


@pytest.fixture
def price_list() -> Iterator[PriceList]:
    """A price list that runs."""
    prices = PriceList()
    thread = threading.Thread(target=prices.server.serve_forever, daemon=True)
    thread.start()
    yield prices
    prices.server.shutdown()
    prices.server.server_close()
    thread.join()


def refresh(price_list: PriceList, output: Path, *arguments: str) -> Result:
    """Run the command."""
    given = ["prices", "refresh", "--output", str(output), "--url", price_list.url, *arguments]
    return CliRunner().invoke(main, given)


def test_all_pages_become_a_file_that_plans_reckon_with(
    price_list: PriceList, tmp_path: Path
) -> None:
    """By zone, for a million tokens; what is no price of a model is counted, not guessed."""
    # A busy service is asked again.
    busy = (503, {"Retry-After": "0"}, b"busy")
    price_list.replies = {1: [busy], 2: [(429, {"Retry-After": "0"}, b"")]}
    output = tmp_path / "prices" / "azure.json"
    result = refresh(price_list, output, "--region", "swedencentral")
    assert result.exit_code == 0, result.output
    assert "3 models; 2 other meters were left out; no batch price of gpt-5.6-luna" in result.output
    assert "no batch price of gpt-5.6-luna\n" in result.output
    assert "armRegionName eq 'swedencentral'" in price_list.queries[0]["$filter"][0]
    assert price_list.queries[0]["currencyCode"] == ["'USD'"]
    assert len(price_list.queries) == 5
    config = {"provider": "azure", "endpoint": "https://x.test", "prices_file": str(output)}
    zones = {"west": "eu", "east": "global"}
    deployed = {"gpt-4o-mini": ["east", "west"]}
    plugin = parse_config(
        {**config, "price_zone": zones, "deployments": deployed}, duckdb_settings={}
    )
    price = plugin.price("gpt-4o-mini")
    assert price is not None
    assert price.batch_cost(1_000_000, 1_000_000) == pytest.approx(0.375)
    in_zone = plugin.price("gpt-4o-mini", "west")
    assert in_zone is not None
    assert in_zone.synchronous_cost(1_000_000, 1_000_000) == pytest.approx(0.825)
    # No batch price was read of the zone, so none is guessed.
    assert in_zone.batch_cost(1, 1) is None
    luna = price_table("azure", prices_file=output).find("gpt-5.6-luna")
    assert luna is not None
    assert (luna.input, luna.output) == (0.2, 1.2)
    vectors = plugin.price("text-embedding-3-small")
    assert vectors is not None
    assert vectors.synchronous_cost(1_000_000, 0) == pytest.approx(0.02)
    # Azure's batches take no embeddings, and none has a price there.
    assert vectors.batch_cost(1_000_000, 0) is None


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        ((200, {}, b"<html>Sign in</html>"), "no page of the price list"),
        ((200, {}, b'{"Count": 0}'), "no page of the price list"),
        ((200, {}, b'{"Items": [1]}'), "no page of the price list"),
        ((400, {}, b"Invalid OData"), "refused with 400"),
        ((200, {}, b'{"Items": [], "NextPageLink": "file:///etc/passwd"}'), "no address"),
    ],
)
def test_a_broken_page_leaves_the_file_as_it_was(
    price_list: PriceList, tmp_path: Path, reply: tuple[int, dict[str, str], bytes], said: str
) -> None:
    """Also where the pages before it were whole."""
    output = tmp_path / "azure.json"
    output.write_text("as it was")
    price_list.replies = {2: [reply]}
    result = refresh(price_list, output, "--region", "eastus2")
    assert result.exit_code == 1
    assert said in result.output
    assert output.read_text() == "as it was"
    assert list(tmp_path.iterdir()) == [output]


def test_a_list_that_ends_nowhere_or_is_not_reached(price_list: PriceList) -> None:
    """Is given up, with growing pauses between the tries."""
    price_list.endless = True
    with pytest.raises(ServiceError, match="repeats its page"):
        list(retail_items("eastus2", url=price_list.url))
    price_list.endless = False
    cut = (200, {"Content-Length": "100000"}, b'{"Items": [')
    price_list.replies = {0: [(502, {}, b"")] * 3 + [cut]}
    pauses: list[float] = []
    assert len(list(retail_items("eastus2", url=price_list.url, pause=pauses.append))) == 11
    assert pauses == [1.0, 2.0, 4.0, 8.0]
    price_list.replies = {0: [(503, {"Retry-After": "30"}, b"")] * 5}
    with pytest.raises(TransientError, match="503"):
        list(retail_items("eastus2", url=price_list.url, pause=pauses.append))
    assert pauses[4:] == [30.0, 60.0, 120.0, 240.0]


def test_plan_and_doctor_say_that_a_model_ends(emulator: RunningEmulator, tmp_path: Path) -> None:
    """In time to move, and where the prices are from."""
    ends = (datetime.now(UTC) + timedelta(days=30)).date().isoformat()
    zones = {"global": {"input": 0.15, "output": 0.6, "batch_input": 0.075, "batch_output": 0.3}}
    document = {"as_of": "2026-11-29", "source": "a list of the test's own"}
    models = {"gpt-4o-mini": {"retires": ends, "zones": zones}}
    path = tmp_path / "prices.json"
    path.write_text(json.dumps({**document, "providers": {"azure": models}}))
    project = DbtProject(
        tmp_path,
        azure(
            emulator.url,
            emulator.api_key,
            prices_file=str(path),
            deployments={"gpt-4o-mini": ["gpt-4o-mini"]},
        ),
    )
    project.enrichment("notes_enriched", "select 1 as id, 'a' as note")
    text = f"gpt-4o-mini ends at Azure on {ends}, in 30 days"
    assert text in project.command("plan")
    findings = project.command("doctor")
    assert text in findings
    assert "a list of the test's own" in findings
    shown = project.command("prices", "show")
    assert ends in shown
    assert "USD for 1,000,000 tokens, of 2026-11-29" in shown

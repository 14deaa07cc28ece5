"""Azure's public list of retail prices, read page by page; it needs no key.

https://learn.microsoft.com/rest/api/cost-management/retail-prices/azure-retail-prices: pages of
JSON with `Items` and `NextPageLink`; prices of tokens are for `1K` or `1M` of them.
"""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from dbt_enrich.errors import ConfigurationError, ServiceError, TransientError

RETAIL_URL = "https://prices.azure.com/api/retail/prices"
_SECONDS = 60.0
_TRIES = 5
_FIRST_PAUSE = 1.0
_TRY_AGAIN = (408, 429, 500, 502, 503, 504)
# More than the list has by far; one that goes on for ever ends here.
_MOST_PAGES = 1_000


def retail_items(
    region: str,
    *,
    currency: str = "USD",
    url: str = RETAIL_URL,
    pause: Callable[[float], None] = time.sleep,
) -> Iterator[Mapping[str, Any]]:
    """Yield the items of the price list that are OpenAI's models in a region.

    Args:
        region: A region of Azure, such as `eastus2`.
        currency: What the prices are in.
        url: Where the list is.
        pause: Waits so many seconds before a page is asked for again.

    Raises:
        ServiceError: A page cannot be had, or is no page of the list.
    """
    query = {
        "currencyCode": f"'{currency}'",
        "$filter": f"contains(productName, 'OpenAI') and armRegionName eq '{region}' "
        "and priceType eq 'Consumption'",
    }
    page = f"{url}?{urllib.parse.urlencode(query, quote_via=urllib.parse.quote)}"
    seen: set[str] = set()
    while page:
        if page in seen or len(seen) >= _MOST_PAGES:
            raise ServiceError(f"the price list repeats its page {page}", fix="try later")
        seen.add(page)
        items, page = _page(page, pause)
        yield from items


def _page(url: str, pause: Callable[[float], None]) -> tuple[list[Mapping[str, Any]], str]:
    """Return the items of a page, and the address of the next one or an empty text."""
    if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
        raise ConfigurationError(f"{url} is no address of a price list", fix="write https://...")
    text = _read(url, pause)
    try:
        document = json.loads(text)
        items, following = document["Items"], document.get("NextPageLink")
        if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
            raise TypeError("Items is no list of objects")  # noqa: TRY301
        return items, str(following or "")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ServiceError(
            f"{url} is no page of the price list ({error!r})",
            fix="try later, or look whether a proxy answers in its place; no file was written",
        ) from None


def _read(url: str, pause: Callable[[float], None]) -> bytes:
    """Read an address, once more where the service is busy or not reached."""
    wait = _FIRST_PAUSE
    for left in reversed(range(_TRIES)):
        try:
            request = urllib.request.Request(url, headers={"Accept": "application/json"})  # noqa: S310
            with urllib.request.urlopen(request, timeout=_SECONDS) as reply:  # noqa: S310
                return bytes(reply.read())
        except urllib.error.HTTPError as error:
            if error.code not in _TRY_AGAIN:
                raise ServiceError(
                    f"{url} was refused with {error.code} ({error.reason})",
                    fix="check --url, --region and --currency",
                    status=error.code,
                ) from None
            problem = f"{error.code} ({error.reason})"
            asked = error.headers.get("Retry-After", "")
            wait = max(wait, float(asked)) if asked.isdigit() else wait
        except (OSError, EOFError) as error:
            problem = str(error)
        except Exception as error:  # noqa: BLE001 - http.client has errors that are no OSError
            problem = repr(error)
        if left:
            pause(wait)
            wait *= 2
    raise TransientError(
        f"{url} could not be read in {_TRIES} tries: {problem}",
        fix="check the network, or set HTTPS_PROXY; no file was written",
    )

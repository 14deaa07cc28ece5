"""Addresses that a user writes in the profile, checked without being quoted: one may hold a key."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import SplitResult, urlsplit

from dbt_enrich.errors import ConfigurationError

VISIBLE_ASCII: Final = re.compile(r"[\x21-\x7e]+")


def checked_url(key: str, url: str) -> SplitResult:
    """Split an address, refusing what is no plain HTTP address.

    Args:
        key: The profile's key that holds it.
        url: The address.

    Raises:
        ConfigurationError: It is none, or holds more than an address.
    """
    try:
        parts = urlsplit(url)
        port_is_good = parts.port is None or parts.port > 0
    except ValueError:
        port_is_good = False
    plain = port_is_good and VISIBLE_ASCII.fullmatch(url) is not None
    if not plain or parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigurationError(
            f"`{key}` is not an address",
            fix="write it with https:// and the host's name, such as https://NAME.openai.azure.com",
        )
    if parts.username is not None or parts.password is not None:
        raise ConfigurationError(
            f"`{key}` holds a user or a password before the @",
            fix="write the address alone, and the key as `api_key`",
        )
    if parts.query or parts.fragment:
        raise ConfigurationError(
            f"`{key}` holds more than an address",
            fix="leave out everything from the ? or # on; a version belongs in `api_version`",
        )
    return parts

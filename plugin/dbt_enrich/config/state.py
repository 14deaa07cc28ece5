"""The keys under `state`: where the ledger and the files are that several machines share."""

from __future__ import annotations

import re
from typing import Final

from pydantic import SecretStr, field_validator

from dbt_enrich.config.keys import Keys
from dbt_enrich.errors import WrongValueError

_SCHEMES: Final = ("postgresql://", "postgres://")
_KEYWORDS = re.compile(r"(\w+ ?= ?('[^']*'|\S+)\s*)+")
_SCHEMA = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")


class StateKeys(Keys):
    """Where the state is that several machines share.

    Attributes:
        ledger: The ledger's Postgres: `postgresql://USER@HOST/DATABASE`, or `service=NAME` of the
            service file. The password is best left to the environment (`PGPASSWORD`) or to the
            password file.
        ledger_schema: The schema of the ledger's tables, made where it is not there.
    """

    ledger: SecretStr
    ledger_schema: str = "dbt_enrich"

    @field_validator("ledger")
    @classmethod
    def _address(cls, value: SecretStr) -> SecretStr:
        text = value.get_secret_value().strip()
        # libpq reads it when it is opened, and quotes what it cannot read, passwords with it.
        if not (text.startswith(_SCHEMES) or _KEYWORDS.fullmatch(text)):
            raise WrongValueError(
                "is no address of a Postgres database",
                fix="write it like postgresql://USER@HOST/DATABASE, or service=NAME",
            )
        return SecretStr(text)

    @field_validator("ledger_schema")
    @classmethod
    def _plain_schema(cls, value: str) -> str:
        if not _SCHEMA.fullmatch(value):
            raise WrongValueError("must be 1 to 63 letters, digits or '_', beginning with a letter")
        return value

"""The keys under `state`: where the ledger and the files are that several machines share."""

from __future__ import annotations

import hashlib
import re
from typing import Final

from pydantic import SecretStr, field_validator

from dbt_enrich.config.bucket_address import BucketAddress, parse_bucket_address
from dbt_enrich.config.keys import Keys
from dbt_enrich.errors import WrongValueError

TARGET_LEDGER: Final = "target"
"""What `ledger` says in place of an address where it is the server of the profile's target."""

_SCHEMES: Final = ("postgresql://", "postgres://")
_KEYWORDS = re.compile(r"(\w+ ?= ?('[^']*'|\S+)\s*)+")
_PASSWORD = re.compile(r"://[^/@]*:[^/@]*@|\bpassword ?=", re.IGNORECASE)
_SCHEMA = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")


def holds_password(address: str) -> bool:
    """Whether an address of a Postgres database has a password in it."""
    return _PASSWORD.search(address) is not None


class StateKeys(Keys):
    """Where the state is that several machines share.

    Attributes:
        ledger: The ledger's Postgres: `postgresql://USER@HOST/DATABASE`, or `service=NAME` of the
            service file. The password is best left to the environment (`PGPASSWORD`) or to the
            password file. Or `target`: the server of a target of dbt-postgres, as the profile has
            it.
        ledger_schema: The schema of the ledger's tables, made where it is not there.
        files: The bucket of the answers: `az://CONTAINER/PREFIX`, `s3://BUCKET/PREFIX`,
            `gs://BUCKET/PREFIX` (untried against Google's own) or `file:///SHARED/PATH`.
            Credentials come from the environment (`AZURE_STORAGE_…`, `AWS_…`, `GOOGLE_…`) or are
            the machine's own.
    """

    ledger: SecretStr
    ledger_schema: str = "dbt_enrich"
    files: str

    @field_validator("ledger")
    @classmethod
    def _address(cls, value: SecretStr) -> SecretStr:
        text = value.get_secret_value().strip()
        # libpq reads it when it is opened, and quotes what it cannot read, passwords with it.
        is_address = text.startswith(_SCHEMES) or _KEYWORDS.fullmatch(text)
        if not (is_address or text == TARGET_LEDGER):
            raise WrongValueError(
                "is no address of a Postgres database",
                fix="write it like postgresql://USER@HOST/DATABASE, or service=NAME; or target, "
                "for the server of a target of dbt-postgres",
            )
        return SecretStr(text)

    @field_validator("files")
    @classmethod
    def _bucket(cls, value: str) -> str:
        return str(parse_bucket_address(value.strip()))

    @property
    def bucket(self) -> BucketAddress:
        """Where the answers are."""
        return parse_bucket_address(self.files)

    @property
    def is_in_target(self) -> bool:
        """Whether the ledger is in the server of the profile's target, whichever that is."""
        return self.ledger.get_secret_value() == TARGET_LEDGER

    @property
    def directory(self) -> str:
        """The name of the directory of a machine's own files, in its `state_dir`.

        Those of a state that the machine has alone are apart from it, and another bucket's.
        """
        return f"shared-{hashlib.sha256(self.files.encode()).hexdigest()[:8]}"

    @field_validator("ledger_schema")
    @classmethod
    def _plain_schema(cls, value: str) -> str:
        if not _SCHEMA.fullmatch(value):
            raise WrongValueError("must be 1 to 63 letters, digits or '_', beginning with a letter")
        return value

"""What every set of the profile's keys has in common: it is strict, frozen, and shows no secret."""

from __future__ import annotations

from typing import NoReturn

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator


class Keys(BaseModel):
    """Keys of the profile. An unknown one is refused; a secret is shown as stars."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @field_validator("*", mode="before")
    @classmethod
    def _empty_is_none(cls, value: object, info: ValidationInfo) -> object:
        """Take an empty text, which an unset environment variable leaves, for no value."""
        is_optional = cls.model_fields[str(info.field_name)].default is None
        return value.strip() or None if is_optional and isinstance(value, str) else value

    def __reduce__(self) -> NoReturn:
        # Pickles travel to logs and other processes, with the secrets in them.
        raise TypeError("settings cannot be pickled, as they may hold a secret")

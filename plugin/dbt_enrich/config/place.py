"""Where a configuration is written, as messages and their fixes name it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from dbt_enrich.errors import ConfigurationError

PROJECT_FILE: Final = "dbt_enrich.yml"
"""The file beside dbt_project.yml that holds the configuration where the profile has none."""


@dataclass(frozen=True)
class Place:
    """Where a configuration is written.

    Attributes:
        name: What it is called in a sentence.
        file: The file.
        block: The part of the file that is ours, with the file's name.
        variable_form: How an environment's variable is written there, around `NAME`.
    """

    name: str
    file: str
    block: str
    variable_form: str

    def variable(self, name: str) -> str:
        """Return what is written there for the value of an environment's variable."""
        return self.variable_form.replace("NAME", name)


PROFILE: Final = Place(
    name="the profile",
    file="profiles.yml",
    block="profiles.yml: the config of the plugin dbt_enrich.plugin",
    variable_form="\"{{ env_var('NAME') }}\"",
)
FILE: Final = Place(
    name=PROJECT_FILE, file=PROJECT_FILE, block=PROJECT_FILE, variable_form="${NAME}"
)
CALL: Final = Place(
    name="the config of enrich",
    file="the config of enrich",
    block="the config of enrich",
    variable_form="os.environ['NAME']",
)


def unset_variable(place: Place, key: str, variable: str) -> ConfigurationError:
    """Return the error of a key whose variable is not set.

    Args:
        place: Where the key is.
        key: It, below others by dots.
        variable: The environment's variable.
    """
    return ConfigurationError(
        f"{place.file}: `{key}` is {place.variable(variable)}, and {variable} is not set",
        fix=f"set {variable} in the environment, or correct `{key}`",
    )

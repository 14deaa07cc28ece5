"""The profile's block: what a user may set, read and checked once."""

from dbt_enrich.config.common import PluginConfig
from dbt_enrich.config.profile import parse_config

__all__ = ["PluginConfig", "parse_config"]

"""The profile's block, or the project's file: what a user may set, read and checked once."""

from dbt_enrich.config.common import PluginConfig
from dbt_enrich.config.profile import parse_config
from dbt_enrich.config.project_file import read_project_file

__all__ = ["PluginConfig", "parse_config", "read_project_file"]

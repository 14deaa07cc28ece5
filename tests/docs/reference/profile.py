"""The page of the plugin's block in profiles.yml."""

from __future__ import annotations

from batch_server.responders import UpstreamOptions
from dbt_enrich.config.azure import AzureConfig
from dbt_enrich.config.common import PluginConfig
from dbt_enrich.config.credential import EntraKeys
from dbt_enrich.config.local import LocalConfig
from dbt_enrich.config.openai import OpenAIConfig
from dbt_enrich.config.profile import CONFIGS, INTERNAL
from dbt_enrich.config.remote import RemoteConfig
from dbt_enrich.config.state import StateKeys
from dbt_enrich.cost.caps import Cap, Caps
from docs.reference.keys import dataclass_keys, either, key, keys
from docs.reference.markdown import attributes, page, table


def profile() -> str:
    """Write the page of the plugin's block in profiles.yml."""
    return page(
        "The profile",
        "The keys of `config:` under the plugin `dbt_enrich.plugin` in `profiles.yml`. Keys of "
        "another provider may stand in a block that several targets share. Those of `local` and of "
        "Microsoft Entra ID are ignored elsewhere. An address, a version or a key that does not "
        "belong to the provider is refused before anything is sent.",
        "## Every provider\n",
        _provider_key(),
        keys(PluginConfig, without=["provider", *INTERNAL]),
        "## `caps`\n",
        "Below `caps:`, in `run:` and in `day:`.\n",
        table(["key", "what it caps"], ([f"`{n}`", text] for n, text in attributes(Caps).items())),
        keys(Cap),
        "## `state`\n",
        "Below `state:`, with the extra `remote`. See [Runners that share one state]"
        "(../guides/state.md#runners-that-share-one-state).\n",
        keys(StateKeys),
        "## `azure` and `openai`\n",
        keys(RemoteConfig),
        "## `azure`\n",
        keys(AzureConfig, without=["provider"]),
        "## `openai`\n",
        keys(OpenAIConfig, without=["provider"]),
        "## Microsoft Entra ID\n",
        "For `azure`, in place of `api_key`; with the extra `azure`.\n",
        keys(EntraKeys, without=INTERNAL),
        "## `local`\n",
        keys(LocalConfig, without=["provider"]),
        "## `upstream`\n",
        "Below `upstream:`, with `responder: upstream`.\n",
        dataclass_keys(UpstreamOptions),
    )


def _provider_key() -> str:
    return key("provider", either(CONFIGS), ..., attributes(PluginConfig)["provider"])

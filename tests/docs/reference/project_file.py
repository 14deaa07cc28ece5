"""The page of dbt_enrich.yml."""

from __future__ import annotations

from collections.abc import Iterable

from dbt_enrich.config.place import PROJECT_FILE
from dbt_enrich.config.profile import CONFIGS
from dbt_enrich.config.project_file import SECRETS, TARGETS, deferred_keys
from docs.reference.keys import either
from docs.reference.markdown import page


def project_file() -> str:
    """Write the page of dbt_enrich.yml."""
    secrets = sorted(SECRETS)
    deferred = sorted({key for kind in CONFIGS.values() for key in deferred_keys(kind)})
    return page(
        f"`{PROJECT_FILE}`",
        "The configuration beside `dbt_project.yml`, for a target whose profile has no block of "
        "dbt-enrich: another adapter's, dbt 2's, or one that you want to commit. Its keys are "
        "those of [the profile](profile.md), with `targets` beside them. Where the profile's "
        "plugin has a `config`, that whole block wins, and the file is not read. "
        "[Hosts](../hosts/index.md) says which door a project uses.",
        "## Targets\n",
        f"The keys at the top hold for every target of the profile. Below `{TARGETS}` each target "
        "has its own, which win key by key. Where there is `targets`, it names every target that "
        "is run: `ci: {}` takes the shared keys alone. A target with another `provider` than the "
        "shared one takes none of the shared provider's own keys, so that no address or key goes "
        "to another service.\n",
        "```yaml\n"
        f"# {PROJECT_FILE}\n"
        "provider: azure\n"
        "endpoint: https://my-resource.openai.azure.com\n"
        "api_key: ${AZURE_OPENAI_API_KEY}\n"
        "deployments: {gpt-4o-mini: [my-global-batch-deployment]}\n"
        "targets:\n"
        "  dev: {provider: local}\n"
        "  prod:\n"
        "    caps: {run: {max_cost: 50}}\n"
        "```\n",
        "## Secrets and variables\n",
        "`${NAME}` is the value of the environment's variable `NAME`, anywhere in a text. Jinja is "
        "refused: dbt does not read this file.\n",
        f"The value of {_all(secrets)} is one such name and nothing else, as the file is meant to "
        "be committed. So is `state.ledger`, where the address holds a password.\n",
        f"A variable of {_all(deferred)} that is not set is named once the service is to be "
        "called, so that dbt goes on without a key. Any other is named at once: where the state "
        "lies, and what may be spent, is never guessed.\n",
    )


def _all(keys: Iterable[str]) -> str:
    return either(keys).replace(" or ", " and ")

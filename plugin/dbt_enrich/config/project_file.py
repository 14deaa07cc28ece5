"""`dbt_enrich.yml`: the configuration beside dbt_project.yml, where the profile can have none.

The same keys as those of the profile's block: for all targets at the top, for one below `targets`.
The file is committed, so that a secret stands in it as the name of an environment's variable alone.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, get_args

import yaml
from pydantic import SecretStr

from dbt_enrich.config.common import PluginConfig
from dbt_enrich.config.place import FILE, PROJECT_FILE, unset_variable
from dbt_enrich.config.profile import CONFIGS, KEYS, parse_config, refusal
from dbt_enrich.config.state import holds_password
from dbt_enrich.errors import ConfigurationError
from dbt_enrich.wording import near_match

TARGETS: Final = "targets"
"""The key that holds the keys of single targets."""

_VARIABLE = re.compile(r"\$\{([^}]*)\}")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_LEDGER = "state.ledger"
SECRETS: Final = frozenset(
    key
    for config in CONFIGS.values()
    for key, field in config.model_fields.items()
    if SecretStr in (field.annotation, *get_args(field.annotation))
)
"""The keys whose value is a variable's name alone, beside `state.ledger` with a password."""


def read_project_file(root: Path, target: str) -> PluginConfig | None:
    """Read the configuration of a target, where the project has one.

    A variable that is not set is named once its key is needed: a key of the service when the
    service is to be called, any other at once.

    Args:
        root: The dbt project's directory.
        target: The profile's target.

    Returns:
        The configuration, with relative paths, or None where there is no such file.

    Raises:
        ConfigurationError: The file cannot be read, or a key or target is unknown, missing or
            wrong.
    """
    document = _document(root / PROJECT_FILE)
    if document is None:
        return None
    _refuse_unknown(document, "")
    values = _of_target(document, target)
    for key, value in _texts(values, ""):
        _refuse_text(key, value)
    provider = _resolved("provider", values.get("provider"))
    unset = {} if provider not in CONFIGS else _deferred(values, CONFIGS[str(provider)])
    given = {key: _resolved(key, value) for key, value in values.items() if key not in unset}
    return parse_config(given, duckdb_settings={}, place=FILE, unset=unset)


def _document(path: Path) -> dict[str, Any] | None:
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, yaml.YAMLError) as error:
        # Without what is quoted of the file, which may be a secret.
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}" if mark else ""
        raise refusal(FILE, f"cannot be read{where} ({type(error).__name__})") from None
    if not isinstance(found, dict):
        raise refusal(FILE, "holds no keys", f"set provider to {' or '.join(CONFIGS)}")
    return found


def _refuse_unknown(document: Mapping[Any, Any], below: str) -> None:
    """Refuse keys that are not ours, of every target: a typo shows before its target is run."""
    known = KEYS if below else KEYS | {TARGETS}
    for key in document:
        if key not in known:
            fix = near_match(str(key), known) or f"use one of the keys {', '.join(sorted(known))}"
            raise refusal(FILE, f"has the unknown key '{below}{key}'", fix)
    targets = {} if below else document.get(TARGETS, {})
    if not isinstance(targets, dict):
        raise refusal(FILE, f"is wrong: '{TARGETS}' must have keys and values")
    for name, keys in targets.items():
        if not isinstance(keys, dict):
            raise refusal(
                FILE,
                f"is wrong: '{TARGETS}.{name}' must have keys and values",
                f"write '{name}: {{}}' for the shared keys alone",
            )
        _refuse_unknown(keys, f"{TARGETS}.{name}.")


def _of_target(document: Mapping[str, Any], target: str) -> dict[str, Any]:
    """Return a target's keys, with those of all targets where it has none of its own."""
    shared = {key: value for key, value in document.items() if key != TARGETS}
    targets = {str(name): keys for name, keys in document.get(TARGETS, {}).items()}
    if not targets:
        return shared
    if target not in targets:
        fix = f"write '{target}: {{}}' below {TARGETS} for the shared keys alone"
        meant = near_match(target, targets)
        raise refusal(FILE, f"has no target '{target}'", f"{meant} Else {fix}" if meant else fix)
    own = targets[target]
    if own.get("provider", shared.get("provider")) != shared.get("provider"):
        # Another service's address and key must not be taken for this one's.
        shared = {key: value for key, value in shared.items() if key in PluginConfig.model_fields}
    return {**shared, **own}


def _texts(value: Any, key: str) -> Iterator[tuple[str, str]]:
    """Yield all texts of a value with their keys, below others by dots."""
    if isinstance(value, str):
        yield key, value
    inner: Any = value.items() if isinstance(value, dict) else ()
    if isinstance(value, list):
        inner = enumerate(value)
    for name, one in inner:
        yield from _texts(one, f"{key}.{name}" if key else str(name))


def _refuse_text(key: str, text: str) -> None:
    """Refuse a secret, and what would not be read as it is meant. No text is quoted."""
    if "{{" in text or "{%" in text:
        raise _wrong(key, "is an expression of dbt's, which dbt does not read here")
    for name in _VARIABLE.findall(text):
        if not _NAME.fullmatch(name):
            raise _wrong(key, "has no name of an environment's variable between ${ and }")
    is_secret = key in SECRETS or (key == _LEDGER and holds_password(text))
    if is_secret and text.strip() and not _VARIABLE.fullmatch(text.strip()):
        raise _wrong(key, "is a secret, and the file is meant to be committed")


def _wrong(key: str, problem: str) -> ConfigurationError:
    variable = FILE.variable(key.rsplit(".", 1)[-1].upper())
    return refusal(
        FILE,
        f"is wrong: '{key}' {problem}",
        f"put the value into an environment variable and write its name, such as {variable}",
    )


def _deferred(values: Mapping[str, Any], config: type[PluginConfig]) -> dict[str, str]:
    """Return the keys of the service alone whose variable is not set: which.

    The others say where the state is, or how much may be spent: they are never left out.
    """
    return {
        key: missing
        for key, value in values.items()
        if key in deferred_keys(config) and isinstance(value, str) and (missing := _missing(value))
    }


def deferred_keys(config: type[PluginConfig]) -> tuple[str, ...]:
    """Return the keys of a provider whose variable may be unset until the service is called."""
    return tuple(
        key
        for key, field in config.model_fields.items()
        if key not in PluginConfig.model_fields and field.default is None
    )


def _missing(text: str) -> str | None:
    return next((name for name in _VARIABLE.findall(text) if not os.environ.get(name)), None)


def _resolved(key: str, value: Any) -> Any:
    """Return a value with the environment's variables in it."""
    if isinstance(value, dict):
        return {name: _resolved(f"{key}.{name}", inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_resolved(f"{key}.{place}", inner) for place, inner in enumerate(value)]
    if not isinstance(value, str):
        return value
    missing = _missing(value)
    if missing:
        raise unset_variable(FILE, key, missing)
    return _VARIABLE.sub(lambda found: os.environ[found[1]], value)

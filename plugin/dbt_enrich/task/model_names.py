"""What a dbt model is called: `a`, `a.v1`, or `package.a` where two packages have one of the name.

The ledger knows models by dbt's unique id, `model.<package>.<name>` with `.v<version>` at the end
of a versioned one; people name them as dbt's own `--select` does.
"""

from __future__ import annotations

from collections.abc import Collection

from dbt_enrich.errors import ConfigurationError


def label(unique_id: str | None, among: Collection[str] = ()) -> str:
    """Return what a model is called, with its package where another model has the name.

    Args:
        unique_id: dbt's unique id, or None where the model is unknown.
        among: The unique ids of the models beside which it is named.

    >>> label("model.shop.tickets.v2", ["model.shop.tickets.v1"])
    'tickets.v2'
    >>> label("model.shop.tickets", ["model.crm.tickets"])
    'shop.tickets'
    """
    if unique_id is None:
        return "?"
    package, name = _parts(unique_id)
    is_alone = all(_parts(other)[1] != name for other in among if other != unique_id)
    return name if is_alone or not package else f"{package}.{name}"


def labels(unique_ids: Collection[str]) -> dict[str, str]:
    """Return what each of some models is called beside the others, by unique id."""
    return {unique_id: label(unique_id, unique_ids) for unique_id in unique_ids}


def chosen(names: Collection[str], known: Collection[str]) -> set[str]:
    """Return the unique ids of the models that a user names; none if none is named.

    Args:
        names: What was typed: a name, with version and package or without, or a unique id.
        known: The unique ids of the models that the ledger knows.

    Raises:
        ConfigurationError: A name fits no model, or more than one.
    """
    return {_one(name, known) for name in names}


def _one(name: str, known: Collection[str]) -> str:
    if name in known:
        return name
    found = [unique_id for unique_id in sorted(known) if name in _spellings(unique_id)]
    if not found:
        text = ", ".join(sorted(labels(known).values())) or "none"
        raise ConfigurationError(
            f"the model '{name}' was never run with this profile. Models that were: {text}",
            fix=f"run `dbt-enrich run --select {name}` first, or name one of them",
        )
    if len(found) > 1:
        text = ", ".join(_shortest(unique_id, known) for unique_id in found)
        raise ConfigurationError(
            f"the name '{name}' fits {len(found)} models: {text}", fix="name one of them"
        )
    return found[0]


def _shortest(unique_id: str, known: Collection[str]) -> str:
    """Return the shortest spelling that fits this model alone."""
    text = label(unique_id, known)
    fits = [other for other in known if text in _spellings(other)]
    return text if fits == [unique_id] else unique_id


def _spellings(unique_id: str) -> set[str]:
    """Return all ways to name a model: `a.v1`, `a_v1` and `a`, each with its package or without."""
    package, name = _parts(unique_id)
    base, mark, version = name.rpartition(".v")
    names = {name, base, f"{base}_v{version}"} if mark else {name}
    return {unique_id, *names, *(f"{package}.{name}" for name in names if package)}


def _parts(unique_id: str) -> tuple[str, str]:
    """Split a unique id into package and name with version."""
    kind, _, rest = unique_id.partition(".")
    package, dot, name = rest.partition(".")
    return (package, name) if dot and kind == "model" else ("", unique_id)

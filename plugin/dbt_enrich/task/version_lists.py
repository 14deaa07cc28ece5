"""Lists in `meta.enrichment` of a versioned model, which dbt joins to those of its version.

dbt merges a version's `config` deeply into the model's own and joins lists, the version's first:
`output: [a]` above and `output: [a, b]` of the version become `[a, b, a]`. Where the block is
written in several other places (folders of dbt_project.yml, the YAML, `config()` in the SQL), dbt
takes the whole block of the nearest one and joins nothing. Tried with dbt-core 1.11.16 and 1.12.6.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from dbt_enrich.errors import ConfigurationError


@dataclass(frozen=True)
class VersionBlocks:
    """The two blocks `meta.enrichment` that dbt merges, as the YAML has them.

    Attributes:
        model: The one of the model, for all its versions.
        version: The one of the version.
    """

    model: Mapping[str, Any]
    version: Mapping[str, Any]


def blocks_in(path: Path, name: str, version: object) -> VersionBlocks | None:
    """Return the blocks of a model's version in a YAML file, or None if they are not found.

    Args:
        path: The file that describes the model.
        name: The model's name, without version.
        version: The version.
    """
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return None
    for model in _mappings(document, "models"):
        for one in _mappings(model, "versions") if model.get("name") == name else ():
            if str(one.get("v")) == str(version):
                return VersionBlocks(_block(model), _block(one))
    return None


def separated(
    meta: Mapping[str, Any], blocks: VersionBlocks, *, model: str, path: str = "meta.enrichment"
) -> dict[str, Any]:
    """Return `meta.enrichment` with the version's own lists in place of joined ones.

    Only where the version's list has everything that the model's has: then it can be meant in no
    other way.

    Args:
        meta: The block as dbt hands it over, merged and rendered.
        blocks: The blocks that it was merged from.
        model: What the model is called, for messages.
        path: Where the block is.

    Raises:
        ConfigurationError: A list may be meant to replace the model's, or to extend it.
    """
    found = dict(meta)
    for key, own in blocks.version.items():
        above, merged = blocks.model.get(key), meta.get(key)
        if isinstance(own, Mapping) and isinstance(above, Mapping) and isinstance(merged, Mapping):
            inner = VersionBlocks(above, own)
            found[key] = separated(merged, inner, model=model, path=f"{path}.{key}")
        elif isinstance(merged, list) and _is_joined(merged, own, above):
            mine, theirs = merged[: len(own)], merged[len(own) :]
            if not all(item in mine for item in theirs):
                raise ConfigurationError(
                    f"model '{model}': dbt joins the list {path}.{key} of this version to the one "
                    f"above the versions, and makes it {_said(merged)}",
                    fix="write the whole list in each version, and none above them",
                )
            found[key] = mine
    return found


def _is_joined(merged: Sequence[Any], own: Any, above: Any) -> bool:
    """Whether a list is a version's and, after it, the model's; SQL's `config()` replaces both."""
    if not all(isinstance(value, list) and value for value in (own, above)):
        return False
    written = [*own, *above]
    return len(merged) == len(written) and all(
        one == other or "{{" in str(other) for one, other in zip(merged, written, strict=True)
    )


def _mappings(document: object, key: str) -> Sequence[Mapping[str, Any]]:
    values = document.get(key) if isinstance(document, Mapping) else None
    return [one for one in values if isinstance(one, Mapping)] if isinstance(values, list) else []


def _block(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    # dbt refuses `meta` in both places.
    for place in (entry.get("config"), entry):
        meta = place.get("meta") if isinstance(place, Mapping) else None
        block = meta.get("enrichment") if isinstance(meta, Mapping) else None
        if isinstance(block, Mapping):
            return block
    return {}


def _said(values: Sequence[object]) -> str:
    if all(isinstance(value, str) for value in values):
        return f"[{', '.join(map(str, values))}]"
    return f"one of {len(values)} items"

"""What changed between two versions of a task, in the words of its YAML."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from typing import Any

Document = Mapping[str, Any]
_NAMES = {
    "answered_by": "who answers",
    "model": "model",
    "system": "system text",
    "user": "user template",
    "optional": "optional columns",
    "response": "form of the response",
    "variant": "variant",
    "images": "pictures",
    "key_version": "version of the identity",
}


def task_changes(before: Document, after: Document) -> list[str]:
    """Name what differs, such as `system text` or `description of categories`.

    Args:
        before: The canonical document of the previous task.
        after: The canonical document of the task as it is now.
    """
    changed = [name for key, name in _NAMES.items() if before.get(key) != after.get(key)]
    changed += _parameter_changes(before.get("parameters") or {}, after.get("parameters") or {})
    changed += _example_changes(before.get("examples") or [], after.get("examples") or [])
    return changed + _output_changes(_outputs(before), _outputs(after))


def task_diff(before: Document, after: Document, *, names: tuple[str, str]) -> str:
    """Return the unified diff between two tasks as their users would read them.

    Args:
        before: The canonical document of the previous task.
        after: The canonical document of the later one.
        names: What the two are called in the diff's head.
    """
    lines = difflib.unified_diff(_lines(before), _lines(after), *names, lineterm="", n=2)
    return "\n".join(lines)


def _parameter_changes(before: Document, after: Document) -> list[str]:
    names = sorted({*before, *after})
    return [f"parameter {name}" for name in names if before.get(name) != after.get(name)]


def _example_changes(before: list[Any], after: list[Any]) -> list[str]:
    if before == after:
        return []
    if len(before) != len(after):
        return [f"examples ({len(before)} before, {len(after)} now)"]
    places = [
        str(place)
        for place, (one, other) in enumerate(zip(before, after, strict=True), start=1)
        if one != other
    ]
    return [f"example {', '.join(places)}"]


def _output_changes(before: Document, after: Document) -> list[str]:
    changed = [f"column {name} is new" for name in after if name not in before]
    changed += [f"column {name} is gone" for name in before if name not in after]
    for name in after:
        if name not in before:
            continue
        keys = sorted({*before[name], *after[name]})
        changed += [
            f"{key.replace('data_type', 'type')} of {name}"
            for key in keys
            if before[name].get(key) != after[name].get(key)
        ]
    return changed


def _outputs(document: Document) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for output in document.get("outputs") or []:
        found[str(output.get("name"))] = {k: v for k, v in output.items() if k != "name"}
    return found


def _lines(document: Document) -> list[str]:
    """Write a task with one line of text for each line of its prompt."""
    lines: list[str] = []
    for key, value in document.items():
        if isinstance(value, str) and "\n" in value:
            lines += [f"{key}: |", *(f"  {line}" for line in value.splitlines())]
        elif isinstance(value, list) and value:
            items = (json.dumps(item, ensure_ascii=False) for item in value)
            lines += [f"{key}:", *(f"  - {item}" for item in items)]
        else:
            lines.append(f"{key}: {json.dumps(value, ensure_ascii=False)}")
    return lines

"""Adding one item to a list in a YAML text, with every other character left as it is.

A YAML library that writes the whole document again changes indentation, quotes and line ends that
nobody asked it to. Here the place is found by the parser that dbt uses, the item is put in as text,
and the outcome is read back: it must be what it was, with the item at the end of the list.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import yaml


class NoPlaceError(Exception):
    """Text cannot be put in at a list's place; the text says why."""


def with_item(text: str, path: Sequence[str], item: str) -> str:
    """Return a YAML text with an item at the end of a list.

    Args:
        text: A document, which may be empty.
        path: The keys that lead to the list. All but the last must be there.
        item: The item, as YAML in block style.

    Raises:
        NoPlaceError: The list's place is not one where text can be put in safely.
        YAMLError: The text is no YAML.
    """
    line_end = "\r\n" if "\r\n" in text else "\n"
    after = _inserted(text, path, item.splitlines()).replace("\r\n", "\n")
    after = after.replace("\n", line_end)
    _verify(text, after, path, yaml.safe_load(item))
    return after


def _inserted(text: str, path: Sequence[str], item: list[str]) -> str:
    *parents, name = path
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    floor = 0
    for key in parents:
        floor, node = _entry(node, key) or (0, None)
    if node is None or _is_null(node):
        if parents:
            raise NoPlaceError("its place is not there")
        return _after_line(text, len(text), [f"{name}:", *_dashed(item, "  ")])
    if not isinstance(node, yaml.MappingNode):
        raise NoPlaceError("its place holds no keys")
    found = _entry(node, name)
    if found is None:
        return _with_list(text, node, floor, name, item)
    floor, listed = found
    if isinstance(listed, yaml.SequenceNode):
        return _with_last(text, listed, floor, item)
    if not _is_null(listed):
        raise NoPlaceError("it is no list")
    head, tail = text[: listed.start_mark.index], text[listed.end_mark.index :]
    kept = head + tail
    if node.flow_style:
        return f"{head.rstrip()} [{_flow(item)}]{tail}"
    return _after_line(kept, floor, _dashed(item, " " * (_column(node) + 2)))


def _with_list(text: str, node: yaml.MappingNode, floor: int, name: str, item: list[str]) -> str:
    """Add the list itself, with its one item, to a mapping."""
    if node.flow_style:
        return _before_bracket(text, node, f'"{name}": [{_flow(item)}]')
    pad = " " * _column(node)
    return _after_line(text, _end(node, floor), [f"{pad}{name}:", *_dashed(item, f"{pad}  ")])


def _with_last(text: str, node: yaml.SequenceNode, floor: int, item: list[str]) -> str:
    if node.flow_style:
        return _before_bracket(text, node, _flow(item))
    first = node.value[0].start_mark.index
    dash = len(text[:first].rstrip()) - 1
    pad = " " * (dash - text.rfind("\n", 0, dash) - 1)
    return _after_line(text, _end(node, floor), _dashed(item, pad))


def _before_bracket(text: str, node: yaml.CollectionNode, addition: str) -> str:
    """Put text into a collection in flow style, before what closes it."""
    last = node.end_mark.index - 1
    kept = text[:last].rstrip()
    comma = "" if not node.value else " " if kept.endswith(",") else ", "
    return f"{kept}{comma}{addition}{text[len(kept) : last]}{text[last:]}"


def _after_line(text: str, index: int, lines: list[str]) -> str:
    """Put lines in after the one that holds a place."""
    end = text.find("\n", index)
    head, tail = (text, "") if end < 0 else (text[: end + 1], text[end + 1 :])
    gap = "" if not head or head.endswith("\n") else "\n"
    return head + gap + "\n".join(lines) + "\n" + tail


def _dashed(item: list[str], pad: str) -> list[str]:
    return [f"{pad}{'  ' if place else '- '}{line}" for place, line in enumerate(item)]


def _flow(item: list[str]) -> str:
    return json.dumps(yaml.safe_load("\n".join(item)), ensure_ascii=False)


def _entry(node: yaml.Node | None, name: str) -> tuple[int, yaml.Node] | None:
    """Return where a mapping's key ends, and its value; of a key that is there twice, the last."""
    if not isinstance(node, yaml.MappingNode):
        return None
    for key, value in reversed(node.value):
        if key.value == name:
            return key.end_mark.index, value
    return None


def _end(node: yaml.Node, floor: int) -> int:
    """Return where a node's text ends, comments after it not included.

    Args:
        node: The node. Of an alias it is the node that is meant, which stands further up.
        floor: A place that is certainly before the end.
    """
    if isinstance(node, yaml.ScalarNode) and node.style in ("|", ">"):
        buffer = node.end_mark.buffer
        index: int = node.end_mark.index
        if buffer is not None:
            index = len(buffer[:index].rstrip("\0 \r\n"))
        return max(index, floor)
    if isinstance(node, yaml.CollectionNode) and not node.flow_style:
        for child in _children(node):
            floor = max(floor, _end(child, floor))
        return floor
    return max(node.end_mark.index, floor)


def _children(node: yaml.CollectionNode) -> Iterator[yaml.Node]:
    for child in node.value:
        yield from child if isinstance(child, tuple) else (child,)


def _column(node: yaml.MappingNode) -> int:
    """Return the column of a mapping's keys; the mapping itself may begin with an anchor."""
    return int(node.value[0][0].start_mark.column) if node.value else 0


def _is_null(node: yaml.Node) -> bool:
    return node.tag == "tag:yaml.org,2002:null"


def _verify(before: str, after: str, path: Sequence[str], item: Any) -> None:
    """Refuse an outcome that is anything but the previous document with the item in its list."""
    try:
        found = yaml.safe_load(after)
    except yaml.YAMLError as error:
        raise NoPlaceError("it is written in a way that allows no addition") from error
    previous = yaml.safe_load(before)
    place = found
    for key in path:
        place = place.get(key) if isinstance(place, dict) else None
    is_there = isinstance(place, list) and place[-1:] == [item]
    if not is_there or not _has_only_grown(previous or {}, found, path[-1], item):
        raise NoPlaceError("it is written in a way that allows no addition")


def _has_only_grown(before: Any, after: Any, name: str, item: Any) -> bool:
    """Whether all is as it was, save lists of a name that have the item more.

    Several, as a mapping with an anchor may be merged into others.
    """
    if isinstance(before, dict) and isinstance(after, dict):
        return before.keys() <= after.keys() and all(
            _has_only_grown(before[key], value, name, item)
            if key in before and (key != name or before[key] == value)
            else key == name and value == [*(before.get(key) or []), item]
            for key, value in after.items()
        )
    return bool(before == after)

"""Lists that dbt joins between a model and its version: taken right, or refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from dbt_common.utils import deep_merge
from dbt_enrich.errors import ConfigurationError
from dbt_enrich.task.version_lists import VersionBlocks, blocks_in, separated

ABOVE: dict[str, Any] = {
    "model": "gpt-4o-mini",
    "output": ["a"],
    "parameters": {"temperature": 0, "stop": ["x"]},
    "examples": [{"user": "one", "answer": {"a": "1"}}],
}


def merged(own: dict[str, Any], above: dict[str, Any]) -> tuple[dict[str, Any], VersionBlocks]:
    """What dbt makes of the two blocks, by its own function, and the blocks."""
    return deep_merge(above, own), VersionBlocks(above, own)


@pytest.mark.parametrize(
    "own",
    [
        {"output": ["a", "b"]},
        {"output": ["b", "a"], "parameters": {"stop": ["x", "y"]}},
        {"examples": [*ABOVE["examples"], {"user": "two", "answer": {"a": "2"}}]},
        {"output": ["a"], "system": "another"},
        {"user": "{note}"},
    ],
)
def test_a_version_s_list_that_has_all_is_taken(own: dict[str, Any]) -> None:
    """It extends the model's, or stands in its place: both are the same."""
    meta, blocks = merged(own, ABOVE)
    found = separated(meta, blocks, model="m.v2")
    expected = {**ABOVE, **own, "parameters": {**ABOVE["parameters"], **own.get("parameters", {})}}
    assert found == expected


@pytest.mark.parametrize(
    ("own", "said"),
    [
        ({"output": ["b"]}, r"meta\.enrichment\.output of this version .* makes it \[b, a\]"),
        ({"parameters": {"stop": ["y"]}}, r"parameters\.stop of this version .* \[y, x\]"),
        ({"examples": [{"user": "two"}]}, r"examples of this version .* one of 2 items"),
    ],
)
def test_a_list_that_may_be_meant_both_ways_is_refused(own: dict[str, Any], said: str) -> None:
    """The message names the list, what dbt makes of it, and the fix."""
    meta, blocks = merged(own, ABOVE)
    with pytest.raises(ConfigurationError, match=said) as refused:
        separated(meta, blocks, model="m.v2")
    assert refused.value.problem.startswith("model 'm.v2': dbt joins the list")
    assert refused.value.fix == "write the whole list in each version, and none above them"


def test_a_list_that_another_place_set_is_left_alone() -> None:
    """`config()` in the SQL replaces the whole block; an expression is compared by its place."""
    blocks = VersionBlocks({"output": ["a"]}, {"output": ["b"]})
    assert separated({"output": ["x", "y"]}, blocks, model="m") == {"output": ["x", "y"]}
    rendered = VersionBlocks({"output": ["a"]}, {"output": ["{{ var('x') }}", "b"]})
    found = separated({"output": ["a", "b", "a"]}, rendered, model="m")
    assert found == {"output": ["a", "b"]}


def test_the_blocks_are_found_where_dbt_reads_them(tmp_path: Path) -> None:
    """Under `config` or `meta`, by the version's text; a file that is no YAML has none."""
    path = tmp_path / "models.yml"
    path.write_text(
        """
models:
  - name: other
  - name: m
    meta: {enrichment: {output: [a]}}
    versions:
      - v: 1
      - v: "2.1"
        config: {meta: {enrichment: {output: [b]}}}
"""
    )
    assert blocks_in(path, "m", 1) == VersionBlocks({"output": ["a"]}, {})
    assert blocks_in(path, "m", "2.1") == VersionBlocks({"output": ["a"]}, {"output": ["b"]})
    assert blocks_in(path, "m", 3) is None
    path.write_text("models: [")
    assert blocks_in(path, "m", 1) is None
    assert blocks_in(tmp_path / "none.yml", "m", 1) is None

"""One item more in a YAML list, and not another character changed."""

from __future__ import annotations

import difflib
from typing import Any

import pytest
import yaml
from dbt_enrich.cli.yaml_insert import NoPlaceError, with_item
from hypothesis import given
from hypothesis import strategies as st

PLACE = ("shop", "outputs", "dev", "plugins")
ITEM = "module: ours\nconfig:\n  key: \"{{ env_var('KEY', '') }}\"\n  models: {a: [b]}\n"
KEYS = st.text("abc é-_", min_size=1, max_size=6).filter(lambda key: key != "plugins")
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.dates(),
    st.text(max_size=30),
    st.sampled_from(["two\nlines\n", "yes", "# no comment", "{{ env_var('A') }}", "- a", "'"]),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=5,
)


def profile(output: str, indent: str = "      ") -> str:
    """A profile with the lines in its target."""
    lines = "".join(f"{indent}{line}\n" for line in output.splitlines())
    return f"# mine\nshop:\n  target: dev\n  outputs:\n    dev:\n{lines}\n# the end\nother: ~\n"


@pytest.mark.parametrize(
    ("output", "column"),
    [
        ("type: duckdb\npath: 'x.db'   # here", 8),
        ("type: duckdb\nextensions:\n- httpfs\n- spatial", 8),
        ("type: duckdb\nplugins:\n- module: excel\n# last", 6),
        ("type: duckdb\nplugins:\n    -   module: excel", 10),
        ("plugins:  # none yet\ntype: duckdb", 8),
        ("type: duckdb\nnote: |\n  several\n\n  lines", 8),
        ("&one\ntype: &kind duckdb\nalso: *kind", 8),
        ("type: duckdb\npath: >-\n  folded\n  text", 8),
    ],
)
def test_lines_are_added_and_none_is_changed(output: str, column: int) -> None:
    """In block style, at the indentation that the list has, or two further in than its key."""
    before = profile(output)
    after = with_item(before, PLACE, ITEM)
    changed = difflib.ndiff(before.splitlines(), after.splitlines())
    assert not [line for line in changed if line.startswith("-")]
    assert f"{' ' * column}- module: ours\n{' ' * column}  config:\n" in after
    assert yaml.safe_load(after)["shop"]["outputs"]["dev"]["plugins"][-1] == yaml.safe_load(ITEM)


@pytest.mark.parametrize(
    "output",
    [
        "{type: duckdb, path: x }",
        "{type: duckdb, plugins: []}",
        "{type: duckdb, plugins: , path: x}",
        "{type: duckdb, plugins: null}",
        "{type: duckdb, plugins: [ {module: excel}, ] }",
        "{}",
    ],
)
def test_flow_style_stays_flow_style(output: str) -> None:
    """On its own line."""
    before = f"shop: {{outputs: {{dev: {output}}}}}  # all in one\n"
    after = with_item(before, PLACE, ITEM)
    assert after.count("\n") == 1
    assert after.endswith("# all in one\n")
    assert yaml.safe_load(after)["shop"]["outputs"]["dev"]["plugins"][-1] == yaml.safe_load(ITEM)


@pytest.mark.parametrize("text", ["", "# nothing yet", "a: 1\n", "packages:\n", "packages: null\n"])
def test_a_list_is_begun_where_there_is_none(text: str) -> None:
    """With what was there kept, comments alone too."""
    after = with_item(text, ("packages",), "local: ../ours\n")
    assert yaml.safe_load(after)["packages"] == [{"local": "../ours"}]
    assert text.removesuffix(" null\n") in after


def test_line_ends_stay_as_they_are() -> None:
    """Those of Windows too."""
    before = profile("type: duckdb").replace("\n", "\r\n")
    after = with_item(before, PLACE, ITEM)
    assert after.count("\n") == after.count("\r\n") > before.count("\n")
    assert before.splitlines() == [line for line in after.splitlines() if line in before]


def test_a_target_that_others_merge_gives_the_item_to_them() -> None:
    """As everything else in it."""
    before = profile("&dev\ntype: duckdb\nplugins: [{module: excel}]").replace(
        "other: ~", "other:\n  outputs:\n    prod:\n      <<: *dev\n"
    )
    with pytest.raises(yaml.YAMLError):
        yaml.safe_load(before.replace("&dev", "&other"))
    document = yaml.safe_load(with_item(before, PLACE, ITEM))
    assert len(document["other"]["outputs"]["prod"]["plugins"]) == 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (profile("plugins: 3"), "it is no list"),
        ("shop: {}", "its place is not there"),
        ("shop: {outputs: {dev: 3}}", "its place holds no keys"),
        ("x: &p [{module: excel}]\n" + profile("plugins: *p"), "allows no addition"),
    ],
)
def test_what_cannot_be_done_safely_is_refused(text: str, said: str) -> None:
    """And nothing is guessed."""
    with pytest.raises(NoPlaceError, match=said):
        with_item(text, PLACE, ITEM)


@given(
    before=st.dictionaries(KEYS, VALUES, max_size=4),
    listed=st.none() | st.lists(VALUES, max_size=3),
    after=st.dictionaries(KEYS, VALUES, max_size=3),
    beside=VALUES,
    flow=st.sampled_from([None, False, True]),
    indent=st.sampled_from([2, 3, 4, 6]),
)
def test_any_document_keeps_what_it_holds(
    before: dict[str, Any],
    listed: list[Any] | None,
    after: dict[str, Any],
    beside: Any,
    flow: bool | None,
    indent: int,
) -> None:
    """Whatever its style, it is what it was with the item in it."""
    output = {**before, "plugins": listed, **after}
    document = {"shop": {"outputs": {"dev": output, "prod": beside}}, "other": beside}
    text = yaml.dump(
        document, Dumper=Plain, sort_keys=False, default_flow_style=flow, indent=indent,
        allow_unicode=True,
    )  # fmt: skip
    # As it is read: PyYAML takes some of what it writes itself, such as U+0085, for a line break.
    expected = yaml.safe_load(text)
    dev = expected["shop"]["outputs"]["dev"]
    dev["plugins"] = [*(dev["plugins"] or []), yaml.safe_load(ITEM)]
    assert yaml.safe_load(with_item(text, PLACE, ITEM)) == expected


class Plain(yaml.SafeDumper):
    """Writes no aliases, as nobody writes them for equal values."""

    def ignore_aliases(self, _: Any) -> bool:
        """Always."""
        return True

"""A provider is one value: nothing else asks for its name, and every key of it is documented."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from dbt_enrich.config.profile import CONFIGS, parse_config

_ROOT = Path(__file__).parents[3]
_PLUGIN = _ROOT / "plugin" / "dbt_enrich"
# What is spelled like a provider and is another thing.
_OTHER_THINGS = {
    "config/local.py": {"local"},  # the emulator's directory
    "extras.py": {"azure"},  # an extra of the package
    "cli/diagnosis.py": {"openai"},  # a package
    "cli/scaffold.py": {"local"},  # a key of packages.yml
    "services/failures.py": {"openai"},  # a package
}


def _literals(path: Path) -> Iterator[str]:
    """Yield the texts of a module that are a provider's name, but for its docstrings."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and str(node.value) in CONFIGS:
            yield str(node.value)


@pytest.mark.parametrize("path", sorted(_PLUGIN.rglob("*.py")), ids=lambda path: path.stem)
def test_a_providers_name_stands_with_its_keys_alone(path: Path) -> None:
    """In a module of its own; elsewhere its attributes decide."""
    place = path.relative_to(_PLUGIN).as_posix()
    found = set(_literals(path)) - _OTHER_THINGS.get(place, set())
    own = {Path(place).stem} if place.startswith("config/") else set()
    assert found <= own


def test_the_names_are_found_where_they_are() -> None:
    """What the other test looks for can be found."""
    for name in CONFIGS:
        assert name in set(_literals(_PLUGIN / "config" / f"{name}.py"))


def test_a_price_table_is_read_once(tmp_path: Path) -> None:
    """A file that goes while a run is under way changes nothing; a copy reads its own."""
    path = tmp_path / "prices.json"
    path.write_text('{"models": {"m": {"input": 2, "output": 4}}}')
    values = {"provider": "openai", "prices_file": str(path)}
    config = parse_config(values, duckdb_settings={})
    first = config.price("m")
    path.write_text('{"models": {"m": {"input": 8, "output": 9}}}')
    assert config.price("m") == first
    assert config.price_table is config.price_table
    copy = config.model_copy(update={"prices": {"m": {"input": 1, "output": 1}}})
    assert copy.price("m") != first

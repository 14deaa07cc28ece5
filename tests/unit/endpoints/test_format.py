"""The format of requests and replies is known to the modules of the endpoints alone."""

from __future__ import annotations

import re
from pathlib import Path

import dbt_enrich
import pytest

PACKAGE = Path(dbt_enrich.__file__).parent
HOMES = [
    PACKAGE / "endpoints" / name
    for name in ("chat_completions.py", "responses.py", "conversation.py", "embeddings.py")
]
# The keys, paths and values of /chat/completions and /responses. Parameters that a user writes in
# YAML, such as `max_tokens`, and our own columns, such as `finish_reason`, are not among them.
FORMAT = re.compile(
    r"chat/completions|chat\.completion|choices|[\"']role\\?[\"']|tool_calls|function_call"
    r"|response_format\\?[\"']\s*:|[\"']messages\\?[\"']\s*:|\.messages\[|json_schema\\?[\"']\s*:"
    r"|[\"'`]/responses|input_text|output_text\\?[\"']\s*:|[\"']input\\?[\"']\s*:\s*\[|incomplete_details"
    r"|[\"']assistant\\?[\"']|\$\.(?:[\w.]+\.)?usage\b|\.message\.content|reasoning_content"
)
# What a user's parameters are refused with, by the names that they have in YAML.
REFUSED = PACKAGE / "task" / "parameters.py"
# A role of Postgres, by dbt-postgres's name in a profile.
ROLE = PACKAGE / "warehouse" / "postgres_host.py"


def literals(path: Path) -> list[str]:
    """Return the lines of a module that spell the format out."""
    return [line.strip() for line in path.read_text().splitlines() if FORMAT.search(line)]


@pytest.mark.parametrize(
    "path",
    [path for path in sorted(PACKAGE.rglob("*.py")) if path not in HOMES],
    ids=lambda path: str(path.relative_to(PACKAGE)),
)
def test_no_other_module_spells_it_out(path: Path) -> None:
    """Whoever adds an endpoint adds a module, and looks for none."""
    found = literals(path)
    if path == REFUSED:
        found = [line for line in found if not line.startswith(('"messages": _', '"response_f'))]
    if path == ROLE:
        found = [line for line in found if not re.search(r"target(\.get\(|\[)[\"']role[\"']", line)]
    assert found == []


def test_the_format_is_found_where_it_is() -> None:
    """The pattern is not one that fits nothing."""
    assert sum(len(literals(home)) for home in HOMES) > 40

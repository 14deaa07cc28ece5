"""Pages are easy to read, and name what is there."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest
from docs.prose import code, names, prose, sentences, words, wrong_commands
from docs.reference.commands import leaf_commands
from support.dbt_project import REPOSITORY

_DOCS = REPOSITORY / "docs"
_LONGEST_SENTENCE = 30
# Written by `make bench`.
_MEASURED = {"benchmarks.md", "tokens.md", "million-rows.md"}
PAGES = [
    REPOSITORY / "README.md",
    *sorted(path for path in _DOCS.rglob("*.md") if path.name not in _MEASURED),
]
READ_FIRST = [path for path in PAGES if path.parent.name in {"start", "guides"}]
# Words of the glossary that have a meaning of their own elsewhere, such as a cut answer.
_OF_TWO_MEANINGS = {"said", "cut", "room", "spread", "halve"}
# Names of dbt's, of DuckDB's and of the services'.
_FOREIGN = {
    "accepted_values", "batch_size", "billing_hard_limit_reached", "data_inlining_row_limit",
    "disable_transactions", "event_time", "foreign_key", "incremental_predicates",
    "incremental_strategy", "insufficient_quota", "invalid_request", "long_context",
    "model_not_found", "motherduck_saas_mode", "on_schema_change", "partitioned_by", "post_hook",
    "pre_hook", "rows_affected", "run_query", "sorted_by", "top_p", "warn_unsupported",
}  # fmt: skip


def _name(path: Path) -> str:
    return str(path.relative_to(REPOSITORY))


@pytest.mark.parametrize("page", READ_FIRST, ids=_name)
def test_no_sentence_is_long(page: Path) -> None:
    """Where newcomers read."""
    found = [*sentences(page.read_text(encoding="utf-8"))]
    assert [text for text in found if len(text.split()) > _LONGEST_SENTENCE] == []


def avoided() -> list[str]:
    """The words that the glossary has another one for."""
    text = (REPOSITORY / "CONTRIBUTING.md").read_text(encoding="utf-8")
    table = text.split("| not | but |", 1)[1].split("\n\n")[0]
    listed = ", ".join(re.findall(r"^\| ([a-z].*?) \|", table, re.MULTILINE)).split(", ")
    return [word for word in listed if word.isalpha() and word not in _OF_TWO_MEANINGS]


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_words_are_those_of_the_glossary(page: Path) -> None:
    """One name for a thing."""
    assert {"mend", "former", "whoever"} <= {*avoided()}
    pattern = re.compile(rf"\b({'|'.join(avoided())})s?\b", re.IGNORECASE)
    assert pattern.findall(prose(page.read_text(encoding="utf-8"))) == []


@cache
def known_names() -> set[str]:
    """What a page may name: words of the code, of the worked project and of code blocks."""
    folders = ("plugin", "macros", "dbt_project", "seeds")
    found = words(*(REPOSITORY / folder for folder in folders))
    for page in PAGES:
        found |= {*re.findall(r"\w+", code(page.read_text(encoding="utf-8")))}
    return found | _FOREIGN


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_a_page_names_what_is_there(page: Path) -> None:
    """Keys, columns, kinds, relations and macros; commands with their options."""
    text = page.read_text(encoding="utf-8")
    assert [name for name in names(text) if name not in known_names()] == []
    assert [*wrong_commands(text, leaf_commands())] == []


def test_no_foreign_name_is_left_over() -> None:
    """Each is on a page."""
    everywhere = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    assert {*names(everywhere)} >= _FOREIGN


def test_what_is_wrong_is_found() -> None:
    """What the tests above look for, in a page that has it."""
    text = (
        "A short sentence. `max_atempts` and `a.b_c`.\n\n| a cell | `dbt-enrich plann` |\n\n"
        "```sh\ndbt-enrich plan --fromat json --json && dbt-enrich prices refresh --output x\n```\n"
        "<!-- a_comment -->\n"
    )
    assert "A short sentence." in [*sentences(text)]
    assert [*names(text)] == ["max_atempts"]
    assert [*wrong_commands(text, leaf_commands())] == ["plann", "plan --fromat"]
    assert "max_atempts" not in known_names()

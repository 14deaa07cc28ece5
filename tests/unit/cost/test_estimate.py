"""Tokens and estimates: a real tokenizer, samples with their interval, caps and changes."""

from __future__ import annotations

import random
import re

import pytest
from dbt_enrich.cost.caps import Cap, Spent, breach
from dbt_enrich.cost.changes import task_changes, task_diff
from dbt_enrich.cost.estimate import completion_tokens_of_schema, estimate
from dbt_enrich.cost.prices import price_table
from dbt_enrich.cost.tokens import count_tokens, encoding_name
from dbt_enrich.endpoints.base import row_prompt
from dbt_enrich.endpoints.chat_completions import CHAT_COMPLETIONS
from dbt_enrich.task.enrichment_task import EnrichmentTask, Example
from dbt_enrich.task.schema import OutputColumn

PRICE = price_table("azure").models["gpt-4o-mini"]


@pytest.mark.parametrize(
    ("text", "model", "tokens"),
    [
        ("hello world", "gpt-4o-mini", 2),
        ("hello world", "gpt-4", 2),
        ("A retired thief plans one last job.", "gpt-4o-mini", 8),
        ("", "gpt-4o-mini", 0),
        ("<|endoftext|>", "gpt-4o-mini", 7),
    ],
)
def test_tokens_are_the_model_family_s_own(text: str, model: str, tokens: int) -> None:
    """Special tokens in a row's text count as the text that they are."""
    assert count_tokens([text], model) == [tokens]


@pytest.mark.parametrize(
    ("model", "encoding"),
    [
        ("gpt-4o-mini", "o200k_base"),
        ("gpt-4.1", "o200k_base"),
        ("gpt-5-nano", "o200k_base"),
        ("o3", "o200k_base"),
        ("gpt-4", "cl100k_base"),
        ("gpt-4-32k", "cl100k_base"),
        ("gpt-35-turbo", "cl100k_base"),
    ],
)
def test_each_family_has_its_encoding(model: str, encoding: str) -> None:
    """Those since gpt-4o share one."""
    assert encoding_name(model) == encoding


def test_the_constant_part_is_counted_once_a_request() -> None:
    """System text, examples, schema and the framing of each message."""
    bare = EnrichmentTask(model="gpt-4o-mini", user="{a}", outputs=(OutputColumn("x", "varchar"),))
    given = bare.model_copy(update={"system": "Be short.", "examples": (
        Example(user="one", answer={"x": "1"}),)})  # fmt: skip

    def overhead(task: EnrichmentTask) -> int:
        return CHAT_COMPLETIONS.prompt_tokens(row_prompt(task), task.model)

    assert overhead(bare) > 10
    assert overhead(given) - overhead(bare) == 3 * 3 + sum(
        count_tokens(["Be short.", "one", '{"x": "1"}'], "gpt-4o-mini")
    )


def test_all_counted_has_no_interval() -> None:
    """The sum is exact."""
    found = estimate(3, [10, 20, 30], 5, (7.0, "schema"), PRICE)
    assert (found.prompt_tokens, found.prompt_margin, found.completion_tokens) == (75, 0, 21)
    assert found.cost == pytest.approx(PRICE.batch_cost(75, 21))
    assert found.saved == pytest.approx(found.cost)


def test_the_interval_of_a_sample_holds_the_truth() -> None:
    """In about 95 of 100 samples of rows with very different lengths."""
    chance = random.Random(5)
    rows = [int(chance.lognormvariate(4, 1)) for _ in range(20_000)]
    held = 0
    for _ in range(200):
        found = estimate(len(rows), chance.sample(rows, 2_000), 0, (0.0, "schema"), None)
        held += abs(found.prompt_tokens - sum(rows)) <= found.prompt_margin
    assert 180 <= held <= 200


def test_nothing_to_send_costs_nothing() -> None:
    """And an unknown price gives no cost."""
    assert estimate(0, [], 5, (7.0, "schema"), PRICE).cost == 0
    assert estimate(2, [1, 1], 5, (7.0, "schema"), None).cost is None


def test_answers_without_earlier_ones_are_sized_by_their_schema() -> None:
    """A list of structs takes more than a flag."""
    flag = completion_tokens_of_schema([OutputColumn("ok", "boolean")])
    text = completion_tokens_of_schema([OutputColumn("summary", "varchar")])
    many = completion_tokens_of_schema([OutputColumn("x", "struct(a varchar, b integer[])[]")])
    kind = completion_tokens_of_schema([OutputColumn("kind", "enum('a', 'b')")])
    assert flag < text
    assert flag <= kind < text
    assert many > flag


def test_a_cap_says_what_it_would_have_cost_and_how_to_allow_it() -> None:
    """And what was sent before under it."""
    wanted = estimate(1_000, [100] * 1_000, 0, (50.0, "schema"), PRICE)
    cap = Cap(max_cost=0.01)
    text = breach(cap, Spent(), wanted, currency="USD", where="caps.run")
    assert text is not None
    assert "1,000 requests of about 150,000 tokens, USD 0.022" in text
    assert "past the USD 0.01 of caps.run" in text
    assert "nothing was sent" in text
    assert breach(Cap(max_cost=1), Spent(), wanted, currency="USD", where="x") is None
    before = Spent(cost=0.995, requests=5, tokens=10)
    text = breach(Cap(max_cost=1), before, wanted, currency="USD", where="x")
    assert text is not None
    assert "USD 0.99 of it sent before" in text or "USD 1.00 of it sent before" in text
    assert "to USD 1.02 " in text
    # A little more than the cap is not written as the cap itself.
    at_the_cap = Cap(max_cost=(wanted.cost or 0.0) + 0.995 - 1e-6)
    text = breach(at_the_cap, before, wanted, currency="USD", where="x")
    assert text is not None
    amounts = re.search(r"to USD (\S+) .* past the USD (\S+) of", text)
    assert amounts is not None
    assert float(amounts[1]) > float(amounts[2])
    assert "max_requests" in (
        breach(Cap(max_requests=999), Spent(), wanted, currency="USD", where="x") or ""
    )
    assert "max_tokens" in (
        breach(Cap(max_tokens=149_999), Spent(), wanted, currency="USD", where="x") or ""
    )


def _document(**changes: object) -> dict[str, object]:
    task = EnrichmentTask(
        model="gpt-4o-mini",
        system="Be short.",
        user="{a}",
        outputs=(OutputColumn("x", "varchar", description="One"),),
        examples=(Example(user="u", answer={"x": "1"}),),
        parameters={"temperature": 0.1},
    ).model_copy(update=changes)
    return task.document("gpt-4o-mini")


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"system": "Be long."}, ["system text"]),
        ({"user": "{a}!"}, ["user template"]),
        ({"parameters": {"temperature": 0.2}}, ["parameter temperature"]),
        ({"examples": (Example(user="v", answer={"x": "1"}),)}, ["example 1"]),
        ({"examples": ()}, ["examples (1 before, 0 now)"]),
        ({"outputs": (OutputColumn("x", "varchar", description="Two"),)}, ["description of x"]),
        ({"outputs": (OutputColumn("x", "integer", description="One"),)}, ["type of x"]),
        ({"outputs": (OutputColumn("y", "varchar", description="One"),)},
         ["column y is new", "column x is gone"]),
        ({}, []),
    ],
)  # fmt: skip
def test_changes_are_named_as_the_yaml_names_them(
    changes: dict[str, object], named: list[str]
) -> None:
    """So that whoever edits a prompt sees which edit asks everything again."""
    assert task_changes(_document(), _document(**changes)) == named


def test_a_diff_shows_the_lines_of_a_prompt() -> None:
    """One line of the text a line."""
    diff = task_diff(
        _document(system="one\ntwo\nthree"), _document(system="one\n2\nthree"), names=("a", "b")
    )
    assert "-  two" in diff
    assert "+  2" in diff

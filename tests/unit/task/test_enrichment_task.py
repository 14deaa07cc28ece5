"""The task: what the YAML may say, and what is part of an answer's identity."""

from __future__ import annotations

from typing import Any

import pytest
from dbt_enrich.errors import ConfigurationError
from dbt_enrich.task.enrichment_task import EnrichmentTask, Example
from dbt_enrich.task.from_yaml import build_task, options_from_yaml, task_from_yaml
from dbt_enrich.task.options import Mode
from dbt_enrich.task.schema import OutputColumn
from support.warehouse import summary_task

META: dict[str, Any] = {
    "model": "gpt-4o-mini",
    "system": "Extract.\n",
    "user": "{overview}\n",
    "output": ["categories", "summary"],
}
COLUMNS: dict[str, dict[str, Any]] = {
    "categories": {
        "name": "categories",
        "data_type": "varchar[]",
        "description": "Genres ",
        "config": {"meta": {"enrichment": {"max_items": 4, "lower": True}}},
    },
    "summary": {"name": "summary", "data_type": "text", "description": ""},
}


def test_the_yaml_becomes_the_task() -> None:
    """Types, descriptions and rules come from the columns, and nowhere else."""
    task = task_from_yaml("m", META, COLUMNS)
    assert task.outputs == (
        OutputColumn("categories", "varchar[]", "Genres", max_items=4, lower=True),
        OutputColumn("summary", "text"),
    )
    assert (task.system, task.user) == ("Extract.", "{overview}")


@pytest.mark.parametrize(
    ("meta", "columns", "message"),
    [
        ({"sytem": "x"}, {}, "unknown key 'sytem'; did you mean 'system'"),
        ({"model": ""}, {}, "no 'model'"),
        ({"output": "summary"}, {}, "list of column names"),
        ({"output": ["sumary"]}, {}, "'sumary'.*did you mean 'summary'"),
        ({}, {"summary": {"data_type": None}}, "'summary' has no data_type"),
        ({}, {"summary": {"data_type": "map(varchar, integer)"}}, "summary"),
        ({}, {"summary": {"meta": {"enrichment": {"maxitems": 1}}}}, "'maxitems'.*'max_items'"),
        ({"parameters": {"messages": []}}, {}, "'messages' cannot be set here"),
        ({"response": "json_object"}, {}, "JSON"),
        ({"response": "xml"}, {}, "response"),
        ({"output": ["summary", "summary"]}, {}, "given twice"),
        ({"system": "a\x00b"}, {}, "NUL"),
    ],
)
def test_a_mistake_is_one_sentence(
    meta: dict[str, Any], columns: dict[str, dict[str, Any]], message: str
) -> None:
    """Each names the model, the field and the fix."""
    described = {name: {**COLUMNS[name], **columns.get(name, {})} for name in COLUMNS}
    with pytest.raises(ConfigurationError, match=message) as caught:
        task_from_yaml("movies", {**META, **meta}, described)
    assert "model 'movies'" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_output_may_not_take_a_name_of_ours() -> None:
    """The columns that the enriched table gets are reserved."""
    with pytest.raises(ConfigurationError, match="rename"):
        build_task(
            "m",
            {**summary_task().__dict__, "outputs": (OutputColumn("enrichment_status", "text"),)},
        )


@pytest.mark.parametrize(
    "changes",
    [
        {"system": "Summarise the note"},
        {"user": "{note} "},
        {"outputs": (OutputColumn("summary", "varchar", "Another"),)},
        {"outputs": (OutputColumn("summary", "varchar", "What it says", nullable=True),)},
        {"examples": (Example(user="a", answer={"summary": "b"}),)},
        {"parameters": {"temperature": 0.1}},
        {"parameters": {"seed": 1}},
        {"variant": "b"},
        {"model": "gpt-4o"},
        {"response": "json_object", "system": "Summarise the note as JSON."},
    ],
)
def test_what_changes_the_answer_changes_the_identity(changes: dict[str, Any]) -> None:
    """A changed task asks its rows again."""
    assert summary_task(**changes).task_key("x") != summary_task().task_key("x")


@pytest.mark.parametrize(
    "changes",
    [
        {"parameters": {"max_tokens": 500}},
        {"parameters": {"user": "finance", "max_completion_tokens": 9}},
        {"outputs": (OutputColumn("summary", "TEXT", "What it says"),)},
        {"system": "Summarise the note.\n"},
    ],
)
def test_what_leaves_the_answer_as_it_is_asks_nothing_again(changes: dict[str, Any]) -> None:
    """Limits, labels and the spelling of a type are not part of the identity."""
    assert summary_task(**changes).task_key("x") == summary_task().task_key("x")


def test_the_order_of_columns_and_whole_numbers_are_one_identity() -> None:
    """0 and 0.0 are one parameter; columns may be listed in any order."""
    pair = (OutputColumn("a", "text"), OutputColumn("b", "integer"))
    one = summary_task(outputs=pair, parameters={"temperature": 0})
    other = summary_task(outputs=pair[::-1], parameters={"temperature": 0.0})
    assert one.task_key("x") == other.task_key("x")


def test_who_answers_is_part_of_the_identity() -> None:
    """An answer of the packaged model is never taken for one of Azure's."""
    assert summary_task().task_key("gpt-4o-mini") != summary_task().task_key("scripted")


def test_an_example_answers_in_the_columns_order() -> None:
    """A model copies what it is shown, so the examples' keys are in the schema's order."""
    task = summary_task(
        outputs=(OutputColumn("a", "text"), OutputColumn("b", "text")),
        examples=(Example(user="u", answer={"b": "2", "a": "1"}),),
    )
    assert task.example_text(task.examples[0]) == '{"a": "1", "b": "2"}'


def test_the_mode_of_the_command_line_wins() -> None:
    """`--vars` is for one run, the YAML for all."""
    assert options_from_yaml("m", {"mode": "submit"}).mode == Mode.SUBMIT
    assert options_from_yaml("m", {"mode": "submit"}, mode="collect").mode == Mode.COLLECT
    with pytest.raises(ConfigurationError, match="mode"):
        options_from_yaml("m", {}, mode="colect")


def test_fail_on_takes_the_kinds_of_failure() -> None:
    """A kind that there is not is an error with the near match."""
    assert options_from_yaml("m", {"fail_on": "any"}).fail_on == ("any",)
    with pytest.raises(ConfigurationError, match="did you mean 'refusal'"):
        options_from_yaml("m", {"fail_on": ["refused"]})


def test_a_task_is_a_value() -> None:
    """It can be built in Python with the same checks."""
    task = EnrichmentTask(model="m", user="{a}", outputs=(OutputColumn("s", "varchar"),))
    assert task.template.columns == ("a",)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"examples": [{"user": "a", "answr": {}}]},
            r"examples.0.answr: is an unknown key; did you mean 'answer'\?",
        ),
        ({"examples": [{"user": "a"}]}, "examples.0.answer: is missing; add it"),
        (
            {"optional": "note"},
            r"optional: must be a list \(it is 'note'\); write it as \[one, other\]",
        ),
        ({"user": ["{note}"]}, r"user: must be one text, not a list; write one text, such as"),
        ({"system": 5}, r"system: must be a text \(it is 5\); put it in quotes"),
        ({"output": {"summary": "varchar"}}, r"a list of column names; write it as \[summary\]"),
    ],
)
def test_a_wrong_value_is_said_in_the_words_of_yaml(changes: dict[str, Any], said: str) -> None:
    """Not in those of the library that checks it."""
    meta = {"model": "m", "user": "{note}", "output": ["summary"], **changes}
    with pytest.raises(ConfigurationError, match=said):
        task_from_yaml("notes", meta, {"summary": {"data_type": "varchar"}})

"""Tasks that ask for embeddings: what they may say, and that all else is refused by name."""

from __future__ import annotations

from typing import Any

import pytest
from dbt_enrich.errors import ConfigurationError
from dbt_enrich.task.enrichment_task import EnrichmentTask
from dbt_enrich.task.from_yaml import build_task
from dbt_enrich.task.schema import OutputColumn
from dbt_enrich.task.vectors import dimensions_sent


def task(data_type: str = "float[256]", **changes: Any) -> EnrichmentTask:
    """A task with one vector."""
    values = {
        "model": "text-embedding-3-small",
        "endpoint": "embeddings",
        "user": "{note}",
        "outputs": (OutputColumn(name="v", data_type=data_type),),
    }
    return build_task("model 'notes'", {**values, **changes})


TEXT = OutputColumn(name="summary", data_type="varchar")


@pytest.mark.parametrize(
    ("changes", "problem", "fix"),
    [
        ({"endpoint": "chat"}, "'v' is float[256], a vector", "endpoint: embeddings"),
        ({"endpoint": "responses"}, "'v' is float[256], a vector", "max_items: 256"),
        ({"outputs": (TEXT,)}, "'summary' is varchar", "float[N]"),
        (
            {"outputs": (TEXT, OutputColumn(name="v", data_type="float[256]"))},
            "there are 2 output columns",
            "leave 'v' alone",
        ),
        ({"system": "Be short."}, "'system' is for language models", "into user"),
        (
            {"examples": ({"user": "a", "answer": {"v": [1]}},)},
            "'examples' is for language models",
            "remove it",
        ),
        ({"response": "json_object"}, "'response' is for language models", "remove it"),
        ({"parameters": {"temperature": 0}}, "'temperature'", "remove it"),
        ({"parameters": {"input": "x"}}, "'input' cannot be set here", "user"),
        ({"parameters": {"encoding_format": "float"}}, "'encoding_format'", "remove it"),
        ({"parameters": {"dimensions": 5}}, "parameters.dimensions is 5", "the same number"),
        ({"data_type": "float[1537]"}, "gives at most 1536 numbers", "float[1536]"),
        (
            {"data_type": "float[1535]", "model": "text-embedding-ada-002"},
            "gives 1536 numbers",
            "float[1536]",
        ),
        (
            {
                "data_type": "float[1536]",
                "model": "text-embedding-ada-002",
                "parameters": {"dimensions": 1536},
            },
            "'dimensions' is no parameter of text-embedding-ada-002",
            "remove it",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(changes: dict[str, Any], problem: str, fix: str) -> None:
    """With the model, the key and what to do."""
    with pytest.raises(ConfigurationError) as error:
        task(**changes)
    assert "model 'notes': enrichment" in error.value.problem
    assert problem in error.value.problem
    assert fix in str(error.value.fix)


def test_a_vector_is_never_null() -> None:
    """A rule that promises it is refused."""
    with pytest.raises(ConfigurationError, match="nullable is for answers"):
        OutputColumn(name="v", data_type="float[3]", nullable=True)


@pytest.mark.parametrize("data_type", ["FLOAT[256]", "real [ 256 ]", "float4[256]"])
def test_every_spelling_is_one_identity(data_type: str) -> None:
    """As of other types."""
    assert task(data_type).task_key("m") == task().task_key("m")


def test_what_is_not_sent_is_no_identity() -> None:
    """A description may be written anew, and `dimensions` said twice, at no cost."""
    described = OutputColumn(name="v", data_type="float[256]", description="What it is about")
    own = task().task_key("m")
    assert task(outputs=(described,)).task_key("m") == own
    assert task(parameters={"dimensions": 256}).task_key("m") == own
    assert task("float[255]").task_key("m") != own


@pytest.mark.parametrize(
    ("model", "parameters", "sent"),
    [
        ("text-embedding-3-small", {}, 256),
        ("text-embedding-3-large", {}, 256),
        ("text-embedding-ada-002", {}, None),
        ("nomic-embed-text", {}, None),
        ("nomic-embed-text", {"dimensions": 256}, 256),
    ],
)
def test_dimensions_are_sent_where_the_model_takes_them(
    model: str, parameters: dict[str, Any], sent: int | None
) -> None:
    """An unknown model might refuse the parameter."""
    assert dimensions_sent(model, 256, parameters) == sent

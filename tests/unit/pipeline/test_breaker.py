"""The breaker's decision, and what counts as failing in the same way."""

from __future__ import annotations

import duckdb
import pytest
from dbt_enrich.pipeline.run.breaker import Tolerance, Way, decide, example, stopped_error, way_sql
from dbt_enrich.task.failures import FailureKind
from hypothesis import given
from hypothesis import strategies as st

_WAYS = st.builds(
    Way,
    st.sampled_from([str(kind) for kind in FailureKind]),
    st.none() | st.sampled_from([400, 429, 503]),
    st.sampled_from(["", "code"]),
)
_COUNTS = st.dictionaries(_WAYS, st.integers(1, 60), max_size=4)
_TOLERANCE = st.builds(Tolerance, st.sampled_from([0.0, 0.2, 0.5, 0.9, 1.0]), st.integers(1, 30))


@given(ways=_COUNTS, done=st.integers(0, 60), tolerance=_TOLERANCE)
def test_a_run_is_stopped_by_one_way_that_is_too_many(
    ways: dict[Way, int], done: int, tolerance: Tolerance
) -> None:
    """And by no sum of ways, by too few answers, or where every share is borne."""
    answers = done + sum(ways.values())
    way = decide(ways, done, tolerance)
    limit = tolerance.max_failed_share * answers
    passed = {one for one, count in ways.items() if count > limit}
    if answers < tolerance.least_answers or not passed or tolerance.max_failed_share == 1:
        assert way is None
    else:
        assert way is not None
        assert ways[way] == max(ways.values()) > limit


@given(ways=_COUNTS, done=st.integers(0, 60), tolerance=_TOLERANCE, more=st.integers(1, 60))
def test_more_that_is_done_never_stops_a_run(
    ways: dict[Way, int], done: int, tolerance: Tolerance, more: int
) -> None:
    """Once there are enough answers to decide on."""
    if done + sum(ways.values()) >= tolerance.least_answers and not decide(ways, done, tolerance):
        assert decide(ways, done + more, tolerance) is None


def test_rows_of_one_pack_are_one_answer() -> None:
    """A single pack of fifty rows that failed says as little as a single row does."""
    ways = {Way("pack_failed", None, "refusal"): 50}
    assert decide(ways, 0, Tolerance(), requests=1) is None
    assert decide(ways, 0, Tolerance(), requests=20)


@pytest.mark.parametrize(
    ("kind", "messages"),
    [
        (
            "provider_error",
            ["unsupported_parameter: 'max_tokens' is not", "unsupported_parameter: other words"],
        ),
        (
            "provider_error",
            [
                "invalid_request_error: row 17 of 'note a' in req_0a1b2c is bad",
                "invalid_request_error: row 9 of 'note b, long' in req_77aa is bad",
            ],
        ),
        ("provider_error", ["HTTP 503: try again in 1.5 s", "HTTP 503: try again in 20 s"]),
        ("refusal", ["I cannot help with note 1.", "Sorry, no."]),
        ("schema_mismatch", ["summary: is no text", "topic: is none of bug, question"]),
        ("pack_failed", ["refusal: I cannot", "refusal: no"]),
    ],
)
def test_what_differs_from_row_to_row_makes_no_other_way(kind: str, messages: list[str]) -> None:
    """Numbers, ids and quoted texts; of the model's own words nothing counts."""
    assert len(said(kind, messages)) == 1


@pytest.mark.parametrize(
    "messages",
    [
        ["unsupported_parameter: a", "context_length_exceeded: a"],
        ["BadRequest: the schema is wrong", "BadRequest: the model is gone"],
    ],
)
def test_another_cause_is_another_way(messages: list[str]) -> None:
    """By the service's code, or its words where the code says nothing."""
    assert len(said("provider_error", messages)) == 2


def said(kind: str, messages: list[str]) -> set[str]:
    """What the failures have in common."""
    rows = duckdb.execute(
        f"select {way_sql('kind', 'message')} from (select ? as kind, unnest(?) as message)",
        [kind, messages],
    ).fetchall()
    return {text for (text,) in rows}


@pytest.mark.parametrize("kind", [str(kind) for kind in FailureKind])
@pytest.mark.parametrize("status", [None, 400, 403, 429, 503])
def test_each_way_has_its_fix(kind: str, status: int | None) -> None:
    """And the command that lifts the stop."""
    error = stopped_error("notes", "20 of 20", Way(kind, status, "code"), again=False)
    assert error.fix.split(",")[0]
    assert f"dbt-enrich retry --select notes --kind {kind}" in error.fix


def test_an_example_is_one_short_line() -> None:
    """Whatever a model or a service says."""
    assert example("id = 1", "a\n b" + "x" * 1000).count("\n") == 0
    assert len(example("id = 1", "y" * 1000)) < 220
    assert example("id = 1", None) == "[id = 1] no reason given"

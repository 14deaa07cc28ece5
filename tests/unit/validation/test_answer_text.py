"""Where the answer is in what a model wrote: after thinking, in prose, in a fence, and twice."""

from __future__ import annotations

import json
from collections.abc import Iterator

import duckdb
import pytest
from dbt_enrich.task.schema import OutputColumn
from dbt_enrich.validation.answer_text import fragment_sql, object_sql
from dbt_enrich.validation.answers import validated_answers_sql
from hypothesis import given, settings
from hypothesis import strategies as st
from support.answer_strategies import documents
from support.validation_oracle import verdict

S = '{"summary":"S"}'
DRAFT = '{"summary":"draft"}'
OTHER = '{"summary":"B"}'
TAGGED = '{"summary":"a <think>b</think> {c}"}'
BRACES = '{"summary":"a} b {c} {\\"d\\": 1} é"}'
CLOSED = '{"summary":"a </think> b"}'
PACK = '{"rows":[{"id":1,"answer":{"s":"a"}},{"id":2,"answer":{"s":"b"}}]}'
HARMONY = "<|channel|>analysis<|message|>{}<|end|><|start|>assistant"


@pytest.fixture(scope="module")
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    """Give one private DuckDB to all tests."""
    with duckdb.connect(config={"threads": 1}) as opened:
        yield opened


def of(connection: duckdb.DuckDBPyConnection, expression: str, text: str) -> str | None:
    """Return what an expression over a text gives."""
    row = connection.execute(f"select {expression} from (select ? as content)", [text]).fetchone()
    assert row is not None
    found: str | None = row[0]
    return found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        pytest.param(S, S, id="the answer alone"),
        pytest.param(' {"summary": "S"}\n', S, id="white space"),
        # langchain-ai/langchain#35530, confident-ai/deepeval#2991, HKUDS/DeepTutor#675
        pytest.param(f"<think>The {{note}}.</think>\n{S}", S, id="braces in thinking"),
        pytest.param(f"<think>Maybe {DRAFT}?</think>\n{S}", S, id="a draft in thinking"),
        pytest.param(f"<think>{DRAFT}</think>\n```json\n{S}\n```", S, id="a fence after thinking"),
        pytest.param(f"<think>```\n{DRAFT}\n```</think>{S}", S, id="a fence in thinking"),
        pytest.param(f"so {DRAFT} ... </think>\n{S}", S, id="DeepSeek-R1: no opening tag"),
        pytest.param(f"<think>Maybe {DRAFT}", None, id="no closing tag"),
        pytest.param(f"<think>{DRAFT}</think> Sorry.", None, id="no answer after thinking"),
        pytest.param(f"{DRAFT}</think> Sorry.", None, id="no answer after a closing tag"),
        pytest.param(f"{S}\n<think>was it {DRAFT}?</think>", S, id="thinking afterwards"),
        pytest.param(f"{S}\n<think>was it {DRAFT}?", S, id="thinking afterwards, cut off"),
        pytest.param(f"<think>{DRAFT}</think><think>{OTHER}</think>{S}", S, id="two blocks"),
        pytest.param(f"<think>a <think>b</think> {DRAFT}</think>{S}", S, id="a block in another"),
        pytest.param(f"{OTHER}<think>{DRAFT}</think>{S}", None, id="two answers around thinking"),
        pytest.param(f"{S}<think>{DRAFT}</think>{S}", S, id="one answer around thinking"),
        pytest.param(TAGGED, TAGGED, id="tags in the answer's text"),
        pytest.param(f"Here: {TAGGED}.", TAGGED, id="tags in the answer's text, in prose"),
        pytest.param(f"<think>{DRAFT}</think>{TAGGED}", TAGGED, id="tags in both"),
        pytest.param(f"{DRAFT}</think>{CLOSED}", CLOSED, id="closing tags in both"),
        pytest.param(f"<thinking>{DRAFT}</thinking>{S}", S, id="thinking"),
        pytest.param(f"<reasoning>{DRAFT}</reasoning>{S}", S, id="reasoning"),
        pytest.param(f'<Think time="3">{DRAFT}</Think>{S}', S, id="another case, and attributes"),
        pytest.param(f"<seed:think>{DRAFT}</seed:think>{S}", S, id="Seed-OSS"),
        pytest.param(f"<mm:think>{DRAFT}</mm:think>{S}", S, id="MiniMax"),
        pytest.param(f"[THINK]{DRAFT}[/THINK]{S}", S, id="Magistral"),
        pytest.param(f"◁think▷{DRAFT}◁/think▷{S}", S, id="Kimi"),
        pytest.param(f"<think>{DRAFT}</think><answer>{S}</answer>", S, id="Hunyuan"),
        pytest.param(
            f"<|START_THINKING|>{DRAFT}<|END_THINKING|><|START_RESPONSE|>{S}<|END_RESPONSE|>",
            S,
            id="Command A",
        ),
        # qwersyk/Newelle#427
        pytest.param(f"<|channel>thought\n{DRAFT}\n<channel|>{S}", S, id="Gemma 4"),
        # NVIDIA/TensorRT-LLM#9256, kekzl/imp#768
        pytest.param(
            HARMONY.format(DRAFT) + f"<|channel|>final<|message|>{S}<|return|>", S, id="gpt-oss"
        ),
        pytest.param(
            HARMONY.format(DRAFT) + f"<|channel|>final <|constrain|>json<|message|>{S}",
            S,
            id="gpt-oss with a constraint",
        ),
        pytest.param(f"<|channel|>analysis<|message|>{DRAFT}", None, id="gpt-oss cut off"),
        # Augustas11/macprovider#743: special tokens dropped
        pytest.param(f"analysisWe need {DRAFT}.assistantfinal{S}", S, id="gpt-oss without tokens"),
        pytest.param(f"analysisWe need {DRAFT}.", None, id="gpt-oss without tokens, cut off"),
        # syswonder/robonix#41, openai/openai-agents-python#1531, Effect-TS/effect#6178
        pytest.param(f"{S}\n{S}", S, id="twice"),
        pytest.param(f"{S}{S}", S, id="twice without a break"),
        pytest.param(f'{S}\n\n{{"summary": "S"}} {S}', S, id="three times"),
        pytest.param(f"```json\n{S}\n```\nAgain:\n```\n{S}\n```", S, id="two fences"),
        pytest.param(f"{PACK}\n{PACK}", PACK, id="a pack twice"),
        pytest.param(f"<think>{PACK[:40]}</think>{PACK}", PACK, id="a pack after thinking"),
        pytest.param(f"{BRACES}{BRACES}", BRACES, id="braces in the text, twice"),
        pytest.param(f"{BRACES}\n\n{BRACES}\n\n{BRACES}", BRACES, id="and three times"),
        pytest.param(
            f"```json\n{BRACES}\n```\n```json\n{BRACES}\n```", BRACES, id="and in two fences"
        ),
        pytest.param(f'{BRACES}{BRACES[:-2]}s"}}', None, id="braces in two that differ"),
        pytest.param(f"{OTHER}\n{S}", None, id="two that differ"),
        pytest.param(f"```\n{OTHER}\n```\n```\n{S}\n```", None, id="two fences that differ"),
        pytest.param(f"Draft: {DRAFT}\n```\n{S}\n```", None, id="a draft before the fence"),
        pytest.param(f"{S}\n{{}}", S, id="an empty object beside it"),
        pytest.param(f"In {{x}}: {S} and {{y}}.", S, id="braces in prose"),
        pytest.param(f"{{x: ```json\n{S}\n``` }}", S, id="a fence in braces"),
        pytest.param("no JSON", None, id="none"),
    ],
)
def test_the_answer_is_found_and_never_a_draft(
    connection: duckdb.DuckDBPyConnection, text: str, found: str | None
) -> None:
    """As models and servers write it; in brackets where it was seen."""
    assert of(connection, object_sql("content"), text) == found


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        (PACK[:50], PACK[:50]),
        (f"<think>{PACK}</think>{PACK[:50]}", PACK[:50]),
        (f"{PACK}</think>{PACK[:50]}", PACK[:50]),
        (f"<think>{PACK[:50]}", None),
        (f"<think>x</think>{PACK[:50]}</think>", None),
    ],
)
def test_of_a_text_that_broke_off_only_what_is_no_thinking_is_read(
    connection: duckdb.DuckDBPyConnection, text: str, rest: str | None
) -> None:
    """The rows of a pack that was cut are taken from it."""
    assert of(connection, fragment_sql("content"), text) == rest


OUTPUTS = [
    OutputColumn("a", "varchar"),
    OutputColumn("parts", "struct(b integer, c varchar[])[]", nullable=True),
]
AROUND = [
    *("<think>{}</think>\n", "{}</think>", "[THINK]{}[/THINK]", "<reasoning>{}</reasoning>"),
    *("analysisSo {}assistantfinal", "<|channel>thought\n{}<channel|>", "Here it is:\n"),
]


@settings(max_examples=20)
@given(data=st.data())
def test_what_is_thought_before_an_answer_changes_nothing(
    connection: duckdb.DuckDBPyConnection, data: st.DataObject
) -> None:
    """The verdict and the answer are those of the text alone, by plain Python."""
    whole = [text for text in data.draw(documents(OUTPUTS)) if _is_object(text)]
    drafts = data.draw(st.lists(st.sampled_from(whole), min_size=1)) if whole else []
    around = data.draw(st.sampled_from(AROUND))
    texts = [around.format(" or ".join(drafts)) + text for text in whole]
    source = "(select unnest(?::varchar[]) as content, unnest(range(?)) as place)"
    rows = connection.execute(
        "select mismatch_kind, answer "
        f"from ({validated_answers_sql(source, OUTPUTS)}) order by place",
        [texts, len(texts)],
    ).fetchall()
    assert rows == [verdict(OUTPUTS, text) for text in whole]


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False

"""Where the answer is in what a model wrote, as SQL: thinking, prose and fences around an object.

A text that is JSON as a whole is the answer, whatever its strings hold. Else:

- Thinking is left out. It stands between tags, before a closing tag without an opening one (servers
  put the opening one into the prompt), or after an opening one without a closing one. A tag inside
  the answer's own strings is text: an object counts as found only where what stands around it holds
  no tag.
- Of what is left, the object from the first brace to the last counts, or from the first brace
  before a key; else each object that stands by itself, where all of them are the same one. Two that
  differ are none.
- A fence around an object decides where braces in the prose leave it open.

Tags as models and servers leave them in the text: `<think>` of DeepSeek-R1 and Qwen3
(https://docs.vllm.ai/en/latest/features/reasoning_outputs), `[THINK]` of Magistral, `◁think▷` of
Kimi, `<seed:think>` of Seed-OSS, `<mm:think>` of MiniMax, `<|START_THINKING|>` of Command A, the
channels of gpt-oss (https://cookbook.openai.com/articles/openai-harmony; where the special tokens
are dropped, NVIDIA/TensorRT-LLM#9256: `analysis…assistantfinal…`) and of Gemma 4
(qwersyk/Newelle#427).
"""

from __future__ import annotations

from collections.abc import Callable

from dbt_enrich.sql import let_sql, literal

_NAME = "(?:think|thinking|thoughts?|reasoning|reflection|analysis|scratchpad|[a-z]+:think)"
_OPENING = (
    rf"(?:(?i:<{_NAME}(?:\s[^<>]*)?>|\[THINK\]|◁think▷)|<\|(?:START_THINKING|begin_of_thought)\|>"
    r"|<\|channel\|>\s*(?:analysis|commentary)|<\|channel>\s*thought|^analysis[A-Z])"
)
_CLOSING = (
    rf"(?:(?i:</{_NAME}\s*>|\[/THINK\]|◁/think▷)|<\|(?:END_THINKING|end_of_thought)\|>"
    r"|<\|channel\|>\s*final[^<>]*(?:<\|constrain\|>[^<>]*)?<\|message\|>|<channel\|>"
    r"|assistantfinal)"
)
_TAG = f"{_OPENING}|{_CLOSING}"
# Behind an object that is whole, JSON goes on with a comma or a bracket; anything else is prose
# between two objects, or nothing.
_BETWEEN_CHARACTERS, _COPIES = 64, 4
_BETWEEN = r"(\})(\s*(?:[^\s,\]}{][^{}]*)?)(\{)"
# Where an object may lie in a text: from the first brace to the last; from the first brace before a
# key to the last; in a fence.
_WHOLE = (r"(?s)\{.*\}", 0)
_KEYED = (r'(?s)\{\s*".*\}', 0)
_FENCED = (r"(?s)```\w*\s*(\{.*\})\s*```", 1)


def object_sql(content: str) -> str:
    """Build the JSON text in `content` without white space, NULL where there is none."""
    return f"""cast(json(
        case when json_valid({content}) then {content} else {let_sql("text", content, _spoken)} end
    ) as varchar)"""


def fragment_sql(content: str) -> str:
    """Build a text that broke off without the thinking before it.

    NULL where a tag is left: it may stand in the answer's own strings.
    """
    spoken = let_sql(
        "rest",
        _without_leading(content),
        lambda rest: f"case when not regexp_matches({rest}, {literal(_TAG)}) then {rest} end",
    )
    return f"case when regexp_matches({content}, {literal(_TAG)}) then {spoken} else {content} end"


def _spoken(text: str) -> str:
    """Build the object in a text that is no JSON as a whole, as it is written there."""
    unnamed = (text, _without_leading(text), _without_thinking(text))
    found = ", ".join(
        let_sql("place", place, lambda place: let_sql("found", _found(place), _clean(text, place)))
        for place in unnamed
    )
    return f"""case
        when regexp_matches({text}, {literal(_TAG)}) then coalesce({found})
        else {_found(text)}
    end"""


def _clean(text: str, place: str) -> Callable[[str], str]:
    """Return what builds an object if it stands so in `text`, with no tag around it in `place`."""
    return lambda found: (
        f"""case
        when contains({text}, {found})
            and not regexp_matches(replace({place}, {found}, ' '), {literal(_TAG)}) then {found}
    end"""
    )


def _without_leading(text: str) -> str:
    """Build `text` without the thinking before it, which ends with the first closing tag."""
    opened = literal(rf"(?s)^\s*{_OPENING}.*?{_CLOSING}")
    return f"""case
        when regexp_matches({text}, {opened}) then regexp_replace({text}, {opened}, '')
        when regexp_matches({text}, {literal(_OPENING)}) then {text}
        else regexp_replace({text}, {literal(f"(?s)^.*?{_CLOSING}")}, '')
    end"""


def _without_thinking(text: str) -> str:
    """Build `text` without any thinking: whole blocks, before a closing, after an opening tag."""
    for pattern in (
        f"(?s){_OPENING}.*?{_CLOSING}",
        f"(?s)^.*{_CLOSING}",
        f"(?s){_OPENING}.*$",
    ):
        text = f"regexp_replace({text}, {literal(pattern)}, ' ', 'g')"
    return text


def _found(text: str) -> str:
    """Build the one object in a text without thinking, NULL where there is none or several."""
    whole, keyed, fenced = (_place(text, *place) for place in (_WHOLE, _KEYED, _FENCED))
    pieces = f"""list_filter(
        list_transform(
            string_split(
                regexp_replace({text}, {literal(_BETWEEN)}, '\\1' || chr(1) || '\\3', 'g'), chr(1)
            ),
            lambda piece: {_place("piece", *_KEYED)}
        ),
        lambda piece: piece <> ''
    )"""
    return f"""case
        when json_valid({whole}) then {whole}
        when json_valid({keyed}) then {keyed}
        else {let_sql("pieces", pieces, lambda pieces: _same(pieces, whole, fenced))}
    end"""


def _same(pieces: str, whole: str, fenced: str) -> str:
    """Build the object that all pieces are.

    Where one of them is none, as braces stand in its texts or in the prose: the object that the
    text repeats, or what a fence holds.
    """
    objects = f"list_transform({pieces}, lambda piece: cast(json(piece) as varchar))"
    return f"""case
        when len(list_filter({pieces}, lambda piece: not json_valid(piece))) > 0
            then coalesce({_repeated(whole)}, case when json_valid({fenced}) then {fenced} end)
        when len(list_distinct({objects})) = 1 then {pieces}[1]
    end"""


def _repeated(whole: str) -> str:
    """Build the object that a text consists of, twice to four times with the same between."""
    copies, between = f"(n % {_COPIES - 1} + 2)", f"(n // {_COPIES - 1})"
    once = f"left({whole}, (length({whole}) - ({copies} - 1) * {between}) // {copies})"
    places = f"""list_filter(
        range({(_COPIES - 1) * _BETWEEN_CHARACTERS}),
        lambda n: case
            when not ends_with({whole}, {once}) or not json_valid({once}) then false
            else not regexp_matches(replace({whole}, {once}, ''), '[{{}}]')
        end
    )[1]"""
    return let_sql("n", places, lambda n: f"case when {n} is not null then {once} end")


def _place(text: str, pattern: str, group: int) -> str:
    return f"regexp_extract({text}, {literal(pattern)}, {group})"

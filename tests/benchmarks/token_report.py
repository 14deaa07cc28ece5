"""The page on tokens: docs/tokens.md, written wholly from what was measured."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.markdown import number, section, table
from benchmarks.movies import MODEL
from benchmarks.results import Result, Results
from benchmarks.targets import token_share
from dbt_enrich.cost.prices import price_table

_MANY = 1_000_000
_INTRODUCTION = """\
# Tokens

`make bench ONLY=tokens,quality` writes this page; nothing in it is written by hand. The rows are
real: the films of the IMDB top 1,000, a CSV file of Kaggle's, from whose overviews categories and a
summary are asked.
"""
_COUNTED = """\
Counted in the input files as they would be sent, with the tokenizer of the model's family: system
text, schema, message and framing. The notebook sends the same system text, schema and overview, one
row a request. The answers are the same for everybody, the film's own genres and its overview as
summary; a pack's hold each row's id beside it. How a service writes a schema into the prompt is not
public; here it counts as its JSON text. {many} rows are {times} times these. Prices are those of
`{model}` in the [package's table](guides/prices.md) of {as_of}; for other
models the shares of tokens are the same, the money is not.
"""
_QUALITY = """\
The movies project's own task and worked examples, at temperature 0, through the whole engine, with
the model that the extra `local` brings: 268 million parameters, a base model that knows no
instructions. Its figures say little about what a large model loses in packs: try your own model on
a labelled sample before you pack. F1 is against the genres in the file; failed attempts are asked
again, rows of a pack alone, and their requests and tokens are in the sums.
"""
_PRICE_OF_PACKS = """\
## What packs cost otherwise

Rows in a pack can see one another, and a hostile one can steer the answers to its neighbours; a
pack that is cut or declined has its rows asked again alone. Packs are therefore off by default, see
[Several rows in one request](guides/packs.md).
"""


def token_report(results: Results) -> str:
    """Return the whole page."""
    sections = [
        _INTRODUCTION,
        _tokens(results.of("tokens")),
        _quality(results.of("quality")),
        _PRICE_OF_PACKS,
    ]
    return "\n".join(part for part in sections if part)


def _tokens(results: Sequence[Result]) -> str:
    if not results:
        return ""
    found = results[-1]
    prices, times = price_table("azure"), _MANY / found.rows
    rows = [
        (
            name, number(found.median(name, "requests")), number(found.median(name, "input")),
            _share(token_share(found, name)), number(found.median(name, "output")),
            number(found.median(name, "batch"), 4),
            number(_scaled(found.median(name, "input"), times / 1e6)),
            number(_scaled(found.median(name, "batch"), times), 2),
            number(_scaled(found.median(name, "synchronous"), times), 2),
        )
        for name in found.contenders()
    ]  # fmt: skip
    head = (
        f"{found.rows:,} films", "requests", "input tokens", "of the notebook's", "output tokens",
        f"batch {prices.currency}", f"{_MANY:,} rows: million input tokens",
        f"batch {prices.currency}", f"the same, synchronous {prices.currency}",
    )  # fmt: skip
    text = _COUNTED.format(
        many=f"{_MANY:,}", times=f"{times:,.0f}", model=MODEL, as_of=prices.as_of
    )  # fmt: skip
    return section("What the same answers take", f"{text}\n{table(head, rows)}")


def _quality(results: Sequence[Result]) -> str:
    if not results:
        return ""
    found = results[-1]
    rows = [
        (
            name,
            number(found.median(name, "micro_f1"), 3), number(found.median(name, "macro_f1"), 3),
            _share(found.median(name, "exact")), number(found.median(name, "done")),
            number(found.median(name, "failed")), number(found.median(name, "requests")),
            number(found.median(name, "input")), number(found.median(name, "output")),
            number(found.median(name, "seconds")),
        )
        for name in found.contenders()
    ]  # fmt: skip
    head = (
        f"{found.rows:,} films", "micro F1", "macro F1", "all genres right", "rows done",
        "failed attempts", "requests", "input tokens", "output tokens", "seconds",
    )  # fmt: skip
    machine = f"Measured on {found.measured_at[:10]}: {found.machine}\n"
    return section("What packs do to a weak model", f"{_QUALITY}\n{table(head, rows)}\n{machine}")


def _scaled(value: float | None, times: float) -> float | None:
    return None if value is None else value * times


def _share(value: float | None) -> str:
    return number(None if value is None else value * 100) + ("" if value is None else " %")

"""The page on large runs: docs/million-rows.md, from what was measured and a simulation."""

from __future__ import annotations

from benchmarks.markdown import number, section, table
from benchmarks.movies import MODEL
from benchmarks.results import Result, Results
from benchmarks.simulate import (
    EnginePace,
    ServicePace,
    Work,
    duration,
    simulate,
)
from benchmarks.targets import BOTH, ENGINE, NOTEBOOK, STEPS
from benchmarks.tokens import ONE_ROW, packs_of
from dbt_enrich.cost.prices import price_table
from dbt_enrich.pipeline.run.token_quota import BYTES_PER_TOKEN

_PACKED = packs_of(20)
_SIZES = (1_000_000, 10_000_000, 100_000_000)
# Enqueued tokens of a global batch deployment of a small model: pay as you go, the default
# subscription, and an enterprise agreement (Azure's quotas page, as stored in 2026).
_QUOTAS = (50_000_000, 1_000_000_000, 15_000_000_000)
_TURNAROUNDS = (60.0, 6 * 60.0, 24 * 60.0)
_INTRODUCTION = """\
# A run of a million rows

`make bench` writes this page; nothing in it is written by hand. It says what a large run takes:
what was measured of the engine, what a service's quotas allow, and what to expect therefore.
"""
_ENGINE = """\
Measured at {rows:,} rows without a service, in one process with 100 MB for the warehouse; the page
on [benchmarks](benchmarks.md) says how. The stages are those that `dbt-enrich run --timings` prints
of your own runs.
"""
_QUOTA = """\
A deployment's batches hold tokens from their creation until their end, and what finds no room
waits. The service counts them from the number of characters; dbt-enrich reckons with four bytes
each. What is held is {held:,.0f} tokens a row here, whatever the model reads. Quotas are those of
Azure's global batch for small models, by subscription; `dbt-enrich doctor` and `plan` say yours.
"""
_FORECAST = """\
A simulation (`tests/benchmarks/simulate.py`), not a measurement: files of at most 100,000 requests,
each uploaded as it is written and its batch created when there is room, 25 MB/s each way, ends seen
within a minute, loading while other batches run. What a service makes of a batch is its own: it
promises 24 hours and is often done in less, so three times from creation to end are shown. With a
turnaround of 24 hours the quota decides everything: a run takes a day for each time that it is
filled.
"""
_OWN = """\
With your own figures, of which `dbt-enrich plan` says the first five:

<!-- not run: a script of the repository -->
```sh
cd tests && ../.venv/bin/python -m benchmarks.simulate --rows 1000000 --requests 1000000 \\
    --megabytes {megabytes} --input-tokens {inputs} --output-tokens {outputs} \\
    --quota 1000000000 --quota 1000000000 --turnaround 180 --tokens-per-minute 5000000
```

`--quota` stands once for each deployment, and the deployments work as one queue. What shortens a
run, in this order: a larger quota or a second deployment; packs, which send fewer bytes and so hold
less of the quota; `publish: merge`, where the SELECT can tell what is new.
"""


def budget_report(results: Results) -> str:
    """Return the whole page, or an empty text where too little was measured."""
    sides = [one for one in results.of("sides") if one.median(ENGINE, "table_s") is not None]
    counted = results.of("tokens")
    if not sides or not counted:
        return ""
    measured = sides[-1]
    works = {name: work_of(counted[-1], name) for name in (ONE_ROW, _PACKED)}
    own = works[ONE_ROW].times(_SIZES[0] / works[ONE_ROW].rows)
    return "\n".join(
        [
            _INTRODUCTION,
            section("What the engine takes", _engine(measured)),
            section("What the quotas allow", _quotas(works)),
            section("What to expect", _forecasts(works, pace_of(measured))),
            _OWN.format(
                megabytes=round(own.request_bytes / 1e6),
                inputs=own.input_tokens,
                outputs=own.output_tokens,
            ),
        ]
    )


def pace_of(measured: Result) -> EnginePace:
    """Return the engine's pace as it was measured."""

    def seconds(*names: str) -> float:
        return (measured.median(ENGINE, *names) or 0.0) / measured.rows

    return EnginePace(
        stage=seconds("stage_s", "claim_s"),
        write=seconds("write_s"),
        load=seconds("load_s"),
        publish=seconds("publish_s", "table_s"),
    )


def work_of(counted: Result, name: str) -> Work:
    """Return what was counted of a contender as the work of a run."""

    def figure(key: str) -> int:
        return int(counted.median(name, key) or 0)

    return Work(
        rows=counted.rows,
        requests=figure("requests"),
        request_bytes=figure("request_bytes"),
        response_bytes=figure("response_bytes"),
        input_tokens=figure("input"),
        output_tokens=figure("output"),
    )


def _engine(one: Result) -> str:
    rows = [
        (
            step,
            number(one.median(ENGINE, f"{step}_s"), 1),
            number((one.median(ENGINE, f"{step}_s") or 0) / one.rows * 1e6, 1),
            number(one.largest(ENGINE, f"{step}_peak_mb")),
        )
        for step in STEPS
    ]
    both = one.median(ENGINE, *BOTH)
    rows.append(
        (
            "together", number(both, 1), number((both or 0) / one.rows * 1e6, 1),
            number(one.largest(ENGINE, "peak_mb")),
        )
    )  # fmt: skip
    notebook = one.median(NOTEBOOK, *BOTH)
    text = f"\nThe notebook takes {duration(notebook)} for the same.\n" if notebook else ""
    head = ("stage", "s", "µs/row", "peak MB")
    return f"{_ENGINE.format(rows=one.rows)}\n{table(head, rows)}{text}"


def _quotas(works: dict[str, Work]) -> str:
    rows = []
    for name, work in works.items():
        for size in _SIZES:
            held = _held(work) * size
            fills = (f"{max(1, -(-held // quota)):,.0f}" for quota in _QUOTAS)
            rows.append((name, f"{size:,}", number(held / 1e6), *fills))
    head = (
        "films, as [counted](tokens.md)", "rows", "million tokens held",
        *(f"fills of {quota // 1_000_000:,} million" for quota in _QUOTAS),
    )  # fmt: skip
    text = _QUOTA.format(held=_held(works[ONE_ROW]))
    return f"{text}\n{table(head, rows)}"


def _forecasts(works: dict[str, Work], pace: EnginePace) -> str:
    prices = price_table("azure")
    price = prices.find(MODEL)
    rows = []
    for name, work in works.items():
        for size in _SIZES:
            whole = work.times(size / work.rows)
            cost = price.batch_cost(whole.input_tokens, whole.output_tokens) if price else None
            for quota in _QUOTAS:
                found = [
                    simulate(whole, pace, ServicePace(quotas=(quota,), turnaround=minutes))
                    for minutes in _TURNAROUNDS
                ]
                rows.append(
                    (
                        name, f"{size:,}", f"{quota // 1_000_000:,} million",
                        f"{found[0].files:,}", *(duration(one.finished) for one in found),
                        duration(found[0].engine), number(cost),
                    )
                )  # fmt: skip
    head = (
        "films", "rows", "quota", "files",
        *(f"{minutes / 60:.0f} h a batch" for minutes in _TURNAROUNDS),
        "of which the engine", f"{prices.currency} ({MODEL})",
    )  # fmt: skip
    return f"{_FORECAST}\n{table(head, rows)}"


def _held(work: Work) -> float:
    """Return the tokens that one row holds of a quota."""
    return work.request_bytes / BYTES_PER_TOKEN / work.rows

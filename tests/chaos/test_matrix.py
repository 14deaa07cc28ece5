"""dbt killed with SIGKILL at every step of the ledger, while the service has each of its faults.

The whole product of steps, moments, faults and modes would take hours. `make chaos` runs as many
cases as it takes for every pair to occur; the ordinary suite runs few of them, with every step
before and after it is written, every fault and every mode.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import combinations, product
from typing import Any

import duckdb
import pytest
from dbt_enrich.state.shards import Step
from support.bench import ROWS, Bench
from support.dbt_project import DbtProject
from support.endpoints import EMBEDDINGS, ENDPOINTS, paid_rows, scripted_answer
from support.pairs import Case, all_pairs, covering, pairs_of

# The row whose answer the faults of an answer spoil.
SPOILED = 3
MODES = {"run": ("run",), "submit": ("submit", "collect"), "python": ("run",)}
MOMENTS = ("before", "after")
# A batch that failed as a whole for good is what a shard is released for.
REFUSED = {"failed": "invalid_request", "times": 1}


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong at the service, and what it makes of the account.

    Attributes:
        faults: Of the connection.
        endings: Of batches.
        rules: Of answers.
        answered: How often the spoiled row is answered.
        paid: How often it is paid for.
        status: What becomes of it.
        asked_again: Requests that the service failed, and that are therefore asked once more.
        fails: How many runs it may fail.
    """

    faults: list[dict[str, Any]] = field(default_factory=list)
    endings: list[dict[str, Any]] = field(default_factory=list)
    rules: list[dict[str, Any]] = field(default_factory=list)
    answered: int = 1
    paid: int = 1
    status: str = "done"
    asked_again: tuple[int, ...] = (0,)
    fails: int = 0


def connection(name: str, operation: str, **more: Any) -> Fault:
    """Return a fault of the connection."""
    return Fault(faults=[{"name": name, "operation": operation, **more}])


def ending(**keys: Any) -> Fault:
    """Return a fault of the first batch."""
    return Fault(endings=[{"times": 1, **keys}])


def answer(
    fault: str | None = None,
    *,
    answered: int = 2,
    paid: int = 2,
    final: str = "done",
    **keys: Any,
) -> Fault:
    """Return a fault of the spoiled row's first answer."""
    spoiled = f"note {SPOILED}"
    rule = {"match": spoiled, "times": 1, **({"fault": fault} if fault else {}), **keys}
    # An answer that echoes the last message would echo the request to fix it.
    mended = {"match": spoiled, "answer": {"summary": f"summary: {spoiled}"}}
    return Fault(rules=[rule, mended], answered=answered, paid=paid, status=final)


FAULTS = {
    "create's reply lost": connection("lost_reply", "POST /batches"),
    "upload's reply lost": connection("lost_reply", "POST /files"),
    "upload reset": connection("reset", "POST /files"),
    "poll reset": connection("reset", "GET /batches/", times=2),
    "first download truncated": connection("truncated", "GET /files/file-", call=3),
    "second download truncated": connection("truncated", "GET /files/file-", call=4),
    "download too short": connection("wrong_length", "GET /files/file-", times=3),
    "429 with Retry-After": connection(
        "status", "POST /batches", status=429, retry_after="0", times=2
    ),
    "503": connection("status", "GET /batches", status=503, times=2),
    "proxy's page": connection("garbage", "GET /batches/"),
    "proxy's page for a file": connection("garbage", "GET /files/file-", call=3, times=2),
    "no reply at all": connection("hang", "GET /batches/"),
    "odd shapes": Fault(
        faults=[
            {"name": name, "times": None}
            for name in ("odd_status", "iso_times", "empty_ids", "null_counts", "unknown_fields")
        ]
    ),
    "no room to create": connection(
        "status", "POST /batches", status=400, code="token_limit_exceeded"
    ),
    "expired in part": ending(after=2, status="expired"),
    "cancelled in part": ending(after=2, status="cancelled"),
    "no room": ending(failed="token_limit_exceeded"),
    "errors only": Fault(endings=[{"only_errors": True, "times": 1}], asked_again=(3, 4)),
    "refused": Fault(endings=[REFUSED], fails=1),
    "line missing": answer("missing"),
    "line twice": answer("duplicate", answered=1, paid=1),
    "line broken": answer("broken_line"),
    "line of a stranger": answer("unknown_id", answered=1, paid=1),
    "answer misshapen": answer("wrong_shape"),
    "prompt filtered": answer("content_filter_prompt", answered=1, paid=0, final="failed"),
    "row's server error": answer(status=500, paid=1),
}
# A vector of a text alone cannot be at another's place.
FAULTS_OF_VECTORS = {"wrong_shape": "null_content"}
# `answering` is of the synchronous endpoint, where `test_kill_synchronous.py` kills at it.
STEPS = tuple(step for step in Step if step != Step.ANSWERING)
FACTORS = {
    "step": tuple(str(step) for step in STEPS),
    "fault": tuple(FAULTS),
    "mode": tuple(MODES),
    "moment": MOMENTS,
    "endpoint": ENDPOINTS,
}
CASES = all_pairs(FACTORS, seed=20)
ORDINARY = covering(CASES, ("step", "moment"), ("fault",), ("mode",), ("endpoint",))


def name_of(case: Case) -> str:
    """Return a test's id."""
    return f"{case['mode']}, {case['endpoint']}, {case['moment']} {case['step']}, {case['fault']}"


def parameters() -> list[Any]:
    """Return every case once; those that the ordinary suite leaves out are marked."""
    return [
        pytest.param(
            case, id=name_of(case), marks=() if case in ORDINARY else (pytest.mark.matrix,)
        )
        for case in CASES
    ]


@pytest.mark.parametrize("case", parameters())
def test_killed_while_something_goes_wrong(case: Case, bench: Bench) -> None:
    """Killed at a step under a fault and run to the end, every row is answered and paid once."""
    fault = FAULTS[case["fault"]]
    released = case["step"] == Step.RELEASED
    bench.emulator.rules([rule_for(case["endpoint"], rule) for rule in fault.rules])
    bench.emulator.faults(*fault.faults)
    bench.emulator.endings(*([REFUSED] if released else []), *fault.endings)
    with bench.offering(case["endpoint"]):
        drive(case, bench, fails=fault.fails + released)
    assert_whole(case, bench, fault)


def rule_for(endpoint: str, rule: dict[str, Any]) -> dict[str, Any]:
    """Return a rule whose fault an endpoint's answers can have."""
    fault = rule.get("fault")
    if endpoint != EMBEDDINGS or fault not in FAULTS_OF_VECTORS:
        return rule
    return {**rule, "fault": FAULTS_OF_VECTORS[fault]}


def table_of(case: Case) -> str:
    """Return the model that is run."""
    door = "python" if case["mode"] == "python" else "sql"
    return f"vectors_from_{door}" if case["endpoint"] == EMBEDDINGS else f"from_{door}"


def drive(case: Case, bench: Bench, *, fails: int) -> None:
    """Run dbt, which is killed once, until nothing is left to do."""
    table, modes = table_of(case), MODES[case["mode"]]
    moment: str | None = f"{case['step']}:{case['moment']}"
    for _ in range(2 + fails + len(modes)):
        for mode in modes:
            dbt = bench.project.fork(
                "run",
                "--select",
                table,
                kill_at=moment,
                environment={"NOTES_MODE": mode, "NOTES_ENDPOINT": case["endpoint"]},
            )
            if dbt.was_killed():
                moment = None
            elif dbt.wait() != 0:
                fails -= 1
                assert fails >= 0, dbt.output
            bench.emulator.settle()
        if moment is None and is_finished(bench.project, table, FAULTS[case["fault"]]):
            return
    pytest.fail(f"not at its end after as many runs as it may take: {dbt.output}")


def is_finished(project: DbtProject, table: str, fault: Fault) -> bool:
    """Whether the table is there, and every row is answered that ever will be."""
    try:
        found = project.rows(f"select count(*) from {table} where enrichment_status = 'done'")
    except duckdb.CatalogException:
        return False
    return found == [(ROWS - (fault.status != "done"),)]


def assert_whole(case: Case, bench: Bench, fault: Fault) -> None:
    """Every staged row has its own answer, and each was answered and paid for as it must be."""
    endpoint = case["endpoint"]
    output = "vector" if endpoint == EMBEDDINGS else "summary"
    found = bench.project.rows(
        f"select id, {output}, enrichment_status, enrichment_key from {table_of(case)} order by id"
    )
    expected: list[tuple[Any, ...]] = [
        (i, scripted_answer(endpoint, f"note {i}"), "done") for i in range(ROWS)
    ]
    if fault.status != "done":
        expected[SPOILED] = (SPOILED, None, fault.status)
    assert [row[:3] for row in found] == expected
    keys = [str(row[3]).replace("-", "") for row in found]
    account = bench.emulator.account()
    paid = dict.fromkeys(keys, 1) | {keys[SPOILED]: fault.paid}
    assert paid_rows(account) == {key: times for key, times in paid.items() if times}
    answered = dict.fromkeys(keys, 1) | {keys[SPOILED]: fault.answered}
    found_answered = paid_rows(account, "request_keys")
    more = sum(found_answered.values()) - sum(answered.values())
    assert more in fault.asked_again
    if not more:
        assert found_answered == answered


def test_every_pair_is_among_the_cases() -> None:
    """Every pair of values occurs; in the ordinary suite every step, fault, mode and endpoint."""
    missing = {
        (first, a, second, b)
        for first, second in combinations(FACTORS, 2)
        for a, b in product(FACTORS[first], FACTORS[second])
    }
    for case in CASES:
        missing -= pairs_of(case)
    assert not missing
    assert {(case["step"], case["moment"]) for case in ORDINARY} == set(product(STEPS, MOMENTS))
    assert {case["fault"] for case in ORDINARY} == set(FAULTS)
    assert {case["mode"] for case in ORDINARY} == set(MODES)
    assert {case["endpoint"] for case in ORDINARY} == set(ENDPOINTS)

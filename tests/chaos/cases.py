"""Kill points, faults and modes, and the cases that pair them."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any

from dbt_enrich.ledger import Step

# A run in which nothing goes wrong takes every step but this one.
STEPS = [step for step in Step if step != Step.RELEASED]
MOMENTS = ("before", "after")
SPOILED = "note 3"


@dataclass(frozen=True)
class ServiceFault:
    """Something that goes wrong at the service.

    Attributes:
        name: What it is called.
        faults: Faults of the connection.
        ending: How the first batch ends.
        rule: What happens to the answer of one request.
        repaid: Whether that request has to be asked and paid for a second time.
        repaired: Whether its second answer is to the request for a mended one.
    """

    name: str
    faults: tuple[dict[str, Any], ...] = ()
    ending: dict[str, Any] = field(default_factory=dict)
    rule: dict[str, Any] = field(default_factory=dict)
    repaid: bool = False
    repaired: bool = False


def _broken(name: str, operation: str, **more: Any) -> tuple[dict[str, Any], ...]:
    return ({"name": name, "operation": operation, **more},)


FAULTS = (
    ServiceFault("none"),
    ServiceFault("create lost", _broken("lost_reply", "POST /batches")),
    ServiceFault("upload reset", _broken("reset", "POST /files")),
    ServiceFault("upload lost", _broken("lost_reply", "POST /files")),
    ServiceFault("download cut", _broken("truncated", "GET /files/file-", times=3)),
    ServiceFault("rate limit", _broken("status", "POST /", status=429, retry_after="0")),
    ServiceFault("unavailable", _broken("status", "GET /batches", status=503, times=2)),
    ServiceFault("hanging", _broken("hang", "GET /batches/")),
    ServiceFault(
        "no room",
        _broken("status", "POST /batches", status=400, code="token_limit_exceeded"),
    ),
    ServiceFault("no room later", ending={"failed": "token_limit_exceeded"}),
    ServiceFault("expired", ending={"status": "expired", "after": 2}),
    ServiceFault("cancelled", ending={"status": "cancelled", "after": 2}),
    ServiceFault("only errors", ending={"only_errors": True}),
    ServiceFault("line missing", rule={"fault": "missing"}, repaid=True),
    ServiceFault("line doubled", rule={"fault": "duplicate"}),
    ServiceFault("answer broken", rule={"fault": "broken_json"}, repaid=True, repaired=True),
    ServiceFault(
        "odd shapes",
        tuple(
            {"name": name, "times": None}
            for name in ("odd_status", "iso_times", "empty_ids", "null_counts", "unknown_fields")
        ),
    ),
)

# Which steps a run of each mode can come to: `collect` begins with batches at the service.
_SENDING = STEPS[: STEPS.index(Step.SUBMITTED) + 1]
REACHES = {
    "run": STEPS,
    "python": STEPS,
    "submit": _SENDING,
    "collect": STEPS[STEPS.index(Step.ENDED) :],
}


@dataclass(frozen=True)
class Case:
    """One kill, with one fault, in one mode."""

    step: Step
    moment: str
    fault: ServiceFault
    mode: str

    def __str__(self) -> str:
        return f"{self.step}-{self.moment}-{self.fault.name.replace(' ', '_')}-{self.mode}"

    @property
    def pairs(self) -> set[tuple[object, object]]:
        """The pairs of choices that the case tries."""
        kill = (self.step, self.moment)
        return {(kill, self.fault.name), (kill, self.mode), (self.fault.name, self.mode)}


def all_cases() -> list[Case]:
    """Return every combination that can happen."""
    return [
        Case(step, moment, fault, mode)
        for mode, steps in REACHES.items()
        for step, moment, fault in itertools.product(steps, MOMENTS, FAULTS)
    ]


def pairwise() -> list[Case]:
    """Return cases in which each pair of a kill point, a fault and a mode occurs."""
    left = all_cases()
    wanted = set().union(*(case.pairs for case in left))
    chosen: list[Case] = []
    while wanted:
        best = max(left, key=lambda case: len(case.pairs & wanted))
        chosen.append(best)
        wanted -= best.pairs
        left.remove(best)
    return chosen


def each_once() -> list[Case]:
    """Return a few cases in which each kill point, each fault and each mode occurs."""
    left = all_cases()
    seen: set[object] = set()
    kills: set[tuple[Step, str]] = set(itertools.product(STEPS, MOMENTS))
    chosen: list[Case] = []
    while kills:
        best = max(
            (case for case in left if (case.step, case.moment) in kills),
            key=lambda case: (case.fault.name not in seen) + (case.mode not in seen),
        )
        chosen.append(best)
        kills.discard((best.step, best.moment))
        seen |= {best.fault.name, best.mode}
        if {fault.name for fault in FAULTS} <= seen:
            seen -= {fault.name for fault in FAULTS}
        if set(REACHES) <= seen:
            seen -= set(REACHES)
    return chosen

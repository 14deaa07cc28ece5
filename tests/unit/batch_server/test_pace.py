"""The pace of a relay: as fast as a service takes requests, and no faster."""

from __future__ import annotations

import heapq
import math
import random
from dataclasses import dataclass, field

import pytest
from batch_server.responders.pace import Pace
from batch_server.responders.reply_headers import Allowance, allowance, asked_wait
from batch_server.responders.verdicts import Verdict, is_filtered, is_no_answer, verdict_of
from hypothesis import given, settings
from hypothesis import strategies as st

SIZE = 400


@dataclass
class Service:
    """A service that takes so many requests at once, and so many a minute, and says so or not.

    Attributes:
        at_once: Requests in flight that it takes.
        a_minute: Requests that it takes within a minute, which come back bit by bit.
        seconds: How long an answer takes.
        tells: Whether its replies say what is left.
        retry_after: What a refusal asks for, or None.
    """

    at_once: int
    a_minute: float
    seconds: float
    tells: bool
    retry_after: float | None = None
    left: float = field(init=False)
    at: float = 0.0
    flying: int = 0
    refused: int = 0
    answered: int = 0

    def __post_init__(self) -> None:
        self.left = self.a_minute

    def take(self, now: float) -> bool:
        """Take a request, or refuse it."""
        self.left = min(self.a_minute, self.left + (now - self.at) * self.a_minute / 60)
        self.at = now
        if self.left < 1 or self.flying >= self.at_once:
            self.refused += 1
            return False
        self.left -= 1
        self.flying += 1
        return True

    def headers(self) -> dict[str, str]:
        """What a reply says."""
        if not self.tells:
            return {}
        reset = (self.a_minute - self.left) * 60 / self.a_minute
        return {
            "x-ratelimit-remaining-requests": str(int(self.left)),
            "x-ratelimit-limit-requests": str(int(self.a_minute)),
            "x-ratelimit-reset-requests": f"{reset:.3f}s",
        }


def ask(service: Service, seconds: float, pace: Pace) -> None:
    """Ask a service for so many seconds, by the time of the simulation."""
    now = 0.0
    back: list[tuple[float, int, bool, bool]] = []
    while now < seconds:
        wait = pace.wait(now, SIZE)
        if wait <= 0:
            number = pace.sent(SIZE)
            full = pace.in_flight >= pace.window
            is_taken = service.take(now)
            due = now + (service.seconds if is_taken else 0.01)
            heapq.heappush(back, (due, number, is_taken, full))
            continue
        next_back = back[0][0] if back else math.inf
        assert min(next_back, now + wait) < math.inf, "it waits for ever"
        if next_back <= now + wait:
            now, number, is_taken, full = heapq.heappop(back)
            headers = service.headers()
            if is_taken:
                service.flying -= 1
                service.answered += 1
                pace.answered(now, headers, 100, was_full=full)
            else:
                if service.retry_after is not None:
                    headers["retry-after"] = str(service.retry_after)
                pace.busy(now, headers, number)
            pace.back()
        else:
            now += wait


@settings(max_examples=20)
@given(at_once=st.integers(1, 100), seconds=st.floats(0.2, 3.0))
def test_it_finds_how_many_a_service_takes_at_once(at_once: int, seconds: float) -> None:
    """Without a word of it: most of what is possible is answered."""
    service = Service(at_once, a_minute=1e9, seconds=seconds, tells=False)
    ask(service, 100.0, Pace(chance=random.Random(1)))
    possible = min(at_once, 128) / seconds * 100.0
    assert service.answered >= 0.5 * possible
    assert service.refused <= 0.6 * service.answered + 20


@settings(max_examples=20)
@given(a_minute=st.integers(30, 3_000), seconds=st.floats(0.2, 5.0))
def test_it_keeps_within_what_replies_say(a_minute: int, seconds: float) -> None:
    """A service that tells what is left refuses next to nothing, and is used as it allows."""
    service = Service(10_000, a_minute=a_minute, seconds=seconds, tells=True)
    ask(service, 180.0, Pace(chance=random.Random(1)))
    possible = min(a_minute * 3.0, 128 / seconds * 180.0)
    assert service.answered >= 0.6 * possible
    assert service.refused <= 10 + 0.02 * service.answered


def test_what_is_asked_for_is_waited() -> None:
    """To the second, by all, however many replies ask for it at once."""
    pace = Pace(chance=random.Random(1))
    numbers = [pace.sent(SIZE) for _ in range(4)]
    for number in numbers:
        pace.busy(10.0, {"retry-after": "7"}, number)
        pace.back()
    assert pace.wait(10.0, SIZE) == pytest.approx(7.0)
    assert pace.wait(17.0, SIZE) == 0.0
    # Four refusals of requests that were in flight together make the window half as large, once.
    assert pace.window == 2


def test_pauses_grow_while_nothing_is_answered() -> None:
    """Up to a minute, and are short again after an answer."""
    pace = Pace(chance=random.Random(1))
    now, pauses = 0.0, []
    for _ in range(12):
        number = pace.sent(SIZE)
        pace.troubled(now, number)
        pace.back()
        assert pace.failing_since == 0.0
        pauses.append(pace.wait(now, SIZE))
        now += pauses[-1]
    assert pauses == sorted(pauses) or max(pauses) <= 72
    assert pauses[0] < 1
    assert 60 <= pauses[-1] <= 72
    pace.sent(SIZE)
    pace.answered(now, {}, None, was_full=False)
    pace.back()
    assert (pace.failing_since, pace.wait(now, SIZE), pace.window) == (None, 0.0, 1)


@pytest.mark.parametrize("kind", ["requests", "tokens"])
def test_a_limit_of_a_day_is_tried_again_within_a_minute(kind: str) -> None:
    """It may be another one than what stands in the way, or a lie: a refusal says so."""
    pace = Pace(chance=random.Random(1))
    told = {f"x-ratelimit-remaining-{kind}": "0", f"x-ratelimit-reset-{kind}": "23h0m0s"}
    pace.sent(SIZE)
    pace.answered(5.0, told, 100, was_full=False)
    pace.back()
    assert pace.wait(5.0, SIZE) == pytest.approx(60.0)
    assert pace.wait(65.0, SIZE) == 0.0


@given(
    remaining=st.floats(0, 1e6),
    seconds=st.floats(0, 3_600),
    limit=st.none() | st.floats(1, 1e6),
    wanted=st.floats(0, 1e6),
    since=st.floats(0, 7_200),
)
def test_a_wait_ends(
    remaining: float, seconds: float, limit: float | None, wanted: float, since: float
) -> None:
    """No later than all is there again, and the later it is asked the less is left of it."""
    told = Allowance(remaining, seconds, limit)
    wait = told.wait(wanted, since)
    assert 0 <= wait <= max(seconds - since, 0.0)
    assert told.wait(wanted, since + wait + 1e-6) <= 1e-5 + wait * 1e-6
    assert told.wait(wanted, since + 1) <= wait


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("1s", 1.0), ("6m0s", 360.0), ("20ms", 0.02), ("1h2m3.5s", 3723.5), ("12", 12.0),
     ("", 60.0), ("soon", 60.0), ("-3", 0.0)],
)  # fmt: skip
def test_durations_of_rate_limits(text: str, seconds: float) -> None:
    """As OpenAI writes them, and as numbers; what cannot be read is a minute."""
    told = allowance(
        {"x-ratelimit-remaining-tokens": "5", "x-ratelimit-reset-tokens": text}, "tokens"
    )
    assert told == Allowance(5.0, seconds)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [({"retry-after": "3"}, 3.0), ({"retry-after-ms": "250", "retry-after": "1"}, 0.25),
     ({"retry-after": "Thu, 01 Jan 1970 00:01:40 GMT"}, 60.0), ({"retry-after": "later"}, None),
     ({}, None), ({"retry-after": "-4"}, 0.0)],
)  # fmt: skip
def test_retry_after(headers: dict[str, str], seconds: float | None) -> None:
    """A number, milliseconds or a date."""
    assert asked_wait(headers, now=40.0) == seconds


@pytest.mark.parametrize(
    ("status", "code", "verdict"),
    [(200, None, Verdict.ANSWERED), (201, None, Verdict.ANSWERED),
     (302, None, Verdict.REFUSED), (400, "invalid_request_error", Verdict.ITS_OWN),
     (400, "content_filter", Verdict.ITS_OWN), (400, "OperationNotSupported", Verdict.REFUSED),
     (401, None, Verdict.DENIED), (403, None, Verdict.REFUSED),
     (404, "DeploymentNotFound", Verdict.REFUSED), (408, None, Verdict.TROUBLED),
     (409, None, Verdict.TROUBLED), (422, None, Verdict.ITS_OWN), (425, None, Verdict.NOT_BEGUN),
     (429, "rate_limit_exceeded", Verdict.NOT_BEGUN), (429, "insufficient_quota", Verdict.REFUSED),
     (400, "token_limit_exceeded", Verdict.NOT_BEGUN), (500, None, Verdict.TROUBLED),
     (502, None, Verdict.TROUBLED), (503, None, Verdict.NOT_BEGUN)],
)  # fmt: skip
def test_verdicts(status: int, code: str | None, verdict: Verdict) -> None:
    """Only what the service did not begin is sent again; what it began is its request's end."""
    assert verdict_of(status, code) is verdict


def test_a_good_status_without_an_answer() -> None:
    """A proxy's page, or an error under the status 200, is kept, and the service in trouble."""
    assert is_no_answer("<html>")
    assert is_no_answer({"error": {"message": "no"}})
    assert not is_no_answer({"id": "x", "error": None, "status": "completed"})
    assert not is_no_answer({"object": "list", "data": []})
    assert verdict_of(200, None, is_error=True) is Verdict.TROUBLED
    assert is_filtered({"code": "content_filter"})
    assert is_filtered({"code": None, "innererror": {"code": "ResponsibleAIPolicyViolation"}})
    assert not is_filtered({"code": "other", "innererror": "x"})
    assert not is_filtered(None)

"""The simulation of large runs, held against what can be worked out by hand."""

from __future__ import annotations

import pytest
from benchmarks.simulate import (
    EnginePace,
    Forecast,
    ServicePace,
    Work,
    duration,
    main,
    simulate,
)

ENGINE = EnginePace(stage=1e-5, write=1e-5, load=1e-5, publish=1e-5)
# Ten files of 100,000 requests, 100 MB and so 25 million held tokens each.
WORK = Work(
    rows=1_000_000,
    requests=1_000_000,
    request_bytes=1_000_000_000,
    response_bytes=500_000_000,
    input_tokens=200_000_000,
    output_tokens=100_000_000,
)
SERVICE = ServicePace(turnaround=60, upload=100, download=100, poll=30)


def forecast(
    *quotas: int | None, work: Work = WORK, tokens_per_minute: float | None = None
) -> Forecast:
    """Simulate with these quotas."""
    service = ServicePace(
        quotas=quotas or (None,),
        turnaround=SERVICE.turnaround,
        tokens_per_minute=tokens_per_minute,
        upload=SERVICE.upload,
        download=SERVICE.download,
        poll=SERVICE.poll,
    )
    return simulate(work, ENGINE, service)


def test_one_file_takes_the_sum_of_its_steps() -> None:
    """Staged, written, uploaded, answered, seen, downloaded, loaded and published."""
    found = forecast(work=WORK.times(0.1))
    assert found.files == 1
    assert found.first_created == pytest.approx(1 + 1 + 1)
    assert found.last_ended == pytest.approx(3 + 3600)
    assert found.finished == pytest.approx(3 + 3600 + 30 + 0.5 + 1 + 1)
    assert found.engine == pytest.approx(4)


def test_files_are_uploaded_while_others_are_written() -> None:
    """Without a limit all are at the service at once, a step of a file apart."""
    found = forecast()
    assert found.files == found.at_once == 10
    assert found.waited_for_room == 0
    # Ten seconds of staging; of each file a second to write, and a second to upload.
    assert found.first_created == pytest.approx(10 + 1 + 1)
    assert found.last_ended == pytest.approx(10 + 1 + 10 + 3600)


def test_a_quota_that_is_filled_twice_takes_two_turnarounds() -> None:
    """Five batches fill it; the next five wait until these have ended."""
    found = forecast(5 * 25_000_000)
    assert found.at_once == 5
    assert 2 * 3600 < found.last_ended < 2 * 3600 + 120
    assert found.waited_for_room > 3500


def test_files_are_cut_so_that_they_fill_the_quota() -> None:
    """Of the usual ones only one would fit at a time, and the run would take ten turnarounds."""
    found = forecast(48_000_000)
    assert found.at_once == 2
    assert found.files == 11
    assert 6 * 3600 < found.last_ended < 6.1 * 3600


def test_deployments_share_the_work() -> None:
    """Two of half the size do as much at once as one."""
    assert forecast(125_000_000, 125_000_000).at_once == 10
    assert forecast(125_000_000, 125_000_000).finished < forecast(125_000_000).finished - 3000


def test_a_small_quota_makes_small_files() -> None:
    """Each holds what the quota allows, and goes alone."""
    found = forecast(10_000_000)
    assert found.files == 25
    assert found.at_once == 1
    assert found.last_ended > 25 * 3600


def test_a_slow_deployment_works_batches_off_one_after_the_other() -> None:
    """300 million tokens at a million a minute are five hours, and longer than one batch."""
    found = forecast(tokens_per_minute=1_000_000)
    assert found.last_ended == pytest.approx(12 + 300 * 60)
    assert not found.expires
    assert forecast(tokens_per_minute=100_000).expires
    # Two deployments do it in half the time.
    assert forecast(None, None, tokens_per_minute=1_000_000).last_ended < 160 * 60


def test_no_more_files_are_at_the_service_than_may_be() -> None:
    """The next one waits for one to go."""
    service = ServicePace(turnaround=60, upload=100, download=100, poll=30, files=2)
    found = simulate(WORK, ENGINE, service)
    assert found.at_once == 2
    assert found.last_ended > 5 * 3600


def test_more_quota_is_never_slower() -> None:
    """From one that holds a file to one that holds all."""
    ends = [forecast(quota * 25_000_000).finished for quota in range(1, 12)]
    assert ends == sorted(ends, reverse=True)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(75, "75 s"), (3600, "60 min"), (3 * 3600, "3.0 h"), (180_000, "2.1 days")],
)
def test_durations_are_written_as_people_say_them(seconds: float, said: str) -> None:
    """Whole seconds and minutes, tenths of hours and days."""
    assert duration(seconds) == said


def test_the_command_takes_what_a_plan_says(capsys: pytest.CaptureFixture[str]) -> None:
    """Rows, megabytes and tokens, and one's own quotas."""
    main(
        ["--rows", "1000000", "--megabytes", "1000", "--input-tokens", "200000000",
         "--output-tokens", "100000000", "--quota", "125000000", "--turnaround", "60"]
    )  # fmt: skip
    text = capsys.readouterr().out
    assert "| files, a batch each | 10 |" in text
    assert "| batches at the service at once, at most | 5 |" in text

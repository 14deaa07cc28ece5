"""dbt killed with SIGKILL while the relay asks for it: each reply that came is kept."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from batch_server.server import running_emulator
from chaos.test_interrupt import END_SECONDS, press
from dbt_enrich.state.shards import Step
from support.bench import ROWS, Bench
from support.dbt_project import DbtProject, azure

SELECT = ("run", "--select", "from_sql")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """A project whose rows all go through the synchronous endpoint."""
    directory: Path = tmp_path_factory.mktemp("synchronous")
    with running_emulator(directory / "emulator") as emulator:
        plugin = azure(emulator.url, emulator.api_key, timeout=3)
        project = DbtProject(directory, plugin)
        project.enrichment(
            "from_sql",
            f"select i as id, 'note ' || i as note from range({ROWS}) as numbers(i)",
            meta={"sync_below": 100, "preview_model": "standard"},
        )
        yield Bench(project, emulator, plugin)


@pytest.fixture
def bench(shared: Bench) -> Bench:
    """The project and the emulator, as if new."""
    shared.clear()
    return shared


def test_killed_after_some_replies(bench: Bench) -> None:
    """The next run takes those in, and asks only for the rows without a reply."""
    bench.emulator.faults(
        *(
            {"name": "status", "operation": "POST /chat/completions", "status": 503, "call": call}
            for call in range(4, 500)
        )
    )
    dbt = bench.project.fork(*SELECT)
    deadline = time.monotonic() + 60
    while replies(bench) < 3:
        assert time.monotonic() < deadline, dbt.output
        time.sleep(0.02)
    dbt.kill()
    assert dbt.was_killed()
    assert len(bench.emulator.account()["paid"]) == 3
    bench.emulator.faults()
    bench.project.dbt(*SELECT)
    bench.assert_whole()
    assert bench.creations() == 0


def test_interrupted_after_some_replies(bench: Bench) -> None:
    """Ctrl-C ends dbt at once, the relay stays for what is on its way; nothing is paid twice."""
    bench.emulator.faults(
        {"name": "slow", "operation": "POST /chat/completions", "times": None, "delay": 0.2}
    )
    dbt = bench.project.fork(*SELECT)
    deadline = time.monotonic() + 60
    while replies(bench) < 3:
        assert time.monotonic() < deadline, dbt.output
        time.sleep(0.02)
    press(dbt)
    dbt.process.join(END_SECONDS)
    if dbt.process.is_alive():
        press(dbt)
    assert dbt.wait(END_SECONDS) not in (0, -signal.SIGKILL), dbt.output
    bench.emulator.faults()
    bench.project.dbt(*SELECT)
    bench.assert_whole()


def replies(bench: Bench) -> int:
    """The replies that the relay has kept."""
    files = (bench.project.state_dir / "relay").glob("*/results/*.jsonl")
    return sum(file.read_bytes().count(b"\n") for file in files)


@pytest.mark.parametrize(
    "kill_at",
    [f"{step}:{when}" for step in (Step.CREATING, Step.SUBMITTED) for when in ("before", "after")]
    + [f"{Step.ENDED}:after", f"{Step.DOWNLOADED}:after", f"{Step.STORED}:before"],
)
def test_killed_at_each_step(kill_at: str, bench: Bench) -> None:
    """Nothing is paid for twice, and the table is whole after the next run."""
    bench.project.killed(*SELECT, kill_at=kill_at)
    bench.project.dbt(*SELECT)
    bench.assert_whole()

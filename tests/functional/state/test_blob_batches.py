"""Batches that read their requests from a container and write their answers there, over Azurite.

The emulator's account says what each request was paid; Azurite is what both sides read and write.
"""

from __future__ import annotations

import secrets
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from batch_server.blobs import Blobs
from batch_server.server import RunningEmulator, running_emulator
from dbt_enrich.buckets.bucket import Bucket
from dbt_enrich.cli.diagnosis_service import service_findings
from dbt_enrich.clock import MACHINE_CLOCK, Clock
from dbt_enrich.config.bucket_address import parse_bucket_address
from dbt_enrich.console.console import Console
from dbt_enrich.errors import BatchFailedError, LedgerError
from dbt_enrich.pipeline.without_warehouse import attached
from dbt_enrich.services import create_service
from dbt_enrich.state.moving import unshare
from dbt_enrich.state.open_ledger import open_ledger
from dbt_enrich.task.options import Mode
from support.buckets import (
    azure_environment,
    lost_reply,
    make_azure_container,
    needs_azurite,
    proxy_to,
    unavailable,
)
from support.clock import HastyClock
from support.runner import Runner, Work
from support.shared_ledger import LedgerServer, document
from support.waiting import wait_until
from support.warehouse import Warehouse, config_for

pytestmark = needs_azurite
ROWS = 6
NOTES = f"select i as id, 'note ' || i as note from range({ROWS}) as numbers(i)"
_LEASE = 1.5


@dataclass
class Place:
    """A container, and what runs on it.

    Attributes:
        emulator: The service, whose identity may read and write it.
        state: The keys of the shared state in the container.
        machines: Where the directories of the runners' machines are.
    """

    emulator: RunningEmulator
    state: dict[str, str]
    machines: Path

    @property
    def bucket(self) -> Bucket:
        """The container, from its root."""
        container, _, _ = self.state["files"].removeprefix("az://").partition("/")
        return Bucket(parse_bucket_address(f"az://{container}"))

    def keys(self, *kinds: str) -> list[str]:
        """Return the keys of requests and answers, or of some kinds of files."""
        root = self.state["files"].removeprefix("az://").partition("/")[2]
        wanted = kinds or ("requests", "responses")
        return [one.key for kind in wanted for one in self.bucket.list(f"{root}/{kind}")]

    def warehouse(
        self, machine: str = "machine", *, clock: Clock = MACHINE_CLOCK, **changes: Any
    ) -> Warehouse:
        """Return a warehouse on a machine of its own."""
        values = {"state": self.state, "batch_input": "blob", **changes}
        url, key = self.emulator.url, self.emulator.api_key
        return Warehouse(config_for(url, key, self.machines / machine, **values), clock=clock)

    def uploads(self) -> int:
        """Return how many files were uploaded through the API."""
        calls = self.emulator.account()["calls"]
        return sum(call["method"] == "POST" and call["path"].endswith("/files") for call in calls)

    def assert_paid_once(self, rows: int = ROWS) -> None:
        """Each of so many requests was answered, and paid for once."""
        paid = self.emulator.account()["paid"]
        assert len(paid) == rows
        assert set(paid.values()) == {1}


@pytest.fixture
def environment(azure: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What the environment says of Azurite."""
    found = azure_environment(azure)
    for name, value in found.items():
        monkeypatch.setenv(name, value)
    return found


@pytest.fixture
def place(
    azure: str, environment: dict[str, str], ledgers: LedgerServer, tmp_path: Path
) -> Iterator[Place]:
    """A new container and a new ledger, with an emulator that may read and write blobs."""
    container = f"b{secrets.token_hex(8)}"
    make_azure_container(azure, container)
    state = {**document(ledgers.new()), "files": f"az://{container}/state of/ours"}
    with running_emulator(tmp_path / "emulator", blobs=Blobs()) as emulator:
        yield Place(emulator, state, tmp_path)


@pytest.mark.parametrize("api_version", [None, "2025-04-01-preview"])
def test_requests_and_answers_go_through_the_container_alone(
    place: Place, api_version: str | None
) -> None:
    """No file is uploaded, a batch carries no metadata, and nothing stays once it is stored."""
    place.emulator.endings(status="completed", after=2)
    warehouse = place.warehouse(api_version=api_version, max_requests_per_file=3)
    warehouse.enrich(NOTES)
    assert warehouse.statuses() == {"done": ROWS}
    batches = place.emulator.jobs.batches()
    assert {(b["input_file_id"], b["metadata"]) for b in batches} == {(None, None)}
    names = [batch["input_blob"] for batch in batches]
    assert all("/state%20of/ours/requests/tests/" in name for name in names)
    assert place.uploads() == 0
    assert place.keys() == []
    place.assert_paid_once()


def test_files_that_are_to_be_kept_stay(place: Place) -> None:
    """`keep_files` holds for the container, and a run without it removes what another one kept."""
    place.warehouse(keep_files=True).enrich(NOTES)
    kept = place.keys()
    assert [key.rpartition("/")[2].endswith(".jsonl") for key in kept] == [True, True]
    place.warehouse("other").enrich(NOTES)
    assert place.keys() == []
    place.assert_paid_once()


@pytest.mark.parametrize(("rows_per_request", "prefix"), [(3, "another/prefix"), (None, "")])
def test_batches_of_a_ledger_that_is_lost_are_adopted_by_the_names_of_their_blobs(
    place: Place, ledgers: LedgerServer, rows_per_request: int | None, prefix: str
) -> None:
    """In flight and over alike, below whichever prefix of the container; not other namespaces'."""
    container = place.state["files"].split("/")[2]

    def submitted(machine: str, **changes: Any) -> set[str]:
        sender = place.warehouse(machine, **changes)
        sender.enrich(NOTES, mode=Mode.SUBMIT, rows_per_request=rows_per_request)
        return {one.key for one in place.bucket.list(f"{machine}/requests")}

    def state(prefix: str) -> dict[str, str]:
        files = f"az://{container}/{prefix}".rstrip("/")
        return {**document(ledgers.new()), "files": files}

    theirs = submitted("other", namespace="other", state=state("other"))
    assert len(theirs) == 1
    place.emulator.settle()
    submitted("first", state=state("first"))
    second = place.warehouse("second", state=state(prefix))
    second.enrich(NOTES, rows_per_request=rows_per_request)
    assert second.statuses() == {"done": ROWS}
    assert any("that the state directory does not know" in line for line in second.log)
    assert len(place.emulator.jobs.batches()) == 2
    assert theirs == {one.key for one in place.bucket.list("other/requests")}


def test_batches_whose_answers_were_taken_in_are_no_news_to_a_new_ledger(
    place: Place, ledgers: LedgerServer
) -> None:
    """Nothing of them is left, so that none is adopted; what they answered is in the old state."""
    place.warehouse("first").enrich(NOTES)
    state = {**document(ledgers.new()), "files": place.state["files"].replace("ours", "theirs")}
    second = place.warehouse("second", state=state)
    second.enrich("select 9 as id, 'another note' as note")
    assert second.statuses() == {"done": 1}
    assert not any("does not know" in line for line in second.log)


@pytest.mark.parametrize(
    "moment",
    [
        "uploading:after", "uploaded:before", "submitted:before", "ended:after", "stored:after",
    ],
)  # fmt: skip
def test_what_a_killed_runner_left_is_paid_once(
    moment: str, place: Place, environment: dict[str, str]
) -> None:
    """Its machine is gone; another one finds its batch by its blob, or asks what was not sent."""
    settings = {"batch_input": "blob"}
    url, key = place.emulator.url, place.emulator.api_key
    work = Work(
        url, key, place.machines / "killed", place.state, _LEASE, moment, NOTES,
        by=signal.SIGKILL, environment=environment, settings=settings,
    )  # fmt: skip
    killed = Runner(work)
    killed.begin()
    killed.wait_until_killed()
    shutil.rmtree(place.machines / "killed")
    other = place.warehouse("other")
    other.enrich(NOTES)
    assert other.statuses() == {"done": ROWS}, other.log
    place.assert_paid_once()
    other.enrich(NOTES)
    assert place.keys() == []


def test_two_runners_at_once_send_each_row_once(place: Place, environment: dict[str, str]) -> None:
    """Half of their rows is both's: whoever claims it sends it."""
    rows = 40
    selects = [
        f"select i as id, 'note ' || i as note from range({first}, {first + rows}) as numbers(i)"
        for first in (0, rows // 2)
    ]
    both = [
        Runner(
            Work(
                place.emulator.url, place.emulator.api_key, place.machines / f"{number}",
                place.state, 60.0, "", select, environment=environment,
                settings={"batch_input": "blob", "max_requests_per_file": 15},
            )
        )
        for number, select in enumerate(selects)
    ]  # fmt: skip
    try:
        for one in both:
            one.begin()
        for one in both:
            assert one.statuses() == {"done": rows}
    finally:
        for one in both:
            one.kill()
    place.assert_paid_once(rows + rows // 2)


def test_a_creation_without_a_reply_is_found_by_the_blob(place: Place) -> None:
    """Also where an earlier batch on it found no room, whose answers it names and never wrote."""
    place.emulator.deployments(
        {"name": "gpt-4o-mini", "max_enqueued_tokens": 100_000, "quota_fails": "later"}
    )
    place.emulator.endings({"failed": "token_limit_exceeded", "call": 1})
    place.emulator.faults({"name": "lost_reply", "operation": "POST /batches", "call": 2})
    warehouse = place.warehouse(adoption_grace=5.0)
    warehouse.enrich(NOTES)
    assert warehouse.statuses() == {"done": ROWS}
    assert len({batch["input_blob"] for batch in place.emulator.jobs.batches()}) == 1
    assert len(place.emulator.jobs.batches()) == 2
    place.assert_paid_once()


def test_of_two_batches_on_one_blob_the_younger_is_cancelled(place: Place) -> None:
    """And the blob stays until both are over, as a batch fails whose blob changes."""
    place.emulator.pause()
    warehouse = place.warehouse()
    warehouse.enrich(NOTES, mode=Mode.SUBMIT)
    with open_ledger(warehouse.config) as ledger:
        (shard,) = ledger.shards.all()
    with closing(create_service(warehouse.config)) as service:
        twin = service.create(shard.input_file_id or "", {}, "/chat/completions").id
    warehouse.restart()
    warehouse.enrich(NOTES, mode=Mode.SUBMIT)
    place.emulator.resume()
    warehouse.enrich(NOTES)
    assert warehouse.statuses() == {"done": ROWS}
    assert place.emulator.jobs.batch(twin)["status"] == "cancelled"
    assert any(f"batch {twin} is cancelled" in line for line in warehouse.log)
    place.assert_paid_once()
    warehouse.enrich(NOTES)
    assert place.keys() == []


def test_answers_that_come_late_are_waited_for(place: Place) -> None:
    """A batch names its blobs before they are there; within the grace that is no loss."""
    place.emulator.endings(withholds=True)
    warehouse = place.warehouse(adoption_grace=60.0)

    def deliver() -> None:
        wait_until(place.emulator.jobs.batches)
        place.emulator.settle()
        time.sleep(0.3)
        place.emulator.deliver()

    later = threading.Thread(target=deliver)
    later.start()
    warehouse.enrich(NOTES)
    later.join()
    assert warehouse.statuses() == {"done": ROWS}
    place.assert_paid_once()


def test_answers_that_never_come_have_a_name(place: Place) -> None:
    """Their rows are not asked again at once, as they may have been paid for."""
    place.emulator.endings(withholds=True)
    warehouse = place.warehouse()
    warehouse.enrich(NOTES)
    assert warehouse.statuses() == {"failed": ROWS}
    assert warehouse.rows("select distinct kind from enriched__errors") == [("file_lost",)]
    place.assert_paid_once()


@pytest.mark.parametrize("ending", ["expired", "cancelled"])
def test_a_batch_that_ended_early_is_read_from_both_blobs(place: Place, ending: str) -> None:
    """What was answered is kept, and what was not is named by the end and asked again."""
    place.emulator.endings({"status": ending, "after": 2, "call": 1})
    warehouse = place.warehouse()
    warehouse.enrich(NOTES)
    warehouse.enrich(NOTES)
    assert warehouse.statuses() == {"done": ROWS}
    kinds = {kind for (kind,) in warehouse.rows("select kind from enriched__errors")}
    assert kinds <= {ending}
    place.assert_paid_once()


def test_a_service_that_may_not_read_the_container_is_named(place: Place) -> None:
    """With the role that it lacks; nothing is paid, doctor says so, and then all goes on."""
    warehouse = place.warehouse()
    (unknown,) = container_findings(warehouse)
    assert unknown[0] == "warning"
    place.emulator.blobs(read=False)
    with pytest.raises(BatchFailedError, match="input_no_permissions") as refused:
        warehouse.enrich(NOTES)
    assert "Storage Blob Data Contributor" in refused.value.fix
    (lacks,) = container_findings(warehouse)
    assert lacks[0] == "wrong"
    assert "Storage Blob Data Contributor" in lacks[1]
    place.emulator.blobs()
    warehouse.restart()
    warehouse.enrich(NOTES)
    assert warehouse.statuses() == {"done": ROWS}
    place.assert_paid_once()
    assert place.keys() == []
    (has,) = container_findings(warehouse)
    assert has[0] == "ok"


def container_findings(warehouse: Warehouse) -> list[tuple[str, str]]:
    """Return verdict and fix of what doctor says of the service and the container."""
    found = service_findings(warehouse.config, ())
    return [(one.verdict, one.fix) for one in found if one.subject == "service and container"]


def changed_by_others(place: Place) -> Warehouse:
    """Submit a batch, and have another program write over its requests."""
    warehouse = place.warehouse()
    warehouse.enrich(NOTES, mode=Mode.SUBMIT)
    root = place.state["files"].partition("//")[2].partition("/")[2]
    (found,) = place.bucket.list(f"{root}/requests")
    place.bucket.replace(found.key, b"{}")
    return warehouse


def test_requests_that_another_program_changes_are_named(place: Place) -> None:
    """While they are validated nothing is paid, and it is said what to keep from the folder."""
    place.emulator.transitions(validating={"kind": "polls", "amount": 3})
    warehouse = changed_by_others(place)
    with pytest.raises(BatchFailedError, match="input_modified") as refused:
        warehouse.enrich(NOTES)
    assert "keep other programs" in refused.value.fix
    assert place.emulator.account()["paid"] == {}


def test_what_a_batch_had_answered_before_its_requests_were_changed_is_no_free_try(
    place: Place,
) -> None:
    """It counts as lost, as it may have been paid for."""
    place.emulator.pause()
    warehouse = changed_by_others(place)
    place.emulator.resume()
    warehouse.enrich(NOTES)
    assert warehouse.rows("select distinct kind from enriched__errors") == [("file_lost",)]
    place.assert_paid_once()


def test_requests_that_are_gone_before_their_batch_is_created_are_put_there_again(
    place: Place,
) -> None:
    """Once it is sure that they are gone, and under another name."""
    place.emulator.faults(
        {"name": "status", "operation": "POST /batches", "status": 429, "times": None}
    )
    warehouse = place.warehouse(clock=HastyClock())

    def lose() -> None:
        wait_until(lambda: place.keys("requests"))
        wait_until(lambda: any("trying again" in line for line in warehouse.log))
        place.bucket.delete(place.keys("requests"))
        place.emulator.faults()

    loser = threading.Thread(target=lose)
    loser.start()
    warehouse.enrich(NOTES)
    loser.join()
    assert warehouse.statuses() == {"done": ROWS}
    assert any("uploading it again" in line for line in warehouse.log)
    place.assert_paid_once()


def test_a_container_that_is_away_for_a_moment_is_waited_for(
    place: Place, azure: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where a call did what it was asked, and its reply was lost."""
    with proxy_to(azure) as network:
        monkeypatch.setenv(
            "AZURE_STORAGE_ENDPOINT", azure_environment(network.address)["AZURE_STORAGE_ENDPOINT"]
        )
        with running_emulator(place.machines / "behind", blobs=Blobs()) as emulator:
            network.fail("PUT", "/requests/", lost_reply)
            network.fail("HEAD", "/responses/", unavailable)
            network.fail("GET", "results.jsonl", unavailable)
            network.fail("DELETE", "/requests/", lost_reply)
            behind = Place(emulator, place.state, place.machines)
            warehouse = behind.warehouse()
            warehouse.enrich(NOTES)
            assert warehouse.statuses() == {"done": ROWS}
            behind.assert_paid_once()
            assert behind.keys() == []
            assert len({path for method, path in network.requests if "/requests/" in path}) == 1


@pytest.mark.parametrize("inputs", [("blob", "upload"), ("upload", "blob")])
def test_what_was_sent_one_way_is_collected_the_other_way(
    place: Place, inputs: tuple[str, str]
) -> None:
    """The key says how requests are sent; where a batch has its files, its own names say."""
    place.warehouse("first", batch_input=inputs[0]).enrich(NOTES, mode=Mode.SUBMIT)
    warehouse = place.warehouse("second", batch_input=inputs[1])
    warehouse.enrich(NOTES)
    assert warehouse.statuses() == {"done": ROWS}
    place.assert_paid_once()
    assert place.keys() == []


def test_a_state_is_not_moved_away_from_the_blobs_of_its_batches(place: Place) -> None:
    """They are collected first."""
    warehouse = place.warehouse()
    warehouse.enrich(NOTES, mode=Mode.SUBMIT)
    config = warehouse.config
    assert config.state is not None
    with pytest.raises(LedgerError, match="1 batch has their requests"):
        unshare(config, config.state)
    warehouse.enrich(NOTES)
    unshare(config, config.state)


def test_requests_of_the_synchronous_endpoint_stay_out_of_the_container(place: Place) -> None:
    """The relay has files of its own, and batches of the same task read blobs."""
    place.emulator.deployments({"name": "gpt-4o-mini", "sku": "Standard"})
    warehouse = place.warehouse()
    warehouse.enrich(NOTES, via="synchronous")
    assert warehouse.statuses() == {"done": ROWS}
    assert place.keys() == []
    assert place.emulator.jobs.batches() == []


def test_commands_collect_without_a_warehouse(place: Place) -> None:
    """What a run submitted, the answers of which are in the store then."""
    warehouse = place.warehouse()
    warehouse.enrich(NOTES, mode=Mode.SUBMIT)
    place.emulator.settle()
    with attached(warehouse.config, "tests", Console(warehouse.log.append)) as attachment:
        run = attachment.batch_run(
            poll_interval=0.05, await_timeout=20.0, cancelled=threading.Event()
        )
        attachment.keep(run.wait(attachment.open_shards([])))
    warehouse.enrich(NOTES)
    assert warehouse.statuses() == {"done": ROWS}
    place.assert_paid_once()
    assert place.keys() == []

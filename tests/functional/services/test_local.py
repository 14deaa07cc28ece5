"""The provider `local`: an emulator in a process of its own, joined, shared and left."""

from __future__ import annotations

import json
import os
import signal
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
from batch_server.process import ADDRESS_FILE, has_users
from dbt_enrich.config.file_limits import ServiceLimits
from dbt_enrich.config.local import LocalConfig
from dbt_enrich.errors import ConfigurationError
from dbt_enrich.services import create_service
from dbt_enrich.services.base import BatchService, BatchStatus
from functional.services.test_contract import ended, lines, shard, submitted


@pytest.fixture
def told(tmp_path: Path) -> LocalConfig:
    """Settings of the provider `local`, answered by the scripted responder."""
    return LocalConfig(state_dir=tmp_path, responder="scripted", max_retries=1)


@pytest.fixture
def service(told: LocalConfig) -> Iterator[BatchService]:
    """A local service."""
    with ExitStack() as stack:
        service = create_service(told)
        stack.callback(service.close)
        yield service


def process_id(told: LocalConfig) -> int:
    """The emulator's process."""
    return int(json.loads((told.emulator_directory / ADDRESS_FILE).read_text())["pid"])


def test_a_batch_goes_all_the_way(service: BatchService, tmp_path: Path) -> None:
    """The same path as at Azure, over real HTTP, without a key in the profile."""
    assert service.service_id == "local"
    assert service.limits == ServiceLimits(100_000, 196_000_000)
    service.check("any-model")
    batch = ended(service, submitted(service, shard(tmp_path / "s.jsonl", service), a="b").id)
    assert batch.status is BatchStatus.COMPLETED
    assert len(lines(service, batch.output_file_id, tmp_path / "out.jsonl")) == 3
    assert [found.id for found in service.batches()] == [batch.id]
    assert [file.id for file in service.files()] == [batch.input_file_id]
    assert service.ask(
        "/chat/completions", {"model": "m", "messages": [{"role": "user", "content": "x"}]}
    )["choices"]
    assert service.cancel(batch.id).status is BatchStatus.COMPLETED
    service.delete_file(batch.input_file_id or "")
    assert list(service.files()) == []


def test_all_users_of_a_directory_share_one_emulator(
    service: BatchService, told: LocalConfig, tmp_path: Path
) -> None:
    """What one submits, the other sees; the emulator stays until both have left."""
    other = create_service(told)
    created = submitted(service, shard(tmp_path / "s.jsonl", service))
    service.close()
    service.close()
    assert ended(other, created.id).status is BatchStatus.COMPLETED
    assert has_users(told.emulator_directory)
    other.close()
    assert not has_users(told.emulator_directory)


def test_an_emulator_that_died_is_started_again(
    service: BatchService, told: LocalConfig, tmp_path: Path
) -> None:
    """Its files are on the disk: each call goes on, from several threads at once."""
    batch = ended(service, submitted(service, shard(tmp_path / "s.jsonl", service)).id)
    killed = process_id(told)
    os.kill(killed, signal.SIGKILL)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(service.batch, [batch.id] * 4))
    assert {one.status for one in found} == {BatchStatus.COMPLETED}
    assert process_id(told) != killed
    assert len(lines(service, batch.output_file_id, tmp_path / "out.jsonl")) == 3
    assert service.create(batch.input_file_id or "", {}, "/chat/completions").id != batch.id


def test_the_key_of_the_emulator_is_its_owners(service: BatchService, told: LocalConfig) -> None:
    """The file that tells it is readable by nobody else, and no repr shows it."""
    address = told.emulator_directory / ADDRESS_FILE
    assert stat.S_IMODE(address.stat().st_mode) == 0o600
    assert json.loads(address.read_text())["key"] not in f"{service!r} {vars(service)!r}"


def test_another_responder_on_the_same_directory_is_refused(
    service: BatchService, told: LocalConfig, tmp_path: Path
) -> None:
    """Answers of one must not be taken for the other's."""
    script = tmp_path / "rules.json"
    script.write_text("[]")
    with pytest.raises(ConfigurationError, match="another state_dir"):
        create_service(told.model_copy(update={"script": script}))
    service.check("m")

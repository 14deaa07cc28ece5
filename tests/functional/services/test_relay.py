"""The relay as a service: any endpoint's path, rate limits, and credentials in memory alone."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import trustme
from batch_server.process import ADDRESS_FILE
from dbt_enrich.config.remote import RemoteConfig
from dbt_enrich.services.base import BatchStatus
from dbt_enrich.services.relay import Relay
from dbt_enrich.services.relay_service import RelayService
from functional.services.entra_wire import TokenServer, lasting, token_text
from functional.services.test_contract import ended, lines, shard
from functional.services.test_entra import (  # noqa: F401 - fixtures
    authority,
    environment,
    principal_keys,
)
from functional.services.wire import KEY, Reply, Request, error_body, serving, settings

BODY = {"id": "r", "choices": [{"index": 0, "message": {"content": "é"}, "finish_reason": "stop"}]}
Open = Callable[[RemoteConfig], RelayService]


@pytest.fixture
def open_relay(tmp_path: Path) -> Iterator[Open]:
    """Open the relay before a service."""
    with ExitStack() as stack:

        def opened(config: RemoteConfig) -> RelayService:
            state = tmp_path / f"state-{config.dated_version}"
            relay = Relay(config.model_copy(update={"state_dir": state}))
            stack.callback(relay.close)
            return relay.open()

        yield opened


def asked(
    service: RelayService, path: Path, *, requests: int = 1, endpoint: str = "/chat/completions"
) -> list[dict[str, Any]]:
    """Have requests answered, and return the lines, in the order of the requests."""
    file = service.upload(shard(path, service, requests=requests), filename="s.jsonl")
    batch = ended(service, service.create(file.id, {}, endpoint).id)
    assert batch.status is BatchStatus.COMPLETED
    found = [
        line
        for name in (batch.output_file_id, batch.error_file_id)
        if name and service.file(name).bytes
        for line in lines(service, name, path.with_suffix(".out"))
    ]
    return sorted(found, key=lambda line: str(line["custom_id"]))


@pytest.mark.parametrize("style", ["v1", "openai", "classic"])
def test_each_endpoint_has_its_path(style: str, open_relay: Open, tmp_path: Path) -> None:
    """With the request's id and the key in the header that each service has for it."""
    endpoints = ["/chat/completions", "/embeddings", "/responses", "/new"]
    with serving(lambda _: Reply(200, BODY)) as server:
        service = open_relay(settings(server.url, style))
        for number, endpoint in enumerate(endpoints):
            found = asked(service, tmp_path / f"{number}.jsonl", endpoint=endpoint)
            assert [line["response"]["body"] for line in found] == [BODY]
        sent = list(server.requests)
    paths = list(endpoints)
    if style == "classic":
        model = json.loads(sent[0].body)["model"]
        paths[:2] = [f"/deployments/{model}{endpoint}" for endpoint in endpoints[:2]]
        assert {one.query["api-version"][0] for one in sent} == {"2025-04-01-preview"}
    assert [one.path for one in sent] == paths
    assert {one.root for one in sent} == {
        {"v1": "/openai/v1", "openai": "/v1", "classic": "/openai"}[style]
    }
    key, request_id = ("api-key", "x-ms-client-request-id")
    if style == "openai":
        key, request_id = ("authorization", "x-client-request-id")
    assert {one.headers[key].removeprefix("Bearer ") for one in sent} == {KEY}
    assert {one.headers[request_id] for one in sent} == {"key-0"}


def test_what_is_left_is_kept_to(open_relay: Open, tmp_path: Path) -> None:
    """Replies say that three requests are left, and when all are there again: nobody is refused."""
    times: list[float] = []
    lock = threading.Lock()

    def limited(_: Request) -> Reply:
        with lock:
            times.append(time.monotonic())
            count = sum(times[-1] - at < 1.0 for at in times)
        if count > 8:
            return Reply(429, error_body("rate_limit_exceeded", "slow down"))
        return Reply(
            200,
            BODY,
            {
                "x-ratelimit-limit-requests": "8",
                "x-ratelimit-remaining-requests": str(8 - count),
                "x-ratelimit-reset-requests": "1s",
            },
        )

    with serving(limited) as server:
        found = asked(open_relay(settings(server.url)), tmp_path / "s.jsonl", requests=24)
    assert [line["response"]["status_code"] for line in found] == [200] * 24
    assert len(times) <= 24 + 10
    assert times[-1] - times[0] >= 1.5


def processes_secrets(service: RelayService) -> str:
    """Whatever of the relay's process others can see, and all that it has written."""
    directory = service._config.relay_directory
    pid = json.loads((directory / ADDRESS_FILE).read_text())["pid"]
    seen = [Path(f"/proc/{pid}/{name}").read_bytes() for name in ("cmdline", "environ")]
    seen += [path.read_bytes() for path in directory.rglob("*") if path.is_file()]
    return b"\n".join(seen).decode("utf-8", "replace")


def test_the_key_is_in_memory_alone(open_relay: Open, tmp_path: Path) -> None:
    """On no command line, in no environment and in no file, though the service repeats it."""
    replies = iter(
        [
            Reply(400, error_body("odd", f"no room for {KEY}")),
            Reply(200, {"error": {"message": f"busy, Bearer {KEY}"}}),
            Reply(200, {**BODY, "error": {"message": KEY}}),
        ]
    )
    with serving(lambda _: next(replies)) as server:
        service = open_relay(settings(server.url))
        found = asked(service, tmp_path / "s.jsonl", requests=3)
        assert json.dumps(found).count("***") == 3
        assert KEY not in json.dumps(found)
        assert KEY not in processes_secrets(service)
        assert KEY not in f"{service!r} {service._membership!r}"


def test_tokens_are_handed_over_and_renewed(
    authority: trustme.CA,  # noqa: F811
    open_relay: Open,
    tmp_path: Path,
) -> None:
    """One that the service refuses is replaced without an error line; none is written down."""
    tokens = TokenServer(authority, lasting(3_600))

    def second(request: Request) -> Reply:
        is_good = request.headers["authorization"] == f"Bearer {token_text(2)}"
        return Reply(200, BODY) if is_good else Reply(401, error_body("401", "expired"))

    try:
        with serving(second) as server:
            config = settings(server.url, api_key=None, **principal_keys(tokens.host))
            service = open_relay(config)
            found = asked(service, tmp_path / "s.jsonl", requests=5)
            seen = processes_secrets(service)
    finally:
        tokens.close()
    assert [line["response"]["status_code"] for line in found] == [200] * 5
    assert len(tokens.asked) == 2
    for secret in (token_text(1), token_text(2), config.client_secret.get_secret_value()):  # type: ignore[attr-defined]
        assert secret not in seen

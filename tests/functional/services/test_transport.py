"""Where requests go: past proxies on this machine, and to no one but the configured host."""

from __future__ import annotations

import subprocess
import sys

import pytest
from functional.services.conftest import Connect
from functional.services.wire import KEY, Reply, batch_body, in_turn


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
def test_a_proxy_is_not_asked_for_this_machine(
    connect: Connect, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    """A company's proxy cannot reach an emulator here, and must not see its requests."""
    monkeypatch.setenv(variable, "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    service, server = connect(in_turn(Reply(200, batch_body())))
    assert service.batch("batch_1").id == "batch_1"
    assert len(server.requests) == 1


def test_credentials_of_the_environment_are_not_used(
    connect: Connect, style: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The profile says which key is sent, whatever else the environment holds."""
    for name in ("OPENAI_API_KEY", "OPENAI_ADMIN_KEY", "AZURE_OPENAI_API_KEY"):
        monkeypatch.setenv(name, "another-key")
    monkeypatch.setenv("AZURE_OPENAI_AD_TOKEN", "another-token")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AZURE_OPENAI_ENDPOINT", "http://127.0.0.1:9")
    service, server = connect(in_turn(Reply(200, batch_body() | {"data": []})), style)
    service.batch("batch_1")
    assert list(service.batches()) == []
    service.check("gpt")
    for request in server.requests:
        sent = " ".join(request.headers.values())
        assert "another" not in sent
        assert sent.count(KEY) == 1


def test_importing_the_package_loads_no_client() -> None:
    """Every plugin is imported when dbt starts; the `openai` package costs half a second."""
    code = (
        "import sys, dbt_enrich.services\n"
        "heavy = {'openai', 'httpx', 'httpx2', 'duckdb', 'uvicorn'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    code += "\nimport dbt_enrich.pipeline.engine\nassert 'openai' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

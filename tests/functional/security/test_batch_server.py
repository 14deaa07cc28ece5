"""The emulator is this machine's alone: its address, its key, its paths, its limits, browsers."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest
from batch_server.http_client import httpx, loopback_client
from batch_server.jobs import Jobs
from batch_server.responders.scripted import ScriptedResponder
from batch_server.routes import create_app
from batch_server.server import RunningEmulator, running_emulator
from batch_server.storage import Storage
from batch_server.worker import Worker
from starlette.routing import Route
from support.leftovers import files_below

ROUTES = "batch_server.routes"
FILES = "/openai/files?api-version=2024-10-21"
# What a path that leaves the directory would have to look like, for some decoder on the way.
ESCAPES = [
    *("../address.json", "..%2faddress.json", "%2e%2e%2faddress.json", "..%252faddress.json"),
    *("..%5caddress.json", "....//address.json", "%2fetc%2fpasswd", "..;/address.json"),
    *("file-1%00.jsonl", "%c0%ae%c0%ae%2faddress.json", ".", "..", "%2e%2e"),
]


@pytest.fixture
def emulator(tmp_path: Path) -> Iterator[RunningEmulator]:
    """An emulator beside whose files lies one that nobody may read."""
    with running_emulator(tmp_path / "emulator") as running:
        (tmp_path / "emulator" / "address.json").write_text("planted")
        yield running


def credentials(emulator: RunningEmulator) -> dict[str, str]:
    """The key in Azure's header and in OpenAI's."""
    return {"api-key": emulator.api_key, "authorization": f"Bearer {emulator.api_key}"}


def client(emulator: RunningEmulator, **headers: str) -> httpx.Client:
    """A client with the key, and any further headers."""
    headers = {**credentials(emulator), **headers}
    return loopback_client(base_url=emulator.url, headers=headers, timeout=30)


def raw(emulator: RunningEmulator, request: bytes) -> bytes:
    """Send bytes as they are, which no client of HTTP would, and return the reply."""
    address = urlsplit(emulator.url)
    with socket.create_connection(("127.0.0.1", address.port or 0), timeout=30) as connection:
        connection.sendall(request)
        return b"".join(iter(lambda: connection.recv(65536), b""))


def status_of(reply: bytes) -> int:
    """Return a raw reply's status."""
    return int(reply.split(b" ", 2)[1])


def test_it_listens_on_loopback_alone(emulator: RunningEmulator) -> None:
    """Another address of the same machine finds nobody."""
    port = urlsplit(emulator.url).port or 0
    listening = [
        found.laddr.ip
        for found in psutil.Process().net_connections("inet")
        if found.status == psutil.CONN_LISTEN and found.laddr.port == port
    ]
    assert listening == ["127.0.0.1"]
    others = {str(info[4][0]) for info in socket.getaddrinfo(socket.gethostname(), port)}
    for other in others - {"::1"}:
        with socket.socket(socket.AF_INET6 if ":" in other else socket.AF_INET) as connection:
            connection.settimeout(2)
            assert other.startswith("127.") or connection.connect_ex((other, port)) != 0


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org", ""])  # noqa: S104
def test_serve_refuses_another_address(host: str, tmp_path: Path) -> None:
    """It is refused before anything is bound."""
    done = subprocess.run(
        [
            *(sys.executable, "-c", "from dbt_enrich.cli import main; main()", "serve"),
            *(f"--host={host}", "--port=0", "--responder=scripted", f"--directory={tmp_path}"),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert "not a loopback address" in done.stderr


def test_every_path_demands_the_key(emulator: RunningEmulator, tmp_path: Path) -> None:
    """The control plane included; a wrong key, half of one and none at all are the same."""
    storage = Storage(tmp_path / "other")
    jobs = Jobs(storage, ScriptedResponder())
    worker = Worker(jobs)
    routes = [route for route in create_app(jobs, worker, "k").routes if isinstance(route, Route)]
    worker.close()
    jobs.close()
    assert any("_control" in route.path for route in routes)
    key = emulator.api_key.encode()
    wrong: list[dict[bytes, bytes]] = [{}, {b"api-key": b""}, {b"api-key": key[:-1]}]
    wrong += [{b"api-key": b"\xc3\xa4"}, {b"authorization": b"Bearer x"}]
    wrong += [{b"authorization": b"Basic " + key}]
    with loopback_client(base_url=emulator.url) as http:
        for route in routes:
            path = route.path.replace("{action}", "reset")
            for method in (route.methods or set()) - {"HEAD"}:
                for headers in wrong:
                    reply = http.request(method, path, headers=headers, json={})
                    assert reply.status_code == 401, (method, path, headers)


@pytest.mark.parametrize("escape", ESCAPES)
@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_no_path_leaves_its_directory(escape: str, method: str, emulator: RunningEmulator) -> None:
    """An id names a record, and what is no record is not there."""
    before = files_below(emulator.jobs.storage.directory)
    for path in (f"/v1/files/{escape}", f"/v1/files/{escape}/content", f"/v1/batches/{escape}"):
        head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
        keys = "".join(f"{name}: {value}\r\n" for name, value in credentials(emulator).items())
        reply = raw(emulator, f"{head}{keys}\r\n".encode())
        # `.` and `..` may be taken for the list above them, which DELETE does not know.
        assert status_of(reply) in (400, 404, 405), reply
        assert b"planted" not in reply
        assert b"root:" not in reply
    assert set(before) <= set(files_below(emulator.jobs.storage.directory))


@pytest.mark.parametrize("name", ["../../escaped.jsonl", "/tmp/escaped.jsonl", "a\\..\\b", "é\n.j"])
def test_a_file_name_is_a_text_and_no_path(
    name: str, emulator: RunningEmulator, tmp_path: Path
) -> None:
    """It is given back as it came, and names nothing on the disk."""
    outside = set(files_below(tmp_path)) - set(files_below(tmp_path / "emulator"))
    with client(emulator) as http:
        reply = http.post(FILES, files={"file": (name, b"{}\n")}, data={"purpose": "batch"})
    assert reply.status_code == 201
    assert set(files_below(tmp_path)) - set(files_below(tmp_path / "emulator")) == outside
    assert not [path for path in files_below(tmp_path) if "escaped" in path.name]
    # The client writes a line break so.
    assert reply.json()["filename"] == name.replace("\n", "%0A")


def test_an_upload_is_limited_as_it_comes(
    emulator: RunningEmulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where no length is announced."""
    monkeypatch.setattr(f"{ROUTES}._MAX_UPLOAD", 50_000)
    form = {"files": {"file": ("a.jsonl", b"x" * 60_000)}, "data": {"purpose": "batch"}}
    with client(emulator) as http:
        declared = http.build_request("POST", FILES, **form)  # type: ignore[arg-type]
        content = declared.read()
        assert http.send(declared).status_code == 413
        kind = {"content-type": declared.headers["content-type"]}
        chunked = http.post(FILES, content=iter([content]), headers=kind)
        assert chunked.status_code == 413
        assert http.get(FILES).json()["data"] == []


@pytest.mark.parametrize("announced", [True, False])
@pytest.mark.parametrize("path", ["/v1/batches", "/v1/chat/completions"])
def test_a_json_body_is_limited(
    path: str, announced: bool, emulator: RunningEmulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where no length is announced."""
    monkeypatch.setattr(f"{ROUTES}._MAX_JSON", 50_000)
    content = json.dumps({"model": "m", "messages": [{"role": "user", "content": "x" * 60_000}]})
    with client(emulator) as http:
        body = content.encode()
        reply = http.post(path, content=body if announced else iter([body]))
    assert reply.status_code == 413


@pytest.mark.parametrize("method", ["OPTIONS", "GET", "POST"])
@pytest.mark.parametrize("path", ["/v1/files", "/_control/account", "/v1/chat/completions"])
def test_no_other_origin_is_let_in(method: str, path: str, emulator: RunningEmulator) -> None:
    """No reply has a CORS header, so a browser neither sends the key nor shows the reply."""
    asked = {"origin": "https://evil.example", "access-control-request-method": "POST"}
    asked["access-control-request-headers"] = "api-key"
    with client(emulator, **asked) as http:
        reply = http.request(method, path)
    assert not [name for name in reply.headers if name.startswith("access-control")]
    if method == "OPTIONS":
        assert reply.status_code == 405


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "localhost.evil.example", ""])
@pytest.mark.parametrize("path", ["/v1/files", "/_control/account"])
def test_a_rebound_name_is_refused(host: str, path: str, emulator: RunningEmulator) -> None:
    """A call that came to this machine by another name is a web page's, key or no key."""
    with client(emulator, host=host) as http:
        assert http.get(path).status_code == 421


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1", "127.0.0.2:9", "[::1]"])
def test_this_machines_names_are_known(host: str, emulator: RunningEmulator) -> None:
    """By name and by address, with and without a port."""
    with client(emulator, host=host) as http:
        assert http.get("/v1/files").status_code == 200

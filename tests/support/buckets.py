"""Buckets that really are: a directory, Azurite from npm, moto's server of S3, and bad networks."""

from __future__ import annotations

import hmac
import json
import os
import re
import socket
import subprocess
import threading
import time
from base64 import b64decode, b64encode
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from email.utils import formatdate
from functools import partial
from http.client import HTTPConnection, HTTPResponse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from shutil import which

import pytest

AZURITE = (
    Path(__file__).resolve().parents[2] / ".azurite/node_modules/azurite/dist/src/blob/main.js"
)
_SECONDS = 60.0
# What a client of S3 signs with.
_SIGNED = "AWS4-HMAC-SHA256 Credential=x/20260101/eu-central-1/s3/aws4_request"
# The account of every Azurite (learn.microsoft.com/azure/storage/common/storage-use-azurite).
_ACCOUNT = "devstoreaccount1"
_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="

needs_azurite = pytest.mark.skipif(
    not AZURITE.exists() and not os.environ.get("DBT_ENRICH_AZURITE_TESTS"),
    reason="Azurite is not there: make azurite",
)


@contextmanager
def azurite() -> Iterator[str]:
    """Run Azurite; yield its address."""
    port = _free_port()
    command = [which("node") or "node", str(AZURITE), "--blobPort", str(port), "--silent"]
    command += ["--skipApiVersionCheck", "--inMemoryPersistence"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            _await_port(port, server)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.kill()


def azure_environment(address: str) -> dict[str, str]:
    """Return what the environment says of an Azurite."""
    return {
        "AZURE_STORAGE_ACCOUNT_NAME": _ACCOUNT,
        "AZURE_STORAGE_ACCOUNT_KEY": _KEY,
        "AZURE_STORAGE_ENDPOINT": f"{address}/{_ACCOUNT}",
    }


@contextmanager
def s3_server() -> Iterator[str]:
    """Run moto's server of S3 in this process; yield its address."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        yield f"http://{host}:{port}"
    finally:
        server.stop()


def s3_environment(address: str) -> dict[str, str]:
    """Return what the environment says of a server of S3."""
    return {
        "AWS_ENDPOINT_URL_S3": address,
        "AWS_ACCESS_KEY_ID": "somebody",
        "AWS_SECRET_ACCESS_KEY": "the-secret-of-somebody",
        "AWS_REGION": "eu-central-1",
    }


def make_s3_bucket(address: str, name: str) -> None:
    """Make a bucket."""
    host, _, port = address.removeprefix("http://").partition(":")
    connection = HTTPConnection(host, int(port), timeout=_SECONDS)
    place = (
        '<CreateBucketConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        "<LocationConstraint>eu-central-1</LocationConstraint></CreateBucketConfiguration>"
    )
    connection.request("PUT", f"/{name}", place, {"Authorization": _SIGNED})
    assert connection.getresponse().status == 200
    connection.close()


@dataclass(frozen=True)
class Reply:
    """A reply of a server.

    Attributes:
        status: Its status.
        headers: Its headers, but for those of its connection and length.
        body: What comes of its body.
        length: How long its body is said to be.
    """

    status: int
    headers: list[tuple[str, str]]
    body: bytes
    length: int


Fault = Callable[[Callable[[], Reply]], Reply]
"""What a network does to a request, given what sends it on."""


@dataclass
class Proxy:
    """A network between a bucket and its users, which does to a request what a test says.

    Attributes:
        address: Its own.
        upstream: The bucket's.
        faults: Called with the method, the path and what sends the request; the first that returns
            a reply has the last word.
        sent: Bytes of the bodies of its replies, by path.
        translated: Makes of a request's headers what the bucket is sent.
    """

    address: str
    upstream: str
    faults: list[Callable[[str, str, Callable[[], Reply]], Reply | None]] = field(
        default_factory=list
    )
    sent: Counter[str] = field(default_factory=Counter)
    requests: list[tuple[str, str]] = field(default_factory=list)
    translated: Callable[[dict[str, str]], dict[str, str]] = dict

    def fail(
        self,
        method: str,
        path: str,
        reply: Fault,
        *,
        times: int = 1,
    ) -> None:
        """Have the first requests of a method, whose path a pattern is found in, replied so."""
        left = iter(range(times))

        def fault(asked: str, where: str, forward: Callable[[], Reply]) -> Reply | None:
            if asked != method or not re.search(path, where) or next(left, None) is None:
                return None
            return reply(forward)

        self.faults.append(fault)


def unavailable(_: Callable[[], Reply]) -> Reply:
    """Reply 503 without a word to the bucket."""
    said = b"Slow down, please."
    return Reply(503, [("Content-Type", "text/plain")], said, len(said))


def lost_reply(forward: Callable[[], Reply]) -> Reply:
    """Do what is asked, and reply 503 all the same."""
    forward()
    return unavailable(forward)


def twice(forward: Callable[[], Reply]) -> Reply:
    """Do what is asked twice, and reply as the second time."""
    forward()
    return forward()


def late(forward: Callable[[], Reply]) -> Reply:
    """Reply after a while."""
    time.sleep(0.3)
    return forward()


def torn(forward: Callable[[], Reply]) -> Reply:
    """Reply half of what there is, as if it were all."""
    reply = forward()
    half = reply.body[: len(reply.body) // 2]
    return replace(reply, body=half, length=len(half))


def cut_off(forward: Callable[[], Reply]) -> Reply:
    """Promise all, and end halfway."""
    reply = forward()
    return replace(reply, body=reply.body[: len(reply.body) // 2])


@contextmanager
def gcs_over(s3: str) -> Iterator[str]:
    """Run what takes the requests of Google Cloud Storage's client before a server of S3.

    Nothing that plays Google's XML API can be had from a package registry. Reading, listing,
    writing in parts and deleting are S3's there; the condition of a write alone is another header
    (https://cloud.google.com/storage/docs/xml-api/overview). It is no proof of what Google does.
    """
    with proxy_to(s3) as proxy:
        proxy.translated = _as_for_s3
        yield proxy.address


def _as_for_s3(headers: dict[str, str]) -> dict[str, str]:
    named = {name.lower(): value for name, value in headers.items()}
    if named.pop("x-goog-if-generation-match", None) == "0":
        named["if-none-match"] = "*"
    return {**named, "authorization": _SIGNED}


def gcs_environment(address: str, directory: Path) -> dict[str, str]:
    """Return what the environment says of a server of Google Cloud Storage.

    Args:
        address: The server's.
        directory: Where the file of a service account is written.
    """
    account = {"gcs_base_url": address, "disable_oauth": True}
    account |= dict.fromkeys(("client_email", "private_key", "private_key_id"), "")
    path = directory / "service-account.json"
    path.write_text(json.dumps(account))
    return {"GOOGLE_SERVICE_ACCOUNT": str(path), "GOOGLE_BASE_URL": address}


@contextmanager
def proxy_to(upstream: str) -> Iterator[Proxy]:
    """Run a proxy before a bucket."""
    made = Proxy("", upstream)
    handler = type("Handler", (_Handler,), {"proxy": made})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    made.address = f"http://127.0.0.1:{server.server_port}"
    try:
        yield made
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    proxy: Proxy

    def handle_one_request(self) -> None:
        """Answer, whoever goes away meanwhile."""
        with suppress(ConnectionError):
            super().handle_one_request()

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.proxy.requests.append((self.command, self.path))
        forward = partial(self._forward, body)
        replies = (fault(self.command, self.path, forward) for fault in self.proxy.faults)
        reply = next(filter(None, replies), None) or forward()
        self._send(reply)
        self.proxy.sent[self.path] += len(reply.body)

    def _forward(self, body: bytes) -> Reply:
        host, _, port = self.proxy.upstream.removeprefix("http://").partition(":")
        connection = HTTPConnection(host, int(port), timeout=_SECONDS)
        headers = {n: v for n, v in self.headers.items() if n.lower() != "connection"}
        connection.request(self.command, self.path, body, self.proxy.translated(headers))
        reply = _reply(connection.getresponse())
        connection.close()
        return reply

    def _send(self, reply: Reply) -> None:
        self.send_response(reply.status)
        for name, value in reply.headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(reply.length))
        self.end_headers()
        if self.command == "HEAD":
            return
        self.wfile.write(reply.body)
        if len(reply.body) < reply.length:
            self.close_connection = True

    do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = _answer  # noqa: N815

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def _reply(response: HTTPResponse) -> Reply:
    body = response.read()
    headers = [
        (name, value)
        for name, value in response.getheaders()
        if name.lower() not in ("content-length", "transfer-encoding", "connection")
        and name.lower() not in ("date", "server")
    ]
    # Of HEAD the length alone tells how large an object is.
    length = int(response.getheader("Content-Length") or len(body))
    return Reply(response.status, headers, body, length)


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def _await_port(port: int, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _SECONDS
    while time.monotonic() < deadline:
        assert server.poll() is None, "the server has ended"
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1.0):
            return
        time.sleep(0.05)
    raise AssertionError("the server does not answer")


def make_azure_container(address: str, name: str) -> None:
    """Make a container."""
    path = f"/{_ACCOUNT}/{name}"
    headers = {"x-ms-date": formatdate(usegmt=True), "x-ms-version": "2021-12-02"}
    # learn.microsoft.com/rest/api/storageservices/authorize-with-shared-key
    named = "".join(f"{key}:{value}\n" for key, value in headers.items())
    text = "PUT\n" + "\n" * 11 + f"{named}/{_ACCOUNT}{path}\nrestype:container"
    mac = hmac.new(b64decode(_KEY), text.encode(), "sha256").digest()
    headers["Authorization"] = f"SharedKey {_ACCOUNT}:{b64encode(mac).decode()}"
    host, _, port = address.removeprefix("http://").partition(":")
    connection = HTTPConnection(host, int(port), timeout=_SECONDS)
    connection.request("PUT", f"{path}?restype=container", headers=headers)
    response = connection.getresponse()
    assert response.status == 201, response.read()
    connection.close()

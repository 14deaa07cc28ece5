"""Certificates are checked: the key is sent to nobody who cannot prove to be the host."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import trustme
from dbt_enrich.config import PluginConfig
from dbt_enrich.errors import ServiceError
from dbt_enrich.services.openai import OpenAIBatchService
from functional.services.wire import KEY, STYLES, batch_body, settings


class TlsServer(ThreadingHTTPServer):
    """A server that proves who it is by a certificate, and notes the headers that reach it.

    Args:
        certificate: What it shows.
    """

    daemon_threads = True

    def __init__(self, certificate: trustme.LeafCert) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificate.configure_cert(context)
        self.socket = context.wrap_socket(self.socket, server_side=True)
        self.seen: list[str] = []

    @property
    def url(self) -> str:
        """Its address."""
        return f"https://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base's name
        """Say nothing."""

    def do_GET(self) -> None:
        """Answer with a batch."""
        assert isinstance(self.server, TlsServer)
        self.server.seen.append(str(self.headers))
        body = json.dumps(batch_body()).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _served(certificate: trustme.LeafCert) -> Iterator[TlsServer]:
    server = TlsServer(certificate)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """An authority that nobody trusts unless told."""
    return trustme.CA()


@pytest.fixture
def server(authority: trustme.CA) -> Iterator[TlsServer]:
    """A server whose certificate the authority made for its address."""
    yield from _served(authority.issue_cert("127.0.0.1"))


@pytest.fixture
def impostor(authority: trustme.CA) -> Iterator[TlsServer]:
    """A server whose certificate the authority made for another host."""
    yield from _served(authority.issue_cert("res.openai.azure.com"))


@pytest.fixture
def trusted(authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trust the authority by SSL_CERT_FILE."""
    file = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(str(file))
    monkeypatch.setenv("SSL_CERT_FILE", str(file))


def _batch_id(url: str, style: str) -> str:
    service = OpenAIBatchService(settings(url, style, max_retries=0))
    try:
        return service.batch("batch_1").id
    finally:
        service.close()


@pytest.mark.parametrize("style", STYLES)
def test_an_unknown_authority_is_named_and_gets_no_key(server: TlsServer, style: str) -> None:
    """The error says what to check; nothing was sent."""
    with pytest.raises(ServiceError, match="certificate is not trusted.*SSL_CERT_FILE") as caught:
        _batch_id(server.url, style)
    assert KEY not in repr(caught.value)
    assert server.seen == []


@pytest.mark.usefixtures("trusted")
@pytest.mark.parametrize("style", STYLES)
def test_an_authority_in_ssl_cert_file_is_trusted(server: TlsServer, style: str) -> None:
    """As it is behind a company's proxy that breaks TLS open."""
    assert _batch_id(server.url, style) == "batch_1"
    assert len(server.seen) == 1


@pytest.mark.usefixtures("trusted")
def test_a_certificate_of_another_host_is_refused(impostor: TlsServer) -> None:
    """Trust in the authority is not trust in whatever it signed."""
    with pytest.raises(ServiceError, match="certificate is not trusted"):
        _batch_id(impostor.url, "v1")
    assert impostor.seen == []


def test_no_key_of_the_configuration_turns_the_check_off() -> None:
    """There is nothing to set, so nothing can be set by mistake."""
    words = ("verify", "insecure", "ssl", "tls", "cert")
    assert not [key for key in PluginConfig.model_fields if any(word in key for word in words)]

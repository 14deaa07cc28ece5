"""Fixtures for the services' tests."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from dbt_enrich.clock import Clock
from dbt_enrich.services.openai import OpenAIBatchService
from functional.services.wire import STYLES, Respond, WireServer, serving, settings
from support.clock import HastyClock


@pytest.fixture(params=STYLES)
def style(request: pytest.FixtureRequest) -> str:
    """Each way of calling a service in turn: Azure's dated paths, Azure's v1 paths, OpenAI's."""
    return str(request.param)


Connect = Callable[..., tuple[OpenAIBatchService, WireServer]]


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Start a server with a function that answers, and give a service that calls it."""
    with ExitStack() as stack:

        def start(
            respond: Respond, style: str = "v1", clock: Clock | None = None, **changes: Any
        ) -> tuple[OpenAIBatchService, WireServer]:
            server = stack.enter_context(serving(respond))
            service = OpenAIBatchService(
                settings(server.url, style, **changes), clock=clock or HastyClock()
            )
            stack.callback(service.close)
            return service, server

        yield start


@pytest.fixture
def unused_address() -> Iterator[str]:
    """An address on which nobody listens: the port stays taken, so nobody else will."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"
